//! `Policy` and `RetryPolicy`: whether there is another attempt, and when. No clock, no socket, no
//! future.

mod config;
#[cfg(feature = "serde")]
mod serde;

use std::{
    error::Error,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};
use tokio::time::Instant;

use super::{
    classify::{self, Failure},
    history::Attempts,
    retry_after,
};
use config::Config;
pub use config::{Drain, Limit, OverMax};

/// What an attempt came to: the head of a response, or an error.
pub type Outcome<'a> = Result<&'a response::Parts, &'a (dyn Error + 'static)>;

/// Decides on retries.
///
/// One clone serves one request, so it may count. It is asked, in this order:
/// [`for_request`](Self::for_request), [`may_retry`](Self::may_retry), and after each attempt
/// [`classify`](Self::classify) and, for a failed one, [`decide`](Self::decide).
///
/// ```
/// use tower_outbound::retry::{Attempt, Decision, Policy, StopReason};
///
/// /// Once more, at once, whatever went wrong.
/// #[derive(Clone)]
/// struct OnceMore;
///
/// impl Policy for OnceMore {
///     fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
///         match attempt.number {
///             1 => Decision::Retry { after: std::time::Duration::ZERO },
///             _ => Decision::Return(StopReason::Total),
///         }
///     }
/// }
/// ```
pub trait Policy: Clone {
    /// The clone that serves one request. Default: a plain clone.
    #[must_use]
    fn for_request(&self, _extensions: &Extensions) -> Self {
        self.clone()
    }

    /// Whether a request could be retried at all. If not, nothing is kept of it for a second
    /// attempt, and [`decide`](Self::decide) is asked for a reason alone, with no header but an
    /// `Idempotency-Key`.
    ///
    /// Default: yes, but for CONNECT and upgrades, which hand the connection over.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        *method != Method::CONNECT && !headers.contains_key(header::UPGRADE)
    }

    /// Whether a response of this status is surely a success, so that [`classify`](Self::classify)
    /// need not be asked. Default: false, always ask.
    fn is_success(&self, _status: StatusCode) -> bool {
        false
    }

    /// The failure in an outcome; `None` for success. Called for every attempt but the first if
    /// [`is_success`](Self::is_success) has answered for it.
    ///
    /// Default: the class of an error; no response is a failure.
    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        outcome.err().map(classify::error)
    }

    /// What to do after a failed attempt.
    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision;

    /// Longest time of one attempt. Default: none.
    fn attempt_timeout(&self) -> Option<Duration> {
        None
    }

    /// Longest time of the request, with all attempts and delays. Default: none.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// How much of a failed response is read, so that its connection can be used again. Default:
    /// [`Drain::default`].
    fn drain(&self) -> Drain {
        Drain::default()
    }

    /// Whether a response that used up a limit becomes a [`RetryError`](super::RetryError).
    /// Default: false.
    fn raise_on_status(&self) -> bool {
        false
    }

    /// A request header that tells the server which attempt it sees, counted from 1. Default: none.
    fn attempt_header(&self) -> Option<&HeaderName> {
        None
    }

    /// How many retries are left, for the log. Default: unknown.
    fn retries_left(&self) -> Option<u32> {
        None
    }
}

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

