use std::{
    error::Error,
    fmt, mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use tower::BoxError;

use super::{capture::Capture, replayable::ReplayableBody};

/// A streamed request body that can be sent again: it keeps what was sent, up to a cap.
///
/// The copies of a body share one stream. As long as nothing was sent, a body of any size can be
/// copied. If a body is sent while it has no copy, nothing is kept. Otherwise the data and trailers
/// of the stream are kept as they are sent. A copy sends what was kept, then goes on with the
/// stream. If more than the cap was sent, everything that was kept is dropped, the stream goes on
/// to its end, and the body can no longer be copied.
///
/// One copy streams at a time. If another copy is made or begins to stream, the earlier one ends
/// with an error. So bytes of two attempts never mix.
///
/// If an attempt runs out of time while the stream has nothing to send, the request is not retried:
/// the attempt did not wait for the server, and the next one would wait for the same stream.
///
/// `ReplayBody::default()` is an empty body.
///
/// # Errors
///
/// The body yields the error of the stream, or an error if another copy has taken its place.
///
/// ```
/// # use {bytes::Bytes, http_body_util::{BodyExt, Full}};
/// use tower_outbound::retry::{ReplayBody, ReplayableBody};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// // `Full` is used here instead of a stream. ReplayBodyLayer does this for each request.
/// let body = ReplayBody::new(Full::new(Bytes::from("upload")), 64 * 1024);
/// let second = body.try_replay().expect("nothing was sent yet");
/// assert_eq!(body.collect().await?.to_bytes(), "upload");
/// assert_eq!(second.collect().await?.to_bytes(), "upload");
/// # Ok(())
/// # }
/// ```
pub struct ReplayBody<B> {
    // `None` for an empty one.
    shared: Option<Arc<Mutex<Shared<B>>>>,
    // Grows from copy to copy. A copy of this body makes this body newer too, since either may be
    // sent next.
    number: AtomicUsize,
    // The next captured frame. Not a flag: a copy that was polled for a part must go on after it.
    cursor: usize,
    sent: u64,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unpolled,
    Streaming,
    Done,
}

/// Some timeouts drop an attempt and its body before they return their error: tokio's in an async
/// block, and reqwest's. A body that is gone for longer than this was given up for another reason.
const AT_ONCE: Duration = Duration::from_millis(10);

/// What the copies share.
struct Shared<B> {
    source: Source<B>,
    capture: Capture,
    // The size hint of the whole body, before any of it was sent.
    hint: SizeHint,
    yielded: u64,
    // Whether the source was pending when it was last polled, and since when the copy that polled
    // it is gone.
    starved: bool,
    gone: Option<Instant>,
    // The copy that may stream, and the task that waits for it.
    streaming: Option<usize>,
    waker: Option<Waker>,
    // The newest copy that has streamed, and the newest there is.
    newest_streamed: Option<usize>,
    newest: usize,
}

enum Source<B> {
    Live(Pin<Box<B>>),
    Ended,
    // It has failed or panicked: its bytes cannot be read any more.
    Lost,
}

impl<B: Body> ReplayBody<B> {
    /// Wraps `body`, and keeps up to `max_bytes` of it while it is sent.
    ///
    /// [`ReplayBodyLayer`](crate::retry::ReplayBodyLayer) calls it for each request. If the size
    /// hint of `body` is above `max_bytes`, nothing is kept.
    #[must_use]
    pub fn new(body: B, max_bytes: usize) -> Self {
        if body.is_end_stream() {
            return Self::default();
        }
        let hint = body.size_hint();
        let shared = Shared {
            capture: Capture::new(max_bytes, hint.lower()),
            source: Source::Live(Box::pin(body)),
            hint,
            yielded: 0,
            starved: false,
            gone: None,
            streaming: None,
            waker: None,
            newest_streamed: None,
            newest: 0,
        };
        Self::copy(Some(Arc::new(Mutex::new(shared))), 0)
    }
}

impl<B> ReplayBody<B> {
    const fn copy(shared: Option<Arc<Mutex<Shared<B>>>>, number: usize) -> Self {
        Self {
            shared,
            number: AtomicUsize::new(number),
            cursor: 0,
            sent: 0,
            progress: Progress::Unpolled,
        }
    }
}

impl<B> Drop for ReplayBody<B> {
    /// Notes when a copy is dropped that waits for the stream. If a timeout has dropped it, the
    /// error of the timeout follows at once, and the request is not retried.
    fn drop(&mut self) {
        if let Some(shared) = self.shared.as_ref().filter(|_| self.progress == Progress::Streaming)
        {
            let mut locked = lock(shared);
            if locked.streaming == Some(*self.number.get_mut()) {
                locked.gone = locked.starved.then(Instant::now);
            }
        }
    }
}

impl<B> Default for ReplayBody<B> {
    fn default() -> Self {
        Self::copy(None, 0)
    }
}

/// A panic of the stream leaves nothing half done: it is lost before it is polled.
fn lock<B>(shared: &Mutex<Shared<B>>) -> MutexGuard<'_, Shared<B>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<B> Shared<B> {
    const fn can_replay(&self) -> bool {
        self.capture.is_whole() && !matches!(self.source, Source::Lost)
    }

    /// Whether a copy streams, and the source was pending when the copy last polled it.
    fn is_starved(&self) -> bool {
        let is_live = self.gone.is_none_or(|gone| gone.elapsed() <= AT_ONCE);
        self.starved && self.streaming.is_some() && is_live
    }

    const fn next_number(&mut self) -> usize {
        self.newest += 1;
        self.newest
    }

    /// Lets a copy stream from its first byte on. `Err` if a newer copy has streamed, or if the
    /// beginning is no longer kept.
    fn begin(&mut self, number: usize) -> Result<Option<Waker>, BoxError> {
        if self.newest_streamed.is_some_and(|newest| newest >= number) {
            return Err(Refused::Superseded.into());
        }
        if !self.can_replay() {
            return Err(Refused::Gone.into());
        }
        self.capture.seal();
        self.newest_streamed = Some(number);
        self.streaming = Some(number);
        self.starved = false;
        self.gone = None;

        Ok(self.waker.take())
    }
}

