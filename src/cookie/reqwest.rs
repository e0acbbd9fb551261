//! `CookieJar` as a cookie store of reqwest.

use ::reqwest::{Url, cookie::CookieStore, header::HeaderValue};
use http::{HeaderMap, Uri, header::SET_COOKIE};

use super::CookieJar;

/// Makes the jar the cookie store of a reqwest client: pass it to
/// [`cookie_provider`](::reqwest::ClientBuilder::cookie_provider). Feature `reqwest`.
///
/// reqwest asks the jar at each hop of a redirect, so each hop stores and sends its own cookies.
/// reqwest does not show the jar methods, extensions or other headers. So [`CookieControl`] and
/// [`SiteForCookies`] have no effect here, and `Expires` is compared with the jar's clock.
///
/// ```
/// use std::sync::Arc;
/// use tower_outbound::cookie::CookieJar;
///
/// let jar = CookieJar::new();
/// let client = reqwest::Client::builder().cookie_provider(Arc::new(jar.clone())).build()?;
/// # let _ = client;
/// # Ok::<(), reqwest::Error>(())
/// ```
///
/// [`CookieControl`]: super::CookieControl
/// [`SiteForCookies`]: super::SiteForCookies
impl CookieStore for CookieJar {
    fn set_cookies(&self, headers: &mut dyn Iterator<Item = &HeaderValue>, url: &Url) {
        // A URL that is not a URI has no cookies in either direction.
        let Ok(uri) = Uri::try_from(url.as_str()) else { return };
        let mut lines = HeaderMap::new();
        for line in headers {
            lines.append(SET_COOKIE, line.clone());
        }
        self.store_response(&uri, &lines);
    }

    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        self.header(&Uri::try_from(url.as_str()).ok()?)
    }
}
