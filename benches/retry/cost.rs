//! In one process, around a service that is always ready: a request with three headers and a `Full`
//! body.

use std::{
    env,
    future::{Future, Ready, ready},
    hint::black_box,
    pin::pin,
    process::Command,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::{BoxError, Layer, Service, retry::budget::TpsBudget};
use tower_outbound::retry::{Backoff, Limit, RetryLayer, RetryPolicy};

type Body = Full<Bytes>;

/// The name of each case, and what it is.
const CASES: &[(&str, &str)] = &[
    ("bare", "the service alone"),
    ("tower", "tower::retry, three retries, no failure"),
    ("ours", "ours, three retries, no failure"),
    ("bare-post", "the service alone, a POST"),
    ("ours-post", "ours, three retries, a POST, no failure"),
    ("ours-post-any", "ours, any method, a POST, no failure"),
    ("ours-budget", "ours with the default budget, no failure"),
    ("tower-budget", "tower::retry with its own budget, no failure"),
    ("ours-none", "ours, retries disabled"),
    ("tower-failing", "tower::retry, two failures"),
    ("ours-failing", "ours, two failures"),
    ("ours-on-tower", "our policy on tower::retry, no failure"),
];

/// How often a server that fails was called. It and its clones are one server.
static CALLED: AtomicU32 = AtomicU32::new(0);

/// Answers with 503 this many times, then with 200.
#[derive(Clone, Default)]
struct Server {
    failures: u32,
}

impl Server {
    fn failing(failures: u32) -> Self {
        CALLED.store(0, Relaxed);
        Self { failures }
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<Body>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    // So that the client is not inlined into the layer around it.
    #[inline(never)]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut response = Response::new(black_box(request).into_body());
        if self.failures > 0 && CALLED.fetch_add(1, Relaxed) < self.failures {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        ready(Ok(response))
    }
}

/// What a user writes for tower's own layer.
#[derive(Clone)]
struct ThreeTimes<G> {
    left: u32,
    budget: G,
}

trait Draw: Clone {
    fn deposit(&self);
    fn withdraw(&self) -> bool;
}

impl Draw for () {
    fn deposit(&self) {}
    fn withdraw(&self) -> bool {
        true
    }
}

impl Draw for std::sync::Arc<TpsBudget> {
    fn deposit(&self) {
        tower::retry::budget::Budget::deposit(&**self);
    }
    fn withdraw(&self) -> bool {
        tower::retry::budget::Budget::withdraw(&**self)
    }
}

impl<E, G: Draw> tower::retry::Policy<Request<Body>, Response<Body>, E> for ThreeTimes<G> {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Body>, E>,
    ) -> Option<Ready<()>> {
        let failed = result.as_ref().is_ok_and(|response| response.status().is_server_error());
        if !failed {
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

#[inline(never)]
fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://h.example/path")
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, HeaderValue::from_static("bench/1"))
        .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer 0123456789abcdef"))
        .body(Full::new(Bytes::from_static(b"body")))
        .expect("a valid request")
}

#[inline(never)]
fn once<S>(service: &mut S, method: Method)
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(request(method)));
    loop {
        if let Poll::Ready(response) = call.as_mut().poll(&mut cx) {
            assert_eq!(response.map_err(Into::into).expect("an answer").status(), StatusCode::OK);
            return;
        }
    }
}

/// One GET after another. A server that counts its calls is new for each.
fn repeat<S>(requests: u32, service: impl FnMut() -> S, fresh: bool)
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<BoxError>,
{
    repeat_method(&Method::GET, requests, service, fresh);
}

fn repeat_method<S>(method: &Method, requests: u32, mut service: impl FnMut() -> S, fresh: bool)
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<BoxError>,
{
    let mut client = service();
    for _ in 0..requests {
        if fresh {
            client = service();
        }
        once(&mut client, method.clone());
    }
}

pub(crate) fn run(case: &str, requests: u32) {
    let ok = Server::default();
    let failing = || Server::failing(2);
    let ours = RetryLayer::new(RetryPolicy::new().no_budget().backoff(Backoff::none()));
    let tower = tower::retry::RetryLayer::new(ThreeTimes { left: 3, budget: () });
    match case {
        "bare" => repeat(requests, || ok.clone(), false),
        "tower" => repeat(requests, || tower.layer(ok.clone()), false),
        "ours" => repeat(requests, || ours.layer(ok.clone()), false),
        "bare-post" => repeat_method(&Method::POST, requests, || ok.clone(), false),
        "ours-post" => repeat_method(&Method::POST, requests, || ours.layer(ok.clone()), false),
        "ours-post-any" => {
            let policy = RetryPolicy::new().no_budget().backoff(Backoff::none()).any_method();
            let any = RetryLayer::new(policy);
            repeat_method(&Method::POST, requests, || any.layer(ok.clone()), false);
        }
        "ours-budget" => repeat(requests, || RetryLayer::default().layer(ok.clone()), false),
        "tower-budget" => {
            let budget = std::sync::Arc::new(TpsBudget::new(Duration::from_secs(10), 10, 0.2));
            let tower = tower::retry::RetryLayer::new(ThreeTimes { left: 3, budget });
            repeat(requests, || tower.layer(ok.clone()), false);
        }
        "ours-none" => {
            let none = RetryLayer::new(RetryPolicy::new().no_budget().total(Limit::Disabled));
            repeat(requests, || none.layer(ok.clone()), false);
        }
        "tower-failing" => repeat(requests, || tower.layer(failing()), true),
        "ours-failing" => repeat(requests, || ours.layer(failing()), true),
        "ours-on-tower" => {
            let policy = RetryPolicy::new().no_budget().backoff(Backoff::none());
            let tower = tower::retry::RetryLayer::new(policy);
            repeat(requests, || tower.layer(ok.clone()), false);
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

pub(crate) fn try_out() {
    CASES.iter().for_each(|(case, _)| run(case, 1));
}

pub(crate) fn report() {
    println!("instructions per request, in process; in brackets over the service alone");
    let mut bare = 0;
    for (case, what) in CASES {
        let (Some(few), Some(many)) = (collected(case, 1_000), collected(case, 11_000)) else {
            println!("  no valgrind, no figures");
            return;
        };
        let instructions = (many - few) / 10_000;
        if *case == "bare" {
            bare = instructions;
        }
        println!("  {what:<48} {instructions:>6} ({:>5})", instructions as i64 - bare as i64);
    }
}
