//! The middleware of tower-http and tower around, between and below the three layers.

use std::{
    fmt,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::sync::Notify;
use tower::{
    BoxError, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    util::BoxCloneService,
};
use tower_http::{
    decompression::DecompressionLayer, follow_redirect::FollowRedirectLayer,
    map_response_body::MapResponseBodyLayer, set_header::SetRequestHeaderLayer,
    timeout::TimeoutLayer, trace::TraceLayer,
};
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    retry::{Backoff, RetryHistory, RetryPolicy},
    routing::Mount,
};
use tower_outbound_ecosystem::{Seen, Server, busy_at_first};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    info_span, span,
};
use tracing_subscriber::{layer, prelude::*};

type Body = Full<Bytes>;

fn get(uri: String) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn retries() -> RetryLayer<RetryPolicy> {
    RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()))
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn answer(seen: &Seen) -> Response<Body> {
    match seen.uri.path() {
        "/old" => Response::builder()
            .status(307)
            .header("location", "/new?token=secret")
            .body(Body::default())
            .unwrap(),
        _ => Response::builder()
            .header("content-encoding", "gzip")
            .body(Full::from(gzipped(b"hello")))
            .unwrap(),
    }
}

/// All layers together. The mount for `localhost` takes one request at a time.
fn stack(
    server: &Server,
) -> BoxCloneService<Request<Body>, Response<UnsyncBoxBody<Bytes, BoxError>>, BoxError> {
    let mount = ServiceBuilder::new()
        // Sheds requests when this mount is busy, and only those of this mount.
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1))
        .layer(retries())
        .into_inner();
    // The default span of tower-http shows the whole URI.
    let span = |request: &Request<Body>| info_span!("request", method = %request.method(), path = request.uri().path());
    ServiceBuilder::new()
        // The total time. It answers with a status, so it needs a body with a default.
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, TOTAL))
        .layer(MapResponseBodyLayer::new(BodyExt::boxed_unsync))
        .layer(TraceLayer::new_for_http().make_span_with(span))
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(SetRequestHeaderLayer::overriding(
            header::USER_AGENT,
            HeaderValue::from_static("ecosystem"),
        ))
        // Outside the retries, so that an attempt's body is drained without inflating it.
        .layer(DecompressionLayer::new())
        .layer(RoutingLayer::builder().mount(server.origin("localhost"), mount).build().unwrap())
        .layer(CookieLayer::default())
        .service(Client::builder(TokioExecutor::new()).build_http())
        .boxed_clone()
}

const TOTAL: Duration = Duration::from_secs(30);

/// The text of all spans and events of these layers.
#[derive(Default)]
struct Said(Mutex<Vec<String>>);

impl Said {
    fn note(&self, metadata: &Metadata<'_>, record: impl FnOnce(&mut dyn Visit)) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                self.0.push_str(&format!(" {field}={value:?}"));
            }
        }
        if metadata.target().starts_with("tower_") {
            let mut fields = Fields(metadata.name().to_owned());
            record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for &'static Said {
    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: layer::Context<'_, S>) {
        self.note(span.metadata(), |fields| span.record(fields));
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: layer::Context<'_, S>) {
        let mut said = String::new();
        values.record(&mut |field: &Field, value: &dyn fmt::Debug| {
            said.push_str(&format!(" {field}={value:?}"));
        });
        self.0.lock().unwrap().push(said);
    }

    fn on_event(&self, event: &Event<'_>, _: layer::Context<'_, S>) {
        self.note(event.metadata(), |fields| event.record(fields));
    }
}

#[tokio::test]
async fn all_of_them_in_one_stack() {
    // For all threads. Otherwise another test without a subscriber could turn the events off.
    let said: &Said = Box::leak(Box::default());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(said)).unwrap();
    let server = Server::start(busy_at_first(answer)).await;
    let uri = format!("{}/old?token=secret", server.origin("localhost"));
    let response = stack(&server).oneshot(get(uri)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.extensions().get(), Some(&Mount(server.origin("localhost").into())));
    assert_eq!(response.extensions().get::<RetryHistory>().unwrap().attempts().len(), 2);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    let seen = server.seen();
    assert_eq!(
        seen.iter()
            .map(|seen| format!(
                "{} {}",
                seen.uri.path(),
                seen.header["user-agent"].to_str().unwrap()
            ))
            .collect::<Vec<_>>(),
        ["/old ecosystem", "/old ecosystem", "/new ecosystem", "/new ecosystem"]
    );
    assert!(seen[1].cookies.contains("busy=1") && seen[3].cookies.contains("done=1"), "{seen:?}");
    assert_eq!(server.connections(), 1);
    let said = said.0.lock().unwrap();
    assert!(said.iter().any(|line| line == "request method=GET path=\"/old\""), "{said:#?}");
    assert!(said.iter().any(|line| line.contains("finished processing request")), "{said:#?}");
    let secrets: Vec<_> = said
        .iter()
        .filter(|line| ["secret", "busy=", "done="].iter().any(|secret| line.contains(secret)))
        .collect();
    assert!(secrets.is_empty(), "{secrets:#?}");
}

