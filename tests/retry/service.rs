//! The retry layer around services made for the test, in paused time.

use std::{
    future::{Future, Ready, pending, ready},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::retry::{
    Backoff, Drain, Failure, RetryError, RetryHistory, RetryLayer, RetryPolicy, RetryService,
    StopReason,
};

type Body = Full<Bytes>;

const SECOND: Duration = Duration::from_secs(1);

fn policy() -> RetryPolicy {
    RetryPolicy::new().no_budget().backoff(Backoff::none())
}

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://u:secret@h.example/p?q=secret")
        .body(Body::from("body"))
        .unwrap()
}

fn get() -> Request<Body> {
    request(Method::GET)
}

fn answer(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::from("answer")).unwrap()
}

/// Answers from a list, then with 200; panics on a call without readiness of its own. Keeps what it
/// was sent.
#[derive(Default)]
struct Server {
    ready: bool,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    script: Mutex<std::collections::VecDeque<Result<u16, std::io::ErrorKind>>>,
    seen: Mutex<Vec<http::request::Parts>>,
}

impl Server {
    fn new(script: impl IntoIterator<Item = Result<u16, std::io::ErrorKind>>) -> Self {
        let shared =
            Shared { script: Mutex::new(script.into_iter().collect()), ..Shared::default() };
        Self { ready: false, shared: Arc::new(shared) }
    }

    fn sent(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }
}

impl Clone for Server {
    /// A clone is not ready because its original is.
    fn clone(&self) -> Self {
        Self { ready: false, shared: Arc::clone(&self.shared) }
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<Body>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        // What a layer further in would add; it must not come back with the next attempt.
        request.headers_mut().append("x-inner", HeaderValue::from_static("added"));
        self.shared.seen.lock().unwrap().push(request.into_parts().0);
        ready(match self.shared.script.lock().unwrap().pop_front().unwrap_or(Ok(200)) {
            Ok(status) => Ok(answer(status)),
            Err(kind) => Err(kind.into()),
        })
    }
}

fn client(policy: RetryPolicy, server: &Server) -> RetryService<Server> {
    RetryLayer::new(policy).layer(server.clone())
}

fn history(response: &Response<Body>) -> &RetryHistory {
    response.extensions().get().expect("an attempt failed")
}

#[tokio::test]
async fn each_attempt_follows_readiness_and_starts_from_the_callers_head() {
    let server = Server::new([Ok(503), Err(std::io::ErrorKind::ConnectionReset), Ok(502)]);
    let mut call = get();
    call.headers_mut().append("x-mine", HeaderValue::from_static("1"));
    call.extensions_mut().insert(7_u8);
    let response = client(policy(), &server).oneshot(call).await.unwrap();
    assert_eq!(response.status(), 200);
    let seen = server.shared.seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    for head in &*seen {
        assert_eq!((head.headers.get_all("x-inner").iter().count(), head.headers.len()), (1, 2));
        assert_eq!(head.extensions.get::<u8>(), Some(&7));
        assert_eq!(head.uri, "http://u:secret@h.example/p?q=secret");
    }
    let attempts = history(&response).attempts();
    let failures: Vec<_> = attempts.iter().map(|attempt| attempt.failure).collect();
    let status = |code| Some(Failure::Status(StatusCode::from_u16(code).unwrap()));
    assert_eq!(failures, [status(503), Some(Failure::Read), status(502), None]);
    assert_eq!(history(&response).stop_reason(), StopReason::Success);
}

#[tokio::test]
async fn a_success_carries_no_history() {
    let response = client(policy(), &Server::default()).oneshot(get()).await.unwrap();
    assert!(response.extensions().get::<RetryHistory>().is_none());
}

#[tokio::test]
async fn a_success_is_a_failure_where_the_caller_says_so() {
    let rows = [
        ("listed", policy().status_forcelist([StatusCode::OK]), 4),
        ("classified", policy().classify(|outcome| outcome.is_ok().then_some(Failure::Other)), 4),
        ("neither", policy().status_forcelist([StatusCode::NOT_FOUND]), 1),
        ("by Retry-After alone", policy().status_forcelist([]), 1),
    ];
    for (what, policy, sends) in rows {
        let server = Server::new([]);
        client(policy, &server).oneshot(get()).await.unwrap();
        assert_eq!(server.sent(), sends, "{what}");
    }
}

