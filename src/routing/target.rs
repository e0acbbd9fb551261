//! Request URIs, taken apart in the spelling of prefixes.

use std::{borrow::Cow, error, fmt};

use http::Uri;

use super::{
    path::{has_dot_segments, has_hidden_slashes},
    prefix::{canonical, default_port, lower},
};

/// Where a request goes. Host, port and path are brought into the spelling of prefixes only where
/// they are asked for.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) scheme: Scheme<'a>,
    /// That of the scheme, if it has one.
    pub(super) default_port: Option<u16>,
    /// As it was given: with userinfo and port.
    pub(super) authority: &'a str,
    uri: &'a Uri,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scheme<'a> {
    Http,
    Https,
    /// As it was given.
    Other(&'a str),
}

/// A request URI that cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It has no scheme or no host, and there is no default origin.
    Relative,
    /// Its port is not a number up to 65535. `http::Uri` reads such a URI as one without a port.
    Port,
    /// Its host is a number, but not four decimal octets: resolvers read `127.1` as an address all
    /// the same.
    NumericHost,
    /// Its path has a segment that some servers read as `.` or `..`, and the layer
    /// [rejects](super::RoutingLayerBuilder::reject_dot_segments) these.
    DotSegments,
    /// Its path has what some servers read as a slash, and the layer
    /// [rejects](super::RoutingLayerBuilder::reject_encoded_slashes) that.
    EncodedSlash,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "cannot route a relative URI: give it a scheme and host, or the layer a default origin",
            Self::Port => "cannot route a URI whose port is not a number up to 65535",
            Self::NumericHost => "cannot route to a host that is a number, but not four decimal octets",
            Self::DotSegments => "will not route a path with dot segments: resolve them before it is sent",
            Self::EncodedSlash => "will not route a path with an encoded slash or a backslash",
        })
    }
}

impl error::Error for UriError {}

/// Paths that a layer refuses, beyond what cannot be routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strictness {
    pub(super) dot_segments: bool,
    pub(super) encoded_slashes: bool,
}

impl Strictness {
    #[inline(always)]
    pub(super) fn check(self, target: &Target<'_>) -> Result<(), UriError> {
        if !(self.dot_segments | self.encoded_slashes) {
            Ok(())
        } else if self.dot_segments && has_dot_segments(target.path()) {
            Err(UriError::DotSegments)
        } else if self.encoded_slashes && has_hidden_slashes(target.path()) {
            Err(UriError::EncodedSlash)
        } else {
            Ok(())
        }
    }
}

impl<'a> Target<'a> {
    /// `origin` lends its scheme, host and port to a relative URI.
    #[inline(always)] // into the one place that runs for every request
    pub(super) fn of(uri: &'a Uri, origin: Option<&'a Uri>) -> Result<Self, UriError> {
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => (scheme, authority),
            // An authority without a scheme, as CONNECT has it, names no origin either.
            (None, None) => origin
                .and_then(|origin| origin.scheme_str().zip(origin.authority()))
                .ok_or(UriError::Relative)?,
            _ => return Err(UriError::Relative),
        };
        let (scheme, default_port) = match scheme {
            // `http::Uri` has these two in lower case, however they were written.
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            other => (Scheme::Other(other), default_port(&lower(other))),
        };
        Ok(Self { scheme, default_port, authority: authority.as_str(), uri })
    }

    /// The host in the spelling of prefixes, and the port if one is given.
    #[inline(always)]
    pub(super) fn host_and_port(&self) -> Result<(Cow<'a, str>, Option<u16>), UriError> {
        match plain(self.authority) {
            Some((host, port)) => Ok((Cow::Borrowed(host), port)),
            None => host_and_port(self.authority),
        }
    }

    /// As it was given; empty for `*`, which means the whole server.
    pub(super) fn path(&self) -> &'a str {
        let path = self.uri.path();
        if path.starts_with('/') { path } else { "" }
    }
}

