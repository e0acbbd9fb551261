//! What the whole stack costs end to end, compared with the hyper client alone, and with a stack
//! made of tower's own retry and the cookie_store crate.
//!
//! ```sh
//! cargo bench --bench stack
//! ```
//!
//! HTTP/1.1 with keep-alive to a server in a process of its own, which answers with 20 bytes of
//! JSON; then the same over HTTP/2 and TLS (`-- transports`: that alone), and the bytes of
//! services, futures and requests in flight (`-- sizes`). The stack has 100 mounts, retries with
//! the default budget, and a jar of 10,000 hosts, of whose cookies five go along. Instructions are
//! counted by callgrind, which runs this program again, as the slope between two numbers of
//! requests, with malloc and without it: what malloc takes for the same allocations changes by a
//! thousand with the state of the heap. Allocations are counted by an allocator; requests per
//! second are ratios within one run. Without `--bench` each case runs once.
#![allow(clippy::print_stdout)]

mod clients;
mod count;
#[path = "stack/server.rs"]
mod server;
#[path = "stack/sizes.rs"]
mod sizes;
#[path = "stack/transports.rs"]
mod transports;

use std::{
    collections::HashSet,
    env,
    error::Error,
    fs,
    net::SocketAddr,
    process::Command,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client, connect::HttpConnector};
use tokio::runtime;
use tower::{Service, ServiceBuilder, ServiceExt, retry::budget::TpsBudget};
use tower_outbound::retry::RetryPolicy;

use self::{
    clients::{Body, COOKIES, HOST, Names, ThreeTimes, WithStore, hyper_client as hyper},
    count::Counts,
    server::{JSON, Server},
};

type Answer = Response<Incoming>;
type Hyper = Client<HttpConnector<Names>, Body>;

const NAMES: [&str; 6] = [
    "the hyper client alone",
    "the same, with the Cookie header set by hand",
    "the whole stack",
    "tower's retry, a mutex around cookie_store",
    BY_ADDRESS,
    "the whole stack, by address and port",
];
/// The client that the last case is compared with. It connects by address, as in meshes and tests.
const BY_ADDRESS: &str = "the hyper client alone, by address and port";

// The clients.

/// What it costs to send cookies at all: the caller has them at hand.
#[derive(Clone)]
struct ByHand {
    inner: Hyper,
    cookies: HeaderValue,
}

fn by_hand(server: SocketAddr) -> ByHand {
    ByHand { inner: hyper(server), cookies: COOKIES.join("; ").try_into().expect("a header") }
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

/// As large as our default.
fn budget() -> TpsBudget {
    TpsBudget::new(Duration::from_secs(10), 10, 0.2)
}

// The requests.

fn runtime() -> runtime::Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Sends a number of requests from each of a number of tasks. Returns the time and the allocations.
type Case = Box<dyn Fn(u32, u32) -> (Duration, u64)>;

/// All cases are made, whichever is measured, because the cost of malloc depends on earlier
/// allocations.
fn cases(server: SocketAddr) -> [Case; 6] {
    let (bare, by_hand) = (hyper(server), by_hand(server));
    let origin = format!("http://{server}");
    let ours = clients::stack(hyper(server), clients::jar(&origin), &origin, RetryPolicy::new());
    let towers = ServiceBuilder::new()
        .layer(tower::retry::RetryLayer::new(ThreeTimes::new(Some(budget()))))
        .service(WithStore::new(hyper(server)));
    let name: http::Uri = format!("http://{HOST}/items/42").parse().expect("a URI");
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
    // Opens the connections, and makes the Cookie header that the jar keeps.
    runtime.block_on(all(5));
    let began = Instant::now();
    let allocations = allocation_counter::measure(|| runtime.block_on(all(requests)));
    (began.elapsed(), allocations.count_total)
}

// The figures.

/// What callgrind counts in `requests` requests of each of `tasks` tasks, or `None` without
/// valgrind.
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
    let number = |text: &str| -> u32 { text.parse().expect("a number") };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => server::serve(),
        ["run", case, server, tasks, requests] => {
            let cases = cases(server.parse().expect("an address"));
            cases[number(case) as usize](number(tasks), number(requests));
            // Does not free the jar, because the cost of that is never the same.
            std::process::exit(0);
        }
        ["over", transport, which, server, requests] => {
            let server = server.parse().expect("an address");
            transports::run(number(transport), number(which), &server, number(requests));
            std::process::exit(0);
        }
        ["sizes", "--bench"] => sizes::report(1_000),
        ["transports", "--bench"] => transports::report(&Server::start().address),
        ["--bench"] => {
            let server = Server::start();
            report(server.address.plain);
            transports::report(&server.address);
            sizes::report(1_000);
        }
        _ => {
            let server = Server::start();
            cases(server.address.plain).iter().for_each(|case| {
                case(2, 2);
            });
            transports::try_out(&server.address);
            sizes::report(1);
        }
    }
}
