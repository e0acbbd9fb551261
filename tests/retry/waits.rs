//! The wait for a service before the first attempt, in paused time.

use std::{
    future::{Future, poll_fn, ready},
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use http::{Request, Response};
use tokio::{
    sync::Semaphore,
    time::{Instant, advance, sleep},
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    limit::ConcurrencyLimit,
    load_shed::{LoadShed, error::Overloaded},
    service_fn,
    util::BoxCloneSyncService,
};
#[cfg(feature = "routing")]
use tower_outbound::RoutingLayer;
use tower_outbound::retry::{RetryError, RetryLayer};

use crate::{
    fakes::{Body, SECOND, answer, get, policy},
    pairs::pairs,
    rows_async,
    strict::Strict,
};

const MS: Duration = Duration::from_millis(1);

type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// A service of one request at a time, which takes `time` to answer; and its permit.
fn limited(time: Duration) -> (ConcurrencyLimit<Client>, Arc<Semaphore>) {
    let server = service_fn(move |_: Request<Body>| async move {
        sleep(time).await;
        Ok::<_, BoxError>(answer(200))
    });
    let permit = Arc::new(Semaphore::new(1));
    (ConcurrencyLimit::with_semaphore(Client::new(server), Arc::clone(&permit)), permit)
}

/// How a request ended: with a status, or for a reason after some attempts.
fn told(outcome: Result<Response<Body>, BoxError>) -> String {
    match outcome {
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) if error.is::<Overloaded>() => "shed".to_owned(),
        Err(error) => match error.downcast_ref::<RetryError>() {
            Some(error) => {
                let history = error.history();
                format!("{:?} after {}", history.stop_reason(), history.attempts().len())
            }
            None => format!("{error:?}"),
        },
    }
}

const LATE: &str = "Deadline after 0";

