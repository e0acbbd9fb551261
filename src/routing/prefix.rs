//! Mount prefixes: `scheme://host[:port][/path]`, parsed into components and normalised.

use super::{
    error::Fault,
    normal::{self, HostFault, HostKind},
};

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// Lower case; `None` for `any`.
    pub(super) scheme: Option<String>,
    pub(super) host: HostRule,
    pub(super) port: PortRule,
    /// As [`normal::path`] writes it.
    pub(super) path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum HostRule {
    Exact(String),
    /// The subdomains of this name, without the name itself.
    Below(String),
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PortRule {
    Number(u16),
    /// The default of a scheme that the prefix does not know: `any`, or one without a registered port.
    Default,
    Any,
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let (scheme, rest) = text.split_once("://").ok_or(Fault::NoScheme)?;
        let scheme = parse_scheme(scheme)?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(Fault::Userinfo);
        }
        match path.find(['?', '#']).map(|at| path.as_bytes()[at]) {
            Some(b'?') => return Err(Fault::Query),
            Some(_) => return Err(Fault::Fragment),
            None => {}
        }
        if authority.is_empty() && path.is_empty() {
            return Ok(Self { scheme, host: HostRule::Any, port: PortRule::Any, path: String::new() });
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => PortRule::Default,
        };
        // `https://h` and `https://h:443` are one prefix.
        let port = match (port, scheme.as_deref().and_then(normal::default_port)) {
            (PortRule::Default, Some(number)) => PortRule::Number(number),
            _ => port,
        };
        Ok(Self { scheme, host, port, path: parse_path(path)? })
    }
}

fn parse_scheme(scheme: &str) -> Result<Option<String>, Fault> {
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if !is_scheme {
        return Err(Fault::Scheme);
    }
    let scheme = scheme.to_ascii_lowercase();
    Ok((scheme != "any").then_some(scheme))
}

fn split_port(authority: &str) -> Result<(&str, Option<&str>), Fault> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']').ok_or(Fault::Ipv6)? + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Fault::Ipv6),
        };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(Fault::Ipv6),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

fn parse_port(port: &str) -> Result<PortRule, Fault> {
    match port {
        "*" => Ok(PortRule::Any),
        // `u16::from_str` takes a plus sign as well.
        _ if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse().map(PortRule::Number).map_err(|_| Fault::Port)
        }
        _ => Err(Fault::Port),
    }
}

fn parse_host(text: &str) -> Result<HostRule, Fault> {
    if !text.is_ascii() {
        return Err(Fault::NonAsciiHost);
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, text),
    };
    if name.contains('*') {
        return Err(Fault::Wildcard);
    }
    let host = normal::host(name).map_err(|fault| match fault {
        HostFault::Empty if wildcard => Fault::Wildcard,
        HostFault::Empty => Fault::NoHost,
        HostFault::Numeric => Fault::NumericHost,
    })?;
    match host.kind {
        HostKind::Opaque if host.text.starts_with('[') => Err(Fault::Ipv6),
        HostKind::Opaque => Err(Fault::Host),
        // An address has no subdomains.
        HostKind::Address if wildcard => Err(Fault::Wildcard),
        HostKind::Address => Ok(HostRule::Exact(host.text.into_owned())),
        // The underscore is in no host name, but in many a container's.
        HostKind::Name
            if !host.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) =>
        {
            Err(Fault::Host)
        }
        HostKind::Name if wildcard => Ok(HostRule::Below(host.text.into_owned())),
        HostKind::Name => Ok(HostRule::Exact(host.text.into_owned())),
    }
}

