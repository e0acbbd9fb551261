//! How the body of a response that is not returned is read and dropped.

use std::{
    future::{pending, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Frame;
use tokio::time::Instant;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{Backoff, Drain, RetryError, RetryLayer, RetryPolicy};

use crate::{
    bodies::{FakeBody, data},
    fakes::{Body, Live, SECOND, Token, get, policy},
    rows_async,
};

/// One 503 with an endless body, then a 200.
async fn after_torrent(frame: &'static [u8], drain: Drain) -> usize {
    let (polled, calls) = (Arc::<AtomicUsize>::default(), AtomicUsize::new(0));
    let server = service_fn(|_: Request<Body>| {
        let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        let counted = Arc::clone(&polled);
        // Always has another frame. Fails the test, so that it does not run for ever.
        let body = FakeBody::new(move |_| {
            assert!(counted.fetch_add(1, Relaxed) < 50_000_000, "the drain reads without end");
            data(frame)
        });
        ready(Ok::<_, BoxError>(Response::builder().status(status).body(body).unwrap()))
    });
    let response =
        RetryLayer::new(policy().drain(drain)).layer(server).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    polled.load(Relaxed)
}

#[tokio::test]
async fn a_drain_ends_in_time_though_the_body_always_has_more() {
    after_torrent(b"x", Drain { bytes: usize::MAX, time: Duration::from_millis(5) }).await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_ends_though_its_frames_are_empty() {
    let polled = after_torrent(b"", Drain::default()).await;
    assert!(polled <= Drain::default().bytes + 1, "{polled} frames");
}

/// Ends at its second poll, and reports its end.
fn short(ended: Arc<AtomicBool>) -> FakeBody {
    let mut frames = Some("x").into_iter();
    FakeBody::new(move |_| match frames.next() {
        Some(frame) => data(frame),
        None => {
            ended.store(true, Relaxed);
            Poll::Ready(None)
        }
    })
}

#[tokio::test]
async fn a_drain_without_a_time_limit_is_a_drain() {
    rows_async::hold(
        [
            (10, Duration::MAX, true),
            (usize::MAX, Duration::MAX, true),
            (10, Duration::from_secs(1), true),
            (0, Duration::MAX, false),
        ],
        async |(bytes, time, drained)| {
            let ended = Arc::<AtomicBool>::default();
            let calls = AtomicUsize::new(0);
            let server = service_fn(|_: Request<Body>| {
                let first = calls.fetch_add(1, Relaxed) == 0;
                let ended = if first { Arc::clone(&ended) } else { Arc::default() };
                let status = if first { 503 } else { 200 };
                ready(Ok::<_, BoxError>(
                    Response::builder().status(status).body(short(ended)).unwrap(),
                ))
            });
            RetryLayer::new(policy().drain(Drain { bytes, time }))
                .layer(server)
                .oneshot(get())
                .await
                .unwrap();
            (format!("{bytes} bytes in {time:?}"), ended.load(Relaxed), drained)
        },
    )
    .await;
}

/// Reports its length, so that its end is known with its last byte.
#[tokio::test]
async fn a_body_that_knows_its_end_is_not_asked_for_it() {
    struct Known(Arc<AtomicUsize>, bool);
    impl http_body::Body for Known {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            self.0.fetch_add(1, Relaxed);
            let more = std::mem::take(&mut self.1);
            Poll::Ready(more.then(|| Ok(Frame::data(Bytes::from_static(b"x")))))
        }
        fn is_end_stream(&self) -> bool {
            !self.1
        }
    }
    let (polled, calls) = (Arc::<AtomicUsize>::default(), AtomicUsize::new(0));
    let server = service_fn(|_: Request<Body>| {
        let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        ready(Ok::<_, BoxError>(
            Response::builder().status(status).body(Known(Arc::clone(&polled), true)).unwrap(),
        ))
    });
    RetryLayer::new(policy()).layer(server).oneshot(get()).await.unwrap();
    assert_eq!(polled.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_raised_response_is_read_no_longer_than_the_deadline() {
    let second = Duration::from_secs(1);
    let server = service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        let stalled = FakeBody::new(|_| Poll::Pending);
        Response::builder().status(503).header("retry-after", "60").body(stalled)
    });
    let policy = policy()
        .raise_on_status(true)
        .deadline(second)
        .drain(Drain { bytes: 1024, time: 60 * second });
    let begin = tokio::time::Instant::now();
    let error = RetryLayer::new(policy).layer(server).oneshot(get()).await.unwrap_err();
    assert!(error.is::<RetryError>());
    assert!(begin.elapsed() <= second + Duration::from_millis(2), "{:?}", begin.elapsed());
}

/// A body that always has more data occupies its task for one turn at a time, however much of it
/// may be read.
#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_lets_others_have_their_turn() {
    let server = service_fn(|_: Request<Body>| {
        let endless = FakeBody::new(|_| data(&[0; 1000][..]));
        ready(Response::builder().status(503).body(endless))
    });
    let drain = Drain { bytes: usize::MAX, time: Duration::MAX };
    let client = RetryLayer::new(RetryPolicy::new().no_budget().drain(drain)).layer(server);
    // Paused time advances only when every task waits, and this one never does. So turns are
    // counted.
    let mut call = tokio_test::task::spawn(client.oneshot(get()));
    for _ in 0..100 {
        if call.poll().is_ready() {
            return;
        }
        assert!(call.is_woken());
    }
}

/// Never ends, and lives until it is dropped.
fn endless(token: Token) -> FakeBody {
    FakeBody::new(move |_| {
        let _ = &token;
        Poll::Pending
    })
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_never_ends_does_not_delay_the_retry() {
    let live = Live::default();
    let sent = AtomicU32::new(0);
    let server = service_fn(|_: Request<Body>| {
        let status = if sent.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        ready(Ok::<_, BoxError>(
            Response::builder().status(status).body(endless(live.one())).unwrap(),
        ))
    });
    let begin = Instant::now();
    let response = RetryLayer::new(policy()).layer(server).oneshot(get()).await.unwrap();
    assert_eq!((response.status(), begin.elapsed()), (StatusCode::OK, Duration::ZERO));
    assert_eq!(live.count(), 1, "the first body is gone with the request's end");
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_never_ends_is_let_go_while_the_backoff_is_slept() {
    let live = Live::default();
    let server = service_fn(|_: Request<Body>| {
        let response = Response::builder().status(503).header("retry-after", "60");
        ready(Ok::<_, BoxError>(response.body(endless(live.one())).unwrap()))
    });
    let mut call = tokio_test::task::spawn(RetryLayer::new(policy()).layer(server).oneshot(get()));
    assert!(call.poll().is_pending());
    assert_eq!(live.count(), 1);
    tokio::time::advance(Duration::from_millis(101)).await;
    assert!(call.poll().is_pending());
    assert_eq!(live.count(), 0);
}

/// Breaks, and must not be polled again.
fn broken(token: Token) -> FakeBody {
    let mut broken = false;
    FakeBody::new(move |_| {
        let _ = &token;
        assert!(!std::mem::replace(&mut broken, true), "it is broken");
        Poll::Ready(Some(Err("broken".into())))
    })
}

/// Only its connection is lost.
#[tokio::test(start_paused = true)]
async fn an_error_body_that_breaks_is_let_go_at_once_and_the_retry_goes_on() {
    for delay in [Duration::ZERO, 3600 * SECOND] {
        let live = Live::default();
        let sent = AtomicU32::new(0);
        let server = service_fn(|_: Request<Body>| {
            assert_eq!(live.count(), 0, "the body of the attempt before is still held");
            let status = if sent.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
            ready(Ok::<_, BoxError>(
                Response::builder().status(status).body(broken(live.one())).unwrap(),
            ))
        });
        let begin = Instant::now();
        let policy = policy().backoff(Backoff::constant(delay));
        let mut call =
            tokio_test::task::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        assert!(call.poll().is_pending());
        assert_eq!(live.count(), 0, "after {delay:?}");
        let response = call.await.unwrap();
        assert_eq!((response.status(), begin.elapsed()), (StatusCode::OK, delay));
    }
}

#[tokio::test]
async fn a_drained_connection_has_its_turn_before_the_next_attempt() {
    let (end, back) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicUsize::new(1)));
    let (ends, gives) = (Arc::clone(&end), Arc::clone(&back));
    tokio::spawn(async move {
        loop {
            ends.notified().await;
            gives.fetch_add(1, Relaxed);
        }
    });
    // Its task waits by now.
    tokio::task::yield_now().await;
    let at_hand = Arc::clone(&back);
    let server = service_fn(move |_: Request<Body>| {
        assert_eq!(at_hand.swap(0, Relaxed), 1, "the connection is not back");
        // Reports its end to a task, like that of a connection, which then returns the connection
        // to the pool.
        let tells = Arc::clone(&end);
        let body = FakeBody::new(move |_| {
            tells.notify_one();
            Poll::Ready(None)
        });
        ready(Ok::<_, BoxError>(Response::builder().status(503).body(body).unwrap()))
    });
    tokio::spawn(RetryLayer::new(policy()).layer(server).oneshot(get())).await.unwrap().unwrap();
}

/// A body that stalls holds its connection no longer than allowed, even if nothing wakes the
/// attempt that runs at the same time.
#[tokio::test(start_paused = true)]
async fn an_error_body_that_stalls_is_let_go_beside_the_next_attempt() {
    let milliseconds = Duration::from_millis;
    for (delay, limit) in
        [(milliseconds(10), None), (milliseconds(10), Some(SECOND)), (Duration::ZERO, Some(SECOND))]
    {
        let (live, sent) = (Live::default(), Arc::new(AtomicUsize::new(0)));
        let (counted, calls) = (live.clone(), Arc::clone(&sent));
        let server = service_fn(move |_: Request<Body>| {
            let (first, live) = (calls.fetch_add(1, Relaxed) == 0, counted.clone());
            async move {
                if !first {
                    pending::<()>().await;
                }
                Ok::<_, BoxError>(
                    Response::builder().status(503).body(endless(live.one())).unwrap(),
                )
            }
        });
        let mut policy = policy().backoff(Backoff::constant(delay));
        if let Some(limit) = limit {
            policy = policy.attempt_timeout(limit);
        }
        let call = tokio::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        let mut held = Vec::new();
        for wait in [50, 45, 10, 50] {
            tokio::time::sleep(milliseconds(wait)).await;
            held.push((sent.load(Relaxed), live.count()));
        }
        assert_eq!(held, [(2, 1), (2, 1), (2, 0), (2, 0)], "after {delay:?}, within {limit:?}");
        call.abort();
    }
}
