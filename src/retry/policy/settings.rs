//! What a `RetryPolicy` is told: its values and their defaults.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use tower::retry::budget::{Budget, TpsBudget};

use super::IDEMPOTENCY_KEY;
use crate::retry::{
    backoff::Backoff,
    budget::{BUDGET_PER_SECOND, BUDGET_PERCENT, BUDGET_WINDOW},
    classify::Failure,
    decision::Outcome,
    drain::Drain,
};

/// How many retries there may be.
///
/// `From<u32>` is [`Times`](Self::Times); `From<Option<u32>>` turns `None` into
/// [`Unlimited`](Self::Unlimited).
///
/// With the feature `serde`: a number, `"unlimited"` or `"disabled"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many. After 0 the first failure is the last, and it counts as a limit used up.
    ///
    /// urllib3: an integer.
    Times(u32),
    /// No limit.
    ///
    /// urllib3: `None`.
    Unlimited,
    /// None, and the failure passes through as it is.
    ///
    /// urllib3: `False`.
    Disabled,
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

/// What becomes of a `Retry-After` past [`RetryPolicy::retry_after_max`].
///
/// With the feature `serde`: `"give_up"` or `"clamp"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum OverMax {
    /// The response is returned at once.
    #[default]
    GiveUp,
    /// The wait is the maximum.
    Clamp,
}

type Classify = dyn Fn(Outcome<'_>) -> Option<Failure> + Send + Sync;

#[derive(Clone)]
pub(in crate::retry) struct Settings {
    pub(super) total: Limit,
    pub(super) connect: Limit,
    pub(super) read: Limit,
    pub(super) status: Limit,
    pub(super) other: Limit,
    /// `None` for any.
    pub(super) methods: Option<Vec<Method>>,
    pub(super) status_forcelist: Vec<StatusCode>,
    /// Whether the list has a status from 200 to 299.
    pub(super) lists_successes: bool,
    pub(super) backoff: Backoff,
    pub(super) respect_retry_after: bool,
    pub(super) retry_after_max: Duration,
    pub(super) over_max: OverMax,
    pub(super) budget: Option<Arc<dyn Budget + Send + Sync>>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) drain: Drain,
    pub(super) raise_on_status: bool,
    pub(in crate::retry) attempt_header: Option<HeaderName>,
    pub(super) classify: Option<Arc<Classify>>,
}

impl Settings {
    /// Whether a response of this status is a failure.
    pub(super) fn lists(&self, status: StatusCode) -> bool {
        self.status_forcelist.contains(&status)
    }

    /// Whether a response of this status is surely none. Most are, and it is asked of each.
    pub(super) fn is_success(&self, status: StatusCode) -> bool {
        status.is_success() && !self.lists_successes && self.classify.is_none()
    }

    /// Whether a request may be sent again that the server may have processed.
    pub(super) fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
            || headers.contains_key(&IDEMPOTENCY_KEY)
    }
}

impl Default for Settings {
    fn default() -> Self {
        let idempotent = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ];
        Self {
            total: Limit::Times(3),
            connect: Limit::Unlimited,
            read: Limit::Unlimited,
            status: Limit::Unlimited,
            other: Limit::Unlimited,
            methods: Some(idempotent.into()),
            status_forcelist: DEFAULT_FORCELIST.into(),
            lists_successes: false,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            respect_retry_after: true,
            retry_after_max: Duration::from_secs(6 * 60 * 60),
            over_max: OverMax::GiveUp,
            budget: Some(Arc::new(TpsBudget::new(
                BUDGET_WINDOW,
                BUDGET_PER_SECOND,
                BUDGET_PERCENT / 100.0,
            ))),
            attempt_timeout: None,
            deadline: None,
            drain: Drain::default(),
            raise_on_status: false,
            attempt_header: None,
            classify: None,
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
