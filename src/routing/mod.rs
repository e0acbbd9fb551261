//! Mounts: which service a request goes through, by its URL's prefix.
//!
//! [`RoutingLayer`] is to a Tower client what `Session.mount` is to Python's requests: a mounted *layer* wraps the shared
//! inner service for the requests below its prefix, a mounted *service* replaces it, and everything else goes straight
//! on. Components are compared, never strings: `http://localhost` is neither `http://localhost.evil.com` nor
//! `http://localhost@evil.com`, and `/v1` is not `/v10`.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, ServiceExt, service_fn, util::MapRequestLayer};
//! use tower_outbound::routing::{Mount, RoutingLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), tower::BoxError> {
//! // A server that says which key it got.
//! let server = service_fn(|request: Request<()>| async move {
//!     let key = request.headers().get("x-api-key").map(|key| key.to_str().unwrap().to_owned());
//!     Ok::<_, std::io::Error>(Response::new(key))
//! });
//! let with_key = MapRequestLayer::new(|mut request: Request<()>| {
//!     request.headers_mut().insert("x-api-key", http::HeaderValue::from_static("k1"));
//!     request
//! });
//! let client = RoutingLayer::builder().mount("https://api.example.com", with_key).build()?.layer(server);
//!
//! let response = client.clone().oneshot(Request::get("https://api.example.com/users").body(())?).await?;
//! assert_eq!(response.body().as_deref(), Some("k1"));
//! assert_eq!(response.extensions().get(), Some(&Mount("https://api.example.com".into())));
//!
//! let response = client.oneshot(Request::get("https://api.example.com.evil.example/").body(())?).await?;
//! assert_eq!(response.body(), &None);
//! # Ok(())
//! # }
//! ```
//!
//! # Prefixes
//!
//! A prefix is `scheme://host[:port][/path]`, or a scheme alone.
//!
//! | prefix | requests |
//! |---|---|
//! | `https://example.com` | this scheme and host, on the scheme's default port, whatever the path |
//! | `https://example.com:8443` | the same on this port |
//! | `https://example.com:*` | the same on any port |
//! | `any://example.com` | any scheme, on the default port of the request's scheme |
//! | `https://*.example.com` | the subdomains, however deep, but not `example.com` itself |
//! | `https://example.com/v1` | `/v1` and what is below it: `/v1/x` and `/v1?q`, but not `/v10` |
//! | `https://` | this scheme, any host and any port |
//! | `any://` | everything |
//!
//! - **Scheme and host** fold case. One trailing dot of a host is ignored, IPv6 addresses are compared as addresses, and a
//!   host beyond ASCII is written as its A-label (`xn--...`).
//! - **Paths** keep their case, match on segment boundaries, and a trailing slash means nothing.
//! - A query, a fragment, userinfo, a bare word or an empty host is an error when the layer is
//!   [built](RoutingLayerBuilder::build), and so are wildcards elsewhere, a character that must be escaped and a port that
//!   is none.
//!
//! # Priority
//!
//! Of the mounts that match a request, one serves it, whatever the order they were mounted in:
//!
//! 1. an exact host before the longest wildcard before any host;
//! 2. then the longest path;
//! 3. then a port before `:*`, and a port that is written out before the default that `any://host` stands for, unless
//!    the scheme decides first: for `https://h/`, `https://h` comes before `any://h:443` before `any://h`;
//! 4. then the scheme before `any`.
//!
//! The same prefix again replaces the mount.
//!
//! # What is compared
//!
//! The request's URI, never its `Host` header. It is routed by its normal form and sent as it is.
//!
//! - Userinfo and query are ignored: `https://example.com%5C@example.net/` goes to `example.net`.
//! - Dot segments are resolved and escapes of unreserved characters decoded (RFC 3986 section 6.2.2): `/pub/../admin`,
//!   `/pub/%2e%2E/admin` and `/%61dmin` are below `/admin`.
//! - `%2F` is never decoded, since to a server `/a%2Fb` need not be `/a/b`. For the same reason empty segments are kept:
//!   `//admin` is not below `/admin`, and `/a//b` is below `/a` only. Where a server merges slashes and the mount is there
//!   to keep something in or out, mount the whole host.
//! - Before the lookup, a URI that says not clearly where it goes is refused with a [`UriError`], by whatever service it
//!   would have been sent: one without a scheme and a host (but see
//!   [`default_origin`](RoutingLayerBuilder::default_origin)); one with a port that is none, such as `http://a:99999/`;
//!   one with a numeric host that is not four decimal octets, such as `http://127.1/`, which resolvers read as an
//!   address.
//!
//! # Readiness
//!
//! A [`RoutingService`] is always ready, since which service has to be is known only with the request. Within the
//! response's future, a clone of the selected service is awaited and called, each call after its own readiness. Two
//! things follow:
//!
//! - Limits and load shedding belong inside a mount, or around the wrapped service. A limit's waiting is then a part of
//!   the call. `LoadShed` outside of the routing layer never sheds anything.
//! - One mount that is busy keeps no other waiting, as it would with Tower's `Steer`.
//!
//! Layers are applied once for each [`layer`](tower_layer::Layer::layer) call, and clones of a service share what came
//! out: a limit of 4 is one of 4 for all of them. A layer whose service keeps its state to itself when cloned has to
//! share it by `tower::buffer`.
//!
//! # Secrets
//!
//! Errors and `Debug` name prefixes and URIs without userinfo and query.

mod error;
mod future;
mod layer;
mod mount;
mod normal;
mod prefix;
mod service;
mod table;

pub use error::{NoMount, PrefixError, UriError};
pub use future::ResponseFuture;
pub use layer::{RoutingLayer, RoutingLayerBuilder};
pub use mount::Mount;
pub use service::RoutingService;
