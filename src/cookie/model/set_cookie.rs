//! `Set-Cookie` as RFC 6265bis section 5.6 reads it: bytes in, slices of the same bytes out.

use super::{data::SameSite, date::date};

/// Longest name and value together (RFC 6265bis section 5.6, step 5).
pub(super) const MAX_PAIR: usize = 4096;
/// Longest attribute value; a longer attribute is ignored (RFC 6265bis section 5.6).
pub(super) const MAX_ATTRIBUTE: usize = 1024;

/// Longest path of a stored cookie. A path is at most as long as an attribute, and each byte that
/// is not UTF-8 becomes the three bytes of U+FFFD.
const MAX_PATH: usize = 3 * MAX_ATTRIBUTE;

/// Whether a file may have this as the path of a cookie: whether a jar may hold it.
pub(in crate::cookie) fn is_path(path: &str) -> bool {
    // A semicolon is allowed: a path that is the request's may have one.
    path.starts_with('/') && path.len() <= MAX_PATH && !path.bytes().any(is_control)
}

/// One `Set-Cookie` field value, split but not judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SetCookie<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// Seconds since 1970; may be negative.
    pub(super) expires: Option<i64>,
    /// Seconds from now; zero and below expire the cookie at once.
    pub(super) max_age: Option<i64>,
    /// Without the leading dot. Empty means the same as absent.
    pub(super) domain: &'a [u8],
    /// `None`: absent, empty or not starting with a slash.
    pub(super) path: Option<&'a [u8]>,
    pub(super) secure: bool,
    pub(super) http_only: bool,
    pub(super) partitioned: bool,
    pub(super) same_site: Option<SameSite>,
}

/// Why a line cannot be a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unparsable {
    ControlCharacter,
    TooLong,
    Empty,
}

/// Splits one `Set-Cookie` value (RFC 6265bis section 5.6).
pub(super) fn set_cookie(line: &[u8]) -> Result<SetCookie<'_>, Unparsable> {
    // Before anything is split: a control character anywhere refuses the line. No early
    // exit, so that the compiler looks at 16 bytes in one step.
    if line.iter().fold(false, |found, &byte| found | is_control(byte)) {
        return Err(Unparsable::ControlCharacter);
    }
    let Part { name, value, mut rest } = part(line);
    let (name, value) = name_and_value(name, value);
    if name.len() + value.len() > MAX_PAIR {
        return Err(Unparsable::TooLong);
    }
    // A nameless cookie is allowed, but `=` alone cannot be meant as a cookie.
    if name.is_empty() && value.is_empty() {
        return Err(Unparsable::Empty);
    }
    let mut cookie = SetCookie { name, value, ..SetCookie::default() };
    while let Some(attributes) = rest {
        let (name, value);
        Part { name, value, rest } = part(attributes);
        let value = value.unwrap_or_default();
        // The cookie is kept without the attribute, and an earlier attribute of that name counts.
        if value.len() <= MAX_ATTRIBUTE {
            cookie.apply(name, value);
        }
    }
    Ok(cookie)
}

/// What is before the first semicolon of a line, split at its first `=` and trimmed, and what is
/// after the semicolon.
struct Part<'a> {
    name: &'a [u8],
    /// `None` if there is no `=`.
    value: Option<&'a [u8]>,
    rest: Option<&'a [u8]>,
}

fn part(line: &[u8]) -> Part<'_> {
    let (name, rest) = split(line, [b'=', b';']);
    match rest {
        Some((b'=', rest)) => {
            let (value, rest) = split(rest, [b';']);
            Part { name: trim(name), value: Some(trim(value)), rest: rest.map(|(_, rest)| rest) }
        }
        _ => Part { name: trim(name), value: None, rest: rest.map(|(_, rest)| rest) },
    }
}

/// Splits at the first of some marks: what is before it, which mark it is, and what is after it.
fn split<const N: usize>(bytes: &[u8], marks: [u8; N]) -> (&[u8], Option<(u8, &[u8])>) {
    match find(bytes, marks).and_then(|at| bytes.split_at_checked(at)) {
        Some((before, [mark, after @ ..])) => (before, Some((*mark, after))),
        _ => (bytes, None),
    }
}

