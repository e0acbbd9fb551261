use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, Method, Request, Response, Uri, Version, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, timeout::error::Elapsed};
use tower_service::Service;

use super::{
    drain::{Draining, again},
    history::{AttemptRecord, RetryError, RetryHistory},
    log::Log,
    policy::{Attempt, Decision, Policy, StopReason},
    replay::Replay,
};

pin_project! {
    /// The response of a [`RetryService`](super::RetryService).
    pub struct ResponseFuture<S, P, R, B, RB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S::Future>,
        // Bounds the attempt, or is the backoff: never both at once. There is none unless a time is set.
        #[pin]
        timer: Option<Sleep>,
        // It has answered the first call, and is asked whether it is ready before each other.
        service: S,
        policy: P,
        replay: R,
        // What another attempt starts from, or why there will be none.
        spare: Result<Spare<B>, StopReason>,
        number: u32,
        began: Instant,
        attempt_began: Instant,
        // Made at the first failure, so that a request without one carries a pointer and no more.
        failed: Option<Box<Failed<RB>>>,
        log: Log,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // Polls the call of the service below, and its time limit.
        Attempt { #[pin] response: F },
        // Polls the timer of the backoff; without one, the drain until it has settled; without that, yields once, so that
        // a service that fails at once does not keep the task.
        // In two parts where the drain's time is up before the delay is.
        Backoff { until: Option<Instant>, yielded: bool },
        // Polls the readiness of the service below, within the time limit of the attempt.
        Ready,
        // Polls what is left of the last response, which an error takes the place of, within the bounds of the drain.
        Raise { error: Option<BoxError> },
    }
}

/// What the failed attempts leave behind.
struct Failed<RB> {
    attempts: Vec<AttemptRecord>,
    draining: Option<Draining<RB>>,
}

/// A request as the caller made it: what layers below added to an attempt is not in the next.
pub(super) struct Spare<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    extensions: Extensions,
    body: B,
    // The body of the next attempt, once there is to be one.
    next: Option<B>,
}

impl<B> Spare<B> {
    /// `None` where the body cannot be sent again.
    pub(super) fn of(request: &Request<B>, replay: &impl Replay<B>) -> Option<Self> {
        Some(Self {
            body: replay.replay(request.body())?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: request.headers().clone(),
            extensions: request.extensions().clone(),
            next: None,
        })
    }

    /// Makes the body of the next attempt, while a spare is kept for the one after it. `false` where there is none.
    fn make_next(&mut self, replay: &impl Replay<B>) -> bool {
        if self.next.is_none() {
            self.next = replay.replay(&self.body);
        }
        self.next.is_some()
    }

