//! What a URI says about cookies: its host in canonical form, its path, and whether it is secure.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use http::Uri;

/// The parts of a request URI that cookies go by, as they go over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    /// Lower case, without one trailing dot; IPv6 in brackets and in its canonical form.
    pub(super) host: Cow<'a, str>,
    /// Neither decoded nor normalised.
    pub(super) path: &'a str,
    /// https, wss, or a host that is this machine.
    pub(super) secure: bool,
    /// Whether the host was spelt with the dot of the root, so that a `Domain` may be too.
    pub(super) rooted: bool,
}

impl<'a> Origin<'a> {
    /// `None` for a URI without a host or without a scheme: no cookies in or out.
    pub(super) fn of(uri: &'a Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?;
        let spelt = uri.host()?;
        let host = canonical(spelt)?;
        let secure = scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss") || is_loopback(&host);
        Some(Self { host, path: uri.path(), secure, rooted: spelt.ends_with('.') })
    }

    pub(super) fn default_path(&self) -> &'a str {
        default_path(self.path)
    }
}

/// RFC 6265bis section 5.1.4: up to, but without, the last slash.
pub(super) fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(end) if end > 0 && path.starts_with('/') => &path[..end],
        _ => "/",
    }
}

/// Longest name of the DNS, and then some.
const MAX_HOST: usize = 255;

/// The canonical form of a host or a cookie's domain; `None` for what no host is called: an empty label, or too long.
///
/// Borrows where the host is canonical already, which it nearly always is.
pub(super) fn canonical(host: &str) -> Option<Cow<'_, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() > MAX_HOST {
        return None;
    }
    // One walk: a label is empty where a dot, or the end, follows a dot.
    let (mut before, mut capitals) = (b'.', false);
    for byte in host.bytes() {
        if byte == b'.' && before == b'.' {
            return None;
        }
        capitals |= byte.is_ascii_uppercase();
        before = byte;
    }
    if before == b'.' {
        return None;
    }
    if let Some(address) = ipv6(host) {
        let text = format!("[{address}]");
        return Some(if text == host { Cow::Borrowed(host) } else { Cow::Owned(text) });
    }
    Some(if capitals { Cow::Owned(host.to_ascii_lowercase()) } else { Cow::Borrowed(host) })
}

/// The canonical form of a domain that a person wrote, a leading dot dropped; `None` for what names no host.
pub(super) fn written_domain(domain: &str) -> Option<Cow<'_, str>> {
    let domain = canonical(domain.strip_prefix('.').unwrap_or(domain))?;
    let is_name = domain.bytes().all(|byte| byte.is_ascii_graphic() && !b"/@?#\\:[]*,;".contains(&byte));
    (is_name || ipv6(&domain).is_some()).then_some(domain)
}

/// Whether a canonical host has no parent domain that it could share cookies with.
///
/// Besides addresses: names whose last label is a number, since resolvers read `127.1` or `0x7f.1` as an address.
pub(super) fn stands_alone(host: &str) -> bool {
    // No number ends in another letter, so this settles most names.
    if !host.ends_with(|last: char| last.is_ascii_hexdigit() || last == ']' || last == 'x') {
        return host.is_empty();
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    host.starts_with('[') || numeric
}

/// Whether `host` is `domain` or one of its subdomains; both canonical (RFC 6265bis section 5.1.3).
pub(super) fn domain_match(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => true,
        Some(rest) => rest.ends_with('.') && !stands_alone(host),
        None => false,
    }
}

/// RFC 6265bis section 5.1.4, on the raw bytes.
pub(super) fn path_match(request: &[u8], cookie: &[u8]) -> bool {
    match request.strip_prefix(cookie) {
        Some(rest) => rest.is_empty() || cookie.ends_with(b"/") || rest.starts_with(b"/"),
        None => false,
    }
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn is_loopback(host: &str) -> bool {
    if let Some(address) = ipv6(host) {
        return IpAddr::from(address).is_loopback();
    }
    host == "localhost"
        || host.ends_with(".localhost")
        || (host.starts_with("127.") && host.parse::<Ipv4Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_one_spelling() {
        let rows = [
            ("example.com", Some("example.com")),
            ("EXAMPLE.Com.", Some("example.com")),
            ("example.com..", None),
            (".example.com", None),
            ("a..example.com", None),
            ("[0:0:0:0:0:0:0:1]", Some("[::1]")),
            ("[::1]", Some("[::1]")),
            (".", None),
            ("", None),
        ];
        let wrong: Vec<_> = rows.iter().filter(|(host, want)| canonical(host).as_deref() != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn only_tls_and_this_machine_are_secure() {
        let rows = [
            ("https://example.com/", true),
            ("HTTPS://example.com/", true),
            ("wss://example.com/", true),
            ("http://example.com/", false),
            ("ws://example.com/", false),
            ("http://localhost:3000/", true),
            ("http://app.LOCALHOST/", true),
            ("http://127.0.0.1/", true),
            ("http://127.255.0.9:8080/", true),
            ("http://[::1]/", true),
            ("http://127.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://localhost.example.com/", false),
            ("http://notlocalhost/", false),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(uri, want)| Origin::of(&uri.parse().unwrap()).unwrap().secure != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_domain_covers_its_subdomains_and_nothing_else() {
        let rows = [
            ("example.com", "example.com", true),
            ("a.b.example.com", "example.com", true),
            ("notexample.com", "example.com", false),
            ("example.com", "a.example.com", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "0.0.1", false),
            ("5.127.1", "127.1", false),
        ];
        let wrong: Vec<_> = rows.iter().filter(|(host, domain, want)| domain_match(host, domain) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn paths_match_on_segments_and_default_to_the_folder() {
        let rows = [
            ("/", "/", true),
            ("/a", "/", true),
            ("/a/b", "/a", true),
            ("/a/b", "/a/", true),
            ("/a", "/a/", false),
            ("/ab", "/a", false),
            ("/A", "/a", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(path, cookie, want)| path_match(path.as_bytes(), cookie.as_bytes()) != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        let rows = [("/", "/"), ("/a", "/"), ("/a/", "/a"), ("/a/b?q=/c/d", "/a"), ("?q", "/"), ("//a", "/")];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(path, want)| {
                let uri = format!("http://h{path}").parse().unwrap();
                Origin::of(&uri).unwrap().default_path() != *want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_host_is_what_stands_behind_the_userinfo() {
        let uri = "https://example.com%5C@example.net/".parse().unwrap();
        assert_eq!(Origin::of(&uri).unwrap().host, "example.net");
        assert_eq!(Origin::of(&"/relative".parse().unwrap()), None);
        assert_eq!(Origin::of(&"example.com:443".parse().unwrap()), None);
    }
}
