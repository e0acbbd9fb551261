//! Cookies for a client: a browser's jar that a layer fills and sends.
//!
//! ```text
//!            request                                      response
//!              | your own Cookie header (optional)            ^ ResponseCookies (extension)
//!              | CookieControl (extension, optional)          |
//!    +---------v----------------------------------------------|----------+
//!    |                          CookieLayer                   |          |
//!    |  adds the cookies    <----  CookieJar  <----  stores the cookies  |
//!    |  that match the URI          ^    |           that rules allow    |
//!    +---------|--------------------|----|--------------------^----------+
//!              |               open |    | save               |
//!              |                  CookieFile                  |
//!              v                                              |
//!            Cookie: id=42                                Set-Cookie: id=42; Secure
//!                       inner service, such as a hyper client
//! ```
//!
//! [`CookieJar`] stores and matches cookies by the rules of RFC 6265bis (draft 22): public
//! suffixes, `Secure`, name prefixes, order and limits. [`CookieLayer`] puts the jar around a
//! client. [`CookieFile`] keeps the jar from one run to the next.
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
//! let request = Request::get("https://example.com/").body(())?;
//! let response = client.ready().await?.call(request).await?;
//! assert_eq!(response.body(), &None);
//! let cookies = response.extensions().get::<ResponseCookies>().expect("it set one");
//! assert_eq!(cookies.to_map()["id"], "42");
//!
//! let request = Request::get("https://example.com/").body(())?;
//! let response = client.ready().await?.call(request).await?;
//! assert_eq!(response.body().as_deref(), Some("id=42"));
//! # Ok(())
//! # }
//! ```
//!
//! # From one run to the next
//!
//! A program that logs in and saves its cookies is still logged in when it runs again:
//!
//! ```
//! use std::{convert::Infallible, path::Path};
//!
//! use http::{Request, Response, StatusCode, header::COOKIE};
//! use tower::{BoxError, Layer, ServiceExt, service_fn};
//! use tower_outbound::cookie::{CookieFile, CookieLayer, Format};
//!
//! /// A server that knows who has logged in.
//! async fn server(request: Request<()>) -> Result<Response<()>, Infallible> {
//!     let mut response = Response::new(());
//!     if request.uri().path() == "/login" {
//!         let sid = "sid=42; Path=/; Secure; Max-Age=3600".parse().unwrap();
//!         response.headers_mut().insert("set-cookie", sid);
//!     } else if request.headers().get(COOKIE).is_none_or(|cookies| cookies != "sid=42") {
//!         *response.status_mut() = StatusCode::UNAUTHORIZED;
//!     }
//!     Ok(response)
//! }
//!
//! /// One run of the program: the jar comes from the file and goes back into it.
//! async fn run(file: &Path, url: &str) -> Result<StatusCode, BoxError> {
//!     let file = CookieFile::open(file, Format::Netscape)?; // no file yet: an empty jar
//!     let client = CookieLayer::new(file.jar().clone()).layer(service_fn(server));
//!     let response = client.oneshot(Request::get(url).body(())?).await?;
//!     file.save_if_changed()?;
//!     Ok(response.status())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let directory = tempfile::tempdir()?;
//! let file = directory.path().join("cookies.txt");
//! assert_eq!(run(&file, "https://example.com/").await?, StatusCode::UNAUTHORIZED);
//! assert_eq!(run(&file, "https://example.com/login").await?, StatusCode::OK);
//! assert_eq!(run(&file, "https://example.com/").await?, StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! Several processes may share a file: see [`CookieFile`]. This is what each [`Format`] keeps:
//!
//! | | cookies.txt | `Json` | `Browser` | `CookieStore` |
//! |---|---|---|---|---|
//! | read by | curl, Wget, yt-dlp, Python | | Playwright | `cookie_store`, `reqwest_cookie_store` |
//! | also read here | files that people have edited | | EditThisCookie, Cookie-Editor, Puppeteer | |
//! | host-only, path, `Secure`, `HttpOnly` | yes | yes | yes | yes |
//! | expiry | in seconds | in milliseconds | in milliseconds | in seconds |
//! | `SameSite` | | yes | yes | yes |
//! | `Partitioned` | | yes | | yes |
//! | times of creation and use | only the order | yes | only the order | |
//! | nameless cookies | yes | yes | yes | |
//! | bytes that are not UTF-8 | yes | yes | | |
//! | feature | `cookie` | `json` | `json` | `cookie_store` |
//!
//! # Which jar
//!
//! - One jar for all requests: [`CookieLayer::new`]. Clones of a jar share its cookies.
//! - One jar per tenant: [`CookieLayer::per_request`], with the jars in a [`JarPool`].
//! - A store of the `cookie_store` crate, checked by the rules of this crate:
//!   [`CookieLayer::with_storage`] with a `Mutex<cookie_store::CookieStore>` (feature
//!   `cookie_store`).
//!
//! # Options of one request
//!
//! - [`CookieControl`], a request extension: send no cookies, or store none.
//! - [`SiteForCookies`], a request extension: the site on whose behalf the request is made.
//!   `SameSite` has no effect without it.
//! - [`HostDecides`], a request extension: the `Host` header that the caller set decides which
//!   cookies match. For virtual hosts at one address.
//! - Your own `Cookie` header, from [`header_value`]: see [`CallerCookies`].
//! - [`ResponseCookies`], a response extension: which cookies this response set or deleted, which
//!   were rejected, and why.
//!
//! # Redirects
//!
//! A redirect layer removes a request's extensions when a hop leaves the origin. The hop then
//! arrives here as a request without restrictions, and the first host has chosen its target. For
//! example, a request has the `SiteForCookies` of evil.example. Without `RedirectPolicy`, a
//! redirect from a.example to b.example sends b.example its `SameSite=Strict` cookies.
//! [`RedirectPolicy`](crate::RedirectPolicy) keeps the extensions of this crate:
#![cfg_attr(feature = "follow-redirect", doc = "```")]
#![cfg_attr(not(feature = "follow-redirect"), doc = "```ignore")]
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_outbound::RedirectPolicy;
//!
//! let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
//! # let _ = redirects;
//! ```
//!
//! For any other redirect layer use [`CookieLayer::expect_restrictions`]: a request without
//! restrictions then sends and stores nothing. A request that [brings its
//! jar](CookieLayer::per_request) has no cookies after a layer has removed the jar. A jar sends
//! each host only the cookies of that host.
//!
//! A redirect layer *inside* this layer repeats the `Cookie` header that this layer wrote. Only the
//! policy of that redirect layer keeps the header from another host. tower-http's
//! `FilterCredentials` and [`RedirectPolicy`](crate::RedirectPolicy) remove it when a hop leaves
//! the origin.
//!
//! With the feature `tracing`, a redirect of a restricted request to another origin is an event.
//!
//! # What may be stored and sent
//!
//! Cookies are stored from, and sent to, URIs with a host and the scheme `http`, `https`, `ws` or
//! `wss`. [`Rejection`] lists every reason for which a cookie is not stored.
//!
//! An origin is secure if its scheme is `https` or `wss`. An origin on this machine is secure with
//! any scheme: `localhost`, `127.0.0.0/8` and `[::1]`. `*.localhost` and `localhost.` are not
//! secure, since a resolver may ask the DNS for them: see [`CookieJarBuilder::localhost_names`].
//! [`CookieJarBuilder::secure_hosts`] adds hosts of your own.
//!
//! [`CookiePolicy`] adds rules of your own, and [`DomainPolicy`] is one with lists of domains.
//! [`CookieLimits`] bounds what a jar holds and sends.
//!
//! [`CookieJar::explain`] says why a request does not carry a cookie. With the feature `tracing`, a
//! header that leaves out cookies because of a limit is an event.
//!
//! # What is not kept apart
//!
//! - Ports: a cookie is sent to every port of its host (RFC 6265 section 8.5).
//! - Partitions: a program has no top-level site.
//! - Schemes: a cookie that http set is also sent over https, next to `Secure` cookies, as in a
//!   browser.
//!
//! # Cost
//!
//! A look-up takes about 900 instructions, for 100,000 sites as for one. It allocates nothing if
//! it can reuse the header of an earlier look-up. A `Set-Cookie` that changes nothing costs less
//! than a new one. Sites are spread over several locks, and look-ups share a lock. A cookie takes
//! 140 to 200 bytes plus its text. `benches/cookie.rs` and `benches/cookie_memory.rs` measure this.
//!
//! # Secrets
//!
//! `Debug`, errors and events show names, domains and counts. They never show values. The `Cookie`
//! header is marked sensitive, so the `Debug` of a request does not show it either.

