//! The policy in tower's own layer, compared with ours.

use std::{
    future::ready,
    io::{self, ErrorKind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::retry::{
    Backoff, Failure, Limit, ReplayBody, ReplayBodyLayer, RetryError, RetryHistory, RetryLayer,
    RetryPolicy, StopReason,
};

use crate::{
    fakes::{Answer, Body, SECOND, Server, request},
    rows_async,
};

fn policy() -> RetryPolicy {
    RetryPolicy::new().no_budget().backoff(Backoff::urllib3(SECOND))
}

/// The attempt header of each request that the server was sent.
fn numbers(server: &Server) -> Vec<String> {
    let number = |head: &http::request::Parts| {
        head.headers.get("x-attempt").map_or("none", |value| value.to_str().unwrap()).to_owned()
    };
    server.seen(|heads| heads.iter().map(number).collect())
}

/// The outcome of a request: how it ended, and each attempt with its delay.
type Told =
    (Result<u16, ErrorKind>, usize, Vec<(Option<Failure>, Option<Duration>)>, Option<StopReason>);

fn told(
    history: Option<&RetryHistory>,
) -> (Vec<(Option<Failure>, Option<Duration>)>, Option<StopReason>) {
    let attempts = history.map_or(&[][..], RetryHistory::attempts);
    (
        attempts.iter().map(|one| (one.failure, one.delay)).collect(),
        history.map(RetryHistory::stop_reason),
    )
}

async fn ours(policy: RetryPolicy, method: Method, script: &[Answer]) -> Told {
    let server = Server::new(script.iter().copied());
    match RetryLayer::new(policy).layer(server.strict()).oneshot(request(method)).await {
        Ok(response) => {
            let (attempts, reason) = told(response.extensions().get());
            (Ok(response.status().as_u16()), server.sent(), attempts, reason)
        }
        Err(error) => {
            let source = match error.downcast_ref::<RetryError>() {
                Some(error) => {
                    std::error::Error::source(error).and_then(|source| source.downcast_ref())
                }
                None => error.downcast_ref::<io::Error>(),
            };
            (Err(source.unwrap().kind()), server.sent(), Vec::new(), None)
        }
    }
}

async fn towers(policy: RetryPolicy, method: Method, script: &[Answer]) -> Told {
    let server = Server::new(script.iter().copied());
    match tower::retry::RetryLayer::new(policy)
        .layer(server.strict())
        .oneshot(request(method))
        .await
    {
        Ok(response) => {
            let (attempts, reason) = told(response.extensions().get());
            (Ok(response.status().as_u16()), server.sent(), attempts, reason)
        }
        Err(error) => (Err(error.kind()), server.sent(), Vec::new(), None),
    }
}

#[tokio::test(start_paused = true)]
async fn both_runners_make_the_same_attempts() {
    use ErrorKind::{ConnectionRefused, ConnectionReset};
    let get = Method::GET;
    let rows: &[(&str, RetryPolicy, Method, &[Answer], usize)] = &[
        ("no failure", policy(), get.clone(), &[], 1),
        ("two failures", policy(), get.clone(), &[Ok(503), Err(ConnectionReset)], 3),
        ("used up by statuses", policy().total(2), get.clone(), &[Ok(503); 9], 3),
        ("used up by errors", policy().total(2), get.clone(), &[Err(ConnectionReset); 9], 3),
        ("used up by one class", policy().status(1), get.clone(), &[Ok(503); 9], 2),
        ("total 0", policy().total(0), get.clone(), &[Ok(503); 9], 1),
        ("disabled", policy().total(Limit::Disabled), get.clone(), &[Err(ConnectionReset); 9], 1),
        ("POST, read", policy(), Method::POST, &[Err(ConnectionReset); 9], 1),
        ("POST, refused", policy(), Method::POST, &[Err(ConnectionRefused); 2], 3),
        ("CONNECT", policy(), Method::CONNECT, &[Err(ConnectionRefused); 2], 1),
        ("Retry-After", policy(), get.clone(), &[Ok(429)], 2),
        (
            "Retry-After past the deadline",
            policy().deadline(2 * SECOND),
            get.clone(),
            &[Ok(429)],
            1,
        ),
        ("a delay past the deadline", policy().deadline(3 * SECOND), get.clone(), &[Ok(503); 9], 3),
        (
            "urllib3's defaults",
            RetryPolicy::urllib3(),
            get.clone(),
            &[Ok(429), Ok(429), Ok(503)],
            3,
        ),
        ("none", RetryPolicy::none(), get, &[Ok(503)], 1),
    ];
    rows_async::hold(rows, async |(what, policy, method, script, sends)| {
        let ours = ours(policy.clone(), method.clone(), script).await;
        let towers = towers(policy.clone(), method.clone(), script).await;
        // A request that is sent once has no history with tower's layer, which does not ask the
        // policy.
        let once = *sends == 1 && towers.2.is_empty();
        let name = format!("{what}: ours {ours:?}, tower's {towers:?}");
        let same = (ours.0, ours.1) == (towers.0, towers.1) && (once || ours == towers);
        (name, (ours.1, same), (*sends, true))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_waited_for_and_none_touches_no_timer() {
    let begin = tokio::time::Instant::now();
    drop(towers(policy(), Method::GET, &[Ok(503), Ok(503)]).await);
    assert_eq!(begin.elapsed(), 2 * SECOND);
    std::thread::spawn(|| {
        // No driver at all: a timer would panic.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let told = runtime.block_on(towers(
            policy().backoff(Backoff::none()),
            Method::GET,
            &[Ok(503), Ok(503)],
        ));
        assert_eq!(told.0, Ok(200));
    })
    .join()
    .unwrap();
}

#[test]
fn a_service_that_fails_at_once_for_ever_still_lets_its_task_be_cancelled() {
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        assert!(calls.fetch_add(1, Relaxed) < 1000, "one poll makes attempts without end");
        ready(Err::<Response<Body>, _>(io::Error::from(ErrorKind::ConnectionRefused)))
    });
    let policy = policy().total(None).backoff(Backoff::none());
    let mut call = tokio_test::task::spawn(
        tower::retry::RetryLayer::new(policy).layer(server).oneshot(request(Method::GET)),
    );
    assert!((0..10).all(|_| call.poll().is_pending() && call.is_woken()));
}

#[tokio::test(start_paused = true)]
async fn an_override_serves_one_request_and_is_gone_at_the_next() {
    let server = Server::new([Ok(503); 20]);
    let mut client = tower::retry::RetryLayer::new(policy().total(1)).layer(server.strict());
    for (with, sent) in [(None, 2), (Some(4), 7), (None, 9), (Some(0), 10), (None, 12)] {
        let mut call = request(Method::GET);
        if let Some(total) = with {
            call.extensions_mut().insert(policy().total(total));
        }
        client.ready().await.unwrap().call(call).await.unwrap();
        assert_eq!(server.sent(), sent, "with an override of {with:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_one_deposit_and_a_retry_one_withdrawal() {
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl tower::retry::budget::Budget for Counting {
        fn deposit(&self) {
            self.0.fetch_add(1, Relaxed);
        }
        fn withdraw(&self) -> bool {
            self.1.fetch_add(1, Relaxed) < 2
        }
    }
    let budget = Counting::default();
    let told = towers(policy().budget(budget.clone()).total(9), Method::GET, &[Ok(503); 9]).await;
    assert_eq!((told.1, told.3), (3, Some(StopReason::Budget)));
    assert_eq!((budget.0.load(Relaxed), budget.1.load(Relaxed)), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_header_counts_from_the_first_attempt_on_ours_and_the_second_on_towers() {
    let named = || policy().attempt_header(HeaderName::from_static("x-attempt")).total(None);
    let server = Server::new([Ok(503); 11]);
    let mut call = request(Method::GET);
    call.headers_mut().insert("x-attempt", "of the caller".parse().unwrap());
    RetryLayer::new(named()).layer(server.strict()).oneshot(call).await.unwrap();
    let counted: Vec<_> = (1..=12).map(|number| number.to_string()).collect();
    assert_eq!(numbers(&server), counted);

    let server = Server::new([Ok(503); 2]);
    tower::retry::RetryLayer::new(named())
        .layer(server.strict())
        .oneshot(request(Method::GET))
        .await
        .unwrap();
    assert_eq!(numbers(&server), ["none", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn boxed_errors_are_retried_and_come_through_as_they_were() {
    let server = Server::new([Err(ErrorKind::ConnectionReset); 9]);
    let boxed = server.strict().map_err(BoxError::from);
    let client = tower::retry::RetryLayer::new(policy().total(2).boxed_errors()).layer(boxed);
    let error = client.oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!(
        error.downcast_ref::<io::Error>().map(io::Error::kind),
        Some(ErrorKind::ConnectionReset)
    );
    assert_eq!(server.sent(), 3);

    let server = Server::new([Ok(503)]);
    let boxed = server.strict().map_err(BoxError::from);
    let client = tower::retry::RetryLayer::new(policy().boxed_errors()).layer(boxed);
    let response = client.oneshot(request(Method::GET)).await.unwrap();
    assert_eq!((response.status(), server.sent()), (StatusCode::OK, 2));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "answer");
}

#[tokio::test(start_paused = true)]
async fn a_streamed_body_is_sent_again_by_towers_runner_too() {
    let received = Mutex::new(Vec::new());
    let server = service_fn(|request: Request<ReplayBody<Full<Bytes>>>| {
        let received = &received;
        async move {
            let bytes = request.into_body().collect().await?.to_bytes();
            received.lock().unwrap().push(bytes);
            let status = if received.lock().unwrap().len() < 4 { 503 } else { 200 };
            Ok::<_, BoxError>(Response::builder().status(status).body(Body::default()).unwrap())
        }
    });
    let tower = tower::retry::RetryLayer::new(policy().boxed_errors()).layer(server);
    let response = ReplayBodyLayer::new().layer(tower).oneshot(request(Method::PUT)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(*received.lock().unwrap(), vec![Bytes::from("body"); 4]);
}
