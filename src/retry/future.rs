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
use tower::{BoxError, timeout::error::Elapsed};
use tower_service::Service;

use super::{
    classify::Failure,
    decision::{AttemptNumber, Decision, Outcome, StopReason},
    drain::Draining,
    history::{RetryError, RetryHistory},
    kept::{Copied, Kept},
    limit::{Limits, Timer, timer},
    log::{Log, Span},
    pause::{Before, Missed, Pause},
    policy::Policy,
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
            timer: Option<Timer>,
            // `None` for the first attempt, so that it is allocated only after a failure.
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
            timer: Option<Timer>,
            history: RetryHistory,
        },
        // Polls nothing: the deadline passed before the first attempt.
        Late,
        // Polls nothing: the request has ended.
        Done,
    }
}

/// What all attempts of a request share.
pub(super) struct Call<S, P, R, B> {
    /// Makes the service that sends all attempts but the first.
    pub(super) source: Source<S>,
    pub(super) policy: P,
    pub(super) replay: R,
    pub(super) kept: Kept<B>,
    /// They start when the wait for the first attempt starts.
    pub(super) limits: Limits,
    /// How long that wait was.
    pub(super) waited: Duration,
    pub(super) log: Log,
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>> + Clone,
{
    /// `response` is that of the first attempt, which is sent.
    pub(super) const fn new(response: S::Future, call: Call<S, P, R, B>) -> Self {
        Self { state: State::Attempt { response, timer: None, before: None }, call }
    }

    /// Sends nothing: the deadline passed before the service was ready.
    pub(super) const fn late(call: Call<S, P, R, B>) -> Self {
        Self { state: State::Late, call }
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
            let this = self.as_mut().project();
            let mut outcome = None;
            if let StateProj::Attempt { response, before, .. } = this.state.project() {
                witness::enter(this.call.kept.watch());
                outcome = match response.poll(cx) {
                    // Most requests end here.
                    Poll::Ready(Ok(response))
                        if before.is_none() && this.call.is_success(&response) =>
                    {
                        return Poll::Ready(Ok(response));
                    }
                    Poll::Ready(outcome) => Some(outcome),
                    Poll::Pending => {
                        if let Some(watch) = this.call.kept.watch() {
                            watch.waits();
                        }
                        // Most polls end here.
                        if before.is_none() && this.call.limits.is_none() {
                            return Poll::Pending;
                        }
                        None
                    }
                };
            }
            if let ControlFlow::Break(end) = ready!(self.as_mut().poll_next(outcome, cx)) {
                return Poll::Ready(end);
            }
        }
    }
}

impl<S, P, R, B, RB> ResponseFuture<S, P, R, B, RB>
where
    S: Service<Request<B>, Response = Response<RB>> + Clone,
    S::Error: Into<BoxError>,
    P: Policy,
    R: Replay<B>,
    RB: Body,
{
    /// Ready when the next state is set, or the request has ended. `outcome` is given if the
    /// attempt has ended.
    ///
    /// Not a part of `poll`: a loop over all states there costs a first attempt 110 instructions.
    #[inline(never)]
    fn poll_next(
        self: Pin<&mut Self>,
        outcome: Option<Result<Response<RB>, S::Error>>,
        cx: &mut Context<'_>,
    ) -> Poll<ControlFlow<Result<Response<RB>, BoxError>>> {
        let mut this = self.project();
        let next = match this.state.as_mut().project() {
            StateProj::Attempt { timer, before, .. } => {
                let outcome = match outcome {
                    Some(outcome) => outcome.map_err(Into::into),
                    None => {
                        let before = before.as_mut().map(Pin::as_mut);
                        ready!(this.call.poll_limit(timer, before, cx));
                        Err(Elapsed::new().into())
                    }
                };
                this.call.settle(outcome, before.take())
            }
            StateProj::Pause { pause, before, .. } => {
                let Call { source, limits, .. } = &*this.call;
                match ready!(pause.poll(
                    before.as_mut(),
                    || source.get(),
                    *limits,
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
                        return Poll::Ready(ControlFlow::Continue(()));
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
        Poll::Ready(match next {
            ControlFlow::Continue(state) => {
                this.state.set(state);
                ControlFlow::Continue(())
            }
            ControlFlow::Break(end) => {
                this.state.set(State::Done);
                ControlFlow::Break(end)
            }
        })
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
            let mut before = Box::pin(Before::new(self.policy.terms()));
            before.as_mut().project().round.begin(self.waited);
            before
        });
        let elapsed = self.limits.began.elapsed();
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
                self.tell(decision, &before);
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
        let after = round::settle(word, body.err(), elapsed, self.limits.deadline)?;
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
        let now = self.limits.began + elapsed;
        let mut left = before.as_mut().project();
        let bounds = left.terms.drain;
        let (draining, error) = match outcome {
            Ok((head, body)) => (Draining::begin(&head, body, bounds, now), None),
            Err(error) => (None, self.limits.deadline.and(Some(error))),
        };
        let drain = draining.as_ref().map(|_| bounds.time);
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
            Ok((head, body)) if reason.is_exhaustion() && before.terms.raise_on_status => {
                // No one will read this response, so only the drain can save its connection. It
                // must end by the deadline.
                let mut bounds = before.terms.drain;
                if let Some(deadline) = self.limits.deadline {
                    bounds.time = bounds.time.min(deadline.saturating_sub(elapsed));
                }
                match Draining::begin(&head, body, bounds, self.limits.began + elapsed) {
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
        before.terms.number_attempt(&mut head.headers, number);
        head.extensions.insert(AttemptNumber(number));
        // Last, since it may change the whole head. After the delay, since what it needs, such as a
        // token, may have changed during the delay.
        if let Some(failed) = before.round.last() {
            self.policy.prepare(&mut head, failed);
        }
        let request = Request::from_parts(head, body);
        let left = before.as_mut().project();
        left.round.begin(self.limits.began.elapsed());
        let response = left.service.get_or_insert_with(|| self.source.get()).call(request);
        witness::leave(self.kept.watch());
        State::Attempt { response, timer: None, before: Some(before) }
    }

    /// Ready when the time of the attempt that runs is over.
    fn poll_limit<RB: Body>(
        &self,
        timer: &mut Option<Timer>,
        before: Option<Pin<&mut Before<S, RB>>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let limits = self.limits;
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
        self.tell(Decision::Return(reason), &before);
        let before = before.project();
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
        let mut before = Before::<S, ()>::new(self.policy.terms());
        self.tell(Decision::Return(StopReason::Deadline), &before);
        RetryError::new(before.round.end(StopReason::Deadline), None).into()
    }

    fn tell<RB>(&self, decision: Decision, before: &Before<S, RB>) {
        let (round, total) = (&before.round, before.terms.total);
        self.log.decision(round.number(), decision, round.retries_left(decision, total));
    }
}

fn join<RB>((head, body): (response::Parts, RB)) -> Response<RB> {
    Response::from_parts(head, body)
}

/// Ready when the last response is drained, or its time is up.
fn poll_raise<RB: Body>(
    mut draining: Pin<&mut Draining<RB>>,
    timer: &mut Option<Timer>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    draining.as_mut().poll(cx);
    let Some(left) = draining.time_left() else { return draining.poll_handed_back(cx) };
    timer.get_or_insert_with(|| self::timer(left)).as_mut().poll(cx)
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
