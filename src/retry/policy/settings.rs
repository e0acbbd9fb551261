//! The values of a `RetryPolicy`, their defaults, and what follows from them alone.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header, request, response};

use super::has_idempotency_key;
use crate::retry::{
    backoff::Backoff,
    budget::SharedBudget,
    classify::{Failure, UNPROCESSED},
    decision::{Attempt, Outcome, ServerDelay, StopReason},
    drain::Drain,
    history::AttemptRecord,
    retry_after,
};

/// How many retries a request may have, in total or after one class of failures.
///
/// A number converts into [`Times`](Self::Times), and `None` into [`Unlimited`](Self::Unlimited).
///
/// Default of a policy: `Times(3)` for the [total](super::RetryPolicy::total), `Unlimited` for each
/// class.
///
/// With the feature `serde`: a number, `"unlimited"` or `"disabled"`.
///
/// ```
/// use tower_outbound::retry::{Limit, RetryPolicy};
///
/// let policy = RetryPolicy::new().total(5).connect(None).other(Limit::Disabled);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// This many retries. With 0 the first error becomes a
    /// [`RetryError`](crate::retry::RetryError), since the limit is used up.
    ///
    /// urllib3: an integer.
    Times(u32),
    /// No limit.
    ///
    /// urllib3: `None`.
    Unlimited,
    /// No retries. The caller gets the response or error unchanged. After an
    /// [`attempt_timeout`](super::RetryPolicy::attempt_timeout) the error is
    /// [`tower::timeout::error::Elapsed`].
    ///
    /// urllib3: `False`.
    Disabled,
}

impl Limit {
    /// Whether this limit rules out even the first retry.
    pub(super) const fn forbids_all(self) -> bool {
        matches!(self, Self::Disabled | Self::Times(0))
    }

    /// The number of retries; `None` without a limit.
    pub(super) const fn most(self) -> Option<u32> {
        match self {
            Self::Times(most) => Some(most),
            Self::Disabled => Some(0),
            Self::Unlimited => None,
        }
    }

    /// Adds one to what is used up. False if none is left.
    pub(super) fn take(self, used: &mut u32) -> bool {
        let left = self.most().is_none_or(|most| *used < most);
        if left {
            *used = used.saturating_add(1);
        }
        left
    }
}

impl From<u32> for Limit {
    fn from(times: u32) -> Self {
        Self::Times(times)
    }
}

impl From<Option<u32>> for Limit {
    fn from(times: Option<u32>) -> Self {
        times.map_or(Self::Unlimited, Self::Times)
    }
}

/// What a policy does if a `Retry-After` is longer than
/// [`retry_after_max`](super::RetryPolicy::retry_after_max).
///
/// Default: [`GiveUp`](Self::GiveUp).
///
/// With the feature `serde`: `"give_up"` or `"clamp"`.
///
/// ```
/// use tower_outbound::retry::{OverMax, RetryPolicy};
///
/// // As urllib3 does.
/// let policy = RetryPolicy::new().retry_after_over_max(OverMax::Clamp);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum OverMax {
    /// Returns the response at once. With [`raise_on_status`](super::RetryPolicy::raise_on_status)
    /// it is a [`RetryError`](crate::retry::RetryError) instead.
    #[default]
    GiveUp,
    /// Waits for the maximum, then retries.
    Clamp,
}

/// A function that the caller gave. Two hooks are equal if they share the function.
pub(super) struct Hook<F: ?Sized>(pub(super) Arc<F>);

impl<F: ?Sized> Clone for Hook<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: ?Sized> PartialEq for Hook<F> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

pub(super) type Classify = dyn Fn(Outcome<'_>) -> Option<Failure> + Send + Sync;
pub(super) type ReadDelay = dyn Fn(&response::Parts) -> Option<ServerDelay> + Send + Sync;
pub(super) type IsIdempotent = dyn Fn(&Method, &Uri, &HeaderMap) -> bool + Send + Sync;
pub(super) type BeforeRetry = dyn Fn(&mut request::Parts, &AttemptRecord) + Send + Sync;

/// The values of a policy. Its clones share them.
#[derive(Clone, PartialEq)]
pub(super) struct Settings {
    pub(super) total: Limit,
    pub(super) connect: Limit,
    pub(super) read: Limit,
    pub(super) status: Limit,
    pub(super) other: Limit,
    /// `None` for any method.
    pub(super) methods: Option<Vec<Method>>,
    pub(super) status_forcelist: Vec<StatusCode>,
    pub(super) backoff: Backoff,
    pub(super) respect_retry_after: bool,
    pub(super) retry_after_max: Duration,
    pub(super) over_max: OverMax,
    pub(super) budget: Option<SharedBudget>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) drain: Drain,
    pub(super) raise_on_status: bool,
    pub(super) attempt_header: Option<HeaderName>,
    pub(super) classify: Option<Hook<Classify>>,
    pub(super) retry_after: Option<Hook<ReadDelay>>,
    pub(super) idempotent: Option<Hook<IsIdempotent>>,
    pub(super) before_retry: Option<Hook<BeforeRetry>>,
}

