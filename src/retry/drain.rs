//! Reads the rest of a failed response, so that its HTTP/1 connection can be used again. Nothing
//! waits for the rest: it is polled during the delay and during the next attempt.

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

/// How much of a failed HTTP/1 response is read, so that its connection can be used again.
///
/// Past either bound the response is dropped, and its connection is closed. A delay is not
/// lengthened for the drain. Without a delay, the next attempt waits only while more of the
/// response keeps arriving, within these bounds. An HTTP/2 response is dropped at once, since its
/// connection stays open.
///
/// With the feature `serde`: a table of `bytes` and `time`. A key that is left out has its default.
///
/// ```
/// use tower_outbound::retry::{Drain, RetryPolicy};
///
/// let nothing = RetryPolicy::new().drain(Drain { bytes: 0, ..Drain::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(default, deny_unknown_fields, expecting = "a drain, a table such as { bytes = 1024 }")
)]
pub struct Drain {
    /// Largest number of bytes that are read. With 0 each failed response is dropped at once.
    ///
    /// Default: 64 KiB.
    pub bytes: usize,
    /// Longest time to read.
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
/// enough for a body that has arrived already. With a timer of 1 ms instead, responses with a late
/// end took 4 to 30 times as long.
const PATIENCE: u8 = 3;

/// Most frames that one poll reads, so that other tasks have their turn even if a body is always
/// ready. Tokio's own budget for one poll of a task is 128 operations.
const TURN: u8 = 128;

/// A longer time is cut to this one, which any clock can add.
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
    /// `None` if there is nothing to gain: to reset an HTTP/2 stream costs less, and its connection
    /// stays open.
    pub(super) fn begin(
        head: &response::Parts,
        body: RB,
        bounds: Drain,
        now: Instant,
    ) -> Option<Self> {
        let by_connection = matches!(head.version, Version::HTTP_10 | Version::HTTP_11);
        // A bound that no clock could add is cut, not refused.
        let until = now.checked_add(bounds.time.min(LONGEST))?;
        (by_connection && bounds.bytes > 0).then(|| Self {
            body: Some(body),
            bytes_left: bounds.bytes,
            until,
            idle: 0,
            yielded: false,
        })
    }

    /// Reads what has arrived, but at most [`TURN`] frames. True if something was read.
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
                        // A body that knows its length has ended with its last byte. It need not be
                        // polled again.
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

    /// The time left to read; `None` once the drain has ended.
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

    /// Ready when the connection has had its turn to return to the pool. hyper's own task returns
    /// it, so this task yields once. If the body was not read to its end, no connection returns.
    pub(super) fn poll_handed_back(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.body.is_some() || self.yielded {
            return Poll::Ready(());
        }
        *self.project().yielded = true;
        again(cx)
    }
}

/// Pending, with a wake: the other tasks have their turn, then this one is polled again.
pub(super) fn again(cx: &Context<'_>) -> Poll<()> {
    cx.waker().wake_by_ref();
    Poll::Pending
}
