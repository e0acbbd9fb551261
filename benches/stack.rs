//! What the whole stack costs end to end, beside the hyper client alone and beside what one builds
//! from tower's own retry and the cookie_store crate.
//!
//! ```sh
//! cargo bench --bench stack
//! ```
//!
//! HTTP/1.1 with keep-alive to a server in a process of its own, which answers with 20 bytes of
//! JSON. The stack has 100 mounts, retries with the default budget, and a jar of 10,000 hosts, of
//! whose cookies five go along. Instructions are counted by callgrind, which runs this program
//! again, as the slope between two numbers of requests, with malloc and without it: what malloc
//! takes for the same allocations changes by a thousand with the state of the heap. Allocations are
//! counted by an allocator; requests per second are ratios within one run. Without `--bench` each
//! case runs once.
#![allow(clippy::print_stdout)]

mod count;

use std::{
    collections::HashSet,
    env,
    error::Error,
    fs,
    future::{Future, Ready, ready},
    io::{self, BufRead, BufReader},
    iter,
    net::SocketAddr,
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cookie_store::CookieStore;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self, Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{net::TcpListener, runtime};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, retry::budget::TpsBudget};
use tower_outbound::{
    cookie::{CookieJar, CookieLayer, CookieLimits},
    retry::{RetryLayer, RetryPolicy},
    routing::RoutingLayer,
};
use url::Url;

use self::count::Counts;

type Body = Full<Bytes>;
type Answer = Response<Incoming>;
type Hyper = Client<HttpConnector<Names>, Body>;

const NAMES: [&str; 6] = [
    "the hyper client alone",
    "that, with the same Cookie header set by hand",
    "the whole stack",
    "tower's retry, a mutex around cookie_store",
    BY_ADDRESS,
    "the whole stack, by address and port",
];
/// What the last is compared with: meshes and tests have no names.
const BY_ADDRESS: &str = "the hyper client alone, by address and port";
const HOSTS: usize = 10_000;
const MOUNTS: usize = 100;
const COOKIES: [&str; 5] = [
    "sessionid=7f3a9c51e0b24d68",
    "csrftoken=Qm9yZWRvbTIwMjY",
    "theme=dark",
    "locale=en-GB",
    "consent=yes",
];
const URI: &str = "http://api.example-42.com/items/42";
const JSON: &[u8] = br#"{"id":42,"ok":true}."#;

// The server.

fn serve() {
    let answer = |_: Request<Incoming>| {
        let json = Response::builder()
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(JSON));
        ready(json)
    };
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(
                http.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)),
            );
        }
    });
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let program = env::current_exe().expect("this program");
        let mut child =
            Command::new(program).arg("serve").stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its address");
        Self { child, address: line.trim().parse().expect("an address") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// The clients.

/// Every name is the server's, and its port too where none is written.
#[derive(Clone)]
struct Names(SocketAddr);

impl Service<Name> for Names {
    type Response = iter::Once<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<iter::Once<SocketAddr>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(iter::once(self.0)))
    }
}

fn hyper_client(server: SocketAddr) -> Hyper {
    let mut connector = HttpConnector::new_with_resolver(Names(server));
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

/// What it costs to send cookies at all: the caller has them at hand.
#[derive(Clone)]
struct ByHand {
    inner: Hyper,
    cookies: HeaderValue,
}

fn by_hand(server: SocketAddr) -> ByHand {
    ByHand {
        inner: hyper_client(server),
        cookies: COOKIES.join("; ").try_into().expect("a header"),
    }
}

impl Service<Request<Body>> for ByHand {
    type Response = Answer;
    type Error = legacy::Error;
    type Future = legacy::ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(header::COOKIE, self.cookies.clone());
        Service::call(&mut self.inner, request)
    }
}

fn ours(
    server: SocketAddr,
) -> impl Service<Request<Body>, Response = Answer, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    let jar = CookieJar::builder()
        .limits(CookieLimits { total: 100_000, ..CookieLimits::default() })
        .build();
    let names = (0..HOSTS - 1).map(|host| format!("http://api.example-{host}.com/"));
    for origin in names.chain([format!("http://{server}/")]) {
        let uri = origin.parse().expect("a URI");
        for cookie in COOKIES {
            jar.set(&uri, cookie).expect("a cookie");
        }
    }
    assert_eq!(jar.len(), HOSTS * COOKIES.len(), "every cookie is stored");

    let retry = RetryLayer::new(RetryPolicy::new());
    let mut mounts = RoutingLayer::builder();
    let names = (0..MOUNTS - 1).map(|host| format!("http://api.example-{host}.com"));
    for prefix in names.chain([format!("http://{server}")]) {
        mounts = mounts.mount(&*prefix, retry.clone());
    }
    let client = CookieLayer::new(jar).layer(hyper_client(server));
    mounts.build().expect("mounts").layer(client)
}

