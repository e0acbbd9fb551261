//! What a URI says to the rules of cookies: its host in its one spelling, its path, and whether it
//! is secure.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::Uri;

use super::path::default_path;
use crate::authority;

/// The parts of a request's URI that the rules look at, as they are sent.
///
/// Nothing is normalised: a server may tell `/pub/../admin` from `/admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cookie) struct Origin<'a> {
    /// Lower case, without one trailing dot; IPv6 in brackets and in its canonical form.
    pub(in crate::cookie) host: Cow<'a, str>,
    pub(in crate::cookie) path: &'a str,
    /// Whether the scheme is https or wss.
    pub(super) is_tls: bool,
    /// Whether the scheme is one of these, or the host is this machine.
    pub(in crate::cookie) secure: bool,
    /// Whether the host was spelt with the dot of the root, so that a `Domain` may be too.
    pub(super) rooted: bool,
}

impl<'a> Origin<'a> {
    /// `None` for a URI without a host, or without a scheme that has cookies: none go in or out.
    pub(in crate::cookie) fn of(uri: &'a Uri) -> Option<Self> {
        Self::read(uri, |_| false)
    }

    /// As [`of`](Self::of), for a caller who trusts more hosts.
    pub(in crate::cookie) fn trusting(uri: &'a Uri, hosts: &SecureHosts) -> Option<Self> {
        Self::read(uri, |host| hosts.has(host))
    }

    fn read(uri: &'a Uri, is_trusted: impl Fn(&str) -> bool) -> Option<Self> {
        let is_tls = is_tls(uri.scheme_str()?)?;
        let authority = uri.authority()?.as_str();
        let (spelt, host) = match authority::plain(authority) {
            Some((host, _)) => (host, Cow::Borrowed(host)),
            // A capital, userinfo, an address in brackets, or a host that is none.
            None => {
                let (spelt, _) = authority::split(authority);
                (spelt, authority::canonical(spelt)?)
            }
        };
        let rooted = spelt.ends_with('.');
        // Nearly every request is secure by its scheme.
        let secure = is_tls || is_loopback(spelt, &host) || is_trusted(&host);
        Some(Self { host, path: uri.path(), is_tls, secure, rooted })
    }

    pub(in crate::cookie) fn default_path(&self) -> &'a str {
        default_path(self.path)
    }
}

/// The one spelling of a domain that is not part of a URI: a leading dot is dropped, and an IPv6
/// address may come without its brackets.
pub(in crate::cookie) fn spelt_domain(domain: &str) -> Option<Cow<'_, str>> {
    // One dot, as in a `Domain` attribute (RFC 6265bis section 5.6.3). Files write it too.
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    match domain.parse::<Ipv6Addr>() {
        Ok(address) => Some(Cow::Owned(format!("[{address}]"))),
        Err(_) => authority::canonical(domain),
    }
}

/// As [`spelt_domain`], for a domain that a person wrote. `None` for what names no host.
pub(in crate::cookie) fn written_domain(domain: &str) -> Option<Cow<'_, str>> {
    let domain = spelt_domain(domain)?;
    // A URI's host may hold these, but a person who writes them means a pattern or a list, and
    // would wonder why it matches nothing.
    (!domain.contains(['*', ',', ';'])).then_some(domain)
}

/// Whether a canonical host is an address, so that it has no parent domain to share cookies with.
pub(in crate::cookie) fn stands_alone(host: &str) -> bool {
    // Resolvers read `127.1` and `0x7f.1` as addresses too. If `5.127.1` were a subdomain of
    // `127.1`, it could set cookies for this machine.
    host.starts_with('[') || authority::is_number(host)
}

/// Whether `host` is `domain` or one of its subdomains (RFC 6265bis section 5.1.3). Both are
/// canonical.
pub(in crate::cookie) fn domain_match(host: &str, domain: &str) -> bool {
    match host.strip_suffix(domain) {
        Some("") => true,
        Some(rest) => rest.ends_with('.') && !stands_alone(host),
        None => false,
    }
}

/// Whether a scheme that has cookies is one over TLS. `None` for any other, as in browsers: what
/// `ftp:` or `unix:` answers is no word of the site that http asks for under the same name.
fn is_tls(scheme: &str) -> Option<bool> {
    match scheme {
        "https" => Some(true),
        "http" => Some(false),
        // `http` parses its own two schemes in any case, but not those that it does not know.
        other if other.eq_ignore_ascii_case("wss") => Some(true),
        other if other.eq_ignore_ascii_case("ws") => Some(false),
        _ => None,
    }
}

fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// Whether a host is this very machine, which no one on the way can listen to or pose as.
fn is_loopback(spelt: &str, host: &str) -> bool {
    if let Some(address) = ipv6(host) {
        return IpAddr::from(address).is_loopback();
    }
    // As it is spelt here: resolvers find this name in the file of hosts. glibc asks the DNS for
    // `localhost.` and `a.localhost`, and musl for `LOCALHOST` too, so a stranger may answer.
    spelt == "localhost" || (host.starts_with("127.") && host.parse::<Ipv4Addr>().is_ok())
}

