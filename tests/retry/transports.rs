//! Faults of real connections, over HTTP/1.1 and HTTP/2, plain and over TLS: the class of each
//! fault, and what the server receives if it is retried.

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

use http::{Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_outbound::retry::{
    Backoff, Drain, Failure, Policy, RetryError, RetryHistory, RetryLayer, RetryPolicy,
};

use crate::{
    bodies::{FakeBody, data},
    fakes::{self, Body},
    loopback::serve,
    pairs::pairs,
    rows_async,
    transport::{Stream, Tls, Transport, tcp},
};

/// What the server does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Answer,
    /// Closes a connection as it is accepted, its handshake done.
    CloseBefore,
    /// Reads the request, then closes.
    Close,
    /// Reads the request, then resets the connection.
    Reset,
    /// Sends the head and half of the body, then resets.
    ResetAfterHead,
    /// Reads the request, then closes its sending side and keeps reading.
    HalfClose,
    /// Answers, then closes, and reports when the client has closed too.
    AnswerAndClose,
    /// Sends something that is no response.
    Garbage,
    /// A response with more headers than the client reads.
    TooLarge,
    /// Sends bytes that are not HTTP/2, outside any stream.
    GarbageBeside,
    /// Reads the request, and nothing else.
    Silence,
    // Only over HTTP/2.
    StreamReset(u8),
    /// GOAWAY with this code, and the request's own stream as the last or not.
    GoAway {
        code: u8,
        ours: bool,
    },
    /// GOAWAY that lets our stream end normally.
    GoAwayAfterAnswer,
}

use Event::*;

const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;
const INTERNAL: u8 = 2;
const HTTP_1_1_REQUIRED: u8 = 13;

/// Performs one event per request, then answers. Counts the requests that it has read completely.
#[derive(Clone)]
struct Server {
    transport: Transport,
    tls: Arc<Tls>,
    events: Arc<Mutex<VecDeque<Event>>>,
    received: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    closed: Arc<Notify>,
}

impl Server {
    async fn start(transport: Transport, events: &[Event]) -> (Self, SocketAddr) {
        let server = Self {
            transport,
            tls: Arc::new(Tls::new(transport)),
            events: Arc::new(Mutex::new(events.iter().copied().collect())),
            received: Arc::default(),
            connections: Arc::default(),
            closed: Arc::default(),
        };
        let serving = server.clone();
        let address = serve(move |stream, _| {
            let server = serving.clone();
            Box::pin(async move {
                // The client may also close its end abruptly.
                let _ = server.connection(stream).await;
            })
        })
        .await;
        (server, address)
    }

    fn next_if(&self, wanted: impl Fn(Event) -> bool) -> Option<Event> {
        let mut events = self.events.lock().unwrap();
        if events.front().is_some_and(|event| wanted(*event)) { events.pop_front() } else { None }
    }

