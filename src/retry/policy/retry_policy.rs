//! `RetryPolicy`: decides whether there is another attempt, and when.

use std::{
    fmt, mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, Method, StatusCode, request, response};
use tokio::time::Instant;

use super::{
    Policy, Terms,
    settings::{Limit, OverMax, Settings},
};
use crate::retry::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome, ServerDelay, StopReason},
    history::AttemptRecord,
    round::{Round, is_too_late},
};

/// The rules for retries: which failures are retried, how often and when.
///
/// Like urllib3's `Retry`, and with a budget and a deadline. A clone costs a reference count. A
/// policy in the extensions of a request replaces the layer's policy [for that
/// request](crate::retry#one-request-only).
///
/// | urllib3 | here | default |
/// |---|---|---|
/// | `Retry()` | [`RetryPolicy::urllib3`] | the values of this table: [`RetryPolicy::new`] |
/// | `Retry(False)`, `retries=False` | [`RetryPolicy::none`], [`Limit::Disabled`] | |
/// | `total` | [`total`](Self::total) | 3 (urllib3: 10) |
/// | `connect`, `read`, `status`, `other` | [`connect`](Self::connect), [`read`](Self::read), [`status`](Self::status), [`other`](Self::other) | no limit of their own |
/// | an integer, `None`, `False` for those | [`Limit::Times`], [`Limit::Unlimited`], [`Limit::Disabled`] | |
/// | `allowed_methods` | [`allowed_methods`](Self::allowed_methods); `None`: [`any_method`](Self::any_method) | the idempotent ones (urllib3: without QUERY) |
/// | `status_forcelist` | [`status_forcelist`](Self::status_forcelist) | 408, 429, 502, 503, 504 (urllib3: none) |
/// | `backoff_factor` | [`backoff`](Self::backoff) with [`Backoff::urllib3`](crate::retry::Backoff::urllib3) | 100 ms doubled (urllib3: 0) |
/// | `backoff_max` | [`Backoff::max`](crate::retry::Backoff::max) | 20 s (urllib3: 120 s) |
/// | `backoff_jitter` | [`Jitter::Added`](crate::retry::Jitter::Added) | [`Jitter::Full`](crate::retry::Jitter::Full) (urllib3: none) |
/// | `respect_retry_after_header` | [`respect_retry_after`](Self::respect_retry_after) | true |
/// | `retry_after_max` | [`retry_after_max`](Self::retry_after_max) | 60 s (urllib3: 6 h) |
/// | always clamps to `retry_after_max` | [`retry_after_over_max`](Self::retry_after_over_max) | gives up |
/// | `raise_on_status` | [`raise_on_status`](Self::raise_on_status) | false (urllib3: true) |
/// | `history` | [`RetryHistory`](crate::retry::RetryHistory) | |
/// | `MaxRetryError` | [`RetryError`](crate::retry::RetryError) | |
/// | `urlopen(retries=...)` | this type as a request extension | |
/// | `redirect`, `raise_on_redirect`, `remove_headers_on_redirect` | `tower_http::follow_redirect`, outside | |
/// | (not in urllib3) | [`budget`](Self::budget) | 20 % and 1/s over 10 s |
/// | (not in urllib3) | [`deadline`](Self::deadline), [`attempt_timeout`](Self::attempt_timeout) | none |
/// | (not in urllib3) | [`retry_after`](Self::retry_after), [`idempotent`](Self::idempotent), [`before_retry`](Self::before_retry) | none |
/// | (not in urllib3) | [`drain`](Self::drain), [`attempt_header`](Self::attempt_header), [`classify`](Self::classify) | 64 KiB in 100 ms; none; none |
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
/// ```
///
/// With the feature `serde` a policy is read from a table. Its keys are the setters above, except
/// those that take a function. A key that is left out has its default. A duration is text with its
/// unit; a status is a number. An unknown key is an error that names the key.
///
/// ```toml
/// total = 5                                   # the limits: a number, "unlimited" or "disabled"
/// allowed_methods = ["GET", "HEAD"]           # or "any"
/// status_forcelist = [500, 503]
/// backoff = { urllib3 = "100ms", max = "5s" } # or exponential, constant; jitter = "full"
/// budget = { percent = 20, min_retries = { count = 1, per = "30s" }, window = "10s" } # or "none"
/// attempt_timeout = "500ms"                   # leave out for no limit
/// deadline = "1m 30s"
/// retry_after_max = "5m"
/// retry_after_over_max = "clamp"              # or "give_up"
/// drain = { bytes = 65536, time = "100ms" }
/// attempt_header = "x-attempt"
/// ```
///
/// A policy cannot be serialized: its functions are code, and so is a budget of your own type.
#[derive(Clone, Default)]
pub struct RetryPolicy {
    pub(super) settings: Arc<Settings>,
    // Made at the first failure: most requests use up nothing.
    used: Option<Box<Used>>,
    // For tower's runner, which keeps nothing of a request but this policy: when the request
    // began, and the layer's settings, if the request overrides them.
    began: Option<Instant>,
    overridden: Option<Arc<Settings>>,
}

