//! The Gateway API's HTTPRoute: `retry` and `timeouts` of a rule.

use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;

use super::{
    duration,
    error::{MeshError, bounded},
};
use crate::retry::{
    backoff::{Backoff, Jitter},
    policy::{Limit, RetryPolicy},
};

/// `retry` of a rule of the Gateway API's HTTPRoute: statuses, number of retries, backoff.
///
/// A field that is left out keeps the value of the policy that the rule is
/// [applied to](Self::apply_to), since the API leaves its default to the implementation.
///
/// Source: GEP-1731, API version `gateway.networking.k8s.io/v1`.
///
/// ```
/// use tower_outbound::retry::{RetryPolicy, mesh::HttpRouteRetry};
///
/// let rule: HttpRouteRetry = serde_json::from_str(
///     r#"{ "codes": [500, 503], "attempts": 2, "backoff": "100ms" }"#,
/// )?;
/// let policy = RetryPolicy::try_from(rule)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # What the API leaves open
///
/// - **Methods.** A rule names no methods. The policy's methods are retried, by default the
///   idempotent ones. If the server cannot have processed a request, it is retried whatever its
///   method: the connection failed, or HTTP/2 refused the stream (feature `http2`).
/// - **`Retry-After`.** It replaces the backoff, even if it is shorter. A 413, 429 or 503 with a
///   `Retry-After` is retried, listed or not. To follow the rule alone, apply it to a policy with
///   [`respect_retry_after(false)`](RetryPolicy::respect_retry_after).
/// - **The end.** After the last attempt the caller gets the last response, or a
///   [`RetryError`](crate::retry::RetryError) with
///   [`raise_on_status`](RetryPolicy::raise_on_status).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpRouteRetry {
    /// Statuses to retry, from 400 to 599. An empty list means no status.
    ///
    /// Default: the [forcelist](RetryPolicy::status_forcelist) of the policy.
    pub codes: Option<Vec<i64>>,
    /// How many retries a request has after its first attempt. 0 turns retries off.
    ///
    /// Default: the [total](RetryPolicy::total) of the policy.
    pub attempts: Option<i64>,
    /// Shortest delay before a retry.
    ///
    /// The delay doubles from retry to retry, up to 20 s, or up to twice this value if that is
    /// longer. A random time between zero and this value is added.
    ///
    /// Default: the [backoff](RetryPolicy::backoff) of the policy.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub backoff: Option<Duration>,
}

impl HttpRouteRetry {
    /// Returns `policy` with the values of this rule instead of its own.
    ///
    /// # Errors
    ///
    /// If a code is not from 400 to 599, or `attempts` is negative or over 4294967295.
    ///
    /// ```
    /// # use tower_outbound::retry::{RetryPolicy, mesh::HttpRouteRetry};
    /// let mut rule = HttpRouteRetry::default();
    /// rule.attempts = Some(2);
    /// let policy = rule.apply_to(RetryPolicy::new().any_method())?;
    /// # Ok::<(), tower_outbound::retry::mesh::MeshError>(())
    /// ```
    pub fn apply_to(&self, mut policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        if let Some(codes) = &self.codes {
            let statuses: Result<Vec<_>, _> = codes.iter().map(|code| status(*code)).collect();
            policy = policy.status_forcelist(statuses?);
        }
        if let Some(attempts) = self.attempts {
            policy = policy.total(limit(attempts)?);
        }
        if let Some(least) = self.backoff {
            policy = policy.backoff(at_least(least));
        }
        Ok(policy)
    }
}

/// The bounds are the API's: a cluster accepts no other value.
fn status(code: i64) -> Result<StatusCode, MeshError> {
    u16::try_from(code)
        .ok()
        .filter(|code| (400..=599).contains(code))
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| MeshError::new("retry.codes", code, "write statuses from 400 to 599"))
}

/// GEP-1731: "An explicit zero value MUST disable retries". With a total of 0 each error would
/// become a `RetryError`. The API accepts negative values, but gives them no meaning.
fn limit(attempts: i64) -> Result<Limit, MeshError> {
    let advice = "write 0 for no retries, or a number up to 4294967295";
    match bounded(attempts, 0..=u32::MAX, "retry.attempts", advice)? {
        0 => Ok(Limit::Disabled),
        times => Ok(Limit::Times(times)),
    }
}

