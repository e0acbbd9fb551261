//! Streamed bodies that are sent again, frame by frame and through the layers.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_outbound::retry::{
    Backoff, ReplayBody, ReplayBodyLayer, ReplayableBody, RetryHistory, RetryLayer, RetryPolicy,
    StopReason,
};

use crate::{
    fakes::{answer, policy},
    pairs::pairs,
    rows, rows_async,
};

/// What a stream does when it is polled.
#[derive(Clone, Debug)]
enum Step {
    Data(Vec<u8>),
    Trailers(HeaderMap),
    Pending,
    Fail,
    Panic,
}

pin_project_lite::pin_project! {
    /// Performs its steps. It is not `Unpin`, like many streams.
    struct Source { steps: VecDeque<Step>, hint: SizeHint, #[pin] pinned: std::marker::PhantomPinned }
}

impl Body for Source {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.project().steps.pop_front() {
            Some(Step::Data(data)) => Poll::Ready(Some(Ok(Frame::data(data.into())))),
            Some(Step::Trailers(trailers)) => Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
            Some(Step::Pending) => Poll::Pending,
            Some(Step::Fail) => Poll::Ready(Some(Err(io::ErrorKind::InvalidData.into()))),
            Some(Step::Panic) => panic!("as the test wants it"),
            None => Poll::Ready(None),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}

fn source(steps: impl IntoIterator<Item = Step>, hint: SizeHint) -> Source {
    Source { steps: steps.into_iter().collect(), hint, pinned: std::marker::PhantomPinned }
}

fn body(steps: impl IntoIterator<Item = Step>, max: usize) -> ReplayBody<Source> {
    ReplayBody::new(source(steps, SizeHint::new()), max)
}

fn data(text: &str) -> Step {
    Step::Data(text.into())
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "abc".parse().unwrap())])
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}

fn poll_with(
    body: &mut ReplayBody<Source>,
    waker: &Waker,
) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    Pin::new(body).poll_frame(&mut Context::from_waker(waker))
}

fn poll(body: &mut ReplayBody<Source>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    poll_with(body, Waker::noop())
}

/// The rest of a body: its bytes, its trailers, and whether it ended well. A pending stream is
/// polled again.
fn rest(body: &mut ReplayBody<Source>) -> (Vec<u8>, Option<HeaderMap>, bool) {
    let (mut bytes, mut trailers) = (Vec::new(), None);
    for _ in 0..1_000_000 {
        match poll(body) {
            Poll::Pending => {}
            Poll::Ready(None) => return (bytes, trailers, true),
            Poll::Ready(Some(Err(_))) => return (bytes, trailers, false),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => bytes.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            },
        }
    }
    panic!("the body does not end");
}

#[test]
fn a_copy_sends_it_all_however_far_the_ones_before_it_came() {
    let steps = || {
        [
            data("one"),
            Step::Pending,
            Step::Data(vec![b'x'; 3000]),
            data("two"),
            Step::Trailers(trailers()),
            data(""),
        ]
    };
    let whole = [b"one".to_vec(), vec![b'x'; 3000], b"two".to_vec()].concat();
    rows::hold(pairs(0..8, 0..8), |(first, second)| {
        let mut attempt = body(steps(), 4096);
        let spare = attempt.try_replay().unwrap();
        for polls in [first, second] {
            for _ in 0..polls {
                let _ = poll(&mut attempt);
            }
            attempt = spare.try_replay().unwrap();
        }
        let name = format!("{first} and {second} polls before");
        (name, rest(&mut attempt), (whole.clone(), Some(trailers()), true))
    });
}

#[test]
fn past_the_cap_the_stream_goes_on_and_there_are_no_more_copies() {
    rows::hold(
        [(10, 10, true), (10, 11, false), (0, 0, true), (0, 1, false), (usize::MAX, 11, true)],
        |(max, length, kept)| {
            let mut attempt = body((0..length).map(|_| data("x")), max);
            let spare = attempt.try_replay().unwrap();
            let sent = rest(&mut attempt);
            let got = (sent, spare.can_replay(), spare.try_replay().is_some());
            (
                format!("{length} bytes of {max}"),
                got,
                ((vec![b'x'; length], None, true), kept, kept),
            )
        },
    );
    // A copy that was made before the cap was reached has lost its beginning.
    let mut attempt = body([data("long"), data("long")], 4);
    let mut spare = attempt.try_replay().unwrap();
    rest(&mut attempt);
    assert!(!spare.is_end_stream());
    assert_eq!(rest(&mut spare), (vec![], None, false));
}

