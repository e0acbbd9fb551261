//! What a shared session costs, compared with a jar of one process.
//!
//! ```sh
//! cargo bench --bench session --features redis,seal
//! ```
//!
//! callgrind runs this program again and counts instructions, as the slope between two numbers of
//! requests. A store counts commands. Changes per second are measured with a clock, so they depend
//! on the disk and on what else runs. Without `--bench` each part runs once.
#![allow(clippy::print_stdout)]

#[path = "session/changes.rs"]
mod changes;

use std::{
    convert::Infallible,
    env,
    future::{Future, Ready, ready},
    pin::pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{FutureExt, Stream};
use http::{HeaderValue, Request, Response, header};
use tower::{BoxError, Layer, Service};
use tower_outbound::{
    CookieLayer,
    cookie::{CookieJar, JarPool},
    session::{
        Applied, Contents, Event, MemoryStore, Record, Seal, SessionKey, SessionLayer, SessionPool,
        SessionSeal, SessionStore, StoreKey, Version,
    },
};

const URI: &str = "https://api.example.com/items/42";
const COOKIES: [&str; 4] = ["sid=7f3a9c51e0b24d68", "csrf=Qm9yZWRvbTIwMjY", "theme=dark", "hl=en"];

/// The name of each case, and what it is.
const CASES: &[(&str, &str)] = &[
    ("jar-pool", "JarPool and per_request"),
    ("warm", "SessionLayer and per_request, warm"),
    ("jar-pool-set", "JarPool, a response that changes a cookie"),
    ("set", "SessionLayer, a response that changes a cookie"),
    ("seal", "a cookie sealed"),
    ("open", "a cookie opened"),
];

/// Sets the cookie in the request's `x-set`.
#[derive(Clone)]
struct Server;

impl Service<Request<()>> for Server {
    type Response = Response<()>;
    type Error = Infallible;
    type Future = Ready<Result<Response<()>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    // So that the client is not inlined into the layer around it.
    #[inline(never)]
    fn call(&mut self, request: Request<()>) -> Self::Future {
        let mut response = Response::new(());
        if let Some(line) = request.headers().get("x-set") {
            response.headers_mut().insert(header::SET_COOKIE, line.clone());
        }
        ready(Ok(response))
    }
}

/// A store in memory that counts loads, versions and applies.
#[derive(Default)]
struct Counting {
    inner: MemoryStore,
    commands: [AtomicUsize; 3],
}

impl SessionStore for Counting {
    type Error = Infallible;

    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Contents, Infallible>> + Send {
        self.commands[0].fetch_add(1, Relaxed);
        self.inner.load(key)
    }

    fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> impl Future<Output = Result<Applied, Infallible>> + Send {
        self.commands[2].fetch_add(1, Relaxed);
        self.inner.apply(key, known, records, ttl)
    }

    fn version(&self, key: &StoreKey) -> impl Future<Output = Result<Version, Infallible>> + Send {
        self.commands[1].fetch_add(1, Relaxed);
        self.inner.version(key)
    }

    fn forget(&self, tenant: &SessionKey) -> impl Future<Output = Result<(), Infallible>> + Send {
        self.inner.forget(tenant)
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        self.inner.events()
    }
}

/// Requests, each with a cookie to set if `lines` has any.
async fn send<C>(
    mut client: C,
    requests: u32,
    lines: &[HeaderValue],
    extend: impl Fn(&mut Request<()>),
) where
    C: Service<Request<()>, Response = Response<()>>,
    C::Error: Into<BoxError>,
{
    for nth in 0..requests as usize {
        let mut request = Request::get(URI).body(()).expect("a request");
        if !lines.is_empty() {
            request.headers_mut().insert("x-set", lines[nth % lines.len()].clone());
        }
        extend(&mut request);
        client.call(request).await.map_err(Into::into).expect("a response");
    }
}

fn fill(jar: &CookieJar) {
    for cookie in COOKIES {
        jar.set(&URI.parse().expect("a URI"), format!("{cookie}; Secure; Max-Age=86400"))
            .expect("kept");
    }
}

/// Two values by turns: each response changes the cookie.
fn lines() -> [HeaderValue; 2] {
    ["sid=7f3a9c51e0b24d68; Secure", "sid=0000000000000000; Secure"].map(HeaderValue::from_static)
}

async fn run(case: &str, requests: u32) {
    let (tenant, key) = ("tenant-7".to_owned(), SessionKey::new(*b"tenant-7"));
    let lines = lines();
    let lines: &[_] = if case.ends_with("set") { &lines } else { &[] };
    let seal = || SessionSeal::new(1, &[7; 32]);
    match case {
        "jar-pool" | "jar-pool-set" => {
            let pool = JarPool::builder().build();
            fill(&pool.get("tenant-7"));
            let client = CookieLayer::per_request().layer(Server);
            send(client, requests, lines, |request| {
                let jar = pool.get(&*tenant);
                request.extensions_mut().insert(jar);
            })
            .await;
        }
        "warm" | "set" => {
            let (pool, driver) = SessionPool::builder(MemoryStore::new()).seal(seal()).build();
            let work = async {
                fill(&pool.jar(&key, &URI.parse().expect("a URI")).await.expect("loaded"));
                pool.flush().await.expect("written");
                let client = CookieLayer::per_request().layer(Server);
                let client = SessionLayer::new(pool.clone()).layer(client);
                send(client, requests, lines, |request| {
                    request.extensions_mut().insert(key.clone());
                })
                .await;
            };
            // After one poll the driver knows that the store reports changes.
            let mut driver = pin!(driver);
            assert!((&mut driver).now_or_never().is_none());
            work.await;
        }
        "seal" => {
            let (seal, plain) = (seal(), vec![1; 100]);
            (0..requests).for_each(|_| drop(seal.seal(&[2; 100], plain.clone())));
        }
        "open" => {
            let seal = seal();
            let sealed = seal.seal(&[2; 100], vec![1; 100]);
            (0..requests).for_each(|_| drop(seal.open(&[2; 100], &sealed).expect("its own")));
        }
        _ => panic!("no such case: {case}"),
    }
}

/// What callgrind counts in this many requests, or `None` without valgrind.
fn collected(case: &str, requests: u32) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(env::current_exe().ok()?)
        .args(["instructions", case, &requests.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{case}: {text}");
    text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())
}

fn report() {
    println!("instructions");
    let mut first = None;
    for (case, what) in CASES {
        let (Some(few), Some(many)) = (collected(case, 1_000), collected(case, 11_000)) else {
            println!("  no valgrind, no figures");
            return;
        };
        let instructions = (many - few) / 10_000;
        let base = *first.get_or_insert(instructions);
        println!("  {what:<48} {instructions:>6} ({:.2})", instructions as f64 / base as f64);
    }
}

/// Loads, versions and applies of a cold request, of warm ones, and of changes.
async fn commands() {
    let store = Arc::new(Counting::default());
    let (pool, driver) = SessionPool::builder(Arc::clone(&store)).unsealed().build();
    let mut driver = pin!(driver);
    assert!((&mut driver).now_or_never().is_none());
    let client = || SessionLayer::new(pool.clone()).layer(CookieLayer::per_request().layer(Server));
    let key = SessionKey::new(*b"tenant-7");
    println!("commands: loads, versions, applies");
    let lines = lines();
    for (what, requests, lines) in [
        ("the first request", 1, &[][..]),
        ("1,000 warm requests", 1_000, &[]),
        ("1,000 responses that change a cookie", 1_000, &lines),
    ] {
        let read = || store.commands.each_ref().map(|count| count.load(Relaxed));
        let before = read();
        send(client(), requests, lines, |request| {
            request.extensions_mut().insert(key.clone());
        })
        .await;
        let now = read();
        let new: Vec<_> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        println!("  {what:<48} {new:?}");
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["instructions", case, requests] => {
            runtime.block_on(run(case, requests.parse().expect("a number")));
        }
        ["changes", directory, sync, number] => {
            changes::run(directory, sync, number.parse().expect("a number"));
        }
        ["changes", "--bench"] => changes::report(1_000),
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            report();
            runtime.block_on(commands());
            changes::report(1_000);
        }
        _ => {
            CASES.iter().for_each(|(case, _)| runtime.block_on(run(case, 1)));
            runtime.block_on(commands());
            changes::report(10);
        }
    }
}
