//! A long run of the whole stack over an upstream that fails. Nothing may be lost or mixed up, and
//! memory must not grow.
//!
//! ```sh
//! cargo bench --bench soak                # a million requests
//! cargo bench --bench soak -- 10000000    # as many as you like
//! SOAK_SEED=7 cargo bench --bench soak
//! cargo bench --bench soak --features redis -- 1000000 --sessions
//! ```
//!
//! 1,000 tenants share one client. Their jars are in a `JarPool` that is too small for all of them,
//! so jars are saved and read again. Uploads are streamed, attempts fail in every way, callers give
//! up between any two polls, and the table of mounts is replaced every thousand requests. Time is
//! virtual and everything is one thread, so the upstream knows exactly what must be true:
//!
//! - Each attempt has all cookies of its tenant, and no others.
//! - No POST is processed twice, unless its caller set `Idempotency-Key`.
//! - Each caller gets the answer to its own last attempt, or the error of it.
//! - The budget holds.
//! - Resident memory does not grow over the last half.
//!
//! Without `--bench`, as in `cargo test --benches`, the run is short.
#![allow(clippy::print_stdout)]

#[cfg(all(feature = "redis", unix))]
mod sessions;
mod upstream;

use std::{
    env, fs,
    future::{Future, poll_fn, ready},
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use tower::{BoxError, Layer, Service};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::{CookieJar, CookieService, Format, JarPool, PerRequest},
    retry::{
        Backoff, Budget, Failure, Policy, ReplayBody, ReplayBodyLayer, RetryError, RetryHistory,
        RetryPolicy,
    },
    routing::{Mount, RoutingHandle},
};
use upstream::{Chunks, End, HOSTS, NeverWritten, Tail, Upstream, World, content};

const TENANTS: usize = 1_000;
/// More than the requests at a time, fewer than the tenants.
const JARS: usize = 900;
const AT_ONCE: usize = 64;
const PERCENT: u32 = 20;
/// How many requests use one table, and how many one rate of failures.
const RELOAD: u64 = 1_000;
const WEATHER: u64 = 5_000;
/// Requests in ten milliseconds of virtual time.
const PACE: u64 = 64;
const FILLERS: usize = 50;
/// From this number of requests on, memory is checked.
const LONG: u64 = 1_000_000;
/// How much the second half of the run may add to the resident memory, in KiB.
const GROWTH: u64 = 2_048;

type Upload = ReplayBody<Chunks>;
type Cookies = CookieService<Upstream, PerRequest>;
type Handle = RoutingHandle<Cookies, Upload, Chunks>;

fn main() {
    let is_bench = env::args().any(|argument| argument == "--bench");
    let requests = env::args().find_map(|argument| argument.parse().ok());
    let requests = requests.unwrap_or(if is_bench { LONG } else { 20_000 });
    let seed = env::var("SOAK_SEED").ok().map_or(1, |seed| seed.parse().expect("a number"));
    let is_over_sessions = env::args().any(|argument| argument == "--sessions");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(!is_over_sessions)
        .build()
        .expect("a runtime");
    let (world, memory, began) = (World::new(seed, TENANTS), Memory::default(), Instant::now());
    if is_over_sessions {
        #[cfg(all(feature = "redis", unix))]
        runtime.block_on(sessions::soak(&world, requests, &memory));
        #[cfg(not(all(feature = "redis", unix)))]
        panic!("--sessions needs the feature redis");
    } else {
        runtime.block_on(soak(&world, requests, &memory));
    }
    memory.look(requests, requests);
    report(&world, seed, requests, &memory, began);
}

/// Resident memory in KiB, if the system reports it.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Resident memory, by the percentage of requests made.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<(u64, u64)>>>);

impl Memory {
    /// Measures ten times, and at the end.
    fn look(&self, made: u64, requests: u64) {
        if made == requests || made.is_multiple_of((requests / 10).max(1)) {
            let percent = made * 100 / requests;
            self.0.lock().expect("no panic").extend(resident().map(|size| (percent, size)));
        }
    }
}

/// The saved jars of tenants that the pool has evicted.
type Saved = Arc<Mutex<Vec<Option<Vec<u8>>>>>;

fn jars(saves: &Arc<AtomicU64>) -> JarPool<usize> {
    let saved: Saved = Arc::new(Mutex::new(vec![None; TENANTS]));
    let (from, to, saves) = (Arc::clone(&saved), saved, Arc::clone(saves));
    JarPool::keyed()
        .max_jars(JARS)
        .new_jar(move |tenant: &usize| {
            let jar = CookieJar::new();
            if let Some(file) = from.lock().expect("no panic")[*tenant].take() {
                jar.read_from(&*file, Format::Netscape).expect("its own file");
            }
            jar
        })
        .on_evict(move |tenant, jar| {
            let mut file = Vec::new();
            jar.write_to(&mut file, Format::Netscape).expect("a vector takes it all");
            to.lock().expect("no panic")[*tenant] = Some(file);
            saves.fetch_add(1, Relaxed);
        })
        .build()
}

