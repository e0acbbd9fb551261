//! Why a request is not retried any more, and the history with this reason.

use std::{
    future::ready,
    io,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Failure, Limit, Policy, RetryError, RetryHistory, RetryLayer,
    RetryPolicy, StopReason,
};

use crate::{
    fakes::{Body, SECOND, Server, answer, client, get, history, policy, request},
    rows_async,
};

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
        (StopReason::Budget, 2),
        "the first retry is free"
    );
}

/// The reason is the same as if the whole request was kept, for each class and method.
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
    // Whether an error is a RetryError, and its reason.
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
        (
            "an upgrade, reset",
            policy().any_method(),
            upgrade(to(Method::GET)),
            ConnectionReset,
            None,
        ),
        (
            "an upgrade, refused",
            policy().any_method(),
            upgrade(to(Method::GET)),
            ConnectionRefused,
            Some(StopReason::Total),
        ),
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

/// The first 512 and the last 512, so that a request that lasts for years does not fill the memory.
#[tokio::test]
async fn a_history_is_bounded_and_has_the_first_and_the_last_attempts() {
    let server = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(503))));
    let response =
        RetryLayer::new(policy().total(2999)).layer(server).oneshot(get()).await.unwrap();
    let history: &RetryHistory = response.extensions().get().unwrap();
    let numbers: Vec<_> = history.attempts().iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..=512).chain(2489..=3000).collect::<Vec<_>>());
    assert_eq!(history.to_string().lines().count(), 1024);

    let policy = policy().total(2999).raise_on_status(true);
    let error = RetryLayer::new(policy).layer(server).oneshot(get()).await.unwrap_err();
    assert!(error.to_string().starts_with("gave up after 3000 attempts: "), "{error}");
}

#[tokio::test]
async fn a_success_carries_no_history() {
    let response = client(policy(), &Server::default()).oneshot(get()).await.unwrap();
    assert!(response.extensions().get::<RetryHistory>().is_none());
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