impl<B> Shared<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    /// The stream's next frame. It is captured, unless `sole` says that there is no other copy.
    fn next(
        &mut self,
        cx: &mut Context<'_>,
        sole: bool,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut source = match mem::replace(&mut self.source, Source::Lost) {
            Source::Live(source) => source,
            Source::Ended => {
                self.source = Source::Ended;
                return Poll::Ready(None);
            }
            Source::Lost => return Poll::Ready(Some(Err(Refused::Gone.into()))),
        };
        let polled = source.as_mut().poll_frame(cx);
        self.starved = polled.is_pending();
        let Poll::Ready(frame) = polled else {
            self.source = Source::Live(source);
            if !sole && !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                self.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        };
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => {
                self.source = Source::Ended;
                return Poll::Ready(None);
            }
        };
        self.source = Source::Live(source);
        if sole {
            self.capture.let_go();
        }
        let frame = frame.map_data(|mut data| data.copy_to_bytes(data.remaining()));
        if let Some(data) = frame.data_ref() {
            self.yielded = self.yielded.saturating_add(data.len() as u64);
            self.capture.push_data(data);
        } else if let Some(trailers) = frame.trailers_ref() {
            self.capture.push_trailers(trailers);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl<B> Body for ReplayBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(shared) = this.shared.as_ref().filter(|_| this.progress != Progress::Done) else {
            return Poll::Ready(None);
        };
        // No second copy can be made meanwhile: it would be made of this one.
        let sole = Arc::strong_count(shared) == 1;
        let number = *this.number.get_mut();
        let mut locked = lock(shared);
        let mut superseded = None;
        let frame = if this.progress == Progress::Unpolled {
            locked.begin(number).map(|waker| superseded = waker)
        } else if locked.streaming == Some(number) {
            Ok(())
        } else {
            Err(Refused::Superseded.into())
        };
        let frame = match frame {
            Err(error) => Poll::Ready(Some(Err(error))),
            Ok(()) => {
                this.progress = Progress::Streaming;
                match locked.capture.frame(this.cursor) {
                    Some(frame) => {
                        this.cursor += 1;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let frame = locked.next(cx, sole);
                        this.cursor = locked.capture.end();
                        frame
                    }
                }
            }
        };
        drop(locked);
        // Not under the lock: a waker runs foreign code.
        if let Some(waker) = superseded {
            waker.wake();
        }
        match ready!(frame) {
            Some(Ok(frame)) => {
                this.sent =
                    this.sent.saturating_add(frame.data_ref().map_or(0, |data| data.len() as u64));
                Poll::Ready(Some(Ok(frame)))
            }
            end => {
                this.progress = Progress::Done;
                Poll::Ready(end)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(shared) = self.shared.as_ref().filter(|_| self.progress != Progress::Done) else {
            return true;
        };
        let locked = lock(shared);
        let read = match self.progress {
            Progress::Unpolled => locked.capture.is_empty() && locked.can_replay(),
            _ => {
                locked.streaming == Some(self.number.load(Relaxed))
                    && self.cursor >= locked.capture.end()
            }
        };
        read && match &locked.source {
            Source::Live(source) => source.is_end_stream(),
            Source::Ended => true,
            Source::Lost => false,
        }
    }

    /// Before the first byte, the hint of the wrapped body, so that each attempt has the same
    /// `Content-Length`.
    fn size_hint(&self) -> SizeHint {
        let Some(shared) = self.shared.as_ref().filter(|_| self.progress != Progress::Done) else {
            return SizeHint::with_exact(0);
        };
        let locked = lock(shared);
        if self.progress == Progress::Unpolled {
            return locked.hint;
        }
        let captured = locked.yielded.saturating_sub(self.sent);
        let rest = match &locked.source {
            Source::Live(source) => source.size_hint(),
            Source::Ended | Source::Lost => SizeHint::with_exact(0),
        };
        let mut hint = SizeHint::new();
        let lower = rest.lower().saturating_add(captured);
        hint.set_lower(lower);
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(captured)) {
            hint.set_upper(upper.max(lower));
        }
        hint
    }
}