#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_ends_the_first_request_at_the_deadline() {
    let ways: &[&str] = match cfg!(feature = "routing") {
        true => &["oneshot", "ready", "mount", "mount_service"],
        false => &["oneshot", "ready"],
    };
    let deadlines = [SECOND, 5 * SECOND, 10 * MS, MS, Duration::ZERO];
    rows_async::hold(pairs(ways.iter().copied(), deadlines), async |(way, deadline)| {
        let (limited, permit) = limited(Duration::ZERO);
        let held = permit.clone().acquire_owned().await.unwrap();
        let layer = RetryLayer::new(policy().deadline(deadline));
        let began = Instant::now();
        let outcome = match way {
            "oneshot" => layer.layer(limited.clone()).oneshot(get()).await,
            "ready" => {
                let mut client = layer.layer(limited.clone());
                client.ready().await.unwrap().call(get()).await
            }
            #[cfg(feature = "routing")]
            "mount" => {
                let mounts = RoutingLayer::builder().mount("http://h.example", layer);
                mounts.build().unwrap().layer(limited.clone()).oneshot(get()).await
            }
            #[cfg(feature = "routing")]
            "mount_service" => {
                let mounted = layer.layer(limited.clone());
                let mounts = RoutingLayer::builder().mount_service("http://h.example", mounted);
                mounts.build().unwrap().layer(limited.clone()).oneshot(get()).await
            }
            way => panic!("{way} is no way"),
        };
        let (took, told) = (began.elapsed(), told(outcome));
        drop(held);
        let again = limited.oneshot(get()).await.unwrap().status().as_u16();
        // A timer's step is the least.
        let took = took.saturating_sub(if deadline < 2 * MS { 2 * MS } else { deadline });
        let want = (LATE.to_owned(), Duration::ZERO, 200);
        (format!("{way} {deadline:?}"), (told, took, again), want)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_error_says_that_there_was_no_attempt() {
    let (limited, permit) = limited(SECOND);
    let _held = permit.acquire_owned().await.unwrap();
    let client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    let error = client.oneshot(get()).await.unwrap_err();
    assert_eq!(error.to_string(), "gave up after 0 attempts: no time left before the deadline");
}

/// The attempt has what the wait leaves of the deadline. Its own time limit begins with the call.
#[tokio::test(start_paused = true)]
async fn the_time_waited_counts_towards_the_deadline_and_not_towards_the_attempts() {
    let attempt = |millis| policy().total(0).attempt_timeout(millis * MS);
    // The policy, how long the server takes, when it ends, how, and how long its attempt took.
    let rows = [
        ("in time", policy().deadline(SECOND), 300, 900, "200", None),
        ("cut by the deadline", policy().deadline(SECOND), 9_000, 1_000, "Deadline", Some(400)),
        ("in its own time", attempt(350).deadline(SECOND), 300, 900, "200", None),
        ("cut by its own limit", attempt(300).deadline(SECOND), 9_000, 900, "Total", Some(300)),
        ("no deadline", attempt(300), 9_000, 900, "Total", Some(300)),
    ];
    rows_async::hold(rows, async |(what, policy, time, end, want, of_attempt)| {
        let (limited, permit) = limited(time * MS);
        let held = permit.acquire_owned().await.unwrap();
        let began = Instant::now();
        let client = RetryLayer::new(policy).layer(limited);
        let (outcome, ()) = tokio::join!(client.oneshot(get()), async {
            sleep(600 * MS).await;
            drop(held);
        });
        let took = began.elapsed();
        let error = outcome.as_ref().err().and_then(|error| error.downcast_ref::<RetryError>());
        let attempts = error.map(|error| error.history().attempts().to_vec()).unwrap_or_default();
        let told = told(outcome);
        let told = told.split(' ').next().unwrap_or_default().to_owned();
        let elapsed = attempts.first().map(|attempt| attempt.elapsed);
        let want = (want.to_owned(), end * MS, of_attempt.map(|millis: u32| millis * MS));
        (what, (told, took, elapsed), want)
    })
    .await;
}

/// All are in one task, so a wake-up for one also polls the others.
#[tokio::test(start_paused = true)]
async fn requests_that_wait_together_end_together() {
    let (limited, _) = limited(300 * MS);
    let client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    let began = Instant::now();
    let one = || async {
        let outcome = client.clone().oneshot(get()).await;
        (told(outcome), began.elapsed())
    };
    let (a, b, c, d, e, f) = tokio::join!(one(), one(), one(), one(), one(), one());
    let ends = |(told, at): (String, Duration)| (told, at.as_millis());
    assert_eq!(
        [a, b, c, d, e, f].map(ends).to_vec(),
        [
            ("200", 300),
            ("200", 600),
            ("200", 900),
            ("Deadline after 1", 1_000),
            (LATE, 1_000),
            (LATE, 1_000)
        ]
        .map(|(told, at)| (told.to_owned(), at))
    );
}

#[tokio::test(start_paused = true)]
async fn load_shedding_outside_still_sheds_and_the_next_request_has_its_whole_time() {
    let gaps = [0, 100, 250, 300, 500, 999, 1_000, 1_001, 2_000, 60_000];
    rows_async::hold(pairs(gaps, [false, true]), async |(gap, sleeps)| {
        let (limited, permit) = limited(900 * MS);
        let held = permit.acquire_owned().await.unwrap();
        let mut client = LoadShed::new(RetryLayer::new(policy().deadline(SECOND)).layer(limited));
        let mut seen = Vec::new();
        for _ in 0..12 {
            seen.push(told(client.ready().await.unwrap().call(get()).await));
            match sleeps {
                true => sleep(gap * MS).await,
                false => advance(gap * MS).await,
            }
        }
        drop(held);
        // Not at the moment of a wake.
        sleep(100 * MS).await;
        seen.push(told(client.ready().await.unwrap().call(get()).await));
        let mut want = vec!["shed".to_owned(); 12];
        want.push("200".to_owned());
        (format!("every {gap} ms, {sleeps}"), seen, want)
    })
    .await;
}

/// It is woken now, by a wait that was given up before the deadline.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_free_serves_at_once_after_a_wait_that_was_given_up() {
    rows_async::hold([1_000, 1_001, 2_000, 60_000], async |later| {
        let (limited, permit) = limited(900 * MS);
        let held = permit.acquire_owned().await.unwrap();
        let mut client = LoadShed::new(RetryLayer::new(policy().deadline(SECOND)).layer(limited));
        let first = told(client.ready().await.unwrap().call(get()).await);
        advance(later * MS).await;
        drop(held);
        let second = told(client.ready().await.unwrap().call(get()).await);
        let want = ("shed".to_owned(), "200".to_owned());
        (format!("{later} ms later"), (first, second), want)
    })
    .await;
}

/// A deadline that no clock reaches.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_ages_ends_no_wait() {
    let (limited, permit) = limited(SECOND);
    let held = permit.acquire_owned().await.unwrap();
    let client = RetryLayer::new(policy().deadline(Duration::MAX)).layer(limited);
    let (outcome, ()) = tokio::join!(client.oneshot(get()), async {
        sleep(1_000 * SECOND).await;
        drop(held);
    });
    assert_eq!(told(outcome), "200");
}

