use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use tower::BoxError;
use tower_service::Service;

use super::{
    error::{NoMount, UriError},
    future::{BoxedService, ResponseFuture},
    table::{Table, Target, UriFault},
};

/// The service of [`RoutingLayer`](super::RoutingLayer).
///
/// Always ready: which service has to be is known only with the request. [`call`](Service::call) selects a mount, or
/// the fallback, clones it, waits until the clone is ready and calls it, all within the response's future. So nothing
/// pushes back on the caller here; see [readiness](super#readiness).
///
/// Clones share the mounts. A call that is in flight does not hold the service, so one service can have any number.
///
/// # Errors
///
/// Those of the service that was selected, boxed but otherwise as they are; [`UriError`] for a URI that cannot be
/// routed; [`NoMount`] where none matches and [`strict`](super::RoutingLayerBuilder::strict) is set.
pub struct RoutingService<S, B, RB> {
    /// `None`: there is to be none.
    fallback: Option<S>,
    mounts: Arc<Mounts<B, RB>>,
}

/// The mounted services, and which of them serves what.
pub(super) struct Mounts<B, RB> {
    pub(super) table: Arc<Table>,
    /// Each with its prefix as written, in the table's numbering.
    pub(super) services: Box<[(Arc<str>, BoxedService<B, RB>)]>,
    pub(super) default_origin: Option<Uri>,
}

impl<B, RB> Mounts<B, RB> {
    fn select(&self, uri: &Uri) -> Result<Option<&(Arc<str>, BoxedService<B, RB>)>, UriFault> {
        let target = Target::of(uri, self.default_origin.as_ref())?;
        Ok(self.table.find(&target).and_then(|mount| self.services.get(mount)))
    }
}

impl<S, B, RB> RoutingService<S, B, RB> {
    pub(super) fn new(fallback: Option<S>, mounts: Mounts<B, RB>) -> Self {
        Self { fallback, mounts: Arc::new(mounts) }
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

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match (self.mounts.select(request.uri()), &self.fallback) {
            (Ok(Some((prefix, service))), _) => ResponseFuture::mounted(service.clone(), request, Arc::clone(prefix)),
            (Ok(None), Some(fallback)) => ResponseFuture::fallback(fallback.clone(), request),
            (Ok(None), None) => ResponseFuture::refused(NoMount::new(&request.uri().to_string())),
            (Err(fault), _) => ResponseFuture::refused(UriError::new(fault, &request.uri().to_string())),
        }
    }
}

impl<S: Clone, B, RB> Clone for RoutingService<S, B, RB> {
    fn clone(&self) -> Self {
        Self { fallback: self.fallback.clone(), mounts: Arc::clone(&self.mounts) }
    }
}

impl<S, B, RB> fmt::Debug for RoutingService<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes: Vec<_> = self.mounts.services.iter().map(|(prefix, _)| prefix).collect();
        f.debug_struct("RoutingService")
            .field("mounts", &prefixes)
            .field("strict", &self.fallback.is_none())
            .finish_non_exhaustive()
    }
}
