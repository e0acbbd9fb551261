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
//! The service's error is a box. If rustc says "implementation of `From` is not general enough" of
//! a task that uses it, see [`RetryService`](RetryService#inside-a-spawned-task).
//!
//! # One request only
//!
//! A [`RetryPolicy`] as a request extension replaces the layer's, if that is a `RetryPolicy` too.
//! If layers are nested, each of them takes it, and each deposits into its budget.
//!
//! Make it from a clone of the layer's policy, so that it draws on the same budget. A new policy
//! has a new budget, and each such request would have the whole floor of one.
//!
//! If tower-http's `FollowRedirect` is outside the retries, a hop to another origin loses the
//! extensions of the request, and so uses the layer's own policy. [`RedirectPolicy`] keeps the
//! override:
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
//! # Never sent
//!
//! A POST is retried if the server cannot have processed it: the port was closed, or HTTP/2 refused
//! the stream. That must be true of the whole call. If a service below follows redirects or retries,
//! its error is that of the last exchange, and the server may have processed the POST in the first
//! one. The layer can tell the two apart, by an extension that it puts into requests that must not
//! be processed twice. If an earlier exchange cannot be ruled out, the request is not repeated, and
//! the caller gets the client's own error.
//!
//! | below the retries | a POST that was never sent |
//! |---|---|
//! | hyper-util's client, tonic's `Channel`, with `Buffer`, time-outs, limits, cookies and mounts around them | is retried |
//! | tower-http's `FollowRedirect` around them | is retried if the first hop failed |
//! | another `RetryLayer` | is retried by that layer, and not once more by this one |
//! | a client that drops the extensions of a request, as reqwest does | is retried with [`OneExchangeLayer`] directly above the client |
//!
//! The same holds for a response that says that the request was not processed: a listed 421 or 425,
//! or what [`classify`](RetryPolicy::classify) calls [`Unsent`](Failure::Unsent).
//!
//! Three cases still look like one exchange, and the POST is repeated:
//!
//! - A redirector drops the extensions of its hops, as tower-http's does with
//!   `preserve_extensions(false)`, and HTTP/2 refuses a later hop. With another redirector that waits
//!   for nothing between two hops, any later hop that fails at once.
//! - A client drops extensions and follows redirects, a `Buffer` is above it, and HTTP/2 refuses a
//!   later hop.
//! - A client makes its exchanges in a task or thread of its own (`tokio::spawn`, `spawn_blocking`),
//!   drops extensions or the head there, and follows redirects or retries. From outside it looks
//!   like a worker that has failed to connect.
//!
//! Follow redirects outside the retries, or put [`OneExchangeLayer`] between the redirector and the
//! client.
//!
//! # What servers and callers know better
//!
//! | to | use |
//! |---|---|
//! | read a wait that is not in `Retry-After` | [`retry_after`](RetryPolicy::retry_after), with the readers of the module [`retry_after`] |
//! | repeat a POST that has no second effect | an `Idempotency-Key` header, or [`idempotent`](RetryPolicy::idempotent) |
//! | repeat a POST that the server says it did not process | [`classify`](RetryPolicy::classify) |
//! | refresh a token after a 401, or count retries | [`before_retry`](RetryPolicy::before_retry) |
//! | know the number of an attempt inside the retries | the request extension [`AttemptNumber`] |
//! | know how long the server asked to wait | [`AttemptRecord::asked`] |
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
mod one_exchange;
mod pause;
mod policy;
mod readiness;
pub mod replay;
pub mod retry_after;
mod round;
mod service;
mod source;
mod tower;
mod witness;

pub use self::{
    backoff::{Backoff, Jitter},
    budget::Budget,
    classify::Failure,
    decision::{Attempt, AttemptNumber, Decision, Outcome, ServerDelay, StopReason},
    drain::Drain,
    future::ResponseFuture,
    history::{AttemptRecord, RetryError, RetryHistory},
    layer::RetryLayer,
    one_exchange::{OneExchangeFuture, OneExchangeLayer, OneExchangeService},
    policy::{Limit, OverMax, Policy, RetryPolicy, Terms},
    replay::{body::ReplayBody, layer::ReplayBodyLayer, replayable::ReplayableBody},
    service::RetryService,
    tower::{BoxedErrors, RetryDelay},
};
