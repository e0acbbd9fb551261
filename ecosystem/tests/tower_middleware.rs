//! The middleware of tower-http and tower around, between and below the three layers.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{
    BoxError, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
};
use tower_http::{
    decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer, map_response_body::MapResponseBodyLayer,
    set_header::SetRequestHeaderLayer, timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    retry::{Backoff, RetryHistory, RetryPolicy},
    routing::Mount,
};
use tower_outbound_ecosystem::{Seen, Server, busy_at_first};

type Body = Full<Bytes>;

fn get(uri: String) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn retries() -> RetryLayer<RetryPolicy> {
    RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()))
}

/// A gzip stream whose one block is stored as it is.
fn gzipped(text: &str) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    let length = u16::try_from(text.len()).unwrap();
    let mut output = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    output.write_all(&length.to_le_bytes()).unwrap();
    output.write_all(&(!length).to_le_bytes()).unwrap();
    output.write_all(text.as_bytes()).unwrap();
    output.write_all(&(!crc).to_le_bytes()).unwrap();
    output.write_all(&u32::from(length).to_le_bytes()).unwrap();
    output
}

fn answer(seen: &Seen) -> Response<Body> {
    match seen.uri.path() {
        "/old" => Response::builder().status(307).header("location", "/new").body(Body::default()).unwrap(),
        _ => Response::builder().header("content-encoding", "gzip").body(Full::from(gzipped("hello"))).unwrap(),
    }
}

#[tokio::test]
async fn all_of_them_in_one_stack() {
    let server = Server::start(busy_at_first(answer)).await;
    let mount = ServiceBuilder::new()
        // Sheds where the mount is busy, and for the mount alone.
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(8))
        .layer(retries())
        .into_inner();
    let client = ServiceBuilder::new()
        // The total time. It answers with a status, so it needs a body that can be made of nothing.
        .layer(TimeoutLayer::with_status_code(http::StatusCode::REQUEST_TIMEOUT, Duration::from_secs(30)))
        .layer(MapResponseBodyLayer::new(BodyExt::boxed_unsync))
        .layer(TraceLayer::new_for_http())
        .layer(FollowRedirectLayer::new())
        .layer(SetRequestHeaderLayer::overriding(header::USER_AGENT, HeaderValue::from_static("ecosystem")))
        .layer(RoutingLayer::builder().mount(server.origin("localhost"), mount).build().unwrap())
        .layer(CookieLayer::default())
        // Below the retries, so that an attempt's body is drained as it came.
        .layer(DecompressionLayer::new())
        .service(Client::builder(TokioExecutor::new()).build_http());
    let response = client.oneshot(get(format!("{}/old", server.origin("localhost")))).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&Mount(server.origin("localhost").into())));
    assert_eq!(response.extensions().get::<RetryHistory>().unwrap().attempts().len(), 2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    let seen = server.seen();
    assert_eq!(
        seen.iter()
            .map(|seen| format!("{} {}", seen.uri.path(), seen.header["user-agent"].to_str().unwrap()))
            .collect::<Vec<_>>(),
        ["/old ecosystem", "/old ecosystem", "/new ecosystem", "/new ecosystem"]
    );
    assert!(seen[1].cookies.contains("busy=1") && seen[3].cookies.contains("done=1"), "{seen:?}");
    assert_eq!(server.connections(), 1);
}

/// `Buffer` makes a client that is not `Clone` one that is, which retries and mounts need.
#[tokio::test]
async fn a_buffer_lends_clone_to_a_client_that_has_none() {
    let server = Server::start(busy_at_first(answer)).await;
    let hyper = Client::builder(TokioExecutor::new()).build_http();
    let not_clone = hyper.map_err(BoxError::from).boxed();
    let client = ServiceBuilder::new()
        .layer(RoutingLayer::builder().mount("any://", retries()).build().unwrap())
        .layer(CookieLayer::default())
        .layer(BufferLayer::new(4))
        .service(not_clone);
    for _ in 0..3 {
        let response = client.clone().oneshot(get(format!("{}/x", server.origin("localhost")))).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(server.lines().len(), 4);
}

/// Outside the mounts a limit is for all of them, as it was set; and `poll_ready` there says nothing about any mount.
#[tokio::test]
async fn load_is_shed_inside_a_busy_mount_and_not_in_its_neighbour() {
    let server = Server::start(|_, _| Response::new(Body::default())).await;
    let hyper = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let limited =
        || ServiceBuilder::new().layer(LoadShedLayer::new()).layer(ConcurrencyLimitLayer::new(1)).into_inner();
    let hangs = tower::service_fn(|_: Request<Body>| {
        std::future::pending::<Result<Response<hyper::body::Incoming>, BoxError>>()
    });
    let client = RoutingLayer::builder()
        .mount_service("http://hangs.example", tower::Layer::layer(&limited(), hangs))
        .mount(server.origin("localhost"), limited())
        .build()
        .unwrap();
    let client = tower::Layer::layer(&client, hyper);
    let mut first = Box::pin(client.clone().oneshot(get("http://hangs.example/".to_owned())));
    assert!(futures_poll(&mut first));
    let error = client.clone().oneshot(get("http://hangs.example/".to_owned())).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");
    let response = client.oneshot(get(format!("{}/x", server.origin("localhost")))).await.unwrap();
    assert_eq!(response.status(), 200);
}

fn futures_poll<F: Future>(future: &mut std::pin::Pin<Box<F>>) -> bool {
    future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending()
}

/// What stands inside the retries is there for each attempt, what stands outside for the request.
#[tokio::test]
async fn a_layer_outside_the_retries_sees_one_request_and_one_inside_sees_attempts() {
    let server = Server::start(busy_at_first(answer)).await;
    let counting = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        SetRequestHeaderLayer::appending(HeaderName::from_static("x-count"), move |_: &Request<Body>| {
            Some(HeaderValue::from(count.fetch_add(1, Relaxed)))
        })
    };
    let (outside, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = ServiceBuilder::new()
        .layer(counting(&outside))
        .layer(retries())
        .layer(counting(&inside))
        .service(Client::builder(TokioExecutor::new()).build_http());
    client.oneshot(get(format!("{}/x", server.origin("localhost")))).await.unwrap();
    assert_eq!((outside.load(Relaxed), inside.load(Relaxed)), (1, 2));
    let counts: Vec<_> = server.seen().iter().map(|seen| seen.header.get_all("x-count").iter().count()).collect();
    assert_eq!(counts, [2, 2], "an attempt starts from the head that the retries were given");
}