fn parse_path(path: &str) -> Result<String, Fault> {
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'%' if normal::escaped_byte(&path.as_bytes()[at..]).is_none() => return Err(Fault::Escape),
            b'%' => {}
            // Beyond ASCII, a path is compared as its escapes, which is how it is sent.
            _ if !byte.is_ascii() || normal::is_path_byte(byte) => {}
            _ => return Err(Fault::Path),
        }
    }
    if path.split('/').any(|segment| segment == "*") {
        return Err(Fault::PathWildcard);
    }
    Ok(normal::path(path).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(scheme: &str, host: &str, port: PortRule, path: &str) -> Prefix {
        let scheme = (scheme != "any").then(|| scheme.to_owned());
        Prefix { scheme, host: HostRule::Exact(host.to_owned()), port, path: path.to_owned() }
    }

    #[test]
    fn prefixes_are_parsed_into_components() {
        use PortRule::{Any, Default, Number};
        let whole = |scheme: Option<&str>| Prefix {
            scheme: scheme.map(str::to_owned),
            host: HostRule::Any,
            port: Any,
            path: String::new(),
        };
        let below = |host: &str, path: &str| Prefix {
            host: HostRule::Below(host.to_owned()),
            ..exact("https", "", Number(443), path)
        };
        let rows = [
            ("https://", whole(Some("https"))),
            ("any://", whole(None)),
            ("HTTPS://API.Ex.com", exact("https", "api.ex.com", Number(443), "")),
            ("http://h/", exact("http", "h", Number(80), "")),
            ("http://h:80", exact("http", "h", Number(80), "")),
            ("http://h:0080", exact("http", "h", Number(80), "")),
            ("http://h:8080/", exact("http", "h", Number(8080), "")),
            ("http://h:*", exact("http", "h", Any, "")),
            ("any://h", exact("any", "h", Default, "")),
            ("ANY://h:443", exact("any", "h", Number(443), "")),
            ("grpc+tls://h", exact("grpc+tls", "h", Default, "")),
            ("wss://h", exact("wss", "h", Number(443), "")),
            ("https://h./v1/", exact("https", "h", Number(443), "/v1")),
            ("https://h/Admin", exact("https", "h", Number(443), "/Admin")),
            ("https://h/a/../b/./%7Ec%2f", exact("https", "h", Number(443), "/b/~c%2F")),
            ("https://h/@me:x", exact("https", "h", Number(443), "/@me:x")),
            ("https://h//a", exact("https", "h", Number(443), "//a")),
            ("https://h/ü", exact("https", "h", Number(443), "/%C3%BC")),
            ("https://my_container", exact("https", "my_container", Number(443), "")),
            ("https://xn--bcher-kva.example", exact("https", "xn--bcher-kva.example", Number(443), "")),
            ("http://127.0.0.1", exact("http", "127.0.0.1", Number(80), "")),
            ("http://[0:0::1]", exact("http", "[::1]", Number(80), "")),
            ("http://[::1]:*/x", exact("http", "[::1]", Any, "/x")),
            ("https://*.Ex.com", below("ex.com", "")),
            ("https://*.ex.com./x", below("ex.com", "/x")),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(text, want)| {
                let got = Prefix::parse(text);
                (got.as_ref() != Ok(&want)).then(|| format!("{text}: {got:?}, want {want:?}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_faulty_prefix_is_refused_for_its_fault() {
        let rows = [
            ("", Fault::NoScheme),
            ("localhost", Fault::NoScheme),
            ("localhost:8080", Fault::NoScheme),
            ("https:/h", Fault::NoScheme),
            ("//h", Fault::NoScheme),
            ("://h", Fault::Scheme),
            ("*://h", Fault::Scheme),
            (" https://h", Fault::Scheme),
            ("1s://h", Fault::Scheme),
            ("u:p@h://x", Fault::Scheme),
            ("https://u:p@h", Fault::Userinfo),
            ("https://@h", Fault::Userinfo),
            ("https://h?q", Fault::Query),
            ("https://h/a?q#f", Fault::Query),
            ("https://h/#f", Fault::Fragment),
            ("https://?q", Fault::Query),
            ("https:///a", Fault::NoHost),
            ("https://:443", Fault::NoHost),
            ("https://./", Fault::NoHost),
            ("https://h:", Fault::Port),
            ("https://h:99999", Fault::Port),
            ("https://h:+80", Fault::Port),
            ("https://h:80*", Fault::Port),
            ("https://h:x", Fault::Port),
            ("https://::1", Fault::Ipv6),
            ("https://[::1", Fault::Ipv6),
            ("https://[::g]", Fault::Ipv6),
            ("https://[fe80::1%25eth0]", Fault::Ipv6),
            ("https://[::1]x:80", Fault::Ipv6),
            ("https://*", Fault::Wildcard),
            ("https://*.", Fault::Wildcard),
            ("https://*.*.com", Fault::Wildcard),
            ("https://a.*.com", Fault::Wildcard),
            ("https://*com", Fault::Wildcard),
            ("https://*.127.0.0.1", Fault::Wildcard),
            ("https://*.0.0.1", Fault::NumericHost),
            ("https://127.1", Fault::NumericHost),
            ("https://0x7f.1", Fault::NumericHost),
            ("https://bücher.example", Fault::NonAsciiHost),
            ("https://a..b", Fault::Host),
            ("https://.h", Fault::Host),
            ("https://a b", Fault::Host),
            ("https://example.com%5C", Fault::Host),
            ("https://h\\a", Fault::Path),
            ("https://h/a b", Fault::Path),
            ("https://h/{id}", Fault::Path),
            ("https://h/a\n", Fault::Path),
            ("https://h/%", Fault::Escape),
            ("https://h/%2", Fault::Escape),
            ("https://h/%zz", Fault::Escape),
            ("https://h/api/*", Fault::PathWildcard),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(text, want)| {
                let got = Prefix::parse(text);
                (got.as_ref() != Err(&want)).then(|| format!("{text}: {got:?}, want {want:?}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