mod control;
mod event;
mod file;
mod format;
mod future;
mod header;
#[cfg(any(feature = "follow-redirect", feature = "tracing"))]
pub(crate) mod hop;
#[cfg(feature = "cookie_store")]
mod interop;
mod jar;
mod layer;
mod model;
mod pool;
#[cfg(feature = "reqwest")]
mod reqwest;
mod service;

#[cfg(feature = "session")]
pub(crate) use self::control::named_by_host;
pub use self::{
    control::{CallerCookies, CookieControl, HostDecides},
    file::{CookieFile, CookieFileBuilder, FileError},
    format::{Format, ReadError, ReadSummary, SkippedLine},
    future::ResponseFuture,
    header::header_value,
    jar::{
        CookieConflict, CookieJar,
        builder::CookieJarBuilder,
        change::Change,
        explain::Withheld,
        limits::CookieLimits,
        policy::{CookiePolicy, DomainPolicy, InvalidDomain},
        response::{DeletedCookie, RejectedCookie, ResponseCookies},
        slot::StoreAction,
        storage::{CookieContext, CookieStorage, PerRequest},
    },
    layer::CookieLayer,
    model::{
        cookie::{Cookie, CookieBuilder, InvalidCookie},
        data::SameSite,
        id::CookieId,
        rules::Rejection,
        same_site::SiteForCookies,
        suffix::PublicSuffixes,
    },
    pool::{JarPool, JarPoolBuilder},
    service::CookieService,
};
