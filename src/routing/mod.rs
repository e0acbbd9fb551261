//! Mounts: another layer, or another client, per URL prefix, as requests' `session.mount`.
//!
//! [`RoutingLayer::builder`] takes prefixes:
//!
//! | prefix | serves |
//! |---|---|
//! | `https://api.example.com` | that scheme and host, on every port |
//! | `https://api.example.com/v1` | `/v1` and what lies below it, not `/v10` |
//! | `https://api.example.com:443` | that port alone, written or implied by the request's scheme |
//! | `https://api.example.com:*` | every port; another spelling of no port |
//! | `https://*.example.com` | every subdomain, not `example.com` itself |
//! | `any://example.com` | every scheme and port |
//! | `https://`, `any://` | every host and port |
//!
//! As in requests, `http://localhost` serves `http://localhost:8000/`:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//! use tower_outbound::{RoutingLayer, routing::Mount};
//! # use tower::layer::util::Identity;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
//! # let retries = Identity::new();
//! // requests: session.mount("http://localhost", HTTPAdapter(max_retries=retries))
//! let session = RoutingLayer::builder().mount("http://localhost", retries).build()?.layer(client);
//! let response = session.oneshot(Request::get("http://localhost:8000/").body(())?).await?;
//! assert_eq!(response.extensions().get(), Some(&Mount("http://localhost".into())));
//! # Ok(())
//! # }
//! ```
//!
//! Scheme and host are compared without case. A trailing dot of a host, a trailing slash of a path
//! and the userinfo of a request make no difference. IPv6 addresses are compared by their value;
//! one with a zone (`http://[fe80::1%25eth0]`) is a host of its own. A network such as
//! `any://10.0.0.0/8` is a [fault](PrefixFault::Network), since `/8` would be read as a path.
//! Hosts beyond ASCII are compared by their A-labels (`https://bücher.example` serves
//! `xn--bcher-kva.example`) and need the feature `idna`; without it they are a
//! [fault](PrefixFault::IdnaDisabled).
//!
//! The path is compared with case, after dot segments and needless escapes are taken out:
//! `/x/../admin` and `/%61dmin` are `/admin`, but `//admin` is not, and `/a%2Fb` is not `/a/b`. The
//! path is sent as it was given. If you mount a path to keep others off it, look at
//! [`reject_dot_segments`](RoutingLayerBuilder::reject_dot_segments) and
//! [`reject_encoded_slashes`](RoutingLayerBuilder::reject_encoded_slashes): servers do not all read
//! paths alike.
//!
//! If several prefixes match, an exact host is preferred to a wildcard, a longer wildcard to a
//! shorter one, and any of them to a prefix for every host; then the longer path; then a port to no
//! port; then a scheme to `any`. If the same prefix is mounted twice, the last mount is kept.
//!
//! [`MountPrefix`] is a prefix as a value, for configuration. [`RoutingHandle`] changes the mounts
//! while they serve.
//!
//! # As in httpx
//!
//! | httpx | here |
//! |---|---|
//! | `all://`, `https://` | `any://`, `https://` |
//! | `all://example.com` | `any://example.com` |
//! | `https://example.com` | `https://example.com` |
//! | `all://localhost:8080`, `http://localhost:8080` | `any://localhost:8080`, `http://localhost:8080` |
//! | `all://*.example.com`, the subdomains | `any://*.example.com` |
//! | `all://*example.com`, these and the domain itself | both of `any://*.example.com` and `any://example.com` |
//! | `"all://example.com": None`, no proxy there | [`mount`](RoutingLayerBuilder::mount) with `tower::layer::util::Identity` |
//!
//! `all://` is a [fault](PrefixFault::All) here, since it would be read as a scheme of that name
//! and never match. httpx prefers a port to a longer host; here the host is preferred. httpx has no
//! paths; here a path is preferred to a port: `http://h:8080/v1` goes to `http://h/v1`, not to
//! `http://h:8080`.
//!
//! # Readiness
//!
//! [`RoutingService`] is always ready. The service that it selects is waited for inside the call;
//! see there.
//!
//! # Requests that are errors
//!
//! CONNECT in authority form (`h:443`) has no scheme: prefixes with `any` serve it. With any other
//! method that form counts as relative.
//!
//! A relative URI without a [`default_origin`](RoutingLayerBuilder::default_origin), a port past
//! 65535 and a numeric host such as `127.1` are errors ([`UriError`]): any guess would send the
//! request to a place that nobody named.
//!
//! # Requests without a mount
//!
//! A request that no mount serves goes to the service below, or with
//! [`strict`](RoutingLayerBuilder::strict) is a [`NoMount`] error. If a mount has its host, the
//! error names the [nearest](NoMount::nearest) one, and with the feature `tracing` so does a debug
//! event, strict or not: the request misses by scheme, port or path, most often by a slip.
//!
//! An error of a mount passes as it is; with [`mount_errors`](RoutingLayerBuilder::mount_errors) it
//! is a [`MountError`], which names the mount.
//!
//! # Cost
//!
//! A look-up takes as long among 100,000 mounts as among ten. It allocates nothing, unless a path
//! or host is spelt so that it has to be rewritten. A mounted service costs one box per request,
//! and its [`Mount`] extension up to three more allocations, depending on how `http` stores it. The
//! fallback costs neither. `cargo bench --bench routing` prints figures.

mod event;
mod fault;
mod future;
mod handle;
mod layer;
mod mount;
mod mount_prefix;
mod mount_service;
mod mounts;
mod path;
mod prefix;
mod routes;
mod service;
mod table;
mod target;

pub use self::{
    fault::{PrefixError, PrefixFault},
    future::ResponseFuture,
    handle::RoutingHandle,
    layer::{RoutingLayer, RoutingLayerBuilder},
    mount::{Mount, MountError, NoMount},
    mount_prefix::MountPrefix,
    mount_service::MountService,
    mounts::MountChanges,
    service::RoutingService,
    target::UriError,
};
