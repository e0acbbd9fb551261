//! The Gateway API's BackendTrafficPolicy: `retryConstraint`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    duration,
    error::{MeshError, bounded},
};
use crate::retry::{
    budget::{Bound, Budget},
    policy::RetryPolicy,
};

/// `retryConstraint` of the Gateway API's BackendTrafficPolicy: a budget for retries.
///
/// Default: 20 percent and 10 retries a second, over 10 seconds. These are the API's defaults. The
/// floor of [`Budget::default`] is a tenth of that.
///
/// Source: GEP-3388, experimental, API version `gateway.networking.x-k8s.io/v1alpha1`.
///
/// ```
/// use tower_outbound::retry::{RetryPolicy, mesh::RetryConstraint};
///
/// let constraint: RetryConstraint = serde_json::from_str(
///     r#"{
///         "budget": { "percent": 10, "interval": "30s" },
///         "minRetryRate": { "count": 5, "interval": "1s" }
///     }"#,
/// )?;
/// let policy = RetryPolicy::try_from(constraint)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What differs
///
/// - [`Budget`] takes the percentage of the requests without their retries, as linkerd does. The
///   API takes it of all requests, with their retries. At 20 percent at most one in six of the
///   requests that are sent is a retry here; the API allows one in five.
/// - [`Budget`] adds the floor to the percentage, as linkerd does. The API takes the larger of the
///   two.
/// - If the budget refuses a retry, the caller gets the last response or error. The API tells a
///   gateway to answer 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RetryConstraint {
    /// The percentage, and how long a request counts.
    ///
    /// Default: 20 percent over 10 seconds.
    pub budget: Option<BudgetDetails>,
    /// The retries that are allowed in addition to the percentage.
    ///
    /// Default: 10 a second.
    pub min_retry_rate: Option<RequestRate>,
}

/// `budget` of a [`RetryConstraint`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct BudgetDetails {
    /// Retries per 100 requests, from 0 to 100.
    ///
    /// Default: 20.
    pub percent: Option<i64>,
    /// How long a request counts, from one second to one hour: the [window](Budget::window) of a
    /// budget.
    ///
    /// Default: 10 seconds.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub interval: Option<Duration>,
}

/// `minRetryRate` of a [`RetryConstraint`]: the [floor](Budget::min_retries) of a budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct RequestRate {
    /// Retries in each interval, from 1 to 1,000,000.
    ///
    /// Default: 10.
    pub count: Option<i64>,
    /// Length of an interval, longer than zero and at most one hour.
    ///
    /// Default: one second.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub interval: Option<Duration>,
}

impl RetryConstraint {
    /// Returns `policy` with this constraint as its [budget](RetryPolicy::budget).
    ///
    /// Each call makes a new budget, which the clones of the policy share. A constraint is for all
    /// requests to its backend, so apply it once and clone the policy.
    ///
    /// # Errors
    ///
    /// If a value is out of the bounds in the docs of its field.
    ///
    /// ```
    /// # use tower_outbound::retry::{RetryPolicy, mesh::RetryConstraint};
    /// let policy = RetryConstraint::default().apply_to(RetryPolicy::new().total(1))?;
    /// # Ok::<(), tower_outbound::retry::mesh::MeshError>(())
    /// ```
    pub fn apply_to(&self, policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        let budget = self.budget.clone().unwrap_or_default();
        let rate = self.min_retry_rate.clone().unwrap_or_default();
        let window = budget.interval.unwrap_or(Duration::from_secs(10));
        let per = rate.interval.unwrap_or(Duration::from_secs(1));
        let percent = bounded(
            budget.percent.unwrap_or(20),
            0..=100,
            "retryConstraint.budget.percent",
            "write a percentage from 0 to 100",
        )?;
        let count = bounded(
            rate.count.unwrap_or(10),
            1..=1_000_000,
            "retryConstraint.minRetryRate.count",
            "write a number from 1 to 1000000",
        )?;
        let refusal = |bound| match bound {
            Bound::Window => MeshError::new(
                "retryConstraint.budget.interval",
                format_args!("{window:?}"),
                "write a duration from \"1s\" to \"1h\"",
            ),
            Bound::Per => MeshError::new(
                "retryConstraint.minRetryRate.interval",
                format_args!("{per:?}"),
                "write a duration from \"1ms\" to \"1h\"",
            ),
        };
        // A budget takes a day, but the API takes an hour.
        if per > Duration::from_secs(60 * 60) {
            return Err(refusal(Bound::Per));
        }
        Budget::checked(percent, (count, per), window)
            .map(|budget| policy.budget(budget))
            .map_err(refusal)
    }
}

impl TryFrom<RetryConstraint> for RetryPolicy {
    type Error = MeshError;

    /// [Applies](RetryConstraint::apply_to) the constraint to [`RetryPolicy::new`].
    fn try_from(constraint: RetryConstraint) -> Result<Self, MeshError> {
        constraint.apply_to(Self::new())
    }
}