    async fn connection(&self, stream: TcpStream) -> io::Result<()> {
        self.connections.fetch_add(1, Relaxed);
        let resets =
            self.events.lock().unwrap().iter().any(|event| matches!(event, Reset | ResetAfterHead));
        if resets {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        let mut stream = self.tls.accept(self.transport, stream).await?;
        if self.next_if(|event| event == CloseBefore).is_some() {
            return Ok(());
        }
        if self.transport.is_http2() {
            self.http2(&mut *stream).await
        } else {
            self.http1(&mut *stream).await
        }
    }

    fn event(&self) -> Event {
        self.received.fetch_add(1, Relaxed);
        self.next_if(|_| true).unwrap_or(Answer)
    }

    async fn http1(&self, stream: &mut dyn Stream) -> io::Result<()> {
        let mut seen = Vec::new();
        loop {
            while !seen.ends_with(b"upload") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await? {
                    0 => return Ok(()),
                    read => seen.extend_from_slice(&buffer[..read]),
                }
            }
            seen.clear();
            match self.event() {
                Answer => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
                }
                ResetAfterHead => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await?;
                    return self.once_read(stream).await;
                }
                Garbage => stream.write_all(b"this is no HTTP\r\n\r\n").await?,
                TooLarge => {
                    let head = format!(
                        "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
                        "a: b\r\n".repeat(500)
                    );
                    stream.write_all(head.as_bytes()).await?;
                }
                AnswerAndClose => {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await?;
                    return self.close(stream).await;
                }
                HalfClose => {
                    stream.shutdown().await?;
                    return until_end(stream).await;
                }
                Silence => return until_end(stream).await,
                _ => return Ok(()),
            }
        }
    }

    /// A reset discards what the client has not read yet. So it waits until the client has what it
    /// needs.
    async fn once_read(&self, stream: &mut dyn Stream) -> io::Result<()> {
        stream.flush().await?;
        READ.notified().await;
        Ok(())
    }

    /// Once the client has closed as well, its pool has no such connection.
    async fn close(&self, stream: &mut dyn Stream) -> io::Result<()> {
        stream.shutdown().await?;
        until_end(stream).await?;
        self.closed.notify_one();
        Ok(())
    }

    async fn http2(&self, stream: &mut dyn Stream) -> io::Result<()> {
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await?; // SETTINGS
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await?;
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await?;
            let mut payload =
                vec![
                    0;
                    usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])
                ];
            stream.read_exact(&mut payload).await?;
            // HEADERS or DATA that ends its stream.
            if !(head[3] <= 1 && head[4] & 1 == 1) {
                continue;
            }
            let id = [head[5], head[6], head[7], head[8]];
            let frame = |kind: u8, flags: u8, id: [u8; 4], payload: &[u8]| {
                let length = (payload.len() as u16).to_be_bytes();
                [&[0][..], &length, &[kind, flags], &id, payload].concat()
            };
            // `:status: 200` of the static table.
            let (answer, begun) = (frame(1, 5, id, &[0x88]), frame(1, 4, id, &[0x88]));
            let go_away = |last: [u8; 4], code: u8| {
                frame(7, 0, [0; 4], &[&last[..], &[0, 0, 0, code]].concat())
            };
            match self.event() {
                Answer => stream.write_all(&answer).await?,
                ResetAfterHead => {
                    stream.write_all(&begun).await?;
                    return self.once_read(stream).await;
                }
                // A header that HTTP/2 forbids.
                Garbage => {
                    stream.write_all(&frame(1, 5, id, b"\x88\x00\x0aconnection\x01x")).await?;
                }
                TooLarge => {
                    let head = [&[0x88][..], &b"\x00\x01a\x01b".repeat(1000)].concat();
                    stream.write_all(&frame(1, 5, id, &head)).await?;
                }
                // A window of an invalid size.
                GarbageBeside => stream.write_all(&frame(8, 0, [0; 4], &[1, 2, 3])).await?,
                HalfClose => {
                    stream.shutdown().await?;
                    return until_end(stream).await;
                }
                Silence => {}
                StreamReset(code) => stream.write_all(&frame(3, 0, id, &[0, 0, 0, code])).await?,
                GoAway { code, ours } => {
                    stream.write_all(&go_away(if ours { id } else { [0; 4] }, code)).await?;
                    if ours {
                        return Ok(());
                    }
                }
                AnswerAndClose => {
                    stream.write_all(&answer).await?;
                    return self.close(stream).await;
                }
                GoAwayAfterAnswer => stream.write_all(&[go_away(id, 0), answer].concat()).await?,
                _ => return Ok(()),
            }
            stream.flush().await?;
        }
    }
}

/// The client has the expected head.
static READ: Notify = Notify::const_new();

async fn until_end(stream: &mut dyn Stream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

fn policy() -> RetryPolicy {
    fakes::policy().total(2)
}

fn request(method: &Method, transport: Transport, address: SocketAddr) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(transport.uri(address))
        .body(Body::from("upload"))
        .unwrap()
}

/// The class of the first failure, whether the request ended well, and the attempts that were made.
fn told(
    outcome: &Result<http::Response<hyper::body::Incoming>, BoxError>,
) -> (Option<Failure>, bool, usize) {
    match outcome {
        Ok(response) => {
            let attempts =
                response.extensions().get::<RetryHistory>().map_or(&[][..], RetryHistory::attempts);
            (attempts.first().and_then(|first| first.failure), true, attempts.len().max(1))
        }
        Err(error) => match error.downcast_ref::<RetryError>() {
            Some(error) => {
                (error.history().attempts()[0].failure, false, error.history().attempts().len())
            }
            None => (Policy::classify(&policy(), Err(&**error)), false, 1),
        },
    }
}

