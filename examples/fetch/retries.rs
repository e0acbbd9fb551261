//! `--retry` and related flags, as a policy.

use std::time::Duration;

use http::StatusCode;
use tower_outbound::retry::{self, Backoff, Failure, Jitter, Limit, RetryPolicy};

use crate::{
    args::Args,
    failed::{BAD_CERTIFICATE, explain},
};

pub(crate) fn policy(args: &Args) -> RetryPolicy {
    let mut policy = RetryPolicy::new()
        .total(args.retry.map_or(Limit::Disabled, Limit::Times))
        .status_forcelist(
            [408, 429, 500, 502, 503, 504]
                .into_iter()
                .filter_map(|code| StatusCode::from_u16(code).ok()),
        )
        // The longest wait of curl.
        .retry_after_max(Duration::from_secs(6 * 60 * 60))
        // These are the requests of one user, so no budget is needed.
        .no_budget();
    if let Some(delay) = args.retry_delay.filter(|delay| !delay.is_zero()) {
        policy = policy.backoff(Backoff::constant(delay).jitter(Jitter::None));
    }
    if args.retry_all_errors {
        policy = policy.any_method();
    }
    let (classes, all_errors) = (policy.clone(), args.retry_all_errors);
    policy.classify(move |outcome| {
        let class = match outcome {
            // The policy's own classes would retry this status if it has a Retry-After.
            Ok(head) if head.status == StatusCode::PAYLOAD_TOO_LARGE => None,
            // The policy's own classes would retry this failed connection, but the certificate
            // would be the same.
            Err(error) if explain(error).status == BAD_CERTIFICATE => Some(Failure::Never),
            _ => retry::Policy::classify(&classes, outcome),
        };
        match class {
            Some(Failure::Never) if all_errors => Some(Failure::Other),
            class => class,
        }
    })
}
