//! What cookies go by in a request: its URI, its method, on whose behalf it is made.

use std::fmt;

use http::{Method, Uri};

use crate::cookie::{jar::CookieJar, model::same_site::SiteForCookies};

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
