//! Mount prefixes and request URIs, taken apart and brought into one spelling. Components are compared, never strings.

use std::{
    borrow::Cow,
    error, fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::Uri;

/// A mount prefix in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    /// `None` for `any`.
    pub(super) scheme: Option<Box<str>>,
    pub(super) host: Host,
    pub(super) port: Port,
    /// Empty, or a normalised path without its trailing slash.
    pub(super) path: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Exact(Box<str>),
    /// The subdomains of a domain, not the domain itself.
    Under(Box<str>),
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// That of the request's scheme.
    Default,
    Number(u16),
    Any,
}

/// A mount prefix that names nothing, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixError {
    prefix: String,
    fault: PrefixFault,
}

impl PrefixError {
    pub(super) fn new(prefix: &str, fault: PrefixFault) -> Self {
        Self { prefix: without_userinfo(prefix), fault }
    }

    /// The prefix, without userinfo.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is wrong with it.
    #[must_use]
    pub const fn fault(&self) -> PrefixFault {
        self.fault
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount prefix {:?}: {}", self.prefix, self.fault)
    }
}

impl error::Error for PrefixError {}

/// What is wrong with a mount prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefixFault {
    /// No `scheme://`.
    Scheme,
    /// A path or port without a host.
    EmptyHost,
    /// A host that is none.
    Host,
    /// A host that is not ASCII.
    NonAsciiHost,
    /// A number that is no address of four decimal octets.
    NumericHost,
    /// A `*` elsewhere than as the first label or the port.
    Wildcard,
    /// A port that is none.
    Port,
    /// A user name or password.
    Userinfo,
    /// A query.
    Query,
    /// A fragment.
    Fragment,
}

impl fmt::Display for PrefixFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it must begin with a scheme and `://`, such as `https://` or `any://`",
            Self::EmptyHost => "it has a port or path, but no host",
            Self::Host => "its host is not one",
            Self::NonAsciiHost => "its host is not ASCII: write it as A-labels, `xn--...`",
            Self::NumericHost => "its host is a number, but not an address of four decimal octets",
            Self::Wildcard => "a `*` can only be the first label of a host (`*.example.com`) or its port (`:*`)",
            Self::Port => "its port is not a number up to 65535, nor `*`",
            Self::Userinfo => "it cannot hold a user name or password",
            Self::Query => "it cannot hold a query",
            Self::Fragment => "it cannot hold a fragment",
        })
    }
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self, PrefixFault> {
        let (scheme, rest) = text.split_once("://").ok_or(PrefixFault::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic()) || !scheme.bytes().all(known) {
            return Err(PrefixFault::Scheme);
        }
        if rest.contains('#') {
            return Err(PrefixFault::Fragment);
        }
        if rest.contains('?') {
            return Err(PrefixFault::Query);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if authority.contains('@') {
            return Err(PrefixFault::Userinfo);
        }
        let scheme = (scheme != "any").then(|| scheme.into_boxed_str());
        let (host, port) = if authority.is_empty() {
            if !path.is_empty() {
                return Err(PrefixFault::EmptyHost);
            }
            (Host::Any, Port::Any)
        } else {
            let (host, port) = split_port(authority)?;
            (Host::parse(host)?, Port::parse(port, scheme.as_deref())?)
        };
        let path = normalised(path);
        Ok(Self { scheme, host, port, path: path.strip_suffix('/').unwrap_or(&path).into() })
    }
}

fn split_port(authority: &str) -> Result<(&str, &str), PrefixFault> {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    match port.strip_prefix(':') {
        _ if host.is_empty() => Err(PrefixFault::EmptyHost),
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, "")),
        None => Err(PrefixFault::Host),
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, PrefixFault> {
        if !text.is_ascii() {
            return Err(PrefixFault::NonAsciiHost);
        }
        let (under, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(PrefixFault::Wildcard);
        }
        let host = canonical_host(name).ok_or(PrefixFault::NumericHost)?;
        let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
        let is_name = host.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        let valid_v6 = host.starts_with('[') && host[1..host.len().max(2) - 1].parse::<Ipv6Addr>().is_ok();
        match (under, is_address) {
            (true, true) => Err(PrefixFault::Wildcard),
            (false, true) if valid_v6 || !host.starts_with('[') => Ok(Self::Exact(host.into())),
            (_, false) if is_name && under => Ok(Self::Under(host.into())),
            (_, false) if is_name => Ok(Self::Exact(host.into())),
            _ => Err(PrefixFault::Host),
        }
    }
}

