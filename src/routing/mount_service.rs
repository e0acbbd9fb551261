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

/// A service that can be mounted: it is cloned for each request, shared by threads, and called in
/// spawned tasks.
///
/// Every service with these bounds implements it. Use it as a short name for the bounds in your own
/// code. If a bound is missing, the compiler names it.
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

/// A service as a trait object whose call needs one box, that of the future: the service is not
/// cloned into a box of its own.
pub(super) trait Call<B, RB>: Send + Sync {
    /// Calls a clone, at once if the clone is ready. Then the box has the response future alone,
    /// and neither service nor request is moved there to wait.
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
