use std::{error, fmt};

/// The error for a wrong mount prefix: the prefix, and what is wrong with it.
///
/// ```
/// use tower_outbound::routing::{MountPrefix, PrefixFault};
///
/// let error = "https://api.example.com/?page=1".parse::<MountPrefix>().expect_err("a query");
/// assert_eq!(error.fault(), PrefixFault::Query);
/// assert_eq!(
///     error.to_string(),
///     r#"mount prefix "https://api.example.com/": it cannot have a query"#
/// );
/// ```
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

    /// What is wrong with the prefix.
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
///
/// ```
/// use tower_outbound::routing::{MountPrefix, PrefixFault};
///
/// let fault = |prefix: &str| prefix.parse::<MountPrefix>().err().map(|error| error.fault());
/// assert_eq!(fault("api.example.com"), Some(PrefixFault::Scheme));
/// assert_eq!(fault("any://10.0.0.0/8"), Some(PrefixFault::Network));
/// assert_eq!(fault("https://api.example.com"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PrefixFault {
    /// The prefix does not begin with `scheme://`.
    Scheme,
    /// The scheme is `all`, which is httpx's word for `any`.
    All,
    /// The prefix has a path or port, but no host.
    EmptyHost,
    /// The host is neither a name nor an address.
    Host,
    /// A label of the host is not ASCII, or begins with `xn--`, and is not valid in IDNA.
    ///
    /// Without the feature `idna` only an `xn--` label that decodes to ASCII is refused, such as
    /// `xn--example-`.
    Idna,
    /// A label of the host is not ASCII, and the feature `idna` is off. The `xn--` form of the
    /// label needs no feature.
    IdnaDisabled,
    /// The host is a number, but not an address of four decimal octets, such as `127.1`.
    NumericHost,
    /// A `*` is neither the first label of the host nor the port.
    Wildcard,
    /// The port is neither a number up to 65535 nor `*`.
    Port,
    /// The path has a character that must be escaped, an incomplete escape, or a segment `*`.
    Path,
    /// The prefix looks like a network, such as `10.0.0.0/8`.
    ///
    /// That is an address without a port, then one number up to 32 (IPv6: 128), if the address has
    /// no bit set after that many. A prefix has one host, and `/8` would be read as a path. If you
    /// mean the path, write a slash after it.
    Network,
    /// The prefix has a user name or password.
    Userinfo,
    /// The prefix has a query.
    Query,
    /// The prefix has a fragment.
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
                "its host is not ASCII: write its `xn--` form, or enable the feature `idna` of tower-outbound"
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
            Self::Userinfo => "it cannot have a user name or password",
            Self::Query => "it cannot have a query",
            Self::Fragment => "it cannot have a fragment",
        })
    }
}

/// The prefix for messages, without what could be a password or a token.
///
/// `authority::Redacted` cannot show it, since it is not a URI: its fault may be the place of its
/// userinfo.
fn without_secrets(text: &str) -> String {
    // With the full-width and the small `@`, which IDNA maps to the plain one.
    const AT: [char; 3] = ['@', '\u{ff20}', '\u{fe6b}'];
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let rest = format!("{}{path}", authority.replace("%40", "@"));
    let rest = rest.as_str();
    let authority = &rest[..rest.len() - path.len()];
    // A later `@` was meant to end a password, unless the text before it looks like a host with or
    // without a port.
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
