use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{BoxError, util::Oneshot};
use tower_service::Service;

/// A mounted service, whatever it is made of.
pub(super) type Mounted<B, RB> = Arc<dyn Call<B, RB>>;
pub(super) type BoxedResponse<RB> =
    Pin<Box<dyn Future<Output = Result<Response<RB>, BoxError>> + Send>>;

/// A service as a trait object that is called without being cloned into a box of its own first: the
/// future's is the only one.
pub(super) trait Call<B, RB>: Send + Sync {
    /// Calls a clone, at once if that is ready: then the box holds the response alone, and neither
    /// service nor request is moved there to wait.
    fn oneshot(
        &self,
        request: Request<B>,
        cx: &mut Context<'_>,
    ) -> Result<BoxedResponse<RB>, BoxError>;
}

impl<M, B, RB> Call<B, RB> for M
where
    M: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send + 'static,
    B: Send + 'static,
{
    fn oneshot(
        &self,
        request: Request<B>,
        cx: &mut Context<'_>,
    ) -> Result<BoxedResponse<RB>, BoxError> {
        let mut service = self.clone();
        match service.poll_ready(cx).map_err(Into::into)? {
            Poll::Ready(()) => Ok(Box::pin(BoxedError { response: service.call(request) })),
            Poll::Pending => Ok(Box::pin(BoxedError { response: Oneshot::new(service, request) })),
        }
    }
}

pin_project! {
    struct BoxedError<F> {
        #[pin]
        response: F,
    }
}

impl<F, T, E> Future for BoxedError<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().response.poll(cx).map_err(Into::into)
    }
}