fn policy(budget: &Budget) -> RetryPolicy {
    let usual = RetryPolicy::new();
    RetryPolicy::new()
        .backoff(Backoff::none())
        .attempt_timeout(Duration::from_millis(50))
        .classify(move |outcome| match outcome {
            Err(error) if error.is::<NeverWritten>() => Some(Failure::Unsent),
            outcome => Policy::classify(&usual, outcome),
        })
        .budget(budget.clone())
}

/// The stack, and what its callers have to know about it.
struct Stack {
    world: World,
    handle: Handle,
    budget: Budget,
    jars: JarPool<usize>,
    /// The hosts that have a mount in the current table.
    mounted: Mutex<[bool; HOSTS.len()]>,
    next: AtomicU64,
    requests: u64,
    memory: Memory,
}

impl Stack {
    /// Sets a new table, which has other hosts, and mounts some of the old ones again.
    fn reload(&self) {
        let random = &mut self.world.book().random;
        let mounted = HOSTS.map(|_| random.u8(..8) > 0);
        let keys = HOSTS.map(|_| random.u8(..2).to_string());
        let result = self.handle.replace(|mut table| {
            for ((host, key), _) in
                HOSTS.iter().zip(keys).zip(mounted).filter(|(_, is_mounted)| *is_mounted)
            {
                let layer = RetryLayer::new(policy(&self.budget));
                table = table.mount_keyed(format!("any://{host}"), key, layer);
            }
            (0..FILLERS).fold(table, |table, filler| {
                let layer = RetryLayer::new(RetryPolicy::none());
                table.mount_keyed(format!("https://{filler}.invalid/v1"), "filler", layer)
            })
        });
        result.expect("good prefixes");
        *self.mounted.lock().expect("no panic") = mounted;
    }

