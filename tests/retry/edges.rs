//! Limits, bounds and secrets at their edges.

use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Drain, Failure, Limit, OverMax, Policy, Replay, RetryError,
    RetryHistory, RetryLayer, RetryPolicy, RetryService, StopReason,
};

use crate::{pairs::pairs, rows_async};

type Body = Full<Bytes>;

fn policy() -> RetryPolicy {
    RetryPolicy::new().no_budget().backoff(Backoff::none())
}

fn get() -> Request<Body> {
    Request::get("http://u:secret@h.example/p?q=secret").body(Body::from("body")).unwrap()
}

fn answer(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::from("answer")).unwrap()
}

/// What the policy makes of a GET that came to this error.
fn class(error: &(dyn Error + 'static)) -> Failure {
    Policy::classify(&policy(), Err(error)).expect("an error is a failure")
}

#[test]
fn a_service_that_fails_at_once_for_ever_still_lets_its_task_be_cancelled() {
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        assert!(calls.fetch_add(1, Relaxed) < 1000, "one poll makes attempts without end");
        ready(Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused)))
    });
    let client = RetryLayer::new(policy().total(None)).layer(server);
    let mut call = tokio_test::task::spawn(client.oneshot(get()));
    for _ in 0..10 {
        assert!(call.poll().is_pending());
        assert!(call.is_woken(), "the next attempt is not asked for");
    }
}

/// Always has another frame; counts them, and fails the test rather than run for ever.
struct Torrent {
    frame: Bytes,
    polled: Arc<AtomicUsize>,
}

