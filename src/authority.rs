//! Hosts: read from an authority, and brought into one spelling.
//!
//! Cookies and mounts both read hosts here, so that a host is the same to both.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use http::Uri;

/// The longest name of the DNS (RFC 1035 section 2.3.4).
const MAX_HOST: usize = 255;

/// Splits an authority into the host as it is spelt, and the text after the port's colon if there
/// is a colon. An IPv6 address keeps its brackets. Userinfo is dropped.
///
/// The text of the port is not checked. [`Uri::port`] checks it, but returns `None` for a missing
/// port and for a wrong one alike.
pub(crate) fn split(authority: &str) -> (&str, Option<&str>) {
    // The last `@` ends the userinfo, as in `Uri::host`: a client connects to the host after it.
    let authority = authority.rsplit_once('@').map_or(authority, |(_, behind)| behind);
    let colon = if authority.starts_with('[') {
        // Only a colon directly after the bracket begins a port. After anything else the whole text
        // is the host, and `canonical` refuses it.
        authority.find(']').map(|at| at + 1).filter(|at| authority[*at..].starts_with(':'))
    } else {
        authority.find(':')
    };
    match colon {
        Some(at) => (&authority[..at], Some(&authority[at + 1..])),
        None => (authority, None),
    }
}

/// The canonical spelling of a host: lower case, without one trailing dot, and IPv6 as in RFC 5952
/// section 4. `None` for a text that names no host: it has an empty label, is too long, or has a
/// byte that no URI has in its host.
///
/// Borrows if the host is spelt so already, as nearly all are.
pub(crate) fn canonical(host: &str) -> Option<Cow<'_, str>> {
    // The dot of the DNS root: `example.com.` names the same host.
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > MAX_HOST || host.split('.').any(str::is_empty) {
        return None;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // `Ipv6Addr` does not parse an address with a zone: see `zoned`.
        let spelt = format!("[{}]", address.parse::<Ipv6Addr>().ok()?);
        return Some(if spelt == host { Cow::Borrowed(host) } else { Cow::Owned(spelt) });
    }
    // RFC 3986 section 3.2.2 allows fewer bytes, but resolvers look up others too, such as the `_`
    // of a service's name.
    if !host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#\\:[]".contains(&byte)) {
        return None;
    }
    Some(lower(host))
}

/// The canonical spelling of an IPv6 address with a zone (RFC 6874). `None` for every other host.
///
/// Separate from [`canonical`]: a zone names an interface of this machine. It means something to a
/// client that connects, and nothing to cookies.
///
/// The zone keeps its case, since `eth0` and `ETH0` are two interfaces. A bare `%` is read as
/// `%25`, as RFC 6874 section 3 asks.
pub(crate) fn zoned(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let (address, zone) = host.strip_prefix('[')?.strip_suffix(']')?.split_once('%')?;
    let zone = zone.strip_prefix("25").unwrap_or(zone);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte);
    if zone.is_empty() || host.len() > MAX_HOST || !zone.bytes().all(fits) {
        return None;
    }
    Some(format!("[{}%25{zone}]", address.parse::<Ipv6Addr>().ok()?))
}

/// The text with its ASCII letters in lower case. Borrows if they already are.
pub(crate) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// The host and port of an authority whose host is canonical already, and whose port is missing or
/// digits. The result is that of [`split`] and [`canonical`], at a fraction of their cost. `None`
/// for any other authority, and for a few canonical hosts, such as one with a `_`.
///
/// `authority` is that of a [`Uri`]: ASCII, without control characters, space, `/`, `?` and `#`.
///
/// Nearly every authority is plain, and both wings read one for each request.
pub(crate) fn plain(authority: &str) -> Option<(&str, Option<&str>)> {
    // From the end: a search for the colon would cost more than all the rest.
    let before = authority.trim_end_matches(|last: char| last.is_ascii_digit());
    let (host, port) = match before.strip_suffix(':') {
        Some(host) => (host, Some(&authority[before.len()..])),
        None => (authority, None),
    };
    is_plain(host.as_bytes()).then_some((host, port))
}

/// Whether a host has no empty label, no dot at its end, no `:`, and no byte from `@` to `_`: the
/// end of userinfo, capitals and brackets.
///
/// Looks at eight bytes at once: a loop over bytes adds 250 instructions to a look-up of 23 bytes.
/// No byte of ASCII has its high bit set, so that bit is used for each byte's answer.
fn is_plain(host: &[u8]) -> bool {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = EACH << 7;
    const fn is(byte: u8, word: u64) -> u64 {
        !(word ^ (EACH * byte as u64)).wrapping_add(!HIGH)
    }
    let mut odd = 0;
    let mut look_at = |word: u64, dot_before: u64| {
        let dots = is(b'.', word) & HIGH;
        // From `@` to `_`: bit 6 without bit 5.
        odd |= is(b':', word) | (word << 1 & !word << 2) | dots & (dots << 8 | dot_before);
        dots >> 56
    };
    // As if there were a dot before the first byte: a dot as the first byte ends an empty label.
    let first_dot = 0x80;
    let (words, rest) = host.as_chunks();
    words.iter().fold(first_dot, |dot, word| look_at(u64::from_le_bytes(*word), dot));
    match host.last_chunk() {
        // The rest is the end of a whole word, which saves 30 instructions compared with a loop.
        // The word's first byte was compared with the byte before it already.
        Some(last) => look_at(u64::from_le_bytes(*last), 0),
        None => {
            look_at(rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)), first_dot)
        }
    };
    odd & HIGH == 0 && host.last().is_some_and(|last| *last != b'.') && host.len() <= MAX_HOST
}

