//! Lifetimes by the response's own `Date`, and what a response deletes.

use std::{
    convert::Infallible,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, Request, Response,
    header::{DATE, SET_COOKIE},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::cookie::{CookieControl, CookieJar, CookieLayer, ResponseCookies, StoreAction};

use crate::{
    jars::{set, uri},
    rows,
};

const H: &str = "https://example.com/";
const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 60 * 60;

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn jar() -> CookieJar {
    CookieJar::builder().clock(clock).build()
}

fn date(seconds: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds))
}

fn response(date: &str, lines: &[&str]) -> HeaderMap {
    let lines = lines.iter().map(|line| (SET_COOKIE, line.parse().unwrap()));
    let date = (!date.is_empty()).then(|| (DATE, date.parse().unwrap()));
    lines.chain(date).collect()
}

/// In seconds; `None` for a cookie that is not there.
fn lifetime(jar: &CookieJar) -> Option<u64> {
    let expires = jar.iter().next()?.expires().unwrap();
    Some(expires.duration_since(clock()).unwrap().as_secs())
}

#[test]
fn expires_counts_from_the_date_of_its_response_and_deletes_if_it_is_before() {
    let at = |seconds| format!("a=1; Expires={}", date(seconds));
    // The `Date`, the line, how long the cookie lives.
    let rows = [
        ("a clock at 1970", "Thu, 01 Jan 1970 00:07:00 GMT".into(), at(7 * 60 + 3600), Some(3600)),
        ("a clock that is ahead", date(NOW + 9 * DAY), at(NOW + 9 * DAY + 60), Some(60)),
        ("a clock that is behind", date(NOW - 9 * DAY), at(NOW - 9 * DAY + 60), Some(60)),
        ("one that agrees", date(NOW), at(NOW + 60), Some(60)),
        ("no Date", String::new(), at(NOW + 60), Some(60)),
        ("no Date, past", String::new(), at(NOW - 60), None),
        ("a Date that is none", "today".into(), at(NOW + 60), Some(60)),
        ("an old format", "Thursday, 01-Jan-70 00:07:00 GMT".into(), at(7 * 60 + 60), Some(60)),
        ("before the Date, past", date(NOW - DAY), at(NOW - 2 * DAY), None),
        ("before the Date, not past", date(NOW + 2 * DAY), at(NOW + DAY), None),
        ("at the Date", date(NOW + DAY), at(NOW + DAY), None),
        ("a logout at 1970", date(0), at(0), None),
        ("Max-Age beats it", date(NOW - DAY), at(NOW) + "; Max-Age=5", Some(5)),
        ("Max-Age deletes", date(NOW - DAY), at(NOW + DAY) + "; Max-Age=0", None),
        ("the cap", date(0), at(NOW), Some(400 * DAY)),
    ];
    rows::hold(rows, |(row, date, line, want)| {
        let (jar, seen) = (jar(), jar());
        // There is one to be deleted.
        set(&jar, H, "a=0").unwrap();
        let cookies = jar.store_response(&uri(H), &response(&date, &[&line]));
        let alive = usize::from(want.is_some());
        assert_eq!(
            (cookies.accepted().len(), cookies.deleted().len()),
            (alive, 1 - alive),
            "{row}"
        );
        let headers = response(&date, &[&line]);
        assert_eq!(seen.store_response(&uri(H), &headers).accepted().len(), alive, "{row}");
        (row, lifetime(&jar), want)
    });
}

/// A line that the jar has seen before takes a short cut, which must not use another response's
/// `Date`.
#[test]
fn the_same_line_means_another_moment_with_another_date() {
    let line = format!("a=1; Expires={}", date(NOW + DAY));
    let jar = jar();
    let mut lifetimes = Vec::new();
    for date in [String::new(), date(NOW + DAY - 60), date(NOW + DAY - 90), String::new()] {
        jar.store_response(&uri(H), &response(&date, &[&line]));
        lifetimes.push(lifetime(&jar).unwrap());
    }
    assert_eq!(lifetimes, [DAY, 60, 90, DAY]);
    assert_eq!(set(&jar, H, &line), Ok(StoreAction::Unchanged), "`set` has no Date");
    assert_eq!(lifetime(&jar), Some(DAY));
    jar.store_response(&uri(H), &response(&date(NOW + 2 * DAY), &[&line]));
    assert_eq!(lifetime(&jar), None, "it was past for the server");
}

#[tokio::test]
async fn the_layer_reads_the_date_and_lists_what_was_deleted_stored_or_not() {
    let lines = [
        "here=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT",
        "never=; Domain=example.com; Path=/x; Max-Age=0",
        "new=1; Expires=Thu, 01 Jan 1970 01:07:00 GMT",
        "bad=; Max-Age=0; Domain=com",
    ];
    for control in [CookieControl::default(), CookieControl { send: true, store: false }] {
        let jar = jar();
        set(&jar, H, "here=1").unwrap();
        let headers = response("Thu, 01 Jan 1970 00:07:00 GMT", &lines);
        let client = CookieLayer::new(jar.clone()).layer(service_fn(move |_: Request<()>| {
            let mut response = Response::new(());
            *response.headers_mut() = headers.clone();
            std::future::ready(Ok::<_, Infallible>(response))
        }));
        let request = Request::get("https://www.example.com/").extension(control).body(()).unwrap();
        let response = client.oneshot(request).await.unwrap();
        let cookies: &ResponseCookies = response.extensions().get().unwrap();
        let deleted: Vec<_> = cookies
            .deleted()
            .iter()
            .map(|cookie| (cookie.name(), cookie.domain(), cookie.path()))
            .collect();
        let want = [("here", "www.example.com", "/"), ("never", "example.com", "/x")];
        assert_eq!(deleted, want, "{control:?}");
        let expires = cookies.accepted()[0].expires().unwrap();
        assert_eq!(expires.duration_since(clock()).unwrap().as_secs(), 3600, "{control:?}");
        assert_eq!((cookies.accepted().len(), cookies.rejected().len()), (1, 1), "{control:?}");
    }
}
