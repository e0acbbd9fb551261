use bytes::Buf;
use http_body_util::{Either, Empty, Full};

/// A request body that can be sent again from its first byte.
///
/// Implement it for your own body type. For a foreign body type, give
/// [`RetryLayer::replay_with`](crate::retry::RetryLayer::replay_with) a function. For a streamed
/// body, use [`ReplayBodyLayer`](crate::retry::ReplayBodyLayer). `Clone` is not enough: the clone
/// of a stream may share the stream, and be empty by the time it is sent.
///
/// ```
/// # use bytes::Bytes;
/// use tower_outbound::retry::ReplayableBody;
///
/// /// A body whose bytes are all in memory.
/// struct Json(Bytes);
///
/// impl ReplayableBody for Json {
///     fn try_replay(&self) -> Option<Self> {
///         Some(Self(self.0.clone()))
///     }
/// }
/// ```
///
/// Without `ReplayBodyLayer` a streamed body does not compile. The note of the error says what to
/// do:
///
/// ```compile_fail,E0277
/// # use {bytes::Bytes, http::{Request, Response}, http_body_util::{Full, StreamBody}, tower::{BoxError, Layer, ServiceExt}};
/// # use tower_outbound::retry::{ReplayBodyLayer, RetryLayer, RetryPolicy};
/// # type Chunks = futures_util::stream::Empty<Result<http_body::Frame<Bytes>, BoxError>>;
/// let server = tower::service_fn(|_: Request<StreamBody<Chunks>>| async {
///     Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
/// });
/// let client = RetryLayer::new(RetryPolicy::new()).layer(server);
/// let _ = ServiceExt::oneshot(client, Request::new(StreamBody::new(futures_util::stream::empty())));
/// ```
///
/// With the layer it compiles:
///
/// ```
/// # use {bytes::Bytes, http::{Request, Response}, http_body_util::{Full, StreamBody}, tower::{BoxError, Layer, ServiceExt}};
/// # use tower_outbound::retry::{ReplayBody, ReplayBodyLayer, RetryLayer, RetryPolicy};
/// # type Chunks = futures_util::stream::Empty<Result<http_body::Frame<Bytes>, BoxError>>;
/// let server = tower::service_fn(|_: Request<ReplayBody<StreamBody<Chunks>>>| async {
///     Ok::<_, BoxError>(Response::new(Full::<Bytes>::default()))
/// });
/// let client = ReplayBodyLayer::new().layer(RetryLayer::new(RetryPolicy::new()).layer(server));
/// let _ = ServiceExt::oneshot(client, Request::new(StreamBody::new(futures_util::stream::empty())));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent a second time, so `RetryLayer` cannot retry it",
    label = "this request body is not replayable",
    note = "for a streamed body put `tower_outbound::retry::ReplayBodyLayer` outside this layer; for bytes use \
            `http_body_util::Full` or `Empty`",
    note = "for a body of your own implement `tower_outbound::retry::ReplayableBody`; for a foreign one say how to copy \
            it: `RetryLayer::new(policy).replay_with(|body: &Body| body.try_clone())`"
)]
pub trait ReplayableBody: Sized {
    /// Returns a body that sends the same bytes from the first on, or `None` if that is not
    /// possible.
    fn try_replay(&self) -> Option<Self>;

    /// Whether [`try_replay`](Self::try_replay) would return a body now.
    ///
    /// Default: true.
    fn can_replay(&self) -> bool {
        true
    }

    /// Whether the attempt that sends this body, or a copy of it, waits for more of the body, and
    /// not for the server.
    ///
    /// If such an attempt runs out of time, it is not retried: the next attempt would wait for the
    /// same data.
    ///
    /// Default: false, for a body whose bytes are all in memory.
    fn is_starved(&self) -> bool {
        false
    }
}

impl<D> ReplayableBody for Empty<D> {
    fn try_replay(&self) -> Option<Self> {
        Some(Self::new())
    }
}

impl<D: Buf + Clone> ReplayableBody for Full<D> {
    fn try_replay(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl<L: ReplayableBody, R: ReplayableBody> ReplayableBody for Either<L, R> {
    fn try_replay(&self) -> Option<Self> {
        match self {
            Self::Left(body) => body.try_replay().map(Self::Left),
            Self::Right(body) => body.try_replay().map(Self::Right),
        }
    }

    fn can_replay(&self) -> bool {
        match self {
            Self::Left(body) => body.can_replay(),
            Self::Right(body) => body.can_replay(),
        }
    }

    fn is_starved(&self) -> bool {
        match self {
            Self::Left(body) => body.is_starved(),
            Self::Right(body) => body.is_starved(),
        }
    }
}
