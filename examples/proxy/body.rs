//! A client's body on its way, and whether the client is what everyone waits for.

use std::{
    error::Error,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tower_http::timeout::{TimeoutBody, TimeoutError};

/// The body of a client's request.
pub(crate) struct Upload {
    body: Body,
    client: Client,
}

/// Who sends it, for when the request has failed.
#[derive(Clone, Default)]
pub(crate) struct Client(Arc<AtomicU8>);

const SENDS: u8 = 0;
const STALLS: u8 = 1;
const TOO_LATE: u8 = 2;
const BROKE_OFF: u8 = 3;

impl Upload {
    /// A body that fails once it has waited for its next bytes for that long.
    pub(crate) fn new(body: Body, idle: Duration) -> (Self, Client) {
        let client = Client::default();
        (Self { body: Body::new(TimeoutBody::new(idle, body)), client: client.clone() }, client)
    }
}

impl Client {
    /// Whether it owed the next bytes when this attempt last asked for them.
    pub(crate) fn stalls(&self) -> bool {
        self.0.load(Relaxed) == STALLS
    }

    /// The next attempt has not asked yet.
    pub(crate) fn begin(&self) {
        let _ = self.0.compare_exchange(STALLS, SENDS, Relaxed, Relaxed);
    }

    /// Whether it owed them for too long.
    pub(crate) fn is_too_late(&self) -> bool {
        self.0.load(Relaxed) == TOO_LATE
    }

    /// Whether what it sent is no body, or only the beginning of one.
    pub(crate) fn broke_off(&self) -> bool {
        self.0.load(Relaxed) == BROKE_OFF
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.client.0.store(STALLS, Relaxed);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        let state = match &frame {
            Some(Err(error)) if error.source().is_some_and(<dyn Error>::is::<TimeoutError>) => {
                TOO_LATE
            }
            Some(Err(_)) => BROKE_OFF,
            _ => SENDS,
        };
        this.client.0.store(state, Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