/// Retries as urllib3's `Retry` has them, with a budget and a deadline.
///
/// A clone costs a reference count. A request extension of this type overrides the layer's policy
/// for that one request.
///
/// | urllib3 | here | default |
/// |---|---|---|
/// | `Retry()` | [`RetryPolicy::urllib3`] | the values of this table: [`RetryPolicy::new`] |
/// | `Retry(False)`, `retries=False` | [`RetryPolicy::none`], [`Limit::Disabled`] | |
/// | `total` | [`total`](Self::total) | 3 (urllib3: 10) |
/// | `connect`, `read`, `status`, `other` | [`connect`](Self::connect), [`read`](Self::read), [`status`](Self::status), [`other`](Self::other) | no limit of their own |
/// | an integer, `None`, `False` for those | [`Limit::Times`], [`Limit::Unlimited`], [`Limit::Disabled`] | |
/// | `allowed_methods` | [`allowed_methods`](Self::allowed_methods); `None`: [`any_method`](Self::any_method) | the idempotent ones |
/// | `status_forcelist` | [`status_forcelist`](Self::status_forcelist) | 429, 502, 503, 504 (urllib3: none) |
/// | `backoff_factor` | [`backoff`](Self::backoff) with [`Backoff::urllib3`](super::Backoff::urllib3) | 100 ms doubled (urllib3: 0) |
/// | `backoff_max` | [`Backoff::max`](super::Backoff::max) | 20 s (urllib3: 120 s) |
/// | `backoff_jitter` | [`Jitter::Added`](super::Jitter::Added) | [`Jitter::Full`](super::Jitter::Full) (urllib3: none) |
/// | `respect_retry_after_header` | [`respect_retry_after`](Self::respect_retry_after) | true |
/// | `retry_after_max` | [`retry_after_max`](Self::retry_after_max) | 6 h |
/// | clamps to that | [`retry_after_over_max`](Self::retry_after_over_max) | gives up |
/// | `raise_on_status` | [`raise_on_status`](Self::raise_on_status) | false (urllib3: true) |
/// | `history` | [`RetryHistory`](super::RetryHistory) | |
/// | `MaxRetryError` | [`RetryError`](super::RetryError) | |
/// | `urlopen(retries=...)` | this type as request extension | |
/// | `redirect`, `raise_on_redirect`, `remove_headers_on_redirect` | `tower_http::follow_redirect`, outside | |
/// | none | [`budget`](Self::budget) | 20 % and 1/s over 10 s |
/// | none | [`deadline`](Self::deadline), [`attempt_timeout`](Self::attempt_timeout) | none |
/// | none | [`drain`](Self::drain), [`attempt_header`](Self::attempt_header), [`classify`](Self::classify) | 64 KiB in 100 ms; none; none |
///
/// ```
/// use std::time::Duration;
/// use http::{Method, StatusCode};
/// use tower_outbound::retry::{Backoff, RetryPolicy};
///
/// let policy = RetryPolicy::new()
///     .total(5)
///     .allowed_methods([Method::GET])
///     .status_forcelist([StatusCode::INTERNAL_SERVER_ERROR])
///     .backoff(Backoff::urllib3(Duration::from_millis(100)))
///     .deadline(Duration::from_secs(30));
/// # let _ = policy;
/// ```
///
/// With the feature `serde` it is read from a table whose keys are the setters above, each with its
/// default. Durations are text with their unit, statuses are numbers. An unknown key is an error
/// that names it.
///
/// ```toml
/// total = 5                                   # the limits: a number, "unlimited" or "disabled"
/// allowed_methods = ["GET", "HEAD"]           # or "any"
/// status_forcelist = [500, 503]
/// backoff = { urllib3 = "100ms", max = "5s" } # or exponential, constant; jitter = "full"
/// budget = { percent = 20, min_retries = { count = 1, per = "30s" }, window = "10s" } # or "none"
/// attempt_timeout = "500ms"                   # no limit: without the key
/// deadline = "1m 30s"
/// retry_after_max = "1h"
/// retry_after_over_max = "clamp"              # or "give_up"
/// drain = { bytes = 65536, time = "100ms" }
/// attempt_header = "x-attempt"
/// ```
///
/// It is not written: budgets and [`classify`](Self::classify) may be code.
#[derive(Clone, Default)]
pub struct RetryPolicy {
    pub(super) config: Arc<Config>,
    // Made at the first failure: most requests use up nothing.
    pub(super) used: Option<Box<Used>>,
    // Of a request on tower's own runner: when it began, and what its override took the place of.
    pub(super) began: Option<Instant>,
    pub(super) overridden: Option<Arc<Config>>,
}

