//! The advisories and faults that concern retries.

use std::{
    error::Error,
    future::{Future, pending, ready},
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
    time::Instant,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::retry::{
    Backoff, Budget, Drain, ReplayBody, ReplayBodyLayer, RetryError, RetryHistory, RetryLayer,
    RetryPolicy, StopReason,
};

use crate::{
    bodies::{FakeBody, data},
    classes::closed,
    crowds::{Fault, MILLISECOND, Pace, brown_out},
    fakes::{Body, SECOND, answer, policy},
    loopback::serve,
    pairs::pairs,
    rows_async,
};

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://user:canary@h.example/path?token=canary")
        .header("authorization", "Bearer canary")
        .header("cookie", "sid=canary")
        .body(Body::from("canary"))
        .unwrap()
}

/// urllib3 GHSA-mf9v-mfxr-j63j: a drained body was decoded, so a small body became gigabytes.
/// Nothing here decodes. The test with a decompressor is in `ecosystem/tests/tower_middleware.rs`.
#[tokio::test]
async fn draining_reads_raw_bytes_and_no_more_than_its_bound() {
    // The beginning of a gzip file, repeated. Its raw bytes are counted.
    let frame = Bytes::from([&[0x1f, 0x8b, 8, 0][..], &[0; 1020]].concat());
    for bytes in [0, 1024, 64 * 1024] {
        let (read, calls) = (Arc::<AtomicUsize>::default(), AtomicUsize::new(0));
        let server = service_fn(|_: Request<Body>| {
            let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
            // Never ends, and counts the bytes that are read.
            let (counted, frame) = (Arc::clone(&read), frame.clone());
            let body = FakeBody::new(move |_| {
                counted.fetch_add(frame.len(), Relaxed);
                data(frame.clone())
            });
            ready(Response::builder().status(status).header("content-encoding", "gzip").body(body))
        });
        let policy = policy().drain(Drain { bytes, time: SECOND });
        let response =
            RetryLayer::new(policy).layer(server).oneshot(request(Method::GET)).await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip");
        let read = read.load(Relaxed);
        assert!(read <= bytes + frame.len(), "{read} bytes were read, of {bytes} allowed");
    }
}

/// urllib3 2.6.3.
#[tokio::test(start_paused = true)]
async fn a_retry_after_of_ten_years_does_not_park_the_client() {
    for asked in ["315360000", "99999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let server = service_fn(|_: Request<Body>| {
            ready(
                Response::builder().status(503).header("retry-after", asked).body(Body::default()),
            )
        });
        let begin = Instant::now();
        let response =
            RetryLayer::new(policy()).layer(server).oneshot(request(Method::GET)).await.unwrap();
        assert_eq!(
            (response.status(), begin.elapsed()),
            (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO),
            "{asked}"
        );
        let history: &RetryHistory = response.extensions().get().unwrap();
        assert_eq!(history.stop_reason(), StopReason::RetryAfter);
    }
}

/// undici #4970: the bytes of a second attempt were appended to those of the first.
#[tokio::test]
async fn a_failure_after_the_response_body_has_begun_is_the_callers_and_bodies_are_never_spliced() {
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        calls.fetch_add(1, Relaxed);
        let frames: [Result<Frame<Bytes>, io::Error>; 2] =
            [Ok(Frame::data(Bytes::from("half"))), Err(io::ErrorKind::ConnectionReset.into())];
        ready(Ok::<_, BoxError>(Response::new(StreamBody::new(futures_util::stream::iter(frames)))))
    });
    let response =
        RetryLayer::new(policy()).layer(server).oneshot(request(Method::GET)).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
    assert_eq!(body.frame().await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(calls.load(Relaxed), 1);
}

/// undici #5610: the client waited for the body that a HEAD's response announced.
#[tokio::test]
async fn head_with_content_length_retries_like_get() {
    for method in [Method::GET, Method::HEAD] {
        let calls = AtomicUsize::new(0);
        let server = service_fn(|_: Request<Body>| {
            let status = if calls.fetch_add(1, Relaxed) < 2 { 503 } else { 200 };
            ready(
                Response::builder()
                    .status(status)
                    .header("content-length", "1000000")
                    .body(Body::default()),
            )
        });
        let response =
            RetryLayer::new(policy()).layer(server).oneshot(request(method)).await.unwrap();
        assert_eq!((response.status(), calls.load(Relaxed)), (StatusCode::OK, 3));
    }
}

