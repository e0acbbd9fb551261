use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::BoxError;
use tower_service::Service;

use super::{future::ResponseFuture, handle::RoutingHandle, mount::NoMount, routes::Shared};

/// The service of [`RoutingLayer`](super::RoutingLayer). Clones share one table.
///
/// It is always ready. A call selects a mount; its future clones the mounted service and waits
/// until the clone is ready. Put limits and load shedding inside a mount, not around this service:
/// there they hold for the requests of that mount.
///
/// # Inside a spawned task
///
/// If the type of the service below spells out `BoxError`, as `BoxCloneService<_, _, BoxError>`
/// does, rustc may refuse an `async` block that calls this service and has to be `Send`
/// ("implementation of `From` is not general enough"). The same happens around tower's `Timeout`. A
/// box around the finished stack, `.boxed_clone()`, helps.
///
/// # Errors
///
/// The selected service's own error, boxed; inside a [`MountError`](super::MountError) with
/// [`mount_errors`](super::RoutingLayerBuilder::mount_errors). [`UriError`](super::UriError) if the
/// URI cannot be routed. [`NoMount`] if no mount serves the request, with
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
    /// A handle that changes the mounts of this service and its clones while they serve.
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
