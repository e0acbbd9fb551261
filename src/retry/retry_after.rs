//! The `Retry-After` header (RFC 9110 section 10.2.3).

use std::time::{Duration, SystemTime};

use http::{HeaderMap, header::RETRY_AFTER};

/// How long the server asks to wait; `None` where it does not ask, or in no form that the RFC
/// knows.
///
/// Digits past what a `u64` holds saturate; a date that is past is zero.
pub(super) fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.as_bytes().trim_ascii();
    if text.is_empty() {
        return None;
    }
    if text.iter().all(u8::is_ascii_digit) {
        let seconds = text.iter().fold(0_u64, |sum, digit| {
            sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        });
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(str::from_utf8(text).ok()?).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use http::HeaderValue;

    use super::*;

    #[test]
    fn seconds_and_the_three_dates_are_read_and_nothing_else() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777 - 100);
        let rows: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"\t42 ", Some(42)),
            (b"315360000", Some(315_360_000)),
            (b"99999999999999999999999999", Some(u64::MAX)),
            (b"Sun, 06 Nov 1994 08:49:37 GMT", Some(100)),
            (b"Sunday, 06-Nov-94 08:49:37 GMT", Some(100)),
            (b"Sun Nov  6 08:49:37 1994", Some(100)),
            (b"Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            (b"-1", None),
            (b"+1", None),
            (b"1.0", None),
            (b"soon", None),
            (b"5, 10", None),
            (b"", None),
            (b" ", None),
            (b"\xff\xfe", None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, want)| {
                let headers =
                    HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_bytes(text).unwrap())]);
                (String::from_utf8_lossy(text), asked(&headers, now), want.map(Duration::from_secs))
            })
            .filter(|(_, got, want)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(asked(&HeaderMap::new(), now), None);
    }
}
