//! The words between a retry layer and its policy: what an attempt came to, what to do about it,
//! and why there is no further attempt. No clock, no socket, no future.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, Uri, response};

use super::classify::Failure;

/// The result of an attempt: the head of a response, or an error.
pub type Outcome<'a> = Result<&'a response::Parts, &'a (dyn Error + 'static)>;

/// A failed attempt, as a [`Policy`](super::Policy) sees it.
///
/// `Debug` shows no headers, since their values may be secrets.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Attempt<'a> {
    /// The number of the attempt, counted from 1.
    pub number: u32,
    /// The method of the request.
    pub method: &'a Method,
    /// The URI of the request, as the caller set it. `None` if nothing was kept of the request for
    /// a second attempt.
    pub uri: Option<&'a Uri>,
    /// The headers of the request, as the caller set them. If nothing was kept of the request for
    /// a second attempt, only its `Idempotency-Key`.
    pub headers: &'a HeaderMap,
    /// The result of the attempt.
    pub outcome: Outcome<'a>,
    /// The class that [`Policy::classify`](super::Policy::classify) gave the outcome.
    pub failure: Failure,
    /// Whether resending the body is possible and useful. False if the attempt timed out while it
    /// waited for the body's own stream.
    pub replayable: bool,
    /// The time since the request began.
    pub elapsed: Duration,
    /// The time of day. A `Retry-After` may be a date.
    pub now: SystemTime,
    /// A random number in [0, 1), for jitter.
    pub random: f64,
}

impl<'a> Attempt<'a> {
    /// The first attempt of a request that began just now and whose body is replayable. It has no
    /// URI. For tests of a policy; set the other fields as the test needs them.
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
            uri: None,
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

/// How long a server asks to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerDelay {
    /// This long. Zero leaves the backoff of the policy.
    After(Duration),
    /// The server asks for no further attempt.
    Never,
}

/// The number of an attempt, counted from 1. A request extension of every attempt from the second
/// on, for the layers and the client inside the retries.
///
/// If layers of retries are nested, an attempt has the number that the innermost of them gave. The
/// first attempt of the inner layer keeps the number that the outer one gave.
///
/// To tell the server, use [`attempt_header`](super::RetryPolicy::attempt_header).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNumber(pub u32);

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Send another attempt.
    Retry {
        /// The delay before it. Zero uses no timer.
        after: Duration,
    },
    /// Send no further attempt. The caller gets the last response or error.
    Return(StopReason),
}

/// Why there was no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The last attempt succeeded.
    Success,
    /// The server may have processed the request, and its method must not be repeated.
    Method,
    /// A second attempt would fail the same way.
    Never,
    /// Retries of this class of failures, or all retries, are
    /// [`Limit::Disabled`](super::Limit::Disabled).
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
    /// The body cannot be sent again, or the attempt timed out while it waited for the body's own
    /// stream.
    Body,
    /// The server asks to wait longer than the policy accepts, or [not to come
    /// back](ServerDelay::Never).
    RetryAfter,
    /// The next attempt would begin after the deadline, or the deadline ended the last one, or the
    /// wait for the first one.
    Deadline,
    /// The budget has no retry left.
    Budget,
    /// The inner service failed before it was ready. Its error ends the request unchanged, so only
    /// the log has this reason.
    NotReady,
}

impl StopReason {
    /// Whether something that is counted or measured is used up. An error then becomes a
    /// `RetryError`.
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
