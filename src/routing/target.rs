//! Request URIs, taken apart and spelt as prefixes are.

use std::{borrow::Cow, error, fmt, net::Ipv4Addr};

use http::{Method, Uri};

use super::path::{has_dot_segments, has_hidden_slashes};
use crate::authority::{self, lower};

/// The target of a request. Host, port and path are brought into the spelling of prefixes only when
/// they are asked for: most look-ups use the authority as it is.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) scheme: Scheme<'a>,
    /// The default port of the scheme, if it has one. A request without a port uses it.
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

/// The error of a request whose URI cannot be routed. Nothing is sent.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_outbound::routing::{RoutingLayer, UriError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let client = RoutingLayer::builder().build()?.layer(client);
/// let error = client.oneshot(Request::get("/users").body(())?).await.expect_err("no host");
/// assert_eq!(error.downcast_ref(), Some(&UriError::Relative));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UriError {
    /// The URI has no scheme or no host, and the layer has no
    /// [default origin](super::RoutingLayerBuilder::default_origin).
    ///
    /// Only the URI of a CONNECT may have a host without a scheme (RFC 9112 section 3.2.3).
    Relative,
    /// The port is not a number up to 65535. `http::Uri` reads such a URI as one without a port.
    Port,
    /// The host is a number, but not four decimal octets, such as `127.1`.
    ///
    /// Resolvers read such a number as an address. It could name the host of a mount in another
    /// spelling.
    NumericHost,
    /// The path has a segment that some servers read as `.` or `..`, and the layer
    /// [rejects](super::RoutingLayerBuilder::reject_dot_segments) these.
    DotSegments,
    /// The path has an escape or a backslash that some servers read as a slash, and the layer
    /// [rejects](super::RoutingLayerBuilder::reject_encoded_slashes) these.
    EncodedSlash,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Relative => "cannot route a relative URI: give it a scheme and host, or the layer a default origin",
            Self::Port => "cannot route a URI whose port is not a number up to 65535",
            Self::NumericHost => "cannot route to a host that is a number, but not four decimal octets",
            Self::DotSegments => "will not route a path with dot segments: resolve them before the request is sent",
            Self::EncodedSlash => "will not route a path with an encoded slash or a backslash",
        })
    }
}

impl error::Error for UriError {}

/// Which paths a layer refuses, in addition to URIs that cannot be routed.
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
    /// A relative URI gets the scheme, host and port of `origin`.
    pub(super) fn of(
        method: &Method,
        uri: &'a Uri,
        origin: Option<&'a Uri>,
    ) -> Result<Self, UriError> {
        let (scheme, authority) = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => (scheme, authority),
            // The target of a tunnel has a host and a port, and no scheme. With another method the
            // scheme was forgotten.
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
            // RFC 9110 section 4.2. `http::Uri` has these two in lower case, whatever was written.
            "http" => (Scheme::Http, Some(80)),
            "https" => (Scheme::Https, Some(443)),
            other => (Scheme::Other(other), default_port(other)),
        };
        Ok(Self { scheme, default_port, authority: authority.as_str(), uri })
    }

    /// The host in the spelling of prefixes, and the port if the request has one.
    /// [`check_numeric`] may still refuse the host.
    pub(super) fn host_and_port(&self) -> Result<(Cow<'a, str>, Option<u16>), UriError> {
        let (host, port) = match authority::plain(self.authority) {
            Some((host, port)) => (Cow::Borrowed(host), port),
            None => spelt_as_prefixes(self.authority)?,
        };
        let port = match port {
            // RFC 3986 section 3.2.3: an empty port means the default port of the scheme.
            None | Some("") => None,
            // Not `Uri::port_u16`: it is `None` for a wrong port too.
            Some(text) => Some(number(text).ok_or(UriError::Port)?),
        };
        Ok((host, port))
    }

    /// The path as the request has it. Empty for `*`, which means the whole server (RFC 9110
    /// section 7.1).
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

/// The default ports of the schemes other than http and https (RFC 6455 section 3).
fn default_port(scheme: &str) -> Option<u16> {
    match &*lower(scheme) {
        "ws" => Some(80),
        "wss" => Some(443),
        _ => None,
    }
}

/// The host, and the text of the port, of an authority that is not plain.
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
    // A text that names no host (`a..b`) matches no mount. It is routed as every other host without
    // a mount.
    let host = authority::canonical(host)
        .or_else(|| authority::zoned(host).map(Cow::Owned))
        .unwrap_or_else(|| authority::lower(host.strip_suffix('.').unwrap_or(host)));
    Ok((host, port))
}

/// A port number. The parser alone would accept a sign.
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
