//! Configurations of service meshes, for a client that retries as its mesh does.
//!
//! | configuration | here | what it sets |
//! |---|---|---|
//! | Gateway API, HTTPRoute, `rules[].retry` | [`HttpRouteRetry`] | statuses, total, backoff |
//! | Gateway API, HTTPRoute, `rules[].timeouts` | [`HttpRouteTimeouts`] | deadline, time-out of an attempt |
//! | Gateway API, BackendTrafficPolicy, `retryConstraint` | [`RetryConstraint`] | budget |
//! | linkerd, ServiceProfile, `retryBudget` | [`LinkerdRetryBudget`] | budget |
//!
//! Each is read by serde, from YAML, JSON or TOML, with the names and values that its
//! documentation uses. Each is a policy of its own by `TryFrom`, and changes another policy with
//! `apply_to`. So a rule and a constraint that hold for the same requests are one policy:
//!
//! ```
//! use serde::Deserialize;
//! use tower_outbound::retry::{
//!     RetryLayer, RetryPolicy,
//!     mesh::{HttpRouteRetry, HttpRouteTimeouts, RetryConstraint},
//! };
//!
//! #[derive(Deserialize)]
//! struct Rule {
//!     retry: HttpRouteRetry,
//!     timeouts: HttpRouteTimeouts,
//! }
//!
//! // `rules[0]` of an HTTPRoute, and `spec.retryConstraint` of a BackendTrafficPolicy.
//! let rule: Rule = serde_json::from_str(
//!     r#"{
//!         "retry": { "codes": [500, 503], "attempts": 2, "backoff": "100ms" },
//!         "timeouts": { "request": "10s", "backendRequest": "2s" }
//!     }"#,
//! )?;
//! let constraint: RetryConstraint = serde_json::from_str(
//!     r#"{ "budget": { "percent": 20, "interval": "10s" } }"#,
//! )?;
//!
//! let policy = RetryPolicy::try_from(rule.retry)?;
//! let policy = rule.timeouts.apply_to(policy)?;
//! let layer = RetryLayer::new(constraint.apply_to(policy)?);
//! # let _ = layer;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is refused
//!
//! Nothing is dropped in silence. A field that this crate does not know is an error of the
//! deserializer, which names the field and its place. A value that a policy cannot keep is a
//! [`MeshError`], which names the field, its value and what to write.
//!
//! # What a policy has besides
//!
//! What a configuration does not say is as the policy has it: by default the idempotent methods,
//! `Retry-After`, and the budget of [`Budget::default`](super::Budget). A mesh may differ: the
//! Gateway API leaves methods, and whatever a rule leaves out, to each implementation.

mod constraint;
mod duration;
mod error;
mod linkerd;
mod route;

pub use self::{
    constraint::{BudgetDetails, RequestRate, RetryConstraint},
    error::MeshError,
    linkerd::LinkerdRetryBudget,
    route::{HttpRouteRetry, HttpRouteTimeouts},
};