#[test]
fn a_size_that_was_said_is_said_by_every_copy_and_shrinks_as_it_is_sent() {
    let all = [data("abc"), Step::Pending, data("de")];
    let mut attempt = ReplayBody::new(source(all, SizeHint::with_exact(5)), 64);
    let spare = attempt.try_replay().unwrap();
    assert_eq!((attempt.size_hint().exact(), spare.size_hint().exact()), (Some(5), Some(5)));
    let _ = poll(&mut attempt);
    assert_eq!(spare.size_hint().exact(), Some(5), "what is sent of one copy is not of another");
    let again = spare.try_replay().unwrap();
    assert_eq!(again.size_hint().exact(), Some(5));

    let honest = Full::new(Bytes::from_static(b"abcde"));
    let mut attempt = ReplayBody::new(honest, 64);
    let spare = attempt.try_replay().unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(!attempt.is_end_stream());
    assert!(Pin::new(&mut attempt).poll_frame(&mut cx).is_ready());
    assert_eq!((attempt.size_hint().exact(), attempt.is_end_stream()), (Some(0), true));
    assert_eq!((spare.size_hint().exact(), spare.is_end_stream()), (Some(5), false));

    let empty = ReplayBody::<Source>::default();
    assert_eq!(
        (empty.size_hint().exact(), empty.is_end_stream(), empty.can_replay()),
        (Some(0), true, true)
    );
    assert_eq!(rest(&mut empty.try_replay().unwrap()), (vec![], None, true));
    assert!(ReplayBody::new(Full::<Bytes>::default(), 0).is_end_stream());

    // A hint that is wrong, or as large as possible, causes no panic.
    for hint in [SizeHint::with_exact(u64::MAX), SizeHint::with_exact(1)] {
        let mut attempt = ReplayBody::new(source([data("abc"), data("de")], hint), 64);
        let _ = (poll(&mut attempt), attempt.size_hint());
    }
}

#[test]
fn a_superseded_copy_is_woken_and_errs_and_never_takes_a_byte() {
    let woken = Arc::new(Woken::default());
    let mut old = body([data("a"), Step::Pending, data("b")], 64);
    let spare = old.try_replay().unwrap();
    assert!(matches!(poll(&mut old), Poll::Ready(Some(Ok(_)))));
    assert!(poll_with(&mut old, &Arc::clone(&woken).into()).is_pending());
    let mut new = spare.try_replay().unwrap();
    assert!(
        woken.0.load(Relaxed),
        "the old upload waits for a stream that is not its own any more"
    );
    let Poll::Ready(Some(Err(error))) = poll(&mut old) else { panic!("no error") };
    assert_eq!(error.to_string(), "a later attempt sends this request body now");
    assert!(matches!(poll(&mut old), Poll::Ready(None)));
    assert_eq!(rest(&mut new), (b"ab".to_vec(), None, true));
}

#[test]
fn an_older_copy_that_comes_late_does_not_take_over() {
    let mut late = body([data("a"), data("b")], 64);
    let spare = late.try_replay().unwrap();
    let mut new = spare.try_replay().unwrap();
    let _ = poll(&mut new);
    assert_eq!(rest(&mut late), (vec![], None, false));
    assert_eq!(rest(&mut new), (b"b".to_vec(), None, true));
}

/// tower's own layer sends the copy that it has kept, and keeps a copy of that. A layer inside may
/// also have made copies.
#[test]
fn a_kept_copy_may_be_the_one_that_is_sent() {
    let mut sent = body([data("a"), data("b")], 64);
    for _ in 0..3 {
        let kept = sent.try_replay().unwrap();
        let inside = sent.try_replay().unwrap();
        let _ = poll(&mut sent);
        let mut again = inside.try_replay().unwrap();
        let _ = poll(&mut again);
        assert!(kept.try_replay().is_some());
        sent = kept;
    }
    assert_eq!(rest(&mut sent), (b"ab".to_vec(), None, true));
}