/// Where the first of some marks is.
fn find<const N: usize>(bytes: &[u8], marks: [u8; N]) -> Option<usize> {
    // Eight bytes at a time: a mark is a zero of `differs`, and the lowest high bit that is set is
    // the first one's.
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (words, rest) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = marks.iter().fold(0, |found, &mark| {
            let differs = word ^ (ONES * u64::from(mark));
            found | differs.wrapping_sub(ONES) & !differs
        }) & HIGH;
        if found != 0 {
            return Some(at * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| marks.contains(byte))?;
    Some(words.len() * 8 + at)
}

/// The name of the cookie that a line means, for a report on a line that was refused.
pub(in crate::cookie) fn name_of(line: &[u8]) -> &[u8] {
    let Part { name, value, .. } = part(line);
    name_and_value(name, value).0
}

impl<'a> SetCookie<'a> {
    fn apply(&mut self, name: &[u8], value: &'a [u8]) {
        if is(name, b"expires") {
            // A date that cannot be read is ignored, so that an earlier one still counts.
            self.expires = date(value).or(self.expires);
        } else if is(name, b"max-age") {
            self.max_age = delta_seconds(value).or(self.max_age);
        } else if is(name, b"domain") {
            self.domain = value.strip_prefix(b".").unwrap_or(value);
        } else if is(name, b"path") {
            // The last one wins even if it is no path: then the default path is used.
            self.path = value.starts_with(b"/").then_some(value);
        } else if is(name, b"secure") {
            // Whatever the value: `Secure=false` is Secure.
            self.secure = true;
        } else if is(name, b"httponly") {
            self.http_only = true;
        } else if is(name, b"partitioned") {
            self.partitioned = true;
        } else if is(name, b"samesite") {
            // A word that is not known takes back a known one: bis calls that "Default".
            self.same_site = if value.eq_ignore_ascii_case(b"strict") {
                Some(SameSite::Strict)
            } else if value.eq_ignore_ascii_case(b"lax") {
                Some(SameSite::Lax)
            } else if value.eq_ignore_ascii_case(b"none") {
                Some(SameSite::None)
            } else {
                None
            };
        }
    }
}

/// Whether a text is `word`, in upper or lower case. `word` is in lower case.
fn is<const N: usize>(text: &[u8], word: &[u8; N]) -> bool {
    // Bit 5 is what upper and lower case differ in. Of the other bytes it turns only a control
    // character into a hyphen, and there is none in the line. No early exit here either.
    <&[u8; N]>::try_from(text)
        .is_ok_and(|text| text.iter().zip(word).fold(0, |sum, (a, b)| sum | (a | 0x20) ^ b) == 0)
}

/// Every control character but the tab: `%x00-08 / %x0A-1F / %x7F`.
pub(in crate::cookie) const fn is_control(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\t') | (byte == 0x7f)
}

/// Takes spaces and tabs off both ends. Nothing else is white space here.
pub(in crate::cookie) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Without `=`, the whole is the value of a nameless cookie.
fn name_and_value<'a>(name: &'a [u8], value: Option<&'a [u8]>) -> (&'a [u8], &'a [u8]) {
    value.map_or((&[], name), |value| (name, value))
}

/// `Max-Age` (RFC 6265bis section 5.6.2): digits after an optional minus. What is too large for an
/// `i64` becomes the largest one: such a cookie lives as long as any may, or not at all.
fn delta_seconds(value: &[u8]) -> Option<i64> {
    let (negative, digits) = match value {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let seconds = digits
        .iter()
        .fold(0_i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    Some(if negative { -seconds } else { seconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_age_is_digits_and_saturates() {
        let rows: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("60", Some(60)),
            ("99999999999999999999999999999999999999999", Some(i64::MAX)),
            ("-99999999999999999999999999999999999999999", Some(-i64::MAX)),
            ("", None),
            ("-", None),
            ("+1", None),
            ("9e30", None),
            ("1.0", None),
            ("0x10", None),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(text, want)| delta_seconds(text.as_bytes()) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn lines_split_into_pairs_and_attributes() {
        type Row<'a> = (&'a [u8], Result<(&'a [u8], &'a [u8]), Unparsable>);
        let rows: &[Row<'_>] = &[
            (b"a=1", Ok((b"a", b"1"))),
            (b"\t a \t=\t 1 ; Path=/", Ok((b"a", b"1"))),
            (b"a=b=c", Ok((b"a", b"b=c"))),
            (b"\"a\"=\"1\"", Ok((b"\"a\"", b"\"1\""))),
            (b"alone", Ok((b"", b"alone"))),
            (b"=x=y", Ok((b"", b"x=y"))),
            (b"a=%3B", Ok((b"a", b"%3B"))),
            (b"a=\xe9", Ok((b"a", b"\xe9"))),
            (b"a=x\ty", Ok((b"a", b"x\ty"))),
            (b"a=", Ok((b"a", b""))),
            (b"", Err(Unparsable::Empty)),
            (b"=", Err(Unparsable::Empty)),
            (b"; a=1", Err(Unparsable::Empty)),
            (b"a=1\x00", Err(Unparsable::ControlCharacter)),
            (b"a=1; Path=/\x7f", Err(Unparsable::ControlCharacter)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(line, want)| {
                set_cookie(line).map(|cookie| (cookie.name, cookie.value)) != *want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_last_attribute_wins_and_an_overlong_one_is_ignored() {
        let long = format!("a=1; Path=/x; Path=/{}", "y".repeat(MAX_ATTRIBUTE));
        assert_eq!(set_cookie(long.as_bytes()).unwrap().path, Some(&b"/x"[..]));
        let cookie = set_cookie(
            b"a=1; Path=/x; PATH=y; Domain=a.b; domain=; SameSite=Lax; samesite=what; Secure=no",
        )
        .unwrap();
        assert_eq!(
            (cookie.path, cookie.domain, cookie.same_site, cookie.secure),
            (None, &b""[..], None, true)
        );
        let cookie = set_cookie(
            b"a=1; Max-Age=5; Max-Age=; Expires=Thu, 1 Jan 1970 00:00:00 GMT; Expires=soon",
        )
        .unwrap();
        assert_eq!((cookie.max_age, cookie.expires), (Some(5), Some(0)));
    }
}