/// Hosts that are secure over http too, because the caller says so.
#[derive(Clone, Debug, Default)]
pub(in crate::cookie) struct SecureHosts {
    pub(in crate::cookie) localhost_names: bool,
    /// Canonical. `None` for no list, which takes no memory of its own.
    pub(in crate::cookie) hosts: Option<Arc<[Box<str>]>>,
}

impl SecureHosts {
    /// The hosts among what a person wrote. Anything else names no host, and is trusted nowhere.
    pub(in crate::cookie) fn list<H: AsRef<str>>(
        written: impl IntoIterator<Item = H>,
    ) -> Option<Arc<[Box<str>]>> {
        let host = |host: H| {
            // With a dot before it a person means subdomains, which are not exact hosts.
            let host = Some(host.as_ref()).filter(|host| !host.starts_with('.'))?;
            Some(Box::from(&*written_domain(host)?))
        };
        let hosts: Arc<[_]> = written.into_iter().filter_map(host).collect();
        (!hosts.is_empty()).then_some(hosts)
    }

    fn has(&self, host: &str) -> bool {
        let is_localhost = || host == "localhost" || host.ends_with(".localhost");
        let mut listed = self.hosts.iter().flat_map(|hosts| hosts.iter());
        self.localhost_names && is_localhost() || listed.any(|listed| **listed == *host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_may_be_spelt_with_a_dot_or_without_brackets() {
        let rows = [
            (".Example.com", Some("example.com")),
            ("example.com.", Some("example.com")),
            ("..example.com", None),
            ("::1", Some("[::1]")),
            ("2001:DB8:0::1", Some("[2001:db8::1]")),
            ("[::1]", Some("[::1]")),
            (".::1", Some("[::1]")),
            ("::1:x", None),
            (".", None),
            ("", None),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(domain, want)| spelt_domain(domain).as_deref() != *want).collect();
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
            ("http://u:p@localhost/", true),
            ("https://localhost./", true),
            ("http://localhost./", false),
            ("http://LOCALHOST/", false),
            ("http://app.localhost/", false),
            ("http://app.localhost:3000/", false),
            ("http://127.0.0.1/", true),
            ("http://127.255.0.9:8080/", true),
            ("http://[::1]/", true),
            ("http://127.1/", false),
            ("http://127.0.0.1.example.com/", false),
            ("http://localhost.example.com/", false),
            ("http://notlocalhost/", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(uri, want)| Origin::of(&uri.parse().unwrap()).unwrap().secure != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_caller_trusts_names_of_localhost_and_exact_hosts() {
        let names = SecureHosts { localhost_names: true, hosts: None };
        let written = ["db.Internal.", "::1", "fd00::1", ".sub.example", "*.example", "h:80", ""];
        let listed = SecureHosts { localhost_names: false, hosts: SecureHosts::list(written) };
        let none = SecureHosts { localhost_names: false, hosts: SecureHosts::list(["*", "a b"]) };
        let rows = [
            (&names, "http://localhost./", true),
            (&names, "http://LOCALHOST/", true),
            (&names, "http://app.localhost/", true),
            (&names, "http://a.app.localhost.:3000/", true),
            (&names, "http://notlocalhost/", false),
            (&names, "http://localhost.example/", false),
            (&names, "http://db.internal/", false),
            (&listed, "http://db.internal/", true),
            (&listed, "http://DB.internal.:8080/", true),
            (&listed, "http://[fd00:0::1]/", true),
            (&listed, "http://a.db.internal/", false),
            (&listed, "http://internal/", false),
            (&listed, "http://sub.example/", false),
            (&listed, "http://x.example/", false),
            (&listed, "http://h/", false),
            (&listed, "http://app.localhost/", false),
            (&none, "http://a/", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(hosts, uri, want)| {
                let uri = uri.parse().unwrap();
                (Origin::trusting(&uri, hosts).unwrap().secure, uri, want)
            })
            .filter(|(got, _, want)| got != *want)
            .collect();
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
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(host, domain, want)| domain_match(host, domain) != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn an_address_stands_alone_however_it_is_spelt() {
        let rows = [
            ("10.0.0.1", true),
            ("127.1", true),
            ("2130706433", true),
            ("0x7f000001", true),
            ("0x7f.1", true),
            ("10.0.0.0xf", true),
            ("a.0x", true),
            ("[::1]", true),
            ("example.com", false),
            ("feed.cafe", false),
            ("a.bad", false),
            ("x10", false),
            ("a.1x10", false),
            ("a.10x1", false),
            ("1.example", false),
            ("localhost", false),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(host, want)| stands_alone(host) != *want).collect();
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
