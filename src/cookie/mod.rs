//! Cookies: a browser's jar, filled and sent by a layer.
//!
//! [`CookieJar`] stores and matches cookies as RFC 6265bis (draft 22) says: public suffixes,
//! `Secure`, name prefixes, order, limits. [`CookieLayer`] puts the jar around a client.
//! [`CookieFile`] keeps the jar from one run to the next.
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
//!         response.headers_mut().insert("set-cookie", "sid=42; Path=/; Secure; Max-Age=3600".parse().unwrap());
//!     } else if request.headers().get(COOKIE).is_none_or(|cookies| cookies != "sid=42") {
//!         *response.status_mut() = StatusCode::UNAUTHORIZED;
//!     }
//!     Ok(response)
//! }
//!
//! /// One run of the program: the jar comes from the file and goes back into it.
//! async fn run(file: &Path, url: &str) -> Result<StatusCode, BoxError> {
//!     let file = CookieFile::open(file, Format::Netscape)?; // no such file: an empty jar; no jar at all: an error
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
//! Several processes may share a file: see [`CookieFile`]. Each [`Format`] keeps this:
//!
//! | | cookies.txt | `Json` | `Browser` | `CookieStore` |
//! |---|---|---|---|---|
//! | read by others | curl, Wget, yt-dlp, Python | | Playwright | `cookie_store`, `reqwest_cookie_store` |
//! | also read here | what people make of it | | EditThisCookie, Cookie-Editor, Puppeteer | |
//! | host-only, path, `Secure`, `HttpOnly` | yes | yes | yes | yes |
//! | expiry | in seconds | in milliseconds | in milliseconds | in seconds |
//! | `SameSite` | | yes | yes | yes |
//! | `Partitioned` | | yes | | yes |
//! | times of creation and use | the order alone | yes | the order alone | |
//! | nameless cookies | yes | yes | yes | |
//! | bytes that are not UTF-8 | yes | yes | | |
//! | feature | `cookie` | `json` | `json` | `cookie_store` |
//!
//! # Whose cookies
//!
//! - One jar for all requests: [`CookieLayer::new`]. Clones of a jar share its cookies.
//! - One jar for each tenant: [`CookieLayer::per_request`], with the jars in a [`JarPool`].
//! - A store of the `cookie_store` crate, behind the rules of this crate:
//!   [`CookieLayer::with_storage`] with a `Mutex<cookie_store::CookieStore>` (feature
//!   `cookie_store`).
//!
//! # For one request
//!
//! - [`CookieControl`] as a request extension: send nothing, or store nothing.
//! - [`SiteForCookies`] as a request extension: the site on whose behalf the request is made, so
//!   that `SameSite` has an effect.
//! - [`HostDecides`] as a request extension: the `Host` header that the caller set names the host,
//!   for virtual hosts at one address.
//! - A `Cookie` header of the caller's own, from [`header_value`]: see [`CallerCookies`].
//! - [`ResponseCookies`] as a response extension: which cookies this response set or deleted, which
//!   were refused, and why.
//!
//! # For its redirects too
//!
//! Redirect layers remove a request's extensions when a hop leaves the origin. The hop then arrives
//! here as a request without restrictions, and the first host decides where it leads to. With
//! `SiteForCookies` of evil.example, a redirect from a.example to b.example would send b.example
//! its `SameSite=Strict` cookies. [`RedirectPolicy`](crate::RedirectPolicy) keeps the extensions of
//! this crate:
#![cfg_attr(feature = "follow-redirect", doc = "```")]
#![cfg_attr(not(feature = "follow-redirect"), doc = "```ignore")]
//! use tower_http::follow_redirect::FollowRedirectLayer;
//! use tower_outbound::RedirectPolicy;
//!
//! let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
//! # let _ = redirects;
//! ```
//!
//! For any other redirect layer use [`CookieLayer::expect_restrictions`]: what a request does not
//! say is then forbidden. A request that [brings its jar](CookieLayer::per_request) has no cookies
//! once the jar is dropped. A jar sends no cookie to a host that it does not belong to. Redirects
//! *inside* this layer repeat the header that it has written, so only their own policy keeps it from
//! another host: tower-http's `FilterCredentials` and `RedirectPolicy` remove it there. With the feature `tracing`, a restricted request that is redirected to
//! another origin is an event.
//!
//! # What may be stored and sent
//!
//! Cookies come from and go to URIs with a host, by `http`, `https`, `ws` and `wss`. An origin is
//! secure if its scheme is `https` or `wss`, or if it is this machine, whatever the scheme: `localhost`, `127.0.0.0/8`, `[::1]`. `*.localhost` and `localhost.` are not, since
//! resolvers may ask the DNS for them: see [`CookieJarBuilder::localhost_names`]. For hosts of your
//! own see [`CookieJarBuilder::secure_hosts`]. [`Rejection`] names every rule. [`CookiePolicy`] adds rules of the caller's own, and [`DomainPolicy`] lists of domains.
//! [`CookieLimits`] bounds what a jar holds and sends.
//!
//! [`CookieJar::explain`] says why a request does not carry a cookie. With the feature `tracing`, a
//! header that leaves cookies out over a limit is an event.
//!
//! # What is not kept apart
//!
//! Ports are not kept apart (RFC 6265 section 8.5). Nor are partitions: a program has no top-level
//! site. Nor are schemes: a cookie that http sets is sent over https too, beside `Secure` ones, as
//! in a browser.
//!
//! # Cost
//!
//! A look-up costs about 1,200 instructions, with 100,000 sites as with one. It allocates nothing if
//! the header of an earlier look-up can be used again. A `Set-Cookie` that changes nothing costs
//! less than a new one. Sites are spread over several locks, and look-ups share them. A cookie takes
//! 140 to 200 bytes and its text. `benches/cookie.rs` and `benches/cookie_memory.rs` measure this.
//!
//! # Secrets
//!
//! Names, domains and counts appear in `Debug`, errors and events. Values never do. The `Cookie`
//! header is marked sensitive, so that the `Debug` of a request does not show it either.

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