#[tokio::test]
async fn row_25_the_last_response_is_returned_with_the_history_of_every_attempt() {
    let server = Server::new([Ok(503); 9]);
    let response = client(policy().total(4), &server).oneshot(get()).await.unwrap();
    assert_eq!((response.status(), server.sent()), (StatusCode::SERVICE_UNAVAILABLE, 5));
    assert_eq!(
        (history(&response).attempts().len(), history(&response).stop_reason()),
        (5, StopReason::Total)
    );
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "answer");
}

#[tokio::test]
async fn row_26_raise_on_status_makes_it_an_error() {
    let server = Server::new([Ok(503); 9]);
    let error =
        client(policy().total(2).raise_on_status(true), &server).oneshot(get()).await.unwrap_err();
    let error: &RetryError = error.downcast_ref().expect("the limit is used up");
    assert_eq!((server.sent(), error.history().attempts().len()), (3, 3));
    assert_eq!(
        error.to_string(),
        "gave up after 3 attempts: no retries left in total (last: status 503)"
    );
    let timeline = error.history().to_string();
    assert_eq!(timeline.lines().count(), 3);
    assert!(timeline.starts_with("attempt 1: 503 Service Unavailable after "), "{timeline}");
    assert!(!format!("{error:?} {timeline}").contains("secret"));
}

#[tokio::test(start_paused = true)]
async fn a_history_reads_as_a_timeline() {
    let script = Mutex::new(
        [Ok(503), Err(std::io::ErrorKind::ConnectionReset), Ok(429), Ok(200)].into_iter(),
    );
    let server = service_fn(|_: Request<Body>| {
        let next = script.lock().unwrap().next();
        async move {
            tokio::time::sleep(SECOND / 4).await;
            next.unwrap_or(Ok(503)).map(answer).map_err(std::io::Error::from)
        }
    });
    let client = RetryLayer::new(policy().backoff(Backoff::urllib3(SECOND)).total(3)).layer(server);
    let response = client.clone().oneshot(get()).await.unwrap();
    let timeline = "attempt 1: 503 Service Unavailable after 250.0ms, again at once\n\
                    attempt 2: read error after 250.0ms, again in 2.0s\n\
                    attempt 3: 429 Too Many Requests after 250.0ms, again in 4.0s\n\
                    attempt 4: 200 OK after 250.0ms; succeeded";
    assert_eq!(history(&response).to_string(), timeline);

    let mut call = get();
    call.extensions_mut().insert(policy().total(0).raise_on_status(true));
    let error = client.oneshot(call).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "gave up after 1 attempt: no retries left in total (last: status 503)"
    );
    let history = error.downcast_ref::<RetryError>().unwrap().history();
    let timeline = "attempt 1: 503 Service Unavailable after 250.0ms; no retries left in total";
    assert_eq!(history.to_string(), timeline);
}

#[tokio::test]
async fn errors_that_are_not_retried_come_through_as_they_were() {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset};
    let any = Method::GET;
    let disabled = tower_outbound::retry::Limit::Disabled;
    let rows = [
        ("a POST that may have been processed", policy(), Method::POST, ConnectionReset, 1, false),
        ("row 9: disabled", policy().total(disabled), any.clone(), ConnectionReset, 1, false),
        ("a class disabled", policy().read(disabled), any.clone(), ConnectionReset, 1, false),
        ("row 8: total 0", policy().total(0), any.clone(), ConnectionReset, 1, true),
        ("used up", policy().total(2), any, ConnectionReset, 3, true),
        (
            "row 11: a POST that was never sent is retried",
            policy().total(2),
            Method::POST,
            ConnectionRefused,
            3,
            true,
        ),
    ];
    for (row, policy, method, kind, sends, wrapped) in rows {
        let server = Server::new([Err(kind); 9]);
        let error = client(policy, &server).oneshot(request(method)).await.unwrap_err();
        let inner: Option<&std::io::Error> = match error.downcast_ref::<RetryError>() {
            Some(error) => {
                std::error::Error::source(error).and_then(|source| source.downcast_ref())
            }
            None => error.downcast_ref(),
        };
        assert_eq!(inner.map(std::io::Error::kind), Some(kind), "{row}");
        assert_eq!((server.sent(), error.is::<RetryError>()), (sends, wrapped), "{row}");
    }
}

/// No driver at all: a timer would panic.
#[test]
fn zero_delay_touches_no_timer() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let server = Server::new([Ok(503), Ok(503)]);
    let response = runtime.block_on(client(policy(), &server).oneshot(get())).unwrap();
    assert_eq!((response.status(), server.sent()), (StatusCode::OK, 3));
}