impl http_body::Body for Torrent {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert!(self.polled.fetch_add(1, Relaxed) < 50_000_000, "the drain reads without end");
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

/// One 503 with a torrent, then a 200.
async fn after_torrent(frame: &'static [u8], drain: Drain) -> usize {
    let (polled, calls) = (Arc::<AtomicUsize>::default(), AtomicUsize::new(0));
    let server = service_fn(|_: Request<Body>| {
        let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        let body = Torrent { frame: Bytes::from_static(frame), polled: Arc::clone(&polled) };
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

/// Ends at its second poll, and says so.
struct Short {
    asked: bool,
    ended: Arc<AtomicBool>,
}

impl http_body::Body for Short {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if std::mem::replace(&mut self.asked, true) {
            self.ended.store(true, Relaxed);
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
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
                    Response::builder().status(status).body(Short { asked: false, ended }).unwrap(),
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

/// Of a length that it knows: its end is known with its last byte.
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

#[test]
fn an_attempt_shows_no_header_value() {
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer secret".parse().unwrap())]);
    let head = Response::builder()
        .status(503)
        .header("set-cookie", "sid=secret")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let attempt = Attempt::new(&Method::GET, &headers, Ok(&head), Failure::Status(head.status));
    let shown = format!("{attempt:?} {attempt:#?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("GET") && shown.contains("503"), "{shown}");
}

#[test]
fn a_disabled_class_is_raw_though_the_total_is_used_up_too() {
    let (policy, headers) = (policy().total(0).read(Limit::Disabled), HeaderMap::new());
    let error = io::Error::from(io::ErrorKind::ConnectionReset);
    let decision = policy.for_request(&http::Extensions::new()).decide(&Attempt::new(
        &Method::GET,
        &headers,
        Err(&error),
        Failure::Read,
    ));
    assert_eq!(decision, Decision::Return(StopReason::Disabled));
}

#[tokio::test]
async fn a_body_that_turns_out_not_to_replay_leaves_the_response_it_had() {
    let copies = AtomicUsize::new(0);
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        calls.fetch_add(1, Relaxed);
        ready(Ok::<_, BoxError>(answer(503)))
    });
    let layer = RetryLayer::new(policy())
        .replay_with(|body: &Body| (copies.fetch_add(1, Relaxed) == 0).then(|| body.clone()));
    let response = layer.layer(server).oneshot(get()).await.unwrap();
    assert_eq!((response.status(), calls.load(Relaxed)), (StatusCode::SERVICE_UNAVAILABLE, 1));
    let history: &RetryHistory = response.extensions().get().unwrap();
    assert_eq!((history.stop_reason(), history.attempts().len()), (StopReason::Body, 1));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "answer");
}

#[tokio::test]
async fn a_budget_that_refuses_returns_what_there_is() {
    struct Empty;
    impl tower::retry::budget::Budget for Empty {
        fn deposit(&self) {}
        fn withdraw(&self) -> bool {
            false
        }
    }
    let status = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(503))));
    let response =
        RetryLayer::new(policy().budget(Empty)).layer(status).oneshot(get()).await.unwrap();
    assert_eq!(
        response.extensions().get::<RetryHistory>().unwrap().stop_reason(),
        StopReason::Budget
    );

    let broken = |kind: io::ErrorKind| {
        service_fn(move |_: Request<Body>| ready(Err::<Response<Body>, _>(io::Error::from(kind))))
    };
    let client =
        RetryLayer::new(policy().budget(Empty)).layer(broken(io::ErrorKind::ConnectionReset));
    let error = client.oneshot(get()).await.unwrap_err();
    let error: &RetryError = error.downcast_ref().unwrap();
    assert_eq!(
        (error.history().stop_reason(), error.history().attempts().len()),
        (StopReason::Budget, 1)
    );

    let client = RetryLayer::new(policy().budget(Empty).total(2))
        .layer(broken(io::ErrorKind::ConnectionRefused));
    let error = client.oneshot(get()).await.unwrap_err();
    let error: &RetryError = error.downcast_ref().unwrap();
    assert_eq!(
        (error.history().stop_reason(), error.history().attempts().len()),
        (StopReason::Total, 3)
    );
}

#[tokio::test]
async fn a_service_that_fails_to_get_ready_ends_the_request_with_its_own_error() {
    #[derive(Clone)]
    struct Gone(bool);
    #[derive(Debug)]
    struct Closed;
    impl fmt::Display for Closed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("closed")
        }
    }
    impl Error for Closed {}
    impl Service<Request<Body>> for Gone {
        type Response = Response<Body>;
        type Error = Closed;
        type Future = Ready<Result<Response<Body>, Closed>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
            Poll::Ready(if std::mem::take(&mut self.0) { Ok(()) } else { Err(Closed) })
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            ready(Ok(answer(503)))
        }
    }
    let error = RetryLayer::new(policy()).layer(Gone(true)).oneshot(get()).await.unwrap_err();
    assert!(error.is::<Closed>(), "{error:?}");
}

/// Compiles for any replay, as the trait's own bound allows.
#[allow(dead_code)]
fn any_replay<S, R, B>(service: RetryService<S, RetryPolicy, R>) -> impl Service<Request<B>>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone,
    S::Error: Into<BoxError>,
    R: Replay<B>,
{
    service
}

#[tokio::test]
async fn the_future_can_be_spawned() {
    let client = RetryLayer::new(policy())
        .layer(service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(200)))));
    assert_eq!(
        tokio::spawn(client.oneshot(get())).await.unwrap().unwrap().status(),
        StatusCode::OK
    );
}

#[tokio::test]
async fn a_request_that_the_client_cannot_send_is_not_tried_again() {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let relative = Request::get("/path").body(Empty::new()).unwrap();
    let mut version = Request::get("http://127.0.0.1:1/").body(Empty::new()).unwrap();
    *version.version_mut() = http::Version::HTTP_09;
    let https = Request::get("https://127.0.0.1:1/").body(Empty::new()).unwrap();
    let rows = [("a relative URI", relative), ("HTTP/0.9", version), ("https without TLS", https)];
    rows_async::hold(rows, async |(what, request)| {
        let error = Client::request(&client, request).await.unwrap_err();
        (format!("{what}: {error:?}"), class(&error), Failure::Never)
    })
    .await;
}

