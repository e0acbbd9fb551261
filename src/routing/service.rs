use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::{future::ResponseFuture, handle::RoutingHandle, mount::NoMount, routes::Shared};

/// The service of [`RoutingLayer`](super::RoutingLayer). Clones share one table of mounts.
///
/// It is always ready. A call selects a mount. The response future clones the service of the mount
/// and waits until the clone is ready. Put limits and load shedding inside a mount, not around this
/// service: inside a mount they apply to its requests alone.
///
/// # Inside a spawned task
///
/// If the type of the service below contains `BoxError`, as `BoxCloneService<_, _, BoxError>` does,
/// rustc may refuse a future that calls this service and must be `Send`, as for `tokio::spawn`:
/// "implementation of `From` is not general enough". The same happens around tower's `Timeout`. Put
/// the finished stack into a `BoxCloneSyncService`:
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
/// use tower_outbound::RoutingLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let stack = ServiceBuilder::new().layer(RoutingLayer::builder().build()?).service(client);
/// let client = BoxCloneSyncService::new(stack);
/// let request = Request::get("http://example.com/").body(())?;
/// tokio::spawn(async move { client.oneshot(request).await }).await??;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The error of the selected service, boxed. With
/// [`mount_errors`](super::RoutingLayerBuilder::mount_errors) the error of a mount's service is
/// inside a [`MountError`](super::MountError). [`UriError`](super::UriError), if the URI cannot be
/// routed. [`NoMount`], if no mount matches the request and the layer is
/// [`strict`](super::RoutingLayerBuilder::strict).
pub struct RoutingService<S, B, RB> {
    shared: Arc<Shared<B, RB>>,
    fallback: S,
}

impl<S, B, RB> RoutingService<S, B, RB> {
    pub(super) const fn new(shared: Arc<Shared<B, RB>>, fallback: S) -> Self {
        Self { shared, fallback }
    }
}

impl<S: Clone, B, RB> RoutingService<S, B, RB> {
    /// Returns a handle that changes the mounts of this service and its clones at any time.
    ///
    /// ```
    /// # use {http::{Request, Response}, tower::{Layer, layer::util::Identity, service_fn}};
    /// # use tower_outbound::RoutingLayer;
    /// # let client = service_fn(|_: Request<()>| async { Ok::<_, http::Error>(Response::new(())) });
    /// let client = RoutingLayer::builder().build()?.layer(client);
    /// client.handle().update(|mounts| mounts.mount("https://api.example.com", Identity::new()))?;
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
    #[must_use]
    pub fn handle(&self) -> RoutingHandle<S, B, RB> {
        RoutingHandle::new(Arc::clone(&self.shared), self.fallback.clone())
    }
}

impl<S, B, RB> Service<Request<B>> for RoutingService<S, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, B, RB>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let routes = self.shared.routes();
        match self.shared.find(&routes, &request) {
            Ok(Some(route)) => {
                let (service, prefix) = (Arc::clone(&route.service), Arc::clone(&route.prefix));
                let names_mount = self.shared.names_mounts_in_errors();
                ResponseFuture::mounted(service.response(request, prefix, names_mount))
            }
            Ok(None) => {
                let nearest = self.shared.missed(&routes, &request);
                if self.shared.is_strict() {
                    ResponseFuture::failed(NoMount::of(request.uri(), nearest).into())
                } else {
                    ResponseFuture::fallback(self.fallback.clone(), request)
                }
            }
            Err(error) => ResponseFuture::failed(error.into()),
        }
    }
}

impl<S: Clone, B, RB> Clone for RoutingService<S, B, RB> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), fallback: self.fallback.clone() }
    }
}

impl<S, B, RB> fmt::Debug for RoutingService<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingService")
            .field("mounts", &self.shared.prefixes())
            .finish_non_exhaustive()
    }
}
