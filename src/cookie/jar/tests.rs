use std::time::SystemTime;

use super::*;
use crate::cookie::CookieLimits;

/// Every line of a small alphabet in some order, from a fixed seed, with small limits.
#[test]
fn a_response_that_is_inspected_comes_to_what_an_empty_jar_would_store() {
    let mut seed = 7_u64;
    let mut next = move |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let said = |cookies: &ResponseCookies| {
        let of = |c: &Cookie| (format!("{c:?}={}", c.value()), c.created(), c.last_access());
        let accepted: Vec<_> = cookies.accepted().iter().map(of).collect();
        (accepted, cookies.rejected().to_vec())
    };
    fn clock() -> SystemTime {
        SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)
    }
    let mut wrong = Vec::new();
    for _ in 0..2_000 {
        let per_response = next(9) as usize;
        let limits = if next(4) == 0 {
            CookieLimits { bytes: 24, per_response, ..CookieLimits::default() }
        } else {
            let (per_domain, total) = (next(5) as usize, next(7) as usize);
            CookieLimits { per_domain, total, per_response, ..CookieLimits::default() }
        };
        let jar = CookieJar::builder().limits(limits).clock(clock).build();
        let uri = ["http://h.example/", "https://h.example/", "/relative"][next(3) as usize];
        let uri = uri.parse().unwrap();
        let attributes = ["", "; Secure", "; Max-Age=0", "; Domain=h.example", "; Path=/x"];
        let line = |_| {
            let attribute = attributes[next(5) as usize];
            format!("{}={}{attribute}", ["a", "b", "c", "__Host-d", "e"][next(5) as usize], next(2))
        };
        let lines: Vec<_> = (0..12).map(line).collect();
        let headers = lines.iter().map(|line| (SET_COOKIE, line.parse().unwrap())).collect();
        let context = CookieContext::new(&uri, &Method::GET);
        let inspected = jar.inspect_response(&context, &headers);
        let is_empty = jar.is_empty();
        let stored = CookieStorage::store_response(&jar, &context, &headers);
        if !is_empty || said(&inspected) != said(&stored) {
            wrong.push(format!("{uri} {limits:?} {lines:?}: {inspected:?}, not {stored:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong, of which {}", wrong.len(), wrong[0]);
}
