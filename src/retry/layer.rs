use tower_layer::Layer;

use super::{
    policy::RetryPolicy,
    readiness::Readiness,
    replay::{ReplayByTrait, ReplayWith},
    service::RetryService,
    source::Source,
};

/// Sends a failed request again, as a [`Policy`](super::Policy) decides.
///
/// The request body must implement [`ReplayableBody`](super::ReplayableBody), or
/// [`replay_with`](Self::replay_with) must be told how to copy it. The response body is untouched.
/// If it fails after its head was returned, the caller gets that error: nothing is retried then.
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
    /// Retries requests as `policy` decides, if their body is a
    /// [`ReplayableBody`](super::ReplayableBody).
    ///
    /// ```
    /// use tower_outbound::retry::{RetryLayer, RetryPolicy};
    ///
    /// // Never more than two attempts, whatever the failure.
    /// let layer = RetryLayer::new(RetryPolicy::new().total(1));
    /// ```
    #[must_use]
    pub const fn new(policy: P) -> Self {
        Self { policy, replay: ReplayByTrait }
    }
}

/// For `RetryLayer<RetryPolicy>` alone, so that `RetryLayer::default()` needs no type annotation.
impl Default for RetryLayer {
    fn default() -> Self {
        Self::new(RetryPolicy::default())
    }
}

impl<P, R> RetryLayer<P, R> {
    /// Copies request bodies with a function, for a type that is not a
    /// [`ReplayableBody`](super::ReplayableBody).
    ///
    /// If the function returns `None`, the request is sent once. The copy must send every byte
    /// again, which the `Clone` of a stream often does not.
    ///
    /// A function cannot report that an attempt waits for more of the body, and not for the server,
    /// as [`ReplayableBody::is_starved`](super::ReplayableBody::is_starved) does. So an attempt
    /// that runs out of time in such a wait is retried.
    ///
    /// Default: [`ReplayableBody::try_replay`](super::ReplayableBody::try_replay).
    ///
    /// ```
    /// use tower_outbound::retry::{RetryLayer, RetryPolicy};
    ///
    /// /// The body type of another crate.
    /// enum Body { Bytes(Vec<u8>), Stream }
    ///
    /// let layer = RetryLayer::new(RetryPolicy::new()).replay_with(|body: &Body| match body {
    ///     Body::Bytes(bytes) => Some(Body::Bytes(bytes.clone())),
    ///     Body::Stream => None,
    /// });
    /// ```
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
