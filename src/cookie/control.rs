//! What one request, or one layer, does differently.

use http::{Extensions, HeaderMap, Uri, header::HOST, uri::Authority};

use super::model::{origin::Origin, same_site::SiteForCookies};

/// Whether one request sends and stores the jar's cookies: a request extension that needs a
/// [`RedirectPolicy`](super#redirects).
///
/// Default: it does both. With `store: false`, [`ResponseCookies`](super::ResponseCookies) still
/// lists the cookies that the response set.
///
/// A redirect layer with another policy drops the extension when a hop leaves the origin. That hop
/// then sends and stores again, unless the layer [expects
/// restrictions](super::CookieLayer::expect_restrictions).
///
/// `send: false, store: false` is what browsers call `credentials: "omit"`.
///
/// ```
/// use tower_outbound::cookie::CookieControl;
///
/// let request = http::Request::get("https://example.com/")
///     .extension(CookieControl { send: false, store: true })
///     .body(())?;
/// # Ok::<(), http::Error>(())
/// ```
// Not `non_exhaustive`: callers write it as a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieControl {
    /// Whether the jar's cookies are sent. Default: true. The caller's own `Cookie` header is sent
    /// in either case.
    pub send: bool,
    /// Whether the response's cookies are stored. Default: true.
    pub store: bool,
}

impl Default for CookieControl {
    fn default() -> Self {
        Self { send: true, store: true }
    }
}

/// The `Host` header that the caller set decides which cookies match, not the URI: a request
/// extension.
///
/// As in curl and requests. The URI then only says where to connect. For a virtual host at an
/// address: `http://127.0.0.1:8080/` with `Host: www.example.com`. Scheme and path are still those
/// of the URI.
///
/// - Without a `Host` header the URI decides.
/// - A request has no cookies if it has several `Host` headers, or one that names no host.
/// - A request over http has no cookies if its `Host` names this machine, such as `localhost`, and
///   its URI another one.
///
/// Never set it for a `Host` that someone else chose, as in a proxy: a stranger would choose whose
/// cookies are sent. TLS checks the host of the URI, not this header.
///
/// Default: the URI decides, whatever `Host` says. When a redirect leaves the origin of the URI,
/// [`RedirectPolicy`](super#redirects) removes the extension and the `Host` header.
///
/// ```
/// use http::{Request, Response, header::HOST};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_outbound::cookie::{CookieJar, CookieLayer, HostDecides};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jar = CookieJar::new();
/// let client = CookieLayer::new(jar.clone()).layer(service_fn(|_: Request<()>| async {
///     Response::builder().header("set-cookie", "id=42").body(())
/// }));
/// let request = Request::get("http://127.0.0.1:8080/")
///     .header(HOST, "www.example.com")
///     .extension(HostDecides)
///     .body(())?;
/// client.oneshot(request).await?;
/// assert_eq!(jar.header(&"http://www.example.com/".parse()?).unwrap(), "id=42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostDecides;

/// An absolute URI with the host of the `Host` header. `None` if the header names no host.
pub(crate) fn named_by_host(uri: Uri, headers: &HeaderMap) -> Option<Uri> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return Some(uri) };
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    // Two hosts, or userinfo: a server could read another host than this function.
    if hosts.next().is_some() || authority.as_str().contains('@') {
        return None;
    }
    let is_secure = |uri: &Uri| Origin::of(uri).is_some_and(|origin| origin.secure);
    let was_secure = is_secure(&uri);
    let mut parts = uri.into_parts();
    parts.authority = Some(authority);
    // The address that the client connects to decides whether a host is this machine. A header
    // cannot turn another machine into this one.
    Uri::from_parts(parts).ok().filter(|named| was_secure || !is_secure(named))
}

/// What a request's extensions allow, and the site on whose behalf it is made.
///
/// If restrictions are `expected`, their absence means the strictest ones: a layer in between may
/// have dropped them.
pub(super) fn restrictions(
    extensions: &Extensions,
    expected: bool,
) -> (CookieControl, Option<SiteForCookies>) {
    let (control, site) = (extensions.get().copied(), extensions.get().cloned());
    if !expected {
        return (control.unwrap_or_default(), site);
    }
    let said = site.is_some();
    let control = control.unwrap_or(CookieControl { send: said, store: said });
    (control, Some(site.unwrap_or_else(SiteForCookies::opaque)))
}

/// What happens to a `Cookie` header that the caller set. The response's cookies are stored in
/// either case.
///
/// Default: [`Merge`](Self::Merge), as requests does for `cookies={...}`.
///
/// ```
/// use http::{Request, Response, header::COOKIE};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_outbound::{CookieLayer, cookie::{CookieJar, header_value}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (jar, uri) = (CookieJar::new(), "https://example.com/".parse()?);
/// jar.set(&uri, "id=42")?;
/// jar.set(&uri, "theme=dark")?;
/// let client = CookieLayer::new(jar).layer(service_fn(|request: Request<()>| async move {
///     Ok::<_, std::convert::Infallible>(Response::new(request.headers()[COOKIE].clone()))
/// }));
///
/// let request = Request::get(uri).header(COOKIE, header_value([("id", "7")])?).body(())?;
/// assert_eq!(client.oneshot(request).await?.body(), "id=7; theme=dark");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerCookies {
    /// Sends one header: first the caller's pairs, then those of the jar whose names the caller did
    /// not give.
    #[default]
    Merge,
    /// Sends only the caller's header. The jar's cookies are not sent.
    Replace,
}
