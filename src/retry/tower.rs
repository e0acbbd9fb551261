//! The policy on tower's own runner, `tower::retry::Retry`.

use std::{
    error::Error,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Request, Response, request, response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

use super::{
    decision::{AttemptNumber, Outcome, StopReason},
    drain::again,
    history::RetryHistory,
    policy::{Policy, RetryPolicy},
    replay::{ReplayByTrait, replayable::ReplayableBody},
    round::{self, Moment, Sent},
    witness,
};

/// Runs the policy on `tower::retry::RetryLayer`, with the same counters, classes, delays,
/// `Retry-After`, budget and override, and with a history on the last response.
///
/// Tower's runner asks its policy for a delay and nothing else. So some settings work only in
/// [`RetryLayer`](super::RetryLayer):
///
/// - [`attempt_timeout`](RetryPolicy::attempt_timeout),
///   [`raise_on_status`](RetryPolicy::raise_on_status), [`drain`](RetryPolicy::drain) and events
///   have no effect here.
/// - The [`deadline`](RetryPolicy::deadline) refuses a delay here. It does not end an attempt in
///   flight.
/// - An error has no history here. Neither has a response to a request that could not be retried
///   from the start.
/// - The [`attempt_header`](RetryPolicy::attempt_header) begins with the second attempt here.
/// - [`before_retry`](RetryPolicy::before_retry) is called before the delay here.
///
/// A POST whose error says that it was never sent is retried here too. But tower's runner sends the
/// first attempt as the caller made it, without the extension that tells one exchange from
/// [several](super#never-sent). So the error is believed, unless a `RetryLayer` below reports an
/// attempt that the server may have processed. If a service below follows redirects, use
/// [`RetryLayer`](super::RetryLayer).
///
/// For a service whose errors are boxed use [`boxed_errors`](RetryPolicy::boxed_errors).
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
            Err(error) => self.settle(request, Err(error)).ok(),
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.copy(request)
    }
}

/// A [`RetryPolicy`] for `tower::retry::RetryLayer` around a service whose errors are
/// [`BoxError`]s. [`RetryPolicy::boxed_errors`] makes it.
#[derive(Clone, Debug)]
pub struct BoxedErrors(RetryPolicy);

impl RetryPolicy {
    /// Wraps this policy for `tower::retry::RetryLayer` around a service whose errors are
    /// [`BoxError`]s.
    ///
    /// The policy itself needs errors that implement `std::error::Error`. `BoxError` does not.
    /// [`RetryLayer`](super::RetryLayer) needs no wrapper.
    ///
    /// ```
    /// use tower_outbound::retry::RetryPolicy;
    ///
    /// let layer = tower::retry::RetryLayer::new(RetryPolicy::new().boxed_errors());
    /// ```
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
            Err(error) => self.0.settle(request, Err(&**error)).ok(),
        }
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.0.copy(request)
    }
}

impl RetryPolicy {
    /// The copy that tower's runner keeps while a request is sent.
    fn copy<B: ReplayableBody>(&mut self, request: &Request<B>) -> Option<Request<B>> {
        self.serve(request.extensions(), Instant::now());
        if !self.may_retry(request.method(), request.headers()) {
            return None;
        }
        let body = request.body().try_replay()?;
        Some(Request::from_parts(head_of(request), body))
    }

    fn after_response<B: ReplayableBody, RB>(
        &mut self,
        request: &mut Request<B>,
        response: &mut Response<RB>,
    ) -> Option<RetryDelay> {
        // A policy needs a head without a body. This response is only borrowed, so its parts are
        // moved there and back.
        let (mut head, ()) = Response::new(()).into_parts();
        let mut swap = |head: &mut response::Parts| {
            mem::swap(&mut head.status, response.status_mut());
            mem::swap(&mut head.version, response.version_mut());
            mem::swap(&mut head.headers, response.headers_mut());
            mem::swap(&mut head.extensions, response.extensions_mut());
        };
        swap(&mut head);
        let settled = self.settle(request, Ok(&head));
        swap(&mut head);
        match settled {
            Ok(delay) => Some(delay),
            Err(history) => {
                if let Some(history) = history {
                    response.extensions_mut().insert(history);
                }
                None
            }
        }
    }

    /// The delay before the next attempt, or the history if there is none. No history if no attempt
    /// has failed.
    fn settle<B: ReplayableBody>(
        &mut self,
        request: &mut Request<B>,
        outcome: Outcome<'_>,
    ) -> Result<RetryDelay, Option<RetryHistory>> {
        let failure = witness::settle(Policy::classify(self, outcome), outcome, |outcome| {
            self.may_repeat(request.method(), request.headers())
                || !outcome.is_err_and(witness::has_sent_attempt)
        });
        if failure.is_none() && !self.has_failed() {
            return Err(None);
        }
        let moment = Moment {
            elapsed: self.began().map_or(Duration::ZERO, |began| began.elapsed()),
            now: SystemTime::now(),
            random: fastrand::f64(),
        };
        // This request is the copy that the runner keeps. The hook may have changed it before the
        // last attempt, but each attempt starts from the caller's own head.
        match self.own_head() {
            Some(Some(own)) => set_head(request, own),
            Some(kept) => *kept = Some(head_of(request)),
            None => {}
        }
        let asked = match (failure, outcome) {
            (Some(_), Ok(head)) => self.server_delay(head, moment.now),
            _ => None,
        };
        self.round().record(outcome, failure, asked, moment.elapsed);
        let settled = match failure {
            None => Err(StopReason::Success),
            Some(failure) => {
                let (method, headers) = (request.method(), request.headers());
                let uri = Some(request.uri());
                // The runner sends the copy that it has, so there is one.
                let body = Ok(request.body());
                let sent = Sent { method, uri, headers, body, replay: &ReplayByTrait };
                let attempt = self.round().attempt(&sent, outcome, failure, moment);
                let word = self.decide(&attempt);
                round::settle(word, None, moment.elapsed, self.terms().deadline)
            }
        };
        match settled {
            Ok(after) => {
                let round = self.round();
                round.retry(after);
                // The runner does not say when the delay has ended.
                round.begin(moment.elapsed.saturating_add(after));
                let number = round.number();
                let failed = round.last().cloned();
                self.terms().number_attempt(request.headers_mut(), number);
                request.extensions_mut().insert(AttemptNumber(number));
                if let Some(failed) = failed.filter(|_| self.own_head().is_some()) {
                    let mut head = head_of(request);
                    self.prepare(&mut head, &failed);
                    set_head(request, &head);
                }
                Ok(RetryDelay::new(after))
            }
            Err(reason) => Err(Some(self.round().end(reason))),
        }
    }
}

/// A copy of the head of a borrowed request.
fn head_of<B>(request: &Request<B>) -> request::Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.version = request.version();
    head.headers = request.headers().clone();
    head.extensions = request.extensions().clone();
    head
}

fn set_head<B>(request: &mut Request<B>, head: &request::Parts) {
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    *request.extensions_mut() = head.extensions.clone();
}

pin_project! {
    /// The future of the delay before an attempt, for tower's own runner.
    #[derive(Debug)]
    pub struct RetryDelay {
        // `None` for no delay: no timer is made, and the other tasks have their turn once.
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
