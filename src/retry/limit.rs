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

/// The time limits of a request, and when it began.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) terms: &'a Terms,
    pub(super) began: Instant,
}

impl Limits<'_> {
    pub(super) fn is_past_deadline(self) -> bool {
        self.terms.deadline.is_some_and(|deadline| self.began.elapsed() >= deadline)
    }

    /// The time left for an attempt that began at `attempt_began` after the request did. If no
    /// attempt runs, the time left for the request. `None` without a limit.
    fn time_left(self, attempt_began: Option<Duration>) -> Option<Duration> {
        let Terms { attempt_timeout, deadline, .. } = *self.terms;
        // Most requests have no limit. They do not read the clock each time they are polled.
        attempt_timeout.or(deadline)?;
        round::time_left(attempt_timeout, deadline, attempt_began, self.began.elapsed())
    }

    /// Ready when the [time left](Self::time_left) is over. Polls the drain as well, and drops it
    /// when its own time is over.
    ///
    /// The timer is made when something is waited for. `has_timers` says that the request has slept
    /// before. If it has not, a drain alone makes no timer: there may be no driver for one, and the
    /// drain ends with the attempt.
    pub(super) fn poll<RB: Body>(
        self,
        mut timer: Pin<&mut Option<Sleep>>,
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
                timer.set(left.into_iter().chain(drain_left).min().map(sleep));
            }
            let Some(set) = timer.as_mut().as_pin_mut() else { return Poll::Pending };
            ready!(set.poll(cx));
            timer.set(None);
            if self.time_left(attempt_began).is_some_and(|left| left.is_zero()) {
                return Poll::Ready(());
            }
        }
    }
}