#[test]
fn a_stream_that_fails_or_panics_is_not_begun_again() {
    let mut attempt = body([data("a"), Step::Fail, data("b")], 64);
    let spare = attempt.try_replay().unwrap();
    let _ = poll(&mut attempt);
    let Poll::Ready(Some(Err(error))) = poll(&mut attempt) else { panic!("no error") };
    assert_eq!(
        error.downcast_ref::<io::Error>().map(io::Error::kind),
        Some(io::ErrorKind::InvalidData)
    );
    assert!(!spare.can_replay() && spare.try_replay().is_none());

    let mut attempt = body([data("a"), Step::Panic, data("b")], 64);
    let mut spare = attempt.try_replay().unwrap();
    let _ = poll(&mut attempt);
    assert!(
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| poll(&mut attempt).is_ready()))
            .is_err()
    );
    assert!(!spare.can_replay());
    assert_eq!(rest(&mut spare), (vec![], None, false));
    assert_eq!(rest(&mut attempt), (vec![], None, false));
}

#[test]
fn nothing_is_kept_that_no_copy_could_ask_for() {
    let mut alone = body([data("a"), data("b")], 64);
    let _ = poll(&mut alone);
    assert!(!alone.can_replay());
    assert_eq!(rest(&mut alone), (b"b".to_vec(), None, true));

    let mut attempt = body([data("a"), data("b")], 64);
    let spare = attempt.try_replay().unwrap();
    let _ = poll(&mut attempt);
    assert!(attempt.can_replay());
    drop(spare);
    let _ = poll(&mut attempt);
    assert!(!attempt.can_replay(), "its copy is gone, and what was kept with it");
}

/// Copies are made, polled and dropped in any order. Each sends a beginning of the body, or the
/// whole body if it ends well.
#[test]
fn no_order_of_copies_and_polls_mixes_or_repeats_a_byte() {
    for seed in 0..20_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut whole = Vec::new();
        let steps: Vec<_> = (0..random.usize(0..8))
            .map(|_| match random.u8(0..4) {
                0 => Step::Pending,
                1 => Step::Data(vec![random.u8(..); 1500]),
                _ => Step::Data((0..random.usize(0..9)).map(|_| random.u8(..)).collect()),
            })
            .collect();
        for step in &steps {
            if let Step::Data(data) = step {
                whole.extend_from_slice(data);
            }
        }
        let max = if random.bool() { usize::MAX } else { random.usize(0..2000) };
        let mut copies = vec![(body(steps, max), Vec::new(), false)];
        for _ in 0..random.usize(1..60) {
            let at = random.usize(..copies.len());
            match random.u8(0..5) {
                0 => {
                    if let Some(copy) = copies[at].0.try_replay() {
                        copies.push((copy, Vec::new(), false));
                    }
                }
                1 if copies.len() > 1 => drop(copies.swap_remove(at)),
                _ => {
                    let (copy, sent, failed) = &mut copies[at];
                    let ended = copy.is_end_stream();
                    match poll(copy) {
                        Poll::Ready(Some(Ok(frame))) => {
                            let data = frame.into_data().unwrap();
                            assert!(!ended || data.is_empty(), "seed {seed}: data after the end");
                            sent.extend_from_slice(&data);
                            assert!(
                                whole.starts_with(sent),
                                "seed {seed}: not the beginning of the body"
                            );
                        }
                        Poll::Ready(None) => {
                            assert!(*failed || *sent == whole, "seed {seed}: an end too early");
                        }
                        Poll::Ready(Some(Err(_))) => *failed = true,
                        Poll::Pending => {}
                    }
                }
            }
        }
    }
}

/// Yields a number of bytes, in pieces of 64 KiB.
struct Large {
    left: u64,
    said: bool,
}

impl Body for Large {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
        let length = self.left.min(PIECE.len() as u64);
        self.left -= length;
        let piece = Bytes::from_static(&PIECE[..length as usize]);
        Poll::Ready((length > 0).then_some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        if self.said { SizeHint::with_exact(self.left) } else { SizeHint::new() }
    }
}