/// The same on a connection, where the length could make the client wait for bytes. No new
/// connection is opened.
#[tokio::test]
async fn head_with_content_length_keeps_its_connection() {
    let (connections, requests) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (opened, asked) = (Arc::clone(&connections), Arc::clone(&requests));
    let address = serve(move |mut stream, _| {
        opened.fetch_add(1, Relaxed);
        let asked = Arc::clone(&asked);
        async move {
            let (mut seen, mut buffer) = (Vec::new(), [0; 1024]);
            while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                seen.extend_from_slice(&buffer[..read]);
                if seen.ends_with(b"\r\n\r\n") {
                    seen.clear();
                    let status =
                        if asked.fetch_add(1, Relaxed) < 2 { "503 Busy" } else { "200 OK" };
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: 1000000\r\n\r\n");
                    stream.write_all(head.as_bytes()).await.unwrap();
                }
            }
        }
    })
    .await;
    let http: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
    let head = Request::head(format!("http://{address}/")).body(Body::default()).unwrap();
    let response = RetryLayer::new(policy()).layer(http).oneshot(head).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!((requests.load(Relaxed), connections.load(Relaxed)), (3, 1));
}

/// go-retryablehttp CVE-2024-6104: the URL of a failure was logged with its password.
#[cfg(feature = "tracing")]
#[test]
fn a_secret_is_in_no_log_error_or_debug() {
    use tracing_subscriber::layer::SubscriberExt as _;

    use crate::listen::{Written, listen};

    let written = Written::default();
    let mut shown = Vec::new();
    listen(tracing_subscriber::registry().with(written.clone()), || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for (total, raise) in [(0, true), (2, true), (2, false)] {
                for kind in [
                    None,
                    Some(io::ErrorKind::ConnectionReset),
                    Some(io::ErrorKind::ConnectionRefused),
                ] {
                    let server = service_fn(|_: Request<Body>| {
                        let response =
                            Response::builder().status(503).header("set-cookie", "sid=canary");
                        ready(kind.map_or_else(
                            || Ok(response.body(Body::from("canary")).unwrap()),
                            |kind| Err(io::Error::from(kind)),
                        ))
                    });
                    let policy = policy().total(total).raise_on_status(raise);
                    let layer = RetryLayer::new(policy.clone());
                    let mut client = layer.layer(server);
                    shown.push(format!("{layer:?} {policy:?}"));
                    let call = client.ready().await.unwrap().call(request(Method::POST));
                    shown.push(format!("{call:?}"));
                    drop(call);
                    match client.oneshot(request(Method::GET)).await {
                        Ok(response) => {
                            let history: &RetryHistory = response.extensions().get().unwrap();
                            shown.push(format!("{history} {history:?} {history:#?}"));
                        }
                        Err(error) => {
                            let mut next: Option<&(dyn Error + 'static)> = Some(&*error);
                            while let Some(error) = next {
                                shown.push(format!("{error} {error:?} {error:#?}"));
                                next = error.source();
                            }
                            let error: &RetryError = error.downcast_ref().unwrap();
                            shown.push(error.history().to_string());
                        }
                    }
                }
            }
        });
    });
    let body = ReplayBody::new(Body::from("canary"), 100);
    shown.push(format!("{body:?} {body:#?}"));
    let written = written.all.lock().unwrap();
    assert!(written.contains("h.example/path"), "the events name the request");
    for text in shown.iter().chain([&*written]) {
        assert!(!text.contains("canary"), "{text}");
    }
}

/// requests CVE-2024-35195: `verify=False` for one request also applied to later ones.
#[tokio::test]
async fn an_override_for_one_request_is_gone_at_the_next() {
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        calls.fetch_add(1, Relaxed);
        ready(Ok::<_, BoxError>(answer(503)))
    });
    let mut client = RetryLayer::new(policy().total(1)).layer(server);
    for (with, sends) in [(None, 2), (Some(5), 6), (None, 2), (Some(0), 1), (None, 2)] {
        let mut call = request(Method::GET);
        call.extensions_mut().extend(with.map(|total| policy().total(total)).map_or_else(
            http::Extensions::new,
            |own| {
                let mut extensions = http::Extensions::new();
                extensions.insert(own);
                extensions
            },
        ));
        let before = calls.load(Relaxed);
        client.ready().await.unwrap().call(call).await.unwrap();
        assert_eq!(calls.load(Relaxed) - before, sends, "with {with:?}");
    }
}

#[cfg(all(feature = "cookie", feature = "routing"))]
mod readiness {
    use tower_outbound::{CookieLayer, RoutingLayer};

