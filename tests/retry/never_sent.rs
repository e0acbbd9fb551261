//! "Never sent" is believed only if it is true of the whole call. These tests count how often
//! servers on real connections receive a POST if a service below makes several exchanges, or one.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, Request, Response, Uri};
use http_body_util::Full;
use hyper::{body::Incoming, rt};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::Barrier,
};
use tower::{
    BoxError, Layer, Service, ServiceExt, buffer::BufferLayer, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, service_fn, timeout::TimeoutLayer, util::BoxCloneSyncService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    retry::{Backoff, OneExchangeLayer, RetryPolicy},
};

use crate::{
    loopback::serve,
    transport::{Stream, Tls, Transport, tcp},
};

type Body = Full<Bytes>;
type Http = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

const HTTP1: [Transport; 2] = [Transport::Http1, Transport::Http1Tls];
const HTTP2: [Transport; 2] = [Transport::Http2, Transport::Http2Tls];

/// What a server does with a request that it has read.
#[derive(Clone, Debug)]
enum Event {
    /// Answers 303 with this as its location.
    SeeOther(String),
    Close,
    /// Resets the connection.
    Abort,
    // Only over HTTP/2.
    Reset(u8),
    /// GOAWAY that does not let the request's stream end.
    GoAway,
}

use Event::*;

const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;

/// Performs one event per request, and the last one for ever. `None` is an answer. Counts the POSTs
/// that it has read completely.
#[derive(Clone)]
struct Server {
    transport: Transport,
    tls: Arc<Tls>,
    events: Arc<Mutex<VecDeque<Option<Event>>>>,
    posts: Arc<AtomicUsize>,
    /// A `GET /warm` of HTTP/1 is answered with another one, so that a client has two connections.
    warm: Arc<Barrier>,
    address: SocketAddr,
}

impl Server {
    async fn start(transport: Transport, tls: &Arc<Tls>, events: Vec<Option<Event>>) -> Self {
        let mut server = Self {
            transport,
            tls: Arc::clone(tls),
            events: Arc::new(Mutex::new(events.into())),
            posts: Arc::default(),
            warm: Arc::new(Barrier::new(2)),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
        };
        let serving = server.clone();
        server.address = serve(move |stream, _| {
            let server = serving.clone();
            Box::pin(async move {
                if server.plays(|event| matches!(event, Abort)) {
                    // It ends with a reset, whichever side ends it.
                    stream.set_zero_linger().unwrap();
                }
                if let Ok(mut stream) = server.tls.accept(server.transport, stream).await {
                    // The client may also close its end abruptly.
                    let _ = match server.transport.is_http2() {
                        true => server.http2(&mut *stream).await,
                        false => server.http1(&mut *stream).await,
                    };
                }
            })
        })
        .await;
        server
    }

    fn uri(&self, path: &str) -> String {
        format!("{}{path}", self.transport.uri(self.address).trim_end_matches('/'))
    }

    fn plays(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.events.lock().unwrap().iter().flatten().any(is_it)
    }

    fn read(&self, is_post: bool) -> Option<Event> {
        self.posts.fetch_add(usize::from(is_post), Relaxed);
        let mut events = self.events.lock().unwrap();
        if events.len() > 1 { events.pop_front() } else { events.front().cloned() }.flatten()
    }

    async fn http1(&self, stream: &mut dyn Stream) -> io::Result<()> {
        loop {
            let mut seen = Vec::new();
            let is_whole = |seen: &[u8]| match seen.starts_with(b"POST") {
                true => seen.ends_with(b"upload"),
                false => seen.ends_with(b"\r\n\r\n"),
            };
            while !is_whole(&seen) {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await? {
                    0 => return Ok(()),
                    read => seen.extend_from_slice(&buffer[..read]),
                }
            }
            let event = if seen.starts_with(b"GET /warm") {
                self.warm.wait().await;
                None
            } else {
                self.read(seen.starts_with(b"POST"))
            };
            let response = match event {
                None => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Some(SeeOther(location)) => format!(
                    "HTTP/1.1 303 See Other\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
                ),
                Some(_) => return Ok(()),
            };
            stream.write_all(response.as_bytes()).await?;
            stream.flush().await?;
        }
    }

