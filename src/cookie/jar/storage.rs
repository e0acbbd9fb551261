//! What the layer needs of a jar.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::response::ResponseCookies;
use crate::cookie::{jar::CookieJar, model::same_site::SiteForCookies};

/// A place to keep cookies that [`CookieLayer`](crate::cookie::CookieLayer) can work with.
///
/// Calls are synchronous and short: they are made while a request is being sent.
pub trait CookieStorage {
    /// The `Cookie` header for a request; `None` where no cookie goes.
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue>;

    /// Stores the cookies of a response, and says what became of each.
    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies;

    /// Judges the cookies of a response without storing any.
    ///
    /// Default: by the rules of an empty [`CookieJar`].
    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        CookieJar::new().store_for(context, headers)
    }
}

/// The request that a [`CookieStorage`](crate::cookie::CookieStorage) is asked about.
#[derive(Clone, Copy)]
pub struct CookieContext<'a> {
    uri: &'a Uri,
    method: &'a Method,
    site: Option<&'a SiteForCookies>,
    jar: Option<&'a CookieJar>,
    reserved: usize,
}

impl<'a> CookieContext<'a> {
    /// A request of that method to an absolute URI.
    #[must_use]
    pub const fn new(uri: &'a Uri, method: &'a Method) -> Self {
        Self { uri, method, site: None, jar: None, reserved: 0 }
    }

    /// Made on behalf of that site. Default: none, and the request is same-site.
    #[must_use]
    pub const fn on_behalf_of(mut self, site: Option<&'a SiteForCookies>) -> Self {
        self.site = site;
        self
    }

    pub(in crate::cookie) const fn with_jar(mut self, jar: Option<&'a CookieJar>) -> Self {
        self.jar = jar;
        self
    }

    pub(in crate::cookie) const fn beside(mut self, reserved: usize) -> Self {
        self.reserved = reserved;
        self
    }

    /// The URI whose host, path and scheme decide. It is absolute.
    #[must_use]
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The request's method.
    #[must_use]
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The request's own jar.
    pub(in crate::cookie) const fn jar(&self) -> Option<&'a CookieJar> {
        self.jar
    }

    /// The site on whose behalf the request is made, if its extensions say so.
    #[must_use]
    pub const fn site(&self) -> Option<&'a SiteForCookies> {
        self.site
    }

    /// How many bytes of the `Cookie` header the caller's own pairs take.
    #[must_use]
    pub const fn reserved(&self) -> usize {
        self.reserved
    }
}

// A URI may hold a password.
impl fmt::Debug for CookieContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieContext")
            .field("host", &self.uri.host())
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// No jar of the layer's own: each request brings one, as its extension. See
/// [`CookieLayer::per_request`](crate::cookie::CookieLayer::per_request).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PerRequest;

impl PerRequest {
    pub(in crate::cookie) const fn new() -> Self {
        Self
    }
}

impl CookieStorage for PerRequest {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        context.jar()?.header_for(context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        match context.jar() {
            Some(jar) => jar.store_for(context, headers),
            None => self.inspect_response(context, headers),
        }
    }

    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        context.jar().map_or_else(CookieJar::new, CookieJar::sibling).store_for(context, headers)
    }
}
