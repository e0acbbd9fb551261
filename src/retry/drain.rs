//! Reads the rest of a failed response, so that its HTTP/1 connection can be used again. Nothing
//! ever waits for the rest: it is polled beside the delay and beside the next attempt.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Buf;
use http::{Version, response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;

/// How much of a failed HTTP/1 response is read, so that its connection can be used again. The next
/// attempt does not wait for it.
///
/// With the feature `serde`: a table of `bytes` and `time`, each with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(default, deny_unknown_fields, expecting = "a drain, a table such as { bytes = 1024 }")
)]
pub struct Drain {
    /// Most bytes. With 0 each failed response is dropped, and its connection is closed.
    ///
    /// Default: 64 KiB.
    pub bytes: usize,
    /// Longest time.
    ///
    /// Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::retry::duration"))]
    pub time: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { bytes: 64 * 1024, time: Duration::from_millis(100) }
    }
}

/// With no delay, stop draining after this many consecutive polls without data, and send the next
/// attempt.
///
/// Between two polls the connection's own task has its turn to read. Over hyper, three polls are
/// enough for a body that has arrived already. A timer of 1 ms in place of them made responses with
/// a late end 4 to 30 times slower.
const PATIENCE: u8 = 3;

/// Most frames in one poll, so that a body that is always ready leaves the other tasks their turn.
/// Tokio's own budget for one poll of a task is 128 operations.
const TURN: u8 = 128;

/// Longer times mean the same, and any clock can add this one.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

pin_project! {
    /// The body of a failed response, until it has ended or is given up.
    pub(super) struct Draining<RB> {
        // `None` when it is over.
        #[pin]
        body: Option<RB>,
        bytes_left: usize,
        until: Instant,
        // Polls in a row without data.
        idle: u8,
        yielded: bool,
    }
}

impl<RB: Body> Draining<RB> {
    /// `None` if reading gains nothing: a reset of an HTTP/2 stream costs less, and its connection
    /// lives on.
    pub(super) fn begin(
        head: &response::Parts,
        body: RB,
        bounds: Drain,
        now: Instant,
    ) -> Option<Self> {
        let by_connection = matches!(head.version, Version::HTTP_10 | Version::HTTP_11);
        // Any bound is a bound: the longest, which no clock could add, included.
        let until = now.checked_add(bounds.time.min(LONGEST))?;
        (by_connection && bounds.bytes > 0).then(|| Self {
            body: Some(body),
            bytes_left: bounds.bytes,
            until,
            idle: 0,
            yielded: false,
        })
    }

    /// Reads what has arrived, at most one turn of it. True if something was read.
    pub(super) fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> bool {
        let mut this = self.project();
        let (mut came, mut turn) = (false, TURN);
        while let Some(mut body) = this.body.as_mut().as_pin_mut() {
            if turn == 0 {
                // There may be more, so this task comes back after the others.
                cx.waker().wake_by_ref();
                return came;
            }
            turn -= 1;
            let Poll::Ready(frame) = body.as_mut().poll_frame(cx) else {
                if Instant::now() >= *this.until {
                    this.body.set(None);
                }
                return came;
            };
            came = true;
            match frame {
                Some(Ok(frame)) => {
                    // An empty frame counts as a byte, and the clock is read for each frame.
                    // Otherwise a body that always has another frame would never end.
                    let read = frame.data_ref().map_or(0, Buf::remaining).max(1);
                    match this.bytes_left.checked_sub(read) {
                        // A body that knows its length has ended with its last byte. It is not
                        // polled again only to say so.
                        Some(left) if !body.is_end_stream() && Instant::now() < *this.until => {
                            *this.bytes_left = left;
                        }
                        _ => this.body.set(None),
                    }
                }
                Some(Err(_)) | None => this.body.set(None),
            }
        }
        came
    }

    /// How long it may go on; `None` once it has ended.
    pub(super) fn time_left(&self) -> Option<Duration> {
        self.body.as_ref().map(|_| self.until.duration_since(Instant::now()))
    }

    /// Ready when the next attempt may be sent without a delay.
    pub(super) fn poll_settled(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let came = self.as_mut().poll(cx);
        if self.body.is_none() {
            return self.poll_handed_back(cx);
        }
        let idle = self.project().idle;
        *idle = if came { 0 } else { *idle + 1 };
        if *idle >= PATIENCE { Poll::Ready(()) } else { again(cx) }
    }

    /// Ready when the connection has had its turn to go back to the pool. That is hyper's own task,
    /// so this one yields once. A body that was not read to its end gives no connection back.
    pub(super) fn poll_handed_back(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.is_some() || self.yielded {
            return Poll::Ready(());
        }
        *self.project().yielded = true;
        again(cx)
    }
}

/// Pending once: the other tasks have their turn.
pub(super) fn again(cx: &Context<'_>) -> Poll<()> {
    cx.waker().wake_by_ref();
    Poll::Pending
}
