//! The `Cookie` header: how it is made from pairs and merged with the caller's own.

use http::{
    HeaderMap, HeaderValue,
    header::{COOKIE, Entry},
};

use super::{
    model::cookie::{InvalidCookie, check_pair},
    model::set_cookie::trim,
};

/// Makes a `Cookie` header for one request from names and values.
///
/// The header is marked [sensitive](HeaderValue::set_sensitive).
/// [`CallerCookies`](super::CallerCookies) says how a layer merges it with the jar's cookies.
///
/// ```
/// let header = tower_outbound::cookie::header_value([("user_id", "2"), ("theme", "dark")])?;
/// assert_eq!(header, "user_id=2; theme=dark");
/// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
/// ```
///
/// # Errors
///
/// [`InvalidCookie`] if a server would read another name or value, or if there is no pair.
///
/// requests: `cookies={...}`.
pub fn header_value<N, V>(
    pairs: impl IntoIterator<Item = (N, V)>,
) -> Result<HeaderValue, InvalidCookie>
where
    N: AsRef<[u8]>,
    V: AsRef<[u8]>,
{
    let mut header = Vec::new();
    for (name, value) in pairs {
        let (name, value) = (name.as_ref(), value.as_ref());
        check_pair(name, value)?;
        // A server would read the nameless `a=b` as a cookie named `a`.
        if name.is_empty() && value.contains(&b'=') {
            return Err(InvalidCookie::Value);
        }
        join(&mut header, name);
        if !name.is_empty() {
            header.push(b'=');
        }
        header.extend_from_slice(value);
    }
    if header.is_empty() {
        return Err(InvalidCookie::Empty);
    }
    // Every byte was checked, so this cannot fail for another reason.
    sensitive(header).ok_or(InvalidCookie::Value)
}

/// The caller's own `Cookie` headers, joined to one. `None` if there is no such header.
pub(super) fn own(headers: &HeaderMap) -> Option<Vec<u8>> {
    // HTTP/2 lets a client send one header for each pair (RFC 9113 section 8.2.3).
    let mut lines = headers.get_all(COOKIE).iter().peekable();
    lines.peek()?;
    let mut line = Vec::new();
    for pair in lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')) {
        let pair = trim(pair);
        if !pair.is_empty() {
            join(&mut line, pair);
        }
    }
    Some(line)
}

/// The caller's pairs, then the jar's pairs whose names the caller did not give.
pub(super) fn merged(mut own: Vec<u8>, jar: Option<&HeaderValue>) -> Option<HeaderValue> {
    let end = own.len();
    for pair in jar.into_iter().flat_map(|jar| jar.as_bytes().split(|&byte| byte == b';')) {
        let pair = trim(pair);
        // Compared with the caller's pairs only: the jar may hold two cookies of one name, and both
        // are sent.
        let given = own[..end].split(|&byte| byte == b';').any(|own| name(trim(own)) == name(pair));
        if !given {
            join(&mut own, pair);
        }
    }
    sensitive(own)
}

/// Replaces all `Cookie` headers by one.
pub(super) fn replace(headers: &mut HeaderMap, value: HeaderValue) {
    match headers.entry(COOKIE) {
        Entry::Occupied(mut entry) => {
            entry.insert(value);
        }
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
    }
}

fn name(pair: &[u8]) -> &[u8] {
    // A nameless pair has the empty name, so the caller's nameless pair replaces the jar's.
    let end = pair.iter().position(|&byte| byte == b'=').unwrap_or(0);
    trim(&pair[..end])
}

fn join(line: &mut Vec<u8>, pair: &[u8]) {
    if !line.is_empty() {
        line.extend_from_slice(b"; ");
    }
    line.extend_from_slice(pair);
}

fn sensitive(line: Vec<u8>) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(line).ok()?;
    // Keeps it out of the `Debug` of a request, and out of HPACK's index.
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_pairs_come_first_and_win() {
        let rows: &[(&[&str], Option<&str>, &str)] = &[
            (&["x=9"], Some("x=1; y=2"), "x=9; y=2"),
            (&["x=9", "z=3"], Some("x=1; y=2"), "x=9; z=3; y=2"),
            (&["x=9;z=3 ; "], None, "x=9; z=3"),
            (&["bare"], Some("other; y=2"), "bare; y=2"),
            (&["a=1"], Some("b=x=y; a=2"), "a=1; b=x=y"),
            (&["X=1"], Some("x=2"), "X=1; x=2"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(lines, jar, want)| {
                let mut headers = HeaderMap::new();
                for line in *lines {
                    headers.append(COOKIE, HeaderValue::from_static(line));
                }
                let jar = jar.map(HeaderValue::from_static);
                let own = own(&headers).unwrap();
                replace(&mut headers, merged(own, jar.as_ref()).unwrap());
                let got: Vec<_> = headers
                    .get_all(COOKIE)
                    .iter()
                    .map(|v| v.to_str().unwrap().to_owned())
                    .collect();
                (got, want)
            })
            .filter(|(got, want)| got != &[**want])
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn what_could_not_be_read_back_is_refused() {
        use InvalidCookie::*;
        let rows: &[(&str, &str, Result<&str, InvalidCookie>)] = &[
            ("a", "1", Ok("a=1")),
            ("", "bare", Ok("bare")),
            ("a", "", Ok("a=")),
            ("a", "x y", Ok("a=x y")),
            ("", "", Err(Empty)),
            ("a=b", "1", Err(Name)),
            ("a;b", "1", Err(Name)),
            (" a", "1", Err(Name)),
            ("a\r\nX: y", "1", Err(Name)),
            ("a", "1;2", Err(Value)),
            ("", "a=b", Err(Value)),
            ("a", "1\n", Err(Value)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(name, value, want)| (header_value([(name, value)]), want))
            .filter(|(got, want)| {
                got.as_ref().map(|v| v.to_str().unwrap()).map_err(|e| *e) != **want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(header_value([] as [(&str, &str); 0]), Err(Empty));
    }
}
