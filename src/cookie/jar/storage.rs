//! What the layer needs of a jar.

use http::{HeaderMap, HeaderValue};

use super::{context::CookieContext, response::ResponseCookies};
use crate::cookie::jar::CookieJar;

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

impl CookieStorage for CookieJar {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        self.header_for(context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        self.store_for(context, headers)
    }

    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        self.sibling().store_for(context, headers)
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
