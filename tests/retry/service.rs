//! The retry layer around services made for the test, in paused time.

use std::{
    error::Error,
    fmt,
    future::{Future, Ready, ready},
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::retry::{
    Backoff, Drain, Failure, RetryError, RetryLayer, RetryPolicy, RetryService, StopReason,
    replay::Replay,
};

use crate::{
    bodies::FakeBody,
    fakes::{Body, Live, SECOND, Server, answer, client, get, history, policy, request},
    gated::Gated,
    rows_async,
};

#[tokio::test]
async fn each_attempt_follows_readiness_and_starts_from_the_callers_head() {
    let server = Server::new([Ok(503), Err(std::io::ErrorKind::ConnectionReset), Ok(502)]);
    let mut call = get();
    call.headers_mut().append("x-mine", HeaderValue::from_static("1"));
    call.extensions_mut().insert(7_u8);
    let response = client(policy(), &server).oneshot(call).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(server.sent(), 4);
    server.seen(|heads| {
        for head in heads {
            let added = head.headers.get_all("x-inner").iter().count();
            assert_eq!((added, head.headers.len()), (1, 2));
            assert_eq!(head.extensions.get::<u8>(), Some(&7));
            assert_eq!(head.uri, "http://u:secret@h.example/p?q=secret");
        }
    });
    let attempts = history(&response).attempts();
    let failures: Vec<_> = attempts.iter().map(|attempt| attempt.failure).collect();
    let status = |code| Some(Failure::Status(StatusCode::from_u16(code).unwrap()));
    assert_eq!(failures, [status(503), Some(Failure::Read), status(502), None]);
    assert_eq!(history(&response).stop_reason(), StopReason::Success);
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

/// CONNECT and `Upgrade` hand the connection over, unless the request was not sent.
#[tokio::test]
async fn connect_is_sent_once_and_an_upgrade_is_repeated_only_if_it_was_not_sent() {
    use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
    let upgrade = || {
        let mut call = get();
        call.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
        call
    };
    let unsent = policy().any_method().classify(|_| Some(Failure::Unsent));
    // The request, the policy, what the server does each time, and how often it is called.
    let rows = [
        ("an upgrade, refused", upgrade(), policy(), Err(ConnectionRefused), 4),
        ("an upgrade, not sent", upgrade(), unsent, Err(ConnectionReset), 4),
        ("an upgrade, reset", upgrade(), policy().any_method(), Err(ConnectionReset), 1),
        ("an upgrade, too late", upgrade(), policy().any_method(), Err(TimedOut), 1),
        ("an upgrade, 503", upgrade(), policy().any_method(), Ok(503), 1),
        (
            "CONNECT, refused",
            request(Method::CONNECT),
            policy().any_method(),
            Err(ConnectionRefused),
            1,
        ),
        ("CONNECT, 503", request(Method::CONNECT), policy().any_method(), Ok(503), 1),
    ];
    rows_async::hold(rows, async |(what, call, policy, answer, sends)| {
        let server = Server::new([answer; 9]);
        let outcome = client(policy, &server).oneshot(call).await;
        let want = match answer {
            Ok(_) => None,
            // The result of a request that may not be repeated is returned unchanged.
            Err(_) => Some(sends > 1),
        };
        let got = outcome.err().map(|error| error.is::<RetryError>());
        (what, (server.sent(), got), (sends, want))
    })
    .await;
}

/// The body is kept for it, although failed connections are not retried.
#[tokio::test]
async fn a_post_that_came_too_early_is_sent_again_if_425_is_listed() {
    for (codes, sends) in [(vec![StatusCode::TOO_EARLY], 2), (vec![], 1)] {
        let server = Server::new([Ok(425)]);
        let policy = policy().connect(0).status_forcelist(codes);
        client(policy, &server).oneshot(request(Method::POST)).await.unwrap();
        assert_eq!(server.sent(), sends);
    }
}

/// The last exchange of the call was not processed, but the POST was.
#[tokio::test]
async fn a_later_exchange_that_was_not_processed_repeats_no_post() {
    use tower_http::follow_redirect::FollowRedirectLayer;

    let too_many = |policy: RetryPolicy| {
        policy.classify(|outcome| match outcome {
            Ok(head) if head.status == StatusCode::TOO_MANY_REQUESTS => Some(Failure::Unsent),
            _ => None,
        })
    };
    let listed = |status| policy().status_forcelist([StatusCode::from_u16(status).unwrap()]);
    let rows = [
        ("421", 421, listed(421)),
        ("425", 425, listed(425)),
        ("the caller's word", 429, too_many(policy())),
    ];
    rows_async::hold(rows, async |(row, status, policy)| {
        // The status of the first exchange, and that of the hop that a 303 leads to.
        let mut got = Vec::new();
        for redirects in [true, false] {
            let posts = AtomicUsize::new(0);
            let server = service_fn(|request: Request<Body>| {
                let is_post = request.method() == Method::POST;
                posts.fetch_add(usize::from(is_post), Relaxed);
                async move {
                    let mut response = answer(if is_post && redirects { 303 } else { status });
                    response.headers_mut().insert("location", HeaderValue::from_static("/done"));
                    Ok::<_, BoxError>(response)
                }
            });
            let below = FollowRedirectLayer::new().layer(server);
            let client = RetryLayer::new(policy.clone()).layer(below);
            let response = client.oneshot(request(Method::POST)).await.unwrap();
            got.push((response.status().as_u16(), posts.load(Relaxed)));
        }
        (row, got, vec![(status, 1), (status, 4)])
    })
    .await;
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

#[tokio::test(start_paused = true)]
async fn a_future_dropped_at_any_await_leaves_nothing_behind() {
    let live = Live::default();
    let counted = live.clone();
    let server = service_fn(move |_: Request<Body>| {
        let (call, token) = (counted.one(), counted.one());
        async move {
            tokio::task::yield_now().await;
            drop(call);
            let body = FakeBody::new(move |_| {
                let _ = &token;
                Poll::Pending
            });
            Ok::<_, BoxError>(Response::builder().status(503).body(body).unwrap())
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
        assert_eq!(live.count(), 0, "after {polls} polls");
    }
}

/// An attempt waits for its permit as long as needed, and returns it before the next sleep.
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

#[tokio::test]
async fn a_service_that_fails_to_get_ready_ends_the_request_with_its_own_error() {
    #[derive(Debug)]
    struct Closed;
    impl fmt::Display for Closed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("closed")
        }
    }
    impl Error for Closed {}
    let mut once = Some(()).into_iter();
    let server = Gated {
        gate: move |_: &mut Context<'_>| Poll::Ready(once.next().ok_or(Closed)),
        inner: service_fn(|_: Request<Body>| ready(Ok(answer(503)))),
    };
    let error = RetryLayer::new(policy()).layer(server).oneshot(get()).await.unwrap_err();
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

/// Counts its own calls, and tells them.
#[derive(Clone)]
struct Counted<'a> {
    calls: u32,
    told: &'a Mutex<Vec<u32>>,
}

impl Service<Request<Body>> for Counted<'_> {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Ready<Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.calls += 1;
        self.told.lock().unwrap().push(self.calls);
        ready(Ok(answer(503)))
    }
}

#[tokio::test]
async fn the_attempts_after_the_first_have_a_clone_of_the_service_that_the_layer_was_given() {
    let told = Mutex::default();
    let mut client = RetryLayer::new(policy().total(2)).layer(Counted { calls: 0, told: &told });
    for _ in 0..2 {
        client.ready().await.unwrap().call(get()).await.unwrap();
    }
    assert_eq!(*told.lock().unwrap(), [1, 1, 2, 2, 1, 2]);
}
