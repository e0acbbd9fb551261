//! What a request asks of the rules: where it goes, on whose behalf, and when.

use http::{HeaderMap, Method, header::DATE};

use super::{
    data::Millis,
    origin::Origin,
    same_site::{Reach, SiteForCookies},
    suffix::{PublicSuffixes, Site},
};

/// A request or its response, as far as the rules look at it.
#[derive(Clone, Copy)]
pub(in crate::cookie) struct Visit<'a> {
    pub(in crate::cookie) origin: &'a Origin<'a>,
    pub(in crate::cookie) suffixes: &'a PublicSuffixes,
    /// The site of the origin's host. Its cookies are filed under this site's key.
    pub(in crate::cookie) site: Site<'a>,
    pub(in crate::cookie) reach: Reach,
    pub(in crate::cookie) now: Millis,
    /// The `Date` of the response, as it came. An `Expires` counts from it.
    pub(in crate::cookie) date: Option<&'a [u8]>,
}

impl<'a> Visit<'a> {
    /// A request of that method, made on behalf of `page`. Without one it is same-site: a program
    /// has no address bar, so that nothing else makes a request cross-site (RFC 6265bis section
    /// 5.2).
    pub(in crate::cookie) fn new(
        origin: &'a Origin<'a>,
        suffixes: &'a PublicSuffixes,
        page: Option<&SiteForCookies>,
        method: &Method,
        now: Millis,
    ) -> Self {
        // The suffix list is asked here, once. What follows may hold a lock, and would ask for the
        // same host again.
        let site = suffixes.site(&origin.host);
        // Few requests name a page, so that only those look up a second site.
        let reach =
            page.map_or(Reach::SameSite, |page| page.reach(site, origin.is_tls, method, suffixes));
        Self { origin, suffixes, site, reach, now, date: None }
    }

    /// The response that answers it.
    pub(in crate::cookie) fn answered<'b>(self, headers: &'b HeaderMap) -> Visit<'b>
    where
        'a: 'b,
    {
        Visit { date: headers.get(DATE).map(http::HeaderValue::as_bytes), ..self }
    }
}
