//! A service that checks readiness strictly.

use std::task::{Context, Poll};

use tower::Service;

/// Panics if a call does not follow its own readiness.
#[derive(Debug)]
pub(crate) struct Strict<S> {
    inner: S,
    polls: u8,
    needed: u8,
}

impl<S> Strict<S> {
    /// Is ready after `needed` polls, for each call again.
    pub(crate) fn new(inner: S, needed: u8) -> Self {
        Self { inner, polls: 0, needed }
    }
}

impl<S: Clone> Clone for Strict<S> {
    /// A clone is not ready, even if the original is.
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), polls: 0, needed: self.needed }
    }
}

impl<R, S: Service<R>> Service<R> for Strict<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.polls = self.polls.saturating_add(1);
        if self.polls < self.needed {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        assert!(std::mem::take(&mut self.polls) >= self.needed, "called without being ready");
        self.inner.call(request)
    }
}
