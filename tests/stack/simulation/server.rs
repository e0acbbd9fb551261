//! Servers made with hyper. A seed decides whether they answer well or badly.

use std::{
    cell::RefCell, convert::Infallible, future::Future, net::Ipv4Addr, pin::pin, sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Channel, Full, channel::Sender, combinators::BoxBody};
use hyper::{
    body::Incoming,
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulConnection,
};
use tokio::{
    task::spawn_local,
    time::{sleep, timeout},
};
use tower::BoxError;
use turmoil::net::TcpListener;

use super::{
    ledger::{HOSTS, Ledger},
    story::{PORT, Story},
};

type Body = BoxBody<Bytes, BoxError>;

/// The content of a body, which both sides can compute.
pub(crate) fn content(id: usize, length: usize) -> Bytes {
    (0..length).map(|at| (at / 7 + 31 * id) as u8).collect()
}

/// A number that is a header of a message.
pub(crate) fn number(headers: &HeaderMap, name: &str) -> Option<usize> {
    headers.get(name)?.to_str().ok()?.parse().ok()
}

fn millis(random: &mut fastrand::Rng, most: u64) -> Duration {
    Duration::from_millis(random.u64(..most))
}

/// Listens until the host crashes.
pub(crate) async fn serve(
    host: usize,
    story: Story,
    ledger: Arc<Ledger>,
    seed: u64,
) -> turmoil::Result {
    let mut random = fastrand::Rng::with_seed(seed);
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let fate = random.u8(..20);
        if fate == 0 {
            continue;
        }
        let life = (fate < 8).then(|| millis(&mut random, 400));
        let gently = random.bool();
        let randoms = RefCell::new(random.fork());
        let ledger = Arc::clone(&ledger);
        let service = service_fn(move |request| {
            answer(host, request, Arc::clone(&ledger), randoms.borrow_mut().fork())
        });
        let stream = TokioIo::new(stream);
        if story.http2 {
            let mut builder = http2::Builder::new(Local);
            builder.timer(TokioTimer::new()).auto_date_header(false);
            spawn_local(live(builder.serve_connection(stream, service), life, gently));
        } else {
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).auto_date_header(false);
            spawn_local(live(builder.serve_connection(stream, service), life, gently));
        }
    }
}

/// In a crash the tasks of a host end in the order of their start. Other tokio tasks end in the
/// order of their numbers, which all simulations of a process share.
#[derive(Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// Serves a connection until its end, which may be early.
async fn live(connection: impl GracefulConnection, life: Option<Duration>, gently: bool) {
    let mut connection = pin!(connection);
    // The client reports how it ends.
    let Some(life) = life else { return drop(connection.await) };
    if timeout(life, &mut connection).await.is_err() && gently {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// One request, from the moment when it counts as processed.
async fn answer(
    host: usize,
    request: Request<Incoming>,
    ledger: Arc<Ledger>,
    mut random: fastrand::Rng,
) -> Result<Response<Body>, BoxError> {
    let (head, upload) = request.into_parts();
    let id = number(&head.headers, "x-id").ok_or("no id")?;
    let attempt = number(&head.headers, "x-attempt").unwrap_or(1);
    let cookies =
        head.headers.get(header::COOKIE).map_or("", |value| value.to_str().unwrap_or("?"));
    ledger.process(host, id, attempt, cookies);
    // Some are answered before their upload has arrived.
    if random.u8(..10) > 0 {
        let upload = upload.collect().await?.to_bytes();
        if number(&head.headers, "x-length").is_none_or(|length| upload != content(id, length)) {
            ledger.wrong(format!(
                "#{id}.{attempt}: an upload of {} bytes is not what was sent",
                upload.len()
            ));
        }
    }
    match random.u8(..20) {
        0..=6 => sleep(millis(&mut random, 60)).await,
        7..=9 => sleep(millis(&mut random, 500)).await,
        _ => {}
    }
    let mut response = Response::builder().header("x-id", id).header("x-attempt", attempt);
    for _ in 0..random.u8(..4) {
        response = response.header(header::SET_COOKIE, set_cookie(host, &ledger, &mut random));
    }
    match random.u8(..20) {
        // No answer, although the request is processed.
        0 | 1 => return Err("broken off".into()),
        2..=5 => response = response.status(StatusCode::SERVICE_UNAVAILABLE),
        6 => {
            response =
                response.status(StatusCode::SERVICE_UNAVAILABLE).header(header::RETRY_AFTER, "1");
        }
        7 if head.version < http::Version::HTTP_2 => {
            response = response.header(header::CONNECTION, "close");
        }
        _ => {}
    }
    let length = if random.u8(..8) == 0 { random.usize(..60_000) } else { random.usize(..300) };
    let body = content(id, length);
    let body = if random.bool() {
        Full::new(body).map_err(|never: Infallible| match never {}).boxed()
    } else {
        let (sender, channel) = Channel::new(1);
        spawn_local(stream(sender, body, random));
        channel.boxed()
    };
    Ok(response.header("x-length", length).body(body)?)
}

/// A body in parts, with pauses; some break off.
async fn stream(mut sender: Sender<Bytes, BoxError>, body: Bytes, mut random: fastrand::Rng) {
    let breaks = random.u8(..6) == 0;
    let parts = random.usize(1..5);
    let size = body.len().div_ceil(parts).max(1);
    for (number, at) in (0..body.len()).step_by(size).enumerate() {
        if breaks && number + 1 == parts {
            return sender.abort("broken off".into());
        }
        sleep(millis(&mut random, 20)).await;
        if sender.send_data(body.slice(at..body.len().min(at + size))).await.is_err() {
            return;
        }
    }
}

/// Cookies that a server may set, that it may not set, and that it deletes.
fn set_cookie(host: usize, ledger: &Ledger, random: &mut fastrand::Rng) -> String {
    let (name, value) = (HOSTS[host], ledger.value());
    match random.u8(..12) {
        0..=2 => format!("sid={name}-{value}; Path=/"),
        3 => "sid=; Path=/; Max-Age=0".to_owned(),
        // For the whole site, or only for this host.
        4 | 5 => format!(
            "site={name}-{value}; Domain={}; Path=/",
            name.strip_prefix("sub.").unwrap_or(name)
        ),
        6 => format!("site={name}-{value}; Domain={name}; Path=/"),
        7 => format!("short={name}-{value}; Path=/; Max-Age=1"),
        8 => format!("page={name}-{value}; Path=/page"),
        // Replaces nothing over plain HTTP.
        9 => format!("sid={name}-{value}; Path=/; Secure"),
        // For a sister site, and for all sites.
        10 => format!(
            "evil={name}-{value}; Domain={}; Path=/",
            if host == 2 { "a.test" } else { "b.test" }
        ),
        _ => format!("evil={name}-{value}; Domain=test; Path=/"),
    }
}
