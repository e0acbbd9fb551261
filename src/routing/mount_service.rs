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

/// What can be mounted: a service that is cloned for each request, shared by threads, and called in
/// spawned tasks.
///
/// Every service with these bounds implements it, so it is a name for them in bounds of your own.
/// If a bound is missing, the compiler names it.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, service_fn, util::BoxCloneSyncService};
/// use tower_outbound::routing::RoutingLayer;
///
/// let legacy = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let builder = RoutingLayer::<(), (), ()>::builder();
/// builder.mount_service("https://legacy.example", BoxCloneSyncService::new(legacy));
/// ```
///
/// A box that is not `Sync` is refused, since all clones of a
/// [`RoutingService`](super::RoutingService) share the mounts:
///
/// ```compile_fail,E0277
/// use http::{Request, Response};
/// use tower::{BoxError, service_fn, util::BoxCloneService};
/// use tower_outbound::routing::RoutingLayer;
///
/// let legacy = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let builder = RoutingLayer::<(), (), ()>::builder();
/// builder.mount_service("https://legacy.example", BoxCloneService::new(legacy));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be mounted as a client of `Request<{B}>` that answers `Response<{RB}>`",
    label = "cannot be mounted",
    note = "a mounted service is a `Service<Request<{B}>, Response = Response<{RB}>>`, as the service below is, and `Clone + Send + Sync + 'static`; its future is `Send + 'static`, its error turns into a `tower::BoxError`",
    note = "`tower::util::BoxCloneSyncService` is a box of this kind; `tower::buffer::Buffer` makes a service that is not `Clone` one"
)]
pub trait MountService<B, RB>:
    Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<M, B, RB> MountService<B, RB> for M where
    M: Service<Request<B>, Response = Response<RB>, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A mounted service of any type.
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
    M: MountService<B, RB>,
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
