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

use super::{
    mount::{Mount, MountError},
    mount_service::BoxedResponse,
    routes::Route,
};

pin_project! {
    /// The response future of [`RoutingService`](super::RoutingService).
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
        // Polls nothing: the first poll clones and calls the mounted service.
        Selected { route: Route<B, RB>, request: Option<Request<B>>, names_mount: bool },
        // Polls a clone of the mounted service in the same way.
        Mounted { response: BoxedResponse<RB>, prefix: Option<Arc<str>>, names_mount: bool },
        // Polls nothing: the request cannot be routed.
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

    /// `names_mount`: an error of the mount is a [`MountError`].
    pub(super) const fn mounted(
        route: Route<B, RB>,
        request: Request<B>,
        names_mount: bool,
    ) -> Self {
        Self { state: State::Selected { route, request: Some(request), names_mount } }
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
                StateProj::Selected { route, request, names_mount } => {
                    // Polled after completion, which no caller should do: it stays pending.
                    let Some(request) = request.take() else { return Poll::Pending };
                    let (prefix, names_mount) = (Arc::clone(&route.prefix), *names_mount);
                    match route.service.oneshot(request, cx) {
                        Ok(response) => {
                            let prefix = Some(prefix);
                            state.set(State::Mounted { response, prefix, names_mount });
                        }
                        Err(error) => {
                            return Poll::Ready(Err(of_mount(
                                error,
                                names_mount.then_some(prefix),
                            )));
                        }
                    }
                }
                StateProj::Mounted { response, prefix, names_mount } => {
                    let response = ready!(response.as_mut().poll(cx));
                    let prefix = prefix.take();
                    return Poll::Ready(match response {
                        Ok(mut response) => {
                            if let Some(prefix) = prefix {
                                response.extensions_mut().insert(Mount(prefix));
                            }
                            Ok(response)
                        }
                        Err(error) => Err(of_mount(error, prefix.filter(|_| *names_mount))),
                    });
                }
                StateProj::Failed { error } => {
                    // As above.
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            }
        }
    }
}

/// The error of a mounted service, inside a [`MountError`] if `mount` is given.
fn of_mount(error: BoxError, mount: Option<Arc<str>>) -> BoxError {
    match mount {
        Some(mount) => MountError::new(mount, error).into(),
        None => error,
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
