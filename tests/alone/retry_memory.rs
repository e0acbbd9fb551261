//! The allocations of a request in the retry layer, compared with tower's own, and the memory of a
//! streamed upload.
//!
//! `--nocapture` prints the figures.

use std::{
    future::{Future, Ready, ready},
    pin::{Pin, pin},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::{BoxError, Layer, Service, service_fn};
use tower_outbound::retry::{Backoff, ReplayBodyLayer, RetryLayer, RetryPolicy};

use crate::{
    bodies::{FakeBody, data},
    pairs::pairs,
    rows,
};

type Body = Full<Bytes>;

/// Answers with 200 at once.
#[derive(Clone)]
struct Server;

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<Body>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

#[derive(Clone)]
struct ThreeTimes(u32);

impl<E> tower::retry::Policy<Request<Body>, Response<Body>, E> for ThreeTimes {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Body>,
        result: &mut Result<Response<Body>, E>,
    ) -> Option<Ready<()>> {
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            return None;
        }
        self.0 = self.0.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        Some(request.clone())
    }
}

/// Header values that are static or from a parsed request, so that a clone only counts references.
fn request(method: &Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://h.example/path")
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .header(header::USER_AGENT, HeaderValue::from_static("test/1"))
        .header(header::AUTHORIZATION, HeaderValue::from_static("Bearer 0123456789abcdef"))
        .body(Body::from("body"))
        .unwrap()
}

/// The allocations of one request through a service, without those of the request itself.
fn allocated<S>(mut service: S, method: &Method) -> u64
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Error: Into<BoxError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut once = || {
        let request = request(method);
        measure(|| {
            assert!(service.poll_ready(&mut cx).is_ready());
            let Poll::Ready(response) = pin!(service.call(request)).poll(&mut cx) else {
                panic!("not at once")
            };
            assert_eq!(response.map_err(Into::into).unwrap().status(), StatusCode::OK);
        })
        .count_total
    };
    // Allocations of a thread's first request are not counted.
    once();
    once()
}

#[test]
fn a_request_without_a_failure_allocates_one_list_of_headers_and_without_retries_nothing() {
    let policy = || RetryPolicy::new().no_budget().backoff(Backoff::none());
    let hour = Duration::from_secs(3600);
    let rows = [
        ("no budget", policy()),
        ("the default", RetryPolicy::new()),
        ("time limits", policy().attempt_timeout(hour).deadline(hour)),
        (
            "an attempt header",
            policy().attempt_header(header::HeaderName::from_static("x-attempt")),
        ),
        ("total 0", policy().total(0)),
        ("none", RetryPolicy::none()),
        ("urllib3's defaults", RetryPolicy::urllib3()),
    ];
    rows::hold(pairs(rows, [Method::GET, Method::PUT]), |((what, policy), method)| {
        let ours = allocated(RetryLayer::new(policy).layer(Server), &method);
        println!("{what}, {method}: {ours} allocations");
        let want = u64::from(!["total 0", "none"].contains(&what));
        (format!("{what}, {method}: allocations"), ours, want)
    });
    let towers =
        allocated(tower::retry::RetryLayer::new(ThreeTimes(3)).layer(Server), &Method::GET);
    println!("tower's own: {towers} allocations");
    assert_eq!(allocated(Server, &Method::GET), 0, "what is measured is the layer's");
    assert_eq!(towers, 2, "tower's copy of the headers");
}

/// The witness, its count, and the two that an empty map of extensions makes of its first value.
#[test]
fn a_post_that_may_be_sent_again_allocates_four_times_more_at_most() {
    let policy = || RetryPolicy::new().no_budget().backoff(Backoff::none());
    let rows = [
        ("the default", RetryPolicy::new(), 4),
        ("no budget", policy(), 4),
        ("any method", policy().any_method(), 0),
        ("total 0", policy().total(0), 0),
        ("none", RetryPolicy::none(), 0),
    ];
    rows::hold(rows, |(what, policy, wanted)| {
        let layer = RetryLayer::new(policy);
        let [post, get] =
            [Method::POST, Method::GET].map(|method| allocated(layer.layer(Server), &method));
        println!("{what}: GET {get} allocations, POST {post}");
        (format!("{what}: allocations of a POST"), post, get + wanted)
    });
}

/// A stream of new pieces, as from a file.
fn upload(mut left: usize, piece: usize) -> FakeBody {
    FakeBody::new(move |_| {
        let length = left.min(piece);
        left -= length;
        if length > 0 { data(vec![b'x'; length]) } else { Poll::Ready(None) }
    })
}

