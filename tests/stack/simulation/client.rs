//! The README's stack over a simulated network, and callers who use it.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::{
    client::legacy::{
        Client, Error,
        connect::{Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::time::{sleep, timeout};
use tower::{
    BoxError, Layer, Service, ServiceExt, layer::layer_fn, retry::budget::TpsBudget,
    util::BoxCloneService,
};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, Failure, RetryError, RetryHistory, RetryPolicy},
    routing::Mount,
};
use turmoil::net::TcpStream;

use super::{
    ledger::{End, HOSTS, Ledger, MOUNTED, Outcome, Rules},
    server::{content, number},
    story::{PORT, Story},
};

type Body = Full<Bytes>;
type Stack = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

const CALLERS: u64 = 3;
const REQUESTS: usize = 20;

/// How much later than its deadline a request may end, because the timer rounds up.
const SLACK: Duration = Duration::from_millis(2);

/// A time after which no message is in flight.
const QUIET: Duration = Duration::from_millis(400);

/// Everything that the client's host does.
pub(crate) async fn run(story: Story, rules: Vec<Rules>, ledger: Arc<Ledger>) -> turmoil::Result {
    let stack = stack(story, &rules, &ledger);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let random = fastrand::Rng::with_seed(story.seed ^ ((caller + 1) << 32));
            tokio::task::spawn_local(call(
                stack.clone(),
                rules.clone(),
                Arc::clone(&ledger),
                random,
            ))
        })
        .collect();
    for caller in callers {
        caller.await?;
    }
    ledger.finish();
    sleep(QUIET).await;
    Ok(())
}

fn clock() -> SystemTime {
    UNIX_EPOCH + turmoil::since_epoch().unwrap_or_default()
}

fn stack(story: Story, rules: &[Rules], ledger: &Arc<Ledger>) -> Stack {
    let mut random = fastrand::Rng::with_seed(story.seed);
    let mut client = Client::builder(TokioExecutor::new());
    client.pool_timer(TokioTimer::new()).timer(TokioTimer::new()).http2_only(story.http2);
    client.pool_idle_timeout(Duration::from_millis(random.u64(20..500)));
    // If the client does not repeat what it never wrote, the retries do.
    client.retry_canceled_requests(random.bool());
    // Otherwise an HTTP/2 connection that is shared stays dead for all.
    client
        .http2_keep_alive_interval(Duration::from_millis(100))
        .http2_keep_alive_timeout(Duration::from_millis(100));
    client.http2_keep_alive_while_idle(true);
    let client = client.build(tower::service_fn(connect));

    let mut routes = RoutingLayer::builder();
    for (host, rules) in HOSTS.iter().zip(rules) {
        let mut policy = RetryPolicy::new()
            .total(rules.total)
            .deadline(rules.deadline)
            .attempt_header(http::HeaderName::from_static("x-attempt"))
            .raise_on_status(random.bool())
            .backoff(match random.u8(..4) {
                0 => Backoff::none(),
                1 => Backoff::urllib3(Duration::from_millis(10)),
                _ => Backoff::exponential(Duration::from_millis(20)),
            });
        if let Some(time) = rules.attempt_timeout {
            policy = policy.attempt_timeout(time);
        }
        policy = match rules.requests_per_retry {
            None => policy.no_budget(),
            Some(requests) => {
                policy.budget(TpsBudget::new(Duration::from_secs(60), 0, 1.0 / requests as f32))
            }
        };
        routes = routes.mount(format!("http://{host}"), RetryLayer::new(policy));
    }
    let ledger = Arc::clone(ledger);
    let between = layer_fn(move |inner| Between { inner, ledger: Arc::clone(&ledger) });
    let cookies = CookieLayer::new(CookieJar::builder().clock(clock).build());
    BoxCloneService::new(routes.build().unwrap().layer(between.layer(cookies.layer(client))))
}

/// Sees every attempt as the retries make it, before the cookies do.
#[derive(Clone)]
struct Between<S> {
    inner: S,
    ledger: Arc<Ledger>,
}

impl<S> Service<Request<Body>> for Between<S>
where
    S: Service<Request<Body>, Response = Response<Incoming>, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let id = number(request.headers(), "x-id").unwrap();
        let attempt = number(request.headers(), "x-attempt").unwrap_or(1);
        self.ledger.begin(id, attempt, request.uri().path());
        let open = Open { ledger: Arc::clone(&self.ledger), id, attempt, end: Some(End::Dropped) };
        let response = self.inner.call(request);
        Box::pin(async move {
            let outcome = response.await;
            open.close(&outcome);
            outcome
        })
    }
}

/// An attempt in flight. If it is dropped, that is also recorded as an end.
struct Open {
    ledger: Arc<Ledger>,
    id: usize,
    attempt: usize,
    end: Option<End>,
}

impl Open {
    fn close(mut self, outcome: &Result<Response<Incoming>, Error>) {
        self.end = match outcome {
            Ok(response) => {
                self.ledger.receive(self.id, self.attempt, response.status(), response.headers());
                None
            }
            Err(error) => Some(End::Error(causes(error))),
        };
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            self.ledger.end(self.id, self.attempt, end);
        }
    }
}

