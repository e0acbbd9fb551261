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

/// `retry` of a rule of the Gateway API's HTTPRoute.
///
/// A field that is left out changes nothing of the policy that it is [applied to](Self::apply_to):
/// the API leaves its default to the implementation.
///
/// Source: GEP-1731, API version `gateway.networking.k8s.io/v1`.
///
/// # What the API leaves open
///
/// - **Methods.** A rule names none. Those of the policy are retried; by default the idempotent
///   ones. A request that was surely not processed is retried whatever its method: the connection
///   failed, or HTTP/2 refused the stream. A connection that breaks after the request was sent, or
///   an attempt that takes too long, is retried for the policy's methods only.
/// - **`Retry-After`.** It takes the place of the backoff, and 413, 429 and 503 are retried with
///   it, listed or not. To go by the rule alone, apply it to a policy with
///   [`respect_retry_after(false)`](RetryPolicy::respect_retry_after).
/// - **The end.** After the last attempt the caller gets the last response, or a
///   [`RetryError`](crate::retry::RetryError) for it with
///   [`raise_on_status`](RetryPolicy::raise_on_status).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
#[non_exhaustive]
pub struct HttpRouteRetry {
    /// Statuses to retry, from 400 to 599. An empty list is no status.
    ///
    /// Default: the [forcelist](RetryPolicy::status_forcelist) of the policy.
    pub codes: Option<Vec<i64>>,
    /// The most retries of a request, besides its first attempt. 0 is no retries.
    ///
    /// Default: the [total](RetryPolicy::total) of the policy.
    pub attempts: Option<i64>,
    /// The least wait before a retry.
    ///
    /// It doubles from retry to retry, up to 20 s or twice this, whichever is longer. Up to once
    /// this is added at random.
    ///
    /// Default: the [backoff](RetryPolicy::backoff) of the policy.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub backoff: Option<Duration>,
}

impl HttpRouteRetry {
    /// The policy with this rule's values in place of its own.
    ///
    /// # Errors
    ///
    /// If a code is not from 400 to 599, or `attempts` is negative or over 4294967295.
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

/// The bounds are the API's: no other value gets into a cluster.
fn status(code: i64) -> Result<StatusCode, MeshError> {
    let advice = "write statuses from 400 to 599";
    let code = bounded(code, 400..=599, "retry.codes", advice)?;
    Ok(StatusCode::from_u16(code as u16).expect("400 to 599 are statuses"))
}

/// GEP-1731: "An explicit zero value MUST disable retries". A total of 0 would report each failure
/// as a limit that was used up. The API admits negative values and gives them no meaning.
fn limit(attempts: i64) -> Result<Limit, MeshError> {
    let advice = "write 0 for no retries, or a number up to 4294967295";
    match bounded(attempts, 0..=u32::MAX, "retry.attempts", advice)? {
        0 => Ok(Limit::Disabled),
        times => Ok(Limit::Times(times)),
    }
}

/// GEP-1731 forbids a retry before this time, so jitter is added to it. Full jitter would begin
/// at nothing.
fn at_least(least: Duration) -> Backoff {
    let usual = Backoff::exponential(least).jitter(Jitter::Added(least));
    // The maximum holds for the sum. One below this would cut off the jitter, or the least time
    // itself.
    let widest = least.saturating_mul(2);
    if widest > Duration::from_secs(20) { usual.max(widest) } else { usual }
}

impl TryFrom<HttpRouteRetry> for RetryPolicy {
    type Error = MeshError;

    /// The rule, [applied to](HttpRouteRetry::apply_to) [`RetryPolicy::new`].
    fn try_from(rule: HttpRouteRetry) -> Result<Self, MeshError> {
        rule.apply_to(Self::new())
    }
}

/// `timeouts` of a rule of the Gateway API's HTTPRoute.
///
/// Both end with the head of the response. The API lets them end with its body: for that, a
/// time-out of the body stands beside this, such as tower-http's `ResponseBodyTimeoutLayer`.
///
/// A field that is left out changes nothing of the policy that it is [applied to](Self::apply_to).
/// A field of zero, `0s`, removes the policy's limit.
///
/// Source: GEP-1742, API version `gateway.networking.k8s.io/v1`.
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
    /// Longest time of one attempt: the [time-out](RetryPolicy::attempt_timeout) of an attempt.
    ///
    /// Default: the time-out of the policy.
    #[serde(deserialize_with = "duration::of_gateway")]
    pub backend_request: Option<Duration>,
}

impl HttpRouteTimeouts {
    /// The policy with this rule's values in place of its own.
    ///
    /// # Errors
    ///
    /// If `backendRequest` is longer than `request`, and neither is zero.
    pub fn apply_to(&self, mut policy: RetryPolicy) -> Result<RetryPolicy, MeshError> {
        let limit = |timeout: Duration| Some(timeout).filter(|timeout| !timeout.is_zero());
        let request = self.request.map(limit);
        let attempt = self.backend_request.map(limit);
        if let (Some(Some(request)), Some(Some(attempt))) = (request, attempt)
            && attempt > request
        {
            return Err(MeshError::new(
                "timeouts.backendRequest",
                format_args!("{attempt:?} and timeouts.request {request:?}"),
                "one attempt cannot take longer than all; make timeouts.request the longer one",
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

    /// The rule, [applied to](HttpRouteTimeouts::apply_to) [`RetryPolicy::new`].
    fn try_from(rule: HttpRouteTimeouts) -> Result<Self, MeshError> {
        rule.apply_to(Self::new())
    }
}
