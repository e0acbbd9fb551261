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
/// It is ready if the inner service is. If the layer's policy has a deadline, it waits for that no
/// longer than the deadline. Then it reports that it is ready, and the call answers at once with a
/// [`RetryError`](super::RetryError) without an attempt. The time waited counts towards the
/// deadline of the call. A deadline of the request's own is not known before the call, so it does
/// not bound the wait.
///
/// A wait belongs to the task that polls. Another task begins a new wait, and so does a clone, or a
/// poll long after the wait was given up. So `LoadShed` outside sheds requests at once. Two cases
/// look like another one:
///
/// - One task whose requests are shed so fast, less than 50 ms apart for a whole deadline, that it
///   answers each wake. Such a task gets one deadline error per deadline in place of `Overloaded`.
/// - A task that the runtime polls more than 50 ms late when its time is up. It counts as another
///   request, and waits for another deadline, but not for a third one.
///
/// # Buffers and load shedding
///
/// Put this layer outside `Buffer` and `LoadShed`: `RetryLayer > Buffer > LoadShed >
/// ConcurrencyLimit`. In the other order, `Buffer > LoadShed > RetryLayer > ConcurrencyLimit`, a
/// request that is shed leaves its place in the queue to the idle service of the buffer. The next
/// permit goes there, and the second attempt of another request may wait for that permit until its
/// deadline. If the order cannot change, put a service that asks for readiness inside its call
/// between the two:
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
///     // Each attempt has a clone of its own: an idle one holds no permit.
///     .service(service_fn(move |request: Request<Body>| limited.clone().oneshot(request)));
/// client.oneshot(Request::get("http://h.example/").body(Empty::new())?).await?;
/// # Ok(())
/// # }
/// ```
///
/// Such a service is always ready, so nothing is shed outside it. The routing layer is one too.
///
/// A `Buffer` keeps the permit that it got for a request whose caller has gone, until its next
/// request. If several buffers share a limit, put the limit outside them, or a time-out below.
///
/// # Clones of the inner service
///
/// The first attempt is sent by the service that was polled for readiness. The attempts after it
/// are sent by a clone of the service that the layer was given, made after the first failure. So a
/// service whose clones differ, such as one that counts its own calls, has none of the first
/// attempt in the others.
///
/// # Inside a spawned task
///
/// If the type of the service below spells out `BoxError`, rustc may refuse an `async` block that
/// calls this service and has to be `Send`, as that of `tokio::spawn` has ("implementation of
/// `From` is not general enough"). A box around the finished stack, `.boxed_clone()`, helps.
///
/// # Errors
///
/// The error of the inner service, boxed, if the policy would not retry it. A
/// [`RetryError`](super::RetryError) if a limit, the budget or the deadline was used up.
#[derive(Debug)]
pub struct RetryService<S, P = RetryPolicy, R = ReplayByTrait> {
    pub(super) inner: S,
    // Of what its clones and futures need after a failure.
    pub(super) source: Source<S>,
    pub(super) policy: P,
    pub(super) replay: R,
    pub(super) readiness: Readiness,
}

impl<S: Clone, P: Clone, R: Clone> Clone for RetryService<S, P, R> {
    fn clone(&self) -> Self {
        let (source, policy, replay) =
            (self.source.clone(), self.policy.clone(), self.replay.clone());
        let readiness = self.readiness.clone();
        // Last, so that the clone is made in its place: a copy of a client is 76 instructions.
        Self { source, policy, replay, readiness, inner: self.inner.clone() }
    }
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
            // The place in a queue for permits goes to others.
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
            // The permit of the service that is ready goes back.
            self.inner = self.inner.clone();
            return ResponseFuture::late(self.begin(&mut request, policy, &terms, waited));
        }
        let call = self.begin(&mut request, policy, &terms, waited);
        // What is kept has no number: each attempt has its own.
        terms.number_attempt(request.headers_mut(), 1);
        let span = call.log.span();
        let entered = span.as_ref().map(Span::enter);
        // Here, since a request that is handed on once more is copied, which is 29 instructions.
        let response = self.inner.call(request);
        witness::leave(call.kept.watch());
        // By hand: a response that is moved out of a block is copied, which is 36 instructions.
        #[allow(dropping_copy_types)] // without `tracing` there is nothing to leave
        drop(entered);
        ResponseFuture::new(response, call)
    }
}

impl<S, P, R> RetryService<S, P, R> {
    /// What all attempts of a request share. The caller has waited for so long already: it counts
    /// towards the deadline.
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
