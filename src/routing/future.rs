use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{
    BoxError,
    util::{BoxCloneSyncService, Oneshot},
};
use tower_service::Service;

use super::mount::Mount;

/// What all mounts are: a complete service.
pub(super) type BoxedService<B, RB> = BoxCloneSyncService<Request<B>, Response<RB>, BoxError>;

pin_project! {
    /// The response of a [`RoutingService`](super::RoutingService).
    pub struct ResponseFuture<S, B, RB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, B, RB>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, RB>
    where
        S: Service<Request<B>>,
    {
        // The wrapped service, unboxed.
        Fallback { #[pin] response: Oneshot<S, Request<B>> },
        // A mount's service.
        Mounted { #[pin] response: Oneshot<BoxedService<B, RB>, Request<B>>, prefix: Arc<str> },
        // Nothing: the request is not sent.
        Refused { error: Option<BoxError> },
    }
}

impl<S, B, RB> ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    pub(super) const fn fallback(service: S, request: Request<B>) -> Self {
        Self { state: State::Fallback { response: Oneshot::new(service, request) } }
    }

    pub(super) const fn mounted(service: BoxedService<B, RB>, request: Request<B>, prefix: Arc<str>) -> Self {
        Self { state: State::Mounted { response: Oneshot::new(service, request), prefix } }
    }

    pub(super) fn refused(error: impl Into<BoxError>) -> Self {
        Self { state: State::Refused { error: Some(error.into()) } }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Fallback { response } => response.poll(cx).map_err(Into::into),
            StateProj::Mounted { response, prefix } => {
                let mut response = ready!(response.poll(cx))?;
                response.extensions_mut().insert(Mount(Arc::clone(prefix)));
                Poll::Ready(Ok(response))
            }
            // Polled again after the error it has nothing to say, and need not panic for it.
            StateProj::Refused { error } => error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error))),
        }
    }
}

impl<S, B, RB> fmt::Debug for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
