//! What routing costs, compared with a linear scan as in requests: instructions (by callgrind, as
//! the slope between two numbers of requests, so that set-up cancels), allocations, and times as
//! ratios within one run.
//!
//! `cargo bench --bench routing` prints the tables. Without `--bench` every scenario runs once as a
//! check. If a row allocates, its figures include the counting allocator, about 100 instructions
//! for each allocation.
//!
//! Measured with Rust 1.95 on x86-64, without instructions of a special CPU:
//!
//! | instructions, by number of mounts | 10 | 100 | 1,000 | 10,000 | 100,000 |
//! |---|---|---|---|---|---|
//! | look-up by host, the mount served | 283 | 286 | 283 | 284 | 284 |
//! | by host and port | 603 | 603 | 602 | 603 | 603 |
//! | by host and path | 829 | 829 | 828 | 829 | 829 |
//! | by wildcard | 844 | 862 | 844 | 839 | 869 |
//! | none served | 448 | 448 | 448 | 448 | 448 |
//! | a scan as requests does it | 2,117 | 3,615 | 18,495 | 167,131 | |
//! | the layer as a whole over a bare service, mounted | 1,941 | 1,943 | 1,942 | 1,944 | 1,931 |
//! | of that the box and the `Mount` extension, without routing | 1,580 | 1,581 | 1,581 | 1,581 | 1,581 |
//! | the layer as a whole over a bare service, fallback | 1,099 | 1,099 | 1,098 | 1,098 | 1,100 |
//!
//! Time for the layer as a whole, mounted, to the bare service alone: 2.4, 2.5, 2.5, 2.7, 3.1 on a
//! quiet machine; the scan alone 1.2 at 10 mounts and 919 at 100,000. Building: 9,200 to 9,800
//! instructions for each mount at 1,000 to 100,000; a change of one mount 600 to 620 for each mount
//! in the table.
#![allow(clippy::print_stdout)]

use std::{
    cell::Cell,
    env,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::{Pin, pin},
    process::Command,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use futures_util::TryFutureExt;
use http::{Request, Response, Uri};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    layer::util::Identity,
    util::{BoxCloneSyncService, Oneshot},
};
use tower_outbound::routing::{Mount, RoutingLayer, RoutingService};

/// Always ready, and answers at once with an empty response.
#[derive(Clone, Debug)]
struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Ready<Result<Response<()>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    // So that the compiler cannot treat the client as a constant.
    #[inline(never)]
    fn call(&mut self, request: Request<()>) -> Self::Future {
        black_box(request);
        ready(Ok(Response::new(())))
    }
}

/// What routing does without a look-up: it clones the service below, waits until it is ready, and
/// calls it.
#[derive(Clone)]
struct Pass(Bare);

impl Service<Request<()>> for Pass {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Oneshot<Bare, Request<()>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, request: Request<()>) -> Self::Future {
        Oneshot::new(self.0.clone(), request)
    }
}

/// What a mount does without a look-up: the same in a box, and the extension with the mount's name.
#[derive(Clone)]
struct Mounted(Arc<str>, Bare);

impl Service<Request<()>> for Mounted {
    type Response = Response<()>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, request: Request<()>) -> Self::Future {
        let mount = Mount(Arc::clone(&self.0));
        Box::pin(Oneshot::new(self.1.clone(), request).map_ok(|mut response| {
            response.extensions_mut().insert(mount);
            response
        }))
    }
}

type Routed = RoutingService<Bare, (), ()>;

/// One host in the tables and in the requests. All names have one length, so that the figures can
/// be compared.
fn host(number: usize) -> String {
    format!("api-{number:06}.example.com")
}

fn hosts(mounts: usize) -> impl Iterator<Item = String> {
    (0..mounts).map(|number| format!("https://{}", host(number)))
}

/// One host with a path for each mount.
fn paths(mounts: usize) -> impl Iterator<Item = String> {
    (0..mounts).map(|number| format!("https://api.example.com/tenants/{number:06}"))
}

fn routed(prefixes: impl Iterator<Item = String>) -> Routed {
    let builder = prefixes
        .fold(RoutingLayer::builder(), |builder, prefix| builder.mount(prefix, Identity::new()));
    builder.build().expect("the prefixes are good").layer(Bare)
}

fn uri(text: &str) -> Uri {
    text.parse().expect("a URI")
}

/// Spread over the table, so that no cache line serves two requests in a row.
fn spread(mounts: usize) -> impl Iterator<Item = usize> {
    let count = mounts.min(8_192);
    (0..count).map(move |index| index * 7_919 % mounts)
}

fn requests_to_hosts(mounts: usize) -> Vec<Uri> {
    spread(mounts).map(|number| uri(&format!("https://{}/v1/items?page=2", host(number)))).collect()
}

fn requests_to_paths(mounts: usize) -> Vec<Uri> {
    spread(mounts)
        .map(|number| uri(&format!("https://api.example.com/tenants/{number:06}/items?page=2")))
        .collect()
}

