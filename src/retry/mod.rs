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
//! - A response, the last one: with [`RetryHistory`] among its extensions after any failed attempt.
//! - The error of the client below, boxed but as it was, where the policy would not retry it;
//!   `downcast_ref` finds it.
//! - A [`RetryError`] where a limit, the budget or the deadline was used up on an error, or on a
//!   response with [`raise_on_status`](RetryPolicy::raise_on_status).
//!
//! # One request only
//!
//! A [`RetryPolicy`] as a request extension takes the place of the layer's, where that is a
//! `RetryPolicy` too; of nested layers each takes it.
//!
//! Where tower-http's `FollowRedirect` stands outside the retries, a hop to another origin goes
//! without the extensions of the request, and with the layer's own policy therefore. To keep the
//! override, let the redirects keep it:
//!
//! ```
//! use tower_http::follow_redirect::{FollowRedirectLayer, policy::{FilterCredentials, Limited, PolicyExt}};
//! use tower_outbound::retry::RetryPolicy;
//! # use {http_body_util::Empty, tower::BoxError};
//!
//! let filter = FilterCredentials::new().allow_extension::<RetryPolicy>();
//! let redirects = FollowRedirectLayer::with_policy(Limited::default().and::<_, Empty<&[u8]>, BoxError>(filter));
//! # let _ = redirects;
//! ```
//!
//! What is meant for every request, or for all of one origin, is better said inside the redirects:
//! by a layer that sets the extension there (tower-http's `AddExtensionLayer`), or by the
//! `RetryLayer` of a mount.
//!
//! # Request bodies
//!
//! | body | how it is sent again |
//! |---|---|
//! | `Empty`, `Full<Bytes>`, `Either` of them | a reference count |
//! | a stream | [`ReplayBodyLayer`] outside keeps what was sent, up to a cap; what was not polled yet is sent again at any size |
//! | of your own | [`ReplayableBody`] |
//! | foreign | [`RetryLayer::replay_with`] |
//!
//! # Connections
//!
//! A failed HTTP/1 response is [drained](Drain) beside the backoff and beside the next attempt, so
//! that its connection serves again, and nothing waits for it. No task is spawned: all of it
//! happens inside the response's future, and dropping that ends all of it.
//!
//! The attempts need a tokio runtime with time where a delay, a time limit or
//! [`raise_on_status`](RetryPolicy::raise_on_status) is set, and none otherwise.
//!
//! # Configuration
//!
//! With the feature `serde` a [`RetryPolicy`] is read from a table; its docs say how. The module
//! `mesh` reads the configurations of service meshes: the Gateway API's and linkerd's.
//!
//! # Tower's own runner
//!
//! [`RetryPolicy`] is a [`tower::retry::Policy`](::tower::retry::Policy) as well; its docs say what
//! only [`RetryLayer`] does.

mod backoff;
mod budget;
mod classify;
mod drain;
#[cfg(feature = "serde")]
mod duration;
mod future;
mod history;
mod layer;
mod log;
#[cfg(feature = "serde")]
pub mod mesh;
mod policy;
mod replay;
mod retry_after;
mod service;
mod spare;
mod tower;

pub use self::{
    backoff::{Backoff, Jitter},
    budget::Budget,
    classify::Failure,
    future::ResponseFuture,
    history::{AttemptRecord, RetryError, RetryHistory},
    layer::RetryLayer,
    policy::{Attempt, Decision, Drain, Limit, Outcome, OverMax, Policy, RetryPolicy, StopReason},
    replay::{
        Replay, ReplayBody, ReplayBodyLayer, ReplayBodyService, ReplayByTrait, ReplayWith,
        ReplayableBody,
    },
    service::RetryService,
    tower::{BoxedErrors, RetryDelay},
};