#[tokio::test(start_paused = true)]
async fn a_poll_by_another_task_begins_a_new_wait() {
    let (limited, permit) = limited(Duration::ZERO);
    let _held = permit.acquire_owned().await.unwrap();
    let mut client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    assert!(tokio::time::timeout(900 * MS, client.ready()).await.is_err());
    let began = Instant::now();
    let waited = tokio::spawn(async move {
        let outcome = client.ready().await.unwrap().call(get()).await;
        (told(outcome), began.elapsed())
    });
    assert_eq!(waited.await.unwrap(), (LATE.to_owned(), SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_clone_waits_anew_and_debug_tells_the_wait() {
    let (limited, permit) = limited(Duration::ZERO);
    let _held = permit.acquire_owned().await.unwrap();
    let mut client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    client.ready().await.unwrap();
    let began = Instant::now();
    let told = told(client.clone().oneshot(get()).await);
    assert_eq!((told.as_str(), began.elapsed()), (LATE, SECOND));

    let shown = |client: &_| format!("{client:?}").contains("readiness: Late");
    assert_eq!([&client, &client.clone()].map(shown), [true, false]);
}

/// How long after its time and after each wake that follows the task is polled; when the wait ends.
/// The deadline is 1,000 ms.
#[tokio::test(start_paused = true)]
async fn a_late_runtime_adds_its_delay_and_at_most_one_deadline_to_the_wait() {
    let rows: [(&str, &[u32], u128); 7] = [
        ("in time", &[0, 0], 1_000),
        ("a little late", &[40, 40], 1_080),
        ("late to the first wake", &[200, 0, 0], 2_200),
        ("late to the first wake twice", &[200, 200, 0], 2_400),
        ("late to the second wake", &[0, 200, 0], 1_200),
        ("late to it again and again", &[0, 200, 60_000, 200, 0], 61_400),
        ("late to all but the last", &[200, 200, 200, 200, 0], 2_800),
    ];
    rows_async::hold(rows, async |(what, lates, want)| {
        let (limited, permit) = limited(Duration::ZERO);
        let _held = permit.acquire_owned().await.unwrap();
        let mut service = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
        let mut poll = async || {
            // What it wakes is this task, which takes no notice of it.
            poll_fn(|cx| Poll::Ready(service.poll_ready(cx).is_ready())).await
        };
        let began = Instant::now();
        assert!(!poll().await);
        let mut is_asked = false;
        let mut ends = None;
        for (nth, late) in lates.iter().enumerate() {
            if !is_asked {
                advance(SECOND).await;
            }
            advance(*late * MS).await;
            if poll().await {
                ends = Some((nth + 1, began.elapsed().as_millis()));
                break;
            }
            is_asked = is_asked || *late <= 40 || nth > 0;
        }
        (what, ends, Some((lates.len(), want)))
    })
    .await;
}

/// Polls a future with another waker each time.
async fn with_other_wakers<F: Future>(future: F) -> F::Output {
    struct Other(Waker);
    impl Wake for Other {
        fn wake(self: Arc<Self>) {
            self.0.wake_by_ref();
        }
    }
    let mut future = pin!(future);
    poll_fn(|cx| {
        let other = Waker::from(Arc::new(Other(cx.waker().clone())));
        future.as_mut().poll(&mut Context::from_waker(&other))
    })
    .await
}

/// With its own wakers, with the task's waker, and polled because of another future.
#[tokio::test(start_paused = true)]
async fn a_wait_inside_a_combinator_ends_at_the_deadline() {
    let (limited, permit) = limited(Duration::ZERO);
    let _held = permit.acquire_owned().await.unwrap();
    let client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    let one = || client.clone().oneshot(get());
    let ticks = async || {
        for _ in 0..40 {
            sleep(30 * MS).await;
        }
    };
    rows_async::hold(["FuturesUnordered", "other wakers", "join", "select"], async |way| {
        let began = Instant::now();
        let ended = async |call| (told(call), began.elapsed().as_millis());
        let told = match way {
            "FuturesUnordered" => {
                let mut calls: FuturesUnordered<_> = (0..3).map(|_| one()).collect();
                let first = ended(calls.next().await.unwrap()).await;
                while let Some(call) = calls.next().await {
                    assert_eq!(ended(call).await, first);
                }
                first
            }
            "other wakers" => ended(with_other_wakers(one()).await).await,
            "join" => tokio::join!(async { ended(one().await).await }, ticks()).0,
            _ => {
                tokio::select! {
                    call = one() => ended(call).await,
                    () = ticks() => panic!("1.2 s have passed"),
                }
            }
        };
        (way, told, (LATE.to_owned(), 1_000))
    })
    .await;
}

/// `Buffer` has asked for the permit for a request whose caller has gone. It keeps it for the next.
#[tokio::test(start_paused = true)]
async fn a_permit_that_a_buffer_got_too_late_serves_its_next_request() {
    let (limited, permit) = limited(Duration::ZERO);
    let held = permit.clone().acquire_owned().await.unwrap();
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(policy().deadline(SECOND)))
        .buffer(1)
        .service(limited);
    assert_eq!(told(client.clone().oneshot(get()).await), "Deadline after 1");
    drop(held);
    sleep(MS).await;
    assert_eq!(permit.available_permits(), 0);
    assert_eq!(told(client.oneshot(get()).await), "200");
}

/// After the first wait nothing was called.
#[tokio::test(start_paused = true)]
async fn a_wait_that_nobody_used_does_not_end_the_next_request() {
    let (limited, permit) = limited(900 * MS);
    let held = permit.acquire_owned().await.unwrap();
    let mut client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
    client.ready().await.unwrap();
    drop(held);
    let outcome = client.ready().await.unwrap().call(get()).await;
    assert_eq!(told(outcome), "200");
}

/// The task that waited has gone. The next request, from another task, has its whole time.
#[tokio::test(start_paused = true)]
async fn a_wait_that_was_left_behind_long_ago_is_not_the_next_requests() {
    // For how long the permit is held before and after the wait, and how the next request ends,
    // which takes 200 ms of its second.
    let rows = [
        ("it was ready", 900 * MS, Duration::ZERO, "200"),
        ("it was late", 2 * SECOND, 300 * MS, "200"),
        ("it was late, and is", 2 * SECOND, 2 * SECOND, LATE),
    ];
    rows_async::hold(rows, async |(row, before, after, want)| {
        let (limited, permit) = limited(200 * MS);
        let mut service = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
        let held = permit.clone().acquire_owned().await.unwrap();
        tokio::spawn(async move {
            sleep(before).await;
            drop(held);
        });
        service.ready().await.unwrap();
        sleep(600 * SECOND).await;
        if !after.is_zero() {
            let held = permit.clone().acquire_owned().await.unwrap();
            tokio::spawn(async move {
                sleep(after).await;
                drop(held);
            });
        }
        let next = async { told(service.ready().await.unwrap().call(get()).await) };
        (row, next.await, want.to_owned())
    })
    .await;
}

/// No driver at all: a timer would panic.
#[test]
fn a_wait_without_a_deadline_makes_no_timer() {
    let server = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(200))));
    let client = RetryLayer::new(policy()).layer(Strict::new(server, 3));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(told(runtime.block_on(client.oneshot(get()))), "200");
}

