//! The clients, each built as its users do.

use std::{
    future::{Future, Ready, ready},
    io, iter,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use cookie_store::{CookieStore, RawCookie};
use futures_util::stream;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{
        self, Client as HyperClient,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    cookie::{CookieJar, CookieLayer, CookieLimits},
    retry::{Backoff, ReplayBodyLayer, RetryLayer, RetryPolicy},
    routing::RoutingLayer,
};
use url::Url;

pub(crate) const HOST: &str = "api.example-42.com";
const HOSTS: usize = 10_000;
const MOUNTS: usize = 100;
const COOKIES: [&str; 5] = [
    "sessionid=7f3a9c51e0b24d68",
    "csrftoken=Qm9yZWRvbTIwMjY",
    "theme=dark",
    "locale=en-GB",
    "consent=yes",
];
pub(crate) const CHUNK: usize = 64 * 1024;

/// A URL, already parsed for each kind of client.
#[derive(Clone)]
pub(crate) struct Target {
    uri: Uri,
    url: Url,
}

impl Target {
    pub(crate) fn new(path: &str) -> Self {
        let text = format!("http://{HOST}{path}");
        Self { uri: text.parse().expect("a URI"), url: text.parse().expect("a URL") }
    }
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

type Answered = Result<Answer, BoxError>;

pub(crate) trait Client: Clone + Send + Sync + 'static {
    fn get(&self, to: &Target) -> impl Future<Output = Answered> + Send;

    /// A PUT of `chunks` chunks, streamed if the client can.
    fn upload(&self, to: &Target, chunks: usize) -> impl Future<Output = Answered> + Send;
}

fn chunk() -> Bytes {
    Bytes::from(vec![b'x'; CHUNK])
}

/// A body that does not report its length.
struct Streamed {
    chunks: usize,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Some(left) = self.chunks.checked_sub(1) else { return Poll::Ready(None) };
        self.chunks = left;
        Poll::Ready(Some(Ok(Frame::data(chunk()))))
    }
}

fn whole(chunks: usize) -> Bytes {
    Bytes::from(vec![b'x'; CHUNK * chunks])
}

/// Resolves every name to the server, and uses its port if the URI has none.
#[derive(Clone)]
struct Names(SocketAddr);

impl Service<Name> for Names {
    type Response = iter::Once<SocketAddr>;
    type Error = io::Error;
    type Future = Ready<io::Result<iter::Once<SocketAddr>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(iter::once(self.0)))
    }
}

fn hyper<B>(server: SocketAddr) -> HyperClient<HttpConnector<Names>, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    let mut connector = HttpConnector::new_with_resolver(Names(server));
    connector.set_nodelay(true);
    HyperClient::builder(TokioExecutor::new()).build(connector)
}

type Held = Full<Bytes>;

/// A client made of tower's services: one for bodies in memory, one for uploads.
#[derive(Clone)]
pub(crate) struct Tower<S, U> {
    service: S,
    uploads: U,
}

/// How a service takes an upload.
pub(crate) trait Uploads: Clone + Send + Sync + 'static {
    fn put(&self, to: &Uri, chunks: usize) -> impl Future<Output = Answered> + Send;
}

#[derive(Clone)]
pub(crate) struct AsStream<S>(S);
#[derive(Clone)]
pub(crate) struct AsBytes<S>(S);

impl<S> Uploads for AsStream<S>
where
    S: Service<Request<Streamed>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn put(&self, to: &Uri, chunks: usize) -> Answered {
        answered(&self.0, Request::put(to.clone()).body(Streamed { chunks })?).await
    }
}

impl<S> Uploads for AsBytes<S>
where
    S: Service<Request<Held>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn put(&self, to: &Uri, chunks: usize) -> Answered {
        answered(&self.0, Request::put(to.clone()).body(Full::new(whole(chunks)))?).await
    }
}

async fn answered<S, B>(service: &S, request: Request<B>) -> Answered
where
    S: Service<Request<B>, Response = Response<Incoming>> + Clone,
    S::Error: Into<BoxError>,
{
    let mut service = service.clone();
    let ready = service.ready().await.map_err(Into::into)?;
    let response = ready.call(request).await.map_err(Into::into)?;
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.into_body().collect().await?.to_bytes() })
}

impl<S, U> Client for Tower<S, U>
where
    S: Service<Request<Held>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    U: Uploads,
{
    async fn get(&self, to: &Target) -> Answered {
        let request = Request::get(to.uri.clone())
            .header(header::ACCEPT, HeaderValue::from_static("application/json"))
            .body(Full::default())?;
        answered(&self.service, request).await
    }

    fn upload(&self, to: &Target, chunks: usize) -> impl Future<Output = Answered> + Send {
        self.uploads.put(&to.uri, chunks)
    }
}

pub(crate) fn bare(server: SocketAddr) -> impl Client {
    Tower { service: hyper::<Held>(server), uploads: AsStream(hyper(server)) }
}

/// What a user writes for tower's retries. It clones the request, so the body must be in memory.
#[derive(Clone)]
struct ThreeTimes {
    left: u32,
}