fn of_towers(
    server: SocketAddr,
) -> impl Service<Request<Body>, Response = Answer, Error = legacy::Error, Future: Send>
+ Clone
+ Send
+ use<> {
    let mut store = CookieStore::default();
    let url = Url::parse(URI).expect("a URL");
    for cookie in COOKIES {
        store.parse(cookie, &url).expect("a cookie");
    }
    let budget = Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
    let cookies = WithStore { inner: hyper_client(server), store: Arc::new(Mutex::new(store)) };
    ServiceBuilder::new()
        .layer(tower::retry::RetryLayer::new(ThreeTimes { left: 3, budget }))
        .service(cookies)
}

/// What one writes around a store.
#[derive(Clone)]
struct WithStore {
    inner: Hyper,
    store: Arc<Mutex<CookieStore>>,
}

impl Service<Request<Body>> for WithStore {
    type Response = Answer;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, legacy::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let url = Url::parse(&request.uri().to_string()).expect("a URL");
        let pairs: Vec<String> = {
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            store.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect()
        };
        let value = HeaderValue::try_from(pairs.join("; ")).expect("a header");
        request.headers_mut().insert(header::COOKIE, value);
        let (call, store) = (Service::call(&mut self.inner, request), Arc::clone(&self.store));
        Box::pin(async move {
            let response = call.await?;
            let lines = response
                .headers()
                .get_all(header::SET_COOKIE)
                .iter()
                .filter_map(|line| line.to_str().ok());
            let cookies =
                lines.filter_map(|line| cookie_store::RawCookie::parse(line.to_owned()).ok());
            store
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .store_response_cookies(cookies, &url);
            Ok(response)
        })
    }
}

/// What one writes for tower's retries.
#[derive(Clone)]
struct ThreeTimes {
    left: u32,
    budget: Arc<TpsBudget>,
}

impl tower::retry::Policy<Request<Body>, Answer, legacy::Error> for ThreeTimes {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Answer, legacy::Error>,
    ) -> Option<Self::Future> {
        use tower::retry::budget::Budget;
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            self.budget.deposit();
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.withdraw().then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

// The requests.

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// So many requests by each of so many tasks: the time they take, and the allocations.
type Case = Box<dyn Fn(u32, u32) -> (Duration, u64)>;

/// All of them, whichever is measured: what malloc costs depends on what was allocated before.
fn cases(server: SocketAddr) -> [Case; 6] {
    let (bare, by_hand, ours, towers) =
        (hyper_client(server), by_hand(server), ours(server), of_towers(server));
    let name = http::Uri::from_static(URI);
    let address: http::Uri = format!("http://{server}/items/42").parse().expect("a URI");
    [
        case(&bare, &name),
        case(&by_hand, &name),
        case(&ours, &name),
        case(&towers, &name),
        case(&bare, &address),
        case(&ours, &address),
    ]
}

fn case<S>(client: &S, uri: &http::Uri) -> Case
where
    S: Service<Request<Body>, Response = Answer, Future: Send> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    let (client, uri) = (client.clone(), uri.clone());
    Box::new(move |tasks, requests| measured(&client, &uri, tasks, requests))
}

fn measured<S>(client: &S, uri: &http::Uri, tasks: u32, requests: u32) -> (Duration, u64)
where
    S: Service<Request<Body>, Response = Answer, Future: Send> + Clone + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    let send = |requests: u32| {
        let (mut client, uri) = (client.clone(), uri.clone());
        async move {
            for _ in 0..requests {
                let request = Request::get(uri.clone())
                    .header(header::ACCEPT, HeaderValue::from_static("application/json"));
                let request = request.body(Body::default()).expect("a request");
                let ready = client.ready().await.map_err(Into::into).expect("a client");
                let response = ready.call(request).await.map_err(Into::into).expect("an answer");
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(
                    response.into_body().collect().await.expect("its body").to_bytes(),
                    JSON
                );
            }
        }
    };
    let all = |requests: u32| {
        let tasks: Vec<_> = (0..tasks).map(|_| send(requests)).collect();
        async {
            let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
            for task in tasks {
                task.await.expect("its requests");
            }
        }
    };
    let runtime = runtime();
    // Opens the connections, and makes the Cookie header that is kept.
    runtime.block_on(all(5));
    let began = Instant::now();
    let allocations = allocation_counter::measure(|| runtime.block_on(all(requests)));
    (began.elapsed(), allocations.count_total)
}

// The figures.

/// What callgrind collects over so many requests of so many tasks; `None` without valgrind.
fn collected(case: usize, server: SocketAddr, tasks: u32, requests: u32) -> Option<Counts> {
    count::collected(&[
        "run".to_owned(),
        case.to_string(),
        server.to_string(),
        tasks.to_string(),
        requests.to_string(),
    ])
}

