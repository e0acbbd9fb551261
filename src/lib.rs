//! Tower layers for HTTP *clients*: cookies, retries and mounts.
//!
//! What `requests.Session`, `HTTPAdapter` and `urllib3.Retry` give a Python script, these give any
//! Tower HTTP client. There is no client here: the three layers stand around the one you have, each
//! by itself or together.
//!
//! ```text
//!     your code
//!         |   Request<B>
//!   TimeoutLayer            total time            tower, tower-http
//!   FollowRedirectLayer     hops                  tower-http
//!   RoutingLayer            which adapter         tower-outbound
//!     |-- "https://api.example.com"  RetryLayer   tower-outbound, one policy per mount
//!     |-- "https://legacy.example"   a complete client (other TLS settings, a proxy, a mock)
//!     `-- everything else            straight on
//!   CookieLayer             one jar               tower-outbound
//!   hyper client            pool, TLS             hyper-util
//! ```
//!
//! - Redirects stand outside cookies: each hop stores and sends its own. The other way round a
//!   302's cookies are lost, and a hop to another host sends none.
//! - Redirects stand outside mounts: each hop goes by its own host's. The other way round all of
//!   them go by the first's.
//! - Redirects stand outside retries: a hop that fails is repeated alone. The other way round the
//!   whole chain is.
//! - Retries stand outside cookies: an attempt sends what the one before it received. The other way
//!   round it sends what the first one did, and what a failed one received is lost.
//! - Mounts may change places with retries, or with cookies, where all of them share what is below.
//! - Decompression stands outside retries: a failed response is drained as it came. The other way
//!   round it is inflated for that.
//! - A mounted layer wraps the service below, so one jar serves every mount. A mounted service is
//!   complete in itself; give it the same jar with `CookieLayer::new(jar.clone())`.
//!
//! | feature | default | what |
//! |---|---|---|
//! | `cookie` | yes | [`cookie`]: a browser's jar, its layer, its file |
//! | `json` | with `cookie_store` | a jar's own file, which keeps everything |
//! | `cookie_store` | yes | the `cookie_store` crate's store as the layer's storage, conversions, and its files |
//! | `follow-redirect` | yes | [`cookie`]: whose a response's cookies are where tower-http's redirects stand inside |
//! | `reqwest` | | a [`cookie::CookieJar`] as cookie store of a `reqwest::Client` |
//! | `retry` | yes | [`retry`]: attempts, backoff, Retry-After, budget, deadline |
//! | `routing` | yes | [`routing`]: a layer or client per URL prefix |
//! | `tracing` | | debug events: one per attempt, retry decision and rejected cookie; no secrets |
//! | `serde` | | configuration values: [`retry::RetryPolicy`], [`retry::Backoff`], [`cookie::CookieLimits`], [`routing::MountPrefix`] |
//! | `http2` | | `retry` names h2's errors: what a server never processed is retried whatever its method |
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
#![cfg_attr(
    not(all(feature = "cookie", feature = "retry", feature = "routing")),
    allow(rustdoc::broken_intra_doc_links)
)]

#[cfg(feature = "cookie")]
pub mod cookie;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "routing")]
pub mod routing;

#[cfg(feature = "cookie")]
#[doc(inline)]
pub use cookie::CookieLayer;
#[cfg(feature = "retry")]
#[doc(inline)]
pub use retry::RetryLayer;
#[cfg(feature = "routing")]
#[doc(inline)]
pub use routing::RoutingLayer;

/// The README's snippets, as doctests.
#[cfg(all(doctest, feature = "cookie", feature = "retry", feature = "routing"))]
#[doc = include_str!("../README.md")]
struct Readme;
