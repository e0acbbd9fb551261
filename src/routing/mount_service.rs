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

use super::mount::{Mount, MountError};

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
    /// The response of a clone. The first poll makes the clone and calls it. With `names_mount` an
    /// error is a [`MountError`].
    fn response(
        self: Arc<Self>,
        request: Request<B>,
        prefix: Arc<str>,
        names_mount: bool,
    ) -> BoxedResponse<RB>;
}

impl<M, B, RB> Call<B, RB> for M
where
    M: MountService<B, RB>,
    B: Send + 'static,
{
    fn response(
        self: Arc<Self>,
        request: Request<B>,
        prefix: Arc<str>,
        names_mount: bool,
    ) -> BoxedResponse<RB> {
        // In its place: `Box::pin` copies all of it, which is 112 instructions.
        let place = Box::<MountFuture<M, B>>::new_uninit();
        let state = State::Selected { service: self, request: Some(request) };
        let future = Box::write(place, MountFuture { state, prefix, names_mount });
        Box::into_pin(future)
    }
}

pin_project! {
    /// All that a request needs of its mount, in the box. A caller's future that moves does not move
    /// it, which saves 230 instructions of a request over hyper.
    struct MountFuture<M, B>
    where
        M: Service<Request<B>>,
    {
        #[pin]
        state: State<M, B>,
        prefix: Arc<str>,
        names_mount: bool,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<M, B>
    where
        M: Service<Request<B>>,
    {
        // Polls nothing: the first poll clones and calls the mounted service.
        Selected { service: Arc<M>, request: Option<Request<B>> },
        // Polls the readiness of the clone, then the call. In a box of its own, since most clones
        // are ready at once.
        Waiting { response: Pin<Box<Oneshot<M, Request<B>>>> },
        // Polls the call of a clone that was ready at once.
        Called { #[pin] response: M::Future },
    }
}

impl<M, B, RB> Future for MountFuture<M, B>
where
    M: Service<Request<B>, Response = Response<RB>> + Clone,
    M::Error: Into<BoxError>,
{
    type Output = Result<Response<RB>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Selected { service, request } = this.state.as_mut().project() {
            // Polled after completion, which no caller should do: it stays pending.
            let Some(request) = request.take() else { return Poll::Pending };
            let mut service = M::clone(service);
            match service.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    let response = service.call(request);
                    this.state.set(State::Called { response });
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(of_mount(error, this.prefix, *this.names_mount)));
                }
                Poll::Pending => {
                    let response = Box::pin(Oneshot::new(service, request));
                    this.state.set(State::Waiting { response });
                }
            }
        }
        let polled = match this.state.project() {
            StateProj::Called { response } => response.poll(cx),
            StateProj::Waiting { response } => response.as_mut().poll(cx),
            StateProj::Selected { .. } => return Poll::Pending,
        };
        match polled {
            Poll::Ready(Ok(mut response)) => {
                response.extensions_mut().insert(Mount(Arc::clone(this.prefix)));
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => {
                Poll::Ready(Err(of_mount(error, this.prefix, *this.names_mount)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A mount's own error, or the same with the name of the mount.
fn of_mount(error: impl Into<BoxError>, mount: &Arc<str>, names_mount: bool) -> BoxError {
    if names_mount { MountError::new(Arc::clone(mount), error.into()).into() } else { error.into() }
}