fn requests_elsewhere(_: usize) -> Vec<Uri> {
    vec![uri("https://api-elsewhe.example.com/v1/items?page=2")]
}

/// requests' `get_adapter`: compares the lower-cased URL with every prefix, the longest first.
struct Scan(Vec<String>);

impl Scan {
    fn new(mounts: usize) -> Self {
        let mut prefixes: Vec<_> = hosts(mounts).collect();
        prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
        Self(prefixes)
    }

    fn find(&self, uri: &Uri) -> Option<usize> {
        let text = uri.to_string().to_lowercase();
        self.0.iter().position(|prefix| text.starts_with(prefix.as_str()))
    }
}

fn call<S: Service<Request<()>, Response = Response<()>, Error = BoxError> + Clone>(
    service: &S,
    uri: &Uri,
) {
    let mut request = Request::new(());
    *request.uri_mut() = uri.clone();
    let mut response = pin!(service.clone().oneshot(request));
    match response.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(response)) => drop(black_box(response)),
        other => panic!("not answered at once: {other:?}"),
    }
}

/// A scenario: its name, and a function that makes one step for a number of mounts.
struct Scenario {
    name: &'static str,
    make: fn(usize) -> Box<dyn Fn()>,
}

/// Runs `step` on one request after the other.
fn each(requests: Vec<Uri>, step: impl Fn(&Uri) + 'static) -> Box<dyn Fn()> {
    let next = Cell::new(0);
    Box::new(move || {
        let index = next.get();
        next.set(if index + 1 == requests.len() { 0 } else { index + 1 });
        step(&requests[index]);
    })
}

const SCENARIOS: [Scenario; 11] = [
    Scenario {
        name: "bare",
        make: |mounts| each(requests_to_hosts(mounts), |uri| call(&Bare, uri)),
    },
    Scenario {
        name: "box",
        make: |mounts| {
            let boxed = BoxCloneSyncService::new(Bare);
            each(requests_to_hosts(mounts), move |uri| call(&boxed, uri))
        },
    },
    Scenario {
        name: "pass",
        make: |mounts| each(requests_to_hosts(mounts), |uri| call(&Pass(Bare), uri)),
    },
    Scenario {
        name: "mounted",
        make: |mounts| {
            let mounted = Mounted("https://api.example.com".into(), Bare);
            each(requests_to_hosts(mounts), move |uri| call(&mounted, uri))
        },
    },
    Scenario {
        name: "host",
        make: |mounts| {
            let service = routed(hosts(mounts));
            each(requests_to_hosts(mounts), move |uri| call(&service, uri))
        },
    },
    Scenario {
        name: "port",
        make: |mounts| {
            let service = routed(hosts(mounts).map(|prefix| prefix + ":8443"));
            let uris = spread(mounts)
                .map(|number| uri(&format!("https://{}:8443/v1/items?page=2", host(number))));
            each(uris.collect(), move |uri| call(&service, uri))
        },
    },
    Scenario {
        name: "path",
        make: |mounts| {
            let service = routed(paths(mounts));
            each(requests_to_paths(mounts), move |uri| call(&service, uri))
        },
    },
    Scenario {
        name: "fallback",
        make: |mounts| {
            let service = routed(hosts(mounts));
            each(requests_elsewhere(mounts), move |uri| call(&service, uri))
        },
    },
    Scenario {
        name: "wildcard",
        make: |mounts| {
            let service = routed(hosts(mounts).chain(["https://*.example.com".to_owned()]));
            each(requests_elsewhere(mounts), move |uri| call(&service, uri))
        },
    },
    Scenario {
        name: "update",
        make: |mounts| {
            let handle = routed(hosts(mounts)).handle();
            Box::new(move || {
                let one = Bare;
                handle
                    .update(|mounts| mounts.mount_service("https://one.example", one))
                    .expect("the prefix is good");
            })
        },
    },
    Scenario {
        name: "scan",
        make: |mounts| {
            let scan = Scan::new(mounts);
            each(requests_to_hosts(mounts), move |uri| {
                black_box(scan.find(uri).expect("all are mounted"));
            })
        },
    },
];

const MOUNTS: [usize; 5] = [10, 100, 1_000, 10_000, 100_000];

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).expect("a scenario's name")
}

/// The instructions of this program, which runs again under callgrind.
fn instructions_of_run(options: &[&str], args: &[&str]) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(options)
        .arg(env::current_exe().ok()?)
        .args(args)
        .output()
        .ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split("Collected : ").nth(1)?.split_whitespace().next()?.parse().ok()
}

/// Instructions of one step, from two runs of different length.
fn instructions(options: &[&str], name: &str, mounts: usize) -> Option<u64> {
    let (few, many) = (if mounts > 10_000 { 1_000_u64 } else { 500 }, 3_000);
    let run = |steps: u64| {
        instructions_of_run(options, &["run", name, &mounts.to_string(), &steps.to_string()])
    };
    Some((run(many)? - run(few)?) / (many - few))
}

