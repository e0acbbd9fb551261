//! Bodies in both directions, with a time limit for each next piece.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;

/// A body that fails if its next frame does not arrive within a limit.
///
/// It reports the size and the end of the body inside. Without a size a request would be sent
/// `chunked`, even one without a body.
pub(crate) struct Patient {
    body: Incoming,
    limit: Duration,
    // Made by the first wait, because most bodies arrive at once. Each later wait resets it.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl Patient {
    pub(crate) const fn new(body: Incoming, limit: Duration) -> Self {
        Self { body, limit, timer: None, is_waiting: false }
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.is_waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.limit)));
        if !this.is_waiting {
            timer.as_mut().reset(Instant::now() + this.limit);
            this.is_waiting = true;
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(TooLate.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[derive(Debug)]
struct TooLate;

impl fmt::Display for TooLate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest of a body did not arrive in time")
    }
}

impl Error for TooLate {}

/// The body that a client gets: an upstream's answer, or the proxy's own text.
pub(crate) enum Answer {
    Passed(Passed),
    Own(Full<Bytes>),
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Passed(body) => body.poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Passed(body) => body.body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Passed(body) => body.body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
}

/// An upstream's answer. While the client reads nothing, only one piece of it is in memory.
///
/// Without this hyper queues pieces up to the size of the longest head that it reads. A piece can
/// be a small part of a buffer that it keeps alive.
pub(crate) struct Passed {
    body: Patient,
    // The state of the last piece, unless that was the end of the body.
    piece: Option<Arc<Written>>,
}

/// Whether a piece was written, and the task that waits for that.
#[derive(Default)]
struct Written {
    is_written: AtomicBool,
    waker: AtomicWaker,
}

/// Bytes that are dropped once they are written.
struct Piece(Bytes, Arc<Written>);

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.1.is_written.store(true, Release);
        self.1.waker.wake();
    }
}

impl Passed {
    pub(crate) const fn new(body: Incoming, stall: Duration) -> Self {
        Self { body: Patient::new(body, stall), piece: None }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(piece) = &self.piece {
            piece.waker.register(cx.waker());
            if !piece.is_written.load(Acquire) {
                return Poll::Pending;
            }
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if self.body.is_end_stream() {
            return Poll::Ready(frame);
        }
        let written = self.piece.get_or_insert_default();
        let give = |bytes| {
            written.is_written.store(false, Relaxed);
            Bytes::from_owner(Piece(bytes, Arc::clone(written)))
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(give))))
    }
}

/// The body of a client's request.
pub(crate) struct Upload {
    body: Patient,
    client: Option<Client>,
}

/// The state of a client's upload, which is read if the request has failed.
#[derive(Clone, Default)]
pub(crate) struct Client(Arc<AtomicU8>);

const SENDS: u8 = 0;
const STALLS: u8 = 1;
const TOO_LATE: u8 = 2;
const BROKE_OFF: u8 = 3;

impl Upload {
    /// A body that fails if the client sends nothing of it for `idle`. A request without a body has
    /// no `Client`.
    pub(crate) fn new(body: Incoming, idle: Duration) -> (Self, Option<Client>) {
        let client = (!body.is_end_stream()).then(Client::default);
        (Self { body: Patient::new(body, idle), client: client.clone() }, client)
    }
}

impl Client {
    /// Whether this attempt is waiting for the client's next bytes.
    pub(crate) fn stalls(&self) -> bool {
        self.0.load(Relaxed) == STALLS
    }

    /// Begins the next attempt, which does not wait yet.
    pub(crate) fn begin(&self) {
        let _ = self.0.compare_exchange(STALLS, SENDS, Relaxed, Relaxed);
    }

    /// Whether the client's next bytes did not arrive in time.
    pub(crate) fn is_too_late(&self) -> bool {
        self.0.load(Relaxed) == TOO_LATE
    }

    /// Whether the client's body was invalid or incomplete.
    pub(crate) fn broke_off(&self) -> bool {
        self.0.load(Relaxed) == BROKE_OFF
    }

    fn is(&self, state: u8) {
        self.0.store(state, Relaxed);
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(client) = &this.client else { return Pin::new(&mut this.body).poll_frame(cx) };
        client.is(STALLS);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        client.is(match &frame {
            Some(Err(error)) if error.is::<TooLate>() => TOO_LATE,
            Some(Err(_)) => BROKE_OFF,
            _ => SENDS,
        });
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
