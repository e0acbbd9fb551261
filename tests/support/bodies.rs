//! Bodies made by a closure.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::Frame;
use tower::BoxError;

pub(crate) type Polled = Poll<Option<Result<Frame<Bytes>, BoxError>>>;

/// A body that reports no length, and whose end is only known when it is polled.
///
/// The values that its closure owns live as long as the body.
pub(crate) struct FakeBody(Box<dyn FnMut(&mut Context<'_>) -> Polled + Send>);

impl FakeBody {
    pub(crate) fn new(poll: impl FnMut(&mut Context<'_>) -> Polled + Send + 'static) -> Self {
        Self(Box::new(poll))
    }
}

impl fmt::Debug for FakeBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeBody")
    }
}

impl http_body::Body for FakeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        (self.0)(cx)
    }
}

/// The next frame of a body.
pub(crate) fn data(bytes: impl Into<Bytes>) -> Polled {
    Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
}
