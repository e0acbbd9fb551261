use std::{
    error::Error,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Response, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, timeout::error::Elapsed};
use tower_service::Service;

use super::{
    classify,
    decision::{Attempt, Decision, StopReason},
    drain::{Draining, again},
    history::{AttemptRecord, Attempts, RetryError, RetryHistory},
    kept::Kept,
    log::Log,
    policy::{self, Policy},
    replay::Replay,
    round,
};

pin_project! {
    /// The response of a [`RetryService`](super::RetryService).
    pub struct ResponseFuture<S, P, R, B, RB>
    where
        S: Service<http::Request<B>>,
    {
        #[pin]
        state: State<S::Future>,
        // Bounds the attempt, or is the backoff: never both at once. There is none unless a time is set.
        #[pin]
        timer: Option<Sleep>,
        // A clone of the one that took the first call; it is asked whether it is ready before each other.
        service: S,
        policy: P,
        replay: R,
        kept: Kept<B>,
        began: Instant,
        // Made at the first failure, so that a request without one carries a pointer and no more.
        failed: Option<Box<Failed<B, RB>>>,
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
        // Polls the readiness of the service below, within the deadline.
        Ready,
        // Polls what is left of the last response, which an error takes the place of, within the bounds of the drain.
        Raise { error: Option<BoxError> },
    }
}

/// What the failed attempts leave behind.
struct Failed<B, RB> {
    attempts: Attempts,
    // Of the attempt that runs or is waited for.
    number: u32,
    attempt_began: Instant,
    // What the next attempt starts from, made while there is still an answer to return in its
    // stead.
    next: Option<(HeaderMap, B)>,
    draining: Option<Draining<RB>>,
    // The last attempt's, should there be no time left before the deadline for another after all.
    error: Option<BoxError>,
    slept: bool,
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<http::Request<B>> + Clone,
    P: Policy,
{
    /// Sends the first attempt. The service is ready.
    #[inline]
    pub(super) fn new(
        service: &mut S,
        request: http::Request<B>,
        policy: P,
        replay: R,
        kept: Kept<B>,
        log: Log,
    ) -> Self {
        let began = Instant::now();
        let response = match log.span() {
            None => service.call(request),
            Some(span) => span.in_scope(|| service.call(request)),
        };
        let state = State::Attempt { response };
        Self {
            state,
            timer: None,
            service: service.clone(),
            policy,
            replay,
            kept,
            began,
            failed: None,
            log,
        }
    }
}

/// Longer delays mean the same, which is longer than a process lives: any clock can add it.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// What is left of the time that an attempt may take; without one, of the whole request's.
fn limit(policy: &impl Policy, began: Instant, attempt_began: Option<Instant>) -> Option<Duration> {
    let left = |time: Option<Duration>, since: Instant| {
        time.map(|time| time.saturating_sub(since.elapsed()))
    };
    let attempt =
        attempt_began.and_then(|attempt_began| left(policy.attempt_timeout(), attempt_began));
    match (attempt, left(policy.deadline(), began)) {
        (Some(timeout), Some(left)) => Some(timeout.min(left)),
        (timeout, left) => timeout.or(left),
    }
}

fn is_past_deadline(policy: &impl Policy, began: Instant) -> bool {
    policy.deadline().is_some_and(|deadline| began.elapsed() >= deadline)
}

/// Ready once the attempt, or what comes before it, has had its time. Drains beside it, and lets go
/// of what is drained once that has had its own.
///
/// The timer is made once something is waited for. A drain alone makes none unless the request has
/// slept before: there may be no driver for it, and the drain ends with the attempt.
fn poll_limit<B, RB: Body>(
    mut timer: Pin<&mut Option<Sleep>>,
    failed: &mut Option<Box<Failed<B, RB>>>,
    policy: &impl Policy,
    began: Instant,
    attempt_began: Option<Instant>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        failed.drain(cx);
        if timer.is_none() {
            let limit = limit(policy, began, attempt_began);
            let slept = failed.as_ref().is_some_and(|failed| failed.slept);
            let drained = failed
                .draining()
                .filter(|_| slept || limit.is_some())
                .and_then(|drain| drain.time_left());
            timer.set(limit.into_iter().chain(drained).min().map(sleep));
        }
        ready!(poll_timer(timer.as_mut(), cx));
        timer.set(None);
        if limit(policy, began, attempt_began).is_some_and(|left| left.is_zero()) {
            return Poll::Ready(());
        }
    }
}