/// GEP-1731 forbids a retry before this time, and calls it the base interval in its later text.
/// Added jitter satisfies both. Full jitter would begin at zero.
fn at_least(least: Duration) -> Backoff {
    let usual = Backoff::exponential(least).jitter(Jitter::Added(least));
    // The maximum includes the jitter. A lower one would cut off the jitter of the first retry, so
    // that a fleet retries all at once, or even the shortest delay itself.
    let widest = least.saturating_mul(2);
    if widest > Duration::from_secs(20) { usual.max(widest) } else { usual }
}

impl TryFrom<HttpRouteRetry> for RetryPolicy {
    type Error = MeshError;

    /// [Applies](HttpRouteRetry::apply_to) the rule to [`RetryPolicy::new`].
    fn try_from(rule: HttpRouteRetry) -> Result<Self, MeshError> {
        rule.apply_to(Self::new())
    }
}

/// `timeouts` of a rule of the Gateway API's HTTPRoute: deadline and attempt timeout.
///
/// Here both limits end with the head of the response. The API's limits include the body. To limit
/// the body too, add a layer for it, such as tower-http's `ResponseBodyTimeoutLayer`.
///
/// A field that is left out keeps the value of the policy that the rule is
/// [applied to](Self::apply_to). A zero, `0s`, removes the policy's limit.
///
/// Source: GEP-1742, API version `gateway.networking.k8s.io/v1`.
///
/// ```
/// use tower_outbound::retry::{RetryPolicy, mesh::HttpRouteTimeouts};
///
/// let rule: HttpRouteTimeouts =
///     serde_json::from_str(r#"{ "request": "10s", "backendRequest": "2s" }"#)?;
/// let policy = RetryPolicy::try_from(rule)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpRouteTimeouts {
    /// Longest time of a request with all its attempts: the
    /// [deadline](RetryPolicy::deadline).
    ///
    /// Default: the deadline of the policy.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub request: Option<Duration>,
    /// Longest time of one attempt: the [attempt timeout](RetryPolicy::attempt_timeout). It cannot
    /// be longer than `request`.
    ///
    /// Default: the attempt timeout of the policy.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub backend_request: Option<Duration>,
}

impl HttpRouteTimeouts {
    /// Returns `policy` with the values of this rule instead of its own.
    ///
    /// # Errors
    ///
    /// If `backendRequest` is longer than `request`, and neither is zero.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::{RetryPolicy, mesh::HttpRouteTimeouts};
    /// let mut rule = HttpRouteTimeouts::default();
    /// rule.request = Some(Duration::from_secs(10));
    /// let policy = rule.apply_to(RetryPolicy::new())?;
    /// # Ok::<(), tower_outbound::retry::mesh::MeshError>(())
    /// ```
    pub fn apply_to(&self, mut policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        // GEP-1742: a timeout of zero disables the timeout.
        let limit = |timeout: Duration| Some(timeout).filter(|timeout| !timeout.is_zero());
        let request = self.request.map(limit);
        let attempt = self.backend_request.map(limit);
        if let (Some(Some(request)), Some(Some(attempt))) = (request, attempt)
            && attempt > request
        {
            return Err(MeshError::new(
                "timeouts.backendRequest",
                format_args!("{attempt:?} and timeouts.request {request:?}"),
                "write a backendRequest that is not longer than request",
            ));
        }
        if let Some(request) = request {
            policy = policy.deadline(request);
        }
        if let Some(attempt) = attempt {
            policy = policy.attempt_timeout(attempt);
        }
        Ok(policy)
    }
}

impl TryFrom<HttpRouteTimeouts> for RetryPolicy {
    type Error = MeshError;

    /// [Applies](HttpRouteTimeouts::apply_to) the rule to [`RetryPolicy::new`].
    fn try_from(rule: HttpRouteTimeouts) -> Result<Self, MeshError> {
        rule.apply_to(Self::new())
    }
}
