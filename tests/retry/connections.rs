//! Retries over real connections: a hyper client on the loopback, and servers that count requests.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tower::{BoxError, Layer, ServiceExt};
use tower_outbound::retry::{
    Backoff, Drain, Failure, RetryError, RetryHistory, RetryLayer, RetryPolicy, RetryService,
};

use crate::{
    fakes::{Body, policy},
    loopback::serve,
    pairs::pairs,
    rows_async,
};

type HttpClient = Client<HttpConnector, Body>;

fn client(policy: RetryPolicy) -> RetryService<HttpClient> {
    RetryLayer::new(policy).layer(Client::builder(TokioExecutor::new()).build_http())
}

fn request(method: Method, address: SocketAddr) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://{address}/"))
        .body(Body::from("upload"))
        .unwrap()
}

/// Answers every nth request with 200 and the others with 503, each with a body of `size` bytes.
struct Flaky {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl Flaky {
    async fn start(size: usize, every: usize) -> Self {
        let (connections, requests) =
            (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (opened, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        let address = serve(move |stream, _| {
            opened.fetch_add(1, Relaxed);
            let requests = Arc::clone(&asked);
            async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let count = requests.fetch_add(1, Relaxed);
                    async move {
                        let sent = request.into_body().collect().await?.to_bytes();
                        assert_eq!(sent, "upload", "each attempt sends the whole body");
                        let status = if (count + 1).is_multiple_of(every) { 200 } else { 503 };
                        let body = Body::from(vec![b'x'; size]);
                        Ok::<_, hyper::Error>(
                            Response::builder().status(status).body(body).unwrap(),
                        )
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            }
        })
        .await;
        Self { address, connections, requests }
    }
}

#[tokio::test]
async fn retried_503s_run_over_one_connection() {
    let with_delay = Backoff::constant(Duration::from_millis(2));
    rows_async::hold(
        [
            ("a small body, no delay", 20, Backoff::none()),
            ("10 KB, no delay", 10 * 1024, Backoff::none()),
            ("a small body, a delay", 20, with_delay),
            ("60 KB, a delay", 60 * 1024, with_delay),
        ],
        async |(what, size, backoff)| {
            let server = Flaky::start(size, 3).await;
            let client = client(policy().backoff(backoff));
            for _ in 0..20 {
                let response =
                    client.clone().oneshot(request(Method::GET, server.address)).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), size);
            }
            let counts = (server.requests.load(Relaxed), server.connections.load(Relaxed));
            (what, counts, (60, 1))
        },
    )
    .await;
}

/// If a small body is dropped, hyper reads its rest. It does not for bodies of this size.
#[tokio::test]
async fn row_26_a_503_that_stays_is_an_error_after_three_sends_over_one_connection() {
    let server = Flaky::start(24 * 1024, usize::MAX).await;
    let client = client(policy().total(2).raise_on_status(true));
    let error = client.oneshot(request(Method::GET, server.address)).await.unwrap_err();
    assert_eq!(failures(&error), [Some(Failure::Status(StatusCode::SERVICE_UNAVAILABLE)); 3]);
    assert_eq!((server.requests.load(Relaxed), server.connections.load(Relaxed)), (3, 1));
}

/// A server that reads a request's head and body, then does what the test says with the connection.
async fn raw<F>(
    answer: impl Fn(TcpStream, usize) -> F + Send + Sync + 'static,
) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (answer, received) = (Arc::new(answer), Arc::<AtomicUsize>::default());
    let counted = Arc::clone(&received);
    let address = serve(move |mut stream, _| {
        let (answer, counted) = (Arc::clone(&answer), Arc::clone(&counted));
        async move {
            let mut seen = Vec::new();
            while !seen.ends_with(b"upload") {
                let mut buffer = [0; 1024];
                match stream.read(&mut buffer).await {
                    Ok(read) if read > 0 => seen.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let before = counted.fetch_add(1, Relaxed);
            answer(stream, before).await;
        }
    })
    .await;
    (address, received)
}

fn failures(error: &BoxError) -> Vec<Option<Failure>> {
    let error: &RetryError = error.downcast_ref().expect("the retries are used up");
    error.history().attempts().iter().map(|attempt| attempt.failure).collect()
}

#[tokio::test]
async fn a_refused_connection_is_retried_for_any_method() {
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let error =
        client(policy().total(2)).oneshot(request(Method::POST, address)).await.unwrap_err();
    assert_eq!(failures(&error), [Some(Failure::Connect); 3]);
}

#[tokio::test]
async fn a_request_that_was_received_is_repeated_only_if_its_method_may_be() {
    rows_async::hold(
        pairs(
            [false, true],
            [(Method::GET, 3), (Method::PUT, 3), (Method::POST, 1), (Method::PATCH, 1)],
        ),
        async |(reset, (method, sends))| {
            let (address, received) = raw(move |stream, _| async move {
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            })
            .await;
            let error = client(policy().total(2))
                .oneshot(request(method.clone(), address))
                .await
                .unwrap_err();
            let received = received.load(Relaxed);
            let classes_fit = sends == 1 || failures(&error) == [Some(Failure::Read); 3];
            let name = format!("{method}, reset {reset}: {error:?}");
            (name, (received, classes_fit), (sends, true))
        },
    )
    .await;
}

#[tokio::test]
async fn garbage_is_not_asked_for_again() {
    let (address, received) = raw(|mut stream, _| async move {
        stream.write_all(b"this is no HTTP\r\n\r\n").await.unwrap();
    })
    .await;
    let error = client(policy()).oneshot(request(Method::GET, address)).await.unwrap_err();
    assert!(!error.is::<RetryError>());
    assert_eq!(received.load(Relaxed), 1);
}

/// The rest of the 503's body arrives after the retry was answered, so a client that waits for it
/// would hang.
#[tokio::test]
async fn a_slow_error_body_does_not_delay_the_retry() {
    let answered = Arc::new(Notify::new());
    let held = Arc::new(Mutex::new(Vec::new()));
    let (hold, notify) = (Arc::clone(&held), Arc::clone(&answered));
    let (address, received) = raw(move |mut stream, before| {
        let (hold, notify) = (Arc::clone(&hold), Arc::clone(&notify));
        async move {
            if before == 0 {
                stream
                    .write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\nhalf")
                    .await
                    .unwrap();
            } else {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                notify.notify_one();
            }
            hold.lock().unwrap().push(stream);
        }
    })
    .await;
    for backoff in [Backoff::none(), Backoff::constant(Duration::from_millis(1))] {
        let client = client(policy().backoff(backoff));
        let response = client.oneshot(request(Method::GET, address)).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
    }
    answered.notified().await;
    assert_eq!(received.load(Relaxed), 3, "the first of the two requests needed a retry");
}

/// The body arrives after the policy has judged the head. The error that replaces the response
/// could have been returned before that.
#[tokio::test]
async fn a_raised_response_leaves_its_connection_for_the_next_request() {
    let (connections, judged) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counted, judges) = (Arc::clone(&connections), Arc::clone(&judged));
    let address = serve(move |mut stream, _| {
        counted.fetch_add(1, Relaxed);
        let judged = Arc::clone(&judged);
        async move {
            let mut buffer = [0; 1024];
            while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {
                stream.write_all(b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\n").await.unwrap();
                judged.notified().await;
                stream.write_all(b"tail").await.unwrap();
            }
        }
    })
    .await;
    let drain = Drain { bytes: 1024, time: Duration::from_secs(60) };
    let policy = policy().total(0).raise_on_status(true).drain(drain).classify(move |outcome| {
        judges.notify_one();
        outcome.ok().map(|head| Failure::Status(head.status))
    });
    let client = client(policy);
    for _ in 0..3 {
        let error = client.clone().oneshot(request(Method::GET, address)).await.unwrap_err();
        assert!(error.is::<RetryError>());
    }
    assert_eq!(connections.load(Relaxed), 1);
}

/// A connection that notices its end, but hides it from hyper until the test allows it, without a
/// wake-up.
struct Held {
    stream: TokioIo<TcpStream>,
    ended: Arc<Notify>,
    let_go: Arc<AtomicBool>,
}

impl hyper::rt::Read for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 1024];
        let room = buffer.remaining().min(bytes.len());
        let mut read = tokio::io::ReadBuf::new(&mut bytes[..room]);
        ready!(tokio::io::AsyncRead::poll_read(Pin::new(self.stream.inner_mut()), cx, &mut read))?;
        if read.filled().is_empty() && !self.let_go.load(Relaxed) {
            self.ended.notify_one();
            return Poll::Pending;
        }
        buffer.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Held {
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

impl Connection for Held {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// The pool hands the connection out, and its task finds it closed before it takes the request. The
/// client has its own retry for this. If it is on, it makes the second attempt.
#[tokio::test]
async fn a_request_that_its_connection_never_took_is_sent_again_for_any_method() {
    rows_async::hold(
        pairs(
            [(false, &[Some(Failure::Unsent), None][..]), (true, &[])],
            [Method::PUT, Method::POST],
        ),
        async |((own_retry, failures), method)| {
            let (address, received) = raw(|mut stream, _| async move {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            })
            .await;
            let (ended, let_go) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
            let (tells, held) = (Arc::clone(&ended), Arc::clone(&let_go));
            let connector = tower::service_fn(move |_: http::Uri| {
                let (ended, let_go) = (Arc::clone(&tells), Arc::clone(&held));
                Box::pin(async move {
                    let stream = TokioIo::new(TcpStream::connect(address).await?);
                    Ok::<_, io::Error>(Held { stream, ended, let_go })
                })
            });
            let http = Client::builder(TokioExecutor::new())
                .retry_canceled_requests(own_retry)
                .build(connector);
            let client = RetryLayer::new(policy()).layer(http);
            let first = client.clone().oneshot(request(method.clone(), address)).await.unwrap();
            first.into_body().collect().await.unwrap();
            ended.notified().await;
            let_go.store(true, Relaxed);
            let outcome = client.oneshot(request(method.clone(), address)).await;
            let history =
                outcome.as_ref().ok().map(|response| response.extensions().get::<RetryHistory>());
            let got = history.map(|history| {
                let attempts = history.map_or(&[][..], RetryHistory::attempts);
                attempts.iter().map(|attempt| attempt.failure).collect::<Vec<_>>()
            });
            let name = format!("{method}, {own_retry}: {outcome:?}");
            (name, (got, received.load(Relaxed)), (Some(failures.to_vec()), 2))
        },
    )
    .await;
}
