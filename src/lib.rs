//! Tower layers for HTTP *clients*: cookies, retries and routing by URL prefix.
//!
//! They give any Tower HTTP client what `requests.Session`, `HTTPAdapter` and `urllib3.Retry` give
//! a Python script. This crate has no client. Its layers wrap yours, each alone or all three
//! together.
#![cfg_attr(
    all(feature = "follow-redirect", feature = "retry", feature = "routing"),
    doc = "```no_run"
)]
#![cfg_attr(
    not(all(feature = "follow-redirect", feature = "retry", feature = "routing")),
    doc = "```ignore"
)]
//! use std::time::Duration;
//!
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use hyper::body::Incoming;
//! use hyper_util::{client::legacy::Client, rt::TokioExecutor};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_outbound::{CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer, retry::RetryPolicy};
//!
//! type Session = BoxCloneSyncService<Request<Full<Bytes>>, Response<Incoming>, BoxError>;
//!
//! fn session() -> Result<Session, BoxError> {
//!     let policy = RetryPolicy::new().total(3).deadline(Duration::from_secs(10));
//!     let retries = RetryLayer::new(policy);
//!     let stack = ServiceBuilder::new()
//!         .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
//!         .layer(RoutingLayer::builder().mount("http://localhost", retries).build()?)
//!         .layer(CookieLayer::default())
//!         .service(Client::builder(TokioExecutor::new()).build_http());
//!     Ok(Session::new(stack))
//! }
//!
//! #[tokio::main]
//! async fn main() -> Result<(), BoxError> {
//!     let session = session()?; // clones share the jar, the connections and the budget
//!     for path in ["login", "protected"] {
//!         let url = format!("http://localhost:8000/{path}");
//!         let request = Request::get(url).body(Full::default())?;
//!         let response = session.clone().oneshot(request).await?;
//!         println!("{}", response.status());
//!         let body = response.into_body().collect().await?.to_bytes();
//!         println!("{}", String::from_utf8_lossy(&body));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! The README has the same session with TLS, a form and a default header. The [`guide`] has pages
//! for users of [requests and urllib3](guide::from_requests), [httpx](guide::from_httpx),
//! [reqwest](guide::from_reqwest) and [tower's `Retry`](guide::from_tower_retry). Other pages are
//! about [other clients](guide::clients), [credentials](guide::credentials), [metrics and
//! logs](guide::observability), [testing](guide::testing), [proxies](guide::proxies_and_meshes),
//! [replicas](guide::replicas), [security](guide::security) and
//! [compatibility](guide::compatibility).
//!
//! # The stack
//! ```text
//!     your code
//!         |   Request<B>
//!   TimeoutLayer            total time            tower
//!   FollowRedirectLayer     hops                  tower-http, with our RedirectPolicy
//!   RoutingLayer            which mount           tower-outbound
//!     |-- "https://api.example.com"  RetryLayer   tower-outbound, one policy per mount
//!     |-- "https://legacy.example"   a complete client (other TLS settings, a proxy, a mock)
//!     `-- everything else            no retries
//!   CookieLayer             one jar               tower-outbound
//!   hyper client            pool, TLS             hyper-util
//! ```
//!
//! Use tower's `TimeoutLayer`. The one of tower-http does not compile in this stack: it creates a
//! response of its own, and hyper's body has no `Default`.
//!
//! The order matters. Most items below compare two orders, and the first is the one drawn above.
//! The second works, but usually loses something. Neither sends a cookie to a wrong host if the
//! redirect policy removes `Cookie` when a redirect leaves the origin. [`RedirectPolicy`] and
//! tower-http's default policy do so. A hop is one request of a chain of redirects.
//!
//! - Redirects outside cookies: each hop stores and sends its own cookies. Redirects inside
//!   cookies: the cookies of a 302 are lost, and a hop to another origin sends none.
//! - Redirects outside mounts: the mount of each hop's host serves the hop. Redirects inside
//!   mounts: the mount of the first host serves all hops.
//! - Redirects outside retries: a hop that fails is repeated alone. Redirects inside retries: the
//!   whole chain is repeated.
//! - Retries outside cookies: an attempt sends the cookies that the attempt before it received.
//!   Retries inside cookies: every attempt sends the cookies of the first, and the cookies of a
//!   failed attempt are lost.
//! - Routing outside retries: each prefix has its own policy. Routing inside retries: all prefixes
//!   share one policy, and a request that routing refuses ([`NoMount`](routing::NoMount),
//!   [`UriError`](routing::UriError)) is repeated for nothing.
//! - Routing outside cookies: an attempt sends the cookies of the attempt before it. Routing inside
//!   cookies: one jar also serves mounted clients, but the retries of a mount are inside cookies.
//! - Decompression outside retries: a failed response is drained (read to its end, so that its
//!   connection can be used again) as it was sent. Decompression inside retries: it is decompressed
//!   only to be drained.
//! - A mounted layer wraps the service below it, so one jar serves every mount. A mounted service
//!   is a complete client. Give it the same jar with `CookieLayer::new(jar.clone())`.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `cookie` | yes | [`cookie`]: [`CookieLayer`], its jar and cookies.txt |
//! | `retry` | yes | [`retry`]: [`RetryLayer`] with attempts, backoff, `Retry-After`, budget and deadline |
//! | `routing` | yes | [`routing`]: [`RoutingLayer`], a layer or client per URL prefix |
//! | `follow-redirect` | yes | [`RedirectPolicy`]; in [`cookie`]: if `FollowRedirect` is inside `CookieLayer`, cookies are filed under the host that answered |
//! | `json` | no | [`cookie`]: the jar's own file format, which keeps everything, and the formats that browsers export |
//! | `cookie_store` | no | [`cookie`]: a store of the `cookie_store` crate as the layer's storage, conversions, and its files; enables `json` |
//! | `idna` | no | [`routing`]: mounts whose host is not ASCII; without the feature `build` returns a [`PrefixError`](routing::PrefixError) |
//! | `http2` | no | [`retry`] reads h2's errors: a request that the server never processed is retried, whatever its method |
//! | `reqwest` | no | a [`cookie::CookieJar`] as the cookie store of a `reqwest::Client` |
//! | `tracing` | no | debug events without secrets: attempts, retry decisions, rejected cookies, requests without a mount for a host that has one |
//! | `serde` | no | configuration values: [`retry::RetryPolicy`], [`retry::Backoff`], [`cookie::CookieLimits`], [`routing::MountPrefix`]; mesh configurations: `retry::mesh` |
//! | `session` | no | [`session`]: many processes share the cookies of each tenant, loaded from a store and written to it |
//! | `seal` | no | [`session`]: encryption of the cookies in a store, except names, domains and paths; enables `session` |
//! | `redis` | no | [`session`]: sessions on Redis or Valkey; enables `session` |
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]
// Intra-doc links point to modules that may be disabled, and to the guide, which needs all
// features.
#![cfg_attr(
    not(all(
        feature = "cookie_store",
        feature = "follow-redirect",
        feature = "http2",
        feature = "reqwest",
        feature = "retry",
        feature = "routing",
        feature = "serde",
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
// Documentation only. Its snippets need these features.
#[cfg(all(
    doc,
    feature = "cookie_store",
    feature = "follow-redirect",
    feature = "http2",
    feature = "reqwest",
    feature = "retry",
    feature = "routing",
    feature = "serde",
    feature = "seal",
    feature = "session"
))]
pub mod guide;
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