#[tokio::test]
async fn a_connection_found_closed_before_sending_has_sent_nothing() {
    let (near, far) = tokio::io::duplex(64);
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(
        hyper_util::rt::TokioIo::new(near),
    )
    .await
    .unwrap();
    drop((connection, far));
    let error = sender.ready().await.unwrap_err();
    assert!(error.is_closed());
    assert_eq!(class(&error), Failure::Unsent);
}

/// HTTP/2 over a pipe, to a server that reads a request's head and then says what the test tells it
/// to; it hangs up if told so, else once the client does.
#[cfg(feature = "http2")]
async fn http2(server_says: &[u8], hangs_up: bool) -> Failure {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let said = server_says.to_vec();
    tokio::spawn(async move {
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
        // The preface, SETTINGS, then frames until HEADERS.
        let mut seen = vec![0; 24];
        far.read_exact(&mut seen).await.unwrap();
        loop {
            let mut head = [0; 9];
            far.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            far.read_exact(&mut payload).await.unwrap();
            if head[3] == 1 {
                break;
            }
        }
        far.write_all(&said).await.unwrap();
        far.flush().await.unwrap();
        while !hangs_up && far.read(&mut seen).await.is_ok_and(|read| read > 0) {}
    });
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://h.example/").body(Body::from("upload")).unwrap();
    let error = sender.send_request(request).await.unwrap_err();
    class(&error)
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn http2_tells_what_it_did_not_process_from_what_it_may_have() {
    // RFC 9113 section 6.8: streams past the last one named were not processed, whatever the code.
    let goaway = |last: u8, code: u8| vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, code];
    let reset = |code: u8| vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code];
    let rows = [
        ("GOAWAY NO_ERROR, not us", goaway(0, 0), false, Failure::Unsent),
        ("GOAWAY ENHANCE_YOUR_CALM, not us", goaway(0, 11), false, Failure::Unsent),
        ("GOAWAY INTERNAL_ERROR, not us", goaway(0, 2), false, Failure::Unsent),
        ("GOAWAY NO_ERROR with us, then the end", goaway(1, 0), true, Failure::Read),
        ("GOAWAY INTERNAL_ERROR with us, then the end", goaway(1, 2), true, Failure::Read),
        ("RST_STREAM REFUSED_STREAM", reset(7), false, Failure::Unsent),
        ("RST_STREAM CANCEL", reset(8), false, Failure::Read),
        ("RST_STREAM INTERNAL_ERROR", reset(2), false, Failure::Read),
        ("the end", vec![], true, Failure::Read),
    ];
    rows_async::hold(rows, async |(what, said, hangs_up, want)| {
        let got = http2(&said, hangs_up).await;
        (what, got, want)
    })
    .await;
}

/// A body that never comes.
#[derive(Debug)]
struct Stalled;

impl http_body::Body for Stalled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