impl<S, P, R, B, RB> Future for ResponseFuture<S, P, R, B, RB>
where
    S: Service<http::Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.log.span() {
            None => self.advance(cx),
            Some(span) => span.in_scope(|| self.advance(cx)),
        }
    }
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<http::Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    fn advance(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<RB>, BoxError>> {
        loop {
            let mut this = self.as_mut().project();
            match this.state.as_mut().project() {
                StateProj::Attempt { response } => {
                    let outcome = match response.poll(cx) {
                        // By far the most go this way.
                        Poll::Ready(Ok(response))
                            if this.failed.is_none()
                                && this.policy.is_success(response.status())
                                && !this.log.listens() =>
                        {
                            return Poll::Ready(Ok(response));
                        }
                        Poll::Ready(outcome) => outcome.map_err(Into::into),
                        Poll::Pending => {
                            let began = *this.began;
                            let attempt_began =
                                this.failed.as_ref().map_or(began, |failed| failed.attempt_began);
                            let timer = this.timer.as_mut();
                            ready!(poll_limit(
                                timer,
                                this.failed,
                                this.policy,
                                began,
                                Some(attempt_began),
                                cx
                            ));
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
                        let rest = until
                            .take()
                            .map(|until| until.saturating_duration_since(Instant::now()));
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
                    if is_past_deadline(this.policy, *this.began) {
                        return Poll::Ready(Err(self.as_mut().out_of_time()));
                    }
                    if let Some(failed) = this.failed {
                        failed.number = failed.number.saturating_add(1);
                    }
                    this.state.set(State::Ready);
                }
                StateProj::Ready => match this.service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        if is_past_deadline(this.policy, *this.began) {
                            return Poll::Ready(Err(self.as_mut().out_of_time()));
                        }
                        // That of the wait for readiness, which knew the deadline alone.
                        this.timer.set(None);
                        if let Some(failed) = this.failed {
                            failed.attempt_began = Instant::now();
                        }
                        // `after` has made both before it chose to retry.
                        let next = this
                            .failed
                            .as_mut()
                            .and_then(|failed| Some((failed.number, failed.next.take()?)));
                        let Some((number, (headers, body))) = next else {
                            return Poll::Ready(Err("the request could not be made again".into()));
                        };
                        let mut request = this.kept.request(headers, body);
                        if let Some(name) = this.policy.attempt_header() {
                            policy::number_attempt(request.headers_mut(), name, number);
                        }
                        let response = this.service.call(request);
                        this.state.set(State::Attempt { response });
                    }
                    Poll::Ready(Err(error)) => {
                        let number = this.failed.as_ref().map_or(1, |failed| failed.number);
                        let decision = Decision::Return(StopReason::NotReady);
                        this.log.decision(number, decision, this.policy.retries_left());
                        return Poll::Ready(Err(error.into()));
                    }
                    Poll::Pending => {
                        // Nothing is sent yet, so no attempt runs: the deadline alone bounds the
                        // wait.
                        ready!(poll_limit(
                            this.timer.as_mut(),
                            this.failed,
                            this.policy,
                            *this.began,
                            None,
                            cx
                        ));
                        return Poll::Ready(Err(self.as_mut().out_of_time()));
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
    S: Service<http::Request<B>, Response = Response<RB>>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    /// Takes in what an attempt came to: the end of the request, or the backoff before the next
    /// attempt.
    fn after(
        mut self: Pin<&mut Self>,
        outcome: Result<Response<RB>, BoxError>,
    ) -> Option<Result<Response<RB>, BoxError>> {
        let this = self.as_mut().project();
        let outcome = outcome.map(Response::into_parts);
        let seen: Result<&response::Parts, &(dyn Error + 'static)> = match &outcome {
            Ok((head, _)) => Ok(head),
            Err(error) => Err(&**error),
        };
        let failure = this.policy.classify(seen);
        if failure.is_none() && this.failed.is_none() && !this.log.listens() {
            return Some(outcome.map(|(head, body)| Response::from_parts(head, body)));
        }
        let now = Instant::now();
        let elapsed = now.duration_since(*this.began);
        let (number, attempt_began) = this
            .failed
            .as_ref()
            .map_or((1, *this.began), |failed| (failed.number, failed.attempt_began));
        let mut record = AttemptRecord {
            number,
            failure,
            status: seen.ok().map(|head| head.status),
            elapsed: now.duration_since(attempt_began),
            delay: None,
        };
        this.log.attempt(&record);

        let mut next = None;
        let decision = match failure {
            None => Decision::Return(StopReason::Success),
            Some(failure) => {
                let (headers, body) = (this.kept.headers(), this.kept.body());
                let attempt = Attempt {
                    number,
                    method: this.kept.method(),
                    headers: &headers,
                    outcome: seen,
                    failure,
                    replayable: body.is_ok_and(|body| {
                        let starved =
                            seen.is_err_and(classify::is_elapsed) && this.replay.is_starved(body);
                        !starved && this.replay.can_replay(body)
                    }),
                    elapsed,
                    now: SystemTime::now(),
                    random: fastrand::f64(),
                };
                match (this.policy.decide(&attempt), body) {
                    (Decision::Retry { .. } | Decision::Return(StopReason::Body), Err(reason)) => {
                        Decision::Return(reason)
                    }
                    (Decision::Retry { after }, _)
                        if round::too_late(elapsed, after, this.policy.deadline()) =>
                    {
                        Decision::Return(StopReason::Deadline)
                    }
                    (Decision::Retry { after }, Ok(body)) => match this.replay.replay(body) {
                        Some(body) => {
                            next = Some((headers, body));
                            Decision::Retry { after }
                        }
                        None => Decision::Return(StopReason::Body),
                    },
                    (decision, _) => decision,
                }
            }
        };
        if failure.is_some() {
            this.log.decision(number, decision, this.policy.retries_left());
        }
        match decision {
            Decision::Return(reason) => match outcome {
                Ok((head, body)) if reason.is_exhaustion() && this.policy.raise_on_status() => {
                    // No one will read this response, so its connection depends on us, but not past
                    // the deadline.
                    let mut bounds = this.policy.drain();
                    if let Some(deadline) = this.policy.deadline() {
                        bounds.time = bounds.time.min(deadline.saturating_sub(elapsed));
                    }
                    let error =
                        RetryError::new(history(this.failed.take(), reason, Some(record)), None);
                    let failed = this.failed.insert(Failed::new(number, attempt_began));
                    failed.draining = Draining::begin(&head, body, bounds, now);
                    let mut state = this.state;
                    state.set(State::Raise { error: Some(error.into()) });
                    None
                }
                Ok((head, body)) => {
                    Some(self.finish(Ok(Response::from_parts(head, body)), reason, Some(record)))
                }
                Err(error) => Some(self.finish(Err(error), reason, Some(record))),
            },
            Decision::Retry { after } => {
                record.delay = Some(after);
                let failed = this.failed.get_or_insert_with(|| Failed::new(number, attempt_began));
                failed.attempts.push(record);
                failed.next = next;
                (failed.draining, failed.error) = match outcome {
                    Ok((head, body)) => {
                        (Draining::begin(&head, body, this.policy.drain(), now), None)
                    }
                    Err(error) => (None, this.policy.deadline().and(Some(error))),
                };
                failed.slept |= !after.is_zero();
                let after = after.min(LONGEST);
                let bound =
                    failed.draining.as_ref().map_or(after, |_| this.policy.drain().time.min(after));
                let (mut state, mut timer) = (this.state, this.timer);
                timer.set((!after.is_zero()).then(|| sleep(bound)));
                let until = (bound < after).then(|| now + after);
                state.set(State::Backoff { until, yielded: false });
                None
            }
        }
    }

    /// The end of the request: `outcome` with its history, or the error that the policy wants of
    /// it.
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
            Err(error) if reason.is_exhaustion() => {
                Err(RetryError::new(history, Some(error)).into())
            }
            Err(error) => Err(error),
        }
    }

    /// The error of a request whose next attempt would begin after the deadline, though it was not
    /// to: the machine was too busy, or the service below was not ready in time. The last
    /// response is drained by then.
    fn out_of_time(self: Pin<&mut Self>) -> BoxError {
        let this = self.project();
        let mut failed = this.failed.take();
        let mut source = None;
        if let Some(failed) = &mut failed {
            this.log.decision(
                failed.number,
                Decision::Return(StopReason::Deadline),
                this.policy.retries_left(),
            );
            failed.attempts.end();
            source = failed.error.take();
        }
        RetryError::new(history(failed, StopReason::Deadline, None), source).into()
    }
}

impl<B, RB> Failed<B, RB> {
    fn new(number: u32, attempt_began: Instant) -> Box<Self> {
        let attempts = Attempts::default();
        Box::new(Self {
            attempts,
            number,
            attempt_began,
            next: None,
            draining: None,
            error: None,
            slept: false,
        })
    }
}

fn history<B, RB>(
    failed: Option<Box<Failed<B, RB>>>,
    reason: StopReason,
    last: Option<AttemptRecord>,
) -> RetryHistory {
    let mut attempts = failed.map_or_else(Attempts::default, |failed| failed.attempts);
    attempts.extend(last);
    RetryHistory::new(attempts, reason)
}

/// The drain, where there is one.
trait Leftover<RB> {
    fn draining(&mut self) -> Option<&mut Draining<RB>>;
    /// Reads on beside whatever else is polled.
    fn drain(&mut self, cx: &mut Context<'_>);
}

impl<B, RB: Body> Leftover<RB> for Option<Box<Failed<B, RB>>> {
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
    S: Service<http::Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempt = self.failed.as_ref().map_or(1, |failed| failed.number);
        f.debug_struct("ResponseFuture").field("attempt", &attempt).finish_non_exhaustive()
    }
}
