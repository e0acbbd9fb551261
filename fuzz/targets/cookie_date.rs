//! Any `Expires`: no panic. A date that httpdate has written is read as the same date.
#![no_main]

use std::time::{Duration, SystemTime};

use http::Uri;
use libfuzzer_sys::fuzz_target;
use tower_outbound::cookie::CookieJar;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn expires(date: &[u8]) -> Option<Option<SystemTime>> {
    let jar = CookieJar::new();
    let _ = jar.set(&Uri::from_static("https://example.com/"), [b"id=1; Expires=", date].concat());
    jar.iter().next().map(|cookie| cookie.expires())
}

fuzz_target!(|text: &[u8]| {
    expires(text);
    let Some(date) =
        str::from_utf8(text).ok().and_then(|text| httpdate::parse_http_date(text).ok())
    else {
        return;
    };
    let (now, written) = (SystemTime::now(), httpdate::fmt_http_date(date));
    if date < now - DAY {
        assert_eq!(expires(written.as_bytes()), None, "{written}");
    } else if date > now + DAY && date < now + 399 * DAY {
        assert_eq!(expires(written.as_bytes()), Some(Some(date)), "{written}");
    }
});
