//! `SameSite`: on whose behalf a request is made, and which cookies are then sent (RFC 6265bis
//! sections 5.2, 5.7, 5.8.3).

use http::{Method, Uri};

use super::{
    data::SameSite,
    origin::Origin,
    suffix::{PublicSuffixes, Site},
};

/// The site on whose behalf a request is made, so that `SameSite` has an effect: a request
/// extension that needs a [`RedirectPolicy`](crate::cookie#redirects).
///
/// Without it every request counts as same-site, since a program has no address bar: all cookies
/// are sent. With it, a request to another site carries:
///
/// - all `SameSite=None` cookies;
/// - `Lax` cookies, and cookies without the attribute, only if the request is a [top-level
///   navigation](Self::top_level_navigation) with a safe method;
/// - no `Strict` cookies.
///
/// The response to a request to another site stores only `SameSite=None` cookies, unless the
/// request is a top-level navigation with any method. Two sites with different schemes are not the
/// same.
///
/// A redirect layer with another policy drops the extension when a hop leaves the origin. That hop
/// then carries all cookies, unless the layer [expects
/// restrictions](crate::cookie::CookieLayer::expect_restrictions).
///
/// Source: RFC 6265bis sections 5.2, 5.7 and 5.8.3; its "site for cookies".
///
/// ```
/// use tower_outbound::cookie::SiteForCookies;
///
/// let page = "https://shop.example/basket".parse()?;
/// let request = http::Request::get("https://tracker.example/pixel")
///     .extension(SiteForCookies::new(&page))
///     .body(())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteForCookies {
    /// `None` for a site that differs from all others.
    host: Option<Box<str>>,
    is_tls: bool,
    top_level: bool,
}

impl SiteForCookies {
    /// Names the site of the URI `page`. The site of a URI without a host is
    /// [opaque](Self::opaque).
    #[must_use]
    pub fn new(page: &Uri) -> Self {
        match Origin::of(page) {
            Some(origin) => {
                Self { is_tls: origin.is_tls, host: Some(origin.host.into()), top_level: false }
            }
            None => Self::opaque(),
        }
    }

    /// Names a site that differs from all others, like that of a sandboxed page. Every request is
    /// cross-site.
    ///
    /// ```
    /// use tower_outbound::cookie::SiteForCookies;
    ///
    /// let request = http::Request::get("https://example.com/")
    ///     .extension(SiteForCookies::opaque()) // sends no Strict or Lax cookies
    ///     .body(())?;
    /// # Ok::<(), http::Error>(())
    /// ```
    #[must_use]
    pub const fn opaque() -> Self {
        Self { host: None, is_tls: false, top_level: false }
    }

    /// Whether a person follows a link, so that `Lax` cookies are sent. Default: false.
    ///
    /// ```
    /// use tower_outbound::cookie::SiteForCookies;
    ///
    /// let page = "https://search.example/".parse()?;
    /// let request = http::Request::get("https://shop.example/")
    ///     .extension(SiteForCookies::new(&page).top_level_navigation(true))
    ///     .body(())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn top_level_navigation(mut self, top_level: bool) -> Self {
        self.top_level = top_level;
        self
    }

    /// How a request to the site `to` relates to this one.
    pub(super) fn reach(
        &self,
        to: Site<'_>,
        to_tls: bool,
        method: &Method,
        suffixes: &PublicSuffixes,
    ) -> Reach {
        // By registrable domain, so that a page and its CDN's subdomain are one site (section 5.2).
        let same = self.host.as_deref().is_some_and(|host| suffixes.site(host).key == to.key);
        // With the scheme: whoever can change what http answers could otherwise act for the https
        // site ("schemeful same-site").
        match (same && self.is_tls == to_tls, self.top_level) {
            (true, _) => Reach::SameSite,
            // `Lax` is meant to stop a form that another site posts.
            (false, true) if method.is_safe() => Reach::SafeNavigation,
            (false, true) => Reach::UnsafeNavigation,
            (false, false) => Reach::CrossSite,
        }
    }
}

/// How a request relates to the site on whose behalf it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) enum Reach {
    SameSite,
    SafeNavigation,
    UnsafeNavigation,
    CrossSite,
}

impl Reach {
    /// Whether a cookie with this attribute is sent. A cookie without it counts as `Lax`.
    pub(in crate::cookie) fn sends(self, cookie: Option<SameSite>) -> bool {
        match (self, cookie) {
            (Self::SameSite, _) | (_, Some(SameSite::None)) => true,
            (Self::SafeNavigation, cookie) => cookie != Some(SameSite::Strict),
            (Self::UnsafeNavigation | Self::CrossSite, _) => false,
        }
    }

    /// Whether a response may set a cookie with this attribute.
    pub(super) fn stores(self, cookie: Option<SameSite>) -> bool {
        // A navigation ends at the other site, which is then the site itself. So it may store
        // cookies that could not be sent to it yet.
        self != Self::CrossSite || cookie == Some(SameSite::None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(page: &SiteForCookies, origin: &Origin<'_>, method: &Method) -> Reach {
        let suffixes = PublicSuffixes::Embedded;
        page.reach(suffixes.site(&origin.host), origin.is_tls, method, &suffixes)
    }

    #[test]
    fn a_site_is_a_registrable_domain_and_a_scheme() {
        use Reach::*;
        let rows = [
            ("https://shop.example/", "https://cdn.shop.example/", SameSite),
            ("https://shop.example/", "https://shop.example:8443/", SameSite),
            ("https://shop.example/", "wss://shop.example/", SameSite),
            ("https://shop.example/", "http://shop.example/", CrossSite),
            ("http://shop.example/", "https://shop.example/", CrossSite),
            ("https://shop.example/", "https://evil.example/", CrossSite),
            ("https://a.github.io/", "https://b.github.io/", CrossSite),
            ("https://10.0.0.1/", "https://10.0.0.2/", CrossSite),
            ("http://localhost/", "http://localhost:3000/", SameSite),
            ("http://localhost/", "https://localhost/", CrossSite),
            ("/relative", "https://shop.example/", CrossSite),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(page, to, want)| {
                let (page, to) = (page.parse().unwrap(), to.parse().unwrap());
                let origin = Origin::of(&to).unwrap();
                (reach(&SiteForCookies::new(&page), &origin, &Method::GET), page, to, want)
            })
            .filter(|(got, .., want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn strict_stays_at_home_and_lax_goes_with_a_person() {
        use SameSite::{Lax, None as Anywhere, Strict};
        let page = SiteForCookies::new(&"https://page.example/".parse().unwrap());
        let to = "https://other.example/".parse().unwrap();
        let origin = Origin::of(&to).unwrap();
        // Sent by GET, sent by POST, stored.
        let rows = [
            (false, Some(Strict), [false, false, false]),
            (false, Some(Lax), [false, false, false]),
            (false, None, [false, false, false]),
            (false, Some(Anywhere), [true, true, true]),
            (true, Some(Strict), [false, false, true]),
            (true, Some(Lax), [true, false, true]),
            (true, None, [true, false, true]),
            (true, Some(Anywhere), [true, true, true]),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(top_level, cookie, want)| {
                let page = page.clone().top_level_navigation(*top_level);
                let (get, post) =
                    (reach(&page, &origin, &Method::GET), reach(&page, &origin, &Method::POST));
                (
                    [get.sends(*cookie), post.sends(*cookie), post.stores(*cookie)],
                    top_level,
                    cookie,
                    want,
                )
            })
            .filter(|(got, .., want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