/// Host and port of most authorities, which need nothing done to them; the answer is that of
/// [`host_and_port`].
#[inline(always)]
fn plain(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = if is_plain(authority.as_bytes()) {
        (authority, None)
    } else {
        // From the end: a search would cost more than all the rest.
        let digits = authority.bytes().rev().take_while(u8::is_ascii_digit).count();
        let (host, port) = authority.split_at(authority.len() - digits);
        (host.strip_suffix(':').filter(|host| is_plain(host.as_bytes()))?, Some(port.parse().ok()?))
    };
    match host.as_bytes().last()? {
        // A number as last label, or the root's dot, is looked at more closely.
        b'.' => None,
        last if (last.is_ascii_hexdigit() || *last == b'x') && is_numeric(host) => None,
        _ => Some((host, port)),
    }
}

/// Whether the last label is one that [`canonical`] may take for a number.
fn is_numeric(host: &str) -> bool {
    host.rsplit('.')
        .next()
        .is_some_and(|label| label.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether no byte is a colon or lies between `@` and `_`, which are the upper case, brackets, and
/// the end of userinfo. Eight bytes at once: this runs for every request.
#[inline(always)]
fn is_plain(authority: &[u8]) -> bool {
    const fn special(word: u64) -> u64 {
        const EACH: u64 = u64::from_ne_bytes([1; 8]);
        // Bit 6 without bit 5, moved to bit 7, which no byte of an authority has.
        let block = (word << 1) & (!word << 2);
        // A byte that is zero borrows from there.
        let colons = (word ^ (EACH * b':' as u64)).wrapping_sub(EACH);
        (block | colons) & (EACH * 0x80)
    }
    let (words, rest) = authority.as_chunks::<8>();
    let mut found = 0;
    for word in words {
        found |= special(u64::from_ne_bytes(*word));
    }
    match authority.last_chunk::<8>() {
        Some(last) => found | special(u64::from_ne_bytes(*last)) == 0,
        None => rest.iter().all(|byte| *byte != b':' && !(b'@'..=b'_').contains(byte)),
    }
}

#[cold]
fn host_and_port(authority: &str) -> Result<(Cow<'_, str>, Option<u16>), UriError> {
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let end = if authority.starts_with('[') {
        authority.find(']').map(|at| at + 1)
    } else {
        authority.find(':')
    };
    let (host, port) = authority.split_at(end.unwrap_or(authority.len()));
    if host.is_empty() {
        return Err(UriError::Relative);
    }
    // Not `port_u16`, which is `None` for a port that is none, and for `[::1]80`.
    let port = match port {
        "" | ":" => None,
        given => {
            let digits = given
                .strip_prefix(':')
                .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            Some(digits.and_then(|port| port.parse().ok()).ok_or(UriError::Port)?)
        }
    };
    Ok((canonical(host).ok_or(UriError::NumericHost)?, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_cannot_be_routed_are_errors() {
        let error = |uri: &str| {
            let uri = uri.parse().unwrap();
            Target::of(&uri, None).and_then(|target| target.host_and_port().map(drop)).err()
        };
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
        let wrong: Vec<_> = rows.iter().filter(|(uri, want)| error(uri) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_short_way_through_an_authority_ends_where_the_long_way_does() {
        let pieces = [
            "", "a", "ex.com", "EX.com", "u:p@", "@", "[::1]", "1", "0x", "0x7f.1", "a_b", "z.1",
            "be", "ac-d", "~!",
        ];
        let dots = ["", ".", "..", ".example.com", ".e1", ".12"];
        let ports = ["", ":", ":80", ":0443", ":99999", ":x", ":+1", "80", ":000000000000080"];
        let (mut short, mut wrong) = (0, Vec::new());
        for first in pieces {
            for second in pieces {
                for dot in dots {
                    for port in ports {
                        let authority = format!("{first}{second}{dot}{port}");
                        let Some((host, number)) = plain(&authority) else { continue };
                        short += 1;
                        if host_and_port(&authority) != Ok((Cow::Borrowed(host), number)) {
                            wrong.push(authority);
                        }
                    }
                }
            }
        }
        assert!(
            wrong.is_empty() && short > 500,
            "{short} took the short way, these wrongly: {wrong:?}"
        );
    }
}
