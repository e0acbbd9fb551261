//! The server of the story: a login, a protected page, and two endpoints that fail.

use std::{
    convert::Infallible,
    io,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

const COOKIE: &str = "user_id=1; Max-Age=3600; Path=/; Domain=localhost; Secure; HttpOnly";

/// Serves until it is dropped.
pub(crate) struct Server {
    port: u16,
    counts: Arc<Counts>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicUsize,
    requests: AtomicUsize,
    flaky: AtomicUsize,
}

impl Server {
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (port, counts) = (listener.local_addr()?.port(), Arc::new(Counts::default()));
        let accepting = tokio::spawn(accept(listener, Arc::clone(&counts)));
        Ok(Self { port, counts, accepting })
    }

    /// The port on `localhost`.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn requests(&self) -> usize {
        self.counts.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, counts: Arc<Counts>) {
    while let Ok((stream, _)) = listener.accept().await {
        counts.connections.fetch_add(1, Ordering::Relaxed);
        // Otherwise a small last piece of an answer waits for an acknowledgement, 40 ms or more.
        let _ = stream.set_nodelay(true);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &counts));
            // An error here means that the client went away.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    counts: &Counts,
) -> Result<Response<Full<Bytes>>, Infallible> {
    counts.requests.fetch_add(1, Ordering::Relaxed);
    let cookies = cookies_of(&request);
    let response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    let (response, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, "/api/login") => {
            let form =
                request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
            let field = |name| {
                form_urlencoded::parse(&form).find(|(key, _)| key == name).map(|(_, value)| value)
            };
            if field("username").as_deref() == Some("some_name")
                && field("password").as_deref() == Some("pass")
            {
                (
                    response.header(header::SET_COOKIE, COOKIE),
                    json!({"message": "Login successful"}),
                )
            } else {
                (
                    response.status(StatusCode::UNAUTHORIZED),
                    json!({"message": "Invalid credentials"}),
                )
            }
        }
        (&Method::GET, "/protected")
            if cookies.iter().any(|(name, value)| name == "user_id" && value == "1") =>
        {
            (response, json!({"message": "You have access to this protected route"}))
        }
        (&Method::GET, "/protected") => {
            (response.status(StatusCode::UNAUTHORIZED), json!({"detail": "Unauthorized"}))
        }
        (&Method::GET, "/flaky") if counts.flaky.fetch_add(1, Ordering::Relaxed) < 2 => {
            (response.status(StatusCode::INTERNAL_SERVER_ERROR), json!({"detail": "not yet"}))
        }
        (&Method::GET, "/flaky") => (response, json!({"message": "third time lucky"})),
        (&Method::GET, "/down") => {
            (response.status(StatusCode::INTERNAL_SERVER_ERROR), json!({"detail": "down"}))
        }
        (&Method::GET, "/api/cookies") => {
            let response = cookies.iter().fold(response, |response, (name, value)| {
                response.header(header::SET_COOKIE, format!("{name}={value}; Path=/"))
            });
            let cookies: Map<_, _> =
                cookies.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
            (response, Value::from(cookies))
        }
        _ => (response.status(StatusCode::NOT_FOUND), json!({"detail": "Not Found"})),
    };
    // This cannot fail: every header value is a constant or part of a header that was received.
    Ok(response.body(Full::from(body.to_string())).unwrap_or_default())
}

fn cookies_of(request: &Request<Incoming>) -> Vec<(String, String)> {
    let lines =
        request.headers().get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs =
        lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}
