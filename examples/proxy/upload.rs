//! A client's body on its way, and whether the client is what everyone waits for.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};

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
const BROKE_OFF: u8 = 2;

impl Upload {
    pub(crate) fn new(body: Body) -> (Self, Client) {
        let client = Client::default();
        (Self { body, client: client.clone() }, client)
    }
}

impl Client {
    /// Whether it owed the next bytes when it was last asked for them.
    pub(crate) fn stalls(&self) -> bool {
        self.0.load(Relaxed) == STALLS
    }

    /// Whether what it sent is no body, or only the beginning of one.
    pub(crate) fn broke_off(&self) -> bool {
        self.0.load(Relaxed) == BROKE_OFF
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        this.client.0.store(STALLS, Relaxed);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.client.0.store(if matches!(frame, Some(Err(_))) { BROKE_OFF } else { SENDS }, Relaxed);
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
