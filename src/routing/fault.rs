use std::{error, fmt};

/// A mount prefix that cannot be used, and what is wrong with it.
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
    /// The scheme `all`, which is httpx's word for `any`.
    All,
    /// A path or port without a host.
    EmptyHost,
    /// A host that no name or address is spelt like.
    Host,
    /// A label beyond ASCII, or an `xn--` one, that IDNA does not know.
    ///
    /// Without the feature `idna` this is only an `xn--` label that decodes to plain ASCII, such as
    /// `xn--example-`; whether IDNA knows what other labels decode to is not checked.
    Idna,
    /// A label beyond ASCII, without the feature `idna`. The same label in its `xn--` form needs no
    /// feature.
    IdnaDisabled,
    /// A number that is not an address of four decimal octets, such as `127.1`.
    NumericHost,
    /// A `*` that is neither the first label of a host nor the port.
    Wildcard,
    /// A port that is neither a number up to 65535 nor `*`.
    Port,
    /// A character in the path that has to be escaped, half an escape, or a `*` for a segment.
    Path,
    /// A network, such as `10.0.0.0/8`: an address without a port, then one number up to 32 (IPv6:
    /// 128), if no bit of the address is set after that many. A prefix has one host, and `/8` would
    /// be read as a path. If you mean the path, write a slash after it.
    Network,
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
            Self::All => "write `any://` for every scheme",
            Self::EmptyHost => "it has a port or path, but no host",
            Self::Host => "its host is neither a name nor an address",
            Self::Idna => "its host is not an internationalised name (IDNA)",
            Self::IdnaDisabled => {
                "its host is beyond ASCII: write its `xn--` form, or enable the feature `idna` of tower-outbound"
            }
            Self::NumericHost => "its host is a number, but not an address of four decimal octets",
            Self::Wildcard => "a `*` can only be the first label of a host (`*.example.com`) or its port (`:*`)",
            Self::Port => "its port is not a number up to 65535, nor `*`",
            Self::Path => {
                "its path has a character that must be percent-encoded, or a `*`: a prefix covers all paths below it"
            }
            Self::Network => {
                "it looks like a network, but a prefix has one host: mount each host or `any://`; if you mean a path, write a slash after it"
            }
            Self::Userinfo => "it cannot hold a user name or password",
            Self::Query => "it cannot hold a query",
            Self::Fragment => "it cannot hold a fragment",
        })
    }
}

/// The prefix for messages: without what could be a password or a token.
///
/// It is not a URI, and `authority::Redacted` cannot show it: what is wrong with it may be the very
/// place of its userinfo.
fn without_secrets(text: &str) -> String {
    // With the full-width and the small form, which IDNA maps to the first.
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
    use super::{PrefixFault::*, *};

    #[test]
    fn bad_prefixes_are_named_without_userinfo_query_and_fragment() {
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
