use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response, Uri, header::COOKIE};
use tower_service::Service;

use super::{
    control::{CallerCookies, CookieControl},
    future::{Exchange, ResponseFuture},
    header,
    jar::CookieJar,
    jar::storage::{CookieContext, CookieStorage},
};

/// The service of [`CookieLayer`](super::CookieLayer).
pub struct CookieService<S, J = CookieJar> {
    pub(super) inner: S,
    pub(super) storage: Arc<J>,
    pub(super) default_origin: Option<Uri>,
    pub(super) caller_cookies: CallerCookies,
}

impl<S: fmt::Debug, J: fmt::Debug> fmt::Debug for CookieService<S, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieService")
            .field("inner", &self.inner)
            .field("storage", &self.storage)
            .field("caller_cookies", &self.caller_cookies)
            .finish_non_exhaustive()
    }
}

impl<S: Clone, J> Clone for CookieService<S, J> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            storage: Arc::clone(&self.storage),
            default_origin: self.default_origin.clone(),
            caller_cookies: self.caller_cookies,
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
        let extensions = request.extensions();
        let control = extensions.get::<CookieControl>().copied().unwrap_or_default();
        let exchange = self.absolute(request.uri()).map(|uri| Exchange {
            storage: Arc::clone(&self.storage),
            uri,
            method: request.method().clone(),
            site: extensions.get().cloned(),
            jar: extensions.get().cloned(),
            store: control.store,
        });
        if let Some(exchange) = &exchange
            && control.send
        {
            self.add_cookies(&mut request, &exchange.context());
        }
        ResponseFuture::new(self.inner.call(request), exchange)
    }
}

impl<S, J: CookieStorage> CookieService<S, J> {
    fn add_cookies<B>(&self, request: &mut Request<B>, context: &CookieContext<'_>) {
        let headers = request.headers_mut();
        if !headers.contains_key(COOKIE) {
            if let Some(cookies) = self.storage.header(context) {
                headers.insert(COOKIE, cookies);
            }
        } else if self.caller_cookies == CallerCookies::Merge
            && let Some(own) = header::own(headers)
        {
            let cookies = self.storage.header(&context.beside(own.len() + 2));
            if let Some(merged) = header::merged(own, cookies.as_ref()) {
                header::replace(headers, merged);
            }
        }
    }
}

impl<S, J> CookieService<S, J> {
    /// The URI that the cookies go by; `None` where it names no host.
    fn absolute(&self, uri: &Uri) -> Option<Uri> {
        if uri.authority().is_some() {
            return Some(uri.clone());
        }
        let mut parts = self.default_origin.clone()?.into_parts();
        parts.path_and_query = uri.path_and_query().cloned();
        Uri::from_parts(parts).ok()
    }
}