/// What one request has used up.
#[derive(Clone, Debug, Default)]
pub(super) struct Used {
    // On tower's own runner alone: the attempts, how many, and when the last one began, since the
    // request did.
    pub(super) attempts: Attempts,
    pub(super) number: u32,
    pub(super) attempt_began: Duration,
    total: u32,
    connect: u32,
    read: u32,
    status: u32,
    other: u32,
    last_delay: Duration,
}

impl Policy for RetryPolicy {
    /// An override among the extensions, or this policy, with nothing used up. One deposit into the
    /// budget.
    fn for_request(&self, extensions: &Extensions) -> Self {
        let policy = extensions.get::<Self>().unwrap_or(self);
        if let Some(budget) = &policy.config.budget {
            budget.deposit();
        }
        Self { config: Arc::clone(&policy.config), used: None, began: None, overridden: None }
    }

    /// Not if the limits already say so: of all retries, or of those that the method leaves.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        let config = &*self.config;
        let none = |limit: Limit| matches!(limit, Limit::Disabled | Limit::Times(0));
        let some = !none(config.connect) || {
            let classes = [config.read, config.status, config.other];
            classes.into_iter().any(|limit| !none(limit)) && config.may_repeat(method, headers)
        };
        // Upgrades are looked for at a failure: most requests have none.
        some && !none(config.total) && *method != Method::CONNECT
    }

    fn is_success(&self, status: StatusCode) -> bool {
        self.config.is_success(status)
    }

    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        if let Some(classify) = &self.config.classify {
            return classify(outcome);
        }
        match outcome {
            Err(error) => Some(classify::error(error)),
            Ok(head) if self.config.lists(head.status) => Some(Failure::Status(head.status)),
            // A server that says when to come back wants to be asked again.
            Ok(head)
                if self.config.respect_retry_after
                    && asks_again(head.status)
                    && retry_after::asked(&head.headers, SystemTime::UNIX_EPOCH).is_some() =>
            {
                Some(Failure::Status(head.status))
            }
            Ok(_) => None,
        }
    }

    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
        match self.judge(attempt) {
            Ok(after) => {
                self.used.get_or_insert_default().last_delay = after;
                Decision::Retry { after }
            }
            Err(reason) => Decision::Return(reason),
        }
    }

    fn attempt_timeout(&self) -> Option<Duration> {
        self.config.attempt_timeout
    }

    fn deadline(&self) -> Option<Duration> {
        self.config.deadline
    }

    fn drain(&self) -> Drain {
        self.config.drain
    }

    fn raise_on_status(&self) -> bool {
        self.config.raise_on_status
    }

    fn attempt_header(&self) -> Option<&HeaderName> {
        self.config.attempt_header.as_ref()
    }

    fn retries_left(&self) -> Option<u32> {
        match self.config.total {
            Limit::Times(most) => {
                Some(most.saturating_sub(self.used.as_ref().map_or(0, |used| used.total)))
            }
            Limit::Disabled => Some(0),
            Limit::Unlimited => None,
        }
    }
}

impl RetryPolicy {
    /// The delay before the next attempt, or why there is none. The budget comes last, so that a
    /// refusal for another reason costs nothing.
    fn judge(&mut self, attempt: &Attempt<'_>) -> Result<Duration, StopReason> {
        let never_sent = matches!(attempt.failure, Failure::Connect | Failure::Unsent);
        if attempt.failure == Failure::Never {
            return Err(StopReason::Never);
        }
        // These hand the connection over.
        if *attempt.method == Method::CONNECT || attempt.headers.contains_key(header::UPGRADE) {
            return Err(StopReason::Disabled);
        }
        if !never_sent && !self.config.may_repeat(attempt.method, attempt.headers) {
            return Err(StopReason::Method);
        }
        self.count(attempt.failure)?;
        if !attempt.replayable {
            return Err(StopReason::Body);
        }
        let delay = self.delay(attempt)?;
        if too_late(attempt.elapsed, delay, self.config.deadline) {
            return Err(StopReason::Deadline);
        }
        match &self.config.budget {
            Some(budget) if !never_sent && !budget.withdraw() => Err(StopReason::Budget),
            _ => Ok(delay),
        }
    }

