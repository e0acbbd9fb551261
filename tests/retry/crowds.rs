//! Many requests at once, by seed: brown-outs, herds, deadlines and cancellations, in simulated or
//! paused time.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    error::Error,
    fmt,
    future::{Future, Ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::{Request, Response};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt, retry::budget::TpsBudget, service_fn};
use tower_outbound::retry::{
    Backoff, Budget, Drain, Jitter, ReplayBodyLayer, RetryError, RetryHistory, RetryLayer,
    RetryPolicy,
};

use crate::{
    bodies::{FakeBody, data},
    fakes::{Body, Live, SECOND, Token, answer, get},
    gated::Gated,
    rows_async,
};

pub(crate) const MILLISECOND: Duration = Duration::from_millis(1);

/// How every attempt fails.
#[derive(Clone)]
pub(crate) enum Fault {
    Status(u16),
    Io(io::ErrorKind),
    /// An error of a real exchange.
    Error(Arc<dyn Error + Send + Sync>),
}

impl Fault {
    fn outcome(&self) -> Result<Response<Body>, BoxError> {
        match self {
            Self::Status(status) => Ok(answer(*status)),
            Self::Io(kind) => Err(io::Error::from(*kind).into()),
            Self::Error(error) => Err(Again(Arc::clone(error)).into()),
        }
    }
}

/// An error that many requests share.
#[derive(Debug)]
struct Again(Arc<dyn Error + Send + Sync>);

