//! Cookies: a browser's jar, filled and sent by a layer.
//!
//! [`CookieJar`] stores and matches as RFC 6265bis (draft 22) says: public suffixes, `Secure`, name prefixes, order,
//! limits. [`CookieLayer`] puts it around a client; [`CookieFile`] keeps it from one run to the next.
//!
//! ```
//! use http::{Request, Response};
//! use tower::{Layer, Service, ServiceExt, service_fn};
//! use tower_outbound::cookie::{CookieJar, CookieLayer, ResponseCookies};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A server that sets a cookie and says which it got.
//! let server = service_fn(|request: Request<()>| async move {
//!     let got = request.headers().get("cookie").map(|value| value.to_str().unwrap().to_owned());
//!     Response::builder().header("set-cookie", "id=42; Secure; HttpOnly").body(got)
//! });
//! let mut client = CookieLayer::new(CookieJar::new()).layer(server);
//!
//! let response = client.ready().await?.call(Request::get("https://example.com/").body(())?).await?;
//! assert_eq!(response.body(), &None);
//! let cookies = response.extensions().get::<ResponseCookies>().expect("it set one");
//! assert_eq!(cookies.to_map()["id"], "42");
//!
//! let response = client.ready().await?.call(Request::get("https://example.com/").body(())?).await?;
//! assert_eq!(response.body().as_deref(), Some("id=42"));
//! # Ok(())
//! # }
//! ```
//!
//! # For one request
//!
//! - [`CookieControl`] as a request extension: send or store nothing.
//! - A `Cookie` header of the caller's own, from [`header_value`]: see [`UserCookies`].
//! - [`ResponseCookies`] as a response extension: what this response set, and what was refused, and why.
//!
//! # What is not kept apart
//!
//! Cookies know no ports (RFC 6265 section 8.5) and, in this client, no partitions: a program has no top-level site.
//! `SameSite` is stored and reported; every request counts as same-site.
//!
//! # Secrets
//!
//! Names, domains and counts appear in `Debug`, errors and events; values never do. The `Cookie` header is marked
//! sensitive, so that it shows in no `Debug` of a request either.

mod bucket;
mod builder;
mod control;
// The value stands in a file of its own name.
#[allow(clippy::module_inception)]
mod cookie;
mod data;
mod event;
mod file;
mod format;
mod future;
mod header;
#[cfg(feature = "cookie_store")]
mod interop;
mod jar;
mod layer;
mod limits;
mod origin;
mod parse;
mod policy;
mod pool;
mod response;
mod rules;
mod same_site;
mod service;
mod storage;
mod store;
mod suffix;

pub use self::{
    builder::CookieJarBuilder,
    control::{CookieControl, UserCookies},
    cookie::{Cookie, CookieBuilder, InvalidCookie, SameSite},
    file::{CookieFile, FileError},
    format::{Format, ReadError},
    future::ResponseFuture,
    header::header_value,
    jar::{CookieConflict, CookieJar},
    layer::CookieLayer,
    limits::CookieLimits,
    policy::{CookiePolicy, DomainPolicy, InvalidDomain},
    pool::{JarPool, JarPoolBuilder},
    response::{RejectedCookie, ResponseCookies},
    rules::Rejection,
    same_site::SiteForCookies,
    service::CookieService,
    storage::{CookieContext, CookieStorage, PerRequest},
    store::StoreAction,
    suffix::PublicSuffixes,
};
