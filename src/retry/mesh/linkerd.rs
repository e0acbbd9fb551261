//! Linkerd's ServiceProfile: `retryBudget`.

use std::time::Duration;

use serde::Deserialize;

use super::{
    duration,
    error::{MeshError, bounded},
};
use crate::retry::{budget::Budget, policy::RetryPolicy};

/// `retryBudget` of linkerd's ServiceProfile.
///
/// All three fields are required, as they are in linkerd.
///
/// Default: a ratio of 0.2, 10 retries a second and a `ttl` of 10 seconds, which linkerd uses for a
/// profile without a budget.
///
/// Linkerd retries a request until it succeeds, its time-out ends or the budget refuses. A policy
/// stops at its [total](RetryPolicy::total) too; `total(None)` does as linkerd does. Give it a
/// [deadline](RetryPolicy::deadline) then.
///
/// Source: linkerd's reference of service profiles, API version `linkerd.io/v1alpha2`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct LinkerdRetryBudget {
    /// Retries per request: 0.2 is one retry for five requests. A whole number of hundredths.
    pub retry_ratio: f64,
    /// Retries a second besides those of the ratio: the [floor](Budget::min_retries) of a budget. 0
    /// is no floor.
    pub min_retries_per_second: i64,
    /// How long a request counts, from one second to one hour: the [window](Budget::window) of a
    /// budget. As configuration a duration as Go writes it, such as `10s` or `1m30s`.
    #[serde(deserialize_with = "duration::of_go")]
    pub ttl: Duration,
}

impl Default for LinkerdRetryBudget {
    fn default() -> Self {
        Self { retry_ratio: 0.2, min_retries_per_second: 10, ttl: Duration::from_secs(10) }
    }
}

impl LinkerdRetryBudget {
    /// The policy with this [budget](RetryPolicy::budget) in place of its own.
    ///
    /// Each call makes a budget of its own, and clones of the policy share it. A profile is for all
    /// requests to its service, so apply it once and clone the policy.
    ///
    /// # Errors
    ///
    /// If the ratio is no whole number of hundredths, or a value is out of the bounds that its
    /// field says.
    pub fn apply_to(&self, policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        let percent = percent(self.retry_ratio)?;
        let count = bounded(
            self.min_retries_per_second,
            0..=u32::MAX,
            "retryBudget.minRetriesPerSecond",
            "write a number from 0 to 4294967295",
        )?;
        // A second is within the bounds of a floor, so what is refused is the window.
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

/// Linkerd keeps a ratio in 32 bits, so two ratios that are equal in 32 bits are the same one.
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

    /// The budget, [applied to](LinkerdRetryBudget::apply_to) [`RetryPolicy::new`].
    fn try_from(budget: LinkerdRetryBudget) -> Result<Self, MeshError> {
        budget.apply_to(Self::new())
    }
}
