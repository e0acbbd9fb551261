//! `RetryPolicy`: whether there is another attempt, and when.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderName, Method, StatusCode, header};
use tokio::time::Instant;

use super::{
    Policy,
    settings::{Limit, OverMax, Settings},
};
use crate::retry::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome, StopReason},
    drain::Drain,
    history::Attempts,
    retry_after,
    round::too_late,
};

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
/// | none | [`budget`](Self::budget) | 20 % and 10/s over 10 s |
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
/// budget = { percent = 20, per_second = 10, window = "10s" } # or "none"
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
    pub(in crate::retry) settings: Arc<Settings>,
    // Made at the first failure: most requests use up nothing.
    pub(in crate::retry) used: Option<Box<Used>>,
    // Of a request on tower's own runner: when it began, and what its override took the place of.
    pub(in crate::retry) began: Option<Instant>,
    pub(in crate::retry) overridden: Option<Arc<Settings>>,
}

/// What one request has used up.
#[derive(Clone, Debug, Default)]
pub(in crate::retry) struct Used {
    // On tower's own runner alone: the attempts, how many, and when the last one began, since the
    // request did.
    pub(in crate::retry) attempts: Attempts,
    pub(in crate::retry) number: u32,
    pub(in crate::retry) attempt_began: Duration,
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
        if let Some(budget) = &policy.settings.budget {
            budget.deposit();
        }
        Self { settings: Arc::clone(&policy.settings), used: None, began: None, overridden: None }
    }

    /// Not if the limits already say so: of all retries, or of those that the method leaves.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        let settings = &*self.settings;
        let none = |limit: Limit| matches!(limit, Limit::Disabled | Limit::Times(0));
        let some = !none(settings.connect) || {
            let classes = [settings.read, settings.status, settings.other];
            classes.into_iter().any(|limit| !none(limit)) && settings.may_repeat(method, headers)
        };
        // Upgrades are looked for at a failure: most requests have none.
        some && !none(settings.total) && *method != Method::CONNECT
    }

    fn is_success(&self, status: StatusCode) -> bool {
        self.settings.is_success(status)
    }

    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        if let Some(classify) = &self.settings.classify {
            return classify(outcome);
        }
        match outcome {
            Err(error) => Some(classify::error(error)),
            Ok(head) if self.settings.lists(head.status) => Some(Failure::Status(head.status)),
            // A server that says when to come back wants to be asked again.
            Ok(head)
                if self.settings.respect_retry_after
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
        self.settings.attempt_timeout
    }

    fn deadline(&self) -> Option<Duration> {
        self.settings.deadline
    }

    fn drain(&self) -> Drain {
        self.settings.drain
    }

    fn raise_on_status(&self) -> bool {
        self.settings.raise_on_status
    }

    fn attempt_header(&self) -> Option<&HeaderName> {
        self.settings.attempt_header.as_ref()
    }

    fn retries_left(&self) -> Option<u32> {
        match self.settings.total {
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
        if !never_sent && !self.settings.may_repeat(attempt.method, attempt.headers) {
            return Err(StopReason::Method);
        }
        self.count(attempt.failure)?;
        if !attempt.replayable {
            return Err(StopReason::Body);
        }
        let delay = self.delay(attempt)?;
        if too_late(attempt.elapsed, delay, self.settings.deadline) {
            return Err(StopReason::Deadline);
        }
        match &self.settings.budget {
            Some(budget) if !never_sent && !budget.withdraw() => Err(StopReason::Budget),
            _ => Ok(delay),
        }
    }

    /// Takes one from the total and one from the class.
    fn count(&mut self, failure: Failure) -> Result<(), StopReason> {
        let (settings, used) = (&self.settings, &mut **self.used.get_or_insert_default());
        let (limit, used_of_class, reason) = match failure {
            Failure::Connect | Failure::Unsent => {
                (settings.connect, &mut used.connect, StopReason::Connect)
            }
            Failure::Read | Failure::Timeout => (settings.read, &mut used.read, StopReason::Read),
            Failure::Status(_) => (settings.status, &mut used.status, StopReason::Status),
            Failure::Other | Failure::Never => (settings.other, &mut used.other, StopReason::Other),
        };
        // Before anything that is used up: what is disabled passes through as it is.
        if settings.total == Limit::Disabled || limit == Limit::Disabled {
            return Err(StopReason::Disabled);
        }
        take(settings.total, &mut used.total, StopReason::Total)?;
        take(limit, used_of_class, reason)
    }

    fn delay(&self, attempt: &Attempt<'_>) -> Result<Duration, StopReason> {
        let settings = &self.settings;
        let (retry, last_delay) =
            self.used.as_ref().map_or((0, Duration::ZERO), |used| (used.total, used.last_delay));
        let asked = match attempt.outcome {
            Ok(head) if settings.respect_retry_after => {
                retry_after::asked(&head.headers, attempt.now)
            }
            _ => None,
        };
        let asked = match asked {
            None | Some(Duration::ZERO) => {
                return Ok(settings.backoff.delay(retry, last_delay, attempt.random));
            }
            Some(asked) if asked <= settings.retry_after_max => asked,
            Some(_) if settings.over_max == OverMax::Clamp => settings.retry_after_max,
            Some(_) => return Err(StopReason::RetryAfter),
        };
        // What is put on top makes no wait that would be refused of one that is not.
        let spread = settings.backoff.spread(asked, attempt.random).min(settings.retry_after_max);
        Ok(if too_late(attempt.elapsed, spread, settings.deadline) { asked } else { spread })
    }
}

/// Whether a `Retry-After` makes a failure of a status that is not in the list.
///
/// urllib3: `RETRY_AFTER_STATUS_CODES`.
fn asks_again(status: StatusCode) -> bool {
    matches!(status.as_u16(), 413 | 429 | 503)
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

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = &*self.settings;
        f.debug_struct("RetryPolicy")
            .field("total", &settings.total)
            .field("connect", &settings.connect)
            .field("read", &settings.read)
            .field("status", &settings.status)
            .field("other", &settings.other)
            .field("methods", &settings.methods)
            .field("status_forcelist", &settings.status_forcelist)
            .field("backoff", &settings.backoff)
            .field("attempt_timeout", &settings.attempt_timeout)
            .field("deadline", &settings.deadline)
            .field("raise_on_status", &settings.raise_on_status)
            .field("attempt_header", &settings.attempt_header)
            .finish_non_exhaustive()
    }
}
