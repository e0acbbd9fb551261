use std::{error, fmt, sync::Arc};

use http::Uri;

use crate::authority::Redacted;

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
        Self { uri: Redacted(uri).to_string() }
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
