//! How often a server receives a POST if a client makes several exchanges in one call, or if its
//! first connection is refused.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn as hyper_service};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{Barrier, oneshot, watch},
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    buffer::BufferLayer,
    filter::AsyncFilterLayer,
    service_fn,
    timeout::TimeoutLayer,
    util::{BoxCloneSyncService, option_layer},
};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    retry::{Backoff, OneExchangeLayer, RetryPolicy},
};
use tower_outbound_ecosystem::{Server, json as json_response};
use tower_reqwest::HttpClientLayer;

const MINUTE: Duration = Duration::from_secs(60);

/// Has time limits that are never reached.
fn timed() -> RetryPolicy {
    policy().attempt_timeout(MINUTE).deadline(2 * MINUTE)
}

/// The default policy without delays.
fn policy() -> RetryPolicy {
    RetryPolicy::new().backoff(Backoff::none())
}

/// A port that is bound but not listening, as long as the socket lives.
fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

async fn refused() -> io::Error {
    let (_socket, address) = deaf();
    TcpStream::connect(address).await.unwrap_err()
}

/// A connector whose first two connections are refused.
fn connector(
    address: SocketAddr,
) -> impl Service<Uri, Response = TokioIo<TcpStream>, Error = io::Error, Future = Connecting>
+ Clone
+ Send
+ Sync
+ 'static {
    let made = Arc::new(AtomicUsize::new(0));
    service_fn(move |_: Uri| -> Connecting {
        let is_refused = made.fetch_add(1, Relaxed) < 2;
        Box::pin(async move {
            match is_refused {
                true => Err(refused().await),
                false => TcpStream::connect(address).await.map(TokioIo::new),
            }
        })
    })
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

/// The same for reqwest, whose connection type has no name.
#[derive(Clone, Default)]
struct RefuseTwo<S> {
    made: Arc<AtomicUsize>,
    to: S,
}

impl<S> Layer<S> for RefuseTwo<()> {
    type Service = RefuseTwo<S>;

    fn layer(&self, to: S) -> RefuseTwo<S> {
        RefuseTwo { made: Arc::clone(&self.made), to }
    }
}

impl<S, R> Service<R> for RefuseTwo<S>
where
    S: Service<R, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.to.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.made.fetch_add(1, Relaxed) {
            0 | 1 => Box::pin(async { Err(refused().await.into()) }),
            _ => Box::pin(self.to.call(request)),
        }
    }
}

type Reqwest = BoxCloneSyncService<Request<reqwest::Body>, Response<reqwest::Body>, BoxError>;

fn boxed<S, E>(service: S) -> Reqwest
where
    S: Service<Request<reqwest::Body>, Response = Response<reqwest::Body>, Error = E>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    E: Into<BoxError> + 'static,
{
    Reqwest::new(service.map_err(Into::into))
}

fn by_tower_reqwest(client: reqwest::Client) -> Reqwest {
    boxed(HttpClientLayer.layer(client))
}

/// The code that a user writes without tower-reqwest.
fn in_a_block(client: reqwest::Client) -> Reqwest {
    boxed(service_fn(move |request: Request<reqwest::Body>| {
        let client = client.clone();
        async move { Ok::<_, BoxError>(client.execute(request.try_into()?).await?.into()) }
    }))
}

fn with_layers(client: reqwest::Client) -> Reqwest {
    let routes = RoutingLayer::builder().mount("any://", CookieLayer::default());
    boxed(routes.build().unwrap().layer(by_tower_reqwest(client)))
}

fn in_a_buffer(client: reqwest::Client) -> Reqwest {
    boxed(BufferLayer::new(8).layer(by_tower_reqwest(client)))
}

/// The same by reqwest's builder, which leaves the head in the block until the response.
fn in_a_block_that_keeps_the_head(client: reqwest::Client) -> Reqwest {
    boxed(service_fn(move |request: Request<reqwest::Body>| {
        let client = client.clone();
        async move {
            let (head, body) = request.into_parts();
            let built = client.request(head.method, head.uri.to_string()).headers(head.headers);
            Ok::<_, BoxError>(Response::from(built.body(body).send().await?))
        }
    }))
}

fn in_a_task(client: reqwest::Client) -> Reqwest {
    boxed(service_fn(move |request: Request<reqwest::Body>| {
        let client = client.clone();
        let sent = tokio::spawn(async move { client.execute(request.try_into()?).await });
        async move { Ok::<_, BoxError>(sent.await??.into()) }
    }))
}

const REQWESTS: [(&str, fn(reqwest::Client) -> Reqwest); 4] = [
    ("tower-reqwest", by_tower_reqwest),
    ("a block", in_a_block),
    ("a block that keeps the head", in_a_block_that_keeps_the_head),
    ("cookies and mounts around tower-reqwest", with_layers),
];