impl Settings {
    /// Whether a response of this status is a failure.
    pub(super) fn lists(&self, status: StatusCode) -> bool {
        self.status_forcelist.contains(&status)
    }

    /// Whether every response with this status is a success. Asked for every response, so it is
    /// true in the common case alone.
    pub(super) fn is_success(&self, status: StatusCode) -> bool {
        status.is_success() && self.classify.is_none() && !self.lists(status)
    }

    /// How long a server asks to wait; `None` if it does not say, or if that is not respected.
    pub(super) fn server_delay(
        &self,
        head: &response::Parts,
        now: SystemTime,
    ) -> Option<ServerDelay> {
        if !self.respect_retry_after {
            return None;
        }
        let told = self.retry_after.as_ref().and_then(|read| (read.0)(head));
        told.or_else(|| retry_after::asked(&head.headers, now).map(ServerDelay::After))
    }

    /// Whether the method or the headers let a request be sent again even if the server may have
    /// processed it.
    pub(super) fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
            || has_idempotency_key(headers)
    }

    /// Whether the caller says that a repeat of the request has no second effect.
    fn is_idempotent(&self, attempt: &Attempt<'_>) -> bool {
        let asked = self.idempotent.as_ref().zip(attempt.uri);
        asked.is_some_and(|(hook, uri)| (hook.0)(attempt.method, uri, attempt.headers))
    }

    /// Whether a failure says that the server did not process the request.
    fn is_unprocessed(&self, failure: Failure) -> bool {
        match failure {
            Failure::Status(status) => UNPROCESSED.contains(&status) && self.lists(status),
            failure => failure.is_before_sending(),
        }
    }

    /// Whether some failure of a request could lead to a retry. Asked before anything is sent.
    ///
    /// Also true for a request with `Upgrade`: [`refusal`](Self::refusal) looks for the header
    /// after a failure, since most requests have neither the header nor a failure.
    pub(super) fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        if self.total.forbids_all() || *method == Method::CONNECT {
            return false;
        }
        // After a failure before sending any method is retried; after the others only some are.
        let after_sending = [self.read, self.status, self.other];
        !self.connect.forbids_all()
            || (!self.status.forbids_all() && UNPROCESSED.iter().any(|status| self.lists(*status)))
            || (after_sending.into_iter().any(|limit| !limit.forbids_all())
                // The caller's own function is called after a failure, as for `Upgrade`.
                && (self.idempotent.is_some() || self.may_repeat(method, headers)))
    }

    /// Why there is no retry, if the failure, the method or the headers alone rule it out.
    pub(super) fn refusal(&self, attempt: &Attempt<'_>) -> Option<StopReason> {
        if attempt.failure == Failure::Never {
            return Some(StopReason::Never);
        }
        // CONNECT hands over the connection, as `Upgrade` does below. What is sent on it is not
        // part of the request.
        if *attempt.method == Method::CONNECT {
            return Some(StopReason::Disabled);
        }
        if attempt.failure.is_before_sending() {
            return None;
        }
        if attempt.headers.contains_key(header::UPGRADE) {
            return Some(StopReason::Disabled);
        }
        let may_repeat = self.is_unprocessed(attempt.failure)
            || self.may_repeat(attempt.method, attempt.headers)
            || self.is_idempotent(attempt);
        (!may_repeat).then_some(StopReason::Method)
    }
}

impl Default for Settings {
    fn default() -> Self {
        // RFC 9110 section 9.2.2, and RFC 10008.
        let idempotent = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
            Method::QUERY,
        ];
        // Statuses that say "later": the request came too slowly, too many requests, and the three
        // of a gateway. A 500 is not among them: it says nothing about a second attempt.
        let forcelist = [
            StatusCode::REQUEST_TIMEOUT,
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        Self {
            total: Limit::Times(3),
            connect: Limit::Unlimited,
            read: Limit::Unlimited,
            status: Limit::Unlimited,
            other: Limit::Unlimited,
            methods: Some(idempotent.into()),
            status_forcelist: forcelist.into(),
            backoff: Backoff::exponential(Duration::from_millis(100)),
            respect_retry_after: true,
            // A caller may still wait for a minute. It should schedule longer waits itself.
            retry_after_max: Duration::from_secs(60),
            over_max: OverMax::GiveUp,
            budget: Some(SharedBudget::default()),
            attempt_timeout: None,
            deadline: None,
            drain: Drain::default(),
            raise_on_status: false,
            attempt_header: None,
            classify: None,
            retry_after: None,
            idempotent: None,
            before_retry: None,
        }
    }
}
