//! Retries: attempts, backoff, budgets and deadlines, as urllib3's `Retry` with a mesh's care.
//!
//! [`RetryLayer`] sends a request again when its [`Policy`] says so. [`RetryPolicy`] is the one to
//! start from; its docs have a table of urllib3's names. [`Failure`] says what the classes of
//! errors mean: a request that surely never reached the server is retried whatever its method, any
//! other only if its method may be repeated.
//!
//! ```
//! use std::time::Duration;
//! use http::StatusCode;
//! use tower_outbound::retry::{Backoff, RetryLayer, RetryPolicy};
//!
//! let layer = RetryLayer::new(
//!     RetryPolicy::new()
//!         .total(3)
//!         .status_forcelist([StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE])
//!         .backoff(Backoff::urllib3(Duration::from_millis(100)))
//!         .deadline(Duration::from_secs(30)),
//! );
//! # let _ = layer;
//! ```
//!
//! # What the caller gets
//!
//! - The last response. If an attempt failed, [`RetryHistory`] is among its extensions.
//! - The error of the inner client, if the policy would not retry it. It is boxed and otherwise
//!   unchanged; `downcast_ref` finds it.
//! - A [`RetryError`], if a limit, the budget or the deadline was used up by an error, or by a
//!   response with [`raise_on_status`](RetryPolicy::raise_on_status).
//!
//! # One request only
//!
//! A [`RetryPolicy`] as a request extension replaces the layer's, if that is a `RetryPolicy` too. If
//! layers are nested, each of them takes it.
//!
//! If tower-http's `FollowRedirect` is outside the retries, a hop to another origin loses the
//! extensions of the request, and so uses the layer's own policy. [`RedirectPolicy`] keeps the
//! override:
//!
#![cfg_attr(feature = "follow-redirect", doc = "```")]
#![cfg_attr(not(feature = "follow-redirect"), doc = "```ignore")]
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_outbound::RedirectPolicy;
//!
//! let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
//! # let _ = redirects;
//! ```
//!
//! [`RedirectPolicy`]: crate::RedirectPolicy
//!
//! A policy for every request, or for one origin, is better set inside the redirects: by a layer that
//! sets the extension there (tower-http's `AddExtensionLayer`), or by the `RetryLayer` of a mount.
//!
//! # Request bodies
//!
//! | body | how it is sent again |
//! |---|---|
//! | `Empty`, `Full<Bytes>`, `Either` of them | a reference count |
//! | a stream | [`ReplayBodyLayer`] outside keeps what was sent, up to a cap; a stream that was not polled yet is sent again at any size |
//! | your own type | [`ReplayableBody`] |
//! | a foreign type | [`RetryLayer::replay_with`] |
//!
//! # Connections
//!
//! A failed HTTP/1 response is [drained](Drain) beside the backoff and beside the next attempt, so
//! that its connection can be used again. Nothing waits for the drain. No task is spawned: dropping
//! the response's future ends everything.
//!
//! A tokio runtime with time is needed if a delay, a time limit or
//! [`raise_on_status`](RetryPolicy::raise_on_status) is set, and otherwise not.
//!
//! # Configuration
//!
//! With the feature `serde` a [`RetryPolicy`] is read from a table; see its docs. The module `mesh`
//! reads the configurations of service meshes: the Gateway API's and linkerd's.
//!
//! # Tower's own runner
//!
//! [`RetryPolicy`] implements [`tower::retry::Policy`](::tower::retry::Policy) too; see its docs for
//! what only [`RetryLayer`] does.

mod backoff;
mod budget;
mod classify;
mod decision;
mod drain;
#[cfg(feature = "serde")]
mod duration;
mod future;
mod history;
mod kept;
mod layer;
mod limit;
mod log;
#[cfg(feature = "serde")]
pub mod mesh;
mod pause;
mod policy;
pub mod replay;
mod retry_after;
mod round;
mod service;
mod tower;

pub use self::{
    backoff::{Backoff, Jitter},
    budget::Budget,
    classify::Failure,
    decision::{Attempt, Decision, Outcome, StopReason},
    drain::Drain,
    future::ResponseFuture,
    history::{AttemptRecord, RetryError, RetryHistory},
    layer::RetryLayer,
    policy::{Limit, OverMax, Policy, RetryPolicy, Terms},
    replay::{body::ReplayBody, layer::ReplayBodyLayer, replayable::ReplayableBody},
    service::RetryService,
    tower::{BoxedErrors, RetryDelay},
};