impl<B: Clone, R, E> tower::retry::Policy<Request<B>, Response<R>, E> for ThreeTimes {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Self::Future> {
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

pub(crate) fn tower_retry(server: SocketAddr) -> impl Client {
    let service = ServiceBuilder::new()
        .layer(tower::retry::RetryLayer::new(ThreeTimes { left: 3 }))
        .service(hyper::<Held>(server));
    Tower { uploads: AsBytes(service.clone()), service }
}

pub(crate) fn tower_retry_and_cookies(server: SocketAddr) -> impl Client {
    let mut store = CookieStore::default();
    let url = Target::new("/").url;
    for cookie in COOKIES {
        store.parse(cookie, &url).expect("a cookie");
    }
    let cookies = WithStore { inner: hyper(server), store: Arc::new(Mutex::new(store)) };
    let service = ServiceBuilder::new()
        .layer(tower::retry::RetryLayer::new(ThreeTimes { left: 3 }))
        .service(cookies);
    Tower { uploads: AsBytes(service.clone()), service }
}

/// What a user writes around a store.
#[derive(Clone)]
struct WithStore {
    inner: HyperClient<HttpConnector<Names>, Held>,
    store: Arc<Mutex<CookieStore>>,
}

impl Service<Request<Held>> for WithStore {
    type Response = Response<Incoming>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.inner, cx)
    }

    fn call(&mut self, mut request: Request<Held>) -> Self::Future {
        let url = Url::parse(&request.uri().to_string()).expect("a URL");
        let pairs: Vec<String> = {
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            store.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect()
        };
        let value = HeaderValue::try_from(pairs.join("; ")).expect("a header");
        request.headers_mut().insert(header::COOKIE, value);
        let (call, store) = (Service::call(&mut self.inner, request), Arc::clone(&self.store));
        Box::pin(async move {
            let response = call.await?;
            let lines = response.headers().get_all(header::SET_COOKIE).iter();
            let lines = lines.filter_map(|line| line.to_str().ok());
            let cookies = lines.filter_map(|line| RawCookie::parse(line.to_owned()).ok());
            let mut store = store.lock().unwrap_or_else(PoisonError::into_inner);
            store.store_response_cookies(cookies, &url);
            drop(store);
            Ok(response)
        })
    }
}

fn jar() -> CookieJar {
    let limits = CookieLimits { total: 100_000, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    for host in 0..HOSTS {
        let uri = format!("http://api.example-{host}.com/").parse().expect("a URI");
        for cookie in COOKIES {
            jar.set(&uri, cookie).expect("a cookie");
        }
    }
    jar
}

/// Retries without a delay, like the others here. There is no budget, because it would refuse two
/// retries of each request.
fn policy() -> RetryPolicy {
    RetryPolicy::new().backoff(Backoff::none()).no_budget()
}

pub(crate) fn ours(server: SocketAddr) -> impl Client {
    let (jar, retry) = (jar(), RetryLayer::new(policy()));
    let mut mounts = RoutingLayer::builder();
    for host in 0..MOUNTS {
        mounts = mounts.mount(&*format!("http://api.example-{host}.com"), retry.clone());
    }
    let service = CookieLayer::new(jar.clone()).layer(hyper::<Held>(server));
    let service = mounts.build().expect("mounts").layer(service);
    let uploads = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new())
        .layer(RetryLayer::new(policy()))
        .layer(CookieLayer::new(jar))
        .service(hyper(server));
    Tower { service, uploads: AsStream(uploads) }
}

/// reqwest with its own jar and its own retries, which it has since 0.13.
#[derive(Clone)]
pub(crate) struct Reqwest(reqwest::Client);

pub(crate) fn reqwest(server: SocketAddr) -> Reqwest {
    let retry = reqwest::retry::for_host(HOST).no_budget().max_retries_per_request(3).classify_fn(
        |answer| match answer.status() {
            Some(status) if status.is_server_error() => answer.retryable(),
            _ => answer.success(),
        },
    );
    Reqwest(reqwest_builder(server).retry(retry).build().expect("a client"))
}

fn reqwest_builder(server: SocketAddr) -> reqwest::ClientBuilder {
    let jar = reqwest::cookie::Jar::default();
    for cookie in COOKIES {
        jar.add_cookie_str(cookie, &Target::new("/").url);
    }
    reqwest::Client::builder()
        .no_proxy()
        .tcp_nodelay(true)
        .resolve(HOST, server)
        .cookie_provider(Arc::new(jar))
}

async fn read(response: reqwest::Response) -> Answered {
    let status = response.status().as_u16();
    Ok(Answer { status, body: response.bytes().await? })
}

impl Client for Reqwest {
    async fn get(&self, to: &Target) -> Answered {
        let request = self.0.get(to.url.clone()).header(header::ACCEPT, "application/json");
        read(request.send().await?).await
    }

    async fn upload(&self, to: &Target, chunks: usize) -> Answered {
        let chunks = stream::iter((0..chunks).map(|_| Ok::<_, io::Error>(chunk())));
        let body = reqwest::Body::wrap_stream(chunks);
        read(self.0.put(to.url.clone()).body(body).send().await?).await
    }
}

/// reqwest with its own jar, reqwest-middleware and reqwest-retry.
#[derive(Clone)]
pub(crate) struct Middleware(ClientWithMiddleware);

pub(crate) fn middleware(server: SocketAddr) -> Middleware {
    let backoff = ExponentialBackoff::builder()
        .retry_bounds(Duration::ZERO, Duration::ZERO)
        .build_with_max_retries(3);
    let client = reqwest_builder(server).build().expect("a client");
    let retry = RetryTransientMiddleware::new_with_policy(backoff);
    Middleware(ClientBuilder::new(client).with(retry).build())
}

impl Client for Middleware {
    async fn get(&self, to: &Target) -> Answered {
        let request = self.0.get(to.url.clone()).header(header::ACCEPT, "application/json");
        read(request.send().await?).await
    }

    /// It refuses a stream before anything is sent, so the body must be in memory.
    async fn upload(&self, to: &Target, chunks: usize) -> Answered {
        read(self.0.put(to.url.clone()).body(whole(chunks)).send().await?).await
    }
}
