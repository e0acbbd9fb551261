use std::{
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use tower::BoxError;
use tower_service::Service;

use super::{
    future::{Call, ResponseFuture},
    kept::Kept,
    limit::Limits,
    log::{Log, Span},
    policy::{Policy, RetryPolicy, Terms},
    readiness::{Readiness, Turn},
    replay::{Replay, ReplayByTrait},
    source::Source,
    witness,
};

/// The service of [`RetryLayer`](super::RetryLayer).
///
/// It is ready when the inner service is. If the layer's policy has a deadline, the wait for the
/// inner service ends at the deadline. This service then reports that it is ready, and the call
/// returns a [`RetryError`](super::RetryError) at once, without an attempt. The time of the wait
/// counts towards the deadline of the call. If the request has a policy of its own, the deadline of
/// that policy is not known before the call, so it does not bound the wait.
///
/// A wait belongs to the task that polls. Another task begins a new wait, and so does a clone, or a
/// poll long after the wait was given up. So `LoadShed` outside sheds requests at once. Two cases
/// are taken for something else:
///
/// - The requests of one task are shed less than 50 ms apart for a whole deadline. They look like
///   one wait. The task then gets one deadline error per deadline instead of `Overloaded`.
/// - The runtime polls a task more than 50 ms late at the deadline. The task looks like another
///   request, and waits for a second deadline. It does not wait for a third one.
///
/// # Buffers and load shedding
///
/// Put this layer outside `Buffer` and `LoadShed`: `RetryLayer > Buffer > LoadShed >
/// ConcurrencyLimit`. In the order `Buffer > LoadShed > RetryLayer > ConcurrencyLimit`, a request
/// that is shed leaves its place in the queue to the idle service of the buffer. That service gets
/// the next permit, and the second attempt of another request may wait for the permit until its
/// deadline. If you need this order, put a service between the two that waits for readiness inside
/// its call:
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::{Empty, Full};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, limit::ConcurrencyLimit, service_fn};
/// use tower_outbound::retry::{RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # type Body = Empty<&'static [u8]>;
/// let server = service_fn(|_request: Request<Body>| async {
///     Ok::<_, BoxError>(Response::new(Full::new(&b""[..])))
/// });
/// let limited = ConcurrencyLimit::new(server, 1);
/// let client = ServiceBuilder::new()
///     .buffer(8)
///     .load_shed()
///     .layer(RetryLayer::new(RetryPolicy::new()))
///     // Each attempt has a clone of its own, so an idle service has no permit.
///     .service(service_fn(move |request: Request<Body>| limited.clone().oneshot(request)));
/// client.oneshot(Request::get("http://h.example/").body(Empty::new())?).await?;
/// # Ok(())
/// # }
/// ```
///
/// Such a service is always ready, so nothing outside it is shed. The routing service is one too.
///
/// If the caller of a request has gone, a `Buffer` keeps that request's permit until its next
/// request. If several buffers share a limit, put the limit outside them, or a timeout below them.
///
/// # Clones of the inner service
///
/// The first attempt is sent by the service that was polled for readiness. The attempts after it
/// are sent by a clone of the service that the layer was given, made after the first failure. If
/// the service keeps state in itself, such as a count of its own calls, the later attempts do not
/// see what the first one changed.
///
/// # Inside a spawned task
///
/// If the type of the inner service contains `BoxError`, rustc may refuse a future that calls this
/// service and must be `Send`, as for `tokio::spawn`: "implementation of `From` is not general
/// enough". Put the finished stack into a `BoxCloneSyncService`:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
/// use tower_outbound::retry::RetryLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # type Body = Full<Bytes>;
/// # let client = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
/// let stack = ServiceBuilder::new().layer(RetryLayer::default()).service(client);
/// let client = BoxCloneSyncService::new(stack);
/// let request = Request::get("http://example.com/").body(Full::default())?;
/// tokio::spawn(async move { client.oneshot(request).await }).await??;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The error of the inner service, boxed, if the policy does not retry it. A
/// [`RetryError`](super::RetryError), if a limit, the budget or the deadline is used up. With
/// [`raise_on_status`](RetryPolicy::raise_on_status) also for a failed response, and then also if
/// the server asks to wait too long or not to retry.
#[derive(Clone, Debug)]
pub struct RetryService<S, P = RetryPolicy, R = ReplayByTrait> {
    pub(super) inner: S,
    // What its clones and futures need after a failure.
    pub(super) source: Source<S>,
    pub(super) policy: P,
    pub(super) replay: R,
    pub(super) readiness: Readiness,
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
        let Self { inner, policy, readiness, .. } = self;
        let ready = readiness.poll(|cx| inner.poll_ready(cx), || policy.terms().deadline, cx);
        if readiness.is_late() {
            // Gives up the place in a queue for permits.
            *inner = inner.clone();
        }
        ready.map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let waited = match self.readiness.take() {
            Turn::Ready { waited } => waited,
            Turn::Late { waited } => {
                // Not `for_request`: nothing is sent, so nothing is deposited into a budget.
                let (policy, terms) = (self.policy.clone(), self.policy.terms());
                return ResponseFuture::late(self.begin(&mut request, policy, &terms, waited));
            }
        };
        let policy = self.policy.for_request(request.extensions());
        let terms = policy.terms();
        // The request's own deadline may be shorter than the layer's.
        if !waited.is_zero() && terms.deadline.is_some_and(|deadline| waited >= deadline) {
            // Gives back the permit of the service that is ready.
            self.inner = self.inner.clone();
            return ResponseFuture::late(self.begin(&mut request, policy, &terms, waited));
        }
        let call = self.begin(&mut request, policy, &terms, waited);
        // Not on what is kept: each attempt has its own number.
        terms.number_attempt(request.headers_mut(), 1);
        let span = call.log.span();
        let entered = span.as_ref().map(Span::enter);
        // Here: one more function would copy the request, which is 29 instructions.
        let response = self.inner.call(request);
        witness::leave(call.kept.watch());
        // By hand: a response that is moved out of a block is copied, which is 36 instructions.
        #[allow(dropping_copy_types)] // without `tracing` there is nothing to leave
        drop(entered);
        ResponseFuture::new(response, call)
    }
}

impl<S, P, R> RetryService<S, P, R> {
    /// What all attempts of a request share. The time that the caller has `waited` counts towards
    /// the deadline.
    fn begin<B>(
        &self,
        request: &mut Request<B>,
        policy: P,
        terms: &Terms,
        waited: Duration,
    ) -> Call<S, P, R, B>
    where
        P: Policy,
        R: Replay<B>,
    {
        Call {
            source: self.source.clone(),
            log: Log::of(request),
            kept: Kept::of(request, &policy, &self.replay),
            limits: Limits::of(terms, waited),
            replay: self.replay.clone(),
            policy,
            waited,
        }
    }
}