const HTTP1: [Transport; 2] = [Transport::Http1, Transport::Http1Tls];
const HTTP2: [Transport; 2] = [Transport::Http2, Transport::Http2Tls];

/// For each event: the outcome of a PUT and of a POST, if the next request is answered.
#[tokio::test]
async fn what_may_have_been_processed_is_sent_again_only_if_its_method_may_be() {
    use Failure::{Never, Read, Timeout, Unsent};
    let all = [HTTP1, HTTP2].concat();
    // The event, where, its class, and how many requests the server receives of a PUT and of a
    // POST.
    let rows: &[(Event, &[Transport], Option<Failure>, usize, usize)] = &[
        (Answer, &all, None, 1, 1),
        (Close, &all, Some(Read), 2, 1),
        (Reset, &all, Some(Read), 2, 1),
        (ResetAfterHead, &all, None, 1, 1),
        (HalfClose, &all, Some(Read), 2, 1),
        (Garbage, &all, Some(Never), 1, 1),
        (TooLarge, &all, Some(Never), 1, 1),
        (GarbageBeside, &HTTP2, Some(Read), 2, 1),
        (Silence, &all, Some(Timeout), 2, 1),
        (StreamReset(REFUSED_STREAM), &HTTP2, Some(Unsent), 2, 2),
        (StreamReset(CANCEL), &HTTP2, Some(Read), 2, 1),
        (StreamReset(INTERNAL), &HTTP2, Some(Read), 2, 1),
        (StreamReset(HTTP_1_1_REQUIRED), &HTTP2, Some(Never), 1, 1),
        (GoAway { code: HTTP_1_1_REQUIRED, ours: false }, &HTTP2, Some(Never), 1, 1),
        (GoAway { code: 0, ours: false }, &HTTP2, Some(Unsent), 2, 2),
        (GoAway { code: INTERNAL, ours: false }, &HTTP2, Some(Unsent), 2, 2),
        (GoAway { code: 0, ours: true }, &HTTP2, Some(Read), 2, 1),
        (GoAway { code: INTERNAL, ours: true }, &HTTP2, Some(Read), 2, 1),
        (GoAwayAfterAnswer, &HTTP2, None, 1, 1),
    ];
    let each = rows.iter().flat_map(|(event, transports, class, puts, posts)| {
        pairs(*transports, [(Method::PUT, *puts), (Method::POST, *posts)])
            .map(|(transport, (method, sends))| (*event, *transport, *class, method, sends))
    });
    rows_async::hold(each, async |(event, transport, class, method, sends)| {
        let (server, address) = Server::start(transport, &[event]).await;
        let policy = match event {
            Silence => policy().attempt_timeout(Duration::from_millis(100)),
            _ => policy(),
        };
        let client = RetryLayer::new(policy).layer(server.tls.client(transport));
        let outcome = client.oneshot(request(&method, transport, address)).await;
        let name = format!("{event:?}, {transport:?}, {method}: {outcome:?}");
        let (told, received) = (told(&outcome), server.received.load(Relaxed));
        let mut breaks = false;
        if let Ok(response) = outcome {
            if event == ResetAfterHead {
                READ.notify_one();
            }
            // The caller gets a body that breaks. It is never joined with the body of another
            // attempt.
            breaks = response.into_body().collect().await.is_err();
        }
        let wants_well = class.is_none() || sends == 2;
        let want = ((class, wants_well, sends), sends, event == ResetAfterHead);
        (name, (told, received, breaks), want)
    })
    .await;
}

/// A body that breaks after its first half. A retry of it would break again, whatever its error is.
fn breaks(error: fn() -> BoxError) -> FakeBody {
    let mut frames = Some("up").into_iter();
    FakeBody::new(move |_| frames.next().map_or_else(|| Poll::Ready(Some(Err(error()))), data))
}