impl fmt::Display for Again {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Again {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// Requests for a minute.
    PerSecond(u32),
    /// This many requests, which are all sent before the first one fails.
    AtOnce(u32),
}

/// How often each request is sent while all attempts fail.
pub(crate) async fn brown_out(policy: RetryPolicy, fault: Fault, pace: Pace) -> f64 {
    let sends = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sends);
    let server = service_fn(move |_: Request<Body>| {
        counted.fetch_add(1, Relaxed);
        let outcome = fault.outcome();
        async {
            tokio::time::sleep(MILLISECOND).await;
            outcome
        }
    });
    let client = RetryLayer::new(policy).layer(server);
    let (requests, mut ticks) = match pace {
        Pace::PerSecond(rate) => (60 * rate, Some(tokio::time::interval(SECOND / rate))),
        Pace::AtOnce(requests) => (requests, None),
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..requests {
        if let Some(ticks) = &mut ticks {
            ticks.tick().await;
        }
        calls.spawn(client.clone().oneshot(get()));
    }
    while let Some(call) = calls.join_next().await {
        assert!(!call.unwrap().is_ok_and(|response| response.status() == 200));
    }
    sends.load(Relaxed) as f64 / f64::from(requests)
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_is_not_made_worse_by_more_than_the_budget() {
    let backoff = Backoff::exponential(10 * MILLISECOND);
    let paces = [10, 100, 1000].map(Pace::PerSecond).into_iter().chain([Pace::AtOnce(1000)]);
    rows_async::hold(paces, async |pace| {
        let usual = || RetryPolicy::new().backoff(backoff);
        let fault = Fault::Status(503);
        let ours = usual().budget(Budget::new(10).min_retries(0, SECOND));
        let ours = brown_out(ours, fault.clone(), pace).await;
        let towers = usual().budget(TpsBudget::new(10 * SECOND, 0, 0.1));
        let towers = brown_out(towers, fault.clone(), pace).await;
        let none = brown_out(usual().no_budget(), fault, pace).await;
        let got = format!("{ours:.4} sends, {towers:.4} with tower's budget, {none:.4} with none");
        println!("{pace:?}: {got}");
        let holds = (1.09..=1.10).contains(&ours) && towers <= 1.10 && none == 4.0;
        if holds { Ok(()) } else { Err(format!("{pace:?}: {got}")) }
    })
    .await;
}

/// Clients begin at once to use a resource that serves one of them for 5 ms and refuses the others.
/// Returns the calls until all have been served, and the time.
fn herd(clients: u32, backoff: Backoff, seed: u64) -> (u32, Duration) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut calls = 0;
    let (mut busy_until, mut end) = (Duration::ZERO, Duration::ZERO);
    // When, in random order among those of one instant, the client's retries so far, and its last
    // delay.
    let mut queue: BinaryHeap<_> = (0..clients)
        .map(|_| Reverse((Duration::ZERO, random.u64(..), 0, Duration::ZERO)))
        .collect();
    while let Some(Reverse((now, _, retries, last))) = queue.pop() {
        calls += 1;
        if now >= busy_until {
            busy_until = now + 5 * MILLISECOND;
            end = busy_until;
            continue;
        }
        let delay = backoff.delay(retries + 1, last, random.f64());
        // Never at the same instant again, because a round trip takes time.
        queue.push(Reverse((
            now + delay.max(MILLISECOND / 10),
            random.u64(..),
            retries + 1,
            delay,
        )));
    }
    (calls, end)
}

#[test]
fn full_jitter_keeps_a_herd_from_marching_in_step() {
    let base = Backoff::exponential(5 * MILLISECOND);
    let seeds = 0..500;
    let mut means = Vec::new();
    for (what, backoff) in [
        ("none", base.jitter(Jitter::None)),
        ("full", base),
        ("equal", base.jitter(Jitter::Equal)),
        ("decorrelated", base.jitter(Jitter::Decorrelated)),
    ] {
        let runs: Vec<_> = seeds.clone().map(|seed| herd(100, backoff, seed)).collect();
        let mean = f64::from(runs.iter().map(|run| run.0).sum::<u32>()) / runs.len() as f64;
        let (least, most) = (
            runs.iter().map(|run| run.0).min().unwrap(),
            runs.iter().map(|run| run.0).max().unwrap(),
        );
        let time: Duration = runs.iter().map(|run| run.1).sum::<Duration>() / runs.len() as u32;
        println!("{what}: {mean:.0} calls ({least} to {most}) in {time:.0?}");
        means.push((mean, least, most));
    }
    let [none, full, ..] = means[..] else { unreachable!() };
    assert_eq!((none.1, none.2), (5050, 5050), "in step: 100 calls, then 99, then 98 ...");
    assert!(full.2 < 1000, "no seed needs {} calls", full.2);
    // The default of the policy is the jittered one.
    assert_eq!(Backoff::exponential(SECOND), Backoff::exponential(SECOND).jitter(Jitter::Full));
}

/// Random attempts, delays and deadlines: nothing begins after the deadline, and nothing outlasts
/// it by more than the timer's millisecond.
#[tokio::test(start_paused = true)]
async fn over_ten_thousand_schedules_nothing_begins_after_the_deadline() {
    let mut reasons = std::collections::BTreeMap::<String, u32>::new();
    for seed in 0..10_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut micros = |most: u64| Duration::from_micros(random.u64(..most));
        let (deadline, delay) = (micros(200_000), micros(60_000));
        let attempts: Vec<_> = (0..20).map(|_| micros(80_000)).collect();
        let drips = micros(30_000);
        let kinds: Vec<_> = (0..20).map(|_| random.u8(0..8)).collect();
        // Not at a whole millisecond of the timer.
        tokio::time::advance(Duration::from_nanos(random.u64(..3_000_000))).await;
        let begin = Instant::now();
        let sends = AtomicUsize::new(0);
        let server = service_fn(|_: Request<Body>| {
            let at = sends.fetch_add(1, Relaxed);
            let elapsed = begin.elapsed();
            assert!(
                at == 0 || elapsed < deadline,
                "seed {seed}: an attempt at {elapsed:?} of {deadline:?}"
            );
            let (kind, takes) = (kinds[at % 20], attempts[at % 20]);
            async move {
                match kind {
                    // At once, without a poll of a timer.
                    0 => {}
                    1 => std::future::pending().await,
                    _ => tokio::time::sleep(takes).await,
                }
                let mut response = Response::builder().status(503);
                if kind == 2 {
                    response = response.header("retry-after", "1");
                }
                if kind == 3 {
                    return Err(BoxError::from(std::io::Error::from(
                        std::io::ErrorKind::ConnectionReset,
                    )));
                }
                Ok(response.body(drip(drips)).unwrap())
            }
        });
        let jitter =
            [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated][random.usize(..4)];
        let backoff = if random.u8(..4) == 0 {
            Backoff::none()
        } else {
            Backoff::exponential(delay).jitter(jitter)
        };
        let mut policy =
            RetryPolicy::new().no_budget().total(None).backoff(backoff).deadline(deadline);
        if random.bool() {
            policy = policy.attempt_timeout(Duration::from_micros(random.u64(..100_000)));
        }
        let raises = random.bool();
        policy = policy.raise_on_status(raises);
        let outcome = RetryLayer::new(policy).layer(server).oneshot(get()).await;
        let took = begin.elapsed();
        assert!(
            took <= deadline + 2 * MILLISECOND,
            "seed {seed}: it took {took:?} of {deadline:?}"
        );
        let reason = match &outcome {
            Ok(response) => response.extensions().get::<RetryHistory>().unwrap().stop_reason(),
            Err(error) => {
                let history = error.downcast_ref::<RetryError>().expect("a GET").history();
                // A delay is not begun if it would end too late, even by less than the timer's
                // step.
                let answered = history.attempts().last().unwrap().status.is_some();
                assert!(raises || !answered, "seed {seed}: a response was lost: {history}");
                history.stop_reason()
            }
        };
        *reasons
            .entry(format!("{reason:?}, {}", if outcome.is_ok() { "response" } else { "error" }))
            .or_default() += 1;
    }
    println!("{reasons:?}");
    assert!(
        reasons.len() >= 2 && reasons.keys().all(|reason| reason.starts_with("Deadline")),
        "{reasons:?}"
    );
}

