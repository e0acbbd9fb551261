//! The pause between two attempts: the delay, the drain during it, and the wait for the inner
//! service.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower::BoxError;

use super::{
    drain::{Draining, again},
    limit::{Limits, Timer, timer},
    policy::Terms,
    round::Round,
};

pin_project! {
    /// What the failed attempts of a request leave behind.
    #[project = BeforeProj]
    pub(super) struct Before<S, RB> {
        pub(super) round: Round,
        // Kept from the first failure on. Before it a request needs only the limits.
        pub(super) terms: Terms,
        // Sends the attempts after the first. A separate clone, so that each call follows its own
        // readiness. Made when it is first polled for that.
        pub(super) service: Option<S>,
        // The last response.
        #[pin]
        pub(super) draining: Option<Draining<RB>>,
        // The last error. Kept only if there is a deadline, which may end the request before the
        // next attempt.
        pub(super) error: Option<BoxError>,
        // If true, there is a driver for timers.
        pub(super) has_slept: bool,
    }
}

impl<S, RB> Before<S, RB> {
    pub(super) fn new(terms: Terms) -> Self {
        let (round, service) = (Round::new(), None);
        Self { round, terms, service, draining: None, error: None, has_slept: false }
    }
}

pin_project! {
    #[project = PauseProj]
    pub(super) enum Pause {
        // Polls the timer of the delay, and the drain. If the drain's time ends before the delay,
        // the timer is set to that first, and to `then` afterwards.
        Delay { timer: Timer, then: Option<Instant> },
        // There is no delay, and no timer. Polls the drain until it has settled.
        NoDelay,
        // Polls the drain once more, so that the connection of a response that was read to its end
        // is handed back.
        HandBack,
        // Polls the readiness of the inner service, within the deadline, and the drain.
        Ready { timer: Option<Timer> },
    }
}

/// Why no attempt follows a pause.
pub(super) enum Missed<E> {
    Deadline,
    NotReady(E),
}

/// A longer delay is cut to this one: no process lives that long, and any clock can add it.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

impl Pause {
    /// Begins now. `drain` is the longest time of the drain, if there is one.
    pub(super) fn new(delay: Duration, drain: Option<Duration>, now: Instant) -> Self {
        if delay.is_zero() {
            return Self::NoDelay;
        }
        let delay = delay.min(LONGEST);
        let first = drain.map_or(delay, |drain| drain.min(delay));
        let then = (first < delay).then(|| now + delay);
        Self::Delay { timer: timer(first), then }
    }

    /// Ready with `Ok` when the next attempt may be sent. `poll_ready` is the inner service's.
    pub(super) fn poll<S, RB: Body, E>(
        mut self: Pin<&mut Self>,
        before: Pin<&mut Before<S, RB>>,
        service: impl Fn() -> S,
        limits: Limits,
        mut poll_ready: impl FnMut(&mut S, &mut Context<'_>) -> Poll<Result<(), E>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Missed<E>>> {
        let mut before = before.project();
        loop {
            let draining = before.draining.as_mut().as_pin_mut();
            match self.as_mut().project() {
                PauseProj::Delay { timer, then } => {
                    if let Some(draining) = draining {
                        draining.poll(cx);
                    }
                    ready!(timer.as_mut().poll(cx));
                    match then.take().filter(|then| *then > Instant::now()) {
                        Some(then) => {
                            before.draining.set(None);
                            timer.as_mut().reset(then);
                        }
                        None => self.set(Self::HandBack),
                    }
                }
                PauseProj::NoDelay => match draining {
                    Some(draining) => {
                        ready!(draining.poll_settled(cx));
                        self.set(Self::HandBack);
                    }
                    None => {
                        // A service that fails at once must not keep the task to itself.
                        self.set(Self::HandBack);
                        ready!(again(cx));
                    }
                },
                PauseProj::HandBack => {
                    if let Some(draining) = draining {
                        ready!(draining.poll_handed_back(cx));
                    }
                    // A busy machine may wake this task late.
                    if limits.is_past_deadline() {
                        return Poll::Ready(Err(Missed::Deadline));
                    }
                    self.set(Self::Ready { timer: None });
                }
                PauseProj::Ready { timer } => {
                    match poll_ready(before.service.get_or_insert_with(&service), cx) {
                        Poll::Ready(Ok(())) if limits.is_past_deadline() => {
                            return Poll::Ready(Err(Missed::Deadline));
                        }
                        Poll::Ready(ready) => return Poll::Ready(ready.map_err(Missed::NotReady)),
                        Poll::Pending => {
                            // No attempt runs, so the deadline alone limits this wait.
                            ready!(limits.poll(timer, None, draining, *before.has_slept, cx));
                            return Poll::Ready(Err(Missed::Deadline));
                        }
                    }
                }
            }
        }
    }
}