#[tokio::test]
async fn a_request_body_that_breaks_is_not_sent_again() {
    let errors: [(&str, fn() -> BoxError); 2] = [
        ("a text", || "the file is gone".into()),
        ("a reset, of its own source", || io::Error::from(io::ErrorKind::ConnectionReset).into()),
    ];
    rows_async::hold(pairs([HTTP1, HTTP2].concat(), errors), async |(transport, (what, error))| {
        let (server, address) = Server::start(transport, &[]).await;
        let layer = RetryLayer::new(policy()).replay_with(move |_: &FakeBody| Some(breaks(error)));
        let request = Request::put(transport.uri(address)).body(breaks(error)).unwrap();
        let outcome = layer.layer(server.tls.client(transport)).oneshot(request).await;
        let received = server.received.load(Relaxed);
        let name = format!("{what}, {transport:?}: {outcome:?}");
        (name, (told(&outcome), received), ((Some(Failure::Never), false, 1), 0))
    })
    .await;
}

/// Hands over its first connection after the other end has closed it.
#[derive(Clone)]
struct Late<C> {
    connector: C,
    first: Arc<AtomicBool>,
}

impl<C> Service<Uri> for Late<C>
where
    C: Service<Uri, Response = MaybeHttpsStream<TokioIo<TcpStream>>>,
    C::Future: Send + 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, first) = (self.connector.call(uri), self.first.swap(false, Relaxed));
        Box::pin(async move {
            let stream = connecting.await?;
            let tcp = match &stream {
                MaybeHttpsStream::Http(tcp) => tcp.inner(),
                MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
            };
            while first && !tcp.ready(Interest::READABLE).await.unwrap().is_read_closed() {
                tokio::task::yield_now().await;
            }
            Ok(stream)
        })
    }
}

/// HTTP/1.1 writes before it reads, and cannot tell how much was written. HTTP/2 finds the end
/// before it opens a stream.
#[tokio::test]
async fn a_connection_closed_before_the_request_costs_no_request_and_repeats_none() {
    rows_async::hold(
        pairs([HTTP1, HTTP2].concat(), [Method::PUT, Method::POST]),
        async |(transport, method)| {
            let (server, address) = Server::start(transport, &[CloseBefore]).await;
            let connector = server.tls.connector(transport, tcp());
            let late = Late { connector, first: Arc::new(AtomicBool::new(true)) };
            let client = RetryLayer::new(policy()).layer(transport.client(late));
            let outcome = client.oneshot(request(&method, transport, address)).await;
            let counts = (server.received.load(Relaxed), server.connections.load(Relaxed));
            let wanted = match (transport.is_http2(), &method) {
                (true, _) => ((Some(Failure::Unsent), true, 2), (1, 2)),
                (false, &Method::PUT) => ((Some(Failure::Read), true, 2), (1, 2)),
                (false, _) => ((Some(Failure::Read), false, 1), (0, 1)),
            };
            (format!("{transport:?}, {method}: {outcome:?}"), (told(&outcome), counts), wanted)
        },
    )
    .await;
}

#[tokio::test]
async fn a_pooled_connection_that_was_closed_while_idle_is_no_failure() {
    rows_async::hold(
        pairs([HTTP1, HTTP2].concat(), [Method::PUT, Method::POST]),
        async |(transport, method)| {
            let (server, address) = Server::start(transport, &[AnswerAndClose]).await;
            let client = RetryLayer::new(policy()).layer(server.tls.client(transport));
            let first = client.clone().oneshot(request(&method, transport, address)).await.unwrap();
            first.into_body().collect().await.unwrap();
            server.closed.notified().await;
            let outcome = client.oneshot(request(&method, transport, address)).await;
            let counts = (server.received.load(Relaxed), server.connections.load(Relaxed));
            (
                format!("{transport:?}, {method}: {outcome:?}"),
                (told(&outcome), counts),
                ((None, true, 1), (2, 2)),
            )
        },
    )
    .await;
}

