use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{
    SessionError, SessionStore,
    pool::{BoxFuture, Visit},
};

/// A boxed error, as tower has it.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

pin_project! {
    /// The response future of [`SessionService`](super::SessionService).
    pub struct ResponseFuture<C, B, RB, S>
    where
        C: Service<Request<B>>,
    {
        #[pin]
        state: State<C, C::Future, B, RB, S>,
        // `None` if there is no session, and while the store has it.
        visit: Option<Visit<S>>,
        // How long the load took.
        spent: Duration,
    }
}

// Futures that wait for the store are boxed, since a store's futures have no name. A request that
// finds its session in memory boxes nothing.
pin_project! {
    #[project = StateProjected]
    enum State<C, F, B, RB, S> {
        // The session's load is polled; the inner service was polled ready before.
        Loading { load: BoxFuture<'static, Result<Loaded<S>, SessionError>>, waiting: Option<(C, Request<B>)> },
        // The inner service's response is polled.
        Calling { #[pin] call: F },
        // The write of what it changed is polled.
        Writing { write: BoxFuture<'static, Visit<S>>, response: Option<Response<RB>> },
    }
}

/// And how long it took.
type Loaded<S> = (Visit<S>, Duration);

impl<C: Service<Request<B>>, B, RB, S> ResponseFuture<C, B, RB, S> {
    pub(super) const fn without(call: C::Future) -> Self {
        Self { state: State::Calling { call }, visit: None, spent: Duration::ZERO }
    }

    pub(super) const fn warm(call: C::Future, visit: Visit<S>) -> Self {
        let state = State::Calling { call };
        Self { state, visit: Some(visit), spent: Duration::ZERO }
    }
}

impl<C: Service<Request<B>>, B, RB, S: SessionStore> ResponseFuture<C, B, RB, S> {
    pub(super) fn cold(inner: C, request: Request<B>, visit: Visit<S>) -> Self {
        let load = Box::pin(async move {
            let spent = visit.load().await?;
            Ok((visit, spent))
        });
        let state = State::Loading { load, waiting: Some((inner, request)) };
        Self { state, visit: None, spent: Duration::ZERO }
    }
}

impl<C, B, RB, S> Future for ResponseFuture<C, B, RB, S>
where
    C: Service<Request<B>, Response = Response<RB>>,
    C::Error: Into<BoxError>,
    S: SessionStore,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjected::Loading { load, waiting } => {
                    let (visit, spent) = ready!(load.as_mut().poll(cx))?;
                    let Some((mut inner, mut request)) = waiting.take() else {
                        return Poll::Pending;
                    };
                    request.extensions_mut().insert(visit.jar().clone());
                    (*this.visit, *this.spent) = (Some(visit), spent);
                    State::Calling { call: inner.call(request) }
                }
                StateProjected::Calling { call } => {
                    let called = ready!(call.poll(cx));
                    let Some(visit) = this.visit.take() else {
                        return Poll::Ready(called.map_err(Into::into));
                    };
                    // Before anything is awaited, so that dropping this future loses no change.
                    // Also after an error, since retries inside this layer may have had responses.
                    let must_write = visit.must_write();
                    let mut response = match called {
                        Ok(response) => response,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    };
                    if !must_write {
                        response.extensions_mut().insert(visit.version());
                        return Poll::Ready(Ok(response));
                    }
                    let spent = *this.spent;
                    let write = Box::pin(async move {
                        visit.write(spent).await;
                        visit
                    });
                    State::Writing { write, response: Some(response) }
                }
                StateProjected::Writing { write, response } => {
                    let visit = ready!(write.as_mut().poll(cx));
                    let Some(mut response) = response.take() else { return Poll::Pending };
                    response.extensions_mut().insert(visit.version());
                    return Poll::Ready(Ok(response));
                }
            };
            this.state.set(next);
        }
    }
}

impl<C: Service<Request<B>>, B, RB, S> fmt::Debug for ResponseFuture<C, B, RB, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