#[tokio::test]
async fn a_late_server_meets_the_total_time_and_until_then_the_limit_keeps_others_from_its_mount() {
    let arrived = Arc::new(Notify::new());
    let to_server = Arc::clone(&arrived);
    let server = Server::start(move |seen, _| {
        let mut response = Response::new(Body::default());
        if seen.uri.path() == "/late" {
            response.extensions_mut().insert(Arc::clone(&to_server));
        }
        response
    })
    .await;
    let client = stack(&server);
    let send = |host: &str, path: &str| {
        client.clone().oneshot(get(format!("{}{path}", server.origin(host))))
    };
    let mut late = Box::pin(send("localhost", "/late"));
    tokio::select! {
        response = &mut late => panic!("{response:?}"),
        () = arrived.notified() => {}
    }
    let error = send("localhost", "/other").await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");
    assert_eq!(send("127.0.0.1", "/elsewhere").await.unwrap().status(), 200);
    tokio::time::pause();
    tokio::time::advance(TOTAL).await;
    let response =
        tokio::time::timeout(TOTAL, late).await.expect("the total time is over").unwrap();
    assert_eq!(response.status(), StatusCode::REQUEST_TIMEOUT);
    tokio::time::resume();
    assert_eq!(send("localhost", "/other").await.unwrap().status(), 200);
    assert_eq!(server.lines(), ["GET /late", "GET /elsewhere", "GET /other"]);
}

/// Counts the bytes of all bodies.
macro_rules! counting {
    ($count:expr) => {{
        let count = Arc::clone($count);
        MapResponseBodyLayer::new(move |body| {
            let count = Arc::clone(&count);
            BodyExt::map_frame(body, move |frame| {
                count.fetch_add(frame.data_ref().map_or(0, Buf::remaining), Relaxed);
                frame
            })
        })
    }};
}

/// urllib3 GHSA-mf9v-mfxr-j63j: a drained body was decoded, so a small body became gigabytes.
#[tokio::test]
async fn outside_the_retries_decompression_inflates_no_body_that_is_drained() {
    let bomb = Bytes::from(gzipped(&vec![0; 32 << 20]));
    let hello = Bytes::from(gzipped(b"hello"));
    assert!(bomb.len() < 64 * 1024, "{} bytes would not be drained whole", bomb.len());
    let busy = || {
        let (calls, bodies) = (Arc::new(AtomicUsize::new(0)), [bomb.clone(), hello.clone()]);
        tower::service_fn(move |_: Request<Body>| {
            let call = calls.fetch_add(1, Relaxed);
            let response =
                Response::builder().status([503, 200][call]).header("content-encoding", "gzip");
            std::future::ready(
                response.body(Body::from(bodies[call].clone())).map_err(BoxError::from),
            )
        })
    };
    let (raw, decoded) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let outside = ServiceBuilder::new()
        .layer(counting!(&decoded))
        .layer(DecompressionLayer::new())
        .layer(retries())
        .layer(counting!(&raw))
        .service(busy());
    let response = outside.oneshot(get("http://h.example/".to_owned())).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert_eq!(
        (raw.load(Relaxed), decoded.load(Relaxed)),
        (bomb.len() + hello.len(), "hello".len())
    );

    // In the reverse order they drain the inflated body, up to their bound.
    decoded.store(0, Relaxed);
    let inside = ServiceBuilder::new()
        .layer(retries())
        .layer(counting!(&decoded))
        .layer(DecompressionLayer::new())
        .service(busy());
    let response = inside.oneshot(get("http://h.example/".to_owned())).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    assert!((64 * 1024..128 * 1024).contains(&decoded.load(Relaxed)), "{}", decoded.load(Relaxed));
}

/// `Buffer` makes a client `Clone`, which retries and mounts need.
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
        let response =
            client.clone().oneshot(get(format!("{}/x", server.origin("localhost")))).await.unwrap();
        assert_eq!(response.status(), 200);
    }
    assert_eq!(server.lines().len(), 4);
}

/// Outside the mounts a limit applies to all of them together, and `poll_ready` says nothing about
/// any mount.
#[tokio::test]
async fn load_is_shed_inside_a_busy_mount_and_not_in_its_neighbour() {
    let server = Server::start(|_, _| Response::new(Body::default())).await;
    let hyper = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let limited = || {
        ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
            .into_inner()
    };
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

/// A layer inside the retries sees each attempt, and a layer outside sees the request.
#[tokio::test]
async fn a_layer_outside_the_retries_sees_one_request_and_one_inside_sees_attempts() {
    let server = Server::start(busy_at_first(answer)).await;
    let counting = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        SetRequestHeaderLayer::appending(
            HeaderName::from_static("x-count"),
            move |_: &Request<Body>| Some(HeaderValue::from(count.fetch_add(1, Relaxed))),
        )
    };
    let (outside, inside) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let client = ServiceBuilder::new()
        .layer(counting(&outside))
        .layer(retries())
        .layer(counting(&inside))
        .service(Client::builder(TokioExecutor::new()).build_http());
    client.oneshot(get(format!("{}/x", server.origin("localhost")))).await.unwrap();
    assert_eq!((outside.load(Relaxed), inside.load(Relaxed)), (1, 2));
    let counts: Vec<_> =
        server.seen().iter().map(|seen| seen.header.get_all("x-count").iter().count()).collect();
    assert_eq!(counts, [2, 2], "an attempt starts from the head that the retries were given");
}