/// What one request has used up.
#[derive(Clone, Default)]
struct Used {
    total: u32,
    connect: u32,
    read: u32,
    status: u32,
    other: u32,
    // Not a server's `Retry-After`. Decorrelated jitter grows from this delay, and one wait of an
    // hour would make all later delays hours long.
    last_backoff: Duration,
    // Only tower's runner counts its attempts here, and keeps what `before_retry` may change.
    round: Round,
    own_head: Option<request::Parts>,
}

impl Policy for RetryPolicy {
    /// Returns the policy among the extensions, or else this one, with nothing used up. Makes one
    /// deposit into its budget.
    fn for_request(&self, extensions: &Extensions) -> Self {
        let policy = extensions.get::<Self>().unwrap_or(self);
        if let Some(budget) = &policy.settings.budget {
            budget.deposit();
        }
        Self { settings: Arc::clone(&policy.settings), used: None, began: None, overridden: None }
    }

    /// False if the limits rule every retry out, or every retry that the method allows.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.settings.may_retry(method, headers)
    }

    fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.settings.may_repeat(method, headers)
    }

    fn is_success(&self, status: StatusCode) -> bool {
        self.settings.is_success(status)
    }

    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        let settings = &*self.settings;
        if let Some(classify) = &settings.classify {
            return (classify.0)(outcome);
        }
        match outcome {
            Err(error) => Some(classify::error(error)),
            Ok(head) => {
                let fails = settings.lists(head.status)
                    // A server that says when to come back invites a retry.
                    || (is_status_with_retry_after(head.status)
                        && matches!(
                            settings.server_delay(head, SystemTime::UNIX_EPOCH),
                            Some(ServerDelay::After(_))
                        ));
                fails.then_some(Failure::Status(head.status))
            }
        }
    }

    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
        // First, since most failures that are not retried end here, without an allocation.
        if let Some(reason) = self.settings.refusal(attempt) {
            return Decision::Return(reason);
        }
        match self.used.get_or_insert_default().retry(&self.settings, attempt) {
            Ok(after) => Decision::Retry { after },
            Err(reason) => Decision::Return(reason),
        }
    }

    fn server_delay(&self, head: &response::Parts, now: SystemTime) -> Option<ServerDelay> {
        self.settings.server_delay(head, now)
    }

    fn prepare(&self, head: &mut request::Parts, failed: &AttemptRecord) {
        if let Some(hook) = &self.settings.before_retry {
            (hook.0)(head, failed);
        }
    }

    fn terms(&self) -> Terms {
        let settings = &*self.settings;
        Terms {
            attempt_timeout: settings.attempt_timeout,
            deadline: settings.deadline,
            drain: settings.drain,
            raise_on_status: settings.raise_on_status,
            attempt_header: settings.attempt_header.clone(),
            total: settings.total.most(),
        }
    }
}

impl Used {
    /// The delay before the next attempt, or why there is none.
    fn retry(
        &mut self,
        settings: &Settings,
        attempt: &Attempt<'_>,
    ) -> Result<Duration, StopReason> {
        self.count(settings, attempt.failure)?;
        if !attempt.replayable {
            return Err(StopReason::Body);
        }
        let delay = self.delay(settings, attempt)?;
        if is_too_late(attempt.elapsed, delay, settings.deadline) {
            return Err(StopReason::Deadline);
        }
        // The budget comes last, so that a refusal for another reason costs nothing.
        if let Some(budget) = &settings.budget
            && !self.is_free(attempt.failure)
            && !budget.withdraw()
        {
            return Err(StopReason::Budget);
        }
        Ok(delay)
    }

    /// Whether the retry that was just counted draws nothing from the budget.
    ///
    /// A connection that was closed while it was idle fails its next request, and that says nothing
    /// about the server. But an overloaded server refuses connections, so only the first such retry
    /// is free (gRPC A6: one transparent retry).
    const fn is_free(&self, failure: Failure) -> bool {
        failure.is_before_sending() && self.connect == 1
    }

    /// Takes one retry from the total and one from the class of the failure.
    fn count(&mut self, settings: &Settings, failure: Failure) -> Result<(), StopReason> {
        let (limit, used, reason) = match failure {
            Failure::Connect | Failure::Unsent => {
                (settings.connect, &mut self.connect, StopReason::Connect)
            }
            Failure::Read | Failure::Timeout => (settings.read, &mut self.read, StopReason::Read),
            Failure::Status(_) => (settings.status, &mut self.status, StopReason::Status),
            Failure::Other | Failure::Never => (settings.other, &mut self.other, StopReason::Other),
        };
        // Before any count: a failure whose retries are disabled passes through unwrapped, even if
        // the total is used up.
        if settings.total == Limit::Disabled || limit == Limit::Disabled {
            return Err(StopReason::Disabled);
        }
        if !settings.total.take(&mut self.total) {
            return Err(StopReason::Total);
        }
        if limit.take(used) { Ok(()) } else { Err(reason) }
    }

