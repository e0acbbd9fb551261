//! The layer's storage trait, and the request that a storage is asked about.

use std::{fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{inspect::judge, limits::CookieLimits, response::ResponseCookies};
use crate::cookie::model::{
    cookie::to_millis, data::Millis, origin::Origin, same_site::SiteForCookies,
    suffix::PublicSuffixes, visit::Visit,
};

/// Stores and matches the cookies of a [`CookieLayer`](crate::cookie::CookieLayer).
///
/// [`CookieJar`](crate::cookie::CookieJar) implements it. The methods are synchronous and run while
/// a request is being sent, so they should be short. `&T`, `Box<T>` and `Arc<T>` implement it if
/// `T` does.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use tower_outbound::cookie::{CookieContext, CookieJar, CookieLayer};
/// use tower_outbound::cookie::{CookieStorage, ResponseCookies};
///
/// /// Sends what the jar holds, and stores nothing.
/// struct ReadOnly(CookieJar);
///
/// impl CookieStorage for ReadOnly {
///     fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
///         self.0.header(context.uri())
///     }
///
///     fn store_response(&self, context: &CookieContext<'_>, all: &HeaderMap) -> ResponseCookies {
///         self.inspect_response(context, all)
///     }
/// }
///
/// let layer = CookieLayer::with_storage(ReadOnly(CookieJar::new()));
/// # let _ = layer;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no place to keep cookies: `CookieStorage` is not implemented for it",
    label = "not a `CookieStorage`",
    note = "a `CookieJar` is one, and so is `Mutex<cookie_store::CookieStore>` with the feature \
            `cookie_store`"
)]
pub trait CookieStorage {
    /// Returns the `Cookie` header for a request. `None` if no cookie matches.
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue>;

    /// Stores the cookies of a response, and returns what became of each.
    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies;

    /// Judges the cookies of a response without storing them. Called for a request with
    /// [`CookieControl { store: false, .. }`](crate::cookie::CookieControl).
    ///
    /// Default: what an empty [`CookieJar`](crate::cookie::CookieJar) with default settings would
    /// return.
    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        judge_by_defaults(context, headers)
    }
}

// Every method is forwarded, also the provided one: otherwise `Arc<J>` would judge by other rules
// than `J`. A macro, since the three impls differ in nothing else.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: CookieStorage + ?Sized> CookieStorage for $pointer {
            fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
                T::header(self, context)
            }

            fn store_response(
                &self,
                context: &CookieContext<'_>,
                headers: &HeaderMap,
            ) -> ResponseCookies {
                T::store_response(self, context, headers)
            }

            fn inspect_response(
                &self,
                context: &CookieContext<'_>,
                headers: &HeaderMap,
            ) -> ResponseCookies {
                T::inspect_response(self, context, headers)
            }
        }
    )*};
}

forward!(&T, Box<T>, Arc<T>);

/// By the rules of an empty jar with default settings.
fn judge_by_defaults(context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
    // Nothing to set up: the embedded list is compiled in.
    let suffixes = PublicSuffixes::Embedded;
    let origin = Origin::of(context.uri());
    let visit = origin
        .as_ref()
        .map(|origin| context.visit(origin, &suffixes, to_millis(SystemTime::now())));
    judge(visit.as_ref(), headers, &CookieLimits::default(), |_| true)
}

// A trait object, so that this file need not know the jar, which uses it. `Send` and `Sync`, so
// that a context may cross threads.
/// The jar that a request brought.
type RequestJar<'a> = &'a (dyn CookieStorage + Send + Sync);

/// The request that a [`CookieStorage`] or a [`CookiePolicy`](crate::cookie::CookiePolicy) is asked
/// about.
///
/// ```
/// use http::Method;
/// use tower_outbound::cookie::{CookieContext, SiteForCookies};
///
/// let (uri, page) = ("https://cdn.example/".parse()?, "https://shop.example/".parse()?);
/// let site = SiteForCookies::new(&page);
/// let context = CookieContext::new(&uri, &Method::GET).on_behalf_of(Some(&site));
/// assert_eq!(context.uri().host(), Some("cdn.example"));
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone, Copy)]
pub struct CookieContext<'a> {
    uri: &'a Uri,
    method: &'a Method,
    site: Option<&'a SiteForCookies>,
    jar: Option<RequestJar<'a>>,
    reserved: usize,
}

