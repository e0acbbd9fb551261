//! hyper-util's client: HTTP/1.1, HTTP/2, and TLS with the one or the other.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::Connect},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneService};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, RetryHistory, RetryPolicy},
    routing::Mount,
};
use tower_outbound_ecosystem::{Server, busy_at_first};

type Body = Full<Bytes>;
type Session = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

/// The stack of the README around a client: retries for `localhost` alone.
fn session<C>(server: &Server, jar: &CookieJar, client: Client<C, Body>) -> Session
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()));
    ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(RoutingLayer::builder().mount(server.origin("localhost"), retries).build().unwrap())
        .layer(CookieLayer::new(jar.clone()))
        .service(client)
        .boxed_clone()
}

async fn get(session: &Session, uri: String) -> Response<Incoming> {
    session.clone().oneshot(Request::get(uri).body(Body::default()).unwrap()).await.unwrap()
}

fn moved(seen: &tower_outbound_ecosystem::Seen) -> Response<Body> {
    let response = match seen.uri.path() {
        "/old" => Response::builder().status(302).header("location", "/new").header("set-cookie", "moved=1"),
        _ => Response::builder(),
    };
    response.body(Full::from("here")).unwrap()
}

/// One story for all of them, but for the version and the connections.
async fn story<C>(server: &Server, client: Client<C, Body>, version: Version)
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let jar = CookieJar::new();
    let session = session(server, &jar, client);
    let response = get(&session, format!("{}/old", server.origin("localhost"))).await;
    assert_eq!(response.status(), 200);
    let extensions = response.extensions();
    assert_eq!(extensions.get(), Some(&Mount(server.origin("localhost").into())));
    assert_eq!(extensions.get::<RetryHistory>().unwrap().attempts().len(), 2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "here");
    let wanted =
        ["GET /old", "GET /old busy=1", "GET /new busy=1; moved=1; done=1", "GET /new busy=1; moved=1; done=1"];
    let sorted = |line: &str| {
        let mut cookies: Vec<_> = line.split([' ', ';']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        cookies.sort();
        cookies
    };
    let lines = server.lines();
    assert!(lines.iter().map(|line| sorted(line)).eq(wanted.map(sorted)), "{lines:#?}");
    assert!(server.seen().iter().all(|seen| seen.version == version), "{:?}", server.seen());
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn http1_survives_a_503_and_keeps_its_cookies_on_one_connection() {
    let server = Server::start(busy_at_first(moved)).await;
    story(&server, Client::builder(TokioExecutor::new()).build_http(), Version::HTTP_11).await;
}

#[tokio::test]
async fn http2_survives_a_503_and_keeps_its_cookies_on_one_connection() {
    let server = Server::start(busy_at_first(moved)).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    story(&server, client, Version::HTTP_2).await;
}

#[tokio::test]
async fn tls_does_so_in_both_versions_and_secure_cookies_stay_with_it() {
    for (version, is_http2) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
        let server = Server::start_tls(busy_at_first(moved)).await;
        let mut roots = RootCertStore::empty();
        roots.add(server.certificate.clone().unwrap()).unwrap();
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let connector = if is_http2 { connector.enable_http2().build() } else { connector.enable_http1().build() };
        story(&server, Client::builder(TokioExecutor::new()).build(connector), version).await;
    }
}

#[tokio::test]
async fn a_mount_is_for_its_host_alone() {
    let server = Server::start(busy_at_first(moved)).await;
    let session = session(&server, &CookieJar::new(), Client::builder(TokioExecutor::new()).build_http());
    let response = get(&session, format!("{}/x", server.origin("127.0.0.1"))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.extensions().get::<Mount>(), None);
    assert_eq!(get(&session, format!("{}/y", server.origin("localhost"))).await.status(), 200);
    // Nor do the cookies of the one go to the other.
    assert_eq!(server.lines(), ["GET /x", "GET /y", "GET /y busy=1"]);
}

/// hyper-util tries a request again by itself only if it was never written, on a connection that had been idle; that is
/// no attempt of the policy's. Who wants to count every connection turns it off.
#[tokio::test]
async fn with_what_hyper_repeats_by_itself_turned_off_the_policy_is_the_only_one() {
    let server = Server::start(busy_at_first(moved)).await;
    let client = Client::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
    story(&server, client, Version::HTTP_11).await;
}
