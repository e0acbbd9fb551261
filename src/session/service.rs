use std::{
    borrow::Cow,
    fmt,
    mem::replace,
    task::{Context, Poll},
};

use http::{Request, Response, Uri};
use tower_service::Service;

use super::{
    SessionKey, SessionPool, SessionStore, SessionVersion,
    future::{BoxError, ResponseFuture},
    pool::Visit,
};
use crate::cookie::{HostDecides, named_by_host};

/// Gives requests the jar of their session. Created by [`SessionLayer`](super::SessionLayer).
///
/// It is ready when the inner service is ready. A request that waits for its session keeps the
/// inner service's readiness.
pub struct SessionService<C, S> {
    inner: C,
    pool: SessionPool<S>,
    default_origin: Option<Uri>,
}

impl<C, S> SessionService<C, S> {
    pub(super) const fn new(inner: C, pool: SessionPool<S>, default_origin: Option<Uri>) -> Self {
        Self { inner, pool, default_origin }
    }

    /// `None` if the request has no session.
    fn visit<B>(&self, request: &Request<B>) -> Option<Visit<S>> {
        let extensions = request.extensions();
        let key = extensions.get::<SessionKey>()?;
        let uri = self.absolute(request.uri())?;
        // The host by which the cookie layer chooses the cookies.
        let uri = match extensions.get::<HostDecides>() {
            Some(HostDecides) => Cow::Owned(named_by_host(uri.into_owned(), request.headers())?),
            None => uri,
        };
        self.pool.visit(key, &uri, extensions.get::<SessionVersion>())
    }

    fn absolute<'a>(&self, uri: &'a Uri) -> Option<Cow<'a, Uri>> {
        if uri.authority().is_some() {
            return Some(Cow::Borrowed(uri));
        }
        self.default_origin.clone().map(Cow::Owned)
    }
}

impl<C, S, B, RB> Service<Request<B>> for SessionService<C, S>
where
    C: Service<Request<B>, Response = Response<RB>> + Clone,
    C::Error: Into<BoxError>,
    S: SessionStore,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = ResponseFuture<C, B, RB, S>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let Some(visit) = self.visit(&request) else {
            return ResponseFuture::without(self.inner.call(request));
        };
        if !visit.needs_load() {
            request.extensions_mut().insert(visit.jar().clone());
            return ResponseFuture::warm(self.inner.call(request), visit);
        }
        // The service that was polled ready is used. A clone would not be ready.
        let clone = self.inner.clone();
        ResponseFuture::cold(replace(&mut self.inner, clone), request, visit)
    }
}

impl<C: Clone, S> Clone for SessionService<C, S> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            pool: self.pool.clone(),
            default_origin: self.default_origin.clone(),
        }
    }
}

impl<C: fmt::Debug, S> fmt::Debug for SessionService<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("inner", &self.inner)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