impl<'a> CookieContext<'a> {
    /// Describes a request with that method to an absolute URI.
    #[must_use]
    pub const fn new(uri: &'a Uri, method: &'a Method) -> Self {
        Self { uri, method, site: None, jar: None, reserved: 0 }
    }

    /// Sets the site on whose behalf the request is made. Default: none, and the request is
    /// same-site.
    #[must_use]
    pub const fn on_behalf_of(mut self, site: Option<&'a SiteForCookies>) -> Self {
        self.site = site;
        self
    }

    /// The jar that the request carried.
    pub(in crate::cookie) const fn with_jar(mut self, jar: Option<RequestJar<'a>>) -> Self {
        self.jar = jar;
        self
    }

    /// Sets how many bytes of the header the caller's own pairs take.
    pub(in crate::cookie) const fn beside(mut self, reserved: usize) -> Self {
        self.reserved = reserved;
        self
    }

    /// The absolute URI of the request. Its host, path and scheme decide which cookies match.
    #[must_use]
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// The request's method.
    #[must_use]
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// The site on whose behalf the request is made, if its extensions name one.
    #[must_use]
    pub const fn site(&self) -> Option<&'a SiteForCookies> {
        self.site
    }

    /// Bytes of the `Cookie` header that the caller's own pairs take. A storage has this much less
    /// room.
    #[must_use]
    pub const fn reserved(&self) -> usize {
        self.reserved
    }

    /// What the rules need to know of the request at that moment.
    #[inline]
    pub(in crate::cookie) fn visit<'v>(
        &self,
        origin: &'v Origin<'v>,
        suffixes: &'v PublicSuffixes,
        now: Millis,
    ) -> Visit<'v> {
        Visit::new(origin, suffixes, self.site, self.method, now)
    }
}

// Only the host: the rest of a URI may contain a password or a token.
impl fmt::Debug for CookieContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieContext")
            .field("host", &self.uri.host())
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// The storage of a layer without a jar: each request carries one as an extension. See
/// [`CookieLayer::per_request`](crate::cookie::CookieLayer::per_request).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct PerRequest;

// A request without a jar sends and stores nothing: no other tenant's jar may be used instead.
impl CookieStorage for PerRequest {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        context.jar?.header(context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        match context.jar {
            Some(jar) => jar.store_response(context, headers),
            None => judge_by_defaults(context, headers),
        }
    }

    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        match context.jar {
            Some(jar) => jar.inspect_response(context, headers),
            None => judge_by_defaults(context, headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says by a count which of its methods was asked.
    struct Counts;

    fn cookies(count: usize) -> ResponseCookies {
        let lines =
            (0..count).map(|n| (http::header::SET_COOKIE, format!("c{n}=1").parse().unwrap()));
        let uri = "https://h.example/".parse().unwrap();
        judge_by_defaults(&CookieContext::new(&uri, &Method::GET), &lines.collect())
    }

    impl CookieStorage for Counts {
        fn header(&self, _context: &CookieContext<'_>) -> Option<HeaderValue> {
            Some(HeaderValue::from_static("own=1"))
        }

        fn store_response(&self, _: &CookieContext<'_>, _: &HeaderMap) -> ResponseCookies {
            cookies(1)
        }

        fn inspect_response(&self, _: &CookieContext<'_>, _: &HeaderMap) -> ResponseCookies {
            cookies(2)
        }
    }

    #[test]
    fn a_pointer_to_a_storage_answers_as_the_storage_does() {
        let shared: Arc<dyn CookieStorage> = Arc::new(Counts);
        let rows: [(&str, &dyn CookieStorage); 4] = [
            ("&T", &&Counts),
            ("Box", &Box::new(Counts)),
            ("Arc", &Arc::new(Counts)),
            ("dyn", &shared),
        ];
        let uri = "https://h.example/".parse().unwrap();
        let (context, headers) = (CookieContext::new(&uri, &Method::GET), HeaderMap::new());
        let mut wrong = Vec::new();
        for (row, storage) in rows {
            let header = storage.header(&context);
            let stored = storage.store_response(&context, &headers).accepted().len();
            let inspected = storage.inspect_response(&context, &headers).accepted().len();
            if (header.is_some(), stored, inspected) != (true, 1, 2) {
                wrong.push(format!("{row}: {header:?}, {stored}, {inspected}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