/// The server keeps the connection after its first answer, and closes it once the second request
/// has come.
#[tokio::test]
async fn a_stale_pooled_connection_repeats_no_post() {
    rows_async::hold(
        pairs(
            pairs([HTTP1, HTTP2].concat(), [Close, Reset, HalfClose]),
            [(Method::PUT, 3), (Method::POST, 2)],
        ),
        async |((transport, event), (method, receives))| {
            let (server, address) = Server::start(transport, &[Answer, event]).await;
            let client = RetryLayer::new(policy()).layer(server.tls.client(transport));
            let first = client.clone().oneshot(request(&method, transport, address)).await.unwrap();
            first.into_body().collect().await.unwrap();
            let outcome = client.oneshot(request(&method, transport, address)).await;
            let (failure, well, _) = told(&outcome);
            let (received, connections) =
                (server.received.load(Relaxed), server.connections.load(Relaxed));
            let wanted = (Some(Failure::Read), method == Method::PUT, receives, receives - 1);
            (
                format!("{event:?}, {transport:?}, {method}"),
                (failure, well, received, connections),
                wanted,
            )
        },
    )
    .await;
}

/// Connects to nowhere first, then to the server.
#[derive(Clone)]
struct Refused {
    first: SocketAddr,
    then: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Service<Uri> for Refused {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let to = if self.asked.fetch_add(1, Relaxed) == 0 { self.first } else { self.then };
        Box::pin(async move { TcpStream::connect(to).await.map(TokioIo::new) })
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_for_any_method() {
    rows_async::hold([HTTP1, HTTP2].concat(), async |transport| {
        let (server, then) = Server::start(transport, &[]).await;
        let first =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let connector =
            server.tls.connector(transport, Refused { first, then, asked: Arc::default() });
        let client = RetryLayer::new(policy()).layer(transport.client(connector));
        let outcome = client.oneshot(request(&Method::POST, transport, then)).await;
        let counts = (server.received.load(Relaxed), server.connections.load(Relaxed));
        (
            format!("{transport:?}: {outcome:?}"),
            (told(&outcome), counts),
            ((Some(Failure::Connect), true, 2), (1, 1)),
        )
    })
    .await;
}

/// The first handshake ends in an end or noise, the second well.
#[tokio::test]
async fn a_failed_handshake_is_tried_again_for_any_method() {
    let said = [("an end", &b""[..]), ("noise", b"HTTP/1.1 400 Bad Request\r\n\r\n")];
    let tls = [Transport::Http1Tls, Transport::Http2Tls];
    rows_async::hold(pairs(tls, said), async |(transport, (what, said))| {
        let (server, _) = Server::start(transport, &[]).await;
        let serving = server.clone();
        let address = serve(move |mut stream, number| {
            let server = serving.clone();
            Box::pin(async move {
                if number == 0 {
                    // After the client's hello, because an unread one would turn the end into a
                    // reset.
                    let mut hello = [0; 4096];
                    assert!(stream.read(&mut hello).await.unwrap() > 0);
                    stream.write_all(said).await.unwrap();
                } else {
                    let _ = server.connection(stream).await;
                }
            })
        })
        .await;
        let client = RetryLayer::new(policy()).layer(server.tls.client(transport));
        let outcome = client.oneshot(request(&Method::POST, transport, address)).await;
        let received = server.received.load(Relaxed);
        let name = format!("{what}, {transport:?}: {outcome:?}");
        (name, (told(&outcome), received), ((Some(Failure::Connect), true, 2), 1))
    })
    .await;
}

/// A second handshake would end in the same way.
#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_met_once() {
    let tls = [Transport::Http1Tls, Transport::Http2Tls];
    let distrusts = ["an unknown authority", "another name"];
    rows_async::hold(
        pairs(pairs(tls, distrusts), [Method::GET, Method::POST]),
        async |((transport, what), method)| {
            let (server, address) = Server::start(transport, &[]).await;
            let mut request = request(&method, transport, address);
            let client = if what == "another name" {
                *request.uri_mut() = format!("https://{address}/").parse().unwrap();
                server.tls.client(transport)
            } else {
                server.tls.wary_client(transport)
            };
            let outcome = RetryLayer::new(policy()).layer(client).oneshot(request).await;
            let counts = (server.received.load(Relaxed), server.connections.load(Relaxed));
            let name = format!("{what}, {transport:?}, {method}: {outcome:?}");
            (name, (told(&outcome), counts), ((Some(Failure::Never), false, 1), (0, 1)))
        },
    )
    .await;
}

/// The connection's task lives on the runtime that made it. It ends with that runtime, in the
/// middle of a request of another runtime.
#[tokio::test]
async fn a_connection_whose_runtime_has_ended_may_have_sent_the_request() {
    rows_async::hold(
        pairs([HTTP1, HTTP2].concat(), [(Method::PUT, 3), (Method::POST, 2)]),
        async |(transport, (method, receives))| {
            let (server, address) = Server::start(transport, &[Answer, Silence]).await;
            let client = RetryLayer::new(policy()).layer(server.tls.client(transport));
            let (ready, is_ready) = tokio::sync::oneshot::channel();
            let (end, is_over) = tokio::sync::oneshot::channel::<()>();
            let (first, request_of) = (client.clone(), method.clone());
            let other = std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let request = request(&request_of, transport, address);
                    let response = first.oneshot(request).await.unwrap();
                    response.into_body().collect().await.unwrap();
                    // The connection's task hands it back to the pool.
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                    ready.send(()).unwrap();
                    let _ = is_over.await;
                });
            });
            is_ready.await.unwrap();
            let (outcome, ()) =
                tokio::join!(client.oneshot(request(&method, transport, address)), async {
                    while server.received.load(Relaxed) < 2 {
                        tokio::task::yield_now().await;
                    }
                    end.send(()).unwrap();
                });
            other.join().unwrap();
            let (failure, well, _) = told(&outcome);
            let received = server.received.load(Relaxed);
            let name = format!("{transport:?}, {method}: {outcome:?}");
            let wanted = (Some(Failure::Read), method == Method::PUT, receives);
            (name, (failure, well, received), wanted)
        },
    )
    .await;
}