/// The most bytes that an upload holds at a time. The server drops each piece when it has received
/// it.
fn peak<S>(mut client: S, length: usize, piece: usize, received: &AtomicU64) -> u64
where
    S: Service<Request<FakeBody>>,
    S::Error: Into<BoxError>,
{
    let before = received.load(Relaxed);
    let mut cx = Context::from_waker(Waker::noop());
    let request = Request::put("http://h.example/").body(upload(length, piece)).unwrap();
    let peak = measure(|| {
        let mut call = pin!(client.call(request));
        while call.as_mut().poll(&mut cx).is_pending() {}
    })
    .bytes_max;
    assert_eq!(received.load(Relaxed) - before, length as u64);
    peak
}

#[test]
fn a_streamed_upload_holds_no_more_than_its_cap_beside_what_is_sent() {
    const CAP: usize = 64 * 1024;
    let received = AtomicU64::new(0);
    async fn sink<B>(request: Request<B>, received: &AtomicU64) -> Result<Response<Body>, BoxError>
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Unpin,
    {
        let mut body = request.into_body();
        while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
        {
            received.fetch_add(frame?.into_data().unwrap().len() as u64, Relaxed);
        }
        Ok(Response::new(Body::default()))
    }
    let (bare, below) = (|request| sink(request, &received), |request| sink(request, &received));
    rows::hold(
        [(100 << 20, 64 * 1024), (100 << 20, 10_000), (10 << 20, 1000), (1 << 20, 1), (CAP, CAP)],
        |(length, piece)| {
            let alone = peak(service_fn(bare), length, piece, &received);
            let retry = || RetryLayer::new(RetryPolicy::new().no_budget());
            let client =
                ReplayBodyLayer::new().max_bytes(CAP).layer(retry().layer(service_fn(below)));
            let ours = peak(client, length, piece, &received);
            println!(
                "{length} bytes in pieces of {piece}: {ours} bytes at most, {alone} without the layers"
            );
            let name = format!(
                "{length} bytes in pieces of {piece}: {ours} bytes at most, {alone} without the layers"
            );
            (name, ours <= alone + (CAP + 64 * 1024) as u64, true)
        },
    );
}

/// Reads requests to their last chunk and answers each with 200. Returns how many bytes it has
/// read.
fn discarding() -> (std::net::SocketAddr, std::sync::Arc<AtomicU64>) {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (address, received) =
        (listener.local_addr().unwrap(), std::sync::Arc::<AtomicU64>::default());
    let counted = std::sync::Arc::clone(&received);
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let counted = std::sync::Arc::clone(&counted);
            std::thread::spawn(move || {
                let (mut buffer, mut end) = (vec![0; 256 * 1024], Vec::new());
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    counted.fetch_add(read as u64, Relaxed);
                    end.extend_from_slice(&buffer[read.saturating_sub(7)..read]);
                    end.drain(..end.len().saturating_sub(7));
                    if end.ends_with(b"\r\n0\r\n\r\n") {
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
                    }
                }
            });
        }
    });
    (address, received)
}

/// The same over a connection, including everything that the client holds.
#[test]
fn an_upload_over_a_connection_holds_no_more_than_its_cap_beside_what_the_client_holds() {
    use hyper_util::{client::legacy::Client, rt::TokioExecutor};
    use tower::ServiceExt;
    const CAP: usize = 64 * 1024;
    const LENGTH: usize = 100 << 20;
    let (address, received) = discarding();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = || {
        let body = upload(LENGTH, 64 * 1024);
        Request::put(format!("http://{address}/")).body(body).unwrap()
    };
    let bare: Client<_, FakeBody> = Client::builder(TokioExecutor::new()).build_http();
    let http: Client<_, tower_outbound::retry::ReplayBody<FakeBody>> =
        Client::builder(TokioExecutor::new()).build_http();
    let client = ReplayBodyLayer::new()
        .max_bytes(CAP)
        .layer(RetryLayer::new(RetryPolicy::new().no_budget()).layer(http));
    let (mut alone, mut ours) = (0, 0);
    // The first request of each fills buffers that later ones use again.
    for _ in 0..2 {
        let (bare, client) = (bare.clone(), client.clone());
        let peak = measure(|| {
            assert_eq!(runtime.block_on(bare.oneshot(request())).unwrap().status(), 200);
        })
        .bytes_max;
        alone = peak;
        let peak = measure(|| {
            assert_eq!(runtime.block_on(client.oneshot(request())).unwrap().status(), 200);
        })
        .bytes_max;
        ours = peak;
    }
    println!("100 MiB over a connection: {ours} bytes at most, {alone} without the layers");
    assert!(received.load(Relaxed) > 4 * LENGTH as u64);
    assert!(
        ours <= alone + (CAP + 64 * 1024) as u64,
        "{ours} bytes at most, {alone} without the layers"
    );
}