#[tokio::test(start_paused = true)]
async fn a_buffer_outside_serves_on_after_the_deadline() {
    let (limited, permit) = limited(Duration::ZERO);
    let held = permit.acquire_owned().await.unwrap();
    let client = ServiceBuilder::new()
        .buffer(8)
        .layer(RetryLayer::new(policy().deadline(SECOND)))
        .service(limited);
    let began = Instant::now();
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push((told(client.clone().oneshot(get()).await), began.elapsed()));
    }
    drop(held);
    seen.push((told(client.clone().oneshot(get()).await), began.elapsed()));
    let late = |seconds| (LATE.to_owned(), seconds * SECOND);
    assert_eq!(seen, [late(1), late(2), late(3), ("200".to_owned(), 3 * SECOND)]);
}

/// A service that has waited in vain keeps neither a permit nor a place in the queue, though it
/// lives on; nor does one that got ready too late for the request's own deadline.
#[tokio::test(start_paused = true)]
async fn a_permit_that_is_not_used_is_given_back() {
    // The request's own deadline, how long the permit is held, how and when the request ends.
    let rows = [
        ("the layer's deadline", None, 60_000, LATE, 1_000),
        ("the request's own, which is shorter", Some(300), 600, LATE, 600),
        ("in time", None, 600, "200", 600),
    ];
    rows_async::hold(rows, async |(what, own, hold, want, end)| {
        let (limited, permit) = limited(Duration::ZERO);
        let held = permit.clone().acquire_owned().await.unwrap();
        let mut client = RetryLayer::new(policy().deadline(SECOND)).layer(limited);
        let release = tokio::spawn(async move {
            sleep(hold * MS).await;
            drop(held);
        });
        let mut request = get();
        if let Some(millis) = own {
            request.extensions_mut().insert(policy().deadline(millis * MS));
        }
        let began = Instant::now();
        let told = told(client.ready().await.unwrap().call(request).await);
        let took = began.elapsed().as_millis();
        release.await.unwrap();
        let free = permit.available_permits();
        drop(client);
        (what, (told, took, free), (want.to_owned(), end, 1))
    })
    .await;
}

