//! Streamed uploads that are answered too early, over real connections.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::{Notify, oneshot};
use tower::{BoxError, ServiceBuilder, ServiceExt};
use tower_outbound::retry::{
    Backoff, Failure, ReplayBody, ReplayBodyLayer, RetryHistory, RetryLayer, RetryPolicy,
};

use crate::{
    loopback::serve,
    pairs::pairs,
    rows_async,
    transport::{Tls, Transport},
};

/// Sends the first piece at once, and the others and trailers when the test says so.
struct Upload {
    told: Pin<Box<oneshot::Receiver<()>>>,
    pieces: Vec<Bytes>,
    sent: usize,
    length: Option<u64>,
}

impl Upload {
    fn new(pieces: &[Bytes], said: bool) -> (Self, oneshot::Sender<()>) {
        let (tell, told) = oneshot::channel();
        let length = said.then(|| pieces.iter().map(|piece| piece.len() as u64).sum());
        (Self { told: Box::pin(told), pieces: pieces.to_vec(), sent: 0, length }, tell)
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.sent == 1 && !this.told.is_terminated() {
            std::task::ready!(this.told.as_mut().poll_unpin(cx))?;
        }
        this.sent += 1;
        Poll::Ready(match this.pieces.get(this.sent - 1) {
            Some(piece) => {
                this.length = this.length.map(|length| length - piece.len() as u64);
                Some(Ok(Frame::data(piece.clone())))
            }
            None if this.sent == this.pieces.len() + 1 && this.length.is_none() => {
                Some(Ok(Frame::trailers(trailers())))
            }
            None => None,
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn trailers() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), "abc".parse().unwrap())])
}

/// The uploads that the server received completely: bytes and trailers.
type Received = Arc<Mutex<Vec<Result<(Bytes, Option<HeaderMap>), usize>>>>;

/// Answers the first request with 503 after its first piece, and continues to read it.
async fn early(
    transport: Transport,
    tls: Arc<Tls>,
    received: Received,
    second: Arc<Notify>,
) -> std::net::SocketAddr {
    let requests = Arc::new(AtomicUsize::new(0));
    serve(move |stream, _| {
        let (tls, received, second) =
            (Arc::clone(&tls), Arc::clone(&received), Arc::clone(&second));
        let requests = Arc::clone(&requests);
        Box::pin(async move {
            let stream = TokioIo::new(tls.accept(transport, stream).await.unwrap());
            let service = service_fn(move |request: Request<Incoming>| {
                let first = requests.fetch_add(1, Relaxed) == 0;
                let (received, second) = (Arc::clone(&received), Arc::clone(&second));
                async move {
                    let mut body = request.into_body();
                    let begun = body.frame().await.unwrap()?.into_data().unwrap();
                    let rest = async move {
                        let mut bytes = begun.to_vec();
                        let mut trailers = None;
                        let ended = loop {
                            match body.frame().await {
                                None => break Ok(()),
                                Some(Err(error)) => break Err(error),
                                Some(Ok(frame)) => match frame.into_data() {
                                    Ok(data) => bytes.extend_from_slice(&data),
                                    Err(frame) => trailers = frame.into_trailers().ok(),
                                },
                            }
                        };
                        let upload = ended
                            .map(|()| (Bytes::from(bytes.clone()), trailers))
                            .map_err(|_| bytes.len());
                        received.lock().unwrap().push(upload);
                    };
                    if first {
                        tokio::spawn(rest);
                        return Ok(Response::builder()
                            .status(503)
                            .body(Full::<Bytes>::from("busy"))
                            .unwrap());
                    }
                    second.notify_one();
                    rest.await;
                    Ok::<_, hyper::Error>(Response::new(Full::from("thanks")))
                }
            });
            if transport.is_http2() {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(stream, service).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, service)
                    .await;
            }
        })
    })
    .await
}

#[tokio::test]
async fn an_early_503_stops_the_upload_and_the_retry_sends_all_of_it() {
    let all = [Transport::Http1, Transport::Http1Tls, Transport::Http2, Transport::Http2Tls];
    rows_async::hold(pairs(all, [true, false]), async |(transport, said)| {
        let tls = Arc::new(Tls::new(transport));
        let (received, second) = (Received::default(), Arc::new(Notify::new()));
        let address =
            early(transport, Arc::clone(&tls), Arc::clone(&received), Arc::clone(&second)).await;
        let client = ServiceBuilder::new()
            .layer(ReplayBodyLayer::new())
            .layer(RetryLayer::new(RetryPolicy::new().no_budget().backoff(Backoff::none())))
            .service(tls.client::<ReplayBody<Upload>>(transport));
        let pieces = [vec![b'a'; 5000], vec![b'b'; 20_000], b"end".to_vec()].map(Bytes::from);
        let (upload, tell) = Upload::new(&pieces, said);
        assert_eq!(upload.size_hint().exact(), said.then_some(25_003));
        let request = Request::builder().method(Method::PUT).uri(transport.uri(address));
        let call =
            tokio::spawn(client.oneshot(request.header("trailer", "x-sum").body(upload).unwrap()));
        // The rest arrives after the second attempt has begun, so the second attempt takes it.
        second.notified().await;
        tell.send(()).unwrap();
        let response = call.await.unwrap().unwrap();
        let attempts = response.extensions().get::<RetryHistory>().map(RetryHistory::attempts);
        let failures: Vec<_> =
            attempts.unwrap_or_default().iter().map(|attempt| attempt.failure).collect();
        let status = response.status();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "thanks");
        // The first upload also ends, without the bytes that the second one took.
        while received.lock().unwrap().len() < 2 {
            tokio::task::yield_now().await;
        }
        let whole = (Bytes::from(pieces.concat()), (!said).then(trailers));
        let received = received.lock().unwrap();
        let lengths: Vec<_> =
            received.iter().map(|one| one.as_ref().map(|(bytes, _)| bytes.len())).collect();
        let name = format!("{transport:?}, said {said}: received {lengths:?}");
        let first = Some(Failure::Status(StatusCode::SERVICE_UNAVAILABLE));
        let got = (status, failures, received.contains(&Ok(whole)), received.contains(&Err(5000)));
        (name, got, (StatusCode::OK, vec![first, None], true, true))
    })
    .await;
}