    async fn http2(&self, stream: &mut dyn Stream) -> io::Result<()> {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?; // SETTINGS
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        // Only one request at a time is in flight on a connection.
        let mut is_post = false;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await?;
            if head[3] == 1 {
                // `:method: POST` of the static table is the first field of a POST.
                is_post = payload.first() == Some(&0x83);
            }
            // HEADERS or DATA that ends its stream.
            if !(head[3] <= 1 && head[4] & 1 == 1) {
                continue;
            }
            let id = [head[5], head[6], head[7], head[8]];
            let frame = |kind: u8, flags: u8, id: [u8; 4], payload: &[u8]| {
                let length = (payload.len() as u16).to_be_bytes();
                [&[0][..], &length, &[kind, flags], &id, payload].concat()
            };
            let response = match self.read(is_post) {
                // `:status: 200` of the static table.
                None => frame(1, 5, id, &[0x88]),
                // `:status` and `location` are names of the static table.
                Some(SeeOther(location)) => {
                    let status = [0x08, 3, b'3', b'0', b'3'];
                    let length = [0x0f, 0x1f, location.len() as u8];
                    frame(1, 5, id, &[&status[..], &length, location.as_bytes()].concat())
                }
                Some(Reset(code)) => frame(3, 0, id, &[0, 0, 0, code]),
                // No stream was processed.
                Some(GoAway) => frame(7, 0, [0; 4], &[0; 8]),
                Some(Close | Abort) => return Ok(()),
            };
            stream.write_all(&response).await?;
            stream.flush().await?;
        }
    }
}

/// A port that is bound but not listening, as long as the socket lives.
fn deaf() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Makes the connections of a client, refuses some of them, and lets them die on demand.
#[derive(Clone, Default)]
struct Network {
    made: Arc<AtomicUsize>,
    /// Which of the connections are refused, counted from 0.
    refused: Option<fn(usize) -> bool>,
    dead: Arc<Mutex<Vec<Arc<AtomicBool>>>>,
}

impl Network {
    fn refusing(refused: fn(usize) -> bool) -> Self {
        Self { refused: Some(refused), ..Self::default() }
    }

    /// Makes all connections dead. Their client notices when it uses them.
    fn die(&self) {
        self.dead.lock().unwrap().drain(..).for_each(|dead| dead.store(true, Relaxed));
    }

    fn client(&self, transport: Transport, tls: &Tls) -> Http {
        let refusing = Refusing { tcp: tcp(), network: self.clone() };
        let to = tls.connector(transport, refusing);
        let client = Client::builder(TokioExecutor::new())
            .http2_only(transport == Transport::Http2)
            // The repeats of hyper-util itself are no attempts of the policy.
            .retry_canceled_requests(false)
            .build(Mortal { to, network: self.clone() });
        http(client)
    }
}

fn http<S, E>(service: S) -> Http
where
    S: Service<Request<Body>, Response = Response<Incoming>, Error = E>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
    E: Into<BoxError> + 'static,
{
    Http::new(service.map_err(Into::into))
}

#[derive(Clone)]
struct Refusing {
    tcp: HttpConnector,
    network: Network,
}

impl Service<Uri> for Refusing {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<TcpStream>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let number = self.network.made.fetch_add(1, Relaxed);
        if !self.network.refused.is_some_and(|refused| refused(number)) {
            let connecting = self.tcp.call(uri);
            return Box::pin(async move { Ok(connecting.await?) });
        }
        Box::pin(async {
            let (_socket, address) = deaf();
            Ok(TokioIo::new(TcpStream::connect(address).await?))
        })
    }
}

/// Its connections can die.
#[derive(Clone)]
struct Mortal<C> {
    to: C,
    network: Network,
}

impl<C> Service<Uri> for Mortal<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
{
    type Response = Dying<C::Response>;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.to.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, dead) = (self.to.call(uri), Arc::<AtomicBool>::default());
        self.network.dead.lock().unwrap().push(Arc::clone(&dead));
        Box::pin(async move { Ok(Dying { stream: connecting.await?, dead }) })
    }
}

struct Dying<T> {
    stream: T,
    dead: Arc<AtomicBool>,
}