impl Port {
    fn parse(text: &str, scheme: Option<&str>) -> Result<Self, PrefixFault> {
        match text {
            "" => Ok(Self::Default),
            "*" => Ok(Self::Any),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                let number = digits.parse().map_err(|_| PrefixFault::Port)?;
                // So that `https://h:443` and `https://h` are one prefix.
                Ok(if scheme.and_then(default_port) == Some(number) { Self::Default } else { Self::Number(number) })
            }
            _ => Err(PrefixFault::Port),
        }
    }
}

/// RFC 9110 section 4.2 and RFC 6455 section 3.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

/// Where a request goes, in the spelling of prefixes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target<'a> {
    pub(super) scheme: Cow<'a, str>,
    pub(super) host: Cow<'a, str>,
    /// `None` where the scheme has no default, and no port was given.
    pub(super) port: Option<u16>,
    pub(super) path: Cow<'a, str>,
}

/// A request URI that cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It has no scheme or no host, and there is no default origin.
    Relative,
    /// Its port is not a number up to 65535. `http::Uri` reads such a URI as one without a port.
    Port,
    /// Its host is a number, but not four decimal octets: resolvers read `127.1` as an address all the same.
    NumericHost,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "cannot route a relative URI: give it a scheme and host, or the layer a default origin",
            Self::Port => "cannot route a URI whose port is not a number up to 65535",
            Self::NumericHost => "cannot route to a host that is a number, but not four decimal octets",
        })
    }
}

impl error::Error for UriError {}

impl<'a> Target<'a> {
    /// `origin` lends its scheme, host and port to a relative URI.
    pub(super) fn of(uri: &'a Uri, origin: Option<&'a Uri>) -> Result<Self, UriError> {
        let base = match uri.scheme() {
            Some(_) => uri,
            // An authority without a scheme, as CONNECT has it, names no origin either.
            None if uri.authority().is_some() => return Err(UriError::Relative),
            None => origin.ok_or(UriError::Relative)?,
        };
        let (Some(scheme), Some(authority)) = (base.scheme_str(), base.authority()) else {
            return Err(UriError::Relative);
        };
        let scheme = lower(scheme);
        if authority.host().is_empty() {
            return Err(UriError::Relative);
        }
        let behind_userinfo = authority.as_str().rsplit('@').next().unwrap_or_default();
        let given = behind_userinfo[authority.host().len()..].strip_prefix(':').unwrap_or_default();
        let port = match (authority.port_u16(), given) {
            (Some(port), _) => Some(port),
            (None, "") => default_port(&scheme),
            (None, _) => return Err(UriError::Port),
        };
        let host = canonical_host(authority.host()).ok_or(UriError::NumericHost)?;
        Ok(Self { scheme, host, port, path: normalised(uri.path()) })
    }
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Lower case, without one trailing dot; IPv6 as RFC 5952 spells it. `None` for a number that is no address.
fn canonical_host(host: &str) -> Option<Cow<'_, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = inner.parse::<Ipv6Addr>()
    {
        let text = format!("[{address}]");
        return Some(if text == host { Cow::Borrowed(host) } else { Cow::Owned(text) });
    }
    let host = lower(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (!numeric || host.parse::<Ipv4Addr>().is_ok()).then_some(host)
}

/// A path without dot segments (RFC 3986 section 5.2.4) and without needless escapes (section 6.2.2). `%2F` stays, and so
/// do empty segments: servers may take either for something else.
pub(super) fn normalised(path: &str) -> Cow<'_, str> {
    let plain = !path.contains('%') && !path.contains("/.");
    if plain {
        return Cow::Borrowed(path);
    }
    let path = unescaped(path);
    let mut output = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    output.truncate(output.rfind('/').unwrap_or(0));
                }
                if last {
                    output.push('/');
                }
            }
            segment => {
                output.push('/');
                output.push_str(segment);
            }
        }
    }
    Cow::Owned(output)
}