    use super::*;
    use crate::strict::Strict;

    type Boxed = tower::util::BoxCloneService<Request<Body>, Response<Body>, BoxError>;

    /// tower-resilience #362: a clone was called without asking whether it was ready.
    #[tokio::test]
    async fn every_call_of_the_inner_service_follows_its_own_readiness_under_every_layer_order() {
        let layers: [(&str, fn(Boxed) -> Boxed); 6] = [
            ("retry", |inner| Boxed::new(RetryLayer::new(policy()).layer(inner))),
            ("cookie", |inner| Boxed::new(CookieLayer::default().layer(inner))),
            ("routing", |inner| Boxed::new(RoutingLayer::builder().build().unwrap().layer(inner))),
            ("limit", |inner| Boxed::new(tower::limit::ConcurrencyLimitLayer::new(1).layer(inner))),
            ("buffer", |inner| Boxed::new(tower::buffer::BufferLayer::new(1).layer(inner))),
            ("timeout", |inner| {
                Boxed::new(tower::timeout::TimeoutLayer::new(60 * SECOND).layer(inner))
            }),
        ];
        let mut orders = vec![Vec::new()];
        for _ in 0..layers.len() {
            let longer = |order: Vec<usize>| {
                let next = (0..layers.len()).filter(|next| !order.contains(next));
                next.map(|next| [&order[..], &[next]].concat()).collect::<Vec<_>>()
            };
            orders = orders.into_iter().flat_map(longer).collect();
        }
        assert_eq!(orders.len(), 720);
        rows_async::hold(orders, async |order| {
            let calls = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&calls);
            // Fails two of three times.
            let server = service_fn(move |_: Request<Body>| {
                ready(match counted.fetch_add(1, Relaxed) % 3 {
                    0 => Ok(answer(503)),
                    1 => Err(BoxError::from(io::Error::from(io::ErrorKind::ConnectionReset))),
                    _ => Ok(answer(200)),
                })
            });
            let mut client = Boxed::new(Strict::new(server, 2));
            for at in &order {
                client = (layers[*at].1)(client);
            }
            let names: Vec<_> = order.iter().map(|at| layers[*at].0).collect();
            for _ in 0..2 {
                let mut plain = request(Method::GET);
                *plain.uri_mut() = "http://h.example/".parse().unwrap();
                let outcome = tokio::spawn(client.ready().await.unwrap().call(plain)).await;
                let status = outcome.as_ref().ok().and_then(|outcome| outcome.as_ref().ok());
                if status.is_none_or(|response| response.status() != 200) {
                    return Err(format!("{names:?}, from the client out: {outcome:?}"));
                }
            }
            assert_eq!(calls.load(Relaxed), 6, "{names:?}, from the client out");
            Ok(())
        })
        .await;
    }
}

