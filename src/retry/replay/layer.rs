use tower_layer::Layer;

use super::service::ReplayBodyService;

/// Makes streamed request bodies replayable: `Request<B>` becomes `Request<ReplayBody<B>>`.
///
/// Put it outside [`RetryLayer`](crate::retry::RetryLayer), and outside the mounts too, because all
/// mounts must have one request body type.
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body::Frame;
/// use http_body_util::{BodyExt, Empty, StreamBody};
/// use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
/// use tower_outbound::retry::{Backoff, ReplayBody, ReplayBodyLayer, RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let chunks = futures_util::stream::iter([Ok::<_, BoxError>(Frame::data(Bytes::from("up")))]);
/// let client = ServiceBuilder::new()
///     .layer(ReplayBodyLayer::new().max_bytes(1024 * 1024))
///     .layer(RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())))
///     .service(service_fn(|request: Request<ReplayBody<_>>| async move {
///         assert_eq!(request.into_body().collect().await?.to_bytes(), "up");
///         Ok::<_, BoxError>(Response::new(Empty::<Bytes>::new()))
///     }));
/// client.oneshot(Request::put("http://h.example/").body(StreamBody::new(chunks))?).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Redirects
///
/// A 307 or 308 asks for the body at another URI. tower-http's `FollowRedirect` returns such a
/// response unless its policy copies bodies, as [`RedirectPolicy`](crate::RedirectPolicy) does. Put
/// the redirects between this layer and the retries, so that each hop has all of the retries. If
/// more than [`max_bytes`](Self::max_bytes) were sent before the 307 came, the request to the other
/// URI ends with an error, since the body can no longer be sent whole.
#[cfg_attr(feature = "follow-redirect", doc = "```")]
#[cfg_attr(not(feature = "follow-redirect"), doc = "```ignore")]
/// # use {bytes::Bytes, http_body_util::{BodyExt, Empty, Full}};
/// # use std::sync::atomic::{AtomicUsize, Ordering};
/// # use http::{Request, Response};
/// # use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
/// use tower_http::follow_redirect::FollowRedirectLayer;
/// use tower_outbound::RedirectPolicy;
/// use tower_outbound::retry::{Backoff, ReplayBody, ReplayBodyLayer, RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// static SENT: AtomicUsize = AtomicUsize::new(0);
/// let server = service_fn(|request: Request<ReplayBody<Full<Bytes>>>| async move {
///     assert_eq!(request.into_body().collect().await?.to_bytes(), "upload", "the whole body");
///     let status = [503, 307, 503, 200][SENT.fetch_add(1, Ordering::Relaxed)];
///     let response = Response::builder().status(status).header("location", "/moved");
///     Ok::<_, BoxError>(response.body(Empty::<Bytes>::new())?)
/// });
/// let client = ServiceBuilder::new()
///     .layer(ReplayBodyLayer::new())
///     .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
///     .layer(RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())))
///     .service(server);
/// let request = Request::put("http://h.example/").body(Full::from("upload"))?;
/// let response = client.oneshot(request).await?;
/// assert_eq!((response.status().as_u16(), SENT.load(Ordering::Relaxed)), (200, 4));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ReplayBodyLayer {
    max_bytes: usize,
}

impl ReplayBodyLayer {
    /// Keeps up to 64 KiB of each body while it is sent.
    #[must_use]
    pub const fn new() -> Self {
        Self { max_bytes: 64 * 1024 }
    }

    /// How many bytes of a body are kept while it is sent, including its trailers.
    ///
    /// A longer body is sent once, unless the attempt failed before anything of the body was sent.
    /// 0 keeps nothing.
    ///
    /// Default: 64 KiB.
    ///
    /// ```
    /// # use tower_outbound::retry::ReplayBodyLayer;
    /// // Uploads of up to 10 MiB are retried; each keeps its bytes in memory until it ends.
    /// let layer = ReplayBodyLayer::new().max_bytes(10 * 1024 * 1024);
    /// ```
    #[must_use]
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }
}

impl Default for ReplayBodyLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ReplayBodyLayer {
    type Service = ReplayBodyService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ReplayBodyService::new(inner, self.max_bytes)
    }
}