impl<B> ReplayableBody for ReplayBody<B> {
    fn try_replay(&self) -> Option<Self> {
        let Some(shared) = &self.shared else { return Some(Self::default()) };
        let mut locked = lock(shared);
        if !locked.can_replay() {
            return None;
        }
        let mine = Some(self.number.load(Relaxed));
        let mut superseded = None;
        if self.progress == Progress::Unpolled {
            // A copy of a body that was not sent, while another one is being sent: the attempt of
            // the other one is over.
            locked.streaming = None;
            superseded = locked.waker.take();
            self.number.store(locked.next_number(), Relaxed);
        } else if locked.streaming != mine {
            locked.streaming = None;
            superseded = locked.waker.take();
        }
        let copy = Self::copy(Some(Arc::clone(shared)), locked.next_number());
        drop(locked);
        if let Some(waker) = superseded {
            waker.wake();
        }
        Some(copy)
    }

    fn can_replay(&self) -> bool {
        self.shared.as_ref().is_none_or(|shared| lock(shared).can_replay())
    }

    fn is_starved(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| lock(shared).is_starved())
    }
}

impl<B> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayBody").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Why a copy may not be sent.
#[derive(Clone, Copy, Debug)]
enum Refused {
    Superseded,
    Gone,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Superseded => "a later attempt sends this request body now",
            Self::Gone => "the beginning of this request body is no longer kept",
        })
    }
}

impl Error for Refused {}
