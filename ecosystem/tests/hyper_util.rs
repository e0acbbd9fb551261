//! hyper-util's client: HTTP/1.1, HTTP/2, and TLS with the one or the other.

use std::{
    future::ready,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    sync::mpsc,
};
use tower::{BoxError, Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
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
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
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
        "/old" => Response::builder()
            .status(302)
            .header("location", "/new")
            .header("set-cookie", "moved=1"),
        _ => Response::builder(),
    };
    response.body(Full::from("here")).unwrap()
}

/// The same story for all of them. Only the version and the number of connections differ.
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
    let wanted = [
        "GET /old",
        "GET /old busy=1",
        "GET /new busy=1; moved=1; done=1",
        "GET /new busy=1; moved=1; done=1",
    ];
    let sorted = |line: &str| {
        let mut cookies: Vec<_> =
            line.split([' ', ';']).filter(|part| !part.is_empty()).map(str::to_owned).collect();
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
        let connector = if is_http2 {
            connector.enable_http2().build()
        } else {
            connector.enable_http1().build()
        };
        story(&server, Client::builder(TokioExecutor::new()).build(connector), version).await;
    }
}

#[tokio::test]
async fn a_mount_is_for_its_host_alone() {
    let server = Server::start(busy_at_first(moved)).await;
    let session =
        session(&server, &CookieJar::new(), Client::builder(TokioExecutor::new()).build_http());
    let response = get(&session, format!("{}/x", server.origin("127.0.0.1"))).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.extensions().get::<Mount>(), None);
    assert_eq!(get(&session, format!("{}/y", server.origin("localhost"))).await.status(), 200);
    // The cookies of one are not sent to the other.
    assert_eq!(server.lines(), ["GET /x", "GET /y", "GET /y busy=1"]);
}

/// A connection whose other end is in the test.
struct Pipe(DuplexStream);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Answers one request, and returns its connection.
async fn answer_one(mut connection: DuplexStream) -> DuplexStream {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    connection
}

/// hyper-util repeats a request only if it was never written, on a connection that had been idle.
/// The policy does not count or limit that. If it is turned off, the policy makes the attempt.
#[tokio::test(start_paused = true)]
async fn what_hyper_repeats_by_itself_is_the_policys_once_it_is_turned_off() {
    for (is_hypers, attempts) in [(true, None), (false, Some(2))] {
        let (opened, mut connections) = mpsc::unbounded_channel();
        let connector = service_fn(move |_: Uri| {
            let (ours, theirs) = tokio::io::duplex(4096);
            opened.send(theirs).unwrap();
            ready(Ok::<_, io::Error>(TokioIo::new(Pipe(ours))))
        });
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(is_hypers)
            .build(connector);
        // This POST was not sent, so it may be repeated.
        let post = || Request::post("http://h.example/").body(Body::default()).unwrap();
        let session = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())).layer(client);
        let mut answer = async || answer_one(connections.recv().await.unwrap()).await;
        let (response, first) = tokio::join!(session.clone().oneshot(post()), answer());
        response.unwrap().into_body().collect().await.unwrap();
        // Ends when nothing else can run. The connection is in the pool then.
        tokio::time::sleep(Duration::from_millis(1)).await;
        // The next request takes it from the pool before anything can notice that it is closed.
        drop(first);
        let (response, _second) = tokio::join!(session.clone().oneshot(post()), answer());
        let history = response
            .unwrap()
            .extensions()
            .get::<RetryHistory>()
            .map(|history| history.attempts().len());
        assert_eq!(history, attempts, "repeated by hyper: {is_hypers}");
    }
}
