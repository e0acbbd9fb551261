//! The types that name how [`RetryLayer`](super::RetryLayer) copies request bodies.
//!
//! Most callers do not need them: [`RetryLayer::new`](super::RetryLayer::new) uses
//! [`ReplayByTrait`], [`RetryLayer::replay_with`](super::RetryLayer::replay_with) uses
//! [`ReplayWith`], and [`ReplayBodyLayer`](super::ReplayBodyLayer) makes a [`ReplayBodyService`].
//! They are public so that you can write the type of a client:
//!
//! ```
//! use bytes::Bytes;
//! use http_body_util::Full;
//! use tower_outbound::retry::{RetryLayer, RetryPolicy, replay::{Replay, ReplayByTrait}};
//!
//! /// A layer of this program, for any request body.
//! struct Retries<R> {
//!     layer: RetryLayer<RetryPolicy, R>,
//! }
//!
//! fn takes<B, R: Replay<B>>(_: &Retries<R>) {}
//!
//! let retries: Retries<ReplayByTrait> = Retries { layer: RetryLayer::default() };
//! takes::<Full<Bytes>, _>(&retries);
//! ```

pub(super) mod body;
mod capture;
pub(super) mod layer;
pub(super) mod replayable;
mod service;

use std::fmt;

use self::replayable::ReplayableBody;
pub use self::service::ReplayBodyService;

/// Copies request bodies of type `B` for a [`RetryLayer`](super::RetryLayer).
///
/// Each request gets a clone of this value. Most callers use [`ReplayByTrait`], or give a function
/// to [`RetryLayer::replay_with`](super::RetryLayer::replay_with).
#[diagnostic::on_unimplemented(
    message = "`RetryLayer` does not know how to send a `{B}` a second time",
    note = "for a streamed body put `tower_outbound::retry::ReplayBodyLayer` outside this layer; for bytes use \
            `http_body_util::Full` or `Empty`",
    note = "for a body of your own implement `tower_outbound::retry::ReplayableBody`; for a foreign one say how to copy \
            it: `RetryLayer::new(policy).replay_with(|body: &Body| body.try_clone())`"
)]
pub trait Replay<B>: Clone {
    /// Returns a body that sends the same bytes as `body`, or `None` if that is not possible.
    ///
    /// After `None` the request is not sent again.
    fn replay(&self, body: &B) -> Option<B>;

    /// Whether [`replay`](Self::replay) would return a body now.
    ///
    /// Default: true.
    fn can_replay(&self, _body: &B) -> bool {
        true
    }

    /// Whether the attempt that sends a copy of `body` waits for more of the body, and not for the
    /// server; see [`ReplayableBody::is_starved`].
    ///
    /// Default: false.
    fn is_starved(&self, _body: &B) -> bool {
        false
    }
}

/// Copies bodies by their [`ReplayableBody`] implementation.
/// [`RetryLayer::new`](super::RetryLayer::new) uses it.
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

/// Copies bodies with a function. [`RetryLayer::replay_with`](super::RetryLayer::replay_with) makes
/// it.
#[derive(Clone, Copy)]
pub struct ReplayWith<F>(F);

impl<F> ReplayWith<F> {
    pub(crate) const fn new(replay: F) -> Self {
        Self(replay)
    }
}

impl<F, B> Replay<B> for ReplayWith<F>
where
    F: Fn(&B) -> Option<B> + Clone,
{
    fn replay(&self, body: &B) -> Option<B> {
        (self.0)(body)
    }
}

impl<F> fmt::Debug for ReplayWith<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReplayWith(..)")
    }
}
