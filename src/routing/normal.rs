//! Hosts and paths in the one spelling that mounts and requests are compared in (RFC 3986 section 6.2.2).

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

/// A host: lower case, without one trailing dot; IPv6 in brackets and in its canonical form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) kind: HostKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostKind {
    /// Labels, none of them empty: only these have subdomains.
    Name,
    /// IPv4 as four decimal octets, or IPv6.
    Address,
    /// Whatever else a URI lets through, such as an IPv6 zone: equal to no mount's host.
    Opaque,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostFault {
    Empty,
    /// `127.1`, `0x7f.1`, `2130706433`: resolvers read these as an address, and not all as the same one.
    Numeric,
}

/// Borrows where the host is canonical already, which it nearly always is.
pub(super) fn host(spelt: &str) -> Result<Host<'_>, HostFault> {
    let text = spelt.strip_suffix('.').unwrap_or(spelt);
    if text.is_empty() {
        return Err(HostFault::Empty);
    }
    if let Some(inside) = text.strip_prefix('[') {
        return Ok(match inside.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok()) {
            Some(address) => Host { text: Cow::Owned(format!("[{address}]")), kind: HostKind::Address },
            None => Host { text: lower(text), kind: HostKind::Opaque },
        });
    }
    if text.split('.').all(is_number) {
        return match text.parse::<Ipv4Addr>() {
            Ok(_) => Ok(Host { text: Cow::Borrowed(text), kind: HostKind::Address }),
            Err(_) => Err(HostFault::Numeric),
        };
    }
    let kind = if text.starts_with('.') || text.ends_with('.') || text.contains("..") {
        HostKind::Opaque
    } else {
        HostKind::Name
    };
    Ok(Host { text: lower(text), kind })
}

/// Whether `inet_aton` could take the label for a part of an address: decimal, octal or hexadecimal.
fn is_number(label: &str) -> bool {
    match label.strip_prefix("0x").or_else(|| label.strip_prefix("0X")) {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

pub(super) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The port of a scheme, for the schemes that have one everybody knows.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    const PORTS: [(&str, u16); 5] = [("https", 443), ("http", 80), ("wss", 443), ("ws", 80), ("ftp", 21)];
    PORTS.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)).map(|&(_, port)| port)
}

/// A path as mounts are compared with it: empty for the root, else `/segment` for each segment.
///
/// Escapes of unreserved characters are decoded and the others spelt in upper case; what should be escaped and is not
/// is; dot segments are taken out (RFC 3986 section 5.2.4), one trailing slash too. `%2F` stays an escape and empty
/// segments stay segments, since to a server they need not mean the same as without.
///
/// Borrows where nothing has to change.
pub(super) fn path(spelt: &str) -> Cow<'_, str> {
    // Neither `*` (RFC 9112 section 3.2.4) nor the empty path is below anything.
    if !spelt.starts_with('/') {
        return Cow::Borrowed("");
    }
    let escaped = if has_normal_escapes(spelt.as_bytes()) { Cow::Borrowed(spelt) } else { Cow::Owned(escape(spelt)) };
    let dotted = escaped.contains("/.") && escaped.split('/').any(|segment| matches!(segment, "." | ".."));
    match if dotted { Cow::Owned(remove_dot_segments(&escaped)) } else { escaped } {
        Cow::Borrowed(path) => Cow::Borrowed(path.strip_suffix('/').unwrap_or(path)),
        Cow::Owned(mut path) => {
            if path.ends_with('/') {
                path.pop();
            }
            Cow::Owned(path)
        }
    }
}

fn has_normal_escapes(path: &[u8]) -> bool {
    path.iter().enumerate().all(|(at, &byte)| match byte {
        b'%' => {
            matches!(path.get(at + 1..at + 3), Some(digits) if !digits.iter().any(u8::is_ascii_lowercase))
                && escaped_byte(&path[at..]).is_some_and(|byte| !is_unreserved(byte))
        }
        _ => is_path_byte(byte),
    })
}

fn escape(path: &str) -> String {
    let mut out = String::with_capacity(path.len() + 8);
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        match escaped_byte(rest) {
            Some(byte) => {
                if is_unreserved(byte) {
                    out.push(char::from(byte));
                } else {
                    push_escape(&mut out, byte);
                }
                rest = &rest[3..];
            }
            None => {
                // A stray `%` among them, so that it cannot make an escape out of what is decoded behind it.
                if is_path_byte(byte) {
                    out.push(char::from(byte));
                } else {
                    push_escape(&mut out, byte);
                }
                rest = tail;
            }
        }
    }
    out
}

/// The byte that `%XX` at the start of `text` stands for.
pub(super) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in [b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]] {
        out.push(char::from(byte));
    }
}

