//! What a request asks of the rules: where it goes, on whose behalf, and when.

use std::cell::Cell;

use http::{HeaderMap, Method, header::DATE};

use super::{
    data::Millis,
    origin::Origin,
    same_site::{Reach, SiteForCookies},
    suffix::{PublicSuffixes, Site, likely_key},
};

/// A request or its response, as far as the rules look at it.
pub(in crate::cookie) struct Visit<'a> {
    pub(in crate::cookie) origin: &'a Origin<'a>,
    pub(in crate::cookie) suffixes: &'a PublicSuffixes,
    pub(in crate::cookie) reach: Reach,
    pub(in crate::cookie) now: Millis,
    /// The `Date` of the response, as it came. An `Expires` counts from it.
    pub(in crate::cookie) date: Option<&'a [u8]>,
    /// The site of the origin's host, once it is known.
    site: Cell<Option<Site<'a>>>,
}

impl<'a> Visit<'a> {
    /// A request of that method, made on behalf of `page`. Without one it is same-site: a program
    /// has no address bar, so that nothing else makes a request cross-site (RFC 6265bis section
    /// 5.2).
    #[inline]
    pub(in crate::cookie) fn new(
        origin: &'a Origin<'a>,
        suffixes: &'a PublicSuffixes,
        page: Option<&SiteForCookies>,
        method: &Method,
        now: Millis,
    ) -> Self {
        let (reach, site) = match page {
            None => (Reach::SameSite, None),
            Some(page) => {
                let site = suffixes.site(&origin.host);
                (page.reach(site, origin.is_tls, method, suffixes), Some(site))
            }
        };
        Self { origin, suffixes, reach, now, date: None, site: Cell::new(site) }
    }

    /// The site of the origin's host. Its cookies are filed under this site's key.
    ///
    /// The suffix list is asked at most once: that takes a quarter of a look-up. Not to be called
    /// under a lock.
    pub(in crate::cookie) fn site(&self) -> Site<'a> {
        let site = self.site.get().unwrap_or_else(|| self.suffixes.site(&self.origin.host));
        self.site.set(Some(site));
        site
    }

    /// The key of the site if it is known, else the likely one; and whether it is known.
    #[inline]
    pub(in crate::cookie) fn key(&self) -> (&'a str, bool) {
        match self.site.get() {
            Some(site) => (site.key, true),
            None => (likely_key(&self.origin.host), false),
        }
    }

    /// Takes the likely key for that of the site, because somebody knows that this site is
    /// undivided.
    pub(in crate::cookie) fn settle(&self, key: &'a str) {
        self.site.set(Some(Site { key, is_suffix: false, is_undivided: true }));
    }

    /// A response with that `Date`.
    #[cfg(test)]
    pub(in crate::cookie) fn dated(self, date: Option<&'a [u8]>) -> Self {
        Self { date, ..self }
    }

    /// The response that answers it.
    pub(in crate::cookie) fn answered<'b>(&self, headers: &'b HeaderMap) -> Visit<'b>
    where
        'a: 'b,
    {
        let Self { origin, suffixes, reach, now, .. } = *self;
        let date = headers.get(DATE).map(http::HeaderValue::as_bytes);
        Visit { origin, suffixes, reach, now, date, site: Cell::new(self.site.get()) }
    }
}
