use std::{error, fmt, sync::Arc};

use http::Uri;
use tower::BoxError;

use crate::authority::Redacted;

/// Response extension: the prefix that served the request, as it was written. Absent for the
/// fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(pub Arc<str>);

/// No mount serves a request, and there is no fallback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMount {
    uri: String,
    nearest: Option<Arc<str>>,
}

impl NoMount {
    pub(super) fn of(uri: &Uri, nearest: Option<Arc<str>>) -> Self {
        Self { uri: Redacted(uri).to_string(), nearest }
    }

    /// The request's URI, without userinfo and query.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The prefix of the nearest mount of the same host, as it was written: the one whose path has
    /// the longest beginning in common with the request's. It differs from the request in scheme,
    /// port or path. `None` if no mount has that host.
    ///
    /// If no mount has the very host, a wildcard that covers it counts; a prefix for every host
    /// does not.
    #[must_use]
    pub fn nearest(&self) -> Option<&str> {
        self.nearest.as_deref()
    }
}

impl fmt::Display for NoMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no mount for {}", self.uri)?;
        match &self.nearest {
            Some(nearest) => write!(f, " (the nearest is {nearest})"),
            None => Ok(()),
        }
    }
}

impl error::Error for NoMount {}

/// A mounted service failed. Only with
/// [`mount_errors`](super::RoutingLayerBuilder::mount_errors).
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
/// use tower_outbound::{RoutingLayer, routing::MountError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let client = service_fn(|_: Request<()>| async { Err::<Response<()>, BoxError>("no route".into()) });
/// let client = RoutingLayer::builder()
///     .mount("http://localhost", Identity::new())
///     .mount_errors()
///     .build()?
///     .layer(client);
/// let error = client.oneshot(Request::get("http://localhost:8000/").body(())?).await.unwrap_err();
/// let error = error.downcast_ref::<MountError>().unwrap();
/// assert_eq!((&*error.mount, &*error.source.to_string()), ("http://localhost", "no route"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct MountError {
    /// The prefix of the mount, as it was written.
    pub mount: Arc<str>,
    /// The service's own error, which is also this error's source.
    pub source: BoxError,
}

impl MountError {
    pub(super) const fn new(mount: Arc<str>, source: BoxError) -> Self {
        Self { mount, source }
    }
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mount {} failed", self.mount)
    }
}

impl error::Error for MountError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&*self.source)
    }
}
