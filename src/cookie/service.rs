use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    Request, Response, Uri,
    header::{COOKIE, Entry},
};
use tower_service::Service;

use super::{
    control::{CallerCookies, CookieControl, HostDecides, restrictions},
    future::{Exchange, ResponseFuture},
    header,
    jar::CookieJar,
    jar::storage::{CookieContext, CookieStorage},
    model::data::SEPARATOR,
    model::same_site::SiteForCookies,
};

/// Adds cookies to requests and stores those of responses. Created by
/// [`CookieLayer`](super::CookieLayer).
///
/// It is ready when the inner service is ready.
pub struct CookieService<S, J = CookieJar> {
    inner: S,
    storage: Arc<J>,
    default_origin: Option<Arc<Uri>>,
    caller_cookies: CallerCookies,
    expect_restrictions: bool,
}

impl<S, J> CookieService<S, J> {
    pub(super) const fn new(
        inner: S,
        storage: Arc<J>,
        default_origin: Option<Arc<Uri>>,
        caller_cookies: CallerCookies,
        expect_restrictions: bool,
    ) -> Self {
        Self { inner, storage, default_origin, caller_cookies, expect_restrictions }
    }
}

impl<S: fmt::Debug, J: fmt::Debug> fmt::Debug for CookieService<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieService")
            .field("inner", &self.inner)
            .field("storage", &self.storage)
            .field("caller_cookies", &self.caller_cookies)
            .field("expect_restrictions", &self.expect_restrictions)
            .finish_non_exhaustive()
    }
}

// Not derived: that would ask for `J: Clone`, and a storage behind a lock has none.
impl<S: Clone, J> Clone for CookieService<S, J> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            storage: Arc::clone(&self.storage),
            default_origin: self.default_origin.clone(),
            caller_cookies: self.caller_cookies,
            expect_restrictions: self.expect_restrictions,
        }
    }
}

impl<S, J, B, RB> Service<Request<B>> for CookieService<S, J>
where
    S: Service<Request<B>, Response = Response<RB>>,
    J: CookieStorage,
{
    type Response = Response<RB>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, J>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let (control, site) = restrictions(request.extensions(), self.expect_restrictions);
        let exchange = self.exchange(&request, control, site);
        if let Some(exchange) = &exchange
            && control.send
        {
            self.add_cookies(&mut request, &exchange.context());
        }
        // As it is: it was polled ready, and a clone would not be.
        ResponseFuture::new(self.inner.call(request), exchange)
    }
}

impl<S, J: CookieStorage> CookieService<S, J> {
    fn add_cookies<B>(&self, request: &mut Request<B>, context: &CookieContext<'_>) {
        // With `Replace` the caller's header stays as it is, and the jar is not even asked: what is
        // not sent must not count as used.
        let headers = request.headers_mut();
        // One search for both questions: whether the caller has one, and where it goes.
        if let Ok(Entry::Vacant(place)) = headers.try_entry(COOKIE) {
            if let Some(cookies) = self.storage.header(context) {
                place.insert(cookies);
            }
            return;
        }
        if self.caller_cookies == CallerCookies::Merge
            && let Some(own) = header::own(headers)
        {
            // The limits are those of one header, so the caller's bytes and the `; ` behind them
            // count.
            let cookies = self.storage.header(&context.beside(own.len() + SEPARATOR.len()));
            if let Some(merged) = header::merged(own, cookies.as_ref()) {
                header::replace(headers, merged);
            }
        }
    }
}

impl<S, J> CookieService<S, J> {
    /// What is kept of a request for its response, since the request and its extensions go to the
    /// inner service. `None` if no host is known.
    fn exchange<B>(
        &self,
        request: &Request<B>,
        control: CookieControl,
        site: Option<SiteForCookies>,
    ) -> Option<Exchange<J>> {
        let extensions = request.extensions();
        let mut exchange = Exchange {
            storage: Arc::clone(&self.storage),
            uri: self.absolute(request.uri())?,
            #[cfg(any(feature = "follow-redirect", feature = "tracing"))]
            reached: None,
            method: request.method().clone(),
            #[cfg(feature = "tracing")]
            is_restricted: !(control.send && control.store) || site.is_some(),
            site,
            jar: extensions.get().cloned(),
            #[cfg(feature = "follow-redirect")]
            location: extensions.get().cloned(),
            store: control.store,
        };
        if extensions.get::<HostDecides>().is_some() {
            exchange.take_host(request.headers())?;
        }
        Some(exchange)
    }

    /// The URI that decides which cookies match. `None` if no host is known.
    fn absolute(&self, uri: &Uri) -> Option<Uri> {
        if uri.authority().is_some() {
            return Some(uri.clone());
        }
        let mut parts = Uri::clone(self.default_origin.as_deref()?).into_parts();
        parts.path_and_query = uri.path_and_query().cloned();
        Uri::from_parts(parts).ok()
    }
}
