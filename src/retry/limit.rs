//! The time limits of an attempt, and of the wait for one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::Body;
use tokio::time::{Instant, Sleep, sleep};

use super::{drain::Draining, policy::Terms, round};

/// Boxed, since most requests have no timer: without the box each future is 112 bytes longer.
pub(super) type Timer = Pin<Box<Sleep>>;

pub(super) fn timer(time: Duration) -> Timer {
    Box::pin(sleep(time))
}

/// The time limits of a request, and when it began.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    attempt_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) began: Instant,
}

impl Limits {
    /// The limits of `terms` for a request that has already `waited`.
    pub(super) fn of(terms: &Terms, waited: Duration) -> Self {
        let Terms { attempt_timeout, deadline, .. } = *terms;
        let now = Instant::now();
        Self { attempt_timeout, deadline, began: now.checked_sub(waited).unwrap_or(now) }
    }

    pub(super) fn is_past_deadline(self) -> bool {
        self.deadline.is_some_and(|deadline| self.began.elapsed() >= deadline)
    }

    /// The time left for an attempt that began at `attempt_began` after the request did. If no
    /// attempt runs, the time left for the request. `None` without a limit.
    fn time_left(self, attempt_began: Option<Duration>) -> Option<Duration> {
        // Most requests have no limit. They do not read the clock each time they are polled.
        if self.is_none() {
            return None;
        }
        let elapsed = self.began.elapsed();
        round::time_left(self.attempt_timeout, self.deadline, attempt_began, elapsed)
    }

    /// Whether no time is limited.
    pub(super) const fn is_none(self) -> bool {
        self.attempt_timeout.is_none() && self.deadline.is_none()
    }

    /// Ready when the [time left](Self::time_left) is over. Polls the drain as well, and drops it
    /// when its own time is over.
    ///
    /// The timer is made when something is waited for. `has_timers` says that the request has slept
    /// before. If it has not, a drain alone makes no timer: there may be no driver for one, and the
    /// drain ends with the attempt.
    pub(super) fn poll<RB: Body>(
        self,
        timer: &mut Option<Timer>,
        attempt_began: Option<Duration>,
        mut draining: Option<Pin<&mut Draining<RB>>>,
        has_timers: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        loop {
            if let Some(draining) = &mut draining {
                draining.as_mut().poll(cx);
            }
            if timer.is_none() {
                let left = self.time_left(attempt_began);
                let draining = draining.as_ref().filter(|_| has_timers || left.is_some());
                let drain_left = draining.and_then(|draining| draining.time_left());
                *timer = left.into_iter().chain(drain_left).min().map(self::timer);
            }
            let Some(set) = timer else { return Poll::Pending };
            ready!(set.as_mut().poll(cx));
            *timer = None;
            if self.time_left(attempt_began).is_some_and(|left| left.is_zero()) {
                return Poll::Ready(());
            }
        }
    }
}
