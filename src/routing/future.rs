use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

use super::{mount::Mount, mount_service::BoxedResponse, routes::Route};

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
        // Polls a clone of the service below: its readiness, then the call.
        Fallback { #[pin] response: Oneshot<S, Request<B>> },
        // Polls nothing: what is mounted is cloned and called by whoever polls first.
        Selected { route: Route<B, RB>, request: Option<Request<B>> },
        // Polls a clone of what is mounted in the same way.
        Mounted { response: BoxedResponse<RB>, prefix: Option<Arc<str>> },
        // Polls nothing: there was nowhere to go.
        Failed { error: Option<BoxError> },
    }
}

impl<S, B, RB> ResponseFuture<S, B, RB>
where
    S: Service<Request<B>>,
{
    pub(super) const fn fallback(response: Oneshot<S, Request<B>>) -> Self {
        Self { state: State::Fallback { response } }
    }

    pub(super) const fn mounted(route: Route<B, RB>, request: Request<B>) -> Self {
        Self { state: State::Selected { route, request: Some(request) } }
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

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Fallback { response } => return response.poll(cx).map_err(Into::into),
                StateProj::Selected { route, request } => {
                    // Polled after its end, as no future need be; it then waits for ever.
                    let Some(request) = request.take() else { return Poll::Pending };
                    let response = route.service.oneshot(request, cx)?;
                    let prefix = Some(Arc::clone(&route.prefix));
                    state.set(State::Mounted { response, prefix });
                }
                StateProj::Mounted { response, prefix } => {
                    let mut response = ready!(response.as_mut().poll(cx))?;
                    if let Some(prefix) = prefix.take() {
                        response.extensions_mut().insert(Mount(prefix));
                    }
                    return Poll::Ready(Ok(response));
                }
                StateProj::Failed { error } => {
                    // As above.
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
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
