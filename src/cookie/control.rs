//! What one request or one layer does differently from the rest.

use http::Extensions;

use super::model::same_site::SiteForCookies;

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
