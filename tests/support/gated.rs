//! Readiness that a closure decides.

use std::task::{Context, Poll};

use tower::Service;

/// Asks its gate first, then asks the service behind it whether it is ready.
#[derive(Clone)]
pub(crate) struct Gated<G, S> {
    pub(crate) gate: G,
    pub(crate) inner: S,
}

impl<R, S, G> Service<R> for Gated<G, S>
where
    S: Service<R>,
    G: FnMut(&mut Context<'_>) -> Poll<Result<(), S::Error>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        std::task::ready!((self.gate)(cx))?;
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}
