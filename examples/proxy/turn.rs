//! Whose turn it is on a connection: the client must send the head of a request, or the proxy an
//! answer.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, service::Service};
use tokio::time::{Instant, sleep_until};

/// One timer watches a connection for all of its requests. hyper would set a timer for each
/// request, and remove it from the runtime's wheel again.
pub(crate) struct Turn {
    start: Instant,
    // When the client's turn began, in milliseconds from the start; or `ANSWERS`.
    owes: AtomicU64,
}

/// The value for the proxy's turn.
const ANSWERS: u64 = u64::MAX;

impl Turn {
    /// Begins the client's turn.
    pub(crate) fn client() -> Self {
        Self { start: Instant::now(), owes: AtomicU64::new(0) }
    }

    /// Ends when the client's turn has lasted for this long.
    pub(crate) async fn is_late(&self, patience: Duration) {
        let mut end = self.start + patience;
        loop {
            sleep_until(end).await;
            let now = Instant::now();
            end = match self.owes.load(Relaxed) {
                ANSWERS => now + patience,
                since => self.start + Duration::from_millis(since) + patience,
            };
            if end <= now {
                return;
            }
        }
    }
}

/// The service of one connection. It is the proxy's turn from a request's head to the end of the
/// answer.
pub(crate) struct InTurn<S> {
    pub(crate) service: S,
    pub(crate) turn: Arc<Turn>,
}

impl<S, B> Service<Request<Incoming>> for InTurn<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<Answered<B>>;
    type Error = S::Error;
    type Future = Answers<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.turn.owes.store(ANSWERS, Relaxed);
        let answers = Some(Answering(Arc::clone(&self.turn)));
        Answers { answer: self.service.call(request), answers }
    }
}

/// An answer that is not complete yet. When it ends, it is the client's turn.
struct Answering(Arc<Turn>);

impl Drop for Answering {
    fn drop(&mut self) {
        let since = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(ANSWERS - 1);
        self.0.owes.store(since, Relaxed);
    }
}

pin_project_lite::pin_project! {
    pub(crate) struct Answers<F> {
        #[pin]
        answer: F,
        answers: Option<Answering>,
    }
}

impl<F: Future<Output = Result<Response<B>, E>>, B, E> Future for Answers<F> {
    type Output = Result<Response<Answered<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = std::task::ready!(this.answer.poll(cx));
        let answers = this.answers.take();
        Poll::Ready(answer.map(|answer| answer.map(|body| Answered { body, _answers: answers })))
    }
}

/// The body of an answer.
pub(crate) struct Answered<B> {
    body: B,
    _answers: Option<Answering>,
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
