//! Tells the policy whether a `Location` is empty, which tower-http does not.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::cookie::hop::LocationNote;

/// Tells a [`RedirectPolicy`](super::RedirectPolicy) whether a redirect's `Location` is empty.
///
/// If the policy is used as a [layer](super::RedirectPolicy#empty-location), this is the service
/// below the redirects. It changes no request and no response.
#[derive(Clone)]
pub struct LocationService<S> {
    inner: S,
}

impl<S> LocationService<S> {
    pub(super) const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, RB> Service<Request<B>> for LocationService<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LocationFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let note = request.extensions().get().cloned();
        LocationFuture { inner: self.inner.call(request), note }
    }
}

impl<S> fmt::Debug for LocationService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocationService").finish_non_exhaustive()
    }
}

pin_project! {
    /// The response future of [`LocationService`].
    pub struct LocationFuture<F> {
        #[pin]
        inner: F,
        note: Option<LocationNote>,
    }
}

impl<F, RB, E> Future for LocationFuture<F>
where
    F: Future<Output = Result<Response<RB>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.inner.poll(cx))?;
        if let Some(note) = this.note {
            note.set(response.status(), response.headers());
        }
        Poll::Ready(Ok(response))
    }
}

impl<F> fmt::Debug for LocationFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocationFuture").finish_non_exhaustive()
    }
}
