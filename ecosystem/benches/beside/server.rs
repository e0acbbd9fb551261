//! The server, in another process, so that the client's figures do not include it.

use std::{
    collections::HashMap,
    convert::Infallible,
    env,
    future::pending,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::watch, time::Sleep};

pub(crate) const JSON: &[u8] = br#"{"id":42,"ok":true}."#;
/// How late the last bytes of a late body are.
const LATE: Duration = Duration::from_millis(2);

/// Prints its address, and serves until the process is killed.
pub(crate) fn serve() {
    let shared = Arc::new(Shared::default());
    super::runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            stream.set_nodelay(true).expect("an option");
            shared.connections.fetch_add(1, Relaxed);
            let shared = Arc::clone(&shared);
            let service = service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            // The client returns a flood of cookies in one header.
            http.max_buf_size(64 << 20);
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    });
}

#[derive(Default)]
struct Shared {
    connections: AtomicU64,
    /// How often each flaky path was asked for.
    asked: Mutex<HashMap<String, u32>>,
    /// How many requests wait for an answer that never comes.
    held: watch::Sender<usize>,
}

/// One of those, until its client gives up.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<_> = path.split('/').skip(1).collect();
        match parts[..] {
            ["flaky", size, ..] => {
                let asked = {
                    let mut asked = self.asked.lock().expect("no panic");
                    let asked = asked.entry(path.clone()).or_default();
                    *asked += 1;
                    *asked
                };
                if asked > 2 {
                    return json();
                }
                let mut failed = Response::new(match size.strip_suffix("-late") {
                    Some(size) => Body::late(size.parse().expect("a size")),
                    None => Body::of(vec![b'x'; size.parse().expect("a size")]),
                });
                *failed.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                failed
            }
            ["flood", nth] => {
                let mut flood = json();
                for cookie in 0..50 {
                    let line = format!("flood-{nth}-{cookie}={:080}; Path=/", 0);
                    let line = HeaderValue::try_from(line).expect("a header");
                    flood.headers_mut().append(header::SET_COOKIE, line);
                }
                flood
            }
            // The cookies of the request.
            ["cookies"] => {
                let lines = request.headers().get_all(header::COOKIE);
                let bytes: usize = lines.iter().map(HeaderValue::len).sum();
                Response::new(Body::of(bytes.to_string()))
            }
            ["upload"] => {
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                Response::new(Body::of(bytes.to_string()))
            }
            ["held"] => {
                let _held = Held::new(&self.held);
                pending().await
            }
            // Answered when this many are held.
            ["holds", count] => {
                let count: usize = count.parse().expect("a count");
                let mut held = self.held.subscribe();
                held.wait_for(|held| *held == count).await.expect("it lives as long as this");
                json()
            }
            ["connections"] => Response::new(Body::of(self.connections.load(Relaxed).to_string())),
            _ => json(),
        }
    }
}

fn json() -> Response<Body> {
    let mut json = Response::new(Body::of(JSON));
    json.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    json
}

/// Sends all bytes at once, or the last ones later.
struct Body {
    first: Full<Bytes>,
    late: Option<(Bytes, Pin<Box<Sleep>>)>,
}

impl Body {
    fn of(bytes: impl Into<Bytes>) -> Self {
        Self { first: Full::new(bytes.into()), late: None }
    }

    fn late(size: usize) -> Self {
        let tail = Bytes::from(vec![b'x'; 100]);
        let late = Some((tail, Box::pin(tokio::time::sleep(LATE))));
        Self { late, ..Self::of(vec![b'x'; size - 100]) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(Some(first)) = Pin::new(&mut self.first).poll_frame(cx) {
            return Poll::Ready(Some(first));
        }
        let Some((_, sleep)) = &mut self.late else { return Poll::Ready(None) };
        match sleep.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(self.late.take().map(|(tail, _)| Ok(Frame::data(tail)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_end_stream() && self.late.is_none()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        let tail = self.late.as_ref().map_or(0, |(tail, _)| tail.len() as u64);
        let first = self.first.size_hint().exact().unwrap_or(0);
        http_body::SizeHint::with_exact(first + tail)
    }
}

/// The server's process. It ends when this value is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    asked: AtomicU64,
}

impl Server {
    pub(crate) fn start() -> Self {
        let program = env::current_exe().expect("this program");
        let mut child =
            Command::new(program).arg("serve").stdout(Stdio::piped()).spawn().expect("a server");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output"))
            .read_line(&mut line)
            .expect("its address");
        let address = line.trim().parse().expect("an address");
        Self { child, address, asked: AtomicU64::new(0) }
    }

    /// How many connections it has accepted, without those of this question.
    pub(crate) fn connections(&self) -> u64 {
        let count: u64 = ask(self.address, "/connections").parse().expect("a count");
        count - (self.asked.fetch_add(1, Relaxed) + 1)
    }

    /// Waits until this many requests to `/held` are there.
    pub(crate) fn wait_for_held(&self, count: usize) -> impl FnOnce() + Send + 'static {
        self.asked.fetch_add(1, Relaxed);
        let address = self.address;
        move || {
            ask(address, &format!("/holds/{count}"));
        }
    }
}

/// The body of an answer, on a connection of its own.
fn ask(server: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(server).expect("a connection");
    let head = format!("GET {path} HTTP/1.1\r\nHost: counter\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.rsplit("\r\n").next().expect("a body").to_owned()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