/// RFC 3986 section 5.2.4, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut ends_in_dots = false;
    for segment in path.split('/').skip(1) {
        ends_in_dots = matches!(segment, "." | "..");
        if segment == ".." {
            out.truncate(out.rfind('/').unwrap_or_default());
        } else if !ends_in_dots {
            out.push('/');
            out.push_str(segment);
        }
    }
    if ends_in_dots {
        out.push('/');
    }
    out
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What a path may hold as it is: RFC 3986 section 3.3, `pchar` and the slash.
pub(super) const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b':' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_as_rfc_3986_normalises_them() {
        let rows = [
            ("", ""),
            ("*", ""),
            ("/", ""),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("/a/b/c", "/a/b/c"),
            // Dot segments.
            ("/a/b/c/./../../g", "/a/g"),
            ("/..", ""),
            ("/../../x", "/x"),
            ("/x/../admin/", "/admin"),
            ("/a/.", "/a"),
            ("/a/..", ""),
            ("/a/...", "/a/..."),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/pub/%2e%2E/admin", "/admin"),
            ("/pub/%2e./admin", "/admin"),
            // Unreserved characters are decoded, once; the others are not.
            ("/a%7Eb", "/a~b"),
            ("/%61dmin", "/admin"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5c..%5Cb", "/a%5C..%5Cb"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/%3A", "/%3A"),
            // What is no escape is a percent sign, and never becomes one.
            ("/%", "/%25"),
            ("/%2", "/%252"),
            ("/%zz", "/%25zz"),
            ("/a%%32Fb", "/a%252Fb"),
            ("/%%32%65", "/%252e"),
            // Characters that belong into an escape.
            ("/ü", "/%C3%BC"),
            ("/%c3%bc", "/%C3%BC"),
            ("/{id}", "/%7Bid%7D"),
            ("/%7bid%7D", "/%7Bid%7D"),
            ("/a\\b", "/a%5Cb"),
            // Empty segments are segments; one trailing slash is not.
            ("//admin", "//admin"),
            ("/a//b", "/a//b"),
            ("//", "/"),
            ("/a//", "/a/"),
            ("/a//.", "/a/"),
            ("/a//../b", "/a/b"),
            ("/..//admin", "//admin"),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(spelt, want)| {
                let got = path(spelt);
                // Normalising twice changes nothing, but for the trailing slash that was one segment's end.
                let again = path(&got);
                let stable = again == got || format!("{again}/") == got;
                (got != want || !stable).then(|| format!("{spelt}: {got}, again {again}, want {want}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_path_with_nothing_to_normalise_is_borrowed() {
        for spelt in ["/", "/a/b", "/a/b/", "/a%2Fb", "/.well-known/x", "/a=b;c,d@e:f!"] {
            assert!(matches!(path(spelt), Cow::Borrowed(_)), "{spelt}");
        }
    }

    #[test]
    fn hosts_have_one_spelling() {
        let rows = [
            ("example.com", Ok(("example.com", HostKind::Name))),
            ("API.Example.COM", Ok(("api.example.com", HostKind::Name))),
            ("example.com.", Ok(("example.com", HostKind::Name))),
            ("example.com..", Ok(("example.com.", HostKind::Opaque))),
            (".example.com", Ok((".example.com", HostKind::Opaque))),
            ("a..b", Ok(("a..b", HostKind::Opaque))),
            ("127.0.0.1", Ok(("127.0.0.1", HostKind::Address))),
            ("127.0.0.1.", Ok(("127.0.0.1", HostKind::Address))),
            ("[0:0:0:0:0:0:0:1]", Ok(("[::1]", HostKind::Address))),
            ("[2001:DB8::1]", Ok(("[2001:db8::1]", HostKind::Address))),
            ("[::ffff:127.0.0.1]", Ok(("[::ffff:127.0.0.1]", HostKind::Address))),
            ("[FE80::1%25eth0]", Ok(("[fe80::1%25eth0]", HostKind::Opaque))),
            ("[v1.x]", Ok(("[v1.x]", HostKind::Opaque))),
            ("[]", Ok(("[]", HostKind::Opaque))),
            ("1.example.com", Ok(("1.example.com", HostKind::Name))),
            ("web.1", Ok(("web.1", HostKind::Name))),
            ("1e100", Ok(("1e100", HostKind::Name))),
            ("0xyz", Ok(("0xyz", HostKind::Name))),
            ("", Err(HostFault::Empty)),
            (".", Err(HostFault::Empty)),
            ("127.1", Err(HostFault::Numeric)),
            ("127.1.", Err(HostFault::Numeric)),
            ("0x7f.1", Err(HostFault::Numeric)),
            ("0X7F000001", Err(HostFault::Numeric)),
            ("2130706433", Err(HostFault::Numeric)),
            ("0177.0.0.1", Err(HostFault::Numeric)),
            ("127.0.0.01", Err(HostFault::Numeric)),
            ("127.0.0.256", Err(HostFault::Numeric)),
            ("1.2.3.4.5", Err(HostFault::Numeric)),
            ("0x", Err(HostFault::Numeric)),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(spelt, want)| {
                let got = host(spelt);
                let want = want.map(|(text, kind)| Host { text: text.into(), kind });
                (got != want).then(|| format!("{spelt}: {got:?}, want {want:?}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
