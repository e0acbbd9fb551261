//! Readers for headers other than `Retry-After` that say how long a server asks to wait.
//!
//! Give them to [`RetryPolicy::retry_after`](super::RetryPolicy::retry_after):
//!
//! ```
//! use tower_outbound::retry::{RetryPolicy, retry_after::{retry_after_ms, x_ratelimit_reset}};
//!
//! // The first header that the response has, or else `Retry-After`.
//! let policy = RetryPolicy::new()
//!     .retry_after(|head| retry_after_ms(head).or_else(|| x_ratelimit_reset(head)));
//! ```

use std::time::{Duration, SystemTime};

use http::{
    HeaderMap, HeaderValue,
    header::{DATE, RETRY_AFTER},
    response,
};

use super::decision::ServerDelay;

/// Reads `retry-after-ms`, or else `x-ms-retry-after-ms`: milliseconds, which may have a fraction.
///
/// `None` if the response has neither, or if the value cannot be read.
///
/// Source: the clients of Azure and OpenAI, whose servers send it with a coarser `Retry-After`.
///
/// ```
/// # use {http::Response, std::time::Duration};
/// # use tower_outbound::retry::{ServerDelay, retry_after::retry_after_ms};
/// let (head, ()) = Response::builder().header("retry-after-ms", "7.5").body(())?.into_parts();
/// assert_eq!(retry_after_ms(&head), Some(ServerDelay::After(Duration::from_micros(7_500))));
/// # Ok::<(), http::Error>(())
/// ```
#[must_use]
pub fn retry_after_ms(head: &response::Parts) -> Option<ServerDelay> {
    let millis = ["retry-after-ms", "x-ms-retry-after-ms"].into_iter().find_map(|name| {
        let value = head.headers.get(name)?;
        decimal(value)
    })?;
    Some(ServerDelay::After(seconds(millis / 1000.0)))
}

/// Reads `x-ratelimit-reset`: a number of seconds, or the time at which the limit ends, in seconds
/// or milliseconds since 1970. Each may have a fraction.
///
/// A time is compared with the response's `Date`, or with our clock if there is none. A time in the
/// past gives a delay of zero.
///
/// `None` if the header is missing or cannot be read, or if `x-ratelimit-remaining` is 1 or more.
/// Many servers send both headers with each response, so the failure has another reason then.
///
/// A 403, as GitHub sends it, must also be made a failure, with
/// [`classify`](super::RetryPolicy::classify) or
/// [`status_forcelist`](super::RetryPolicy::status_forcelist).
///
/// Source: GitHub (a time), Reddit (seconds), OpenRouter (milliseconds). There is no standard.
///
/// ```
/// # use {http::Response, std::time::Duration};
/// # use tower_outbound::retry::{ServerDelay, retry_after::x_ratelimit_reset};
/// let (head, ()) = Response::builder().header("x-ratelimit-reset", "30").body(())?.into_parts();
/// assert_eq!(x_ratelimit_reset(&head), Some(ServerDelay::After(Duration::from_secs(30))));
/// # Ok::<(), http::Error>(())
/// ```
#[must_use]
pub fn x_ratelimit_reset(head: &response::Parts) -> Option<ServerDelay> {
    // 31 years in seconds is the year 2001 as a time; as milliseconds that is the number below.
    const TIME: f64 = 1e9;
    const TIME_IN_MILLIS: f64 = 1e12;
    let number = |name| head.headers.get(name).and_then(decimal);
    let reset = number("x-ratelimit-reset")?;
    if number("x-ratelimit-remaining").is_some_and(|remaining| remaining >= 1.0) {
        return None;
    }
    if reset < TIME {
        return Some(ServerDelay::After(seconds(reset)));
    }
    let since_1970 = seconds(if reset < TIME_IN_MILLIS { reset } else { reset / 1000.0 });
    let now = own_date(&head.headers).unwrap_or_else(SystemTime::now);
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Some(ServerDelay::After(since_1970.saturating_sub(now)))
}