fn reqwest_retries<S>(
    client: S,
) -> impl Service<Request<reqwest::Body>, Response = Response<reqwest::Body>, Error = BoxError>
where
    S: Service<Request<reqwest::Body>, Response = Response<reqwest::Body>> + Clone,
    S::Error: Into<BoxError>,
{
    let replay =
        |body: &reqwest::Body| body.as_bytes().map(|bytes| Bytes::copy_from_slice(bytes).into());
    RetryLayer::new(policy()).replay_with(replay).layer(client)
}

fn post(uri: String) -> Request<reqwest::Body> {
    Request::post(uri).body("text".into()).unwrap()
}

/// A server with one connection. On request it closes the connection and its port, and reports when
/// that is done.
fn mortal() -> (SocketAddr, impl Fn() + Send + Sync + 'static) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let ((die, to_die), (dead, has_died)) = (oneshot::channel::<()>(), mpsc::channel::<()>());
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let answer = hyper_service(async |_: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
            });
            let http = auto::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = http.serve_connection(TokioIo::new(stream), answer) => (),
                _ = to_die => (),
            }
        });
        drop(runtime);
        let _ = dead.send(());
    });
    let (die, has_died) = (Mutex::new(Some(die)), Mutex::new(has_died));
    let kill = move || {
        drop(die.lock().unwrap().take());
        let _ = has_died.lock().unwrap().recv();
    };
    (address, kill)
}

/// How the exchange after the redirect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Refused,
    PooledDies,
    RefusedStream,
}

/// The requests that the servers receive of a POST that is answered 303, if the next hop fails.
async fn see_other(
    later: Later,
    http2: bool,
    never: bool,
    stack: fn(reqwest::Client) -> Reqwest,
) -> Vec<String> {
    let next = Server::start(|_, _| {
        let mut response = Response::new(Full::default());
        response.extensions_mut().insert(h2::Reason::REFUSED_STREAM);
        response
    })
    .await;
    let (_socket, nowhere) = deaf();
    let (mortal, kill) = mortal();
    let location = match later {
        Later::Refused => format!("http://{nowhere}/next"),
        Later::PooledDies => format!("http://{mortal}/next"),
        Later::RefusedStream => format!("{}/next", next.origin("127.0.0.1")),
    };
    let to = location.clone();
    let server = Server::start(move |_, _| {
        if later == Later::PooledDies {
            kill();
        }
        Response::builder().status(303).header("location", &to).body(Full::default()).unwrap()
    })
    .await;
    let mut builder = reqwest::Client::builder();
    if http2 {
        builder = builder.http2_prior_knowledge();
    }
    if never {
        builder = builder.retry(reqwest::retry::never());
    }
    let client = builder.build().unwrap();
    if later == Later::PooledDies {
        client.get(&location).send().await.unwrap();
    }
    let outcome = reqwest_retries(stack(client))
        .oneshot(post(format!("{}/pay", server.origin("127.0.0.1"))))
        .await;
    assert!(outcome.is_err(), "{outcome:?}");
    server.lines()
}