fn stalled() -> Response<Stalled> {
    Response::builder().status(503).header("retry-after", "60").body(Stalled).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_raised_response_is_read_no_longer_than_the_deadline() {
    let second = Duration::from_secs(1);
    let server = service_fn(|_: Request<Body>| async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        Ok::<_, BoxError>(stalled())
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

/// As it would be with all that was kept, for each class and method.
#[tokio::test]
async fn a_request_that_is_sent_once_ends_for_the_reason_that_the_policy_has() {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset};
    let key = |mut request: Request<Body>| {
        request.headers_mut().insert("idempotency-key", "1".parse().unwrap());
        request
    };
    let to = |method: Method| {
        Request::builder().method(method).uri("http://h/").body(Body::default()).unwrap()
    };
    let upgrade = |mut request: Request<Body>| {
        request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        request
    };
    // Whether an error is a RetryError, and of which reason.
    let rows: Vec<(&str, RetryPolicy, Request<Body>, io::ErrorKind, Option<StopReason>)> = vec![
        (
            "total 0, GET",
            policy().total(0),
            to(Method::GET),
            ConnectionReset,
            Some(StopReason::Total),
        ),
        ("total 0, POST", policy().total(0), to(Method::POST), ConnectionReset, None),
        (
            "total 0, POST, refused",
            policy().total(0),
            to(Method::POST),
            ConnectionRefused,
            Some(StopReason::Total),
        ),
        (
            "total 0, POST with a key",
            policy().total(0),
            key(to(Method::POST)),
            ConnectionReset,
            Some(StopReason::Total),
        ),
        ("disabled", RetryPolicy::none(), to(Method::GET), ConnectionReset, None),
        (
            "connect 0, POST, refused",
            policy().connect(0),
            to(Method::POST),
            ConnectionRefused,
            Some(StopReason::Connect),
        ),
        ("connect 0, POST, read", policy().connect(0), to(Method::POST), ConnectionReset, None),
        ("CONNECT", policy().any_method(), to(Method::CONNECT), ConnectionRefused, None),
        ("an upgrade", policy().any_method(), upgrade(to(Method::GET)), ConnectionRefused, None),
    ];
    rows_async::hold(rows, async |(what, policy, request, kind, want)| {
        let server =
            service_fn(|_: Request<Body>| ready(Err::<Response<Body>, _>(io::Error::from(kind))));
        let error = RetryLayer::new(policy).layer(server).oneshot(request).await.unwrap_err();
        let got = error.downcast_ref::<RetryError>().map(|error| error.history().stop_reason());
        (what, got, want)
    })
    .await;

    let server = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(503))));
    for (policy, method, reason) in [
        (policy().total(0), Method::GET, StopReason::Total),
        (policy().total(0), Method::POST, StopReason::Method),
        (RetryPolicy::none(), Method::GET, StopReason::Disabled),
        (policy().any_method(), Method::CONNECT, StopReason::Disabled),
    ] {
        let response = RetryLayer::new(policy).layer(server).oneshot(to(method)).await.unwrap();
        assert_eq!(response.extensions().get::<RetryHistory>().unwrap().stop_reason(), reason);
    }
}

/// The first 512 and the last 512, so that a request that goes on for years does not fill the
/// memory.
#[tokio::test]
async fn a_history_is_bounded_and_has_the_first_and_the_last_attempts() {
    let server = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(503))));
    let response =
        RetryLayer::new(policy().total(2999)).layer(server).oneshot(get()).await.unwrap();
    let history: &RetryHistory = response.extensions().get().unwrap();
    let numbers: Vec<_> = history.attempts().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=512).chain(2489..=3000).collect::<Vec<_>>());
    assert_eq!(history.to_string().lines().count(), 1024);
}

/// The clock has jumped over the deadline while the backoff was slept, as it does on a machine that
/// was suspended.
#[tokio::test(start_paused = true)]
async fn a_delay_that_ends_late_sends_nothing_after_the_deadline() {
    let second = Duration::from_secs(1);
    for broken in [false, true] {
        let calls = AtomicUsize::new(0);
        let server = service_fn(|_: Request<Body>| {
            calls.fetch_add(1, Relaxed);
            ready(if broken {
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            } else {
                Ok(answer(503))
            })
        });
        let policy = policy().backoff(Backoff::constant(second)).deadline(5 * second);
        let mut call =
            tokio_test::task::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        assert!(call.poll().is_pending());
        tokio::time::advance(10 * second).await;
        // It lets the drained connection have its turn first.
        let Some(Err(error)) = (0..3).find_map(|_| match call.poll() {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }) else {
            panic!("it goes on")
        };
        let error: &RetryError = error.downcast_ref().unwrap();
        assert_eq!(
            (error.history().stop_reason(), error.history().attempts().len()),
            (StopReason::Deadline, 1)
        );
        assert_eq!((calls.load(Relaxed), error.source().is_some()), (1, broken));
        assert!(
            error.history().to_string().ends_with("; no time left before the deadline"),
            "{}",
            error.history()
        );
    }
}