#[tokio::test]
async fn a_refused_connection_retries_a_ten_gigabyte_upload() {
    const TEN_GB: u64 = 10_000_000_000;
    for said in [true, false] {
        let (calls, received) = (AtomicUsize::new(0), AtomicU64::new(0));
        let server = service_fn(|request: Request<ReplayBody<Large>>| {
            let (calls, received) = (&calls, &received);
            async move {
                let mut body = request.into_body();
                assert_eq!(body.size_hint().exact(), said.then_some(TEN_GB));
                if calls.fetch_add(1, Relaxed) < 2 {
                    return Err(BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused)));
                }
                while let Some(frame) = body.frame().await {
                    received.fetch_add(frame?.into_data().unwrap().len() as u64, Relaxed);
                }
                Ok(answer(503))
            }
        });
        let client = ServiceBuilder::new()
            .layer(ReplayBodyLayer::new())
            .layer(RetryLayer::new(policy().any_method().total(9)))
            .service(server);
        let request =
            Request::post("http://h.example/").body(Large { left: TEN_GB, said }).unwrap();
        let response = client.oneshot(request).await.unwrap();
        // It was already sent, and nothing keeps that much.
        assert_eq!(
            response.extensions().get::<RetryHistory>().unwrap().stop_reason(),
            StopReason::Body
        );
        assert_eq!((calls.load(Relaxed), received.load(Relaxed)), (3, TEN_GB));
    }
}

#[tokio::test]
async fn each_attempt_sends_the_whole_stream_and_its_trailers() {
    let received = Mutex::new(Vec::new());
    let server = service_fn(|request: Request<ReplayBody<Source>>| {
        let received = &received;
        async move {
            let collected = request.into_body().collect().await?;
            let trailers = collected.trailers().cloned();
            received.lock().unwrap().push((collected.to_bytes(), trailers));
            let status = if received.lock().unwrap().len() < 3 { 503 } else { 200 };
            Ok::<_, BoxError>(answer(status))
        }
    });
    let client = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new())
        .layer(RetryLayer::new(policy()))
        .service(server);
    let upload = source([data("up"), data("load"), Step::Trailers(trailers())], SizeHint::new());
    let response =
        client.oneshot(Request::put("http://h.example/").body(upload).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(*received.lock().unwrap(), vec![(Bytes::from("upload"), Some(trailers())); 3]);
}

#[tokio::test]
async fn the_first_error_of_a_stream_comes_through_and_is_not_tried_again() {
    let calls = AtomicUsize::new(0);
    let server = service_fn(|request: Request<ReplayBody<Source>>| {
        calls.fetch_add(1, Relaxed);
        async move { request.into_body().collect().await.map(|_| answer(200)) }
    });
    let client = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new())
        .layer(RetryLayer::new(policy().any_method()))
        .service(server);
    let upload = source([data("up"), Step::Fail], SizeHint::new());
    let error =
        client.oneshot(Request::put("http://h.example/").body(upload).unwrap()).await.unwrap_err();
    assert_eq!(
        error.downcast_ref::<io::Error>().map(io::Error::kind),
        Some(io::ErrorKind::InvalidData)
    );
    assert_eq!(calls.load(Relaxed), 1);
}