/// Reads `grpc-retry-pushback-ms`: milliseconds, without a fraction.
///
/// [`ServerDelay::Never`] if the number is negative, or if the value is not one number. `None` if
/// the header is missing.
///
/// Only the head of the response is read. The header is there if the server answers with a failure
/// and nothing else (Trailers-Only).
///
/// Source: gRPC A6, pushback.
///
/// ```
/// # use http::Response;
/// # use tower_outbound::retry::{ServerDelay, retry_after::grpc_retry_pushback_ms};
/// let response = Response::builder().header("grpc-retry-pushback-ms", "-1").body(())?;
/// let (head, ()) = response.into_parts();
/// assert_eq!(grpc_retry_pushback_ms(&head), Some(ServerDelay::Never));
/// # Ok::<(), http::Error>(())
/// ```
#[must_use]
pub fn grpc_retry_pushback_ms(head: &response::Parts) -> Option<ServerDelay> {
    let mut values = head.headers.get_all("grpc-retry-pushback-ms").iter();
    let millis = digits(values.next()?.as_bytes().trim_ascii());
    Some(match (millis, values.next()) {
        (Some(millis), None) => ServerDelay::After(Duration::from_millis(millis)),
        _ => ServerDelay::Never,
    })
}

/// A number as servers write it: digits, with or without a fraction. No sign and no exponent.
fn decimal(value: &HeaderValue) -> Option<f64> {
    let text = value.to_str().ok()?.trim_ascii();
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.parse().ok().filter(|_| is_plain)
}

/// A time that is too long for a `Duration` becomes the longest one.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

/// A number that is too large for a `u64` becomes the largest one. `None` for anything but digits.
fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        text.iter().fold(0_u64, |sum, digit| {
            sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
        })
    })
}

/// The time at which the server made the response, by its own clock.
fn own_date(headers: &HeaderMap) -> Option<SystemTime> {
    headers.get(DATE).and_then(|of| date(of.as_bytes()))
}

/// How long the server asks to wait by `Retry-After` (RFC 9110 section 10.2.3). `None` if the
/// header is missing or cannot be read.
///
/// A number that is too large for a `u64` becomes the largest one. A date in the past gives zero.
pub(super) fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.as_bytes().trim_ascii();
    if let Some(seconds) = digits(text) {
        return Some(Duration::from_secs(seconds));
    }
    let until = date(text)?;
    // The server means its own clock (RFC 9110 section 6.6.1), which may differ from ours by hours.
    let since = own_date(headers).unwrap_or(now);
    Some(until.duration_since(since).unwrap_or(Duration::ZERO))
}

/// Reads a date whose words are in any order, as a cookie's (RFC 6265 section 5.1.1): servers write
/// more forms than the RFC has.
///
/// Unlike in a cookie, a zone other than GMT is refused: its meaning is not always known, and the
/// wait could be hours off. Any other word that is not part of a date is refused too.
fn date(text: &[u8]) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok()?;
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    let put = |place: &mut Option<u32>, value| place.replace(value).is_none().then_some(());
    for word in text.split([' ', '\t', ',']).filter(|word| !word.is_empty() && !is_gmt(word)) {
        if word.contains(':') {
            time = time.is_none().then_some(word);
            time?;
            continue;
        }
        for word in word.split(['-', '.', '/']).filter(|word| !word.is_empty()) {
            if is_weekday(word) {
            } else if let Some(named) = month_of(word) {
                month = month.is_none().then_some(named);
                month?;
            } else if day.is_none() && word.len() <= 2 {
                put(&mut day, number(word, 1..=2)?)?;
            } else {
                put(&mut year, number(word, 2..=4)?)?;
            }
        }
    }
    let (time, day, month, year) = (time?, day?, month?, year?);
    // RFC 6265 section 5.1.1: years of two digits are from 1970 to 2069.
    let year = match year {
        0..=69 => 2000 + year,
        70..=99 => 1900 + year,
        year => year,
    };
    let mut parts = time.split(':').map(|part| number(part, 1..=2));
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() {
        return None;
    }
    let date = format!("{day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
    // The library refuses a weekday that does not fit the date, so all seven are tried.
    WEEKDAYS
        .iter()
        .find_map(|name| httpdate::parse_http_date(&format!("{}, {date}", &name[..3])).ok())
}

const WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

fn is_weekday(word: &str) -> bool {
    let begins = |day: &str| day.get(..word.len()).is_some_and(|d| d.eq_ignore_ascii_case(word));
    word.len() >= 3 && WEEKDAYS.into_iter().any(begins)
}

fn month_of(word: &str) -> Option<&'static str> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let start = word.get(..3).filter(|_| word.bytes().all(|byte| byte.is_ascii_alphabetic()))?;
    MONTHS.into_iter().find(|month| month.eq_ignore_ascii_case(start))
}

fn is_gmt(zone: &str) -> bool {
    ["GMT", "UTC", "+0000"].iter().any(|name| name.eq_ignore_ascii_case(zone))
}

fn number(digits: &str, lengths: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let is_number = lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
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
            (b"Sun, 6 Nov 1994 08:49:37 GMT", Some(100)),
            (b"Sun, 06 Nov 1994 08:49:37 UTC", Some(100)),
            (b"Sun, 06 Nov 1994 08:49:37 +0000", Some(100)),
            (b"06 Nov 1994 08:49:37 GMT", Some(100)),
            (b"06-Nov-1994 08:49:37 GMT", Some(100)),
            (b"Sun, 06-Nov-1994 08:49:37 GMT", Some(100)),
            (b"sun, 06 nov 1994 08:49:37 gmt", Some(100)),
            (b"Sun Nov 6 08:49:37 1994", Some(100)),
            (b"Sun, 06 November 1994 8:49:37 GMT", Some(100)),
            (b"Wed, 06 Nov 1994 08:49:37 GMT", Some(100)),
            (b"Sun, 06 Nov 1994 08:49:37", Some(100)),
            (b"Nov 6 1994 08:49:37", Some(100)),
            (b"06.Nov.1994 08:49:37 GMT", Some(100)),
            (b"08:49:37 1994 Nov 06 GMT", Some(100)),
            (b"Sun, 06 Nov 1994 08:49:37 08:49:37 GMT", None),
            (b"Sun, 06 Nov Nov 1994 08:49:37 GMT", None),
            (b"Sun, 06 11 1994 08:49:37 GMT", None),
            (b"Sun, 06 Nov 1994 08:49:37 PST", None),
            (b"Sun, 06 Nov 1994 08:49:37 +0100", None),
            (b"Sun, 06 Nov 1994 08:49:37 -0500", None),
            (b"Sun, 06 Nov 1994 08:49:37 GMT+1", None),
            (b"Sun, 06 Nov 1994 08:49:37 GMT 5", None),
            (b"Sun, 06 Nov 1994 08:49 GMT", None),
            (b"Sun, 06 Nov 1994 25:49:37 GMT", None),
            (b"Sun, 32 Nov 1994 08:49:37 GMT", None),
            (b"Sun, 006 Nov 1994 08:49:37 GMT", None),
            (b"Sun, 06 Nov 19945 08:49:37 GMT", None),
            (b"Sun, 06 No\xc3\xbc 1994 08:49:37 GMT", None),
            (b"\xc3\xbc\xc3\xbc 06 Nov 1994 08:49:37 GMT", None),
            (b"1994-11-06T08:49:37Z", None),
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

    #[test]
    fn a_date_is_read_relative_to_the_servers_own() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let rows = [
            // An hour ahead of our clock, and an hour behind.
            ("Sun, 06 Nov 1994 09:49:37 GMT", "Sun, 06 Nov 1994 09:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 07:49:37 GMT", "Sun, 06 Nov 1994 07:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 09:49:37 GMT", "Sun, 06 Nov 1994 09:49:07 GMT", Some(0)),
            ("unreadable", "Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 09:49:37 GMT", "30", Some(30)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(date, retry_after, want)| {
                let headers = HeaderMap::from_iter([
                    (DATE, HeaderValue::from_static(date)),
                    (RETRY_AFTER, HeaderValue::from_static(retry_after)),
                ]);
                (date, retry_after, asked(&headers, now), want.map(Duration::from_secs))
            })
            .filter(|(.., got, want)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