/// A reset of the stream costs less than reading its bytes, and keeps the connection.
#[tokio::test]
async fn http2_responses_are_not_drained_and_keep_their_connection() {
    use hyper::{body::Incoming, service::service_fn};
    /// Tells when it is given up.
    struct Tells(Arc<Notify>);
    impl Drop for Tells {
        fn drop(&mut self) {
            self.0.notify_one();
        }
    }
    for transport in HTTP2 {
        let tls = Arc::new(Tls::new(transport));
        let (connections, given_up) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (accepting, counted, notify) =
            (Arc::clone(&tls), Arc::clone(&connections), Arc::clone(&given_up));
        let address = serve(move |stream, _| {
            counted.fetch_add(1, Relaxed);
            let (tls, notify) = (Arc::clone(&accepting), Arc::clone(&notify));
            Box::pin(async move {
                let stream = tls.accept(transport, stream).await.unwrap();
                let requests = AtomicUsize::new(0);
                let service = service_fn(|_: Request<Incoming>| {
                    let status =
                        if requests.fetch_add(1, Relaxed).is_multiple_of(2) { 503 } else { 200 };
                    let body = if status == 503 {
                        let tells = Tells(Arc::clone(&notify));
                        let endless = FakeBody::new(move |_| {
                            let _ = &tells;
                            Poll::Pending
                        });
                        http_body_util::Either::Left(endless)
                    } else {
                        http_body_util::Either::Right(Body::from("ok"))
                    };
                    async move { http::Response::builder().status(status).body(body) }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            })
        })
        .await;
        // With a delay too. If it were drained, the body would be kept during the delay.
        let forever = Drain { bytes: usize::MAX, time: Duration::MAX };
        let client = RetryLayer::new(
            policy().drain(forever).backoff(Backoff::constant(Duration::from_secs(3600))),
        );
        let client = client.layer(tls.client(transport));
        let mut call = Box::pin(client.oneshot(request(&Method::PUT, transport, address)));
        tokio::select! {
            _ = &mut call => panic!("it waits an hour"),
            () = given_up.notified() => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("{transport:?}: it is drained"),
        }
        drop(call);
        let client = RetryLayer::new(policy()).layer(tls.client(transport));
        let before = connections.load(Relaxed);
        for _ in 0..5 {
            let response =
                client.clone().oneshot(request(&Method::PUT, transport, address)).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        }
        assert_eq!(connections.load(Relaxed) - before, 1, "{transport:?}");
    }
}