/// How many instructions with a `lock` prefix a run executes: the program's own, which is all but
/// those of libc. `None` without valgrind or objdump.
fn locked(case: usize, server: SocketAddr, requests: u32) -> Option<u64> {
    let program = env::current_exe().ok()?;
    let code = Command::new("objdump").args(["-d", "--no-show-raw-insn"]).arg(&program).output();
    let code = String::from_utf8(code.ok()?.stdout).ok()?;
    let locks: HashSet<u64> = code
        .lines()
        .filter_map(|line| line.trim_start().split_once(":\t"))
        // An exchange with memory locks without the prefix.
        .filter(|(_, code)| {
            code.starts_with("lock") || code.starts_with("xchg") && code.contains('(')
        })
        .filter_map(|(address, _)| u64::from_str_radix(address, 16).ok())
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let profile = directory.path().join("profile");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--dump-instr=yes"])
        .args(["--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(&program)
        .args(["run", &case.to_string(), &server.to_string(), "1", &requests.to_string()])
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (mut inside, mut called, mut sum) = (false, false, 0);
    for line in fs::read_to_string(profile).ok()?.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            inside = program.as_os_str() == object;
        } else if line.starts_with("calls=") {
            called = true;
        } else if let Some(line) = line.strip_prefix("0x") {
            // Address, line and executions; behind a call, the cost of what was called.
            let mut parts = line.split(' ');
            let address = parts.next().and_then(|part| u64::from_str_radix(part, 16).ok());
            if inside && !called && address.is_some_and(|address| locks.contains(&address)) {
                sum += parts.nth(1).and_then(|part| part.parse::<u64>().ok()).unwrap_or(0);
            }
            called = false;
        }
    }
    Some(sum)
}

fn print_locked(server: SocketAddr) {
    println!("one after another: locked read-modify-writes per request");
    for (number, what) in NAMES.into_iter().enumerate() {
        match locked(number, server, 100).zip(locked(number, server, 300)) {
            Some((few, many)) => println!("  {what:<46} {:>6.1}", (many - few) as f64 / 200.0),
            None => println!("  {what:<46} no valgrind and objdump, no figure"),
        }
    }
}

fn report(server: SocketAddr) {
    let cases = cases(server);
    println!(
        "{:<48} {:>12} {:>7} {:>15} {:>7} {:>12}",
        "one after another", "instructions", "ratio", "outside malloc", "ratio", "allocations"
    );
    print_counts(&cases, server, 1, 1_000);
    print_locked(server);
    println!("64 in flight");
    print_counts(&cases, server, 64, 50);
    println!(
        "64 in flight: requests per second as a ratio, the median, least and most of 15 rounds"
    );
    let mut ratios: [Vec<f64>; 6] = Default::default();
    for _ in 0..15 {
        let times = cases.each_ref().map(|case| case(64, 300).0.as_secs_f64());
        ratios.iter_mut().zip(times).for_each(|(ratios, time)| ratios.push(times[0] / time));
    }
    for (what, mut ratios) in NAMES.into_iter().zip(ratios) {
        ratios.sort_by(f64::total_cmp);
        println!("  {what:<46} {:.3} ({:.3} to {:.3})", ratios[7], ratios[0], ratios[14]);
    }
}

fn print_counts(cases: &[Case], server: SocketAddr, tasks: u32, requests: u32) {
    let between = f64::from(tasks * requests * 2);
    let mut bare = None;
    for (number, (what, case)) in NAMES.into_iter().zip(cases).enumerate() {
        let slope = |few: u64, many: u64| (many as f64 - few as f64) / between;
        let allocations = slope(case(tasks, requests).1, case(tasks, 3 * requests).1);
        let few = collected(number, server, tasks, requests);
        match few.zip(collected(number, server, tasks, 3 * requests)) {
            Some((few, many)) => {
                let (all, outside) =
                    (slope(few.all, many.all), slope(few.outside_malloc, many.outside_malloc));
                if what == BY_ADDRESS {
                    bare = None;
                }
                let (bare_all, bare_outside) = *bare.get_or_insert((all, outside));
                println!(
                    "  {what:<46} {all:>12.0} {:>7.3} {outside:>15.0} {:>7.3} {allocations:>12.2}",
                    all / bare_all,
                    outside / bare_outside
                );
            }
            None => {
                println!("  {what:<46} no valgrind, no instructions; {allocations:.2} allocations");
            }
        }
    }
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        ["run", case, server, tasks, requests] => {
            let number = |text: &str| text.parse().expect("a number");
            let cases = cases(server.parse().expect("an address"));
            cases[number(case) as usize](number(tasks), number(requests));
            // Without what it takes to free a jar, which is never the same.
            std::process::exit(0);
        }
        ["--bench"] => {
            let server = Server::start();
            report(server.address);
        }
        _ => {
            let server = Server::start();
            cases(server.address).iter().for_each(|case| {
                case(2, 2);
            });
        }
    }
}
