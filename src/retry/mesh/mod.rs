//! Retry configurations of service meshes, read into a [`RetryPolicy`](super::RetryPolicy).
//!
//! | configuration | here | what it sets |
//! |---|---|---|
//! | Gateway API, HTTPRoute, `rules[].retry` | [`HttpRouteRetry`] | statuses, total, backoff |
//! | Gateway API, HTTPRoute, `rules[].timeouts` | [`HttpRouteTimeouts`] | deadline, attempt timeout |
//! | Gateway API, BackendTrafficPolicy, `retryConstraint` | [`RetryConstraint`] | budget |
//! | linkerd, ServiceProfile, `retryBudget` | [`LinkerdRetryBudget`] | budget |
//!
//! Serde reads each type from YAML, JSON or TOML, with the field names of the mesh. `TryFrom` makes
//! a policy from one configuration; `apply_to` adds it to another policy. So several configurations
//! for the same requests become one policy:
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
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is refused
//!
//! An unknown field is an error of the deserializer, which names the field. A value that a policy
//! cannot have is a [`MeshError`], which names the field, its value and what to write. So nothing
//! is silently ignored.
//!
//! # What a configuration leaves out
//!
//! The value of the policy is kept, by default that of
//! [`RetryPolicy::new`](super::RetryPolicy::new). The Gateway API leaves these values to each
//! implementation, and the methods too. So a gateway may retry more or less than this crate. The
//! docs of each type say what differs from its mesh.

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
