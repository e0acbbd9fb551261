use std::{
    fmt,
    future::Future,
    ops::ControlFlow,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use http::{Request, Response, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::{BoxError, timeout::error::Elapsed};
use tower_service::Service;

use super::{
    classify::Failure,
    decision::{AttemptNumber, Decision, Outcome, StopReason},
    drain::Draining,
    history::{RetryError, RetryHistory},
    kept::{Copied, Kept},
    limit::Limits,
    log::{Log, Span},
    pause::{Before, Missed, Pause},
    policy::{Policy, Terms},
    replay::Replay,
    round::{self, Moment, Round, Sent},
    source::Source,
    witness,
};

pin_project! {
    /// The response future of [`RetryService`](super::RetryService).
    pub struct ResponseFuture<S, P, R, B, RB>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B, RB>,
        call: Call<S, P, R, B>,
    }
}

pin_project! {
    #[project = StateProj]
    #[project_replace = StateOwned]
    enum State<S, F, B, RB> {
        // Polls the call of the inner service, within its time limits, and the drain.
        Attempt {
            #[pin]
            response: F,
            // `None` until something is waited for, and while no time is limited.
            #[pin]
            timer: Option<Sleep>,
            // `None` for the first attempt, so that a request without a failure allocates nothing.
            before: Option<Pin<Box<Before<S, RB>>>>,
        },
        // Polls the pause before the next attempt, whose body is copied by then.
        Pause {
            #[pin]
            pause: Pause,
            copied: Copied<B>,
            before: Pin<Box<Before<S, RB>>>,
        },
        // Polls the drain of the last response, then ends with an error instead of it.
        Raise {
            #[pin]
            draining: Draining<RB>,
            #[pin]
            timer: Option<Sleep>,
            history: RetryHistory,
        },
        // Polls nothing: the deadline passed before the first attempt.
        Late,
        // Polls nothing: the request has ended.
        Done,
    }
}

/// What all attempts of a request share.
struct Call<S, P, R, B> {
    // Makes the service that sends all attempts but the first.
    source: Source<S>,
    policy: P,
    terms: Terms,
    replay: R,
    kept: Kept<B>,
    // When the wait for the first attempt began, and how long it was.
    began: Instant,
    waited: Duration,
    log: Log,
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>> + Clone,
{
    /// Sends the first attempt. The service is ready.
    pub(super) fn new(
        service: &mut S,
        source: Source<S>,
        mut request: Request<B>,
        policy: P,
        replay: R,
        kept: Kept<B>,
        log: Log,
    ) -> Self
    where
        P: Policy,
    {
        let (began, terms) = (Instant::now(), policy.terms());
        // Not on what is kept: each attempt has its own number.
        terms.number_attempt(request.headers_mut(), 1);
        let span = log.span();
        let entered = span.as_ref().map(Span::enter);
        let response = service.call(request);
        witness::leave(kept.watch());
        // By hand: a response that is moved out of a block is copied, which is 36 instructions.
        #[allow(dropping_copy_types)] // without `tracing` there is nothing to leave
        drop(entered);
        Self {
            state: State::Attempt { response, timer: None, before: None },
            call: Call { source, policy, terms, replay, kept, began, waited: Duration::ZERO, log },
        }
    }

    /// Sends nothing: the deadline passed before the service was ready.
    pub(super) fn late(source: Source<S>, policy: P, replay: R, kept: Kept<B>, log: Log) -> Self
    where
        P: Policy,
    {
        let (began, waited) = (Instant::now(), Duration::ZERO);
        let terms = policy.terms();
        Self {
            state: State::Late,
            call: Call { source, policy, terms, replay, kept, began, waited, log },
        }
    }

    /// Counts the time that the caller has waited towards the deadline. In place, since returning
    /// the future once more would copy it.
    pub(super) fn follow(&mut self, waited: Duration) {
        if let Some(began) = self.call.began.checked_sub(waited) {
            (self.call.began, self.call.waited) = (began, waited);
        }
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

    /// # Panics
    ///
    /// If it is polled after completion.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let span = self.call.log.span();
        let _entered = span.as_ref().map(Span::enter);
        loop {
            let mut this = self.as_mut().project();
            let next = match this.state.as_mut().project() {
                StateProj::Attempt { response, timer, before } => {
                    witness::enter(this.call.kept.watch());
                    let outcome = match response.poll(cx) {
                        // Most requests end here.
                        Poll::Ready(Ok(response))
                            if before.is_none() && this.call.is_success(&response) =>
                        {
                            return Poll::Ready(Ok(response));
                        }
                        Poll::Ready(outcome) => outcome.map_err(Into::into),
                        Poll::Pending => {
                            if let Some(watch) = this.call.kept.watch() {
                                watch.waits();
                            }
                            let before = before.as_mut().map(Pin::as_mut);
                            ready!(this.call.poll_limit(timer, before, cx));
                            Err(Elapsed::new().into())
                        }
                    };
                    this.call.settle(outcome, before.take())
                }
                StateProj::Pause { pause, before, .. } => {
                    let Call { source, terms, began, .. } = &*this.call;
                    let limits = Limits { terms, began: *began };
                    match ready!(pause.poll(
                        before.as_mut(),
                        || source.get(),
                        limits,
                        S::poll_ready,
                        cx
                    )) {
                        Err(missed) => {
                            ControlFlow::Break(Err(this.call.give_up(missed, before.as_mut())))
                        }
                        Ok(()) => {
                            // By value: the body is moved into the call.
                            let over = this.state.as_mut().project_replace(State::Done);
                            if let StateOwned::Pause { copied, before, .. } = over {
                                this.state.set(this.call.send(copied, before));
                            }
                            continue;
                        }
                    }
                }
                StateProj::Raise { draining, timer, history } => {
                    ready!(poll_raise(draining, timer, cx));
                    let error = RetryError::new(history.clone(), None);
                    ControlFlow::Break(Err(error.into()))
                }
                StateProj::Late => ControlFlow::Break(Err(this.call.late())),
                StateProj::Done => panic!("`ResponseFuture` polled after completion"),
            };
            match next {
                ControlFlow::Continue(state) => this.state.set(state),
                ControlFlow::Break(end) => {
                    this.state.set(State::Done);
                    return Poll::Ready(end);
                }
            }
        }
    }
}

/// What follows a state: the next one, or the end of the request.
type Next<S, F, B, RB> = ControlFlow<Result<Response<RB>, BoxError>, State<S, F, B, RB>>;

impl<S, P, R, B> Call<S, P, R, B>
where
    S: Service<Request<B>> + Clone,
    P: Policy,
    R: Replay<B>,
{
    /// Whether a first response is a success that is not logged.
    fn is_success<RB>(&self, response: &Response<RB>) -> bool {
        self.policy.is_success(response.status()) && !self.log.listens()
    }

    /// Handles the outcome of an attempt.
    fn settle<RB: Body>(
        &mut self,
        outcome: Result<Response<RB>, BoxError>,
        before: Option<Pin<Box<Before<S, RB>>>>,
    ) -> Next<S, S::Future, B, RB> {
        let outcome = outcome.map(Response::into_parts);
        let seen = match &outcome {
            Ok((head, _)) => Ok(head),
            Err(error) => Err(&**error as _),
        };
        let watch = self.kept.watch();
        let failure = witness::settle(self.policy.classify(seen), seen, |outcome| {
            watch.is_none_or(|watch| watch.believes(outcome))
        });
        if failure.is_none() && before.is_none() && !self.log.listens() {
            return ControlFlow::Break(outcome.map(join));
        }
        let mut before = before.unwrap_or_else(|| {
            let mut before = Box::pin(Before::default());
            before.as_mut().project().round.begin(self.waited);
            before
        });
        let elapsed = self.began.elapsed();
        let asked = match (failure, seen) {
            (Some(_), Ok(head)) => self.policy.server_delay(head, SystemTime::now()),
            _ => None,
        };
        self.log.attempt(before.as_mut().project().round.record(seen, failure, asked, elapsed));
        let settled = match failure {
            None => Err(StopReason::Success),
            Some(failure) => {
                let settled = self.decide(seen, failure, &before.round, elapsed);
                let decision = match &settled {
                    Ok((after, _)) => Decision::Retry { after: *after },
                    Err(reason) => Decision::Return(*reason),
                };
                self.tell(decision, &before.round);
                settled
            }
        };
        match settled {
            Ok((after, copied)) => {
                ControlFlow::Continue(self.pause(outcome, after, copied, before, elapsed))
            }
            Err(reason) => self.end(outcome, reason, before, elapsed),
        }
    }

    /// The delay and the body of the next attempt, or why there is none.
    fn decide(
        &mut self,
        outcome: Outcome<'_>,
        failure: Failure,
        round: &Round,
        elapsed: Duration,
    ) -> Result<(Duration, Copied<B>), StopReason> {
        let moment = Moment { elapsed, now: SystemTime::now(), random: fastrand::f64() };
        let headers = self.kept.headers();
        let body = self.kept.body();
        let (method, uri) = (self.kept.method(), self.kept.uri());
        let sent = Sent { method, uri, headers: &headers, body, replay: &self.replay };
        let word = self.policy.decide(&round.attempt(&sent, outcome, failure, moment));
        let after = round::settle(word, body.err(), elapsed, self.terms.deadline)?;
        // Before the delay: if the body can no longer be copied, there is still a response to
        // return.
        Ok((after, self.kept.copy(headers, &self.replay)?))
    }

    /// The pause before the next attempt.
    fn pause<RB: Body>(
        &self,
        outcome: Result<(response::Parts, RB), BoxError>,
        after: Duration,
        copied: Copied<B>,
        mut before: Pin<Box<Before<S, RB>>>,
        elapsed: Duration,
    ) -> State<S, S::Future, B, RB> {
        let now = self.began + elapsed;
        let mut left = before.as_mut().project();
        let (draining, error) = match outcome {
            Ok((head, body)) => (Draining::begin(&head, body, self.terms.drain, now), None),
            Err(error) => (None, self.terms.deadline.and(Some(error))),
        };
        let drain = draining.as_ref().map(|_| self.terms.drain.time);
        left.draining.set(draining);
        *left.error = error;
        *left.has_slept |= !after.is_zero();
        left.round.retry(after);
        let pause = Pause::new(after, drain, now);
        State::Pause { pause, copied, before }
    }

    /// The end of a request: the outcome of the last attempt with its history, or the error that
    /// the policy wants instead.
    fn end<RB: Body>(
        &self,
        outcome: Result<(response::Parts, RB), BoxError>,
        reason: StopReason,
        mut before: Pin<Box<Before<S, RB>>>,
        elapsed: Duration,
    ) -> Next<S, S::Future, B, RB> {
        if reason == StopReason::Success && before.round.is_first() {
            return ControlFlow::Break(outcome.map(join));
        }
        let history = before.as_mut().project().round.end(reason);
        match outcome {
            Ok((head, body)) if reason.is_exhaustion() && self.terms.raise_on_status => {
                // No one will read this response, so only the drain can save its connection. It
                // must end by the deadline.
                let mut bounds = self.terms.drain;
                if let Some(deadline) = self.terms.deadline {
                    bounds.time = bounds.time.min(deadline.saturating_sub(elapsed));
                }
                match Draining::begin(&head, body, bounds, self.began + elapsed) {
                    Some(draining) => {
                        ControlFlow::Continue(State::Raise { draining, timer: None, history })
                    }
                    None => ControlFlow::Break(Err(RetryError::new(history, None).into())),
                }
            }
            Ok((mut head, body)) => {
                head.extensions.insert(history);
                ControlFlow::Break(Ok(join((head, body))))
            }
            Err(error) if reason.is_exhaustion() => {
                ControlFlow::Break(Err(RetryError::new(history, Some(error)).into()))
            }
            Err(error) => ControlFlow::Break(Err(error)),
        }
    }

    /// Sends the next attempt. The service is ready.
    fn send<RB>(
        &mut self,
        copied: Copied<B>,
        mut before: Pin<Box<Before<S, RB>>>,
    ) -> State<S, S::Future, B, RB> {
        let number = before.round.number();
        let (mut head, body) = self.kept.request(copied, &self.policy).into_parts();
        self.terms.number_attempt(&mut head.headers, number);
        head.extensions.insert(AttemptNumber(number));
        // Last, since it may change the whole head. After the delay, since what it needs, such as a
        // token, may have changed during the delay.
        if let Some(failed) = before.round.last() {
            self.policy.prepare(&mut head, failed);
        }
        let request = Request::from_parts(head, body);
        let left = before.as_mut().project();
        left.round.begin(self.began.elapsed());
        let response = left.service.get_or_insert_with(|| self.source.get()).call(request);
        witness::leave(self.kept.watch());
        State::Attempt { response, timer: None, before: Some(before) }
    }

    /// Ready when the time of the attempt that runs is over.
    fn poll_limit<RB: Body>(
        &self,
        timer: Pin<&mut Option<Sleep>>,
        before: Option<Pin<&mut Before<S, RB>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let limits = Limits { terms: &self.terms, began: self.began };
        match before {
            None => {
                let draining = None::<Pin<&mut Draining<RB>>>;
                limits.poll(timer, Some(self.waited), draining, false, cx)
            }
            Some(before) => {
                let before = before.project();
                let attempt_began = Some(before.round.began());
                let draining = before.draining.as_pin_mut();
                limits.poll(timer, attempt_began, draining, *before.has_slept, cx)
            }
        }
    }

    /// The error of a request whose next attempt was decided on, but cannot be sent.
    ///
    /// The last response is drained by then, so only its history can be returned.
    fn give_up<RB>(&self, missed: Missed<S::Error>, before: Pin<&mut Before<S, RB>>) -> BoxError
    where
        S::Error: Into<BoxError>,
    {
        let reason = match &missed {
            Missed::Deadline => StopReason::Deadline,
            Missed::NotReady(_) => StopReason::NotReady,
        };
        let before = before.project();
        self.tell(Decision::Return(reason), before.round);
        match missed {
            Missed::Deadline => {
                RetryError::new(before.round.end(reason), before.error.take()).into()
            }
            // The service's own error, as if it had failed before the first attempt.
            Missed::NotReady(error) => error.into(),
        }
    }

    /// The error of a request that had no first attempt.
    fn late(&self) -> BoxError {
        let mut round = Round::new();
        self.tell(Decision::Return(StopReason::Deadline), &round);
        RetryError::new(round.end(StopReason::Deadline), None).into()
    }

    fn tell(&self, decision: Decision, round: &Round) {
        self.log.decision(round.number(), decision, round.retries_left(decision, self.terms.total));
    }
}

fn join<RB>((head, body): (response::Parts, RB)) -> Response<RB> {
    Response::from_parts(head, body)
}

/// Ready when the last response is drained, or its time is up.
fn poll_raise<RB: Body>(
    mut draining: Pin<&mut Draining<RB>>,
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    draining.as_mut().poll(cx);
    let Some(left) = draining.time_left() else { return draining.poll_handed_back(cx) };
    if timer.is_none() {
        timer.set(Some(sleep(left)));
    }
    timer.as_pin_mut().map_or(Poll::Pending, |timer| timer.poll(cx))
}

impl<S, P, R, B, RB> fmt::Debug for ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ResponseFuture");
        match &self.state {
            State::Attempt { before: None, .. } => debug.field("attempt", &1),
            State::Attempt { before: Some(before), .. } | State::Pause { before, .. } => {
                debug.field("attempt", &before.round.number())
            }
            State::Raise { .. } | State::Late | State::Done => &mut debug,
        };
        debug.finish_non_exhaustive()
    }
}
