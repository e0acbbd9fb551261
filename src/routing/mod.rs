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
//! Scheme and host are compared without case, and a trailing dot of a host, a trailing slash of a path, and userinfo make
//! no difference. The path is compared with case, after dot segments and needless escapes are taken out (`/x/../admin`
//! and `/%61dmin` are `/admin`; `//admin` and `/a%2Fb` are not `/admin` and `/a/b`); it is sent as it was given.
//!
//! Where several prefixes match, an exact host goes before a wildcard, a longer wildcard before a shorter, any of them
//! before every host; then the longer path; then a port before `:*`; then a scheme before `any`. The same prefix twice:
//! the last.
//!
//! # Readiness
//!
//! [`RoutingService`] is always ready; what it calls is waited for inside the call. See there.
//!
//! # Requests that go nowhere
//!
//! A relative URI without a [`default_origin`](RoutingLayerBuilder::default_origin), a port past 65535 and a numeric host
//! such as `127.1` are errors ([`UriError`]): guessing would send the request somewhere.

mod future;
mod handle;
mod host;
mod layer;
mod mount_prefix;
mod mounts;
mod path;
mod prefix;
mod routes;
mod service;
mod table;
mod target;

pub use self::{
    future::ResponseFuture,
    handle::RoutingHandle,
    layer::{RoutingLayer, RoutingLayerBuilder},
    mount_prefix::MountPrefix,
    mounts::Mounts,
    prefix::{PrefixError, PrefixFault},
    service::{Mount, NoMount, RoutingService},
    target::UriError,
};
