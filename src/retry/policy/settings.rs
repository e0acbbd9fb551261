//! The values of a `RetryPolicy`, their defaults, and what follows from them alone.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::IDEMPOTENCY_KEY;
use crate::retry::{
    backoff::Backoff,
    budget::SharedBudget,
    classify::Failure,
    decision::{Attempt, Outcome, StopReason},
    drain::Drain,
};

/// How many retries there may be.
///
/// `From<u32>` is [`Times`](Self::Times). `From<Option<u32>>` turns `None` into
/// [`Unlimited`](Self::Unlimited).
///
/// With the feature `serde`: a number, `"unlimited"` or `"disabled"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// This many retries. With 0 the first failure ends the request, as a limit that is used up.
    ///
    /// urllib3: an integer.
    Times(u32),
    /// No limit.
    ///
    /// urllib3: `None`.
    Unlimited,
    /// No retries. The failure passes through unchanged.
    ///
    /// urllib3: `False`.
    Disabled,
}

impl Limit {
    /// Whether there is no retry under this limit, whatever was used up.
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

/// What happens if a `Retry-After` is longer than
/// [`retry_after_max`](super::RetryPolicy::retry_after_max).
///
/// With the feature `serde`: `"give_up"` or `"clamp"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
#[non_exhaustive]
pub enum OverMax {
    /// The caller gets the response at once.
    #[default]
    GiveUp,
    /// The delay is the maximum.
    Clamp,
}

/// The caller's function that says what is a failure. Two are equal if they are the same closure.
#[derive(Clone)]
pub(super) struct Classifier(Arc<dyn Fn(Outcome<'_>) -> Option<Failure> + Send + Sync>);

impl Classifier {
    pub(super) fn new(
        classify: impl Fn(Outcome<'_>) -> Option<Failure> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(classify))
    }

    pub(super) fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        (self.0)(outcome)
    }
}

impl PartialEq for Classifier {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

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
    pub(super) classify: Option<Classifier>,
}

impl Settings {
    /// Whether a response of this status is a failure.
    pub(super) fn lists(&self, status: StatusCode) -> bool {
        self.status_forcelist.contains(&status)
    }

    /// Whether a response of this status is a success for certain. Asked for every response, so it
    /// answers for the common case alone.
    pub(super) fn is_success(&self, status: StatusCode) -> bool {
        status.is_success() && self.classify.is_none() && !self.lists(status)
    }

    /// Whether a request may be sent again although the server may have processed it.
    pub(super) fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
            || headers.contains_key(&IDEMPOTENCY_KEY)
    }

    /// Whether some retry is possible of a request, before anything was sent.
    ///
    /// A request with `Upgrade` counts as possible: [`refusal`](Self::refusal) looks for the header
    /// after a failure, since most requests have neither.
    pub(super) fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        if self.total.forbids_all() || *method == Method::CONNECT {
            return false;
        }
        // A failed connection may be retried for any method, the other classes only for some.
        let after_sending = [self.read, self.status, self.other];
        !self.connect.forbids_all()
            || (after_sending.into_iter().any(|limit| !limit.forbids_all())
                && self.may_repeat(method, headers))
    }

    /// Why there is no retry, if the failure, the method or the headers rule it out by themselves.
    pub(super) fn refusal(&self, attempt: &Attempt<'_>) -> Option<StopReason> {
        if attempt.failure == Failure::Never {
            return Some(StopReason::Never);
        }
        // Both hand the connection over. What comes after that is not a request to repeat.
        if *attempt.method == Method::CONNECT {
            return Some(StopReason::Disabled);
        }
        if attempt.failure.is_before_sending() {
            return None;
        }
        if attempt.headers.contains_key(header::UPGRADE) {
            return Some(StopReason::Disabled);
        }
        let may_repeat = self.may_repeat(attempt.method, attempt.headers);
        (!may_repeat).then_some(StopReason::Method)
    }
}

impl Default for Settings {
    fn default() -> Self {
        // RFC 9110 section 9.2.2.
        let idempotent = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ];
        // Statuses that say "later": too many requests, and the three of a gateway. A 500 is not
        // among them: it says nothing of a second attempt.
        let forcelist = [
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
            // urllib3's `RETRY_AFTER_MAX`.
            retry_after_max: Duration::from_secs(6 * 60 * 60),
            over_max: OverMax::GiveUp,
            budget: Some(SharedBudget::default()),
            attempt_timeout: None,
            deadline: None,
            drain: Drain::default(),
            raise_on_status: false,
            attempt_header: None,
            classify: None,
        }
    }
}