/// Readiness that comes late too; and of a service that gets ready too late, none is asked for.
#[tokio::test(start_paused = true)]
async fn a_service_that_gets_ready_late_is_not_called_after_the_deadline() {
    /// Ready at once the first time, then at the second time of asking.
    #[derive(Clone, Default)]
    struct Late {
        asked: Arc<AtomicUsize>,
        calls: Arc<AtomicUsize>,
    }
    impl Service<Request<Body>> for Late {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = Ready<Result<Response<Body>, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if self.asked.fetch_add(1, Relaxed) == 1 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            self.calls.fetch_add(1, Relaxed);
            ready(Err(io::Error::from(io::ErrorKind::ConnectionRefused).into()))
        }
    }
    let second = Duration::from_secs(1);
    for (delay, asked) in [(Duration::ZERO, 3), (second, 1)] {
        let service = Late::default();
        let policy = policy().backoff(Backoff::constant(delay)).deadline(5 * second);
        let mut call =
            tokio_test::task::spawn(RetryLayer::new(policy).layer(service.clone()).oneshot(get()));
        while call.poll().is_pending() && call.is_woken() {}
        tokio::time::advance(10 * second).await;
        let Poll::Ready(Err(error)) = call.poll() else { panic!("it goes on") };
        let error: &RetryError = error.downcast_ref().unwrap();
        assert_eq!(error.history().stop_reason(), StopReason::Deadline);
        assert_eq!(
            (service.calls.load(Relaxed), service.asked.load(Relaxed)),
            (1, asked),
            "after {delay:?}"
        );
    }
}

/// A delay of ages is slept for, and holds no body meanwhile; a limit of all there are retries too.
#[tokio::test(start_paused = true)]
async fn delays_of_years_are_slept_for_and_hold_no_connection() {
    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Relaxed);
        }
    }
    impl http_body::Body for Held {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
            Poll::Pending
        }
    }
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let rows = [
        ("Retry-After, u64", policy().retry_after_max(Duration::MAX), "99999999999999999999999"),
        (
            "Retry-After, a date",
            policy().retry_after_max(Duration::MAX),
            "Fri, 31 Dec 9999 23:59:59 GMT",
        ),
        (
            "clamped to ages",
            policy().retry_after_max(1000 * year).retry_after_over_max(OverMax::Clamp),
            "99999999999999",
        ),
        ("a constant", policy().backoff(Backoff::constant(Duration::MAX)), "no"),
        (
            "with limits of ages",
            policy().backoff(Backoff::constant(year)).deadline(Duration::MAX),
            "no",
        ),
        (
            "with a drain of ages",
            policy()
                .backoff(Backoff::constant(Duration::MAX))
                .drain(Drain { bytes: 9, time: year }),
            "no",
        ),
    ];
    for (what, policy, asked) in rows {
        let held = Arc::new(AtomicUsize::new(0));
        let bodies = Arc::clone(&held);
        let server = service_fn(move |_: Request<Body>| {
            bodies.fetch_add(1, Relaxed);
            let response = Response::builder().status(503).header("retry-after", asked);
            ready(Ok::<_, BoxError>(response.body(Held(Arc::clone(&bodies))).unwrap()))
        });
        let drains = Policy::drain(&policy).time == year;
        let policy = policy.total(u32::MAX).read(u32::MAX);
        let call = tokio::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        for (wait, holds) in [(1, 1), (200, usize::from(drains))] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            assert_eq!(
                (held.load(Relaxed), call.is_finished()),
                (holds, false),
                "{what}, after {wait} ms"
            );
        }
        call.abort();
    }
}

/// An answer at once is taken, anything else is cut off.
#[tokio::test(start_paused = true)]
async fn times_of_zero_leave_the_first_attempt_the_time_to_answer_at_once() {
    let zero = Duration::ZERO;
    for policy in [policy().deadline(zero), policy().attempt_timeout(zero).total(2)] {
        let at_once = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(200))));
        let response = RetryLayer::new(policy.clone()).layer(at_once).oneshot(get()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);

        let begin = tokio::time::Instant::now();
        let never = service_fn(|_: Request<Body>| {
            std::future::pending::<Result<Response<Body>, BoxError>>()
        });
        let error = RetryLayer::new(policy).layer(never).oneshot(get()).await.unwrap_err();
        assert!(error.is::<RetryError>());
        assert!(begin.elapsed() <= Duration::from_millis(5), "{:?}", begin.elapsed());
    }
}