/// reqwest follows redirects unless it is told not to. In another task it converts the request as the
/// task that writes to a connection does.
#[tokio::test]
async fn reqwests_own_redirects_repeat_no_post() {
    let in_tasks: [(&str, fn(reqwest::Client) -> Reqwest); 2] =
        [("a buffer", in_a_buffer), ("a task of each request", in_a_task)];
    let mut wrong = Vec::new();
    for (what, stack) in REQWESTS.into_iter().chain(in_tasks) {
        for never in [false, true] {
            for (later, http2) in [
                (Later::Refused, false),
                (Later::Refused, true),
                (Later::PooledDies, false),
                (Later::PooledDies, true),
                (Later::RefusedStream, true),
            ] {
                let seen = see_other(later, http2, never, stack).await;
                if seen != ["POST /pay"] {
                    wrong.push(format!("{what}, {later:?}, HTTP/2 {http2}, {never}: {seen:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

/// A server that answers only two requests to `/warm`, after it has read both, so that their client
/// has two connections. The first POST resets both, and each later POST resets its own. Also
/// returns the number of POSTs.
async fn resets_all() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, posts) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let (counted, warm) = (Arc::clone(&posts), Arc::new(Barrier::new(2)));
    let (reset, _) = watch::channel(());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_zero_linger().unwrap();
            let (posts, warm) = (Arc::clone(&counted), Arc::clone(&warm));
            let (reset, mut is_reset) = (reset.clone(), reset.subscribe());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    tokio::select! {
                        read = stream.read_buf(&mut seen) => {
                            if !read.is_ok_and(|read| read > 0) { return }
                        }
                        _ = is_reset.changed() => return,
                    }
                    if seen.ends_with(b"text") {
                        posts.fetch_add(1, Relaxed);
                        let _ = reset.send(());
                        return;
                    }
                    if seen.starts_with(b"GET /warm") && seen.ends_with(b"\r\n\r\n") {
                        warm.wait().await;
                        seen.clear();
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
        }
    });
    (address, posts)
}

/// The inner layer sends the POST at most twice. Its second attempt finds a dead connection, or
/// makes a new one if the client has noticed that it is dead.
#[tokio::test]
async fn a_reset_below_a_nested_layer_is_no_reason_for_the_outer_one() {
    let rows: [(&str, fn(reqwest::Client) -> Reqwest); 3] = [
        ("tower-reqwest", by_tower_reqwest),
        ("the same, marked", |client| {
            boxed(OneExchangeLayer::new().layer(by_tower_reqwest(client)))
        }),
        ("in a buffer", in_a_buffer),
    ];
    let mut wrong = Vec::new();
    for (what, stack) in rows {
        let (address, posts) = resets_all().await;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()
            .unwrap();
        let warm = || client.get(format!("http://{address}/warm")).send();
        tokio::try_join!(warm(), warm()).unwrap();
        let replay = |body: &reqwest::Body| {
            body.as_bytes().map(|bytes| Bytes::copy_from_slice(bytes).into())
        };
        let inner = RetryLayer::new(policy().any_method().total(1)).replay_with(replay);
        let client = boxed(inner.layer(stack(client)));
        let outcome = reqwest_retries(client).oneshot(post(format!("http://{address}/pay"))).await;
        if outcome.is_ok() || !(1..=2).contains(&posts.load(Relaxed)) {
            wrong.push(format!("{what}: {} POSTs, {outcome:?}", posts.load(Relaxed)));
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

/// The retries cannot see what reqwest does with a request, unless the layer says that it is one
/// exchange.
#[tokio::test]
async fn a_refused_connection_below_reqwest_is_tried_again_with_the_marker() {
    let mut wrong = Vec::new();
    for (what, stack) in REQWESTS {
        for http2 in [false, true] {
            let server = Server::start(|_, _| Response::new(Full::default())).await;
            let mut builder = reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .connector_layer(RefuseTwo::<()>::default());
            if http2 {
                builder = builder.http2_prior_knowledge();
            }
            let client = OneExchangeLayer::new().layer(stack(builder.build().unwrap()));
            let to = post(format!("{}/pay", server.origin("127.0.0.1")));
            let outcome = reqwest_retries(client).oneshot(to).await;
            if (outcome.is_ok(), server.lines()) != (true, vec!["POST /pay".to_owned()]) {
                wrong.push(format!("{what}, HTTP/2 {http2}: {:?}, {outcome:?}", server.lines()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn kube_tries_a_refused_connection_again() {
    use k8s_openapi::api::core::v1::Pod;
    use kube::{
        Api,
        api::PostParams,
        client::{Body, ConfigExt},
    };
    let made = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made"}});
    let server = Server::start(move |_, _| json_response(&made)).await;
    let config = kube::Config::new(server.origin("127.0.0.1").parse().unwrap());
    let retries = RetryLayer::new(timed()).replay_with(|body: &Body| body.try_clone());
    let routes = RoutingLayer::builder().mount(server.origin("127.0.0.1"), retries);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(routes.build().unwrap())
        .layer(TimeoutLayer::new(MINUTE))
        .buffer(8)
        .layer(CookieLayer::default())
        .service(Client::builder(TokioExecutor::new()).build(connector(server.address)));
    let pods: Api<Pod> = Api::default_namespaced(kube::Client::new(service, "default"));
    pods.create(&PostParams::default(), &Pod::default()).await.unwrap();
    assert_eq!(server.lines(), ["POST /api/v1/namespaces/default/pods"]);
}

#[tokio::test]
async fn octocrab_tries_a_refused_connection_again() {
    use http_body::Body;
    use octocrab::{
        AuthState, OctoBody, OctocrabBuilder, service::middleware::base_uri::BaseUriLayer,
    };
    let server = Server::start(|_, _| json_response(&serde_json::json!({}))).await;
    let replay =
        |body: &OctoBody| body.try_clone().or_else(|| body.is_end_stream().then(OctoBody::empty));
    let retries = RetryLayer::new(timed()).replay_with(replay);
    let routes = RoutingLayer::builder().mount(server.origin("127.0.0.1"), retries);
    let client =
        Client::builder(TokioExecutor::new()).build::<_, OctoBody>(connector(server.address));
    let octocrab = OctocrabBuilder::new_empty()
        .with_service(client)
        .with_layer(&CookieLayer::default())
        .with_layer(&BufferLayer::new(8))
        .with_layer(&TimeoutLayer::new(MINUTE))
        .with_layer(&routes.build().unwrap())
        .with_layer(&BaseUriLayer::new(server.origin("127.0.0.1").parse().unwrap()))
        .with_auth(AuthState::None)
        .build()
        .unwrap();
    let body = serde_json::json!({"name": "new"});
    octocrab.post::<_, serde_json::Value>("/user/repos", Some(&body)).await.unwrap();
    assert_eq!(server.lines(), ["POST /user/repos"]);
}

type Stack = BoxCloneSyncService<Request<tonic::body::Body>, Response<tonic::body::Body>, BoxError>;

/// tonic's health server, which refuses a number of its first streams.
async fn health(refused_streams: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", tonic_health::ServingStatus::Serving).await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, calls) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&calls);
    tokio::spawn(async move {
        // Keeps the status alive until the server is dropped.
        let _reporter = reporter;
        while let Ok((socket, _)) = listener.accept().await {
            let (health, calls) = (health.clone(), Arc::clone(&counted));
            let service = hyper_service(move |request: Request<Incoming>| {
                let (mut health, call) = (health.clone(), calls.fetch_add(1, Relaxed));
                async move {
                    if call < refused_streams {
                        return Err(h2::Error::from(h2::Reason::REFUSED_STREAM));
                    }
                    Ok(health
                        .call(request)
                        .await
                        .unwrap_or_else(|never: Infallible| match never {}))
                }
            });
            tokio::spawn(async move {
                let http = auto::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (address, calls)
}

/// tonic's own channel, or hyper-util's client, below the layers, with a time-out and a buffer
/// between them.
fn tonic_stack(channel: bool, between: bool, address: SocketAddr, refuses: bool) -> Stack {
    let origin = format!("http://127.0.0.1:{}", address.port());
    let to_server = service_fn(move |_: Uri| -> Connecting {
        Box::pin(async move { TcpStream::connect(address).await.map(TokioIo::new) })
    });
    let connector = match refuses {
        true => BoxCloneSyncService::new(connector(address)),
        false => BoxCloneSyncService::new(to_server),
    };
    let bottom: BoxCloneSyncService<Request<Full<Bytes>>, Response<tonic::body::Body>, BoxError> =
        if channel {
            let endpoint = tonic::transport::Endpoint::from_shared(origin.clone()).unwrap();
            let to_tonic = |request: Request<Full<Bytes>>| request.map(tonic::body::Body::new);
            let channel = endpoint.connect_with_connector_lazy(connector);
            BoxCloneSyncService::new(channel.map_request(to_tonic).map_err(BoxError::from))
        } else {
            let hyper = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
            let to_tonic = |response: Response<Incoming>| response.map(tonic::body::Body::new);
            BoxCloneSyncService::new(hyper.map_response(to_tonic).map_err(BoxError::from))
        };
    let gather = AsyncFilterLayer::new(|request: Request<tonic::body::Body>| async {
        let (parts, body) = request.into_parts();
        Ok::<_, BoxError>(Request::from_parts(parts, Full::new(body.collect().await?.to_bytes())))
    });
    let retries = RetryLayer::new(if between { timed() } else { policy() });
    let routes = RoutingLayer::builder().mount(origin, retries);
    let stack = ServiceBuilder::new()
        .layer(gather)
        .layer(routes.build().unwrap())
        .layer(option_layer(between.then(|| TimeoutLayer::new(MINUTE))))
        .layer(option_layer(between.then(|| BufferLayer::new(8))))
        .layer(CookieLayer::default())
        .service(bottom);
    Stack::new(stack)
}

/// Each call is a POST.
async fn tonic_rows() {
    let mut wrong = Vec::new();
    for (channel, between) in [(true, false), (true, true), (false, false), (false, true)] {
        for (refused_connections, refused_streams) in [(true, 0), (false, 2)] {
            let (address, calls) = health(refused_streams).await;
            let stack = tonic_stack(channel, between, address, refused_connections);
            let origin = format!("http://127.0.0.1:{}", address.port()).parse().unwrap();
            let mut client =
                tonic_health::pb::health_client::HealthClient::with_origin(stack, origin);
            let outcome = client.check(tonic_health::pb::HealthCheckRequest::default()).await;
            let calls = calls.load(Relaxed);
            if outcome.is_err() || calls != 1 + refused_streams {
                wrong.push(format!(
                    "channel {channel}, between {between}, refused connections {refused_connections}, refused streams \
                     {refused_streams}: {calls} calls, {outcome:?}"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test]
async fn tonic_tries_refused_connections_and_streams_again() {
    tonic_rows().await;
}

/// The channel's worker and the connections run at the same time as the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tonic_tries_refused_connections_and_streams_again_on_many_threads() {
    for _ in 0..20 {
        tonic_rows().await;
    }
}
