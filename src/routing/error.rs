use std::{error::Error, fmt};

use super::table::UriFault;

/// A mount's prefix, or the default origin, that [`build`](super::RoutingLayerBuilder::build) does not take.
///
/// Its `Display` names the prefix, without userinfo and query, what is wrong with it, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PrefixError {
    prefix: String,
    fault: Fault,
}

impl PrefixError {
    pub(super) fn new(prefix: &str, fault: Fault) -> Self {
        Self { prefix: redact(prefix), fault }
    }

    /// The prefix as it was written, but for userinfo, query and fragment.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, fault } = self;
        let what = if matches!(fault, Fault::Origin(_)) { "default origin" } else { "mount prefix" };
        write!(f, "{what} `{prefix}` {fault}")
    }
}

impl Error for PrefixError {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    NoScheme,
    Scheme,
    Userinfo,
    Query,
    Fragment,
    NoHost,
    Host,
    NonAsciiHost,
    NumericHost,
    Wildcard,
    Ipv6,
    Port,
    Path,
    Escape,
    PathWildcard,
    Origin(UriFault),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "has no scheme: begin it with `https://`, `http://` or `any://`",
            Self::Scheme => "has a malformed scheme: for every scheme write `any://`",
            Self::Userinfo => "has userinfo, which no request is matched by: leave out all up to the `@`",
            Self::Query => "has a query, which no request is matched by: end it with the path",
            Self::Fragment => "has a fragment, which is never sent: end it with the path",
            Self::NoHost => "has an empty host: for every host write the scheme alone, as in `https://`",
            Self::Host => "has a malformed host: write letters, digits, hyphens and single dots",
            Self::NonAsciiHost => "has a host beyond ASCII: write its A-label (xn--...)",
            Self::NumericHost => "has a numeric host that is not four decimal octets: write the address out",
            Self::Wildcard => {
                "has a misplaced `*`: in a host it stands before a domain, as in `*.example.com`; \
                 for every host write the scheme alone, as in `https://`"
            }
            Self::Ipv6 => "has a malformed IPv6 address: write it in brackets and without a zone, as in `[::1]:8080`",
            Self::Port => "has a malformed port: write a number up to 65535, or `*` for any",
            Self::Path => "has a character in its path that must be percent-encoded",
            Self::Escape => "has an incomplete percent-escape in its path: write `%25` for a percent sign",
            Self::PathWildcard => "has a `*` in its path: leave it out, a prefix covers all that is below it",
            Self::Origin(UriFault::Relative) => "has no scheme or no host: write both, as in `https://example.com`",
            Self::Origin(UriFault::Port) => "has a malformed port: write a number up to 65535",
            Self::Origin(UriFault::NumericHost) => {
                "has a numeric host that is not four decimal octets: write the address out"
            }
        })
    }
}

/// No mount serves the request's URI, and [`strict`](super::RoutingLayerBuilder::strict) leaves no fallback.
///
/// The URI is named without userinfo and query.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoMount {
    uri: String,
}

impl NoMount {
    pub(super) fn new(uri: &str) -> Self {
        Self { uri: redact(uri) }
    }

    /// The URI that no mount serves, without userinfo and query.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl fmt::Display for NoMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no mount serves `{}` and there is no fallback: mount a prefix of it", self.uri)
    }
}

impl Error for NoMount {}

/// A request's URI that says not clearly enough where it goes; the request is not sent, neither by a mount nor by the
/// fallback.
///
/// `uri` is the URI without userinfo and query.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// No scheme or no host, and no [`default_origin`](super::RoutingLayerBuilder::default_origin).
    #[non_exhaustive]
    Relative {
        /// The URI without userinfo and query.
        uri: String,
    },
    /// What follows the host is not a port. [`http::Uri`] lets `http://a:99999/` through as a URI without a port, and a
    /// client would connect to the default one.
    #[non_exhaustive]
    InvalidPort {
        /// The URI without userinfo and query.
        uri: String,
    },
    /// A host of numbers that is not four decimal octets. Resolvers read `127.1` or `0x7f.1` as an address, which
    /// would then have passed a mount for `127.0.0.1` by.
    #[non_exhaustive]
    NumericHost {
        /// The URI without userinfo and query.
        uri: String,
    },
}

impl UriError {
    pub(super) fn new(fault: UriFault, uri: &str) -> Self {
        let uri = redact(uri);
        match fault {
            UriFault::Relative => Self::Relative { uri },
            UriFault::Port => Self::InvalidPort { uri },
            UriFault::NumericHost => Self::NumericHost { uri },
        }
    }
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (uri, fault) = match self {
            Self::Relative { uri } => (uri, "has no scheme or no host: send an absolute URI, or set a default origin"),
            Self::InvalidPort { uri } => (uri, "has a malformed port: a port is a number up to 65535"),
            Self::NumericHost { uri } => {
                (uri, "has a numeric host that is not four decimal octets: write the address out")
            }
        };
        write!(f, "request URI `{uri}` {fault}")
    }
}

impl Error for UriError {}

/// A URI, a prefix, or what was meant for one, without its userinfo, query and fragment.
fn redact(text: &str) -> String {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, _)) if !scheme.contains(['@', '/', '?', '#']) => text.split_at(scheme.len() + 3),
        _ => ("", text),
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
    let (userinfo, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let after_colon = host.rsplit_once(':').map_or("", |(_, port)| port);
    let unlike_a_port = !host.ends_with(']') && after_colon.bytes().any(|byte| !byte.is_ascii_digit() && byte != b'*');
    // `https://user:pass/word@host`: by the letter no userinfo, but it was meant as one.
    if userinfo.is_empty() && path.contains('@') && (unlike_a_port || host.ends_with(':')) {
        return format!("{scheme}…");
    }
    let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
    format!("{scheme}{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_errors_name_has_no_userinfo_and_no_query() {
        let rows = [
            ("https://h:8080/a/b", "https://h:8080/a/b"),
            ("https://u:p@h/a?q#f", "https://h/a"),
            ("https://u@x:p@h?q", "https://h"),
            ("https://h/a?u@h", "https://h/a"),
            ("https://h:99999/@me", "https://h:99999/@me"),
            ("https://[::1]/@me", "https://[::1]/@me"),
            ("https://h:*/@me", "https://h:*/@me"),
            ("https://u:p/w@h", "https://…"),
            ("https://u:p?w@h", "https://…"),
            ("https://u:p#w@h", "https://…"),
            ("https://u:/w@h", "https://…"),
            ("https:/u:p@h", "…"),
            ("u:p@h/a", "h/a"),
            ("u:p@h://a", "h://a"),
            ("localhost", "localhost"),
            ("/a?token=x", "/a"),
            ("", ""),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(text, want)| {
                let got = redact(text);
                (got != want).then(|| format!("{text}: {got}, want {want}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }
}
