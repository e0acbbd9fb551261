//! What an attempt came to, what is done about it, and why nothing more is done. No clock, no socket, no future.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, response};

use super::classify::Failure;

/// What an attempt came to: the head of a response, or an error.
pub type Outcome<'a> = Result<&'a response::Parts, &'a (dyn Error + 'static)>;

/// A failed attempt, as a [`Policy`] sees it.
///
/// `Debug` shows no header: their values may be secrets.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// Which, counted from 1.
    pub number: u32,
    /// The request's method.
    pub method: &'a Method,
    /// The request's headers, as the caller set them. Of a request that is not
    /// [`replayable`](Self::replayable) from the beginning its `Idempotency-Key` alone.
    pub headers: &'a HeaderMap,
    /// What it came to.
    pub outcome: Outcome<'a>,
    /// What [`Policy::classify`] made of it.
    pub failure: Failure,
    /// Whether the body can be sent again, to any use: not where its own source was what the
    /// attempt waited for until its time was up.
    pub replayable: bool,
    /// Time since the request began.
    pub elapsed: Duration,
    /// The time of day, for a `Retry-After` that is a date.
    pub now: SystemTime,
    /// A random number in [0, 1), for jitter.
    pub random: f64,
}

impl<'a> Attempt<'a> {
    /// The first attempt of a request with a replayable body, just begun; set the rest by its
    /// fields. For tests of a policy.
    #[must_use]
    pub const fn new(
        method: &'a Method,
        headers: &'a HeaderMap,
        outcome: Outcome<'a>,
        failure: Failure,
    ) -> Self {
        Self {
            number: 1,
            method,
            headers,
            outcome,
            failure,
            replayable: true,
            elapsed: Duration::ZERO,
            now: SystemTime::UNIX_EPOCH,
            random: 0.0,
        }
    }
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number)
            .field("method", self.method)
            .field("status", &self.outcome.ok().map(|head| head.status))
            .field("failure", &self.failure)
            .field("replayable", &self.replayable)
            .field("elapsed", &self.elapsed)
            .finish_non_exhaustive()
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this; zero touches no timer.
    Retry {
        /// How long to wait.
        after: Duration,
    },
    /// No more: the caller gets what there is.
    Return(StopReason),
}

/// Why there was no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The last attempt succeeded.
    Success,
    /// The request may have been processed, and its method is not one to repeat.
    Method,
    /// A second attempt would fail the same way.
    Never,
    /// Retries of this class, or all, are [`Limit::Disabled`].
    Disabled,
    /// The total of retries is used up.
    Total,
    /// The retries for failed connections are used up.
    Connect,
    /// The retries for broken connections and timeouts are used up.
    Read,
    /// The retries for statuses are used up.
    Status,
    /// The retries for other errors are used up.
    Other,
    /// The body cannot be sent again, or its own source was what an attempt waited for until its
    /// time was up.
    Body,
    /// The server asks to wait longer than the policy accepts.
    RetryAfter,
    /// The next attempt would begin after the deadline, or the deadline cut the last one short.
    Deadline,
    /// The budget has no retry left.
    Budget,
    /// The service below failed while it was getting ready: its error ends the request as it is, so
    /// this is in the log alone.
    NotReady,
}

impl StopReason {
    /// Whether something that is counted or measured ran out: then an error becomes a `RetryError`.
    pub(super) const fn is_exhaustion(self) -> bool {
        use StopReason::{Budget, Connect, Deadline, Other, Read, RetryAfter, Status, Total};
        matches!(self, Total | Connect | Read | Status | Other | RetryAfter | Deadline | Budget)
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "succeeded",
            Self::Method => "the method is not one to repeat",
            Self::Never => "a retry would fail the same way",
            Self::Disabled => "retries are disabled",
            Self::Total => "no retries left in total",
            Self::Connect => "no retries left for connect errors",
            Self::Read => "no retries left for read errors",
            Self::Status => "no retries left for statuses",
            Self::Other => "no retries left for other errors",
            Self::Body => "the body cannot be sent again, or was itself what was waited for",
            Self::RetryAfter => "the server asks to wait too long",
            Self::Deadline => "no time left before the deadline",
            Self::Budget => "no retries left in the budget",
            Self::NotReady => "the service did not get ready",
        })
    }
}
