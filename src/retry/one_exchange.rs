//! `OneExchangeLayer`: the caller's word that a client makes one exchange per call.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::Request;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::witness::Witness;

/// Tells the retries above that the client below sends one request per call, so that a POST that
/// was never sent is retried.
///
/// Put it directly above a client that drops the extensions of a request, as reqwest does. A
/// [`RetryLayer`](super::RetryLayer) repeats a POST only if the server cannot have processed it. It
/// [finds out](super#never-sent) by an extension of the request whether the client made one
/// exchange or several. If the client drops the extension and then waits, the layer assumes several
/// exchanges. It assumes the same for each error of reqwest, which follows redirects by default.
/// Without this layer a POST to a port where nothing listens is then not retried.
///
/// The client below must not follow redirects and must not retry. Otherwise a POST that was
/// processed may be repeated. In reqwest turn both off on the client's builder:
/// `redirect(reqwest::redirect::Policy::none())` and `retry(reqwest::retry::never())`. The guide
/// has the whole client.
///
/// Put a layer that follows redirects or retries above this one. Above hyper-util's client this
/// layer is needed only below a redirector that drops the extensions of its hops.
///
/// ```
/// use std::io;
/// use http::{Request, Response};
/// use http_body_util::{Empty, Full};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
/// use tower_outbound::retry::{Backoff, OneExchangeLayer, RetryError, RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// // Drops the request before it waits, as a client that converts requests does.
/// let converts = service_fn(|request: Request<Empty<&'static [u8]>>| {
///     drop(request);
///     async {
///         tokio::task::yield_now().await;
///         Err::<Response<Full<&[u8]>>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
///     }
/// });
/// let client = ServiceBuilder::new()
///     .layer(RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())))
///     .layer(OneExchangeLayer::new())
///     .service(converts);
///
/// let error = client.oneshot(Request::post("http://h.example/").body(Empty::new())?).await.unwrap_err();
/// let error = error.downcast::<RetryError>()?;
/// assert_eq!(error.history().attempts().len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct OneExchangeLayer;

impl OneExchangeLayer {
    /// Claims that the service below makes one exchange per call.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for OneExchangeLayer {
    type Service = OneExchangeService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OneExchangeService { inner }
    }
}

/// The service of [`OneExchangeLayer`].
#[derive(Clone, Copy, Debug)]
pub struct OneExchangeService<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for OneExchangeService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = OneExchangeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let witness = Witness::take(request.extensions_mut());
        if let Some(witness) = &witness {
            witness.declare();
        }
        OneExchangeFuture { response: self.inner.call(request), witness }
    }
}

pin_project! {
    /// The response future of [`OneExchangeService`].
    pub struct OneExchangeFuture<F> {
        #[pin]
        response: F,
        // Held until this future is dropped: when an error is judged, no head is gone.
        witness: Option<Witness>,
    }
}

impl<F, R, E> Future for OneExchangeFuture<F>
where
    F: Future<Output = Result<R, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.response.poll(cx));
        if let (Ok(_), Some(witness)) = (&outcome, this.witness) {
            witness.answered();
        }
        Poll::Ready(outcome)
    }
}

impl<F> fmt::Debug for OneExchangeFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneExchangeFuture").finish_non_exhaustive()
    }
}
