use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::{future::ResponseFuture, handle::RoutingHandle, mount::NoMount, routes::Shared};

/// The service of [`RoutingLayer`](super::RoutingLayer). Clones share one table.
///
/// It is always ready: a call selects a mount, and its future clones that and waits until the clone
/// is ready. Limits and load shedding therefore belong inside a mount, where they hold for its
/// requests, not around this service.
///
/// A service below whose type spells out `BoxError`, such as a `BoxCloneService<_, _, BoxError>`,
/// makes rustc refuse an `async` block that calls this one and has to be `Send` ("implementation of
/// `From` is not general enough"), as it does around tower's `Timeout`. A box around the finished
/// stack, `.boxed_clone()`, is the way out.
///
/// # Errors
///
/// The selected service's own, boxed; [`UriError`](super::UriError) for a request that has no place
/// to go; [`NoMount`] with [`strict`](super::RoutingLayerBuilder::strict).
pub struct RoutingService<S, B, RB> {
    pub(super) shared: Arc<Shared<B, RB>>,
    pub(super) fallback: S,
}

impl<S: Clone, B, RB> RoutingService<S, B, RB> {
    /// What changes the mounts of this service and its clones, while they serve.
    #[must_use]
    pub fn handle(&self) -> RoutingHandle<S, B, RB> {
        RoutingHandle { shared: Arc::clone(&self.shared), inner: self.fallback.clone() }
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
        match self.shared.find(&routes, request.uri()) {
            Ok(Some(route)) => ResponseFuture::mounted(route.clone(), request),
            Ok(None) if self.shared.settings.strict => {
                ResponseFuture::failed(NoMount::of(request.uri()).into())
            }
            Ok(None) => ResponseFuture::fallback(Oneshot::new(self.fallback.clone(), request)),
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