/// Whether the last label of a canonical host is a number, so that resolvers may read the host as
/// an address: `127.1`, `0x7f.1`, `2130706433`, and `1.2.3.4` too.
///
/// This is the "ends in a number checker" of the WHATWG URL Standard, where `0x` is a number.
pub(crate) fn is_number(host: &str) -> bool {
    // Most names end in a letter past `f`, which settles it without a search for the last dot.
    if !host.ends_with(|last: char| last.is_ascii_hexdigit() || last == 'x') {
        return false;
    }
    let last = host.rsplit_once('.').map_or(host, |(_, last)| last);
    match last.strip_prefix("0x") {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// A URI for messages and events, without userinfo, query and fragment: they may be secrets.
pub(crate) struct Redacted<'a>(pub(crate) &'a Uri);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.0.scheme_str() {
            write!(f, "{scheme}://")?;
        }
        // Not `Uri::host` and `Uri::port`: a port past 65535 would be missing from the error about
        // it.
        let authority = self.0.authority().map_or("", |authority| authority.as_str());
        f.write_str(authority.rsplit_once('@').map_or(authority, |(_, behind)| behind))?;
        f.write_str(self.0.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_the_text_of_a_port() {
        let rows = [
            ("h", ("h", None)),
            ("h:1", ("h", Some("1"))),
            ("h:", ("h", Some(""))),
            ("h:99999", ("h", Some("99999"))),
            ("h:1:2", ("h", Some("1:2"))),
            ("H.example.", ("H.example.", None)),
            ("u@h", ("h", None)),
            ("u:p@h:1", ("h", Some("1"))),
            ("u@v@h", ("h", None)),
            ("a@b:c@h:1", ("h", Some("1"))),
            ("h@", ("", None)),
            (":80", ("", Some("80"))),
            ("[::1]", ("[::1]", None)),
            ("[::1]:80", ("[::1]", Some("80"))),
            ("[::1]:", ("[::1]", Some(""))),
            ("u:p@[::1]:8", ("[::1]", Some("8"))),
            ("[::1]80", ("[::1]80", None)),
            ("[::1]x:80", ("[::1]x:80", None)),
            ("[::1", ("[::1", None)),
            ("h%5C@n", ("n", None)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, want)| (text, split(text), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_host_of_an_authority_is_the_one_that_clients_connect_to() {
        let rows = [
            "h",
            "h:1",
            "h:",
            "u@h",
            "u:p@h:1",
            "u@v@h",
            "a@b:c@h:1",
            "[::1]",
            "[::1]:80",
            "u:p@[::1]:8",
            "h%5C@n",
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|text| text.parse::<http::uri::Authority>().unwrap())
            .filter(|authority| split(authority.as_str()).0 != authority.host())
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn hosts_have_one_spelling() {
        let (longest, longer) = ("a".repeat(255), "a".repeat(256));
        let rows = [
            ("example.com", Some("example.com")),
            ("EXAMPLE.Com.", Some("example.com")),
            ("example.com..", None),
            (".example.com", None),
            ("a..example.com", None),
            (".", None),
            ("", None),
            ("a,b_c~d%2f.com", Some("a,b_c~d%2f.com")),
            ("127.1", Some("127.1")),
            ("[0:0:0:0:0:0:0:1]", Some("[::1]")),
            ("[2001:DB8::0:1]", Some("[2001:db8::1]")),
            ("[::ffff:1.2.3.4]", Some("[::ffff:1.2.3.4]")),
            ("[::1].", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            ("[::1]80", None),
            ("[example.com]", None),
            ("[fe80::1%25eth0]", None),
            ("[v1.a]", None),
            ("[", None),
            ("[]", None),
            ("example.com[]", None),
            ("::1", None),
            ("a b", None),
            ("a:1", None),
            ("a@b", None),
            ("a/b", None),
            ("a\\b", None),
            ("b\u{fc}cher.example", None),
            (&longest, Some(&longest)),
            (&longer, None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(host, want)| (host, canonical(host), want))
            .filter(|(_, got, want)| got.as_deref() != **want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn addresses_with_a_zone_have_one_spelling() {
        let rows = [
            ("[fe80::1%25eth0]", Some("[fe80::1%25eth0]")),
            ("[FE80:0::1%25eth0]", Some("[fe80::1%25eth0]")),
            ("[fe80::1%eth0]", Some("[fe80::1%25eth0]")),
            ("[fe80::1%25eth0].", Some("[fe80::1%25eth0]")),
            ("[fe80::1%25ETH0]", Some("[fe80::1%25ETH0]")),
            ("[fe80::1%25eth0.100]", Some("[fe80::1%25eth0.100]")),
            ("[fe80::1%25a%2Db]", Some("[fe80::1%25a%2Db]")),
            ("[fe80::1%251]", Some("[fe80::1%251]")),
            ("[fe80::1%25]", None),
            ("[fe80::1%]", None),
            ("[fe80::1%25a:b]", None),
            ("[fe80::1%25a b]", None),
            ("[fe80::1]", None),
            ("[1.2.3.4%25eth0]", None),
            ("fe80::1%25eth0", None),
            ("h%25eth0", None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(host, want)| (host, zoned(host), want))
            .filter(|(_, got, want)| got.as_deref() != **want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_host_in_its_one_spelling_is_borrowed() {
        let rows = ["example.com", "example.com.", "[::1]", "1.2.3.4", "a_b-c~d"];
        let wrong: Vec<_> =
            rows.iter().filter(|host| !matches!(canonical(host), Some(Cow::Borrowed(_)))).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_short_way_through_an_authority_ends_where_the_long_way_does() {
        let pieces =
            ["", "a", "ex.com", "EX.com", "u:p@", "@", "[::1]", "1", "0x7f.1", "a_b", "~!", ":"];
        let dots = ["", ".", "..", ".example.com", ".12"];
        let ports = ["", ":", ":80", ":0443", ":99999", ":x", ":+1", ":1:2", "80", ":80@h"];
        let mut authorities = vec!["a".repeat(255), "a".repeat(256), "a".repeat(255) + ":80"];
        for first in pieces {
            for second in pieces {
                for dot in dots {
                    authorities
                        .extend(ports.iter().map(|port| format!("{first}{second}{dot}{port}")));
                }
            }
        }
        // Every byte in every place of two words and a half, and beside dots.
        for place in 0..20 {
            for byte in (0x21..0x7f).map(char::from) {
                let (before, behind) = ("x".repeat(place), "y".repeat(19 - place));
                authorities.extend([
                    format!("{before}{byte}{behind}"),
                    format!("{before}.{byte}{behind}"),
                    format!("{before}{byte}.{behind}"),
                    format!("{before}{byte}"),
                ]);
            }
        }
        authorities.retain(|text| text.parse::<http::uri::Authority>().is_ok());
        let long = |authority| {
            let (host, port) = split(authority);
            Some((canonical(host)?, port))
        };
        let (short, wrong): (Vec<_>, Vec<_>) = authorities
            .iter()
            .filter_map(|text| Some((text, plain(text)?)))
            .partition(|(text, (host, port))| long(text) == Some((Cow::Borrowed(*host), *port)));
        assert!(wrong.is_empty(), "{wrong:?}");
        assert!(short.len() > 1_500, "only {} took the short way", short.len());

        let rows = ["h", "h:80", "h:", "api.example.com", "a.b.c.d:8080", "1.2.3.4", "x-y.test"];
        let wrong: Vec<_> = rows.iter().filter(|text| plain(text).is_none()).collect();
        assert!(wrong.is_empty(), "took the long way: {wrong:?}");
    }

    #[test]
    fn a_number_as_last_label_may_be_an_address() {
        let rows = [
            ("10.0.0.1", true),
            ("127.1", true),
            ("2130706433", true),
            ("0x7f000001", true),
            ("0x7f.1", true),
            ("10.0.0.0xf", true),
            ("a.0x", true),
            ("0x", true),
            ("a.1", true),
            ("[::1]", false),
            ("example.com", false),
            ("feed.cafe", false),
            ("a.bad", false),
            ("x10", false),
            ("x", false),
            ("a.1x10", false),
            ("a.10x1", false),
            ("a.0xg", false),
            ("1.example", false),
            ("localhost", false),
        ];
        let wrong: Vec<_> = rows.iter().filter(|(host, want)| is_number(host) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn userinfo_and_query_are_not_shown() {
        let rows = [
            ("http://u:secret@h:8080/p?token=secret", "http://h:8080/p"),
            ("https://h/?token=secret", "https://h/"),
            ("http://u:secret@h:99999/", "http://h:99999/"),
            ("http://secret@[::1]:80/", "http://[::1]:80/"),
            ("/p?token=secret", "/p"),
            ("h:443", "h:443"),
            ("*", "*"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(uri, want)| (Redacted(&uri.parse().unwrap()).to_string(), want))
            .filter(|(got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
