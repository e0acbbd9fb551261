//! Request URIs, taken apart in the spelling of prefixes.

use std::{borrow::Cow, error, fmt, net::Ipv4Addr};

use http::{Method, Uri};

use super::path::{has_dot_segments, has_hidden_slashes};
use crate::authority::{self, lower};

/// The place that a request is for. Host, port and path are brought into the spelling of prefixes
/// when they are asked for: a look-up by the letters of the authority needs neither.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) scheme: Scheme<'a>,
    /// The scheme's own port, if it has one: that of a request that names no other.
    pub(super) default_port: Option<u16>,
    /// As the request has it: with userinfo and port.
    pub(super) authority: &'a str,
    uri: &'a Uri,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Scheme<'a> {
    Http,
    Https,
    /// As the request has it.
    Other(&'a str),
    /// None, as in the authority form of CONNECT.
    None,
}

/// A request URI that cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// It has no scheme or no host, and there is no default origin. CONNECT alone may have an
    /// authority without a scheme (RFC 9112 section 3.2.3).
    Relative,
    /// Its port is not a number up to 65535. `http::Uri` reads such a URI as one without a port.
    Port,
    /// Its host is a number, but not four decimal octets. Resolvers read `127.1` as an address all
    /// the same, so it could be the host of a mount under another name.
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

/// Which paths a layer refuses, besides URIs that cannot be routed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strictness {
    pub(super) dot_segments: bool,
    pub(super) encoded_slashes: bool,
}

impl Strictness {
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
    pub(super) fn of(
        method: &Method,
        uri: &'a Uri,
        origin: Option<&'a Uri>,
    ) -> Result<Self, UriError> {
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => (scheme, authority),
            // The target of a tunnel has a host and a port, and no scheme. With another method the
            // same text is a URL whose scheme was forgotten.
            (None, Some(authority)) if method == Method::CONNECT => {
                let authority = authority.as_str();
                return Ok(Self { scheme: Scheme::None, default_port: None, authority, uri });
            }
            (None, None) => origin
                .and_then(|origin| origin.scheme_str().zip(origin.authority()))
                .ok_or(UriError::Relative)?,
            _ => return Err(UriError::Relative),
        };
        let (scheme, default_port) = match scheme {
            // RFC 9110 section 4.2. `http::Uri` has these two in lower case, however they were
            // written.
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            other => (Scheme::Other(other), default_port(other)),
        };
        Ok(Self { scheme, default_port, authority: authority.as_str(), uri })
    }

    /// The host in the spelling of prefixes, and the port if the request has one. The host may be
    /// one that [`check_numeric`] refuses.
    pub(super) fn host_and_port(&self) -> Result<(Cow<'a, str>, Option<u16>), UriError> {
        let (host, port) = match authority::plain(self.authority) {
            Some((host, port)) => (Cow::Borrowed(host), port),
            None => spelt_as_prefixes(self.authority)?,
        };
        let port = match port {
            // RFC 3986 section 3.2.3: an empty port is that of the scheme.
            None | Some("") => None,
            // Not `Uri::port_u16`, which is `None` for a port that is wrong too.
            Some(text) => Some(number(text).ok_or(UriError::Port)?),
        };
        Ok((host, port))
    }

    /// As the request has it; empty for `*`, which means the whole server (RFC 9110 section 7.1).
    pub(super) fn path(&self) -> &'a str {
        let path = self.uri.path();
        if path.starts_with('/') { path } else { "" }
    }
}

/// Refuses a host that resolvers read as an address, and that is not four decimal octets.
pub(super) fn check_numeric(host: &str) -> Result<(), UriError> {
    if authority::is_number(host) && host.parse::<Ipv4Addr>().is_err() {
        return Err(UriError::NumericHost);
    }
    Ok(())
}

/// Of the schemes beside http and https (RFC 6455 section 3).
fn default_port(scheme: &str) -> Option<u16> {
    match &*lower(scheme) {
        "ws" => Some(80),
        "wss" => Some(443),
        _ => None,
    }
}

/// Host and text of the port of an authority that is not plain.
#[cold]
fn spelt_as_prefixes(authority: &str) -> Result<(Cow<'_, str>, Option<&str>), UriError> {
    let (host, port) = authority::split(authority);
    if host.is_empty() {
        return Err(UriError::Relative);
    }
    // What follows the bracket without a colon can only be meant as a port.
    if host.starts_with('[') && !host.ends_with(']') {
        return Err(UriError::Port);
    }
    // No mount has the name of what names no host (`a..b`). It is served as every other host that
    // has no mount.
    let host = authority::canonical(host)
        .or_else(|| authority::zoned(host).map(Cow::Owned))
        .unwrap_or_else(|| authority::lower(host.strip_suffix('.').unwrap_or(host)));
    Ok((host, port))
}

/// Not the parser alone, which takes a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_that_cannot_be_routed_are_errors() {
        let error = |method: &Method, uri: &str| {
            let uri = uri.parse().unwrap();
            let target = Target::of(method, &uri, None);
            let host = target.and_then(|target| Ok(target.host_and_port()?.0));
            host.and_then(|host| check_numeric(&host)).err()
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
            ("http://[::1]x:80/", Some(Port)),
            ("http://[::1].:80/", Some(Port)),
            ("http://a:+80/", Some(Port)),
            ("http://0x7f.1/", Some(NumericHost)),
            ("http://2130706433/", Some(NumericHost)),
            ("http://a..1./", Some(NumericHost)),
            ("http://:80/", Some(Relative)),
            ("http://a..b/", None),
            ("http://[fe80::1%25eth0]/", None),
            ("http://a:/", None),
            ("http://127.0.0.1/", None),
            ("http://[::1]:8080/", None),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(uri, want)| error(&Method::GET, uri) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        let rows = [
            ("h:443", None),
            ("[::1]:443", None),
            ("h", None),
            ("http://h:443/", None),
            ("h:99999", Some(Port)),
            ("127.1:443", Some(NumericHost)),
            (":443", Some(Relative)),
            ("/rel", Some(Relative)),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(uri, want)| error(&Method::CONNECT, uri) != *want).collect();
        assert!(wrong.is_empty(), "CONNECT {wrong:?}");
    }
}