impl<T: Connection> Connection for Dying<T> {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl<T: rt::Read + Unpin> rt::Read for Dying<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match self.dead.load(Relaxed) {
            true => Poll::Ready(Ok(())),
            false => Pin::new(&mut self.stream).poll_read(cx, buffer),
        }
    }
}

impl<T: rt::Write + Unpin> rt::Write for Dying<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The default policy without delays.
fn retries() -> RetryLayer {
    RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()))
}

fn once_more() -> RetryPolicy {
    RetryPolicy::new().backoff(Backoff::none()).any_method().total(1)
}

fn cookies(client: Http) -> Http {
    http(CookieLayer::default().layer(client))
}

fn mounted<L>(layer: L, client: Http) -> Http
where
    L: Layer<Http> + Send + Sync + 'static,
    L::Service:
        Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    <L::Service as Service<Request<Body>>>::Error: Into<BoxError> + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send + 'static,
{
    http(RoutingLayer::builder().mount("any://", layer).build().unwrap().layer(client))
}

fn buffer(client: Http) -> Http {
    http(BufferLayer::new(8).layer(client))
}

fn timeouts(client: Http) -> Http {
    http(TimeoutLayer::new(Duration::from_secs(60)).layer(client))
}

fn limits(client: Http) -> Http {
    http(LoadShedLayer::new().layer(ConcurrencyLimitLayer::new(8).layer(client)))
}

/// Drops the future that it polls at its end, before its caller has the error.
fn in_a_block(client: Http) -> Http {
    http(service_fn(move |request| {
        let client = client.clone();
        async move { client.oneshot(request).await }
    }))
}

fn redirects(client: Http) -> Http {
    http(FollowRedirectLayer::new().layer(client))
}

/// Hops without the extensions of the request.
fn forgetful_redirects(client: Http) -> Http {
    http(FollowRedirectLayer::new().preserve_extensions(false).layer(client))
}

/// Does not wait between the hops, and keeps their extensions.
fn hasty_redirects(client: Http) -> Http {
    hasty(client, Extensions::clone)
}

fn hasty_and_forgetful_redirects(client: Http) -> Http {
    hasty(client, |_| Extensions::new())
}

fn hasty(client: Http, keep: fn(&Extensions) -> Extensions) -> Http {
    http(service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let extensions = keep(request.extensions());
            let response = client.clone().oneshot(request).await?;
            let Some(location) = response.headers().get("location") else { return Ok(response) };
            let mut hop = Request::get(location.to_str()?).body(Body::default())?;
            *hop.extensions_mut() = extensions;
            client.oneshot(hop).await
        }
    }))
}

fn inner(policy: RetryPolicy, client: Http) -> Http {
    http(RetryLayer::new(policy).layer(client))
}

fn one_exchange(client: Http) -> Http {
    http(OneExchangeLayer::new().layer(client))
}

/// Makes its own request in `call`, as reqwest does.
fn converts(client: Http) -> Http {
    http(service_fn(move |request: Request<Body>| client.clone().oneshot(rebuilt(request))))
}

/// The same at the first poll.
fn converts_late(client: Http) -> Http {
    http(service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move { client.oneshot(rebuilt(request)).await }
    }))
}

fn rebuilt(request: Request<Body>) -> Request<Body> {
    let (head, body) = request.into_parts();
    let mut rebuilt = Request::new(body);
    *rebuilt.method_mut() = head.method;
    *rebuilt.uri_mut() = head.uri;
    *rebuilt.headers_mut() = head.headers;
    rebuilt
}

