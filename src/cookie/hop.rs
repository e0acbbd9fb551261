//! Redirects, as the cookies see them: what an outer policy cannot see itself, and what a log
//! should say.

#[cfg(feature = "follow-redirect")]
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering::Relaxed},
};

#[cfg(any(feature = "follow-redirect", feature = "tracing"))]
use http::{HeaderMap, StatusCode, header::LOCATION};

/// Whether redirect layers follow a response with this status and a `Location`.
#[cfg(any(feature = "follow-redirect", feature = "tracing"))]
const fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Request extension of a redirect policy: where the cookie service notes whether a redirect's
/// `Location` is empty.
///
/// A policy of tower-http is told the resolved URI alone, and an empty reference resolves to the
/// request's own URI. A `Location` that names this URI does too.
#[cfg(feature = "follow-redirect")]
#[derive(Clone, Debug, Default)]
pub(crate) struct LocationNote(Arc<AtomicU8>);

/// What is known of the `Location` of the last response.
#[cfg(feature = "follow-redirect")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// No cookie service has seen it.
    Nothing,
    Empty,
    NotEmpty,
}

#[cfg(feature = "follow-redirect")]
impl LocationNote {
    pub(crate) fn get(&self) -> Noted {
        match self.0.load(Relaxed) {
            1 => Noted::Empty,
            2 => Noted::NotEmpty,
            _ => Noted::Nothing,
        }
    }

    /// Before each hop: what was noted of another response does not hold for the next.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    pub(crate) fn set(&self, status: StatusCode, headers: &HeaderMap) {
        let location = headers.get(LOCATION).filter(|_| is_redirect(status));
        self.0.store(
            match location {
                None => 0,
                // Parsers of URLs strip spaces.
                Some(value) if value.as_bytes().trim_ascii().is_empty() => 1,
                Some(_) => 2,
            },
            Relaxed,
        );
    }
}

/// The host and port that a redirect to another origin leads to. `None` for any other response.
#[cfg(feature = "tracing")]
pub(super) fn leads_away(
    from: &http::Uri,
    status: StatusCode,
    headers: &HeaderMap,
) -> Option<String> {
    if !is_redirect(status) {
        return None;
    }
    let location = headers.get(LOCATION)?.to_str().ok()?;
    let scheme = from.scheme_str()?;
    // Parsers of URLs read `\` as `/`, and a reference that begins with `//` keeps the scheme.
    let location = location.trim_ascii().replace('\\', "/");
    let to = if location.starts_with("//") { format!("{scheme}:{location}") } else { location };
    let to: http::Uri = to.parse().ok()?;
    let origin = |uri: &http::Uri| {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let default = if scheme == "https" { 443 } else { 80 };
        let host = uri.host()?.to_ascii_lowercase();
        Some((scheme, host, uri.port_u16().unwrap_or(default)))
    };
    let (scheme, host, port) = origin(&to)?;
    // Never the path or the query: an authorization code may be in them.
    let shown = format!("{scheme}://{host}:{port}");
    (origin(from)? != (scheme, host, port)).then_some(shown)
}

#[cfg(all(test, feature = "tracing"))]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_leads_away_if_scheme_host_or_port_are_others() {
        let rows = [
            (302, "/next", None),
            (302, "https://A.example:443/next?code=secret", None),
            (302, "https://u:secret@b.example/next?code=secret", Some("https://b.example:443")),
            (301, "http://a.example/", Some("http://a.example:80")),
            (307, "https://a.example:8443/", Some("https://a.example:8443")),
            (308, "//b.example/", Some("https://b.example:443")),
            (303, "/\\b.example/", Some("https://b.example:443")),
            (302, "", None),
            (200, "https://b.example/", None),
        ];
        let from = "https://a.example/".parse().unwrap();
        let wrong: Vec<_> = rows
            .iter()
            .map(|(status, location, want)| {
                let headers = [(LOCATION, location.parse().unwrap())].into_iter().collect();
                let status = StatusCode::from_u16(*status).unwrap();
                (leads_away(&from, status, &headers), location, want)
            })
            .filter(|(got, _, want)| got.as_deref() != **want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