/// A body that yields a byte each time.
fn drip(every: Duration) -> FakeBody {
    let mut timer: Option<Pin<Box<tokio::time::Sleep>>> = None;
    FakeBody::new(move |cx| {
        let running = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(every)));
        std::task::ready!(running.as_mut().poll(cx));
        timer = None;
        data("x")
    })
}

/// A body with a number of polls, of which every other is pending. It counts as alive until it is
/// dropped.
fn held(token: Token, mut left: u8) -> FakeBody {
    FakeBody::new(move |cx| {
        let _ = &token;
        let Some(less) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = less;
        if left.is_multiple_of(2) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        data("x")
    })
}

/// Requests are dropped after any number of polls, in every state. Inner call, timers, bodies,
/// permits and copies are dropped with them.
#[tokio::test(start_paused = true)]
async fn ten_thousand_futures_dropped_at_each_await_leave_nothing_behind() {
    let live = Live::default();
    let permits = Arc::new(tokio::sync::Semaphore::new(3));
    let mut ended = 0;
    for seed in 0..10_000_u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let polls = seed % 25;
        let (for_server, yields) = (live.clone(), random.usize(..3));
        let slow = random.bool();
        let server =
            service_fn(move |request: Request<tower_outbound::retry::ReplayBody<FakeBody>>| {
                let (call, body) = (for_server.one(), for_server.one());
                async move {
                    let mut upload = request.into_body();
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                        let _ = http_body_util::BodyExt::frame(&mut upload).await;
                    }
                    if slow {
                        tokio::time::sleep(SECOND).await;
                    }
                    drop(call);
                    Ok::<_, BoxError>(Response::builder().status(503).body(held(body, 7)).unwrap())
                }
            });
        let limited = tower::limit::ConcurrencyLimit::with_semaphore(server, Arc::clone(&permits));
        let backoff = if random.bool() { Backoff::none() } else { Backoff::constant(SECOND) };
        let mut policy =
            RetryPolicy::new().no_budget().total(4).backoff(backoff).drain(Drain::default());
        if random.bool() {
            policy = policy.attempt_timeout(SECOND / 2).deadline(10 * SECOND);
        }
        if random.bool() {
            policy = policy.raise_on_status(true);
        }
        let client = ReplayBodyLayer::new().layer(RetryLayer::new(policy).layer(limited));
        let request = Request::put("http://h.example/").body(held(live.one(), 9)).unwrap();
        let mut call = Box::pin(client.oneshot(request));
        for _ in 0..polls {
            let done =
                std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await;
            if done {
                ended += 1;
                break;
            }
            if random.bool() {
                tokio::time::advance(SECOND / 3).await;
            }
        }
        drop(call);
        assert_eq!(live.count(), 0, "seed {seed}, after {polls} polls");
        assert_eq!(permits.available_permits(), 3, "seed {seed}, after {polls} polls");
    }
    assert!((500..9500).contains(&ended), "{ended} ended before they were dropped");
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0, "no task is spawned");
}

/// Whatever the service answers, one that is never ready holds a request no longer than its
/// deadline, and is never called.
#[tokio::test(start_paused = true)]
async fn a_service_that_is_never_ready_is_never_called() {
    let never = Gated {
        gate: |_: &mut Context<'_>| Poll::<Result<(), BoxError>>::Pending,
        inner: service_fn(|_: Request<Body>| -> Ready<Result<Response<Body>, BoxError>> {
            panic!("called without being ready")
        }),
    };
    let mut client = RetryLayer::new(RetryPolicy::new().deadline(SECOND)).layer(never);
    assert!(client.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut call = tokio_test::task::spawn(client.oneshot(get()));
    for _ in 0..10 {
        assert!(call.poll().is_pending(), "readiness before the call is the caller's to wait for");
        tokio::time::advance(SECOND).await;
    }
}
