//! What a retry layer and its policy tell each other: the outcome of an attempt, what to do next,
//! and why there is no further attempt. No clock, no socket, no future.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, Uri, response};

use super::classify::Failure;

/// The outcome of an attempt: the head of a response, or an error.
pub type Outcome<'a> = Result<&'a response::Parts, &'a (dyn Error + 'static)>;

/// A failed attempt, as it is given to [`Policy::decide`](super::Policy::decide).
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
    /// The head of the response, or the error.
    pub outcome: Outcome<'a>,
    /// The class of the failure, by [`Policy::classify`](super::Policy::classify). `Connect` and
    /// `Unsent` are `Read` here if [an earlier exchange](Failure::Unsent) cannot be ruled out.
    pub failure: Failure,
    /// Whether resending the body is possible and useful. False if the attempt timed out while it
    /// waited for more of the body, and not for the server.
    pub replayable: bool,
    /// The time since the request began.
    pub elapsed: Duration,
    /// The time of day. A `Retry-After` may be a date.
    pub now: SystemTime,
    /// A random number in [0, 1), for jitter.
    pub random: f64,
}

impl<'a> Attempt<'a> {
    /// Makes a failed first attempt, to test a [`Policy`](super::Policy) with.
    ///
    /// The request began just now, its body is replayable, and it has no URI. Set the fields that
    /// the test needs otherwise.
    ///
    /// ```
    /// use http::{HeaderMap, Method};
    /// use tower_outbound::retry::{Attempt, Decision, Failure, Policy, RetryPolicy, StopReason};
    ///
    /// let (headers, reset) = (HeaderMap::new(), std::io::Error::other("reset"));
    /// let attempt = Attempt::new(&Method::POST, &headers, Err(&reset), Failure::Read);
    /// let decision = RetryPolicy::new().decide(&attempt);
    /// assert_eq!(decision, Decision::Return(StopReason::Method));
    /// ```
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
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{RetryPolicy, ServerDelay};
///
/// // A server whose 429 always means "in one second".
/// let policy = RetryPolicy::new().retry_after(|head| {
///     (head.status == 429).then_some(ServerDelay::After(Duration::from_secs(1)))
/// });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerDelay {
    /// This long. With zero the backoff of the policy is used.
    After(Duration),
    /// The server asks for no further attempt.
    Never,
}

/// Request extension: the number of the attempt, counted from 1. The first attempt does not have
/// it.
///
/// It is for the layers and the client inside the retries. To tell the server, use
/// [`attempt_header`](super::RetryPolicy::attempt_header).
///
/// If retry layers are nested, the innermost one that retried sets the number. The first attempt of
/// an inner layer keeps the number that the outer layer gave.
///
/// ```
/// use http::Request;
/// use tower_outbound::retry::AttemptNumber;
///
/// fn is_retry<B>(request: &Request<B>) -> bool {
///     request.extensions().get::<AttemptNumber>().is_some_and(|attempt| attempt.0 > 1)
/// }
/// # assert!(!is_retry(&Request::new(())));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNumber(pub u32);

/// What a [`Policy`](super::Policy) decides after a failed attempt.
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

/// Why there was no further attempt; see
/// [`RetryHistory::stop_reason`](super::RetryHistory::stop_reason).
///
/// ```
/// use tower_outbound::retry::{RetryHistory, StopReason};
///
/// fn note(history: &RetryHistory) -> &'static str {
///     match history.stop_reason() {
///         StopReason::Budget => "the servers are failing: too many retries already",
///         StopReason::Deadline => "out of time",
///         _ => "see the history",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// The last attempt succeeded.
    Success,
    /// The server may have processed the request, and a request with this method must not be
    /// repeated.
    Method,
    /// A second attempt would fail the same way: the class is [`Failure::Never`].
    Never,
    /// Retries are [`Limit::Disabled`](super::Limit::Disabled), in total or for this class of
    /// failures. Or the request hands over its connection: CONNECT, or `Upgrade` after the request
    /// may have been sent. Or the policy's [`may_retry`](super::Policy::may_retry) was false.
    Disabled,
    /// The [total](super::RetryPolicy::total) of retries is used up.
    Total,
    /// The retries after [`Failure::Connect`] and [`Failure::Unsent`] are used up.
    Connect,
    /// The retries after [`Failure::Read`] and [`Failure::Timeout`] are used up.
    Read,
    /// The retries after [`Failure::Status`] are used up.
    Status,
    /// The retries after [`Failure::Other`] are used up.
    Other,
    /// The body cannot be sent again, or the attempt timed out while it waited for more of the
    /// body, and not for the server.
    Body,
    /// The server asks to wait longer than the policy accepts, or [not to
    /// retry](ServerDelay::Never).
    RetryAfter,
    /// The next attempt would begin after the deadline. Or the deadline ended the last attempt, even
    /// if another limit is used up too, or a wait for the inner service.
    Deadline,
    /// The budget has no retry left.
    ///
    /// A request asks for no further retry after the budget has refused one. So to count refusals,
    /// count the requests that end with this reason.
    Budget,
    /// The inner service failed before it was ready. The caller gets its error unchanged, so only
    /// the log has this reason.
    NotReady,
}

impl StopReason {
    /// Whether a limit, the budget or the deadline is used up. An error then becomes a
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
            Self::Method => "a request with this method must not be repeated",
            Self::Never => "a retry would fail the same way",
            Self::Disabled => "retries are disabled",
            Self::Total => "no retries left in total",
            Self::Connect => "no retries left for connect errors",
            Self::Read => "no retries left for read errors",
            Self::Status => "no retries left for statuses",
            Self::Other => "no retries left for other errors",
            Self::Body => "the body cannot be sent again, or the attempt waited for it too long",
            Self::RetryAfter => "the server asks to wait too long, or not to retry",
            Self::Deadline => "no time left before the deadline",
            Self::Budget => "no retries left in the budget",
            Self::NotReady => "the inner service failed before it was ready",
        })
    }
}
