//! axum's Router as the service below the stack, and as a mounted service: a double without a
//! socket.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{Router, extract::State, http::HeaderMap, routing::get};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use tower_http::{follow_redirect::FollowRedirectLayer, map_response_body::MapResponseBodyLayer};
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    retry::{Backoff, RetryPolicy},
    routing::Mount,
};
use tower_outbound_ecosystem::{Server, busy_at_first};

type Body = Full<Bytes>;

fn request(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn cookies(headers: &HeaderMap) -> String {
    headers.get(header::COOKIE).map_or("none", |line| line.to_str().unwrap()).to_owned()
}

/// Answers 503 at first. `/old` redirects to `/`.
fn router() -> Router {
    let count = Arc::new(AtomicUsize::new(0));
    let busy = |State(count): State<Arc<AtomicUsize>>, headers: HeaderMap| async move {
        let status = match count.fetch_add(1, Relaxed) {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        };
        (status, [(header::SET_COOKIE, "seen=1")], cookies(&headers))
    };
    let old = || async {
        (StatusCode::FOUND, [(header::LOCATION, "/"), (header::SET_COOKIE, "moved=1")])
    };
    Router::new().route("/", get(busy)).route("/old", get(old)).with_state(count)
}

async fn text<B: http_body::Body<Error: std::fmt::Debug>>(response: Response<B>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_router_serves_the_whole_stack() {
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()));
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(RoutingLayer::builder().mount("https://api.example", retries).build().unwrap())
        .layer(CookieLayer::default())
        .service(router());
    let response = client.oneshot(request("https://api.example/old")).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&Mount("https://api.example".into())));
    assert_eq!(text(response).await, "moved=1; seen=1");
}

#[tokio::test]
async fn a_router_is_mounted_beside_a_real_client() {
    let server = Server::start(busy_at_first(|_| Response::new(Full::from("real")))).await;
    // All have axum's body type.
    let hyper = MapResponseBodyLayer::new(axum::body::Body::new)
        .layer(Client::builder(TokioExecutor::new()).build_http());
    let client = RoutingLayer::builder()
        .mount_service("https://double.example", router())
        .mount("http://", RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())))
        .build()
        .unwrap()
        .layer(hyper);
    let response = client.clone().oneshot(request("https://double.example/")).await.unwrap();
    assert_eq!(response.status(), 503, "what is mounted is complete in itself: no retries");
    let response = client.oneshot(request(&server.origin("localhost"))).await.unwrap();
    assert_eq!((text(response).await.as_str(), server.lines().len()), ("real", 2));
}

/// An axum handler that sends a request with a client from its state. The client is a type without
/// `BoxError`, or a box.
#[tokio::test]
async fn a_handler_calls_out_through_the_stack() {
    type Outbound = tower::util::BoxCloneSyncService<
        Request<Body>,
        Response<axum::body::Body>,
        tower::BoxError,
    >;
    async fn proxy(
        State(outbound): State<Outbound>,
    ) -> Result<Response<axum::body::Body>, (StatusCode, String)> {
        let response = outbound.oneshot(request("https://api.example/")).await;
        response.map_err(|error| (StatusCode::BAD_GATEWAY, error.to_string()))
    }
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()));
    let outbound = ServiceBuilder::new()
        .layer(RoutingLayer::builder().mount("https://api.example", retries).build().unwrap())
        .layer(CookieLayer::default());
    let up = Router::new()
        .route("/", get(proxy))
        .with_state(Outbound::new(outbound.clone().service(router())));
    let response = up.oneshot(request("/")).await.unwrap();
    assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::OK, "seen=1"));

    let down = service_fn(|_: Request<Body>| async {
        Err::<Response<axum::body::Body>, _>(std::io::Error::other("down"))
    });
    let strict = RoutingLayer::builder()
        .mount_service("https://else.example", down)
        .strict()
        .build()
        .unwrap()
        .layer(down);
    let proxy = Router::new().route("/", get(proxy)).with_state(Outbound::new(strict));
    let response = proxy.oneshot(request("/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(text(response).await, "no mount for https://api.example/");
}