/// Escapes of unreserved characters are undone; the digits of the others are put in upper case.
fn unescaped(path: &str) -> String {
    let mut output = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        output.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => output.push(char::from(byte)),
            Some(_) => output.push_str(&rest[at..at + 3].to_ascii_uppercase()),
            None => {
                output.push('%');
                rest = &rest[at + 1..];
                continue;
            }
        }
        rest = &rest[at + 3..];
    }
    output.push_str(rest);
    output
}

/// For messages: what could be a password is not in them.
fn without_userinfo(text: &str) -> String {
    let scheme = text.find("://").map_or(0, |at| at + 3);
    match text.rfind('@') {
        Some(at) if at >= scheme => format!("{}{}", &text[..scheme], &text[at + 1..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_prefixes_are_named_with_their_fault_and_without_userinfo() {
        use PrefixFault::*;
        let rows = [
            ("example.com", Scheme),
            ("", Scheme),
            ("://h", Scheme),
            ("1http://h", Scheme),
            ("u:secret@h", Scheme),
            ("https:///x", EmptyHost),
            ("https://:80", EmptyHost),
            ("https://u:secret@h/", Userinfo),
            ("https://h/?q", Query),
            ("https://h/#f", Fragment),
            ("https://h:99999", Port),
            ("https://h:x", Port),
            ("https://h:-1", Port),
            ("https://127.1", NumericHost),
            ("https://0x7f.1", NumericHost),
            ("https://127.0.0.01", NumericHost),
            ("https://*", Wildcard),
            ("https://a.*.com", Wildcard),
            ("https://*.*.com", Wildcard),
            ("https://*.10.0.0.1", Wildcard),
            ("https://b\u{fc}cher.example", NonAsciiHost),
            ("https://a b", Host),
            ("https://a..b", Host),
            ("https://[::1", Host),
            ("https://[::g]", Host),
            ("https://[]", Host),
            ("https://[::1]x", Host),
            ("https://h\\@evil.example", Userinfo),
            ("https://h%2f", Host),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, want)| (text, Prefix::parse(text), want))
            .filter(|(_, got, want)| got.as_ref().err() != Some(*want))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let message = PrefixError::new("https://u:secret@h/", Userinfo).to_string();
        assert!(message.contains("https://h/") && !message.contains("secret"), "{message}");
        assert!(!PrefixError::new("u:secret@h", Scheme).to_string().contains("secret"));
    }

    #[test]
    fn paths_are_normalised_but_slashes_are_not_made() {
        let rows = [
            ("", ""),
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/x/../admin/", "/admin/"),
            ("/pub/%2e%2E/admin", "/admin"),
            ("/./a/./b/.", "/a/b/"),
            ("/..", "/"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/%61dmin", "/admin"),
            ("/a%7Eb", "/a~b"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%zz%4", "/a%zz%4"),
            ("/%", "/%"),
            ("//admin", "//admin"),
            ("/a%2e", "/a."),
            ("/...", "/..."),
            ("/%252e%252e/a", "/%252e%252e/a"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(path, want)| (path, normalised(path), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn uris_that_cannot_be_routed_are_errors() {
        use UriError::*;
        let rows = [
            ("/rel", Some(Relative)),
            ("h:443", Some(Relative)),
            ("http://a:99999/", Some(Port)),
            ("http://u:1@a:99999/", Some(Port)),
            ("http://127.1/", Some(NumericHost)),
            ("http://0x7f.1/", Some(NumericHost)),
            ("http://2130706433/", Some(NumericHost)),
            ("http://a:/", None),
            ("http://127.0.0.1/", None),
            ("http://[::1]:8080/", None),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(uri, want)| Target::of(&uri.parse().unwrap(), None).err() != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
