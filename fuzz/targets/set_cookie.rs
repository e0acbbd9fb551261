//! `Set-Cookie` lines from strangers, stored in one jar: the jar then makes valid headers, within
//! its bounds, and for the right hosts only.
#![no_main]

use http::Uri;
use libfuzzer_sys::fuzz_target;
use tower_outbound::cookie::{CookieJar, CookieLimits};

const ORIGINS: [&str; 8] = [
    "https://www.example.com/a/b",
    "http://example.com/",
    "http://www.example.com./a",
    "https://user:pass@www.example.com:8443/a/b/c?q",
    "http://192.0.2.1/",
    "https://[2001:db8::1]/",
    "http://a.b.co.uk/x",
    "https://co.uk/",
];

fuzz_target!(|lines: &[u8]| {
    let jar = CookieJar::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some((origin, line)) = line.split_first() else { continue };
        let origin = Uri::from_static(ORIGINS[usize::from(*origin) % ORIGINS.len()]);
        let _ = jar.set(&origin, line);
    }
    let limits = CookieLimits::default();
    for origin in ORIGINS.map(Uri::from_static) {
        let Some(header) = jar.header(&origin) else { continue };
        assert!(header.len() <= limits.header_bytes);
        assert!(header.as_bytes().iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()));
        assert_eq!(jar.header(&origin), Some(header));
    }
    for cookie in jar.iter() {
        assert!(!cookie.domain().is_empty() && cookie.path().starts_with('/'));
        assert!(!["com", "uk", "co.uk"].contains(&cookie.domain()) || cookie.host_only());
    }
    for stranger in [
        "https://example.org/a/b",
        "https://notexample.com/",
        "http://c.co.uk/x",
        "https://192.0.2.11/",
    ] {
        assert_eq!(jar.header(&Uri::from_static(stranger)), None);
    }
});
