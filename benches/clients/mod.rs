//! The whole stack around a client, and what one builds from tower's own retry and the cookie_store
//! crate. Every bench that compares the two has them from here.

use std::{
    future::{Future, Ready, ready},
    io, iter,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use cookie_store::{CookieStore, RawCookie};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::Full;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use tower::{Layer, Service, retry::budget::TpsBudget};
use tower_outbound::{
    cookie::{CookieJar, CookieLayer, CookieLimits, CookieService},
    retry::{RetryLayer, RetryPolicy},
    routing::{MountService, RoutingLayer, RoutingService},
};
use url::Url;

pub(crate) type Body = Full<Bytes>;

/// One of the hosts whose cookies the jar holds, and which has a mount.
pub(crate) const HOST: &str = "api.example-42.com";
pub(crate) const COOKIES: [&str; 5] = [
    "sessionid=7f3a9c51e0b24d68",
    "csrftoken=Qm9yZWRvbTIwMjY",
    "theme=dark",
    "locale=en-GB",
    "consent=yes",
];
const HOSTS: usize = 10_000;
const MOUNTS: usize = 100;

// The hyper client.

/// Every name is the server's, and its port too where none is written.
#[derive(Clone)]
pub(crate) struct Names(SocketAddr);

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

pub(crate) fn connector(server: SocketAddr) -> HttpConnector<Names> {
    let mut connector = HttpConnector::new_with_resolver(Names(server));
    connector.set_nodelay(true);
    connector
}

pub(crate) fn hyper_client<B>(server: SocketAddr) -> Client<HttpConnector<Names>, B>
where
    B: http_body::Body + Send,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).build(connector(server))
}

// Ours.

/// Five cookies of each of 10,000 hosts, the last of which is `origin`.
pub(crate) fn jar(origin: &str) -> CookieJar {
    let limits = CookieLimits { total: 100_000, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let names = (0..HOSTS - 1).map(|host| format!("http://api.example-{host}.com"));
    for origin in names.chain([origin.to_owned()]) {
        let uri: Uri = origin.parse().expect("a URI");
        for cookie in COOKIES {
            jar.set(&uri, cookie).expect("a cookie");
        }
    }
    assert_eq!(jar.len(), HOSTS * COOKIES.len(), "every cookie is stored");
    jar
}

/// 100 mounts, the last of which is `origin`. All have its scheme, that policy, and the jar below.
pub(crate) fn stack<S, RB>(
    client: S,
    jar: CookieJar,
    origin: &str,
    policy: RetryPolicy,
) -> RoutingService<CookieService<S>, Body, RB>
where
    S: Clone,
    RetryLayer: Layer<CookieService<S>, Service: MountService<Body, RB>>,
    RB: 'static,
{
    let (scheme, _) = origin.split_once("://").expect("an origin");
    let retry = RetryLayer::new(policy);
    let mut mounts = RoutingLayer::builder();
    let names = (0..MOUNTS - 1).map(|host| format!("{scheme}://api.example-{host}.com"));
    for prefix in names.chain([origin.to_owned()]) {
        mounts = mounts.mount(prefix, retry.clone());
    }
    mounts.build().expect("mounts").layer(CookieLayer::new(jar).layer(client))
}

// What one writes without this crate.

/// Three retries of a 5xx for tower's runner. It clones the request, so that a body must be held.
#[derive(Clone)]
pub(crate) struct ThreeTimes {
    left: u32,
    budget: Option<Arc<TpsBudget>>,
}

impl ThreeTimes {
    pub(crate) fn new(budget: Option<TpsBudget>) -> Self {
        Self { left: 3, budget: budget.map(Arc::new) }
    }
}

impl<B: Clone, R, E> tower::retry::Policy<Request<B>, Response<R>, E> for ThreeTimes {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<B>,
        result: &mut Result<Response<R>, E>,
    ) -> Option<Self::Future> {
        use tower::retry::budget::Budget;
        if result.as_ref().is_ok_and(|response| !response.status().is_server_error()) {
            if let Some(budget) = &self.budget {
                budget.deposit();
            }
            return None;
        }
        self.left = self.left.checked_sub(1)?;
        self.budget.as_ref().is_none_or(|budget| budget.withdraw()).then(|| ready(()))
    }

    fn clone_request(&mut self, request: &Request<B>) -> Option<Request<B>> {
        Some(request.clone())
    }
}

/// A client with a store of five cookies around it.
#[derive(Clone)]
pub(crate) struct WithStore<S> {
    client: S,
    store: Arc<Mutex<CookieStore>>,
}

impl<S> WithStore<S> {
    pub(crate) fn new(client: S) -> Self {
        let mut store = CookieStore::default();
        let url = Url::parse(&format!("http://{HOST}/")).expect("a URL");
        for cookie in COOKIES {
            store.parse(cookie, &url).expect("a cookie");
        }
        Self { client, store: Arc::new(Mutex::new(store)) }
    }
}

impl<S, B, R> Service<Request<B>> for WithStore<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let url = Url::parse(&request.uri().to_string()).expect("a URL");
        let pairs: Vec<String> = {
            let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
            store.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect()
        };
        let value = HeaderValue::try_from(pairs.join("; ")).expect("a header");
        request.headers_mut().insert(header::COOKIE, value);
        let (call, store) = (self.client.call(request), Arc::clone(&self.store));
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