    /// The next request; `None` where its body has not been made.
    fn request(&mut self) -> Option<Request<B>> {
        let mut request = Request::new(self.next.take()?);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = self.extensions.clone();
        Some(request)
    }
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>>,
    P: Policy,
{
    pub(super) fn new(
        response: S::Future,
        service: S,
        policy: P,
        replay: R,
        spare: Result<Spare<B>, StopReason>,
        log: Log,
    ) -> Self {
        let began = Instant::now();
        Self {
            state: State::Attempt { response },
            timer: time_limit(&policy, Duration::ZERO).map(sleep),
            service,
            policy,
            replay,
            spare,
            number: 1,
            began,
            attempt_began: began,
            failed: None,
            log,
        }
    }
}

/// The time that an attempt may take which begins now.
fn time_limit(policy: &impl Policy, elapsed: Duration) -> Option<Duration> {
    let left = policy.deadline().map(|deadline| deadline.saturating_sub(elapsed));
    match (policy.attempt_timeout(), left) {
        (Some(timeout), Some(left)) => Some(timeout.min(left)),
        (timeout, left) => timeout.or(left),
    }
}

impl<S, P, R, B, RB> Future for ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProj::Attempt { response } => {
                    let outcome = match response.poll(cx) {
                        Poll::Ready(outcome) => outcome.map_err(Into::into),
                        Poll::Pending => {
                            this.failed.drain(cx);
                            ready!(poll_timer(this.timer.as_mut(), cx));
                            Err(Elapsed::new().into())
                        }
                    };
                    this.timer.set(None);
                    if let Some(end) = self.as_mut().after(outcome) {
                        return Poll::Ready(end);
                    }
                }
                StateProj::Backoff { until, yielded } => {
                    if this.timer.is_some() {
                        this.failed.drain(cx);
                        ready!(poll_timer(this.timer.as_mut(), cx));
                        this.timer.set(None);
                        let rest = until.take().map(|until| until.saturating_duration_since(Instant::now()));
                        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
                            if let Some(failed) = this.failed {
                                failed.draining = None;
                            }
                            this.timer.set(Some(sleep(rest)));
                            continue;
                        }
                    } else if let Some(draining) = this.failed.draining() {
                        ready!(draining.poll_settled(cx));
                    } else if !mem::replace(yielded, true) {
                        ready!(again(cx));
                    }
                    if let Some(draining) = this.failed.draining() {
                        ready!(draining.poll_handed_back(cx));
                    }
                    *this.attempt_began = Instant::now();
                    *this.number = this.number.saturating_add(1);
                    let limit = time_limit(this.policy, this.attempt_began.duration_since(*this.began));
                    this.timer.set(limit.map(sleep));
                    this.state.set(State::Ready);
                }
                StateProj::Ready => match this.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        // `after` has made the body before it chose to retry, so there is a request.
                        let request = this.spare.as_mut().ok().and_then(Spare::request);
                        let Some(request) = request else {
                            return Poll::Ready(Err("the request body could not be replayed".into()));
                        };
                        let response = this.service.call(request);
                        this.state.set(State::Attempt { response });
                    }
                    Poll::Ready(Err(error)) => {
                        let decision = Decision::Return(StopReason::NotReady);
                        this.log.decision(*this.number, decision, this.policy.retries_left());
                        let end = self.as_mut().finish(Err(error.into()), StopReason::NotReady, None);
                        return Poll::Ready(end);
                    }
                    Poll::Pending => {
                        this.failed.drain(cx);
                        ready!(poll_timer(this.timer.as_mut(), cx));
                        this.timer.set(None);
                        // What waits for a permit in it must not take one while the next attempt is slept for.
                        let fresh = this.service.clone();
                        *this.service = fresh;
                        if let Some(end) = self.as_mut().after(Err(Elapsed::new().into())) {
                            return Poll::Ready(end);
                        }
                    }
                },
                StateProj::Raise { error } => {
                    if let Some(draining) = this.failed.draining() {
                        draining.poll(cx);
                        if let Some(left) = draining.time_left() {
                            if this.timer.is_none() {
                                this.timer.set(Some(sleep(left)));
                            }
                            ready!(poll_timer(this.timer.as_mut(), cx));
                        } else {
                            ready!(draining.poll_handed_back(cx));
                        }
                    }
                    // Set with the state, and taken once.
                    return error.take().map_or(Poll::Pending, |error| Poll::Ready(Err(error)));
                }
            }
        }
    }
}

