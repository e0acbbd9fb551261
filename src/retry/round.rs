//! The attempts of one request so far, and how the policy's word on the last of them is settled
//! against body and deadline. No clock, no future: [`RetryLayer`](super::RetryLayer)'s future and
//! tower's runner both use it.
//!
//! The budget is not settled here. [`RetryPolicy`](super::RetryPolicy) draws on it when it decides,
//! after it has applied the same rules of body and deadline itself, so that no retry is paid for
//! that is not made.

use std::{
    mem,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method};

use super::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome, StopReason},
    history::{AttemptRecord, Attempts, RetryHistory},
    replay::Replay,
};

/// The attempts of one request so far. All times are since the request began.
#[derive(Clone, Debug)]
pub(super) struct Round {
    attempts: Attempts,
    /// The number of the attempt that runs or is waited for. Counted by itself, since not all
    /// attempts are remembered.
    number: u32,
    /// When that attempt began.
    began: Duration,
}

/// What was sent, and what can be sent again.
pub(super) struct Sent<'a, B, R> {
    pub(super) method: &'a Method,
    pub(super) headers: &'a HeaderMap,
    /// The body to copy, or why there will be no copy.
    pub(super) body: Result<&'a B, StopReason>,
    pub(super) replay: &'a R,
}

impl<B, R: Replay<B>> Sent<'_, B, R> {
    /// Whether a copy of the body is possible and useful.
    fn is_replayable(&self, outcome: Outcome<'_>) -> bool {
        self.body.is_ok_and(|body| {
            // The time was up while the body's own source had nothing to send: the next attempt
            // would wait for the same source.
            let starved = outcome.is_err_and(classify::is_elapsed) && self.replay.is_starved(body);
            !starved && self.replay.can_replay(body)
        })
    }
}

/// The clocks and the random number, read when an attempt has ended.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    /// Since the request began.
    pub(super) elapsed: Duration,
    /// The time of day.
    pub(super) now: SystemTime,
    /// In [0, 1).
    pub(super) random: f64,
}

impl Round {
    /// The first attempt begins with the request.
    pub(super) const fn new() -> Self {
        Self { attempts: Attempts::new(), number: 1, began: Duration::ZERO }
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn began(&self) -> Duration {
        self.began
    }

    /// No attempt has ended before the one that runs.
    pub(super) const fn is_first(&self) -> bool {
        self.number == 1
    }

    /// How many of `total` retries are left after a decision on the attempt that runs.
    pub(super) fn retries_left(&self, decision: Decision, total: Option<u32>) -> Option<u32> {
        let chosen = match decision {
            Decision::Retry { .. } => self.number,
            Decision::Return(_) => self.number - 1,
        };
        total.map(|total| total.saturating_sub(chosen))
    }

    /// The attempt that runs has ended.
    pub(super) fn record(
        &mut self,
        outcome: Outcome<'_>,
        failure: Option<Failure>,
        elapsed: Duration,
    ) -> &AttemptRecord {
        self.attempts.push(AttemptRecord {
            number: self.number,
            failure,
            status: outcome.ok().map(|head| head.status),
            elapsed: elapsed.saturating_sub(self.began),
            delay: None,
        })
    }

    /// What a policy is shown of the attempt that has failed.
    pub(super) fn attempt<'a, B, R: Replay<B>>(
        &self,
        sent: &Sent<'a, B, R>,
        outcome: Outcome<'a>,
        failure: Failure,
        moment: Moment,
    ) -> Attempt<'a> {
        Attempt {
            number: self.number,
            replayable: sent.is_replayable(outcome),
            elapsed: moment.elapsed,
            now: moment.now,
            random: moment.random,
            ..Attempt::new(sent.method, sent.headers, outcome, failure)
        }
    }

    /// Another attempt follows after `delay`.
    pub(super) fn retry(&mut self, delay: Duration) {
        self.attempts.set_last_delay(Some(delay));
        self.number = self.number.saturating_add(1);
    }

    /// The attempt that was waited for begins.
    pub(super) const fn begin(&mut self, elapsed: Duration) {
        self.began = elapsed;
    }

    /// No other attempt follows, though one may have been waited for.
    pub(super) fn end(&mut self, reason: StopReason) -> RetryHistory {
        self.attempts.set_last_delay(None);
        RetryHistory::new(mem::take(&mut self.attempts), reason)
    }
}

impl Default for Round {
    fn default() -> Self {
        Self::new()
    }
}

/// What the policy's word comes to: the delay before the next attempt, or why there is none.
/// `no_body` says why the body cannot be copied, if it cannot.
pub(super) fn settle(
    word: Decision,
    no_body: Option<StopReason>,
    elapsed: Duration,
    deadline: Option<Duration>,
) -> Result<Duration, StopReason> {
    match (word, no_body) {
        // A body that was not kept is the policy's own doing, if it ruled retries out. That reason
        // says more than that there is no body.
        (Decision::Retry { .. } | Decision::Return(StopReason::Body), Some(reason)) => Err(reason),
        (Decision::Retry { after }, None) if is_too_late(elapsed, after, deadline) => {
            Err(StopReason::Deadline)
        }
        (Decision::Retry { after }, None) => Ok(after),
        (Decision::Return(reason), _) => Err(reason),
    }
}

/// Tokio's timer rounds up to a millisecond and is woken in whole milliseconds, so a delay may end
/// this much late.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Whether an attempt that begins after `delay` would begin past the deadline. No delay uses no
/// timer.
pub(super) fn is_too_late(elapsed: Duration, delay: Duration, deadline: Option<Duration>) -> bool {
    let step = if delay.is_zero() { Duration::ZERO } else { TIMER_STEP };
    deadline.is_some_and(|deadline| elapsed.saturating_add(delay).saturating_add(step) >= deadline)
}

/// What is left of the time that an attempt may take, or without an attempt of the request's.
/// `None` without a limit.
pub(super) fn time_left(
    attempt_timeout: Option<Duration>,
    deadline: Option<Duration>,
    attempt_began: Option<Duration>,
    elapsed: Duration,
) -> Option<Duration> {
    let attempt = attempt_timeout.zip(attempt_began).map(|(timeout, began)| {
        let taken = elapsed.saturating_sub(began);
        timeout.saturating_sub(taken)
    });
    let request = deadline.map(|deadline| deadline.saturating_sub(elapsed));
    attempt.into_iter().chain(request).min()
}
