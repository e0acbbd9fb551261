//! The client side: a pool for each core, a jar for each request, and for each mount its upstream,
//! retries and counters.

use std::{
    error::Error,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http::{Request, Response, StatusCode, header::HOST};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower::{BoxError, Layer, Service, ServiceBuilder, layer::layer_fn, timeout::error::Elapsed};
use tower_outbound::{
    CookieLayer, RetryLayer,
    cookie::{CookieService, PerRequest},
    retry::{Failure, ReplayBody, RetryError, RetryHistory, RetryPolicy, StopReason},
    routing::{MountChanges, MountPrefix, RoutingHandle, RoutingLayer, RoutingService},
};

use crate::{
    body::{Client, Upload},
    headers,
    locations::make_public,
    metrics::{Counters, Metrics},
    sessions::{self, Sessions},
    table::{Mount, Table, Upstream},
};

/// How much of an answer is read at a time, in bytes. Its head must fit. While a client reads
/// nothing, two such pieces are in memory; with hyper's own buffers that is 64 KiB.
const PIECE: usize = 14 * 1024;

/// A client's body. It is kept while it is sent, so that it can be sent again.
type Sent = ReplayBody<Upload>;
type Answer = Response<Incoming>;
type Shared = sessions::Shared<CookieService<Pool, PerRequest>>;
pub(crate) type Routes = RoutingService<Shared, Sent, Incoming>;

thread_local! {
    /// hyper-util's client, with a pool for this core, so that no request wakes another core.
    static POOL: legacy::Client<HttpConnector, Sent> = {
        let mut connector = HttpConnector::new();
        // Otherwise the last piece of an upload waits for the upstream's delayed ACK, 40 ms or
        // more.
        connector.set_nodelay(true);
        let mut client = legacy::Client::builder(TokioExecutor::new());
        client.pool_timer(TokioTimer::new()).http1_read_buf_exact_size(PIECE);
        client.build(connector)
    };
}

/// The client of the calling core.
#[derive(Clone, Copy)]
pub(crate) struct Pool;

impl Service<Request<Sent>> for Pool {
    type Response = Answer;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        Answering(POOL.with(|client| client.request(request)))
    }
}

/// Boxes the error, as the layers above do.
pub(crate) struct Answering(legacy::ResponseFuture);

impl Future for Answering {
    type Output = Result<Answer, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(BoxError::from)
    }
}

/// A table without mounts. A request without a mount is refused, and so is one with dot segments,
/// because upstreams read these in different ways.
pub(crate) fn routes(sessions: Option<&Sessions>) -> Result<Routes, BoxError> {
    let shared = sessions::over(CookieLayer::per_request().layer(Pool), sessions);
    Ok(RoutingLayer::builder().strict().reject_dot_segments().build()?.layer(shared))
}

/// Replaces the mounts by those of a table, in one step. Mounts whose text did not change keep
/// their budget.
pub(crate) fn replace(
    handle: &RoutingHandle<Shared, Sent, Incoming>,
    table: &Table,
    metrics: &Metrics,
) -> Result<(), BoxError> {
    handle.replace(|mounts| {
        table.mounts.iter().fold(mounts, |mounts, (prefix, mount)| {
            let retry = mount.retry.clone();
            let retry = match table.sessions {
                Some(_) => sessions::not_retried(retry),
                None => retry,
            };
            add(mounts, prefix, mount, retry, metrics.of(prefix.as_str()))
        })
    })?;
    Ok(())
}

/// One mount. Its requests share it.
struct Served {
    prefix: MountPrefix,
    upstream: Upstream,
    counters: Arc<Counters>,
}

fn add(
    mounts: MountChanges<Shared, Sent, Incoming>,
    prefix: &MountPrefix,
    mount: &Mount,
    retry: RetryPolicy,
    counters: Arc<Counters>,
) -> MountChanges<Shared, Sent, Incoming> {
    let upstream = mount.upstream.clone();
    let served = Arc::new(Served { prefix: prefix.clone(), upstream, counters });
    let (of_requests, of_answers, of_attempts) = (Arc::clone(&served), Arc::clone(&served), served);
    let layer = ServiceBuilder::new()
        .map_request(move |request| of_requests.there(request))
        .map_future(move |answer| {
            let (served, start) = (Arc::clone(&of_answers), Instant::now());
            async move {
                let result = answer.await;
                served.counters.seconds.add(start.elapsed());
                served.back(result)
            }
        })
        .layer(RetryLayer::new(retry))
        .layer(layer_fn(move |inner| Attempts { inner, served: Arc::clone(&of_attempts) }))
        .into_inner();
    mounts.mount_keyed(prefix.clone(), mount.written.as_str(), layer)
}

/// Counts the requests that are sent to the upstream, including retries.
#[derive(Clone)]
struct Attempts<S> {
    inner: S,
    served: Arc<Served>,
}

impl<S: Service<Request<Sent>>> Service<Request<Sent>> for Attempts<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Sent>) -> S::Future {
        self.served.counters.attempts.add();
        if let Some(client) = request.extensions().get::<Client>() {
            client.begin();
        }
        self.inner.call(request)
    }
}

impl Served {
    fn there(&self, mut request: Request<Sent>) -> Request<Sent> {
        self.counters.requests.add();
        *request.uri_mut() = self.upstream.uri(std::mem::take(request.uri_mut()));
        request.headers_mut().insert(HOST, self.upstream.host().clone());
        request
    }

    fn back(&self, result: Result<Answer, BoxError>) -> Result<Answer, BoxError> {
        if refused_by_budget(&result) {
            self.counters.refused.add();
        }
        let fit = result.and_then(|mut answer| {
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err("it switched protocols without being asked".into());
            }
            if headers::take_from_answer(answer.headers_mut())? {
                make_public(answer.headers_mut(), &self.upstream);
            }
            Ok(answer)
        });
        fit.map_err(|error| match sessions::refusal(&*error) {
            // This is not a failure of the upstream.
            Some(_) => error,
            None => Failed { mount: self.prefix.clone(), error }.into(),
        })
    }
}

fn refused_by_budget(result: &Result<Answer, BoxError>) -> bool {
    let history = match result {
        Ok(answer) => answer.extensions().get::<RetryHistory>(),
        Err(error) => error.downcast_ref().map(RetryError::history),
    };
    history.is_some_and(|history| history.stop_reason() == StopReason::Budget)
}

/// An upstream did not answer. `Display` is for clients, so it names the mount but no address.
#[derive(Debug)]
pub(crate) struct Failed {
    mount: MountPrefix,
    error: BoxError,
}

impl Failed {
    /// Whether the time was up.
    pub(crate) fn is_late(&self) -> bool {
        match self.error.downcast_ref().map(RetryError::history) {
            Some(history) => {
                history.attempts().last().is_some_and(|last| last.failure == Some(Failure::Timeout))
            }
            None => self.error.is::<Elapsed>(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream of {} did not answer: ", self.mount)?;
        match self.error.downcast_ref::<RetryError>() {
            Some(retries) => match retries.source() {
                Some(error) => write!(f, "{retries}: {}", root(error)),
                None => write!(f, "{retries}"),
            },
            None => f.write_str(&root(&*self.error)),
        }
    }
}

impl Error for Failed {}

/// The innermost error. An `io::Error` does not return the error inside it as its source.
fn root(error: &(dyn Error + 'static)) -> String {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .map(|inner| inner as &(dyn Error + 'static));
    inner.or_else(|| error.source()).map_or_else(|| error.to_string(), root)
}
