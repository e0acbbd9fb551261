//! Gives each URL prefix its own layer or client, like requests' `session.mount`.
//!
//! ```text
//!                                             "https://api.example.com"
//!                                        .-->  mounted layer  ------------.
//!   Request<B>  -->  RoutingService  ----+                                +-->  service below
//!                    (by scheme, host,   |--  no mount: the fallback  ----'
//!                     port and path)     |
//!                                        |    "https://legacy.example"
//!                                        '-->  mounted service, complete in itself
//!
//!   Response<RB>  <--  the response of the selected service
//!                      + Mount("https://api.example.com"), if a mount served the request
//!
//!   or BoxError   <--  the error of the selected service
//!                      UriError, if the request's URI cannot be routed
//!                      NoMount, if nothing is mounted for it and the layer is strict
//! ```
//!
//! [`RoutingLayer::builder`] takes prefixes:
//!
//! | prefix | matches |
//! |---|---|
//! | `https://api.example.com` | that scheme and host, on every port |
//! | `https://api.example.com/v1` | `/v1` and the paths below it, but not `/v10` |
//! | `https://api.example.com:443` | that port alone, written in the request or implied by its scheme |
//! | `https://api.example.com:*` | every port, as without a port |
//! | `https://*.example.com` | every subdomain, but not `example.com` itself |
//! | `any://example.com` | every scheme and port |
//! | `https://`, `any://` | every host and port |
//!
//! As in requests, `http://localhost` matches `http://localhost:8000/`:
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
//! **Scheme and host** are compared without case. A trailing dot of a host, a trailing slash of a
//! path and the userinfo of a request make no difference. IPv6 addresses are compared by value; an
//! address with a zone (`http://[fe80::1%25eth0]`) is a host of its own. For a network such as
//! `any://10.0.0.0/8`, [`build`](RoutingLayerBuilder::build) returns a [`PrefixError`]
//! ([`Network`](PrefixFault::Network)), since `/8` would be read as a path. Hosts that are not
//! ASCII are compared by their A-labels (`https://bücher.example` matches `xn--bcher-kva.example`).
//! They need the feature `idna`. Without it `build` returns a `PrefixError`
//! ([`IdnaDisabled`](PrefixFault::IdnaDisabled)).
//!
//! **The path** is compared with case, after dot segments and needless escapes are removed.
//! `/x/../admin` and `/%61dmin` count as `/admin`. `//admin` does not, and `/a%2Fb` does not count
//! as `/a/b`. The request is sent with its own path. If you mount a path to keep others away from
//! it, look at [`reject_dot_segments`](RoutingLayerBuilder::reject_dot_segments) and
//! [`reject_encoded_slashes`](RoutingLayerBuilder::reject_encoded_slashes): servers do not all read
//! paths alike.
//!
//! **If several prefixes match**, the first difference in this list decides:
//!
//! 1. An exact host wins over a wildcard, a longer wildcard over a shorter one, and any of them
//!    over a prefix for every host.
//! 2. The longer path wins.
//! 3. A prefix with a port wins over one without.
//! 4. A named scheme wins over `any`.
//!
//! If the same prefix is mounted twice, the last mount is kept.
//!
//! A [`MountPrefix`] is a prefix as a value, for a configuration. A [`RoutingHandle`] changes the
//! mounts while requests are served.
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
//! | `all://*example.com`, these and the domain itself | both `any://*.example.com` and `any://example.com` |
//! | `"all://example.com": None`, no proxy there | [`mount`](RoutingLayerBuilder::mount) with `tower::layer::util::Identity` |
//!
//! For `all://`, `build` returns a [`PrefixError`] ([`All`](PrefixFault::All)): it would be read as
//! a scheme with that name, and never match. httpx prefers a port to a longer host; here the host
//! is preferred. httpx has no paths; here a path is preferred to a port: `http://h:8080/v1` is
//! served by `http://h/v1`, not by `http://h:8080`.
//!
//! # Readiness
//!
//! [`RoutingService`] is always ready. Its call waits until the selected service is ready.
//!
//! # Requests that are errors
//!
//! A relative URI without a [`default_origin`](RoutingLayerBuilder::default_origin), a port past
//! 65535 and a numeric host such as `127.1` are errors ([`UriError`]): a guess could send the
//! request to a wrong host.
//!
//! CONNECT in authority form (`h:443`) has no scheme, so prefixes with `any` match it. With any
//! other method that form counts as relative.
//!
//! # Requests without a mount
//!
//! A request that no prefix matches is sent to the service below, the fallback. With
//! [`strict`](RoutingLayerBuilder::strict) it is a [`NoMount`] error. If the request's host has
//! mounts, the error names the [nearest](NoMount::nearest) one: the request differs in scheme, port
//! or path, most often by mistake. With the feature `tracing` a debug event names it too, strict or
//! not.
//!
//! An error of a mount's service, whether a layer or a service was mounted, is returned as it is.
//! With [`mount_errors`](RoutingLayerBuilder::mount_errors) it is inside a [`MountError`], which
//! names the mount.
//!
//! # Cost
//!
//! A look-up takes as long among 100,000 mounts as among ten. It allocates only if the spelling of
//! a path or host has to be changed. Each request costs one box, for the future of the mount's
//! service or of the fallback. A mount costs a second box if its service is not ready at once. Its
//! [`Mount`] extension costs up to three more allocations, depending on how `http` stores it.
//! `cargo bench --bench routing` prints figures.

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
