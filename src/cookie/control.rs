//! What one request or one layer does differently from the rest.

use http::{Extensions, HeaderMap, Uri, header::HOST, uri::Authority};

use super::model::{origin::Origin, same_site::SiteForCookies};

/// Request extension that needs a [`RedirectPolicy`](super#for-its-redirects-too): whether this
/// request sends and stores the jar's cookies.
///
/// Default: both. With `store: false` the response still says which cookies it set, in
/// [`ResponseCookies`](super::ResponseCookies).
///
/// Redirect layers with another policy drop the extension when a hop leaves the origin. That hop
/// then sends and stores again, unless the layer [expects
/// restrictions](super::CookieLayer::expect_restrictions).
///
/// A browser's `credentials: "omit"` is `send: false, store: false`.
///
/// ```
/// use tower_outbound::cookie::CookieControl;
///
/// let request = http::Request::get("https://example.com/")
///     .extension(CookieControl { send: false, store: true })
///     .body(())?;
/// # Ok::<(), http::Error>(())
/// ```
// Not non_exhaustive: it is written as a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieControl {
    /// Whether the jar's cookies are sent. A `Cookie` header of the caller's own is sent either
    /// way. Default: true.
    pub send: bool,
    /// Whether the response's cookies are stored. Default: true.
    pub store: bool,
}

impl Default for CookieControl {
    fn default() -> Self {
        Self { send: true, store: true }
    }
}

/// Request extension: whose cookies they are is decided by the `Host` header that the caller set,
/// as in curl and requests. The URI only says where to connect to.
///
/// For a virtual host at an address: `http://127.0.0.1:8080/` with `Host: www.example.com`. The
/// scheme and the path are still those of the URI. A request with several `Host` headers, or with
/// one that names no host, has no cookies. Nor has a request over http whose `Host` names this
/// machine, such as `localhost`, at another address. Without a `Host` header the URI decides.
///
/// Never set it for a `Host` that came from someone else, as in a proxy: a stranger would choose
/// whose cookies are sent. TLS checks the host of the URI, not this header.
///
/// Default: the URI decides, whatever `Host` says. The extension ends where a redirect leaves the
/// origin of the URI: [`RedirectPolicy`](super#for-its-redirects-too) removes it there, and the
/// `Host` header with it.
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

/// An absolute URI with the host that the `Host` header names. `None` if it names none.
pub(crate) fn named_by_host(uri: Uri, headers: &HeaderMap) -> Option<Uri> {
    let mut hosts = headers.get_all(HOST).iter();
    let Some(host) = hosts.next() else { return Some(uri) };
    let authority = Authority::try_from(host.as_bytes()).ok()?;
    // Two hosts, or one with userinfo: a server could read another one than this.
    if hosts.next().is_some() || authority.as_str().contains('@') {
        return None;
    }
    let is_secure = |uri: &Uri| Origin::of(uri).is_some_and(|origin| origin.secure);
    let was_secure = is_secure(&uri);
    let mut parts = uri.into_parts();
    parts.authority = Some(authority);
    // Whether a host is this machine is a question of the address that the client connects to. A
    // header cannot make another machine this one.
    Uri::from_parts(parts).ok().filter(|named| was_secure || !is_secure(named))
}

/// What a request's extensions allow, and the site on whose behalf it is made.
///
/// If restrictions are `expected`, their absence is the strict case: someone between the caller and
/// the layer may have dropped them.
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

/// What is done with a `Cookie` header that the caller set. The response's cookies are stored
/// either way.
///
/// Default: [`Merge`](Self::Merge), as requests does for `cookies={...}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallerCookies {
    /// One header is sent: the caller's pairs first, then the jar's pairs whose names the caller
    /// did not give.
    #[default]
    Merge,
    /// Only the caller's header is sent. The jar's cookies are not.
    Replace,
}
