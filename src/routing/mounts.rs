use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, util::Oneshot};
use tower_layer::Layer;
use tower_service::Service;

use super::{fault::PrefixError, prefix::Prefix};

/// Mounts to add to a table, and to take out of it: what
/// [`RoutingHandle::update`](super::RoutingHandle::update) lends.
///
/// They take effect in the order in which they are named here.
#[must_use]
pub struct MountChanges<S, B, RB> {
    changes: Vec<Change<S, B, RB>>,
}

/// A prefix as it was written, and what is to be mounted there; `None` unmounts.
type Change<S, B, RB> = (Arc<str>, Option<Make<S, B, RB>>);
pub(super) type Make<S, B, RB> = Arc<dyn Fn(S) -> Mounted<B, RB> + Send + Sync>;

impl<S, B, RB> MountChanges<S, B, RB> {
    pub(super) const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Mounts a layer around the service below. The same prefix again replaces what was mounted
    /// there.
    pub fn mount<L>(mut self, prefix: impl Into<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
        B: Send + 'static,
        RB: 'static,
    {
        self.changes
            .push((prefix.into(), Some(Arc::new(move |inner| Arc::new(layer.layer(inner))))));
        self
    }

    /// Mounts a complete service; nothing of the service below is in it.
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        M::Error: Into<BoxError>,
        M::Future: Send + 'static,
        B: Send + 'static,
        RB: 'static,
    {
        let service: Mounted<B, RB> = Arc::new(service);
        self.changes.push((prefix.into(), Some(Arc::new(move |_| Arc::clone(&service)))));
        self
    }

    /// Takes out what is mounted at a prefix, however it is spelt; if nothing is, nothing happens.
    pub fn unmount(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.changes.push((prefix.into(), None));
        self
    }

    pub(super) const fn len(&self) -> usize {
        self.changes.len()
    }

    /// Every change with its prefix taken apart; or the first that is wrong.
    pub(super) fn parsed(self) -> Result<Vec<(Prefix, Change<S, B, RB>)>, PrefixError> {
        let parse = |change: Change<S, B, RB>| match Prefix::parse(&change.0) {
            Ok(prefix) => Ok((prefix, change)),
            Err(fault) => Err(PrefixError::new(&change.0, fault)),
        };
        self.changes.into_iter().map(parse).collect()
    }
}

impl<S, B, RB> fmt::Debug for MountChanges<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the prefixes: these are not parsed yet, and could hold a password.
        f.debug_struct("MountChanges").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}

/// A mounted service, whatever it is made of.
pub(super) type Mounted<B, RB> = Arc<dyn Call<B, RB>>;
pub(super) type BoxedResponse<RB> =
    Pin<Box<dyn Future<Output = Result<Response<RB>, BoxError>> + Send>>;

/// A service as a trait object that is called without being cloned into a box of its own first: the
/// future's is the only one.
pub(super) trait Call<B, RB>: Send + Sync {
    /// Calls a clone, at once if that is ready: then the box holds the response alone, and neither
    /// service nor request is moved there to wait.
    fn oneshot(
        &self,
        request: Request<B>,
        cx: &mut Context<'_>,
    ) -> Result<BoxedResponse<RB>, BoxError>;
}

impl<M, B, RB> Call<B, RB> for M
where
    M: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send + 'static,
    B: Send + 'static,
{
    fn oneshot(
        &self,
        request: Request<B>,
        cx: &mut Context<'_>,
    ) -> Result<BoxedResponse<RB>, BoxError> {
        let mut service = self.clone();
        match service.poll_ready(cx).map_err(Into::into)? {
            Poll::Ready(()) => Ok(Box::pin(BoxedError { response: service.call(request) })),
            Poll::Pending => Ok(Box::pin(BoxedError { response: Oneshot::new(service, request) })),
        }
    }
}

pin_project! {
    struct BoxedError<F> {
        #[pin]
        response: F,
    }
}

impl<F, T, E> Future for BoxedError<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().response.poll(cx).map_err(Into::into)
    }
}
