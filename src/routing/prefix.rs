//! Mount prefixes, taken apart and brought into one spelling. Components are compared, never
//! strings.

use std::{borrow::Cow, error, fmt};

use super::{
    host::Host,
    path::{escaped, is_path_byte, normalised},
};

/// A mount prefix in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    /// `None` for `any`.
    pub(super) scheme: Option<Box<str>>,
    pub(super) host: Host,
    pub(super) port: Port,
    /// Empty, or a normalised path without its trailing slash.
    pub(super) path: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// `all`, which is httpx's word for `any`, and means every port there.
    All,
    /// A path or port without a host.
    EmptyHost,
    /// A host that is none.
    Host,
    /// A label beyond ASCII, or an `xn--` one, that IDNA does not know.
    Idna,
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
            Self::All => "write `any://` for every scheme, and `:*` behind a host for every port",
            Self::EmptyHost => "it has a port or path, but no host",
            Self::Host => "its host is not one",
            Self::Idna => "its host is no internationalised name (IDNA)",
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
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(known)
        {
            return Err(PrefixFault::Scheme);
        }
        if scheme == "all" {
            return Err(PrefixFault::All);
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

/// A path that could not match is a fault: an unescaped space, or a pattern. Beyond ASCII is fine,
/// as in an IRI.
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

/// For messages: what could be a password, or a token, is not in them.
fn without_secrets(text: &str) -> String {
    // The second is the full-width one, which IDNA makes the first of; and the small form.
    const AT: [char; 3] = ['@', '\u{ff20}', '\u{fe6b}'];
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let rest = format!("{}{path}", authority.replace("%40", "@"));
    let rest = rest.as_str();
    let authority = &rest[..rest.len() - path.len()];
    // An `@` further on was meant to end a password, unless what is before it reads as a host with
    // or without a port.
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "0"));
    let is_host = !host.is_empty()
        && (port.ends_with(']')
            || !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    let last = if scheme.is_empty() || !is_host { rest.rfind(AT) } else { authority.rfind(AT) };
    let shown = last.map_or(rest, |at| rest[at..].trim_start_matches(AT));
    let shown = &shown[..shown.find(['?', '#']).unwrap_or(shown.len())];
    if scheme.contains(AT) { shown.to_owned() } else { format!("{scheme}{shown}") }
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
            ("all://", All),
            ("ALL://h", All),
            ("https://xn--example-.org", Idna),
            ("https://xn--\u{fc}.example", Idna),
            ("https://a\u{200b}\u{5d0}.example", Idna),
            ("https://\u{ff11}\u{ff12}\u{ff17}.1", NumericHost),
            ("https://\u{ff0a}.example.com", Wildcard),
            ("https://a\u{2100}b", Host),
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
        for text in [
            "u:secret@h",
            "u:secret@h://x",
            "https://h/?secret",
            "https://h/#secret",
            "https://u:secret/w@h",
            "https:u:secret@h",
            "https:/u:secret@h",
            "https:///u:secret@h",
            "https://u:/secret@h",
            "https://u:secret\u{ff20}h",
            "https://u:secret%40h",
            "https://u:secret@h@i",
        ] {
            assert!(!PrefixError::new(text, Scheme).to_string().contains("secret"), "{text}");
        }
        assert_eq!(PrefixError::new("https://h:99999/@me", Port).prefix(), "https://h:99999/@me");
    }
}
