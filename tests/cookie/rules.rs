//! What a jar sends back: rows from RFC 6265bis, and from faults of other clients.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, UNIX_EPOCH},
};

use http::Method;
use tower_outbound::cookie::{CookieContext, CookieJar, Rejection, StoreAction};

use crate::{
    jars::{header, set},
    pairs::pairs,
    rows,
};

const H: &str = "https://example.com/";

enum Step {
    /// A response from the URI has this `Set-Cookie`.
    Set(&'static str, &'static str),
    /// A request to the URI has this `Cookie`, or none if it is empty.
    Sent(&'static str, &'static str),
}
use Step::{Sent, Set};

/// Runs each row on a new jar and names every row that fails.
fn play(rows: &[(&str, &[Step])]) {
    rows::hold(rows, |(fact, steps)| {
        let jar = CookieJar::new();
        let mut wrong = Vec::new();
        for step in *steps {
            match step {
                Set(uri, line) => {
                    let _ = jar.set(&uri.parse().unwrap(), line);
                }
                Sent(uri, want) => {
                    let got = header(&jar, uri);
                    if got != *want {
                        wrong.push(format!("{fact}: {uri} gets {got:?}, not {want:?}"));
                    }
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    });
}

#[test]
fn cookies_go_out_in_order_and_keep_their_place() {
    play(&[
        (
            "row 1: the longer path goes first",
            &[
                Set("https://example.com/x/y", "s=1; Path=/"),
                Set("https://example.com/x/y", "l=2; Path=/x"),
                Sent("https://example.com/x/y", "l=2; s=1"),
            ],
        ),
        (
            "row 2: a new value keeps the place",
            &[Set(H, "a=1"), Set(H, "b=2"), Set(H, "c=3"), Set(H, "a=4"), Sent(H, "a=4; b=2; c=3")],
        ),
        (
            "row 3: what was deleted comes back last",
            &[
                Set(H, "a=1"),
                Set(H, "b=2"),
                Set(H, "a=; Max-Age=0"),
                Set(H, "a=4"),
                Sent(H, "b=2; a=4"),
            ],
        ),
        (
            "row 4: domain cookies and host cookies stand by age",
            &[
                Set("https://w.example.com/", "d=1; Domain=example.com"),
                Set("https://w.example.com/", "h=2"),
                Set("https://w.example.com/", "e=3; Domain=example.com"),
                Sent("https://w.example.com/", "d=1; h=2; e=3"),
            ],
        ),
        (
            "row 5: a host cookie and a domain cookie of one name are two",
            &[
                Set(H, "id=host; Path=/"),
                Set(H, "id=dom; Domain=example.com; Path=/"),
                Sent(H, "id=host; id=dom"),
                Sent("https://www.example.com/", "id=dom"),
            ],
        ),
    ]);
}

#[test]
fn cookies_stay_in_their_scope() {
    play(&[
        (
            "row 6: a public suffix sets nothing for its customers",
            &[
                Set("https://foo.github.io/", "a=1; Domain=github.io"),
                Sent("https://bar.github.io/", ""),
            ],
        ),
        (
            "row 7: a registry keeps its own cookie to itself",
            &[
                Set("https://github.io/", "a=1; Domain=github.io"),
                Sent("https://github.io/", "a=1"),
                Sent("https://child.github.io/", ""),
            ],
        ),
        ("row 8", &[Set(H, "__Host-a=1; Secure; Path=/; Domain=example.com"), Sent(H, "")]),
        ("row 9", &[Set(H, "=__Host-a=1; Secure; Path=/"), Sent(H, "")]),
        ("row 10", &[Set("http://example.com/", "s=1; Secure"), Sent(H, "")]),
        (
            "row 11: http may not replace a Secure cookie",
            &[
                Set(H, "s=1; Secure; Path=/"),
                Set("http://example.com/", "s=evil; Path=/"),
                Sent(H, "s=1"),
                Set("http://example.com/", "s=; Max-Age=0"),
                Sent(H, "s=1"),
            ],
        ),
        (
            "row 12: nor shadow it by a deeper path",
            &[
                Set(H, "s=1; Secure; Path=/login"),
                Set("http://example.com/login/en", "s=evil; Path=/login/en"),
                Sent("https://example.com/login/en", "s=1"),
            ],
        ),
        (
            "a Secure cookie goes over https alone, whatever the port",
            &[Set("https://h.example:8443/", "s=1; Secure"), Sent("http://h.example:8443/", "")],
        ),
        (
            "row 16: an address has no parent",
            &[Set("http://10.0.0.1/", "a=1; Domain=0.0.1"), Sent("http://10.0.0.1/", "")],
        ),
        (
            "row 16: an address may name itself",
            &[Set("http://10.0.0.1/", "a=1; Domain=10.0.0.1"), Sent("http://10.0.0.1/", "a=1")],
        ),
        (
            "row 17: this machine is secure",
            &[Set("http://localhost:3000/", "s=1; Secure"), Sent("http://localhost:3000/", "s=1")],
        ),
        (
            "row 23: a trailing dot hides no public suffix",
            &[
                Set("https://evil.com./", "a=1; Domain=com"),
                Set("https://x.co.uk/", "a=1; Domain=co.UK"),
                Sent("https://evil.com./", ""),
                Sent("https://other.com/", ""),
                Sent("https://x.co.uk/", ""),
            ],
        ),
        (
            "row 24: what stands before the @ is no host",
            &[
                Set(H, "a=1; Domain=example.com"),
                Sent("https://example.com%5C@example.net/", ""),
                Sent("https://example.com:@evil.example/", ""),
            ],
        ),
        ("a trailing dot is the same host", &[Set(H, "a=1"), Sent("https://EXAMPLE.com./", "a=1")]),
        (
            "host-only cookies stay with their host",
            &[
                Set(H, "a=1"),
                Sent("https://www.example.com/", ""),
                Sent("https://notexample.com/", ""),
            ],
        ),
        (
            "cookies named like a prototype are cookies like any other",
            &[
                Set(H, "__proto__=1"),
                Set("https://__proto__.example.com/", "constructor=2"),
                Sent(H, "__proto__=1"),
            ],
        ),
        (
            "a path is matched as it goes over the wire",
            &[
                Set("https://example.com/admin/x", "a=1"),
                Sent("https://example.com/admin/", "a=1"),
                Sent("https://example.com/pub/../admin/", ""),
                Sent("https://example.com/administrator", ""),
            ],
        ),
    ]);
}

#[test]
fn a_header_kept_for_some_of_a_sites_cookies_is_no_other_requests() {
    let uris = [
        "https://example.com/",
        "https://example.com/x",
        "http://example.com/",
        "http://example.com/x",
    ];
    // Around the number of cookies up to which some of them are told apart, and 150 is the most
    // that a header carries.
    let counts = [3, 4, 9, 63, 64, 65, 100, 150];
    rows::hold(pairs(counts, uris), |(count, first)| {
        let jar = CookieJar::new();
        for n in 0..count {
            let path = if n % 3 == 0 { "/x" } else { "/" };
            let secure = if n % 5 == 0 { "; Secure" } else { "" };
            jar.set(&H.parse().unwrap(), format!("c{n}=1; Path={path}{secure}")).unwrap();
        }
        let want = |to: &str| {
            let deep = (0..count).filter(|n| n % 3 == 0 && to.ends_with("/x"));
            let all = deep.chain((0..count).filter(|n| n % 3 != 0));
            let sent = all.filter(|n| n % 5 != 0 || to.starts_with("https"));
            sent.map(|n| format!("c{n}=1")).collect::<Vec<_>>().join("; ")
        };
        let asked: Vec<_> = [first].into_iter().chain(uris).chain(uris).collect();
        let got: Vec<_> = asked.iter().map(|to| header(&jar, to)).collect();
        let want: Vec<_> = asked.iter().map(|to| want(to)).collect();
        (format!("{count} cookies, {first} first"), got, want)
    });
}

#[test]
fn cookies_end_when_they_are_told_to() {
    play(&[
        (
            "row 14: logout with a one-digit day deletes the cookie",
            &[Set(H, "a=1"), Set(H, "a=; Expires=Thu, 1 Jan 1970 00:00:00 GMT"), Sent(H, "")],
        ),
        ("row 15", &[Set(H, "a=1; Max-Age=; Expires=Thu, 01 Jan 1970 00:00:00 GMT"), Sent(H, "")]),
        (
            "an overlong Max-Age is clamped",
            &[Set(H, "a=1; Max-Age=99999999999999999999"), Sent(H, "a=1")],
        ),
        ("a Max-Age that is no number is ignored", &[Set(H, "a=1; Max-Age=9e30"), Sent(H, "a=1")]),
    ]);
}

#[test]
fn a_pair_of_4096_bytes_is_kept_and_a_longer_one_is_not() {
    let uri = H.parse().unwrap();
    for (length, kept) in [(4096, true), (4097, false)] {
        let jar = CookieJar::new();
        let outcome = jar.set(&uri, format!("n={}", "v".repeat(length - 1)));
        assert_eq!(outcome, if kept { Ok(StoreAction::Inserted) } else { Err(Rejection::TooLong) });
        assert_eq!(jar.header(&uri).is_some(), kept, "{length} bytes");
    }
}

#[test]
fn bytes_that_are_not_utf8_come_back_as_they_were() {
    let (jar, uri) = (CookieJar::new(), H.parse().unwrap());
    jar.set(&uri, b"a=\xe9").unwrap();
    assert_eq!(jar.header(&uri).unwrap().as_bytes(), b"a=\xe9");
    assert_eq!(jar.matching(&uri)[0].value_bytes(), b"\xe9");
}

#[test]
fn a_relative_uri_has_no_cookies_and_no_panic() {
    let jar = CookieJar::new();
    jar.set(&"https://example.com/".parse().unwrap(), "b=1; Path=/").unwrap();
    for uri in ["/relative", "example.com:443", "*", "example.com"] {
        let uri = uri.parse().unwrap();
        // Not even the line that the host itself has sent before.
        assert_eq!(jar.set(&uri, "b=1; Path=/"), Err(Rejection::NoHost));
        assert_eq!(jar.set(&uri, "a=1"), Err(Rejection::NoHost));
        assert_eq!((jar.header(&uri), jar.matching(&uri).len()), (None, 0));
    }
    // http::Uri accepts such a port. Cookies have no ports.
    jar.set(&"http://a.example:99999/".parse().unwrap(), "a=1").unwrap();
    assert_eq!(header(&jar, "http://a.example/"), "a=1");
}

#[test]
fn cookies_go_to_and_come_from_http_and_web_sockets_alone() {
    let rows = [
        ("http", true),
        ("HTTP", true),
        ("https", true),
        ("HttpS", true),
        ("ws", true),
        ("WS", true),
        ("wss", true),
        ("Wss", true),
        ("ftp", false),
        ("FILE", false),
        ("file", false),
        ("unix", false),
        ("httpx", false),
        ("http+unix", false),
        ("w", false),
        ("h2c", false),
    ];
    rows::hold(rows, |(scheme, has_cookies)| {
        let jar = CookieJar::new();
        set(&jar, "https://example.com/", "a=1").unwrap();
        let uri = format!("{scheme}://example.com/");
        let sent = header(&jar, &uri);
        // The line that was set before too.
        let stored = [set(&jar, &uri, "a=1"), set(&jar, &uri, "b=2")].map(Result::ok);
        let explained = jar.explain(&CookieContext::new(&uri.parse().unwrap(), &Method::GET)).len();
        let site = jar.site_of(&uri.parse().unwrap());
        let got = (sent, stored, explained, site);
        let want = if has_cookies {
            let stored = [StoreAction::Unchanged, StoreAction::Inserted].map(Some);
            ("a=1".to_owned(), stored, 2, Some("example.com".to_owned()))
        } else {
            (String::new(), [None; 2], 0, None)
        };
        (scheme, got, want)
    });
}

/// Data of the public suites of abarth/http-state; each file says what it means.
fn suite(text: &str) -> Vec<serde_json::Value> {
    let mut suite: serde_json::Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(suite["vectors"].take()).unwrap()
}

/// `null` is no header; `Err` where the vector does not say.
fn expected<'a>(vector: &'a serde_json::Value, key: &str) -> Result<Option<&'a str>, String> {
    match vector.get(key) {
        Some(serde_json::Value::String(text)) => Ok(Some(text)),
        Some(serde_json::Value::Null) => Ok(None),
        other => Err(format!("{key} is {other:?}")),
    }
}

#[test]
fn the_public_suite_of_cookies_passes() {
    let vectors = suite(include_str!("../data/http_state.json"));
    let play = |vector: &serde_json::Value| {
        let want = expected(vector, "expected_cookie_6265bis")?.map(str::as_bytes);
        let uri = |key: &str| vector[key].as_str().unwrap().parse().unwrap();
        let (jar, from) = (CookieJar::new(), uri("request_url"));
        for line in vector["set_cookie"].as_array().unwrap() {
            // Lines that are to be refused are among them.
            let _ = jar.set(&from, line.as_str().unwrap());
        }
        let got = jar.header(&uri("sent_to_url"));
        let got = got.as_ref().map(http::HeaderValue::as_bytes);
        let shown = |line: Option<&[u8]>| line.map(|line| line.escape_ascii().to_string());
        if got == want { Ok(()) } else { Err(format!("{:?}, not {:?}", shown(got), shown(want))) }
    };
    rows::hold(&vectors, |vector| play(vector).map_err(|why| format!("{}: {why}", vector["name"])));
    assert_eq!(vectors.len(), 222);
}

#[test]
fn the_public_suite_of_dates_passes() {
    // The cap of 400 days would hide what was read, so the clock is a day before each date.
    static NOW: AtomicU64 = AtomicU64::new(0);
    let clock = || UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed));
    let vectors = suite(include_str!("../data/dates.json"));
    let play = |vector: &serde_json::Value| {
        let want =
            expected(vector, "expected")?.map(|date| httpdate::parse_http_date(date).unwrap());
        let since =
            want.map_or(0, |at| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()));
        NOW.store(since.saturating_sub(86_400), Ordering::Relaxed);
        let jar = CookieJar::builder().clock(clock).build();
        let outcome = jar
            .set(&H.parse().unwrap(), format!("a=1; Expires={}", vector["test"].as_str().unwrap()));
        let got = jar.iter().next().map(|cookie| cookie.expires());
        let fits = if since == 0 && want.is_some() {
            outcome == Ok(StoreAction::Expired)
        } else {
            got == Some(want)
        };
        if fits { Ok(()) } else { Err(format!("{got:?}, not {want:?}")) }
    };
    rows::hold(&vectors, |vector| play(vector).map_err(|why| format!("{}: {why}", vector["test"])));
    assert_eq!(vectors.len(), 70);
}
