use tower_layer::Layer;

use super::{
    policy::RetryPolicy,
    readiness::Readiness,
    replay::{ReplayByTrait, ReplayWith},
    service::RetryService,
    source::Source,
};

/// Sends a request again when a [`Policy`](super::Policy) says so.
///
/// The request body must be one that can be sent again: it implements
/// [`ReplayableBody`](super::ReplayableBody), or [`replay_with`](Self::replay_with) says how to
/// copy it. The response body is untouched. A failure after the head of the response is the
/// caller's: the bodies of two responses are never joined.
///
/// Put this layer outside the cookies, so that an attempt sends the cookies that the attempt before
/// it received. Put it inside redirects, so that each hop has its own retries. Put it inside
/// decompression, so that a failed response is drained without being inflated.
///
/// Default: [`RetryPolicy::default`].
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{Empty, Full};
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_outbound::retry::{Backoff, RetryHistory, RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// static SENT: AtomicU32 = AtomicU32::new(0);
/// let server = service_fn(|_request: Request<Empty<&'static [u8]>>| async {
///     let status = if SENT.fetch_add(1, Ordering::Relaxed) < 2 { 503 } else { 200 };
///     Response::builder().status(status).body(Full::new(&b""[..]))
/// });
/// let client = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())).layer(server);
///
/// let response = client.oneshot(Request::get("http://example.com/").body(Empty::new())?).await?;
/// assert_eq!(response.status(), StatusCode::OK);
/// let history = response.extensions().get::<RetryHistory>().expect("two attempts failed");
/// assert_eq!(history.attempts().len(), 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<P = RetryPolicy, R = ReplayByTrait> {
    policy: P,
    replay: R,
}

impl<P> RetryLayer<P> {
    /// Retries requests as `policy` decides.
    #[must_use]
    pub const fn new(policy: P) -> Self {
        Self { policy, replay: ReplayByTrait }
    }
}

/// Only for these types, so that `RetryLayer::default()` needs no annotation.
impl Default for RetryLayer {
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}

impl<P, R> RetryLayer<P, R> {
    /// How to copy a body that does not implement [`ReplayableBody`](super::ReplayableBody). If
    /// `replay` returns `None`, the request is sent once.
    ///
    /// The copy must send every byte again; the `Clone` of a stream often does not. A function
    /// cannot say that an attempt waits for the body's own source, as
    /// [`ReplayableBody::is_starved`](super::ReplayableBody::is_starved) does. So such an attempt
    /// is retried when its time is up.
    #[must_use]
    pub fn replay_with<F>(self, replay: F) -> RetryLayer<P, ReplayWith<F>> {
        RetryLayer { policy: self.policy, replay: ReplayWith::new(replay) }
    }
}

impl<S: Clone, P: Clone, R: Clone> Layer<S> for RetryLayer<P, R> {
    type Service = RetryService<S, P, R>;

    fn layer(&self, inner: S) -> Self::Service {
        RetryService {
            source: Source::of(&inner),
            inner,
            policy: self.policy.clone(),
            replay: self.replay.clone(),
            readiness: Readiness::default(),
        }
    }
}