/// What the server does with an attempt: it reads a number of frames, or all, and then does this.
type Reads = (usize, Then);

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Answer(u16),
    Hang,
    /// Drops the body first.
    DropAndHang,
    TimedOut,
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_for_its_own_body_until_its_time_is_up_is_the_last() {
    use Then::*;
    const ALL: usize = usize::MAX;
    let stalled = || {
        [data("up"), data("load")].into_iter().chain(vec![Step::Pending; 100]).collect::<Vec<_>>()
    };
    let whole = || vec![data("up"), data("load")];
    // The client's stream, what the server does (the last entry also for all later attempts), and
    // the number of attempts.
    let rows: [(&str, Vec<Step>, Vec<Reads>, usize); 10] = [
        ("a client that stalls", stalled(), vec![(ALL, Hang)], 1),
        ("a server that is late", whole(), vec![(ALL, Hang)], 4),
        ("a server that reads nothing", stalled(), vec![(0, Hang)], 4),
        ("a server that reads a frame", stalled(), vec![(1, Hang)], 4),
        // The next attempt gets what was kept of the first one as one frame.
        (
            "a server that reads what has come, and no further",
            stalled(),
            vec![(2, Hang), (1, Hang)],
            4,
        ),
        ("a client that stalls the second attempt", stalled(), vec![(2, Hang), (ALL, Hang)], 2),
        (
            "an early answer, then a server that reads nothing",
            stalled(),
            vec![(3, Answer(503)), (0, Hang)],
            4,
        ),
        (
            "an early answer, then a server that reads what is kept",
            stalled(),
            vec![(3, Answer(503)), (1, Hang)],
            4,
        ),
        ("a server that has lost interest in the body", stalled(), vec![(3, DropAndHang)], 4),
        ("a connection that the system gives up", stalled(), vec![(3, TimedOut)], 4),
    ];
    rows_async::hold(
        pairs(rows, ["ours", "tower's, on its own runner", "tokio's"]),
        async |((name, steps, script, expected), clock)| {
            let calls = AtomicUsize::new(0);
            let server = service_fn(|request: Request<ReplayBody<Source>>| {
                let call = calls.fetch_add(1, Relaxed);
                let (frames, then) = script[call.min(script.len() - 1)];
                async move {
                    let mut body = request.into_body();
                    for _ in 0..frames {
                        // A server that continues without the body has polled it before, and it was
                        // pending.
                        let polled = futures_util::future::poll_fn(|cx| {
                            match Pin::new(&mut body).poll_frame(cx) {
                                Poll::Pending if then != Hang => Poll::Ready(None),
                                polled => polled,
                            }
                        });
                        let Some(frame) = polled.await else { break };
                        frame?;
                    }
                    if then == DropAndHang {
                        drop(body);
                    }
                    match then {
                        Answer(status) => Ok::<_, BoxError>(answer(status)),
                        TimedOut => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                        Hang | DropAndHang => std::future::pending().await,
                    }
                }
            });
            let time = Duration::from_secs(1);
            let budget = Counting::default();
            let policy =
                RetryPolicy::new().backoff(Backoff::none()).total(3).budget(budget.clone());
            let request = Request::put("http://h.example/")
                .body(source(steps.clone(), SizeHint::new()))
                .unwrap();
            let replayed = ServiceBuilder::new().layer(ReplayBodyLayer::new());
            let result = match clock {
                "ours" => {
                    let retry = RetryLayer::new(policy.attempt_timeout(time));
                    replayed.layer(retry).service(server).oneshot(request).await
                }
                "tokio's" => {
                    let retry = RetryLayer::new(policy);
                    let limited = ServiceBuilder::new()
                        .map_future(|call| async { tokio::time::timeout(time, call).await? })
                        .service(server);
                    replayed.layer(retry).service(limited).oneshot(request).await
                }
                _ => {
                    let retry = tower::retry::RetryLayer::new(policy.boxed_errors());
                    replayed.layer(retry).timeout(time).service(server).oneshot(request).await
                }
            };
            let (calls, withdrawn) = (calls.load(Relaxed), budget.0.load(Relaxed));
            let error = result.unwrap_err();
            let is_its_own = error.is::<tower::timeout::error::Elapsed>()
                || error.is::<tokio::time::error::Elapsed>();
            let got = (calls, withdrawn, expected == 4 || is_its_own);
            (
                format!("{name}, the time-out is {clock}: {error:?}"),
                got,
                (expected, expected - 1, true),
            )
        },
    )
    .await;
}

/// Counts withdrawals, and allows all of them.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl tower::retry::budget::Budget for Counting {
    fn deposit(&self) {}

    fn withdraw(&self) -> bool {
        self.0.fetch_add(1, Relaxed);
        true
    }
}

/// Whatever the stream, so that a client's own bounds hold.
#[test]
fn a_replay_body_is_unpin_send_and_sync() {
    fn holds<T: Unpin + Send + Sync + Default>(_: &T) {}
    struct NotSync(std::cell::Cell<u8>, std::marker::PhantomPinned);
    impl Body for NotSync {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.set(0);
            Poll::Ready(None)
        }
    }
    holds(&ReplayBody::new(NotSync(std::cell::Cell::new(1), std::marker::PhantomPinned), 1));
}

#[test]
fn nothing_is_held_of_a_body_that_has_ended_before_it_is_sent() {
    // Says that it is dropped, by its count.
    struct Ended {
        _alive: Arc<()>,
    }

    impl Body for Ended {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
            unreachable!("it has ended")
        }

        fn is_end_stream(&self) -> bool {
            true
        }
    }
    let alive = Arc::new(());
    let mut body = ReplayBody::new(Ended { _alive: Arc::clone(&alive) }, 10);
    assert_eq!(Arc::strong_count(&alive), 1);
    let mut copy = body.try_replay().unwrap();
    for body in [&mut body, &mut copy] {
        assert!(body.is_end_stream() && body.can_replay());
        assert_eq!(body.size_hint().exact(), Some(0));
        let frame = Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(frame, Poll::Ready(None)));
    }
}
