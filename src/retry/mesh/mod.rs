//! Configurations of service meshes, for a client that retries as its mesh does.
//!
//! | configuration | here | what it sets |
//! |---|---|---|
//! | Gateway API, HTTPRoute, `rules[].retry` | [`HttpRouteRetry`] | statuses, total, backoff |
//! | Gateway API, HTTPRoute, `rules[].timeouts` | [`HttpRouteTimeouts`] | deadline, attempt timeout |
//! | Gateway API, BackendTrafficPolicy, `retryConstraint` | [`RetryConstraint`] | budget |
//! | linkerd, ServiceProfile, `retryBudget` | [`LinkerdRetryBudget`] | budget |
//!
//! Serde reads each from YAML, JSON or TOML, with the names and values of its documentation. Each
//! is a [`RetryPolicy`](super::RetryPolicy) by `TryFrom`, and changes another policy by `apply_to`.
//! So several configurations for the same requests become one policy:
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
//! Nothing is dropped in silence. An unknown field is an error of the deserializer, which names the
//! field. A value that a policy cannot keep is a [`MeshError`], which names the field, its value
//! and what to write.
//!
//! # What a configuration leaves out
//!
//! The policy's own value counts, by default that of [`RetryPolicy::new`](super::RetryPolicy::new).
//! The Gateway API leaves these values to each implementation, the methods among them, so a gateway
//! may retry more or less. The types say what differs from their mesh.

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