fn allocations(name: &str, mounts: usize) -> u64 {
    let step = (scenario(name).make)(mounts);
    step();
    allocation_counter::measure(step).count_total
}

/// Nanoseconds of one step: the best of some rounds.
fn nanoseconds(step: &dyn Fn(), steps: u32) -> f64 {
    let round = || {
        let start = Instant::now();
        (0..steps).for_each(|_| step());
        start.elapsed().as_secs_f64() * 1e9 / f64::from(steps)
    };
    (0..7).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn shown(figure: Option<u64>) -> String {
    figure.map_or("-".to_owned(), |figure| figure.to_string())
}

fn tables() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("no valgrind: no instructions are counted\n");
    }
    let bare = instructions(&[], "bare", 100);
    let bare_allocations = allocations("bare", 100);
    println!(
        "a ready service without routing: {} instructions, {bare_allocations} allocations",
        shown(bare)
    );
    println!("\nin addition to that, by number of mounts:\n");
    println!(
        "| | 10 | 100 | 1,000 | 10,000 | 100,000 | allocations |\n|---|---|---|---|---|---|---|"
    );
    let over_bare = |figure: u64| bare.map_or(figure, |bare| figure.saturating_sub(bare));
    for name in ["box", "pass", "mounted", "fallback", "wildcard", "host", "port", "path"] {
        let cells: Vec<_> = MOUNTS
            .iter()
            .map(|&mounts| shown(instructions(&[], name, mounts).map(over_bare)))
            .collect();
        let allocated = allocations(name, 100) - bare_allocations;
        println!("| {name} | {} | {allocated} |", cells.join(" | "));
    }
    println!("\nthe look-up alone, and a scan:\n");
    println!("| | 10 | 100 | 1,000 | 10,000 | 100,000 |\n|---|---|---|---|---|---|");
    for name in ["fallback", "wildcard", "host", "port", "path"] {
        let options = ["--toggle-collect=*routing::routes::Settings*find*"];
        let cells: Vec<_> =
            MOUNTS.iter().map(|&mounts| shown(instructions(&options, name, mounts))).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    let cells: Vec<_> =
        MOUNTS[..4].iter().map(|&mounts| shown(instructions(&[], "scan", mounts))).collect();
    println!("| scan | {} | |", cells.join(" | "));

    println!("\ntimes, as ratios to the ready service alone in this run:\n");
    println!("| | 10 | 100 | 1,000 | 10,000 | 100,000 |\n|---|---|---|---|---|---|");
    let alone = nanoseconds(&*(scenario("bare").make)(100), 50_000);
    for name in ["box", "pass", "mounted", "fallback", "host", "path", "scan"] {
        let cells: Vec<_> = MOUNTS
            .iter()
            .map(|&mounts| {
                let steps = if name == "scan" { (2_000_000 / mounts) as u32 } else { 50_000 };
                format!("{:.1}", nanoseconds(&*(scenario(name).make)(mounts), steps) / alone)
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }

    println!(
        "\nchanging one mount of a table, and building one, instructions for each mount in it:\n"
    );
    println!("| | 1,000 | 10,000 | 100,000 |\n|---|---|---|---|");
    let update = |mounts: usize| {
        let run =
            |steps: &str| instructions_of_run(&[], &["run", "update", &mounts.to_string(), steps]);
        shown(run("11").zip(run("1")).map(|(many, one)| (many - one) / 10 / mounts as u64))
    };
    println!(
        "| update | {} |",
        MOUNTS[2..].iter().map(|&mounts| update(mounts)).collect::<Vec<_>>().join(" | ")
    );
    for name in ["build-hosts", "build-paths", "build-ports"] {
        let cells: Vec<_> = MOUNTS[2..]
            .iter()
            .map(|&mounts| {
                let run = |mounts: usize| {
                    instructions_of_run(&[], &["run", name, &mounts.to_string(), "1"])
                };
                shown(
                    run(mounts)
                        .zip(run(mounts / 10))
                        .map(|(all, part)| (all - part) / (mounts - mounts / 10) as u64),
                )
            })
            .collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
}

/// All ports of one host, then the next host.
fn ports(mounts: usize) -> impl Iterator<Item = String> {
    (0..mounts)
        .map(|number| format!("https://h{}.example.com:{}", number / 60_000, 1 + number % 60_000))
}

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", "build-hosts", mounts, _] => drop(black_box(routed(hosts(number(mounts))))),
        ["run", "build-paths", mounts, _] => drop(black_box(routed(paths(number(mounts))))),
        ["run", "build-ports", mounts, _] => drop(black_box(routed(ports(number(mounts))))),
        ["run", name, mounts, steps] => {
            let step = (scenario(name).make)(number(mounts));
            (0..number(steps)).for_each(|_| step());
        }
        _ if args.iter().any(|arg| arg == "--bench") => tables(),
        _ => SCENARIOS.iter().for_each(|scenario| (scenario.make)(10)()),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}
