use std::{
    borrow::Cow,
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Method, Response, Uri, header::SET_COOKIE};
use pin_project_lite::pin_project;

use super::{
    control::named_by_host,
    jar::CookieJar,
    jar::storage::{CookieContext, CookieStorage},
    model::same_site::SiteForCookies,
};

pin_project! {
    /// The response future of [`CookieService`](super::CookieService).
    pub struct ResponseFuture<F, J> {
        #[pin]
        inner: F,
        exchange: Option<Exchange<J>>,
    }
}

/// What is known of the request once its response comes.
pub(super) struct Exchange<J> {
    pub(super) storage: Arc<J>,
    pub(super) uri: Uri,
    /// The request's own URI, if its `Host` header gave the other one its host. Boxed: few requests
    /// have it, and a future is moved several times.
    #[cfg(any(feature = "follow-redirect", feature = "tracing"))]
    pub(super) reached: Option<Box<Uri>>,
    pub(super) method: Method,
    pub(super) site: Option<SiteForCookies>,
    /// The request's own jar, for a layer that has none.
    pub(super) jar: Option<CookieJar>,
    pub(super) store: bool,
    /// Where a redirect policy wants to know whether a `Location` is empty.
    #[cfg(feature = "follow-redirect")]
    pub(super) location: Option<super::hop::LocationNote>,
    /// Whether the request's extensions forbid some cookies.
    #[cfg(feature = "tracing")]
    pub(super) is_restricted: bool,
}

impl<J> Exchange<J> {
    pub(super) fn context(&self) -> CookieContext<'_> {
        self.context_of(&self.uri)
    }

    /// Lets the `Host` header decide on the cookies. `None` if it names no host.
    pub(super) fn take_host(&mut self, headers: &HeaderMap) -> Option<()> {
        let named = named_by_host(self.uri.clone(), headers)?;
        let reached = mem::replace(&mut self.uri, named);
        #[cfg(any(feature = "follow-redirect", feature = "tracing"))]
        {
            self.reached = Some(Box::new(reached));
        }
        #[cfg(not(any(feature = "follow-redirect", feature = "tracing")))]
        drop(reached);
        Some(())
    }

    fn context_of<'a>(&'a self, uri: &'a Uri) -> CookieContext<'a> {
        CookieContext::new(uri, &self.method)
            .on_behalf_of(self.site.as_ref())
            .with_jar(self.jar.as_ref().map(|jar| jar as _))
    }

    /// The URI that answered: another one if redirects inside this layer were followed and say so.
    #[cfg(feature = "follow-redirect")]
    fn answered_by<'a>(&'a self, extensions: &'a http::Extensions) -> Cow<'a, Uri> {
        let Some(tower_http::follow_redirect::RequestUri(uri)) = extensions.get() else {
            return Cow::Borrowed(&self.uri);
        };
        let is_same =
            |other: &Uri| (uri.scheme(), uri.authority()) == (other.scheme(), other.authority());
        match &self.reached {
            // If no redirect was followed, it is the request's own URI, which may be relative.
            _ if uri.authority().is_none() => Cow::Borrowed(&self.uri),
            // The `Host` header still decides, since no hop has left the origin.
            Some(reached) if is_same(reached.as_ref()) => {
                let mut parts = uri.clone().into_parts();
                parts.authority = self.uri.authority().cloned();
                Uri::from_parts(parts).map_or(Cow::Borrowed(&self.uri), Cow::Owned)
            }
            _ => Cow::Borrowed(uri),
        }
    }

    #[cfg(not(feature = "follow-redirect"))]
    const fn answered_by<'a>(&'a self, _extensions: &'a http::Extensions) -> Cow<'a, Uri> {
        Cow::Borrowed(&self.uri)
    }

    /// What the client connected to for this response, whatever a `Host` header says.
    #[cfg(feature = "tracing")]
    fn connected_to<'a>(&'a self, extensions: &'a http::Extensions) -> &'a Uri {
        #[cfg(feature = "follow-redirect")]
        if let Some(tower_http::follow_redirect::RequestUri(uri)) = extensions.get()
            && uri.authority().is_some()
        {
            return uri;
        }
        #[cfg(not(feature = "follow-redirect"))]
        let _ = extensions;
        self.reached.as_deref().unwrap_or(&self.uri)
    }

    /// Tells the redirect policy and the log what they cannot see, or not in time.
    #[cfg_attr(
        not(any(feature = "follow-redirect", feature = "tracing")),
        allow(unused_variables, clippy::unused_self, reason = "there is no one to tell")
    )]
    fn tell_redirect<B>(&self, response: &Response<B>) {
        let (status, headers) = (response.status(), response.headers());
        #[cfg(feature = "follow-redirect")]
        if let Some(location) = &self.location {
            location.set(status, headers);
        }
        #[cfg(feature = "tracing")]
        if self.is_restricted {
            let from = self.connected_to(response.extensions());
            if let Some(to) = super::hop::leads_away(from, status, headers) {
                super::event::restricted_redirect(from, &to);
            }
        }
    }
}

impl<F, J> ResponseFuture<F, J> {
    pub(super) const fn new(inner: F, exchange: Option<Exchange<J>>) -> Self {
        Self { inner, exchange }
    }
}

impl<F, J, RB, E> Future for ResponseFuture<F, J>
where
    F: Future<Output = Result<Response<RB>, E>>,
    J: CookieStorage,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // An error passes through untouched: it sets no cookie.
        let mut response = ready!(this.inner.poll(cx))?;
        let Some(exchange) = this.exchange else { return Poll::Ready(Ok(response)) };
        exchange.tell_redirect(&response);
        if response.headers().contains_key(SET_COOKIE) {
            // A 302's cookies belong to the host that answered, not to the one it points to, nor to
            // the one that was asked first.
            let uri = exchange.answered_by(response.extensions());
            let (context, headers) = (exchange.context_of(&uri), response.headers());
            let cookies = if exchange.store {
                exchange.storage.store_response(&context, headers)
            } else {
                exchange.storage.inspect_response(&context, headers)
            };
            // Also for what is not stored, so that a caller who opted out can still look.
            response.extensions_mut().insert(cookies);
        }
        Poll::Ready(Ok(response))
    }
}

impl<F, J> fmt::Debug for ResponseFuture<F, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
