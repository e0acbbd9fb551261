//! What the layer needs of a jar.

use std::fmt;

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{jar::CookieJar, response::ResponseCookies};

/// A place to keep cookies that [`CookieLayer`](super::CookieLayer) can work with.
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
    fn inspect_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        CookieJar::new().store_response(context.uri(), headers)
    }
}

impl CookieStorage for CookieJar {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        self.header_beside(context.uri, context.reserved)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        Self::store_response(self, context.uri, headers)
    }

    fn inspect_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        self.sibling().store_response(context.uri, headers)
    }
}

/// The request that a [`CookieStorage`] is asked about.
#[derive(Clone, Copy)]
pub struct CookieContext<'a> {
    uri: &'a Uri,
    method: &'a Method,
    reserved: usize,
}

impl<'a> CookieContext<'a> {
    /// A request of that method to an absolute URI.
    #[must_use]
    pub const fn new(uri: &'a Uri, method: &'a Method) -> Self {
        Self { uri, method, reserved: 0 }
    }

    pub(super) const fn beside(mut self, reserved: usize) -> Self {
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
