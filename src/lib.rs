//! Tower layers for HTTP *clients*: cookies, retries and mounts.
//!
//! What `requests.Session`, `HTTPAdapter` and `urllib3.Retry` give a Python script, these layers
//! give any Tower HTTP client. This crate has no client: the layers wrap the one you have, each
//! alone or all three together.
//!
//! ```text
//!     your code
//!         |   Request<B>
//!   TimeoutLayer            total time            tower, tower-http
//!   FollowRedirectLayer     hops                  tower-http, with our RedirectPolicy
//!   RoutingLayer            which adapter         tower-outbound
//!     |-- "https://api.example.com"  RetryLayer   tower-outbound, one policy per mount
//!     |-- "https://legacy.example"   a complete client (other TLS settings, a proxy, a mock)
//!     `-- everything else            straight on
//!   CookieLayer             one jar               tower-outbound
//!   hyper client            pool, TLS             hyper-util
//! ```
//!
//! The order matters. In each line the first order is the one drawn above. The second one loses
//! something, but leaks nothing, if the redirects remove `Cookie` from a hop to another host as
//! [`RedirectPolicy`] and tower-http's default policy do:
//!
//! - Redirects outside cookies: each hop stores and sends its own cookies. Redirects inside
//!   cookies: the cookies of a 302 are lost, and a hop to another host sends none.
//! - Redirects outside mounts: the mount of each hop's host serves the hop. Redirects inside
//!   mounts: the mount of the first host serves all hops.
//! - Redirects outside retries: a hop that fails is repeated alone. Redirects inside retries: the
//!   whole chain is repeated.
//! - Retries outside cookies: an attempt sends the cookies that the attempt before it received.
//!   Retries inside cookies: every attempt sends the cookies of the first, and the cookies of a
//!   failed attempt are lost.
//! - Mounts and retries, or mounts and cookies, may change places if all mounts share what is
//!   below.
//! - Decompression outside retries: a failed response is drained as it came. Decompression inside
//!   retries: it is inflated only to be drained.
//! - A mounted layer wraps the service below, so one jar serves every mount. A mounted service is
//!   complete in itself: give it the same jar with `CookieLayer::new(jar.clone())`.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `cookie` | yes | [`cookie`]: a browser's jar, its layer, its file |
//! | `retry` | yes | [`retry`]: attempts, backoff, Retry-After, budget, deadline |
//! | `routing` | yes | [`routing`]: a layer or client per URL prefix |
//! | `follow-redirect` | yes | [`RedirectPolicy`]; and, in [`cookie`]: if `FollowRedirect` is inside `CookieLayer`, cookies are filed under the host that answered |
//! | `session` | | [`session`]: one jar of a tenant for many processes, loaded from a store and written to it |
//! | `seal` | | [`session`]: an AEAD that seals what a store gets |
//! | `redis` | | [`session`]: sessions on Redis or Valkey |
//! | `json` | | [`cookie`]: a jar's own file format, which keeps everything |
//! | `cookie_store` | | [`cookie`]: the `cookie_store` crate's store as the layer's storage, conversions, and its files; brings `json` |
//! | `idna` | | [`routing`]: mounts whose host is beyond ASCII; without it such a mount is a build error |
//! | `http2` | | [`retry`] reads h2's errors: a request that the server never processed is retried whatever its method |
//! | `reqwest` | | a [`cookie::CookieJar`] as the cookie store of a `reqwest::Client` |
//! | `tracing` | | debug events: one per attempt, retry decision, rejected cookie, and request that no mount serves though its host has one; no secrets |
//! | `serde` | | configuration values: [`retry::RetryPolicy`], [`retry::Backoff`], [`cookie::CookieLimits`], [`routing::MountPrefix`]; configurations of meshes: `retry::mesh` |
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg_attr(
    not(all(
        feature = "follow-redirect",
        feature = "retry",
        feature = "routing",
        feature = "session",
        feature = "seal"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(any(feature = "cookie", feature = "routing", all(feature = "retry", feature = "tracing")))]
#[cfg_attr(
    not(feature = "routing"),
    allow(dead_code, reason = "routing uses all of it, each of the others a part")
)]
mod authority;
#[cfg(feature = "cookie")]
pub mod cookie;
#[cfg(feature = "cookie")]
mod disk;
#[cfg(feature = "follow-redirect")]
mod redirect;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "routing")]
pub mod routing;
#[cfg(feature = "session")]
pub mod session;

#[cfg(feature = "cookie")]
#[doc(inline)]
pub use cookie::CookieLayer;
#[cfg(feature = "follow-redirect")]
pub use redirect::{LocationFuture, LocationService, RedirectPolicy};
#[cfg(feature = "retry")]
#[doc(inline)]
pub use retry::RetryLayer;
#[cfg(feature = "routing")]
#[doc(inline)]
pub use routing::RoutingLayer;

/// The README's snippets, as doctests.
#[cfg(all(doctest, feature = "follow-redirect", feature = "retry", feature = "routing"))]
#[doc = include_str!("../README.md")]
struct Readme;
