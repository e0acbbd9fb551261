//! `--retry` and its kin, as a policy.

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
        // As long as curl waits at most.
        .retry_after_max(Duration::from_secs(6 * 60 * 60))
        // One user's own requests: there is no fleet to hold back.
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
            // With a Retry-After the policy's own classes would retry it.
            Ok(head) if head.status == StatusCode::PAYLOAD_TOO_LARGE => None,
            // A failed connection, which they would retry too; but the certificate will be no
            // better.
            Err(error) if explain(error).status == BAD_CERTIFICATE => Some(Failure::Never),
            _ => retry::Policy::classify(&classes, outcome),
        };
        match class {
            Some(Failure::Never) if all_errors => Some(Failure::Other),
            class => class,
        }
    })
}
