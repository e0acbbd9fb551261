use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::mount_service::BoxedResponse;

/// The response future of [`RoutingService`](super::RoutingService).
pub struct ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    state: State<S, B, RB>,
}

enum State<S, B, RB>
where
    S: Service<Request<B>>,
{
    // Polls a clone of the service below: its readiness, then the call. Boxed, so that a mounted
    // request does not move the space that this needs.
    Fallback { response: Pin<Box<Oneshot<S, Request<B>>>> },
    // Polls a clone of the mounted service in the same way.
    Mounted { response: BoxedResponse<RB> },
    // Polls nothing: the request cannot be routed.
    Failed { error: Option<BoxError> },
}

impl<S, B, RB> ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    pub(super) fn fallback(service: S, request: Request<B>) -> Self {
        Self { state: State::Fallback { response: Box::pin(Oneshot::new(service, request)) } }
    }

    pub(super) const fn mounted(response: BoxedResponse<RB>) -> Self {
        Self { state: State::Mounted { response } }
    }

    pub(super) const fn failed(error: BoxError) -> Self {
        Self { state: State::Failed { error: Some(error) } }
    }
}

impl<S, B, RB> Future for ResponseFuture<S, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>>,
    S::Error: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Mounted { response } => response.as_mut().poll(cx),
            State::Fallback { response } => response.as_mut().poll(cx).map_err(Into::into),
            // Polled after completion, which no caller should do: it stays pending.
            State::Failed { error } => {
                error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
            }
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