#[tokio::test(start_paused = true)]
async fn retry_after_beyond_the_deadline_returns_the_response_now() {
    let sent = AtomicU32::new(0);
    let server = service_fn(|_: Request<Body>| {
        sent.fetch_add(1, Relaxed);
        ready(Ok::<_, BoxError>(
            Response::builder()
                .status(503)
                .header("retry-after", "60")
                .body(Body::default())
                .unwrap(),
        ))
    });
    let begin = Instant::now();
    let client = RetryLayer::new(policy().deadline(30 * SECOND)).layer(server);
    let response = client.oneshot(get()).await.unwrap();
    assert_eq!((sent.load(Relaxed), begin.elapsed()), (1, Duration::ZERO));
    assert_eq!(history(&response).stop_reason(), StopReason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_an_attempt_in_flight_and_the_attempt_timeout_each() {
    let server = || service_fn(|_: Request<Body>| pending::<Result<Response<Body>, BoxError>>());
    let begin = Instant::now();
    let layer =
        RetryLayer::new(policy().total(None).attempt_timeout(2 * SECOND).deadline(5 * SECOND));
    let error = layer.layer(server()).oneshot(get()).await.unwrap_err();
    let error: &RetryError = error.downcast_ref().unwrap();
    assert_eq!(begin.elapsed(), 5 * SECOND);
    assert_eq!(
        (error.history().attempts().len(), error.history().stop_reason()),
        (3, StopReason::Deadline)
    );

    // A POST that timed out may have been processed.
    let error = RetryLayer::new(policy().attempt_timeout(SECOND))
        .layer(server())
        .oneshot(request(Method::POST))
        .await;
    assert!(error.unwrap_err().is::<tower::timeout::error::Elapsed>());

    // Times that no clock reaches are no times at all.
    let layer = RetryLayer::new(policy().attempt_timeout(Duration::MAX).deadline(Duration::MAX));
    let response = layer.layer(Server::new([Ok(503)])).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_gets_ready_again_ends_with_the_deadline() {
    /// Ready once.
    #[derive(Clone)]
    struct Once(bool);
    impl Service<Request<Body>> for Once {
        type Response = Response<Body>;
        type Error = BoxError;
        type Future = Ready<Result<Response<Body>, BoxError>>;
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if std::mem::take(&mut self.0) { Poll::Ready(Ok(())) } else { Poll::Pending }
        }
        fn call(&mut self, _: Request<Body>) -> Self::Future {
            ready(Ok(answer(503)))
        }
    }
    let begin = Instant::now();
    let client = RetryLayer::new(policy().deadline(5 * SECOND)).layer(Once(true));
    let error = client.oneshot(get()).await.unwrap_err();
    assert_eq!(begin.elapsed(), 5 * SECOND);
    assert_eq!(
        error.downcast_ref::<RetryError>().unwrap().history().stop_reason(),
        StopReason::Deadline
    );
}

#[tokio::test(start_paused = true)]
async fn the_backoff_is_waited_for() {
    let begin = Instant::now();
    let server = Server::new([Ok(503), Ok(503), Ok(503)]);
    let policy = policy().backoff(Backoff::urllib3(SECOND));
    client(policy, &server).oneshot(get()).await.unwrap();
    assert_eq!((server.sent(), begin.elapsed()), (4, 6 * SECOND));
}

#[tokio::test]
async fn an_override_serves_one_request_and_is_gone_at_the_next() {
    let server = Server::new([Ok(503); 9]);
    let mut client = client(policy().total(1), &server);
    let mut call = get();
    call.extensions_mut().insert(policy().total(4));
    client.ready().await.unwrap().call(call).await.unwrap();
    assert_eq!(server.sent(), 5);
    client.ready().await.unwrap().call(get()).await.unwrap();
    assert_eq!(server.sent(), 7);
}

#[tokio::test]
async fn connect_and_upgrades_are_sent_once() {
    let mut upgrade = get();
    upgrade.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    for call in [request(Method::CONNECT), upgrade] {
        let server = Server::new([Err(std::io::ErrorKind::ConnectionRefused); 9]);
        client(policy().any_method(), &server).oneshot(call).await.unwrap_err();
        assert_eq!(server.sent(), 1);
    }
}

#[tokio::test]
async fn a_foreign_body_is_replayed_as_it_is_told() {
    type Foreign = StreamBody<
        futures_util::stream::Iter<std::vec::IntoIter<Result<http_body::Frame<Bytes>, BoxError>>>,
    >;
    fn body() -> Foreign {
        StreamBody::new(futures_util::stream::iter(vec![Ok(http_body::Frame::data(Bytes::from(
            "x",
        )))]))
    }
    for (known, sends) in [(true, 2), (false, 1)] {
        let received = Mutex::new(Vec::new());
        let server = service_fn(|request: Request<Foreign>| {
            let received = &received;
            async move {
                let bytes = request.into_body().collect().await?.to_bytes();
                received.lock().unwrap().push(bytes);
                let status = if received.lock().unwrap().len() == 1 { 503 } else { 200 };
                Ok::<_, BoxError>(answer(status))
            }
        });
        let layer = RetryLayer::new(policy()).replay_with(move |_: &Foreign| known.then(body));
        let response = layer
            .layer(server)
            .oneshot(Request::put("http://h/").body(body()).unwrap())
            .await
            .unwrap();
        assert_eq!(*received.lock().unwrap(), vec![Bytes::from("x"); sends]);
        if !known {
            assert_eq!(history(&response).stop_reason(), StopReason::Body);
        }
    }
}

/// Counts how many of it live.
struct Live(Arc<AtomicUsize>);

impl Live {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A response body that never ends and lives until it is dropped.
struct Endless(#[allow(dead_code)] Live);

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_at_any_await_leaves_nothing_behind() {
    let live = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&live);
    let server = service_fn(move |_: Request<Body>| {
        let (call, body) = (Live::new(&counted), Live::new(&counted));
        async move {
            tokio::task::yield_now().await;
            drop(call);
            Ok::<_, BoxError>(Response::builder().status(503).body(Endless(body)).unwrap())
        }
    });
    let client =
        RetryLayer::new(policy().backoff(Backoff::constant(SECOND)).drain(Drain::default()))
            .layer(server);
    for polls in 0..20 {
        let mut call = Box::pin(client.clone().oneshot(get()));
        for _ in 0..polls {
            let poll =
                std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
            if poll {
                break;
            }
            tokio::time::advance(SECOND / 2).await;
        }
        drop(call);
        assert_eq!(live.load(Relaxed), 0, "after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_never_ends_does_not_delay_the_retry() {
    let live = Arc::new(AtomicUsize::new(0));
    let sent = AtomicU32::new(0);
    let server = service_fn(|_: Request<Body>| {
        let status = if sent.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        ready(Ok::<_, BoxError>(
            Response::builder().status(status).body(Endless(Live::new(&live))).unwrap(),
        ))
    });
    let begin = Instant::now();
    let response = RetryLayer::new(policy()).layer(server).oneshot(get()).await.unwrap();
    assert_eq!((response.status(), begin.elapsed()), (StatusCode::OK, Duration::ZERO));
    assert_eq!(live.load(Relaxed), 1, "the first body is gone with the request's end");
}

#[tokio::test(start_paused = true)]
async fn an_error_body_that_never_ends_is_let_go_while_the_backoff_is_slept() {
    let live = Arc::new(AtomicUsize::new(0));
    let server = service_fn(|_: Request<Body>| {
        let response = Response::builder().status(503).header("retry-after", "3600");
        ready(Ok::<_, BoxError>(response.body(Endless(Live::new(&live))).unwrap()))
    });
    let mut call = tokio_test::task::spawn(RetryLayer::new(policy()).layer(server).oneshot(get()));
    assert!(call.poll().is_pending());
    assert_eq!(live.load(Relaxed), 1);
    tokio::time::advance(Duration::from_millis(101)).await;
    assert!(call.poll().is_pending());
    assert_eq!(live.load(Relaxed), 0);
}

/// A body that breaks, and is not to be polled again.
struct Breaks(bool, #[allow(dead_code)] Live);

impl http_body::Body for Breaks {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        assert!(!std::mem::replace(&mut self.0, true), "it is broken");
        Poll::Ready(Some(Err("broken".into())))
    }
}

/// Its connection is lost, and nothing else is.
#[tokio::test(start_paused = true)]
async fn an_error_body_that_breaks_is_let_go_at_once_and_the_retry_goes_on() {
    for delay in [Duration::ZERO, 3600 * SECOND] {
        let live = Arc::new(AtomicUsize::new(0));
        let sent = AtomicU32::new(0);
        let server = service_fn(|_: Request<Body>| {
            assert_eq!(live.load(Relaxed), 0, "the body of the attempt before is still held");
            let status = if sent.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
            ready(Ok::<_, BoxError>(
                Response::builder().status(status).body(Breaks(false, Live::new(&live))).unwrap(),
            ))
        });
        let begin = Instant::now();
        let policy = policy().backoff(Backoff::constant(delay));
        let mut call =
            tokio_test::task::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        assert!(call.poll().is_pending());
        assert_eq!(live.load(Relaxed), 0, "after {delay:?}");
        let response = call.await.unwrap();
        assert_eq!((response.status(), begin.elapsed()), (StatusCode::OK, delay));
    }
}

/// A body that tells a task of its end, as a connection's is told, which then has its connection to
/// give back.
struct Ends(Arc<tokio::sync::Notify>);

impl http_body::Body for Ends {
    type Data = Bytes;
    type Error = BoxError;
    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, BoxError>>> {
        self.0.notify_one();
        Poll::Ready(None)
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
        ready(Ok::<_, BoxError>(
            Response::builder().status(503).body(Ends(Arc::clone(&end))).unwrap(),
        ))
    });
    tokio::spawn(RetryLayer::new(policy()).layer(server).oneshot(get())).await.unwrap().unwrap();
}

/// A body that stalls holds its connection: no longer than it may, though nothing wakes the attempt
/// beside it.
#[tokio::test(start_paused = true)]
async fn an_error_body_that_stalls_is_let_go_beside_the_next_attempt() {
    let milliseconds = Duration::from_millis;
    for (delay, limit) in
        [(milliseconds(10), None), (milliseconds(10), Some(SECOND)), (Duration::ZERO, Some(SECOND))]
    {
        let (live, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, calls) = (Arc::clone(&live), Arc::clone(&sent));
        let server = service_fn(move |_: Request<Body>| {
            let (first, live) = (calls.fetch_add(1, Relaxed) == 0, Arc::clone(&counted));
            async move {
                if !first {
                    pending::<()>().await;
                }
                Ok::<_, BoxError>(
                    Response::builder().status(503).body(Endless(Live::new(&live))).unwrap(),
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
            held.push((sent.load(Relaxed), live.load(Relaxed)));
        }
        assert_eq!(held, [(2, 1), (2, 1), (2, 0), (2, 0)], "after {delay:?}, within {limit:?}");
        call.abort();
    }
}

/// An attempt waits for its permit for as long as it takes, and gives it back before the next
/// sleep.
#[tokio::test(start_paused = true)]
async fn a_request_that_sleeps_holds_no_place_in_the_queue_of_the_service_below() {
    let server = service_fn(|request: Request<Body>| async move {
        if request.uri().path() == "/b" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let status = if request.uri().path() == "/a" { 503 } else { 200 };
        Ok::<_, BoxError>(answer(status))
    });
    let limited = tower::limit::ConcurrencyLimitLayer::new(1).layer(server);
    let to = |path| Request::get(format!("http://h{path}")).body(Body::default()).unwrap();
    let policy = policy().attempt_timeout(SECOND / 100).backoff(Backoff::constant(20 * SECOND));
    let mut sleeper =
        tokio_test::task::spawn(RetryLayer::new(policy).layer(limited.clone()).oneshot(to("/a")));
    assert!(sleeper.poll().is_pending());
    // The second attempt is due while another request has the one permit.
    tokio::time::advance(20 * SECOND - SECOND / 1000).await;
    let mut holder = tokio_test::task::spawn(limited.clone().oneshot(to("/b")));
    assert!(holder.poll().is_pending());
    for _ in 0..3 {
        tokio::time::advance(SECOND / 100).await;
        assert!(sleeper.poll().is_pending());
    }
    tokio::time::advance(SECOND / 10).await;
    assert!(holder.poll().is_ready());
    drop(holder);
    assert!(sleeper.is_woken());
    assert!(sleeper.poll().is_pending(), "it was answered with 503 again, and sleeps");
    let response = tokio::time::timeout(SECOND, limited.oneshot(to("/c"))).await;
    assert_eq!(response.expect("the permit is free").unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_leaves_errors_as_they_were_that_would_not_be_retried() {
    let disabled = tower_outbound::retry::Limit::Disabled;
    for (method, policy) in [(Method::POST, policy()), (Method::GET, policy().total(disabled))] {
        let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, BoxError>>());
        let layer = RetryLayer::new(policy.deadline(SECOND));
        let error = layer.layer(server).oneshot(request(method)).await.unwrap_err();
        assert!(error.is::<tower::timeout::error::Elapsed>(), "{error:?}");
    }
}
