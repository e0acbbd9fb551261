//! The policy on tower's own runner, `tower::retry::Retry`.

use std::{
    error::Error,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Request, Response, response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::{
    classify,
    decision::{Attempt, Decision, Outcome, StopReason},
    drain::again,
    history::{AttemptRecord, RetryHistory},
    policy::{self, Policy, RetryPolicy},
    replay::replayable::ReplayableBody,
};

/// Runs on `tower::retry::RetryLayer` too, with the same counters, classes, delays, Retry-After,
/// budget, override and history on the last response.
///
/// What only [`RetryLayer`](super::RetryLayer) does, since tower's runner asks for no more than a
/// delay: [`attempt_timeout`](RetryPolicy::attempt_timeout), a [`deadline`](RetryPolicy::deadline)
/// that cuts an attempt in flight (here it refuses a delay),
/// [`raise_on_status`](RetryPolicy::raise_on_status), [`drain`](RetryPolicy::drain), a history of
/// errors, [`attempt_header`](RetryPolicy::attempt_header) on the first attempt (here from the
/// second on), events, and a request of which nothing is kept where the limits rule a retry out
/// after it was sent.
///
/// For errors that are boxed there is [`boxed_errors`](RetryPolicy::boxed_errors).
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::{Empty, Full};
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_outbound::retry::RetryPolicy;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let server = service_fn(|_request: Request<Empty<&'static [u8]>>| async {
///     Ok::<_, BoxError>(Response::new(Full::new(&b"hello"[..])))
/// });
/// let client = tower::retry::RetryLayer::new(RetryPolicy::new().boxed_errors()).layer(server);
/// client.oneshot(Request::get("http://h.example/").body(Empty::new())?).await?;
/// # Ok(())
/// # }
/// ```
impl<B, RB, E> tower::retry::Policy<Request<B>, Response<RB>, E> for RetryPolicy
where
    B: ReplayableBody,
    E: Error + 'static,
{
    type Future = RetryDelay;

    fn retry(
        &mut self,
        request: &mut Request<B>,
        result: &mut Result<Response<RB>, E>,
    ) -> Option<RetryDelay> {
        match result {
            Ok(response) => self.after_response(request, response),
            Err(error) => self.after(request, Err(error)).ok(),
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.copy(request)
    }
}

/// A [`RetryPolicy`] for `tower::retry::RetryLayer` around a service whose errors are
/// [`BoxError`]s.
#[derive(Clone, Debug)]
pub struct BoxedErrors(RetryPolicy);

impl RetryPolicy {
    /// This policy for `tower::retry::RetryLayer` around a service whose errors are [`BoxError`]s,
    /// which are no `std::error::Error` themselves.
    #[must_use]
    pub const fn boxed_errors(self) -> BoxedErrors {
        BoxedErrors(self)
    }
}

impl<B, RB> tower::retry::Policy<Request<B>, Response<RB>, BoxError> for BoxedErrors
where
    B: ReplayableBody,
{
    type Future = RetryDelay;

    fn retry(
        &mut self,
        request: &mut Request<B>,
        result: &mut Result<Response<RB>, BoxError>,
    ) -> Option<RetryDelay> {
        match result {
            Ok(response) => self.0.after_response(request, response),
            Err(error) => self.0.after(request, Err(&**error)).ok(),
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.0.copy(request)
    }
}

impl RetryPolicy {
    /// The copy that is kept while a request is sent. Tower's runner asks for the first one on the
    /// layer's policy, which it copies next for the request; so what one request has changed of
    /// it ends with the next.
    fn copy<B: ReplayableBody>(&mut self, request: &Request<B>) -> Option<Request<B>> {
        if self.used.is_none() {
            self.begin(request);
        }
        if !self.may_retry(request.method(), request.headers()) {
            return None;
        }
        let mut copy = Request::new(request.body().try_replay()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.version_mut() = request.version();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }

    fn begin<B>(&mut self, request: &Request<B>) {
        if let Some(settings) = self.overridden.take() {
            self.settings = settings;
        }
        let policy = self.for_request(request.extensions());
        if !Arc::ptr_eq(&policy.settings, &self.settings) {
            self.overridden = Some(mem::replace(&mut self.settings, policy.settings));
        }
        self.began = Some(Instant::now());
    }

    fn after_response<B: ReplayableBody, RB>(
        &mut self,
        request: &mut Request<B>,
        response: &mut Response<RB>,
    ) -> Option<RetryDelay> {
        // The head is lent to the policy, which wants it without a body.
        let (mut head, ()) = Response::new(()).into_parts();
        let mut swap = |head: &mut response::Parts| {
            mem::swap(&mut head.status, response.status_mut());
            mem::swap(&mut head.version, response.version_mut());
            mem::swap(&mut head.headers, response.headers_mut());
            mem::swap(&mut head.extensions, response.extensions_mut());
        };
        swap(&mut head);
        let decided = self.after(request, Ok(&head));
        swap(&mut head);
        match decided {
            Ok(delay) => Some(delay),
            Err(history) => {
                if let Some(history) = history {
                    response.extensions_mut().insert(history);
                }
                None
            }
        }
    }

    /// The delay before the next attempt, or the history if there is none.
    fn after<B: ReplayableBody>(
        &mut self,
        request: &mut Request<B>,
        outcome: Outcome<'_>,
    ) -> Result<RetryDelay, Option<RetryHistory>> {
        let failure = Policy::classify(self, outcome);
        if failure.is_none() && self.used.is_none() {
            return Err(None);
        }
        let used = self.used.get_or_insert_default();
        let elapsed = self.began.map_or(Duration::ZERO, |began| began.elapsed());
        let mut record = AttemptRecord {
            number: used.number.saturating_add(1),
            failure,
            status: outcome.ok().map(|head| head.status),
            elapsed: elapsed.saturating_sub(used.attempt_began),
            delay: None,
        };
        used.number = record.number;
        let decision = match failure {
            None => Decision::Return(StopReason::Success),
            Some(failure) => self.decide(&Attempt {
                number: record.number,
                method: request.method(),
                headers: request.headers(),
                outcome,
                failure,
                replayable: {
                    let starved =
                        outcome.is_err_and(classify::is_elapsed) && request.body().is_starved();
                    !starved && request.body().can_replay()
                },
                elapsed,
                now: SystemTime::now(),
                random: fastrand::f64(),
            }),
        };
        let used = self.used.get_or_insert_default();
        match decision {
            Decision::Retry { after } => {
                record.delay = Some(after);
                used.attempt_began = elapsed.saturating_add(after);
                used.attempts.push(record);
                if let Some(name) = &self.settings.attempt_header {
                    policy::number_attempt(
                        request.headers_mut(),
                        name,
                        used.number.saturating_add(1),
                    );
                }
                Ok(RetryDelay::new(after))
            }
            Decision::Return(reason) => {
                used.attempts.push(record);
                Err(Some(RetryHistory::new(mem::take(&mut used.attempts), reason)))
            }
        }
    }
}

pin_project! {
    /// The delay before an attempt, on tower's own runner.
    #[derive(Debug)]
    pub struct RetryDelay {
        // None for no delay: then it lets the other tasks have their turn, and touches no timer.
        #[pin]
        timer: Option<Sleep>,
        yielded: bool,
    }
}

impl RetryDelay {
    fn new(after: Duration) -> Self {
        Self { timer: (!after.is_zero()).then(|| sleep(after)), yielded: false }
    }
}

impl Future for RetryDelay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match this.timer.as_pin_mut() {
            Some(timer) => timer.poll(cx),
            None => {
                if !mem::replace(this.yielded, true) {
                    ready!(again(cx));
                }
                Poll::Ready(())
            }
        }
    }
}
