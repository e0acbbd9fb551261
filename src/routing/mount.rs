use std::{error, fmt, sync::Arc};

use http::Uri;

/// Response extension: the prefix that served the request, as it was written. Absent for the
/// fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(pub Arc<str>);

/// No mount serves a request, and there is no fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMount {
    uri: String,
}

impl NoMount {
    pub(super) fn of(uri: &Uri) -> Self {
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let behind_userinfo = authority.rsplit('@').next().unwrap_or_default();
        let uri = match uri.scheme_str() {
            Some(scheme) => format!("{scheme}://{behind_userinfo}{}", uri.path()),
            None => uri.path().to_owned(),
        };
        Self { uri }
    }

    /// The request's URI, without userinfo and query.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl fmt::Display for NoMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no mount for {}", self.uri)
    }
}

impl error::Error for NoMount {}
