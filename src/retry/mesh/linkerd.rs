//! Linkerd's ServiceProfile: `retryBudget`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    duration,
    error::{MeshError, bounded},
};
use crate::retry::{budget::Budget, policy::RetryPolicy};

/// `retryBudget` of linkerd's ServiceProfile: a budget for retries.
///
/// A configuration must have all three fields, as in linkerd.
///
/// Default: a ratio of 0.2, 10 retries a second and 10 seconds. Linkerd uses these for a profile
/// without a `retryBudget`.
///
/// ```
/// use tower_outbound::retry::{RetryPolicy, mesh::LinkerdRetryBudget};
///
/// let budget: LinkerdRetryBudget = serde_json::from_str(
///     r#"{ "retryRatio": 0.2, "minRetriesPerSecond": 10, "ttl": "10s" }"#,
/// )?;
/// let policy = RetryPolicy::try_from(budget)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What differs
///
/// - Linkerd retries the routes that a profile marks `isRetryable`, whatever the method. Here the
///   policy's methods are retried, by default the idempotent ones.
/// - Linkerd retries until the budget refuses or the route's timeout ends. A policy also stops at
///   its [total](RetryPolicy::total), by default 3. To retry as linkerd does, set `total(None)` and
///   a [deadline](RetryPolicy::deadline).
///
/// Source: linkerd's reference of service profiles, API version `linkerd.io/v1alpha2`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinkerdRetryBudget {
    /// Retries per request, in whole hundredths: 0.2 allows one retry for five requests.
    pub retry_ratio: f64,
    /// Retries a second in addition to those of the ratio: the [floor](Budget::min_retries) of a
    /// budget. From 0, which means no floor, to 4294967295.
    pub min_retries_per_second: i64,
    /// How long a request counts, from one second to one hour: the [window](Budget::window) of a
    /// budget. A configuration spells it as Go does: `10s` or `1m30s`.
    #[serde(deserialize_with = "duration::of_go")]
    pub ttl: Duration,
}

impl Default for LinkerdRetryBudget {
    fn default() -> Self {
        Self { retry_ratio: 0.2, min_retries_per_second: 10, ttl: Duration::from_secs(10) }
    }
}

impl LinkerdRetryBudget {
    /// Returns `policy` with this [budget](RetryPolicy::budget) instead of its own.
    ///
    /// Each call makes a new budget, which the clones of the policy share. A profile is for all
    /// requests to its service, so apply it once and clone the policy.
    ///
    /// # Errors
    ///
    /// If the ratio is not a whole number of hundredths, or a value is out of the bounds in the
    /// docs of its field.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::{RetryPolicy, mesh::LinkerdRetryBudget};
    /// // Retries until the budget refuses or the time is over, as linkerd does.
    /// let policy = RetryPolicy::new().total(None).deadline(Duration::from_secs(10));
    /// let policy = LinkerdRetryBudget::default().apply_to(policy)?;
    /// # Ok::<(), tower_outbound::retry::mesh::MeshError>(())
    /// ```
    pub fn apply_to(&self, policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        let percent = percent(self.retry_ratio)?;
        let count = bounded(
            self.min_retries_per_second,
            0..=u32::MAX,
            "retryBudget.minRetriesPerSecond",
            "write a number from 0 to 4294967295",
        )?;
        // One second is within the bounds of a floor, so only the window can be refused.
        let ttl_is_out_of_bounds = |_| {
            MeshError::new(
                "retryBudget.ttl",
                format_args!("{:?}", self.ttl),
                "write a duration from \"1s\" to \"1h\"",
            )
        };
        Budget::checked(percent, (count, Duration::from_secs(1)), self.ttl)
            .map(|budget| policy.budget(budget))
            .map_err(ttl_is_out_of_bounds)
    }
}

/// The ratio as a whole percent. It is compared in 32 bits, as linkerd keeps it: in 64 bits
/// linkerd's 0.2 is 0.20000000298, and would be refused.
fn percent(ratio: f64) -> Result<u32, MeshError> {
    let percent = (ratio * 100.0).round();
    let is_whole = (percent / 100.0) as f32 == ratio as f32;
    if is_whole && (0.0..=f64::from(u32::MAX)).contains(&percent) {
        return Ok(percent as u32);
    }
    Err(MeshError::new("retryBudget.retryRatio", ratio, "write whole hundredths, such as 0.2"))
}

impl TryFrom<LinkerdRetryBudget> for RetryPolicy {
    type Error = MeshError;

    /// [Applies](LinkerdRetryBudget::apply_to) the budget to [`RetryPolicy::new`].
    fn try_from(budget: LinkerdRetryBudget) -> Result<Self, MeshError> {
        budget.apply_to(Self::new())
    }
}
