//! Over real connections: 503, 503, 200 per request, with bodies that arrive at once or late.

use std::{
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    time::{Sleep, sleep},
};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_outbound::retry::{Backoff, RetryLayer, RetryPolicy};

type Body = Empty<Bytes>;
type Http = Client<HttpConnector, Body>;

/// A server, on its own thread or as tasks in the client's runtime.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Bodies of `size` bytes. The last hundred bytes are late by this time.
    fn start(size: usize, late: Option<Duration>, beside: Option<&Runtime>) -> Self {
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let (tell, told) = std::sync::mpsc::channel();
        let serve = async move {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
            let _ = tell.send(listener.local_addr().expect("an address"));
            let requests = Arc::<AtomicUsize>::default();
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Relaxed);
                let _ = stream.set_nodelay(true);
                tokio::spawn(answer(stream, Arc::clone(&requests), size, late));
            }
        };
        match beside {
            Some(runtime) => {
                runtime.spawn(serve);
                runtime.block_on(tokio::task::yield_now());
            }
            None => {
                thread::spawn(move || runtime().block_on(serve));
            }
        }
        Self { address: told.recv().expect("it listens"), connections }
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn answer(
    stream: TcpStream,
    requests: Arc<AtomicUsize>,
    size: usize,
    late: Option<Duration>,
) {
    let body = Bytes::from(vec![b'x'; size]);
    let service = service_fn(move |_: Request<Incoming>| {
        let failed = requests.fetch_add(1, Relaxed) % 3 != 2;
        let mut begin = body.clone();
        let response = Response::builder().status(if failed { 503 } else { 200 });
        async move {
            let late = late.filter(|_| failed);
            let tail = late.map(|late| (late, begin.split_off(begin.len() - 100)));
            response.body(Late { begin: Some(begin), tail, timer: None })
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Sends the beginning at once, and the rest later.
struct Late {
    begin: Option<Bytes>,
    tail: Option<(Duration, Bytes)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Late {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(begin) = self.begin.take() {
            return Poll::Ready(Some(Ok(Frame::data(begin))));
        }
        let Some((late, _)) = self.tail else { return Poll::Ready(None) };
        std::task::ready!(
            self.timer.get_or_insert_with(|| Box::pin(sleep(late))).as_mut().poll(cx)
        );
        Poll::Ready(self.tail.take().map(|(_, tail)| Ok(Frame::data(tail))))
    }

    fn size_hint(&self) -> SizeHint {
        let length = |bytes: Option<&Bytes>| bytes.map_or(0, Bytes::len) as u64;
        SizeHint::with_exact(
            length(self.begin.as_ref()) + length(self.tail.as_ref().map(|(_, tail)| tail)),
        )
    }
}

/// What a user writes for tower's own layer.
#[derive(Clone)]
struct ThreeTimes {
    left: u32,
    delay: Duration,
}

impl<E> tower::retry::Policy<Request<Body>, Response<Incoming>, E> for ThreeTimes {
    type Future = futures_util::future::Either<std::future::Ready<()>, Sleep>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Incoming>, E>,
    ) -> Option<Self::Future> {
        if !result.as_ref().is_ok_and(|response| response.status().is_server_error()) {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        Some(match self.delay.is_zero() {
            true => futures_util::future::Either::Left(std::future::ready(())),
            false => futures_util::future::Either::Right(sleep(self.delay)),
        })
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

/// Sends requests one after another. Returns the time, and the number of new connections.
async fn run<S>(server: &Server, client: S, requests: usize) -> (Duration, usize)
where
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone,
    S::Error: Into<BoxError>,
{
    let (before, began) = (server.connections.load(Relaxed), Instant::now());
    for _ in 0..requests {
        let request = Request::get(format!("http://{}/", server.address))
            .body(Body::new())
            .expect("a valid request");
        let response =
            client.clone().oneshot(request).await.map_err(Into::into).expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.expect("a body");
    }
    (began.elapsed(), server.connections.load(Relaxed) - before)
}

fn http() -> Http {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

pub(crate) fn report(requests: usize, rounds: usize) {
    let (at_once, late) = (None, Some(Duration::from_millis(2)));
    let rows = [
        ("10 KB, no delay", 10 * 1024, at_once, 0),
        ("64 KB, no delay", 64 * 1024, at_once, 0),
        ("10 KB with its tail 2 ms late, no delay", 10 * 1024, late, 0),
        ("10 KB, 5 ms delay", 10 * 1024, at_once, 5),
        ("64 KB, 5 ms delay", 64 * 1024, at_once, 5),
        ("10 KB with its tail 2 ms late, 5 ms delay", 10 * 1024, late, 5),
    ];
    println!(
        "503, 503, 200: new connections per {requests} requests, least to most of {rounds} rounds; time of a round"
    );
    for beside in [false, true] {
        let place = if beside { "server beside the client" } else { "server on its own thread" };
        let times = if beside { "ours / tower's: best rounds, median of pairs" } else { "" };
        println!("  {place:<44} {:>10} {:>10}   {times}", "tower", "ours");
        for (what, size, late, delay) in rows {
            let rounds = if delay == 0 { rounds } else { rounds.min(3) };
            row(what, size, late, Duration::from_millis(delay), beside, requests, rounds);
        }
    }
}

fn row(
    what: &str,
    size: usize,
    late: Option<Duration>,
    delay: Duration,
    beside: bool,
    requests: usize,
    rounds: usize,
) {
    let runtime = runtime();
    let start = || Server::start(size, late, beside.then_some(&runtime));
    let (server, other) = (start(), start());
    let ours = RetryLayer::new(RetryPolicy::new().no_budget().backoff(Backoff::constant(delay)))
        .layer(http());
    let tower = tower::retry::RetryLayer::new(ThreeTimes { left: 3, delay }).layer(http());
    let mut measured = Vec::new();
    runtime.block_on(async {
        run(&server, ours.clone(), 2).await;
        run(&other, tower.clone(), 2).await;
        for _ in 0..rounds {
            let ours = run(&server, ours.clone(), requests).await;
            let tower = run(&other, tower.clone(), requests).await;
            measured.push((ours, tower, ours.0.as_secs_f64() / tower.0.as_secs_f64()));
        }
    });
    measured.sort_by(|a, b| a.2.total_cmp(&b.2));
    let range = |counts: Vec<usize>| {
        let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
        format!("{}-{}", least.unwrap_or(0), most.unwrap_or(0))
    };
    let best = |times: Vec<Duration>| times.into_iter().min().unwrap_or_default().as_secs_f64();
    let ours_best = best(measured.iter().map(|row| row.0.0).collect());
    let tower_best = best(measured.iter().map(|row| row.1.0).collect());
    let ours = range(measured.iter().map(|row| row.0.1).collect());
    let tower = range(measured.iter().map(|row| row.1.1).collect());
    let (best, median) = (ours_best / tower_best, measured[measured.len() / 2].2);
    // With a server on its own thread the time is dominated by the system's wake-ups: tower
    // compared with itself gave 0.3 to 4.3.
    let times = if beside { format!("{best:.2} {median:.2}") } else { String::new() };
    println!("  {what:<44} {tower:>10} {ours:>10}   {times}");
}
