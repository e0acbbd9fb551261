use std::{error, fmt, sync::Arc};

use http::Uri;
use tower::BoxError;

use crate::authority::Redacted;

/// Response extension: the prefix of the mount that served the request, as it was written.
///
/// The response of the fallback does not have it.
///
/// ```
/// use http::Response;
/// use tower_outbound::routing::Mount;
///
/// fn served_by<B>(response: &Response<B>) -> &str {
///     response.extensions().get::<Mount>().map_or("the fallback", |mount| &mount.0)
/// }
/// # assert_eq!(served_by(&Response::new(())), "the fallback");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount(pub Arc<str>);

/// The error of a request that no mount matches, if the layer is
/// [`strict`](super::RoutingLayerBuilder::strict).
///
/// If a retry layer is outside the routing layer, it retries a GET after this error and after a
/// [`UriError`](super::UriError), as after any unknown error. Let the policy's
/// [`classify`](crate::retry::RetryPolicy::classify) return `Failure::Never` for both.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
/// use tower_outbound::routing::{NoMount, RoutingLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let layer = RoutingLayer::builder().mount("https://h.example/v1", Identity::new()).strict();
/// let request = Request::get("https://h.example/v2?token=secret").body(())?;
/// let error = layer.build()?.layer(client).oneshot(request).await.expect_err("no mount");
/// let error = error.downcast_ref::<NoMount>().expect("the layer is strict");
/// assert_eq!(error.uri(), "https://h.example/v2");
/// assert_eq!(error.nearest(), Some("https://h.example/v1"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoMount {
    uri: String,
    nearest: Option<Arc<str>>,
}

impl NoMount {
    pub(super) fn of(uri: &Uri, nearest: Option<Arc<str>>) -> Self {
        Self { uri: Redacted(uri).to_string(), nearest }
    }

    /// The URI of the request, without userinfo and query.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The prefix of the nearest mount with the request's host, as it was written. `None` if no
    /// mount has that host.
    ///
    /// The nearest mount is the one whose path has the longest beginning in common with the
    /// request's path. It differs from the request in scheme, port or path. If no mount names the
    /// host, a wildcard that matches it counts. A prefix for every host does not.
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

/// The error of the service of a mount, with the name of the mount, if
/// [`mount_errors`](super::RoutingLayerBuilder::mount_errors) is set.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
/// use tower_outbound::{RoutingLayer, routing::MountError};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let client =
///     service_fn(|_: Request<()>| async { Err::<Response<()>, BoxError>("no route".into()) });
/// let client = RoutingLayer::builder()
///     .mount("http://localhost", Identity::new())
///     .mount_errors()
///     .build()?
///     .layer(client);
/// let request = Request::get("http://localhost:8000/").body(())?;
/// let error = client.oneshot(request).await.expect_err("the mounted service fails");
/// let error = error.downcast_ref::<MountError>().expect("mount errors are named");
/// assert_eq!((&*error.mount, &*error.source.to_string()), ("http://localhost", "no route"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct MountError {
    /// The prefix of the mount, as it was written.
    pub mount: Arc<str>,
    /// The error of the service of the mount. `source()` returns it too.
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