/// The texts of an error and of its sources.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// One caller, a request after the other.
async fn call(stack: Stack, rules: Vec<Rules>, ledger: Arc<Ledger>, mut random: fastrand::Rng) {
    for _ in 0..REQUESTS {
        if random.u8(..3) > 0 {
            sleep(Duration::from_millis(random.u64(..60))).await;
        }
        let host = if random.u8(..10) == 0 { MOUNTED } else { random.usize(..MOUNTED) };
        let method = random.choice([Method::GET, Method::PUT, Method::POST, Method::POST]).unwrap();
        let keyed = method == Method::POST && random.u8(..4) == 0;
        let path = random.choice(["/", "/page/1", "/pages"]).unwrap();
        let length = match random.u8(..10) {
            _ if method == Method::GET => 0,
            0 => random.usize(..100_000),
            _ => random.usize(..200),
        };
        // Without a mount the caller's own limit is the only one.
        let limit = rules.get(host).map(|rules| rules.deadline);
        let patience = limit
            .is_none()
            .then_some(400)
            .or_else(|| (random.u8(..12) == 0).then(|| random.u64(1..100)));
        let patience = patience.map(Duration::from_millis);

        let id = ledger.ask(host, &method, keyed, path);
        let mut request =
            Request::builder().method(&method).uri(format!("http://{}{path}", HOSTS[host]));
        request = request.header("x-id", id).header("x-length", length);
        if keyed {
            request = request.header("idempotency-key", id);
        }
        let request = request.body(Full::new(content(id, length))).unwrap();
        let most = limit.map(|limit| limit + SLACK).into_iter().chain(patience).min().unwrap();
        let Ok(outcome) = timeout(most, stack.clone().oneshot(request)).await else {
            if Some(most) != patience {
                ledger.wrong(format!("#{id}: still under way after its deadline of {limit:?}"));
            }
            ledger.close(id, &Outcome::GivenUp);
            continue;
        };
        check_history(id, &method, keyed, &outcome, &ledger);
        match outcome {
            Err(error) => {
                ledger.note(&format!("#{id}: {}", causes(&*error)));
                let attempts = error
                    .downcast_ref::<RetryError>()
                    .map(|error| error.history().attempts().len());
                ledger.close(id, &Outcome::Error(attempts));
            }
            Ok(response) => {
                let history = response.extensions().get::<RetryHistory>();
                let attempts = history.map_or(1, |history| history.attempts().len());
                ledger.close(id, &Outcome::Response(response.status(), attempts));
                check_response(id, attempts, host, response, &ledger).await;
            }
        }
    }
}

/// Checks the attempts: a POST is repeated only if it was not sent.
fn check_history(
    id: usize,
    method: &Method,
    keyed: bool,
    outcome: &Result<Response<Incoming>, BoxError>,
    ledger: &Ledger,
) {
    let history = match outcome {
        Ok(response) => response.extensions().get(),
        Err(error) => error.downcast_ref::<RetryError>().map(RetryError::history),
    };
    for attempt in history.map_or(&[][..], RetryHistory::attempts) {
        let never_sent = matches!(attempt.failure, Some(Failure::Connect | Failure::Unsent));
        if attempt.delay.is_some() && method == Method::POST && !keyed && !never_sent {
            ledger.wrong(format!("#{id}: a POST is repeated after {:?}", attempt.failure));
        }
        match attempt.failure {
            Some(Failure::Connect) => ledger.meet("failure to connect"),
            Some(Failure::Unsent) => ledger.meet("failure to send"),
            Some(Failure::Read) => ledger.meet("failure to read"),
            Some(Failure::Timeout) => ledger.meet("attempt out of time"),
            _ => {}
        }
    }
}

/// Checks a response: it is that of the request's last attempt, and its body is whole or an error.
async fn check_response(
    id: usize,
    attempts: usize,
    host: usize,
    response: Response<Incoming>,
    ledger: &Ledger,
) {
    let mount =
        response.extensions().get().map(|Mount(mount)| mount.strip_prefix("http://").unwrap());
    if mount != HOSTS[..MOUNTED].get(host).copied() {
        ledger.wrong(format!("#{id} to {} went by {mount:?}", HOSTS[host]));
    }
    let told = (number(response.headers(), "x-id"), number(response.headers(), "x-attempt"));
    if told != (Some(id), Some(attempts)) {
        ledger.wrong(format!("#{id}.{attempts}: the response is to {told:?}"));
    }
    let length = number(response.headers(), "x-length").unwrap();
    // The caller limits the time of a body.
    match timeout(Duration::from_millis(500), response.into_body().collect()).await {
        Err(_) => ledger.meet("body out of time"),
        Ok(Err(error)) => {
            ledger.note(&format!("#{id}: its body: {}", causes(&error)));
            ledger.meet("body that breaks");
        }
        Ok(Ok(body)) => match body.to_bytes() == content(id, length) {
            true => ledger.meet("body that is whole"),
            false => ledger.wrong(format!("#{id}: a body that is not what was sent")),
        },
    }
}

fn connect(uri: Uri) -> Pin<Box<dyn Future<Output = io::Result<Wire>> + Send>> {
    Box::pin(async move {
        let stream = TcpStream::connect((uri.host().unwrap_or_default(), PORT)).await?;
        Ok(Wire(TokioIo::new(stream)))
    })
}

/// A simulated connection for hyper's client.
struct Wire(TokioIo<TcpStream>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl Write for Wire {
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