    /// Sends one request after the other, until enough are made.
    async fn call<S>(&self, mut client: S)
    where
        S: Service<Request<Chunks>, Response = Response<Chunks>, Error = BoxError>,
    {
        loop {
            let id = self.next.fetch_add(1, Relaxed);
            if id >= self.requests {
                return;
            }
            self.memory.look(id, self.requests);
            if id.is_multiple_of(RELOAD) {
                self.reload();
            }
            if id.is_multiple_of(WEATHER) {
                let weather = [5, 20, 70, 95];
                self.world.book().trouble = weather[(id / WEATHER) as usize % weather.len()];
            }
            if id.is_multiple_of(PACE) {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            let (request, patience) = self.request(id);
            // Time only passes for a request that gets no answer.
            let call = tokio::time::timeout(Duration::from_secs(10), client.call(request));
            let outcome = give_up(call, patience).await;
            self.judge(id, outcome).await;
        }
    }

    /// A request, and the number of polls after which its caller gives up.
    fn request(&self, id: u64) -> (Request<Chunks>, Option<u32>) {
        let mut book = self.world.book();
        let random = &mut book.random;
        let (tenant, host) = (random.usize(..TENANTS), random.usize(..HOSTS.len()));
        let method = [Method::GET, Method::GET, Method::PUT, Method::POST, Method::POST]
            [random.usize(..5)]
        .clone();
        let is_keyed = method == Method::POST && random.u8(..4) == 0;
        let scheme = if random.u8(..8) == 0 { "http" } else { "https" };
        let path = ["/", "/account", "/account/1"][random.usize(..3)];
        let chunks = if method == Method::GET { 0 } else { random.u8(..5) };
        let tail = match random.u8(..100) {
            0 if chunks > 0 => Tail::Breaks,
            _ => Tail::Whole,
        };
        let upload = Chunks::new(id, chunks, random.u16(..) & 0b1011, tail);
        let patience = (random.u8(..16) == 0).then(|| random.u32(..12));
        let is_mounted = self.mounted.lock().expect("no panic")[host];
        book.ask(id, tenant, host, method != Method::POST || is_keyed, is_mounted);
        // Making a jar reads its saved state, and saves the jar that is evicted for it.
        drop(book);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{scheme}://{}{path}", HOSTS[host]))
            .header("x-id", id)
            .header("x-chunks", u16::from(chunks))
            .extension(self.jars.get(tenant));
        if is_keyed {
            request = request.header("idempotency-key", id);
        }
        (request.body(upload).expect("a request"), patience)
    }

    /// Whether the caller got the real outcome of the request.
    async fn judge(
        &self,
        id: u64,
        outcome: Option<Result<Result<Response<Chunks>, BoxError>, tokio::time::error::Elapsed>>,
    ) {
        let asked = self.world.book().close(id);
        let end = match outcome {
            None => "given up by its caller",
            Some(Err(_)) if asked.is_mounted => {
                let attempts = asked.attempts;
                self.world.book().wrong(format!("#{id}: no end, with attempt {attempts}"));
                return;
            }
            Some(Err(_)) => "no answer without a mount",
            Some(Ok(Err(error))) => {
                self.judge_error(id, &asked, &error);
                "an error"
            }
            Some(Ok(Ok(response))) => {
                self.judge_response(id, &asked, response).await;
                "a response"
            }
        };
        self.world.book().meet(end);
    }

    fn judge_error(&self, id: u64, asked: &upstream::Asked, error: &BoxError) {
        let attempts = error.downcast_ref::<RetryError>().map(|error| error.history().attempts());
        let told = attempts.map_or(asked.attempts, <[_]>::len);
        // An attempt that timed out has no end.
        let has_failed = matches!(asked.end, End::Failed | End::Open);
        if !has_failed || told != asked.attempts {
            self.world.book().wrong(format!("#{id}: {error} after {told} of {asked:?}"));
        }
    }

    async fn judge_response(&self, id: u64, asked: &upstream::Asked, response: Response<Chunks>) {
        let number = |name: &str| response.headers()[name].to_str().ok()?.parse().ok();
        let attempts = response.extensions().get::<RetryHistory>();
        let told = attempts.map_or(1, |history| history.attempts().len());
        let mount = response.extensions().get::<Mount>().map(|Mount(prefix)| &**prefix);
        let wanted = asked.is_mounted.then(|| format!("any://{}", HOSTS[asked.host]));
        let is_its_own = upstream::id(response.headers()) == Some(id)
            && number("x-attempt") == Some(asked.attempts)
            && told == asked.attempts
            && asked.end == End::Answered(response.status())
            && mount == wanted.as_deref();
        if !is_its_own {
            self.world.book().wrong(format!(
                "#{id}: {} {:?} by {mount:?}, {told} attempts of {asked:?}",
                response.status(),
                response.headers(),
            ));
        }
        let chunks = number("x-chunks").expect("each answer has it");
        if self.world.book().random.u8(..8) == 0 {
            return; // The caller does not read the body.
        }
        let mut body = response.into_body();
        for chunk in 1..=chunks {
            let frame = body.frame().await.and_then(Result::ok);
            let data = frame.and_then(|frame| frame.into_data().ok());
            let chunk = u8::try_from(chunk).expect("few");
            if data.as_ref() != Some(&content(id, chunk)) {
                self.world.book().wrong(format!("#{id}: chunk {chunk} of its answer is {data:?}"));
            }
        }
    }
}

async fn soak(world: &World, requests: u64, memory: &Memory) {
    let saves = Arc::new(AtomicU64::new(0));
    let cookies = CookieLayer::per_request().layer(Upstream(world.clone()));
    let routing = RoutingLayer::builder().build().expect("no mounts").layer(cookies);
    let stack = Stack {
        world: world.clone(),
        handle: routing.handle(),
        // Without a floor, so that its retries can be counted exactly.
        budget: Budget::new(PERCENT).min_retries(0, Duration::from_secs(1)),
        jars: jars(&saves),
        mounted: Mutex::default(),
        next: AtomicU64::new(0),
        requests,
        memory: memory.clone(),
    };
    let client = ReplayBodyLayer::new().layer(routing);
    // In one task, so that only wakers decide their order, and a seed replays a run.
    let callers: FuturesUnordered<_> = (0..AT_ONCE).map(|_| stack.call(client.clone())).collect();
    callers.for_each(|()| ready(())).await;
    println!("{} jars saved and read again", saves.load(Relaxed));
    let book = &mut *world.book();
    let share = book.counts.paid_retries as f64 / book.counts.mounted as f64;
    println!("{share:.4} retries from the budget for each request with one");
    if share > f64::from(PERCENT + 1) / 100.0 {
        book.wrong(format!("a budget of {PERCENT} percent allowed {share:.4}"));
    }
}

fn report(world: &World, seed: u64, requests: u64, memory: &Memory, began: Instant) {
    let book = world.book();
    let counts = &book.counts;
    println!("seed {seed}, {requests} requests of {TENANTS} tenants in {:.1?}", began.elapsed());
    println!("{} attempts, {} retries from the budget", counts.attempts, counts.paid_retries);
    println!("{} cookies sent, {} set or deleted", counts.cookies_sent, counts.cookies_set);
    println!("{} POSTs processed", counts.posts_processed);
    for (end, times) in &counts.ends {
        println!("{times:>12} {end}");
    }
    let mut wrong = book.wrong.clone();
    let memory = memory.0.lock().expect("no panic");
    for (percent, resident) in &*memory {
        println!("{resident:>12} KiB resident at {percent} %");
    }
    let at = |wanted| memory.iter().find(|(percent, _)| *percent == wanted).map(|(_, size)| *size);
    if let (Some(half), Some(end), true) = (at(50), at(100), requests >= LONG)
        && end > half + GROWTH
    {
        wrong.push(format!("the last half added {} KiB", end - half));
    }
    assert!(wrong.is_empty(), "SOAK_SEED={seed}:\n{}", wrong.join("\n"));
    println!("nothing was lost or mixed up");
}

/// Returns `None` if the future is still pending after `patience` polls.
async fn give_up<F: Future>(future: F, patience: Option<u32>) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = patience.unwrap_or(u32::MAX);
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() && left == 0 {
            return Poll::Ready(None);
        }
        polled.map(Some)
    })
    .await
}