/// Refuses the first call, and is then not ready before it is told.
#[derive(Clone)]
struct Slow {
    calls: Arc<AtomicUsize>,
    ready_at: Option<tokio::time::Instant>,
    timer: Arc<Mutex<Option<std::pin::Pin<Box<tokio::time::Sleep>>>>>,
}

impl Service<Request<Full<Bytes>>> for Slow {
    type Response = Response<Full<Bytes>>;
    type Error = BoxError;
    type Future = std::future::Ready<Result<Response<Full<Bytes>>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.calls.load(Relaxed) == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(at) = self.ready_at else { return Poll::Pending };
        let mut timer = self.timer.lock().unwrap();
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        timer.as_mut().poll(cx).map(Ok)
    }

    fn call(&mut self, _request: Request<Full<Bytes>>) -> Self::Future {
        std::future::ready(match self.calls.fetch_add(1, Relaxed) {
            0 => Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into()),
            _ => Ok(Response::new(Full::default())),
        })
    }
}

/// No attempt runs while the service gets ready, so its time limit does not count and a POST, which
/// was never sent, goes on.
#[tokio::test(start_paused = true)]
async fn a_wait_for_readiness_is_bounded_by_the_deadline_alone() {
    let policy = || {
        RetryPolicy::new()
            .attempt_timeout(Duration::from_millis(100))
            .backoff(Backoff::none())
            .no_budget()
    };
    // When it is ready, the deadline, and whether a second call is made.
    let rows = [
        (Some(5_000), None, true),
        (Some(500), Some(1_000), true),
        (Some(5_000), Some(1_000), false),
        (None, Some(1_000), false),
    ];
    rows_async::hold(
        pairs([Method::GET, Method::POST], rows),
        async |(method, (ready, deadline, answers))| {
            let now = tokio::time::Instant::now();
            let ready_at = ready.map(|millis| now + Duration::from_millis(millis));
            let service = Slow { calls: Arc::default(), ready_at, timer: Arc::default() };
            let calls = Arc::clone(&service.calls);
            let policy = deadline
                .map_or_else(policy, |millis| policy().deadline(Duration::from_millis(millis)));
            let request =
                Request::builder().method(&method).uri("http://h/").body(Full::default()).unwrap();
            let end = RetryLayer::new(policy).layer(service).oneshot(request).await;
            let made = calls.load(Relaxed);
            let end = end
                .map(|response| {
                    response.extensions().get::<RetryHistory>().unwrap().attempts().len()
                })
                .map_err(|error| {
                    error.downcast_ref::<RetryError>().map(|error| error.history().stop_reason())
                });
            let want = match answers {
                true => (2, Ok(2)),
                false => (1, Err(Some(StopReason::Deadline))),
            };
            (format!("{method} ready {ready:?} deadline {deadline:?}"), (made, end), want)
        },
    )
    .await;
}

/// A body that always has more holds its task for one turn at a time, however much may be read of
/// it.
#[tokio::test(start_paused = true)]
async fn a_body_without_an_end_lets_others_have_their_turn() {
    struct Endless;
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = BoxError;
        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
            Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[0; 1000])))))
        }
    }
    let service = tower::service_fn(|_: Request<Full<Bytes>>| async {
        Ok::<_, BoxError>(Response::builder().status(503).body(Endless).unwrap())
    });
    let drain = Drain { bytes: usize::MAX, time: Duration::MAX };
    let client = RetryLayer::new(RetryPolicy::new().no_budget().drain(drain)).layer(service);
    let request = Request::get("http://h/").body(Full::default()).unwrap();
    // Paused time moves once every task waits, which this one never does: the turns are counted
    // instead.
    let mut call = tokio_test::task::spawn(client.oneshot(request));
    for _ in 0..100 {
        if call.poll().is_ready() {
            return;
        }
        assert!(call.is_woken());
    }
}