/// The second attempt needs the permit that the idle service of the buffer was given: the request
/// that was shed has left its place in the queue there.
#[tokio::test(start_paused = true)]
async fn a_buffer_and_load_shedding_outside_end_by_the_deadline_and_inside_without_one() {
    let deadline = policy().deadline(SECOND);
    let service = || {
        let mut calls = 0;
        let server = service_fn(move |_: Request<Body>| {
            calls += 1;
            let status = if calls == 1 { 503 } else { 200 };
            async move {
                sleep(100 * MS).await;
                Ok::<_, BoxError>(answer(status))
            }
        });
        // One server, whose clones count together.
        let server = ServiceBuilder::new().buffer(1).service(server);
        ConcurrencyLimit::new(server, 1)
    };
    let outside = |policy| {
        let retries = RetryLayer::new(policy);
        let client = ServiceBuilder::new().buffer(8).load_shed().layer(retries).service(service());
        Client::new(client)
    };
    let limited = service();
    let in_call = service_fn(move |request: Request<Body>| limited.clone().oneshot(request));
    let in_call = ServiceBuilder::new()
        .buffer(8)
        .load_shed()
        .layer(RetryLayer::new(policy()))
        .service(in_call);
    let inside = ServiceBuilder::new()
        .layer(RetryLayer::new(policy()))
        .buffer(8)
        .load_shed()
        .service(service());
    // How the first request ends, and when at the latest.
    let rows = [
        ("outside, with a deadline", outside(deadline), "Deadline after 1", 1_000),
        ("readiness in the call", Client::new(in_call), "200", 400),
        ("inside", Client::new(inside), "200", 400),
    ];
    rows_async::hold(rows, async |(what, client, want, end)| {
        let began = Instant::now();
        let first = tokio::spawn(client.clone().oneshot(get()));
        sleep(50 * MS).await;
        // Shed, or repeated, or served: what matters is the first one.
        let second = tokio::spawn(client.clone().oneshot(get()));
        let first = told(first.await.unwrap());
        let took = began.elapsed().as_millis();
        second.abort();
        drop(client);
        (what, (first, took <= end), (want.to_owned(), true))
    })
    .await;
}
