//! `Set-Cookie` as RFC 6265bis section 5.6 reads it: bytes in, slices of the same bytes out.

use super::{data::SameSite, date::date};

/// Longest name and value together (RFC 6265bis section 5.6, step 5).
pub(in crate::cookie) const MAX_PAIR: usize = 4096;
/// Longest attribute value; a longer attribute is ignored (RFC 6265bis section 5.6).
pub(in crate::cookie) const MAX_ATTRIBUTE: usize = 1024;

/// Longest path of a cookie: an attribute's or a request's, each byte of which may have become
/// U+FFFD.
pub(in crate::cookie) const MAX_PATH: usize = 3 * MAX_ATTRIBUTE;

/// What may stand in a file as the path of a cookie: all that a jar may hold. A request's path may
/// have a semicolon.
pub(in crate::cookie) fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_PATH && !path.bytes().any(is_control)
}

/// One `Set-Cookie` field value, split but not judged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cookie) struct SetCookie<'a> {
    pub(in crate::cookie) name: &'a [u8],
    pub(in crate::cookie) value: &'a [u8],
    /// Seconds since 1970; may be negative.
    pub(in crate::cookie) expires: Option<i64>,
    /// Seconds from now; zero and below mean at once.
    pub(in crate::cookie) max_age: Option<i64>,
    /// Without the leading dot; empty is as good as absent.
    pub(in crate::cookie) domain: &'a [u8],
    /// `None`: absent, empty or not starting with a slash.
    pub(in crate::cookie) path: Option<&'a [u8]>,
    pub(in crate::cookie) secure: bool,
    pub(in crate::cookie) http_only: bool,
    pub(in crate::cookie) partitioned: bool,
    pub(in crate::cookie) same_site: Option<SameSite>,
}

/// Why a line is no cookie at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) enum Unparsable {
    ControlCharacter,
    TooLong,
    Empty,
}

/// Splits one `Set-Cookie` value (RFC 6265bis section 5.6).
pub(in crate::cookie) fn set_cookie(line: &[u8]) -> Result<SetCookie<'_>, Unparsable> {
    // No early exit, so that many bytes are looked at in one step.
    if line.iter().fold(false, |found, &byte| found | is_control(byte)) {
        return Err(Unparsable::ControlCharacter);
    }
    let Part { name, value, mut rest } = part(line);
    let (name, value) = name_and_value(name, value);
    if name.len() + value.len() > MAX_PAIR {
        return Err(Unparsable::TooLong);
    }
    if name.is_empty() && value.is_empty() {
        return Err(Unparsable::Empty);
    }
    let mut cookie = SetCookie { name, value, ..SetCookie::default() };
    while let Some(attributes) = rest {
        let (name, value);
        Part { name, value, rest } = part(attributes);
        let value = value.unwrap_or_default();
        if value.len() <= MAX_ATTRIBUTE {
            cookie.apply(name, value);
        }
    }
    Ok(cookie)
}

/// What stands before the first semicolon of a line, parted at its first `=` and trimmed, and what
/// stands behind it.
struct Part<'a> {
    name: &'a [u8],
    /// `None` where there is no `=`.
    value: Option<&'a [u8]>,
    rest: Option<&'a [u8]>,
}

#[inline(always)]
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

/// What stands before the first of some marks; which that is, and what stands behind it.
fn split<const N: usize>(bytes: &[u8], marks: [u8; N]) -> (&[u8], Option<(u8, &[u8])>) {
    match find(bytes, marks).and_then(|at| bytes.split_at_checked(at)) {
        Some((before, [mark, after @ ..])) => (before, Some((*mark, after))),
        _ => (bytes, None),
    }
}

/// Where the first of some marks stands.
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
            self.expires = date(value).or(self.expires);
        } else if is(name, b"max-age") {
            self.max_age = delta_seconds(value).or(self.max_age);
        } else if is(name, b"domain") {
            self.domain = value.strip_prefix(b".").unwrap_or(value);
        } else if is(name, b"path") {
            self.path = value.starts_with(b"/").then_some(value);
        } else if is(name, b"secure") {
            self.secure = true;
        } else if is(name, b"httponly") {
            self.http_only = true;
        } else if is(name, b"partitioned") {
            self.partitioned = true;
        } else if is(name, b"samesite") {
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

/// Whether a text is `word`, which is in lower case, but for the case of its letters.
fn is<const N: usize>(text: &[u8], word: &[u8; N]) -> bool {
    // No early exit here either. The bit makes another byte's a letter of none but the same letter,
    // and a hyphen of none but a control character, which is out by now.
    <&[u8; N]>::try_from(text)
        .is_ok_and(|text| text.iter().zip(word).fold(0, |sum, (a, b)| sum | (a | 0x20) ^ b) == 0)
}

/// `%x00-08 / %x0A-1F / %x7F`: every control character but the tab.
pub(in crate::cookie) const fn is_control(byte: u8) -> bool {
    (byte < 0x20) & (byte != b'\t') | (byte == 0x7f)
}

/// Spaces and tabs off both ends; nothing else is white space here.
pub(in crate::cookie) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// A pair without `=` is a nameless cookie's value.
fn name_and_value<'a>(name: &'a [u8], value: Option<&'a [u8]>) -> (&'a [u8], &'a [u8]) {
    value.map_or((&[], name), |value| (name, value))
}

/// `Max-Age` (RFC 6265bis section 5.6.2): digits after an optional minus; what no `i64` holds
/// saturates.
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
