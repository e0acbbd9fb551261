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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Port {
    Number(u16),
    /// That of the request's scheme, where the prefix does not know it.
    Default,
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
        Self { prefix: without_secrets(prefix), fault }
    }

    /// The prefix, without userinfo, query and fragment.
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
    /// A character in the path that has to be escaped, half an escape, or a `*` for a segment.
    Path,
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
            Self::Path => {
                "its path holds what must be percent-encoded, or a `*`: a prefix covers all that lies below it"
            }
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
        let path = parse_path(path)?;
        Ok(Self { scheme, host, port, path: path.strip_suffix('/').unwrap_or(&path).into() })
    }
}

/// A path that could not match is a fault: an unescaped space, or a pattern. Beyond ASCII is fine, as in an IRI.
fn parse_path(path: &str) -> Result<Cow<'_, str>, PrefixFault> {
    let bytes = path.as_bytes();
    let fits = |(at, &byte): (usize, &u8)| match byte {
        b'%' => escaped(&bytes[at..]).is_some(),
        _ => !byte.is_ascii() || is_path_byte(byte),
    };
    if !bytes.iter().enumerate().all(fits) || path.split('/').any(|segment| segment == "*") {
        return Err(PrefixFault::Path);
    }
    Ok(normalised(path))
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
            // So that `https://h:443` and `https://h` are one prefix.
            "" => Ok(scheme.and_then(default_port).map_or(Self::Default, Self::Number)),
            "*" => Ok(Self::Any),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map(Self::Number).map_err(|_| PrefixFault::Port)
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
        // Not `port_u16`, which is `None` for a port that is none, and for `[::1]80`.
        let port = match behind_userinfo.get(authority.host().len()..) {
            Some("" | ":") => default_port(&scheme),
            Some(given) => {
                let digits = given.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
                Some(digits.and_then(|port| port.parse().ok()).ok_or(UriError::Port)?)
            }
            None => return Err(UriError::Port),
        };
        let host = canonical_host(authority.host()).ok_or(UriError::NumericHost)?;
        // `*`, as OPTIONS has it, means the whole server.
        let path = if uri.path().starts_with('/') { normalised(uri.path()) } else { Cow::Borrowed("") };
        Ok(Self { scheme, host, port, path })
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

/// A path without dot segments (RFC 3986 section 5.2.4) and with no escapes but those it needs (section 6.2.2). `%2F`
/// stays, and so do empty segments: servers may take either for something else.
///
/// Borrows where there is nothing to do.
pub(super) fn normalised(path: &str) -> Cow<'_, str> {
    let path = if is_escaped(path.as_bytes()) { Cow::Borrowed(path) } else { Cow::Owned(escape(path)) };
    if path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        Cow::Owned(without_dot_segments(&path))
    } else {
        path
    }
}

fn is_escaped(path: &[u8]) -> bool {
    path.iter().enumerate().all(|(at, &byte)| match byte {
        b'%' => {
            escaped(&path[at..]).is_some_and(|byte| !is_unreserved(byte))
                && !path[at + 1..at + 3].iter().any(u8::is_ascii_lowercase)
        }
        _ => is_path_byte(byte),
    })
}

/// Escapes of unreserved characters are undone; the digits of the others are put in upper case, and what is no escape
/// becomes one, a stray `%` too: it must not make another escape with what is decoded behind it.
fn escape(path: &str) -> String {
    let mut output = String::with_capacity(path.len() + 8);
    let mut rest = path.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, plain) = match escaped(rest) {
            Some(byte) => {
                rest = &rest[3..];
                (byte, is_unreserved(byte))
            }
            None => {
                rest = behind;
                (first, is_path_byte(first))
            }
        };
        if plain {
            output.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(b"0123456789ABCDEF"[usize::from(nibble)]);
            output.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    output
}

/// The byte that an escape at the start stands for.
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()
}

/// RFC 3986 section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands in a path as it is: RFC 3986 section 3.3, `pchar` and the slash.
const fn is_path_byte(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(
            byte,
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        )
}

/// RFC 3986 section 5.2.4.
fn without_dot_segments(path: &str) -> String {
    let mut output = String::with_capacity(path.len());
    let mut ends_in_dots = false;
    for segment in path.split('/').skip(1) {
        ends_in_dots = matches!(segment, "." | "..");
        if segment == ".." {
            output.truncate(output.rfind('/').unwrap_or(0));
        } else if !ends_in_dots {
            output.push('/');
            output.push_str(segment);
        }
    }
    if ends_in_dots {
        output.push('/');
    }
    output
}

/// For messages: what could be a password, or a token, is not in them.
fn without_secrets(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let port = rest[..end].rsplit_once(':').map_or("", |(_, port)| port);
    // An `@` further on was meant to end a password, unless what is before it reads as a host and port.
    let from = match (rest[..end].rfind('@'), rest.rfind('@')) {
        (Some(at), _) => at + 1,
        (None, Some(at)) if !port.ends_with(']') && port.bytes().any(|byte| !byte.is_ascii_digit()) => at + 1,
        _ => 0,
    };
    let shown = &rest[from..];
    let shown = &shown[..shown.find(['?', '#']).unwrap_or(shown.len())];
    if scheme.contains('@') { shown.to_owned() } else { format!("{scheme}{shown}") }
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
            ("https://h/a b", Path),
            ("https://h/{id}", Path),
            ("https://h/api/*", Path),
            ("https://h/%zz", Path),
            ("https://h/a\\b", Path),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, want)| (text, Prefix::parse(text), want))
            .filter(|(_, got, want)| got.as_ref().err() != Some(*want))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let message = PrefixError::new("https://u:secret@h/", Userinfo).to_string();
        assert!(message.contains("https://h/") && !message.contains("secret"), "{message}");
        for text in ["u:secret@h", "u:secret@h://x", "https://h/?secret", "https://h/#secret", "https://u:secret/w@h"] {
            assert!(!PrefixError::new(text, Scheme).to_string().contains("secret"), "{text}");
        }
        assert_eq!(PrefixError::new("https://h:99999/@me", Port).prefix(), "https://h:99999/@me");
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
            ("/a%zz%4", "/a%25zz%254"),
            ("/%", "/%25"),
            ("/a%%32Fb", "/a%252Fb"),
            ("/\u{fc}", "/%C3%BC"),
            ("/a//../b", "/a/b"),
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
            ("http://[::1]80/", Some(Port)),
            ("http://[::1]x/", Some(Port)),
            ("http://a:+80/", Some(Port)),
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
