//! Delays, deadlines and timeouts, in paused time.

use std::{
    error::Error,
    future::{pending, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep_until};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{
    Backoff, Drain, OverMax, Policy, RetryError, RetryHistory, RetryLayer, RetryPolicy, StopReason,
};

use crate::{
    bodies::FakeBody,
    fakes::{Body, Live, SECOND, Server, answer, client, get, history, policy, request},
    gated::Gated,
    pairs::pairs,
    rows_async,
};

/// The clock jumps over the deadline during the backoff, as on a machine that was suspended.
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
        // It lets the task of the drained connection run first.
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

/// The deadline also holds for late readiness. A service that gets ready too late is not called.
#[tokio::test(start_paused = true)]
async fn a_service_that_gets_ready_late_is_not_called_after_the_deadline() {
    let second = Duration::from_secs(1);
    for (delay, asked) in [(Duration::ZERO, 3), (second, 1)] {
        let (polls, calls) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (polled, called) = (Arc::clone(&polls), Arc::clone(&calls));
        let service = Gated {
            // Ready at once the first time, then at the second poll.
            gate: move |_: &mut Context<'_>| match polled.fetch_add(1, Relaxed) {
                1 => Poll::Pending,
                _ => Poll::Ready(Ok(())),
            },
            inner: service_fn(move |_: Request<Body>| {
                called.fetch_add(1, Relaxed);
                ready(Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused)))
            }),
        };
        let policy = policy().backoff(Backoff::constant(delay)).deadline(5 * second);
        let mut call =
            tokio_test::task::spawn(RetryLayer::new(policy).layer(service).oneshot(get()));
        while call.poll().is_pending() && call.is_woken() {}
        tokio::time::advance(10 * second).await;
        let Poll::Ready(Err(error)) = call.poll() else { panic!("it goes on") };
        let error: &RetryError = error.downcast_ref().unwrap();
        assert_eq!(error.history().stop_reason(), StopReason::Deadline);
        assert_eq!((calls.load(Relaxed), polls.load(Relaxed)), (1, asked), "after {delay:?}");
    }
}

/// A very long delay is waited for, without keeping a body. The largest possible limit also
/// retries.
#[tokio::test(start_paused = true)]
async fn delays_of_years_are_slept_for_and_hold_no_connection() {
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
        let held = Live::default();
        let bodies = held.clone();
        let server = service_fn(move |_: Request<Body>| {
            let token = bodies.one();
            let body = FakeBody::new(move |_| {
                let _ = &token;
                Poll::Pending
            });
            ready(Response::builder().status(503).header("retry-after", asked).body(body))
        });
        let drains = policy.terms().drain.time == year;
        let policy = policy.total(u32::MAX).read(u32::MAX);
        let call = tokio::spawn(RetryLayer::new(policy).layer(server).oneshot(get()));
        for (wait, holds) in [(1, 1), (200, usize::from(drains))] {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            assert_eq!(
                (held.count(), call.is_finished()),
                (holds, false),
                "{what}, after {wait} ms"
            );
        }
        call.abort();
    }
}

/// An answer that is ready at once is returned. Anything else is cut off.
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

/// No attempt runs while the service gets ready. So the attempt's time limit does not count, and a
/// POST, which was never sent, continues.
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
        async |(method, (after, deadline, answers))| {
            let now = tokio::time::Instant::now();
            let ready_at = after.map(|millis| now + Duration::from_millis(millis));
            let calls = Arc::<AtomicUsize>::default();
            let (asked, counted) = (Arc::clone(&calls), Arc::clone(&calls));
            let timer = Arc::new(Mutex::new(ready_at.map(|at| Box::pin(sleep_until(at)))));
            let service = Gated {
                // Refuses the first call, and is then not ready before it is told.
                gate: move |cx: &mut Context<'_>| {
                    if asked.load(Relaxed) == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    match &mut *timer.lock().unwrap() {
                        Some(timer) => timer.as_mut().poll(cx).map(Ok),
                        None => Poll::Pending,
                    }
                },
                inner: service_fn(move |_: Request<Body>| {
                    ready(match counted.fetch_add(1, Relaxed) {
                        0 => Err(BoxError::from(io::Error::from(io::ErrorKind::ConnectionRefused))),
                        _ => Ok(answer(200)),
                    })
                }),
            };
            let policy = deadline
                .map_or_else(policy, |millis| policy().deadline(Duration::from_millis(millis)));
            let request =
                Request::builder().method(&method).uri("http://h/").body(Body::default()).unwrap();
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
            (format!("{method} ready {after:?} deadline {deadline:?}"), (made, end), want)
        },
    )
    .await;
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

    // No limit that is used up as well hides that the time was.
    for (total, attempts) in [(2, 3), (9, 3)] {
        let policy = policy().total(total).attempt_timeout(2 * SECOND).deadline(5 * SECOND);
        let error = RetryLayer::new(policy).layer(server()).oneshot(get()).await.unwrap_err();
        let history = error.downcast_ref::<RetryError>().unwrap().history();
        let got = (history.attempts().len(), history.stop_reason());
        assert_eq!(got, (attempts, StopReason::Deadline), "total {total}");
    }

    // A POST that timed out may have been processed.
    let error = RetryLayer::new(policy().attempt_timeout(SECOND))
        .layer(server())
        .oneshot(request(Method::POST))
        .await;
    assert!(error.unwrap_err().is::<tower::timeout::error::Elapsed>());

    // A time that no clock reaches counts as no limit.
    let layer = RetryLayer::new(policy().attempt_timeout(Duration::MAX).deadline(Duration::MAX));
    let response = layer.layer(Server::new([Ok(503)]).strict()).oneshot(get()).await.unwrap();
    assert_eq!(response.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_gets_ready_again_ends_with_the_deadline() {
    let asked = AtomicUsize::new(0);
    let server = Gated {
        gate: |_: &mut Context<'_>| match asked.fetch_add(1, Relaxed) {
            0 => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        },
        inner: Server::new([Ok(503)]),
    };
    let begin = Instant::now();
    let client = RetryLayer::new(policy().deadline(5 * SECOND)).layer(server);
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