/// A stream that can be sent only once: it fails in its second piece, or is longer than the cap.
#[tokio::test]
async fn a_body_that_streams_past_its_cap_is_sent_once_and_its_first_error_surfaces() {
    for (pieces, fails) in [(3, false), (3, true)] {
        let received = Mutex::new(Vec::new());
        let server = service_fn(|request: Request<ReplayBody<_>>| {
            let received = &received;
            async move {
                let bytes = request.into_body().collect().await?.to_bytes();
                received.lock().unwrap().push(bytes.len());
                Ok::<_, BoxError>(answer(503))
            }
        });
        let client = ServiceBuilder::new()
            .layer(ReplayBodyLayer::new().max_bytes(1000))
            .layer(RetryLayer::new(policy()));
        let frames = (0..pieces).map(move |piece| match fails && piece == 1 {
            true => Err(io::Error::from(io::ErrorKind::InvalidData)),
            false => Ok(Frame::data(Bytes::from(vec![b'x'; 900]))),
        });
        let upload = StreamBody::new(futures_util::stream::iter(frames));
        let outcome =
            client.service(server).oneshot(Request::put("http://h/").body(upload).unwrap()).await;
        match outcome {
            Ok(response) => {
                assert!(!fails);
                let history: &RetryHistory = response.extensions().get().unwrap();
                assert_eq!(
                    (history.stop_reason(), history.attempts().len()),
                    (StopReason::Body, 1)
                );
                assert_eq!(*received.lock().unwrap(), [2700]);
            }
            Err(error) => {
                assert!(fails);
                let error: &io::Error = error.downcast_ref().expect("the stream's own error");
                assert_eq!(
                    (error.kind(), received.lock().unwrap().len()),
                    (io::ErrorKind::InvalidData, 0)
                );
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_does_not_wait_for_an_error_body_that_is_sent_slowly() {
    fn slow(read: Arc<AtomicUsize>) -> FakeBody {
        let mut timer = Box::pin(tokio::time::sleep(SECOND / 50));
        FakeBody::new(move |cx| {
            std::task::ready!(timer.as_mut().poll(cx));
            timer = Box::pin(tokio::time::sleep(SECOND / 50));
            read.fetch_add(1, Relaxed);
            data("x")
        })
    }
    for (delay, drain) in [(Duration::ZERO, 100), (SECOND / 10, 100), (SECOND, 100), (SECOND, 5)] {
        let (calls, read) = (AtomicUsize::new(0), Arc::<AtomicUsize>::default());
        let server = service_fn(|_: Request<Body>| {
            let status = if calls.fetch_add(1, Relaxed) < 3 { 503 } else { 200 };
            let body = slow(Arc::clone(&read));
            ready(Ok::<_, BoxError>(Response::builder().status(status).body(body).unwrap()))
        });
        let begin = Instant::now();
        let policy = policy()
            .backoff(Backoff::constant(delay))
            .drain(Drain { bytes: 1 << 20, time: Duration::from_millis(drain) });
        RetryLayer::new(policy).layer(server).oneshot(request(Method::GET)).await.unwrap();
        assert_eq!((calls.load(Relaxed), begin.elapsed()), (4, 3 * delay));
        // One byte every 20 ms, for as long as there is time.
        let most = 3 * (Duration::from_millis(drain).min(delay).as_millis() / 20) as usize;
        assert!(
            read.load(Relaxed) <= most,
            "{} bytes in {delay:?}, {drain} ms",
            read.load(Relaxed)
        );
    }
}

#[tokio::test]
async fn a_panic_of_the_inner_service_propagates_and_the_budget_stays_as_it_was() {
    #[derive(Clone, Default)]
    struct Balance(Arc<AtomicUsize>);
    impl tower::retry::budget::Budget for Balance {
        fn deposit(&self) {
            self.0.fetch_add(2, Relaxed);
        }
        fn withdraw(&self) -> bool {
            self.0.fetch_update(Relaxed, Relaxed, |balance| balance.checked_sub(1)).is_ok()
        }
    }
    let (budget, calls) = (Balance::default(), Arc::new(AtomicUsize::new(0)));
    let server = service_fn(move |_: Request<Body>| {
        let call = calls.fetch_add(1, Relaxed);
        async move {
            assert_ne!(call, 1, "as the test wants it");
            Ok::<_, BoxError>(answer(503))
        }
    });
    let client = RetryLayer::new(policy().total(None).budget(budget.clone())).layer(server);
    let panicked = tokio::spawn(client.clone().oneshot(request(Method::GET))).await;
    assert!(panicked.unwrap_err().is_panic());
    // One deposit of two, one withdrawal; and the same client serves the next request.
    assert_eq!(budget.0.load(Relaxed), 1);
    let response = client.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(response.status(), 503);
    let history: &RetryHistory = response.extensions().get().unwrap();
    assert_eq!(
        (history.stop_reason(), history.attempts().len(), budget.0.load(Relaxed)),
        (StopReason::Budget, 4, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_beyond_the_deadline_returns_the_response_now() {
    let server = service_fn(|_: Request<Body>| {
        ready(Response::builder().status(503).header("retry-after", "60").body(()))
    });
    let server = server.map_response(|response| response.map(|()| Body::default()));
    let begin = Instant::now();
    let client = RetryLayer::new(policy().deadline(30 * SECOND)).layer(server);
    let response = client.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert_eq!(
        response.extensions().get::<RetryHistory>().unwrap().stop_reason(),
        StopReason::Deadline
    );
}

#[tokio::test(start_paused = true)]
async fn a_future_dropped_at_any_await_gives_its_permit_back() {
    let server = service_fn(|_: Request<Body>| pending::<Result<Response<Body>, BoxError>>());
    let limited = tower::limit::ConcurrencyLimitLayer::new(1).layer(server);
    let client =
        RetryLayer::new(policy().attempt_timeout(SECOND).backoff(Backoff::constant(SECOND)))
            .layer(limited);
    for polls in 0..12 {
        let mut call = tokio_test::task::spawn(client.clone().oneshot(request(Method::GET)));
        for _ in 0..polls {
            if call.poll().is_ready() {
                break;
            }
            tokio::time::advance(SECOND / 2).await;
        }
        drop(call);
        let mut next = tokio_test::task::spawn(client.clone().ready_oneshot());
        assert!(next.poll().is_ready(), "the permit is not back after {polls} polls");
    }
}

/// An overloaded server answers 503, loses connections, or refuses streams or connections. A
/// refused request has one free retry. No other class has a free retry.
#[tokio::test(start_paused = true)]
async fn a_brown_out_of_any_class_is_bounded_by_the_budget_and_one_free_retry() {
    let faults = vec![
        ("503", Fault::Status(503), 1.10),
        ("reset after the request was read", Fault::Io(io::ErrorKind::ConnectionReset), 1.10),
        ("timed out", Fault::Error(Arc::new(tower::timeout::error::Elapsed::new())), 1.10),
        ("anything else", Fault::Error(Arc::new(io::Error::other("anything else"))), 1.10),
        ("refused", Fault::Io(io::ErrorKind::ConnectionRefused), 2.10),
        ("closed before it was sent", Fault::Error(Arc::new(closed().await)), 2.10),
    ];
    #[cfg(feature = "http2")]
    let faults = {
        use crate::classes::{goaway, http2, reset};
        let mut faults = faults;
        for (what, said) in [("REFUSED_STREAM", reset(7)), ("GOAWAY", goaway(0, 0))] {
            faults.push((what, Fault::Error(Arc::new(http2(&said, false).await)), 2.10));
        }
        let said = Fault::Error(Arc::new(http2(&reset(2), false).await));
        faults.push(("INTERNAL_ERROR", said, 1.10));
        faults
    };
    let rows = pairs(&faults, &[Pace::PerSecond(100), Pace::AtOnce(1000)]);
    rows_async::hold(rows, async |((what, fault, most), pace)| {
        let budget = Budget::new(10).min_retries(0, SECOND);
        let policy = RetryPolicy::new().backoff(Backoff::exponential(10 * MILLISECOND));
        let got = brown_out(policy.budget(budget), fault.clone(), *pace).await;
        println!("{what}, {pace:?}: {got:.4} sends per request");
        if (most - 0.01..=*most).contains(&got) {
            Ok(())
        } else {
            Err(format!("{what}, {pace:?}: {got:.4} sends per request, expected {most:.2}"))
        }
    })
    .await;
}

/// Answers each POST with a 303 to this place, and counts the POSTs.
async fn see_other(to: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let posts = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&posts);
    let address = serve(move |mut stream, _| {
        let posts = Arc::clone(&counted);
        async move {
            let mut seen = Vec::new();
            while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {
                if seen.ends_with(b"body") {
                    posts.fetch_add(usize::from(seen.starts_with(b"POST")), Relaxed);
                    seen.clear();
                    let head = "HTTP/1.1 303 See Other\r\ncontent-length: 0\r\nlocation: http";
                    let answer = format!("{head}://{to}/\r\n\r\n");
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        }
    })
    .await;
    (address, posts)
}

/// The refused connection was the next hop's, and the POST had been processed. reqwest's own
/// redirects are in `ecosystem/tests/never_sent.rs`.
#[tokio::test]
async fn a_post_that_is_answered_303_to_a_closed_port_is_sent_once() {
    type Http = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;
    let stacks: [(&str, fn(Http) -> Http); 3] = [
        ("FollowRedirect", |client| Http::new(FollowRedirectLayer::new().layer(client))),
        ("a RetryLayer around FollowRedirect", |client| {
            Http::new(RetryLayer::new(policy()).layer(FollowRedirectLayer::new().layer(client)))
        }),
        ("FollowRedirect around a RetryLayer", |client| {
            Http::new(FollowRedirectLayer::new().layer(RetryLayer::new(policy()).layer(client)))
        }),
    ];
    rows_async::hold(stacks, async |(what, stack)| {
        // A port that is bound but not listening, as long as the socket lives.
        let closed = TcpSocket::new_v4().unwrap();
        closed.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, posts) = see_other(closed.local_addr().unwrap()).await;
        let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
        let client = stack(Http::new(client.map_err(BoxError::from)));
        let post = Request::post(format!("http://{address}/")).body(Body::from("body")).unwrap();
        let outcome = RetryLayer::new(policy()).layer(client).oneshot(post).await;
        (what, (posts.load(Relaxed), outcome.is_err()), (1, true))
    })
    .await;
}
