//! Mounts: another layer, or another client, per URL prefix, as requests' `session.mount`.
//!
//! [`RoutingLayer::builder`] takes prefixes:
//!
//! | prefix | serves |
//! |---|---|
//! | `https://api.example.com` | that scheme and host, on the scheme's default port |
//! | `https://api.example.com/v1` | `/v1` and what lies below it, not `/v10` |
//! | `http://localhost:8080`, `http://localhost:*` | that port; any port |
//! | `https://*.example.com` | every subdomain, not `example.com` itself |
//! | `any://example.com` | every scheme, each on its default port |
//! | `https://`, `any://` | every host and port |
//!
//! Scheme and host are compared without case, and a trailing dot of a host, a trailing slash of a
//! path, and the userinfo of a request make no difference. Hosts beyond ASCII are compared by their A-labels (`https://bücher.example` serves
//! `xn--bcher-kva.example`), IPv6 addresses by their value. The path is compared with case, after
//! dot segments and needless escapes are taken out (`/x/../admin` and `/%61dmin` are `/admin`;
//! `//admin` and `/a%2Fb` are not `/admin` and `/a/b`); it is sent as it was given. Who mounts a
//! path to keep others off it may want
//! [`reject_dot_segments`](RoutingLayerBuilder::reject_dot_segments) and
//! [`reject_encoded_slashes`](RoutingLayerBuilder::reject_encoded_slashes): servers do not all read
//! paths alike.
//!
//! Where several prefixes match, an exact host goes before a wildcard, a longer wildcard before a
//! shorter, any of them before every host; then the longer path; then a port before `:*`; then a
//! scheme before `any`. The same prefix twice: the last.
//!
//! [`MountPrefix`] is a prefix as a value, for configuration. [`RoutingHandle`] changes the mounts
//! while they serve.
//!
//! # As in httpx
//!
//! A pattern of httpx's `mounts` without a port means every port; a prefix here means the scheme's
//! own.
//!
//! | httpx | here |
//! |---|---|
//! | `all://`, `https://` | `any://`, `https://` |
//! | `all://example.com` | `any://example.com:*` |
//! | `https://example.com` | `https://example.com:*` |
//! | `all://localhost:8080`, `http://localhost:8080` | `any://localhost:8080`, `http://localhost:8080` |
//! | `all://*.example.com`, the subdomains | `any://*.example.com:*` |
//! | `all://*example.com`, these and the domain itself | both of `any://*.example.com:*` and `any://example.com:*` |
//! | `"all://example.com": None`, no proxy there | [`mount`](RoutingLayerBuilder::mount) with `tower::layer::util::Identity` |
//!
//! `all://` is a [fault](PrefixFault::All) here, since it would be taken for a scheme of that name
//! and never match. httpx lets a port go before a longer host; here the host goes first.
//!
//! # Readiness
//!
//! [`RoutingService`] is always ready; what it calls is waited for inside the call. See there.
//!
//! # Requests that go nowhere
//!
//! A relative URI without a [`default_origin`](RoutingLayerBuilder::default_origin), a port past
//! 65535 and a numeric host such as `127.1` are errors ([`UriError`]): guessing would send the
//! request somewhere.
//!
//! # Cost
//!
//! A look-up takes as long among 100,000 mounts as among ten, and allocates nothing, save where a
//! path or host is spelt so that it has to be rewritten. A mounted service costs one box for each
//! request, and its [`Mount`] extension up to three more allocations, by how `http` stores these;
//! the fallback costs neither. `cargo bench --bench routing` has figures.

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
    mount::{Mount, NoMount},
    mount_prefix::MountPrefix,
    mount_service::MountService,
    mounts::MountChanges,
    service::RoutingService,
    target::UriError,
};
