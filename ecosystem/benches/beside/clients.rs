//! The clients, each built as its users do.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request, Response, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::{RetryTransientMiddleware, policies::ExponentialBackoff};
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};
use tower_outbound::{
    cookie::CookieLayer,
    retry::{Backoff, ReplayBodyLayer, RetryLayer, RetryPolicy},
};
use url::Url;

use super::stack::{self, Body, COOKIES, HOST, ThreeTimes, WithStore, hyper_client as hyper};

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

    /// The same, and nothing but the client's own future.
    fn send(&self, to: &Target) -> impl Future<Output: Send> + Send + 'static;

    /// A PUT of this many chunks, streamed if the client can.
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

/// A client made of tower's services: one for held bodies, one for uploads.
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
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    async fn put(&self, to: &Uri, chunks: usize) -> Answered {
        answered(&self.0, Request::put(to.clone()).body(Full::new(whole(chunks)))?).await
    }
}

/// The request that is counted.
pub(crate) fn get(uri: &Uri) -> Request<Body> {
    Request::get(uri.clone())
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .body(Body::default())
        .expect("a request")
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
    S: Service<Request<Body>, Response = Response<Incoming>> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + Send,
    S::Future: Send + 'static,
    U: Uploads,
{
    async fn get(&self, to: &Target) -> Answered {
        answered(&self.service, get(&to.uri)).await
    }

    fn send(&self, to: &Target) -> impl Future<Output: Send> + Send + 'static {
        let (mut service, mut context) = (self.service.clone(), Context::from_waker(Waker::noop()));
        assert!(service.poll_ready(&mut context).is_ready(), "it has no limit");
        service.call(get(&to.uri))
    }

    fn upload(&self, to: &Target, chunks: usize) -> impl Future<Output = Answered> + Send {
        self.uploads.put(&to.uri, chunks)
    }
}

pub(crate) fn bare(server: SocketAddr) -> impl Client {
    Tower { service: hyper::<Body>(server), uploads: AsStream(hyper(server)) }
}

pub(crate) fn tower_retry(server: SocketAddr) -> impl Client {
    let service = tower::retry::Retry::new(ThreeTimes::new(None), hyper::<Body>(server));
    Tower { uploads: AsBytes(service.clone()), service }
}

pub(crate) fn tower_retry_and_cookies(server: SocketAddr) -> impl Client {
    let cookies = WithStore::new(hyper::<Body>(server));
    let service = tower::retry::Retry::new(ThreeTimes::new(None), cookies);
    Tower { uploads: AsBytes(service.clone()), service }
}

/// Retries without a delay, as the others here have them. With a budget, two retries of each
/// request would be refused.
pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy::new().backoff(Backoff::none()).no_budget()
}

pub(crate) fn ours(server: SocketAddr) -> impl Client {
    let origin = format!("http://{server}");
    let jar = stack::jar(&origin);
    let uploads = ServiceBuilder::new()
        .layer(ReplayBodyLayer::new())
        .layer(RetryLayer::new(policy()))
        .layer(CookieLayer::new(jar.clone()))
        .service(hyper(server));
    let service = stack::stack(hyper::<Body>(server), jar, &origin, policy());
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

    fn send(&self, to: &Target) -> impl Future<Output: Send> + Send + 'static {
        self.0.get(to.url.clone()).header(header::ACCEPT, "application/json").send()
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
    let client = reqwest_builder(server).build().expect("a client");
    Middleware(ClientBuilder::new(client).with(transient()).build())
}

pub(crate) fn transient() -> RetryTransientMiddleware<ExponentialBackoff> {
    let backoff = ExponentialBackoff::builder()
        .retry_bounds(Duration::ZERO, Duration::ZERO)
        .build_with_max_retries(3);
    RetryTransientMiddleware::new_with_policy(backoff)
}

impl Client for Middleware {
    async fn get(&self, to: &Target) -> Answered {
        let request = self.0.get(to.url.clone()).header(header::ACCEPT, "application/json");
        read(request.send().await?).await
    }

    fn send(&self, to: &Target) -> impl Future<Output: Send> + Send + 'static {
        self.0.get(to.url.clone()).header(header::ACCEPT, "application/json").send()
    }

    /// It refuses a stream before anything is sent, so that a body must be held.
    async fn upload(&self, to: &Target, chunks: usize) -> Answered {
        read(self.0.put(to.url.clone()).body(whole(chunks)).send().await?).await
    }
}
