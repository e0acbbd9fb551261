//! Bodies that can be sent again.

mod body;
mod capture;
mod layer;

use bytes::Buf;
use http_body_util::{Either, Empty, Full};

pub use self::{
    body::ReplayBody,
    layer::{ReplayBodyLayer, ReplayBodyService},
};

/// A request body that can be sent again from its first byte.
///
/// `Clone` is never used for this: the clone of a stream can be a shared one, empty by then.
/// Implement it for a body of your own, or give
/// [`RetryLayer::replay_with`](super::RetryLayer::replay_with) a function for a foreign one. For a
/// streamed body there is [`ReplayBodyLayer`].
///
/// A streamed body without it is refused by the compiler, with a note that says all this:
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
/// and compiles with it:
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
    /// A body that sends the same bytes as this one was going to, or did; `None` if it cannot.
    fn try_replay(&self) -> Option<Self>;

    /// Whether [`try_replay`](Self::try_replay) would still work. Default: true.
    fn can_replay(&self) -> bool {
        true
    }

    /// Whether the attempt that sends this body, or a copy of it, waits for the body's own source.
    /// One that ran out of time so is not retried: the next would wait for the same. Default:
    /// false, the bytes are at hand.
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

/// How a layer copies a request body of type `B` before it is sent. Each request takes a clone of
/// it along.
#[diagnostic::on_unimplemented(
    message = "`RetryLayer` does not know how to send a `{B}` a second time",
    note = "for a streamed body put `tower_outbound::retry::ReplayBodyLayer` outside this layer; for bytes use \
            `http_body_util::Full` or `Empty`",
    note = "for a body of your own implement `tower_outbound::retry::ReplayableBody`; for a foreign one say how to copy \
            it: `RetryLayer::new(policy).replay_with(|body: &Body| body.try_clone())`"
)]
pub trait Replay<B>: Clone {
    /// A copy that sends the same bytes; `None` if there can be none, and the request is then sent
    /// once.
    fn replay(&self, body: &B) -> Option<B>;

    /// Whether [`replay`](Self::replay) would still work for a copy that is kept. Default: true.
    fn can_replay(&self, _body: &B) -> bool {
        true
    }

    /// Whether the attempt that sends a copy of this body waits for the body's own source, as
    /// [`ReplayableBody::is_starved`] has it. Default: false.
    fn is_starved(&self, _body: &B) -> bool {
        false
    }
}

/// The way of [`RetryLayer::new`](super::RetryLayer::new): as [`ReplayableBody`] says.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplayByTrait;

impl<B: ReplayableBody> Replay<B> for ReplayByTrait {
    fn replay(&self, body: &B) -> Option<B> {
        body.try_replay()
    }

    fn can_replay(&self, body: &B) -> bool {
        body.can_replay()
    }

    fn is_starved(&self, body: &B) -> bool {
        body.is_starved()
    }
}

/// The way of [`RetryLayer::replay_with`](super::RetryLayer::replay_with): a function.
#[derive(Clone, Copy)]
pub struct ReplayWith<F>(pub(super) F);

impl<F, B> Replay<B> for ReplayWith<F>
where
    F: Fn(&B) -> Option<B> + Clone,
{
    fn replay(&self, body: &B) -> Option<B> {
        (self.0)(body)
    }
}

impl<F> std::fmt::Debug for ReplayWith<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplayWith(..)")
    }
}
