//! URLs, as users write them and as servers write them in redirects.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

/// The URI of a request, and what its userinfo asks for.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
    /// The interface for an IPv6 address. It is not sent to the server.
    pub(crate) zone: Option<String>,
}

/// Reads a URL as browsers do: dot segments are resolved, and the host is in ASCII and lower case.
/// So it is spelled as in a redirect to the same URL. It is split into its parts as curl does.
pub(crate) fn target(text: &str) -> Result<Target, &'static str> {
    // Browsers remove control characters, or escape a space.
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("not a valid URL: it has spaces or control characters");
    }
    let text = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '@']) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => ("http".to_owned(), text),
    };
    if scheme != "http" && scheme != "https" {
        return Err("unknown scheme; there are http and https");
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, host) = split_userinfo(authority);
    let (host, zone) = split_zone(host)?;
    // A browser would look for a host after either of them.
    if host.is_empty() || host.contains('\\') {
        return Err("no host");
    }
    let url = Url::parse(&format!("{scheme}://{host}{path}")).map_err(|error| match error {
        ParseError::EmptyHost => "no host",
        ParseError::InvalidPort => "a port is a number up to 65535",
        ParseError::IdnaError => "not a valid international host name",
        _ => "not a valid URL",
    })?;
    let uri = url.as_str().parse().map_err(|_| "not a valid URL")?;
    Ok(Target { uri, authorization: userinfo.and_then(of_userinfo), zone })
}

fn split_userinfo(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo).filter(|userinfo| !userinfo.is_empty()), host),
        None => (None, authority),
    }
}

/// Removes `%25eth0` from `[fe80::1%25eth0]` (RFC 6874), or `%eth0`, as curl does.
fn split_zone(host: &str) -> Result<(String, Option<String>), &'static str> {
    let zoned = host.strip_prefix('[').and_then(|inside| inside.split_once('%'));
    let Some((address, rest)) = zoned else { return Ok((host.to_owned(), None)) };
    let (zone, rest) = rest.split_once(']').ok_or("not a valid URL")?;
    let zone = zone.strip_prefix("25").filter(|zone| !zone.is_empty()).unwrap_or(zone);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if zone.is_empty() || !zone.bytes().all(is_name) {
        return Err("a zone is an interface's name or number");
    }
    Ok((format!("[{address}]{rest}"), Some(zone.to_owned())))
}

fn of_userinfo(userinfo: &str) -> Option<HeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let decoded = |part| percent_decode_str(part).collect::<Vec<_>>();
    basic(&decoded(user), &decoded(password))
}

/// The value of a `Basic` authorization.
pub(crate) fn basic(user: &[u8], password: &[u8]) -> Option<HeaderValue> {
    let pair = [user, b":", password].concat();
    HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok().map(sensitive)
}

pub(crate) fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// The URI without userinfo and query, which may be secrets.
pub(crate) fn show(uri: &Uri) -> String {
    let (_, host) = split_userinfo(uri.authority().map_or("", |authority| authority.as_str()));
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}