    /// What the server asks for, or else the backoff.
    fn delay(
        &mut self,
        settings: &Settings,
        attempt: &Attempt<'_>,
    ) -> Result<Duration, StopReason> {
        let head = attempt.outcome.ok();
        let asked = match head.and_then(|head| settings.server_delay(head, attempt.now)) {
            None | Some(ServerDelay::After(Duration::ZERO)) => {
                self.last_backoff =
                    settings.backoff.delay(self.total, self.last_backoff, attempt.random);
                return Ok(self.last_backoff);
            }
            Some(ServerDelay::Never) => return Err(StopReason::RetryAfter),
            Some(ServerDelay::After(asked)) if asked <= settings.retry_after_max => asked,
            Some(_) if settings.over_max == OverMax::Clamp => settings.retry_after_max,
            Some(_) => return Err(StopReason::RetryAfter),
        };
        // The spread never refuses a wait that would be accepted without it.
        let spread = settings.backoff.spread(asked, attempt.random).min(settings.retry_after_max);
        let late = is_too_late(attempt.elapsed, spread, settings.deadline);
        Ok(if late { asked } else { spread })
    }
}

/// Whether a `Retry-After` makes a response with this status a failure, listed or not.
///
/// urllib3: `RETRY_AFTER_STATUS_CODES`.
const fn is_status_with_retry_after(status: StatusCode) -> bool {
    matches!(status.as_u16(), 413 | 429 | 503)
}

/// For tower's own runner, which keeps nothing of a request but its policy.
impl RetryPolicy {
    /// Serves a new request from here on, unless this one has failed before and is sent again.
    ///
    /// The runner asks for the first copy of a request on the layer's own policy, and clones the
    /// policy for the request afterwards. So the override of one request is undone at the next.
    pub(in crate::retry) fn serve(&mut self, extensions: &Extensions, now: Instant) {
        if self.used.is_some() {
            return;
        }
        if let Some(settings) = self.overridden.take() {
            self.settings = settings;
        }
        let policy = self.for_request(extensions);
        if !Arc::ptr_eq(&policy.settings, &self.settings) {
            self.overridden = Some(mem::replace(&mut self.settings, policy.settings));
        }
        self.began = Some(now);
    }

    /// Whether the request has failed before.
    pub(in crate::retry) const fn has_failed(&self) -> bool {
        self.used.is_some()
    }

    /// When the request began.
    pub(in crate::retry) const fn began(&self) -> Option<Instant> {
        self.began
    }

    /// Where the caller's own head is kept while attempts have another. `None` if no
    /// [`before_retry`](Self::before_retry) could change it.
    pub(in crate::retry) fn own_head(&mut self) -> Option<&mut Option<request::Parts>> {
        self.settings.before_retry.as_ref()?;
        Some(&mut self.used.get_or_insert_default().own_head)
    }

    /// The attempts so far.
    pub(in crate::retry) fn round(&mut self) -> &mut Round {
        &mut self.used.get_or_insert_default().round
    }
}

/// Two policies are equal if their settings are. What a request has used up does not count.
///
/// Budgets and functions are equal if they are shared, as clones of a policy share them. So the
/// results of two calls of [`RetryPolicy::new`] are not equal: each has a budget of its own.
impl PartialEq for RetryPolicy {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.settings, &other.settings) || self.settings == other.settings
    }
}

impl Eq for RetryPolicy {}

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

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::retry::retry_after::retry_after_ms;

    #[test]
    fn policies_are_equal_if_their_values_are_and_what_they_share_is_the_same() {
        let (none, shared) = (RetryPolicy::none, RetryPolicy::new());
        let never = |_: Outcome<'_>| None;
        let always = |_: &Method, _: &Uri, _: &HeaderMap| true;
        let nothing = |_: &mut request::Parts, _: &AttemptRecord| {};
        let classified = none().classify(never);
        let delayed = none().retry_after(retry_after_ms);
        let safe = none().idempotent(always);
        let hooked = none().before_retry(nothing);
        let rows = [
            ("no budgets", none(), none(), true),
            ("a value", none().total(1), none(), false),
            ("a value set to the same", none().total(1), none().total(1), true),
            ("one budget", shared.clone().total(1), shared.clone().total(1), true),
            ("two budgets", RetryPolicy::new(), RetryPolicy::new(), false),
            ("one function", classified.clone().total(1), classified.clone().total(1), true),
            ("the same function twice", classified, none().classify(never), false),
            ("one reader", delayed.clone().total(1), delayed.clone().total(1), true),
            ("the same reader twice", delayed, none().retry_after(retry_after_ms), false),
            ("one predicate", safe.clone().total(1), safe.clone().total(1), true),
            ("the same predicate twice", safe, none().idempotent(always), false),
            ("one hook", hooked.clone().total(1), hooked.clone().total(1), true),
            ("the same hook twice", hooked, none().before_retry(nothing), false),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(_, a, b, want)| (a == b) != *want).map(|row| row.0).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