    /// Takes one from the total and one from the class.
    fn count(&mut self, failure: Failure) -> Result<(), StopReason> {
        let (config, used) = (&self.config, &mut **self.used.get_or_insert_default());
        let (limit, used_of_class, reason) = match failure {
            Failure::Connect | Failure::Unsent => {
                (config.connect, &mut used.connect, StopReason::Connect)
            }
            Failure::Read | Failure::Timeout => (config.read, &mut used.read, StopReason::Read),
            Failure::Status(_) => (config.status, &mut used.status, StopReason::Status),
            Failure::Other | Failure::Never => (config.other, &mut used.other, StopReason::Other),
        };
        // Before anything that is used up: what is disabled passes through as it is.
        if config.total == Limit::Disabled || limit == Limit::Disabled {
            return Err(StopReason::Disabled);
        }
        take(config.total, &mut used.total, StopReason::Total)?;
        take(limit, used_of_class, reason)
    }

    fn delay(&self, attempt: &Attempt<'_>) -> Result<Duration, StopReason> {
        let config = &self.config;
        let (retry, last_delay) =
            self.used.as_ref().map_or((0, Duration::ZERO), |used| (used.total, used.last_delay));
        let asked = match attempt.outcome {
            Ok(head) if config.respect_retry_after => {
                retry_after::asked(&head.headers, attempt.now)
            }
            _ => None,
        };
        let asked = match asked {
            None | Some(Duration::ZERO) => {
                return Ok(config.backoff.delay(retry, last_delay, attempt.random));
            }
            Some(asked) if asked <= config.retry_after_max => asked,
            Some(_) if config.over_max == OverMax::Clamp => config.retry_after_max,
            Some(_) => return Err(StopReason::RetryAfter),
        };
        // What is put on top makes no wait that would be refused of one that is not.
        let spread = config.backoff.spread(asked, attempt.random).min(config.retry_after_max);
        Ok(if too_late(attempt.elapsed, spread, config.deadline) { asked } else { spread })
    }
}

/// Whether a `Retry-After` makes a failure of a status that is not in the list.
///
/// urllib3: `RETRY_AFTER_STATUS_CODES`.
fn asks_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 413 | 429 | 503)
}

/// draft-ietf-httpapi-idempotency-key-header: the server sees to it that a repeat does nothing
/// twice.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Tokio's timer is this coarse: it rounds up to a millisecond, and waits for it in whole
/// milliseconds.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Whether an attempt that begins after `delay` would begin past the deadline.
pub(super) fn too_late(elapsed: Duration, delay: Duration, deadline: Option<Duration>) -> bool {
    let step = if delay.is_zero() { Duration::ZERO } else { TIMER_STEP };
    deadline.is_some_and(|deadline| elapsed.saturating_add(delay).saturating_add(step) >= deadline)
}

/// Says in a request's headers which attempt it is.
pub(super) fn number_attempt(headers: &mut HeaderMap, name: &HeaderName, number: u32) {
    const FIRST: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    // The first ones without an allocation.
    let first = usize::try_from(number).ok().and_then(|number| FIRST.get(number));
    let value =
        first.map_or_else(|| HeaderValue::from(number), |text| HeaderValue::from_static(text));
    // Only headers that are full, with more names than any server reads, refuse another.
    let _ = headers.try_insert(name.clone(), value);
}

fn take(limit: Limit, used: &mut u32, reason: StopReason) -> Result<(), StopReason> {
    match limit {
        Limit::Disabled => Err(StopReason::Disabled),
        Limit::Times(most) if *used >= most => Err(reason),
        Limit::Times(_) | Limit::Unlimited => {
            *used = used.saturating_add(1);
            Ok(())
        }
    }
}

/// The statuses that say "again": too many requests, and the three of a gateway.
const DEFAULT_FORCELIST: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];
