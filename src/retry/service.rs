use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    future::ResponseFuture,
    kept::Kept,
    log::Log,
    policy::{Policy, RetryPolicy},
    replay::{Replay, ReplayByTrait},
};

/// The service of [`RetryLayer`](super::RetryLayer).
///
/// # Errors
///
/// The error of the inner service, boxed, if the policy would not retry it. A
/// [`RetryError`](super::RetryError) if a limit, the budget or the deadline was used up.
#[derive(Clone, Debug)]
pub struct RetryService<S, P = RetryPolicy, R = ReplayByTrait> {
    pub(super) inner: S,
    pub(super) policy: P,
    pub(super) replay: R,
}

impl<S, P, R, B, RB> Service<Request<B>> for RetryService<S, P, R>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<S, P, R, B, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let policy = self.policy.for_request(request.extensions());
        let log = Log::of(&request);
        let kept = Kept::of(&mut request, &policy, &self.replay);
        // After the copy is kept: each attempt has its own number.
        let terms = policy.terms();
        terms.number_attempt(request.headers_mut(), 1);
        ResponseFuture::new(&mut self.inner, request, policy, terms, self.replay.clone(), kept, log)
    }
}