type Stack = (&'static str, fn(Http) -> Http);

/// Services that follow redirects, and layers around them, below the retries.
const REDIRECTORS: &[Stack] = &[
    ("FollowRedirect", redirects),
    ("FollowRedirect in a block", |client| in_a_block(redirects(client))),
    ("FollowRedirect around a block", |client| redirects(in_a_block(client))),
    ("FollowRedirect around cookies", |client| redirects(cookies(client))),
    ("a mount of FollowRedirect", |client| mounted(FollowRedirectLayer::new(), client)),
    ("FollowRedirect around a mount", |client| redirects(mounted(CookieLayer::default(), client))),
    ("Buffer around FollowRedirect", |client| buffer(redirects(client))),
    ("FollowRedirect around Buffer", |client| redirects(buffer(client))),
    ("time-outs and limits around FollowRedirect", |client| timeouts(limits(redirects(client)))),
    ("FollowRedirect around time-outs and limits", |client| redirects(timeouts(limits(client)))),
    ("FollowRedirect around retries", |client| redirects(inner(RetryPolicy::new(), client))),
    ("retries around FollowRedirect", |client| inner(RetryPolicy::new(), redirects(client))),
    ("FollowRedirect around a marked client", |client| redirects(one_exchange(client))),
    ("a redirector that waits for nothing", hasty_redirects),
    ("the same around a marked client", |client| hasty_redirects(one_exchange(client))),
    ("a redirector without extensions, around a marked client", |client| {
        forgetful_redirects(one_exchange(client))
    }),
    ("the same that waits for nothing", |client| {
        hasty_and_forgetful_redirects(one_exchange(client))
    }),
    ("FollowRedirect in a client that converts", |client| converts(redirects(client))),
    ("FollowRedirect in a client that converts late", |client| converts_late(redirects(client))),
];

/// How the exchange after the redirect fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Later {
    Refused,
    PooledDies,
    RefusedStream,
    GoAway,
}

const LATER_OF_HTTP1: &[Later] = &[Later::Refused, Later::PooledDies];
const LATER_OF_HTTP2: &[Later] =
    &[Later::Refused, Later::PooledDies, Later::RefusedStream, Later::GoAway];

const fn laters(transport: Transport) -> &'static [Later] {
    if transport.is_http2() { LATER_OF_HTTP2 } else { LATER_OF_HTTP1 }
}

fn post(uri: String) -> Request<Body> {
    Request::post(uri).body(Body::from("upload")).unwrap()
}

/// The number of POSTs that the server receives, if it answers 303 and the next hop fails.
async fn see_other(
    transport: Transport,
    later: Later,
    stack: fn(Http) -> Http,
) -> (usize, Result<Response<Incoming>, BoxError>) {
    let (tls, network) = (Arc::new(Tls::new(transport)), Network::default());
    let (_socket, nowhere) = deaf();
    let event = match later {
        Later::RefusedStream => Some(Reset(REFUSED_STREAM)),
        Later::GoAway => Some(GoAway),
        Later::Refused | Later::PooledDies => None,
    };
    let next = Server::start(transport, &tls, vec![event]).await;
    let location = if later == Later::Refused { transport.uri(nowhere) } else { next.uri("/next") };
    let server = Server::start(transport, &tls, vec![Some(SeeOther(location))]).await;
    let mut client = network.client(transport, &tls);
    if later == Later::PooledDies {
        client = dies_when_used(network, next.uri("/next"), client).await;
    }
    let outcome = retries().layer(stack(client)).oneshot(post(server.uri("/pay"))).await;
    (server.posts.load(Relaxed), outcome)
}

/// A client with a pooled connection for this URI, which is dead when it is used.
async fn dies_when_used(network: Network, uri: String, client: Http) -> Http {
    let warm = Request::get(&uri).body(Body::default()).unwrap();
    client.clone().oneshot(warm).await.unwrap();
    http(service_fn(move |request: Request<Body>| {
        if request.uri() == &*uri {
            network.die();
        }
        client.clone().oneshot(request)
    }))
}

/// A client with pooled connections to this server. Those that are left are dead at the time of the
/// second POST.
async fn dies_at_the_second(network: Network, server: &Server, client: Http) -> Http {
    if server.transport.is_http2() {
        // Its only connection.
        let warm = Request::get(server.uri("/")).body(Body::default()).unwrap();
        client.clone().oneshot(warm).await.unwrap();
    } else {
        let warm = || Request::get(server.uri("/warm")).body(Body::default()).unwrap();
        let both = [client.clone().oneshot(warm()), client.clone().oneshot(warm())];
        futures_util::future::try_join_all(both).await.unwrap();
    }
    let posts = Arc::new(AtomicUsize::new(0));
    http(service_fn(move |request: Request<Body>| {
        if posts.fetch_add(1, Relaxed) == 1 {
            network.die();
        }
        client.clone().oneshot(request)
    }))
}

