//! Retries for an HTTP client, like urllib3's `Retry`: attempts, backoff, budget, deadline.
//!
//! ```text
//!   caller               RetryLayer                              inner service
//!
//!   Request<B>    --->   keeps the head, and a body to replay
//!                        attempt 1  ------------------------->   503
//!                        policy: retry after 80 ms
//!                        attempt 2  ------------------------->   connection reset
//!                        policy: retry after 150 ms
//!                        attempt 3  ------------------------->   200
//!   Response<RB>  <---   + RetryHistory (503, read error, 200)
//!
//!   or BoxError   <---   the client's own error, if the policy does not retry it
//!                        RetryError, in the cases of "What the caller gets" below
//! ```
//!
//! [`RetryLayer`] asks its [`Policy`] after each attempt whether to send another one. Start with
//! [`RetryPolicy`]; its docs have a table of urllib3's names. [`Failure`] lists the classes of
//! failures. If the server cannot have processed a request, it is retried whatever its method. Any
//! other request is retried only if it may be repeated: by default a GET may, and a POST may not.
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
//! ```
//!
//! # What the caller gets
//!
//! - The last response. If an attempt failed, its extensions have a [`RetryHistory`].
//! - The error of the inner service, boxed and otherwise unchanged, if the policy does not retry
//!   it, or if the service failed before it was ready. `downcast_ref` finds the client's own type.
//! - A [`RetryError`] in these cases:
//!   - The last attempt ended with an error, and a limit, the budget or the deadline is used up.
//!   - The deadline ended a wait for the inner service.
//!   - [`raise_on_status`](RetryPolicy::raise_on_status) is set, the last attempt ended with a
//!     failed response, and a limit, the budget or the deadline is used up, or the server asks to
//!     wait too long or not to retry.
//!
//! The service's error type is `tower::BoxError`. If rustc reports "implementation of `From` is not
//! general enough" for a task that uses the service, see
//! [`RetryService`](RetryService#inside-a-spawned-task).
//!
//! # One request only
//!
//! A [`RetryPolicy`] in the extensions of a request replaces the layer's policy for that request.
//! The layer's policy must be a `RetryPolicy` too. If retry layers are nested, each of them uses
//! the policy of the request. Each layer deposits into that policy's budget whenever it is called:
//! the outer layer once, and the inner layer once for each attempt of the outer layer.
//!
//! Make the policy from a clone of the layer's, so that both draw on the same budget. A new policy
//! has a new budget, with all the retries that its [floor](Budget::min_retries) allows. If each
//! request had a new policy, the budgets would limit nothing.
//!
//! ```
//! use http::Request;
//! use tower_outbound::retry::{RetryLayer, RetryPolicy};
//!
//! let policy = RetryPolicy::new();
//! let layer = RetryLayer::new(policy.clone());
//! // This request alone is sent up to six times.
//! let request = Request::get("http://example.com/").extension(policy.total(5)).body(())?;
//! # Ok::<(), http::Error>(())
//! ```
//!
//! A hop is the request that follows a redirect. If tower-http's `FollowRedirect` is outside the
//! retries, a hop to another origin loses the extensions of the request and uses the layer's
//! policy. With [`RedirectPolicy`] the hop keeps the policy of the request:
#![cfg_attr(feature = "follow-redirect", doc = "```")]
#![cfg_attr(not(feature = "follow-redirect"), doc = "```ignore")]
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_outbound::RedirectPolicy;
//!
//! let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
//! ```
//!
//! [`RedirectPolicy`]: crate::RedirectPolicy
//!
//! To set a policy for all requests, or for one origin, do it inside the redirects: with a layer
//! that inserts the extension there (tower-http's `AddExtensionLayer`), or with the `RetryLayer` of
//! a mount.
//!
//! # Never sent
//!
//! A POST is retried if the server cannot have processed it: the port was closed, or HTTP/2 refused
//! the stream (feature `http2`). That must be true of the whole call. If a service below follows
//! redirects or retries, its error is that of the last exchange, and the server may have processed
//! the POST in the first one. To tell the two cases apart, the layer puts an extension into each
//! request that must not be processed twice. If an earlier exchange cannot be ruled out, the
//! request is not repeated, and the caller gets the client's own error.
//!
//! | service below the retries | a POST that was never sent |
//! |---|---|
//! | hyper-util's client, tonic's `Channel`, with `Buffer`, timeouts, limits, cookies and mounts around them | is retried |
//! | tower-http's `FollowRedirect` around them | is retried if the first hop failed |
//! | another `RetryLayer` | is retried by that layer, and not again by this one |
//! | reqwest, which follows redirects by default; and other clients that drop the extensions of a request | is retried with [`OneExchangeLayer`] directly above the client |
//!
//! The same rule holds for a response that says that the request was not processed: a listed 421 or
//! 425, or a response that [`classify`](RetryPolicy::classify) calls [`Unsent`](Failure::Unsent).
//!
//! In four cases several exchanges look like one, and the POST is repeated. None of them is
//! reqwest's, whose errors are known by their text.
//!
//! - A redirector drops the extensions of its hops, as tower-http's does with
//!   `preserve_extensions(false)`, and HTTP/2 refuses a later hop. If the redirector waits for
//!   nothing between two hops, any later hop that fails at once is such a case.
//! - A client drops extensions and follows redirects, a `Buffer` is above it, and HTTP/2 refuses a
//!   later hop.
//! - A client makes its exchanges in a task or thread of its own (`tokio::spawn`,
//!   `spawn_blocking`), drops extensions or the head there, and follows redirects or retries. From
//!   outside it looks like a worker that failed to connect.
//! - A service of your own keeps the head of the request until the response, or only its
//!   extensions, and makes several exchanges without them. From outside it looks like a client that
//!   waits for one connection.
//!
//! To avoid them, follow redirects outside the retries, or put [`OneExchangeLayer`] between the
//! redirector and the client.
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
//! | `Empty`, `Full<Bytes>`, `Either` of them | by a reference count |
//! | a stream | [`ReplayBodyLayer`] outside keeps what was sent, up to a cap; as long as nothing was sent, a stream of any size can be sent again |
//! | your own type | implement [`ReplayableBody`] |
//! | a foreign type | [`RetryLayer::replay_with`] |
//!
//! # Connections
//!
//! A failed HTTP/1 response is [drained](Drain): its body is read, so that its connection can be
//! used again. That happens during the backoff and during the next attempt. No task is spawned: if
//! the response future is dropped, the attempt and the drain end with it.
//!
//! Delays, time limits and [`raise_on_status`](RetryPolicy::raise_on_status) need a tokio runtime
//! with time enabled. The default policy has delays.
//!
//! # Configuration
//!
//! With the feature `serde` a [`RetryPolicy`] is read from a table; its docs list the keys. The
//! module `mesh` reads the configurations of service meshes: the Gateway API's and linkerd's.
//!
//! # Tower's own runner
//!
//! [`RetryPolicy`] implements [`tower::retry::Policy`](::tower::retry::Policy) too. The docs of
//! that implementation list what only [`RetryLayer`] does.

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
