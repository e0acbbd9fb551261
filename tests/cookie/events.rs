//! The events of this wing.

use std::fs;

use http::{
    Request, Response,
    header::{HOST, LOCATION},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::cookie::{
    CookieControl, CookieFile, CookieJar, CookieLayer, CookieLimits, Format, HostDecides,
    SiteForCookies,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::listen::{Written, listen};

#[test]
fn each_line_that_is_skipped_is_an_event_when_a_file_is_opened_or_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = "// SECRET\nh.example\tFALSE\t/\tFALSE\t0\ta\t1\nh.example\tFALSE\t/\tFALSE\tsoon\tb\tSECRET\n";
    fs::write(&path, text).unwrap();
    let written = Written::default();
    listen(tracing_subscriber::registry().with(written.clone()), || {
        let file = CookieFile::open(&path, Format::Netscape).unwrap();
        // No news, so no event.
        file.save().unwrap();
        CookieJar::new().read_from(text.as_bytes(), Format::Netscape).unwrap();
    });
    let event = |line, reason| {
        format!(" message=line of a cookie file skipped line={line} reason=\"{reason}\"")
    };
    let once = [
        event(1, "expected seven fields between tabs"),
        event(3, "the expiry in the fifth field is no number of seconds"),
    ];
    assert_eq!(*written.events.lock().unwrap(), [&once[..], &once[..]].concat());
}

#[test]
fn a_restricted_request_that_is_redirected_to_another_origin_is_an_event_without_secrets() {
    let page = "https://page.example/".parse().unwrap();
    let restrict = [
        |_: &mut http::Extensions, _| (),
        |extensions: &mut http::Extensions, _| {
            extensions.insert(CookieControl { send: false, store: true });
        },
        |extensions: &mut http::Extensions, page: &http::Uri| {
            extensions.insert(SiteForCookies::new(page));
        },
    ];
    let locations = ["https://b.example/?code=SECRET", "/SECRET", "https://a.example/SECRET"];
    let written = Written::default();
    listen(tracing_subscriber::registry().with(written.clone()), || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for (restrict, location) in crate::pairs::pairs(restrict, locations) {
            let client =
                CookieLayer::default().layer(service_fn(move |_: Request<()>| async move {
                    Response::builder().status(302).header(LOCATION, location).body(())
                }));
            let mut request = Request::get("https://u:SECRET@a.example/SECRET").body(()).unwrap();
            restrict(request.extensions_mut(), &page);
            runtime.block_on(client.oneshot(request)).unwrap();
        }
    });
    let event = " message=a restricted request is redirected to another origin \
                 from=\"a.example\" to=\"https://b.example:443\"";
    assert_eq!(*written.events.lock().unwrap(), [event; 2]);
}

/// A virtual host at an address: redirect layers go by the address, and drop the restrictions
/// there.
#[test]
fn a_host_that_decides_hides_no_redirect_away_from_its_address() {
    let rows = [
        ("http://www.example.com/", Some("http://www.example.com:80")),
        ("http://127.0.0.1:8080/next", None),
        ("/next", None),
        ("https:SECRET", Some("an address that cannot be read")),
    ];
    crate::rows::hold(rows, |(location, to)| {
        let written = Written::default();
        listen(tracing_subscriber::registry().with(written.clone()), || {
            let client =
                CookieLayer::default().layer(service_fn(move |_: Request<()>| async move {
                    Response::builder().status(302).header(LOCATION, location).body(())
                }));
            let request = Request::get("http://127.0.0.1:8080/")
                .header(HOST, "www.example.com")
                .extension(HostDecides)
                .extension(CookieControl { send: true, store: false })
                .body(())
                .unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(client.oneshot(request)).unwrap();
        });
        let event = |to| {
            format!(
                " message=a restricted request is redirected to another origin \
                 from=\"127.0.0.1\" to=\"{to}\""
            )
        };
        (location, written.events.lock().unwrap().clone(), Vec::from_iter(to.map(event)))
    });
}

#[test]
fn a_header_that_leaves_cookies_out_over_a_limit_is_an_event_with_their_count() {
    // Cookies of eight bytes, with two more bytes between each two.
    let rows = [
        ("header_cookies", CookieLimits { header_cookies: 2, ..CookieLimits::default() }),
        ("header_bytes", CookieLimits { header_bytes: 18, ..CookieLimits::default() }),
    ];
    crate::rows::hold(rows, |(row, limits)| {
        let jar = CookieJar::builder().limits(limits).build();
        let uri = "https://example.com/".parse().unwrap();
        let written = Written::default();
        listen(tracing_subscriber::registry().with(written.clone()), || {
            for line in ["a=SECRET", "b=SECRET", "c=SECRET", "d=SECRET"] {
                jar.set(&uri, line).unwrap();
                jar.header(&uri).unwrap();
            }
        });
        let event = |count| {
            format!(
                " message=cookies left out of a header over its limit host=\"example.com\" \
                 left_out={count}"
            )
        };
        (row, written.events.lock().unwrap().clone(), vec![event(1), event(2)])
    });
}