#[tokio::test]
async fn a_post_that_was_answered_is_not_repeated_for_the_error_of_a_later_hop() {
    let mut wrong = Vec::new();
    for (what, stack) in REDIRECTORS {
        for transport in [HTTP1, HTTP2].concat() {
            for later in laters(transport) {
                let (posts, outcome) = see_other(transport, *later, *stack).await;
                if posts != 1 {
                    wrong.push(format!(
                        "{what}, {transport:?}, {later:?}: {posts} POSTs, {outcome:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

/// Here another exchange cannot be seen: the redirect drops the extensions, and HTTP/2 says
/// "refused" for a later request as for a first one. `OneExchangeLayer` at the client helps.
#[tokio::test]
async fn without_extensions_the_later_hops_of_http2_need_a_marked_client() {
    let mut wrong = Vec::new();
    for transport in [HTTP1, HTTP2].concat() {
        for later in laters(transport) {
            let is_refusal = matches!(later, Later::RefusedStream | Later::GoAway);
            let rows: [(&str, fn(Http) -> Http, usize); 2] = [
                ("not marked", forgetful_redirects, if is_refusal { 4 } else { 1 }),
                ("marked", |client| forgetful_redirects(one_exchange(client)), 1),
            ];
            for (what, stack, wanted) in rows {
                let (posts, outcome) = see_other(transport, *later, stack).await;
                if posts != wanted {
                    wrong.push(format!(
                        "{what}, {transport:?}, {later:?}: {posts} POSTs, not {wanted}: {outcome:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

/// The request ends because of its method, so the error is the client's, not a `RetryError`.
#[tokio::test]
async fn the_error_of_a_later_hop_is_the_callers_as_it_is() {
    let (_, outcome) = see_other(Transport::Http1, Later::Refused, redirects).await;
    let error = outcome.unwrap_err();
    let client_error = error.downcast_ref::<hyper_util::client::legacy::Error>();
    assert!(client_error.is_some_and(hyper_util::client::legacy::Error::is_connect), "{error:?}");
}

/// A service below the layer that retries by itself: two attempts, whatever the method.
const RETRIERS: &[Stack] = &[
    ("RetryLayer", |client| inner(once_more(), client)),
    ("RetryLayer in a block", |client| in_a_block(inner(once_more(), client))),
    ("RetryLayer around a marked client", |client| inner(once_more(), one_exchange(client))),
    ("RetryLayer around cookies and Buffer", |client| inner(once_more(), cookies(buffer(client)))),
    ("Buffer around RetryLayer", |client| buffer(inner(once_more(), client))),
    ("a mount of RetryLayer", |client| mounted(RetryLayer::new(once_more()), client)),
    ("tower's own runner", |client| {
        http(tower::retry::RetryLayer::new(once_more().boxed_errors()).layer(client))
    }),
    ("a client that converts, with a RetryLayer", |client| converts(inner(once_more(), client))),
    ("a client that converts late, with a RetryLayer", |client| {
        converts_late(inner(once_more(), client))
    }),
    ("retries that watch, in retries that do not", |client| {
        inner(RetryPolicy::new().backoff(Backoff::none()), inner(once_more(), client))
    }),
];

/// The first attempt is read but not answered. The second is refused.
#[tokio::test]
async fn a_post_that_was_read_is_not_repeated_for_the_error_of_a_later_attempt_below() {
    let mut wrong = Vec::new();
    for (what, stack) in RETRIERS {
        for transport in [HTTP1, HTTP2].concat() {
            let rows: &[(Event, Later)] = match transport.is_http2() {
                true => &[
                    (Close, Later::Refused),
                    (Abort, Later::Refused),
                    (Reset(CANCEL), Later::PooledDies),
                    (Reset(CANCEL), Later::RefusedStream),
                    (Reset(CANCEL), Later::GoAway),
                ],
                false => &[
                    (Close, Later::Refused),
                    (Abort, Later::Refused),
                    (Close, Later::PooledDies),
                    (Abort, Later::PooledDies),
                ],
            };
            for (first, later) in rows {
                let tls = Arc::new(Tls::new(transport));
                let first = Some(first.clone());
                let (events, network) = match later {
                    Later::RefusedStream => {
                        (vec![first.clone(), Some(Reset(REFUSED_STREAM))], Network::default())
                    }
                    Later::GoAway => (vec![first.clone(), Some(GoAway)], Network::default()),
                    // For HTTP/2 a GET has had its answer before.
                    Later::PooledDies if transport.is_http2() => {
                        (vec![None, first.clone()], Network::default())
                    }
                    Later::PooledDies => (vec![first.clone()], Network::default()),
                    Later::Refused => {
                        (vec![first.clone()], Network::refusing(|number| number % 2 == 1))
                    }
                };
                let server = Server::start(transport, &tls, events).await;
                let mut client = network.client(transport, &tls);
                if *later == Later::PooledDies {
                    client = dies_at_the_second(network, &server, client).await;
                }
                let outcome =
                    retries().layer(stack(client)).oneshot(post(server.uri("/pay"))).await;
                // A request that HTTP/2 refused has been read too.
                let wanted = match later {
                    Later::Refused | Later::PooledDies => 1,
                    Later::RefusedStream | Later::GoAway => 2,
                };
                let posts = server.posts.load(Relaxed);
                if posts != wanted || outcome.is_ok() {
                    wrong.push(format!(
                        "{what}, {transport:?}, {first:?}, {later:?}: {posts} POSTs, not {wanted}: {outcome:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}

/// Services that make one exchange, or fail at the first.
const SINGLE: &[Stack] = &[
    ("the client", |client| client),
    ("the client in a block", in_a_block),
    ("cookies", cookies),
    ("a mount", |client| mounted(CookieLayer::default(), client)),
    ("Buffer", buffer),
    ("time-outs", timeouts),
    ("limits", limits),
    ("all of them", |client| timeouts(mounted(CookieLayer::default(), limits(buffer(client))))),
    ("FollowRedirect", redirects),
    ("FollowRedirect in a block", |client| in_a_block(redirects(client))),
    ("a mount of FollowRedirect", |client| mounted(FollowRedirectLayer::new(), client)),
    ("Buffer around FollowRedirect", |client| buffer(redirects(client))),
    ("FollowRedirect around Buffer", |client| redirects(buffer(client))),
    ("a redirector without extensions", forgetful_redirects),
    ("a redirector that waits for nothing", hasty_redirects),
    ("FollowRedirect around a marked client", |client| redirects(one_exchange(client))),
    ("retries that are off", |client| inner(RetryPolicy::none(), client)),
    ("a marked client", one_exchange),
    ("a marked client that converts", |client| one_exchange(converts(client))),
    ("a marked client that converts late", |client| one_exchange(converts_late(client))),
];

/// How the first attempt fails, so that the server cannot have processed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsent {
    Refused,
    PooledDies,
    RefusedStream,
    GoAway,
}

#[tokio::test]
async fn a_post_that_was_never_sent_is_repeated() {
    use Unsent::{GoAway as GoesAway, PooledDies, Refused, RefusedStream};
    let mut wrong = Vec::new();
    for (what, stack) in SINGLE {
        for transport in [HTTP1, HTTP2].concat() {
            let rows: &[Unsent] = match transport.is_http2() {
                true => &[Refused, RefusedStream, GoesAway],
                false => &[Refused, PooledDies],
            };
            for row in rows {
                let (event, network) = match row {
                    Refused => (None, Network::refusing(|number| number < 2)),
                    PooledDies => (None, Network::default()),
                    RefusedStream => (Some(Reset(REFUSED_STREAM)), Network::default()),
                    GoesAway => (Some(GoAway), Network::default()),
                };
                let (tls, has_read) = (Arc::new(Tls::new(transport)), event.is_some());
                let server = Server::start(transport, &tls, vec![event, None]).await;
                let mut client = network.client(transport, &tls);
                if *row == PooledDies {
                    client = dies_when_used(network, server.uri("/pay"), client).await;
                }
                let outcome =
                    retries().layer(stack(client)).oneshot(post(server.uri("/pay"))).await;
                let (posts, is_well) = (server.posts.load(Relaxed), outcome.is_ok());
                if (posts, is_well) != (1 + usize::from(has_read), true) {
                    wrong.push(format!(
                        "{what}, {transport:?}, {row:?}: {posts} POSTs, {outcome:?}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} rows\n{}", wrong.len(), wrong.join("\n"));
}