/// Pending for ever where there is no timer.
fn poll_timer(timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    /// Takes in what an attempt came to: the end of the request, or the backoff before the next attempt.
    fn after(
        mut self: Pin<&mut Self>,
        outcome: Result<Response<RB>, BoxError>,
    ) -> Option<Result<Response<RB>, BoxError>> {
        let this = self.as_mut().project();
        let now = Instant::now();
        let elapsed = now.duration_since(*this.began);
        let outcome = outcome.map(Response::into_parts);
        let seen: Result<&response::Parts, &(dyn Error + 'static)> = match &outcome {
            Ok((head, _)) => Ok(head),
            Err(error) => Err(&**error),
        };
        let failure = this.policy.classify(seen);
        let mut record = AttemptRecord {
            number: *this.number,
            failure,
            status: seen.ok().map(|head| head.status),
            elapsed: now.duration_since(*this.attempt_began),
            delay: None,
        };
        this.log.attempt(record.number, record.status, failure, record.elapsed);

        let decision = match (failure, &*this.spare) {
            (None, _) => Decision::Return(StopReason::Success),
            (Some(_), Err(reason)) => Decision::Return(*reason),
            (Some(failure), Ok(spare)) => this.policy.decide(&Attempt {
                number: *this.number,
                method: &spare.method,
                headers: &spare.headers,
                outcome: seen,
                failure,
                replayable: this.replay.can_replay(&spare.body),
                elapsed,
                now: SystemTime::now(),
                random: fastrand::f64(),
            }),
        };
        // The copy is made while there is still an answer to return in its stead.
        let replay = &*this.replay;
        let deadline = this.policy.deadline();
        let decision = match decision {
            Decision::Retry { after } if deadline.is_some_and(|deadline| elapsed.saturating_add(after) >= deadline) => {
                Decision::Return(StopReason::Deadline)
            }
            Decision::Retry { .. } if !this.spare.as_mut().is_ok_and(|spare| spare.make_next(replay)) => {
                Decision::Return(StopReason::Body)
            }
            decision => decision,
        };
        if failure.is_some() {
            this.log.decision(record.number, decision, this.policy.retries_left());
        }
        match decision {
            Decision::Return(reason) => match outcome {
                Ok((head, body)) if reason.is_exhaustion() && this.policy.raise_on_status() => {
                    // No one will read this response, so its connection depends on us, but not past the deadline.
                    let mut bounds = this.policy.drain();
                    if let Some(deadline) = this.policy.deadline() {
                        bounds.time = bounds.time.min(deadline.saturating_sub(elapsed));
                    }
                    let draining = Draining::begin(&head, body, bounds, now);
                    let error = RetryError::new(history(this.failed.take(), reason, Some(record)), None);
                    *this.failed = Some(Box::new(Failed { attempts: Vec::new(), draining }));
                    let mut state = this.state;
                    state.set(State::Raise { error: Some(error.into()) });
                    None
                }
                Ok((head, body)) => Some(self.finish(Ok(Response::from_parts(head, body)), reason, Some(record))),
                Err(error) => Some(self.finish(Err(error), reason, Some(record))),
            },
            Decision::Retry { after } => {
                record.delay = Some(after);
                let draining =
                    outcome.ok().and_then(|(head, body)| Draining::begin(&head, body, this.policy.drain(), now));
                // A delay that no clock can add is slept for in one part.
                let bound = match (&draining, now.checked_add(after)) {
                    (Some(_), Some(_)) => this.policy.drain().time.min(after),
                    _ => after,
                };
                let failed =
                    this.failed.get_or_insert_with(|| Box::new(Failed { attempts: Vec::new(), draining: None }));
                failed.attempts.push(record);
                failed.draining = draining;
                let (mut state, mut timer) = (this.state, this.timer);
                timer.set((!after.is_zero()).then(|| sleep(bound)));
                let until = if bound < after { now.checked_add(after) } else { None };
                state.set(State::Backoff { until, yielded: false });
                None
            }
        }
    }

    /// The end of the request: `outcome` with its history, or the error that the policy wants of it.
    fn finish(
        self: Pin<&mut Self>,
        outcome: Result<Response<RB>, BoxError>,
        reason: StopReason,
        last: Option<AttemptRecord>,
    ) -> Result<Response<RB>, BoxError> {
        let this = self.project();
        let failed = this.failed.take();
        if failed.is_none() && reason == StopReason::Success {
            return outcome;
        }
        let history = history(failed, reason, last);
        match outcome {
            Ok(mut response) => {
                response.extensions_mut().insert(history);
                Ok(response)
            }
            Err(error) if reason.is_exhaustion() => Err(RetryError::new(history, Some(error)).into()),
            Err(error) => Err(error),
        }
    }
}

fn history<RB>(failed: Option<Box<Failed<RB>>>, reason: StopReason, last: Option<AttemptRecord>) -> RetryHistory {
    let attempts = failed.map_or_else(Vec::new, |failed| failed.attempts);
    RetryHistory::new(attempts.into_iter().chain(last).collect(), reason)
}

/// The drain, where there is one.
trait Leftover<RB> {
    fn draining(&mut self) -> Option<&mut Draining<RB>>;
    /// Reads on beside whatever else is polled.
    fn drain(&mut self, cx: &mut Context<'_>);
}

impl<RB: Body> Leftover<RB> for Option<Box<Failed<RB>>> {
    fn draining(&mut self) -> Option<&mut Draining<RB>> {
        self.as_mut()?.draining.as_mut()
    }

    fn drain(&mut self, cx: &mut Context<'_>) {
        if let Some(draining) = self.draining() {
            draining.poll(cx);
        }
    }
}

impl<S, P, R, B, RB> fmt::Debug for ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("attempt", &self.number).finish_non_exhaustive()
    }
}
