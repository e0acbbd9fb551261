//! tonic: its health service's generated client, unary and streaming, over a stack with our layers.

use std::{
    convert::Infallible,
    error::Error,
    future, io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{DuplexStream, duplex},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tonic::{
    Code, Request as TonicRequest, Status, body::Body as TonicBody, codegen::Service,
    transport::Endpoint,
};
use tonic_health::{
    ServingStatus,
    pb::{
        HealthCheckRequest, health_check_response::ServingStatus as Serving,
        health_client::HealthClient,
    },
};
use tower::{
    BoxError, ServiceBuilder, ServiceExt, filter::AsyncFilterLayer, limit::ConcurrencyLimitLayer,
    service_fn, timeout::error::Elapsed, util::BoxCloneSyncService,
};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{
        Backoff, Failure, Policy, ReplayBodyLayer, RetryError, RetryHistory, RetryPolicy,
        StopReason,
    },
};

type Log = Arc<Mutex<Vec<String>>>;
type Stack = BoxCloneSyncService<Request<TonicBody>, Response<TonicBody>, BoxError>;
type Channel = BoxCloneSyncService<Request<TonicBody>, Response<TonicBody>, Status>;

/// gRPC's UNAVAILABLE before any message, in a response that has only headers.
fn unavailable() -> Response<TonicBody> {
    let mut response = Response::new(TonicBody::empty());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("grpc-status", HeaderValue::from(Code::Unavailable as i32));
    response
}

/// The same after a message, in the trailers.
fn broken_off() -> Response<TonicBody> {
    in_trailers(Some(Bytes::from_static(&[0, 0, 0, 0, 2, 8, 1])))
}

/// The same in the trailers.
fn in_trailers(message: Option<Bytes>) -> Response<TonicBody> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(Code::Unavailable as i32));
    let frames = message.map(Frame::data).into_iter().chain([Frame::trailers(trailers)]);
    let frames = tokio_stream::iter(frames.map(Ok::<_, Infallible>));
    let mut response = Response::new(TonicBody::new(StreamBody::new(frames)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// There is no answer: the stream is refused before anything was processed.
fn refused_stream() -> Response<TonicBody> {
    let mut response = Response::new(TonicBody::empty());
    response.extensions_mut().insert(h2::Reason::REFUSED_STREAM);
    response
}

/// The first answers are `first`. Later ones are those of tonic's health server. All set a cookie.
async fn server(
    first: impl Fn(usize) -> Option<Response<TonicBody>> + Send + Sync + 'static,
) -> (SocketAddr, Log) {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("", ServingStatus::Serving).await;
    let seen = Log::default();
    let (first, seen_by_service) = (Arc::new(first), Arc::clone(&seen));
    let service = service_fn(move |request: Request<Incoming>| {
        let (mut health, first, seen) =
            (health.clone(), Arc::clone(&first), Arc::clone(&seen_by_service));
        async move {
            let cookies = request
                .headers()
                .get("cookie")
                .map_or("none", |line| line.to_str().unwrap())
                .to_owned();
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let count = {
                let mut seen = seen.lock().unwrap();
                seen.push(format!("{method} {cookies}"));
                seen.len() - 1
            };
            let mut response = match first(count) {
                Some(response) => response,
                None => health.call(request).await.unwrap_or_else(|never| match never {}),
            };
            if let Some(reason) = response.extensions().get::<h2::Reason>() {
                return Err(h2::Error::from(*reason));
            }
            response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("sticky=1"));
            Ok(response)
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        // Keeps the status alive until the server is dropped.
        let _reporter = reporter;
        while let Ok((socket, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            });
        }
    });
    (address, seen)
}

/// The transport of the calls.
#[derive(Clone, Copy, Debug)]
enum Transport {
    /// tonic's own channel, which connects and reconnects, and retries nothing.
    Channel,
    Hyper,
}

const BOTH: [Transport; 2] = [Transport::Channel, Transport::Hyper];

/// The layers around a transport. A message must be in memory to be sent again, so the body is
/// collected first. That is right for requests with one message, such as a health check and a
/// watch.
fn stack(transport: Transport, address: SocketAddr, policy: RetryPolicy) -> Stack {
    stack_after(0, transport, address, policy)
}

type Connecting = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

/// Its first connections are refused.
fn connector(
    refusals: usize,
    address: SocketAddr,
) -> impl Service<Uri, Response = TokioIo<TcpStream>, Error = io::Error, Future = Connecting>
+ Clone
+ Send
+ Sync
+ 'static {
    let connections = Arc::new(AtomicUsize::new(0));
    service_fn(move |_: Uri| {
        let is_refused = connections.fetch_add(1, Relaxed) < refusals;
        Box::pin(async move {
            // A port that is bound, so that nothing else uses it, but not listening.
            let deaf = TcpSocket::new_v4()?;
            deaf.bind("127.0.0.1:0".parse().unwrap())?;
            let to = if is_refused { deaf.local_addr()? } else { address };
            TcpStream::connect(to).await.map(TokioIo::new)
        }) as Connecting
    })
}

/// How many of its first connections are refused.
fn stack_after(
    refusals: usize,
    transport: Transport,
    address: SocketAddr,
    policy: RetryPolicy,
) -> Stack {
    let connector = connector(refusals, address);
    let gather = AsyncFilterLayer::new(|request: Request<TonicBody>| async {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok::<_, BoxError>(Request::from_parts(parts, Full::new(body)))
    });
    let origin = format!("http://localhost:{}", address.port());
    let bottom: BoxCloneSyncService<Request<Full<Bytes>>, Response<TonicBody>, BoxError> =
        match transport {
            Transport::Channel => {
                let channel = Endpoint::from_shared(origin.clone())
                    .unwrap()
                    .connect_with_connector_lazy(connector);
                let to_tonic = |request: Request<Full<Bytes>>| request.map(TonicBody::new);
                BoxCloneSyncService::new(channel.map_request(to_tonic).map_err(BoxError::from))
            }
            Transport::Hyper => {
                let hyper = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
                let to_tonic = |response: Response<Incoming>| response.map(TonicBody::new);
                BoxCloneSyncService::new(hyper.map_response(to_tonic).map_err(BoxError::from))
            }
        };
    let stack = ServiceBuilder::new()
        .layer(gather)
        .layer(
            RoutingLayer::builder()
                .mount(origin, RetryLayer::new(policy))
                .strict()
                .build()
                .unwrap(),
        )
        .layer(CookieLayer::new(CookieJar::new()))
        .service(bottom);
    Stack::new(stack)
}

/// gRPC uses only POST, and UNAVAILABLE has the status 200. The default policy classifies all other
/// outcomes, above all errors.
fn retries() -> RetryPolicy {
    let usual = RetryPolicy::new();
    RetryPolicy::new().any_method().backoff(Backoff::none()).classify(
        move |outcome| match outcome {
            Ok(head) if head.headers.get("grpc-status").is_some_and(|code| code == "14") => {
                Some(Failure::Other)
            }
            outcome => Policy::classify(&usual, outcome),
        },
    )
}

fn client(transport: Transport, address: SocketAddr, policy: RetryPolicy) -> HealthClient<Stack> {
    let origin = format!("http://localhost:{}", address.port()).parse().unwrap();
    // Without an origin the requests of a generated client have only a path.
    HealthClient::with_origin(stack(transport, address, policy), origin)
}

#[tokio::test]
async fn a_unary_call_survives_unavailable_and_cookies_are_kept_across_calls() {
    for transport in BOTH {
        let (address, seen) = server(|count| (count < 2).then(unavailable)).await;
        let mut client = client(transport, address, retries());
        for _ in 0..2 {
            let response = client.check(HealthCheckRequest::default()).await.unwrap();
            assert_eq!(response.into_inner().status(), Serving::Serving);
        }
        let wanted = ["Check none", "Check sticky=1", "Check sticky=1", "Check sticky=1"];
        assert_eq!(*seen.lock().unwrap(), wanted, "{transport:?}");
    }
}

#[tokio::test]
async fn a_call_survives_a_refused_connection() {
    for transport in BOTH {
        let (address, seen) = server(|_| None).await;
        let origin = format!("http://localhost:{}", address.port()).parse().unwrap();
        let mut client =
            HealthClient::with_origin(stack_after(2, transport, address, retries()), origin);
        let response = client.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(response.into_inner().status(), Serving::Serving);
        assert_eq!(*seen.lock().unwrap(), ["Check none"], "{transport:?}");
    }
}

#[tokio::test]
async fn a_call_survives_a_refused_stream() {
    for transport in BOTH {
        let (address, seen) = server(|count| (count < 2).then(refused_stream)).await;
        let mut client = client(transport, address, retries());
        let response = client.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(response.into_inner().status(), Serving::Serving);
        assert_eq!(*seen.lock().unwrap(), ["Check none"; 3], "{transport:?}");
    }
}

#[tokio::test]
async fn without_the_classifier_unavailable_is_an_answer_like_any_other() {
    for transport in BOTH {
        let (address, seen) = server(|count| (count < 2).then(unavailable)).await;
        let mut client = client(transport, address, RetryPolicy::new().any_method());
        let error = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(
            (error.code(), seen.lock().unwrap().len()),
            (Code::Unavailable, 1),
            "{transport:?}"
        );
    }
}

#[tokio::test]
async fn a_streaming_call_survives_unavailable_before_its_first_message() {
    for transport in BOTH {
        let (address, seen) = server(|count| (count < 2).then(unavailable)).await;
        let mut client = client(transport, address, retries());
        let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().status(), Serving::Serving);
        assert_eq!(
            *seen.lock().unwrap(),
            ["Watch none", "Watch sticky=1", "Watch sticky=1"],
            "{transport:?}"
        );
    }
}

#[tokio::test]
async fn a_stream_that_breaks_off_after_a_message_is_the_callers() {
    for transport in BOTH {
        let (address, seen) = server(|_| Some(broken_off())).await;
        let mut client = client(transport, address, retries());
        let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().status(), Serving::Serving);
        assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(*seen.lock().unwrap(), ["Watch none"], "{transport:?}");
    }
}

#[tokio::test]
async fn another_host_has_no_mount_and_is_not_asked() {
    for transport in BOTH {
        let (address, seen) = server(|_| None).await;
        let origin = format!("http://127.0.0.1:{}", address.port()).parse().unwrap();
        let mut client = HealthClient::with_origin(stack(transport, address, retries()), origin);
        let error = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert!(error.message().contains("no mount for http://127.0.0.1"), "{error:?}");
        assert!(seen.lock().unwrap().is_empty(), "{transport:?}");
    }
}

/// In a handler or a task neither the box alone nor `map_err` alone compiles.
#[tokio::test]
async fn a_call_is_made_in_a_task_of_its_own() {
    for transport in BOTH {
        let (address, seen) = server(|count| (count < 2).then(unavailable)).await;
        let channel =
            Channel::new(stack(transport, address, retries()).map_err(Status::from_error));
        let origin = format!("http://localhost:{}", address.port()).parse().unwrap();
        let mut client = HealthClient::with_origin(channel, origin);
        let checked =
            tokio::spawn(async move { client.check(HealthCheckRequest::default()).await });
        assert_eq!(checked.await.unwrap().unwrap().into_inner().status(), Serving::Serving);
        assert_eq!(seen.lock().unwrap().len(), 3, "{transport:?}");
    }
}

#[tokio::test]
async fn unavailable_in_the_trailers_is_the_callers_even_without_a_message() {
    for transport in BOTH {
        let (address, seen) = server(|_| Some(in_trailers(None))).await;
        let mut client = client(transport, address, retries());
        let error = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(*seen.lock().unwrap(), ["Check none"], "{transport:?}");
    }
}

#[tokio::test]
async fn a_response_has_the_history_and_a_status_has_the_retries_error_as_its_source() {
    for transport in BOTH {
        let (address, _) = server(|count| (count < 1).then(unavailable)).await;
        let mut answered = client(transport, address, retries());
        let response = answered.check(HealthCheckRequest::default()).await.unwrap();
        let history = response.extensions().get::<RetryHistory>().expect("an attempt failed");
        assert_eq!(history.attempts().len(), 2, "{transport:?}");

        let origin = format!("http://localhost:{}", address.port()).parse().unwrap();
        let refused = stack_after(2, transport, address, retries().total(1));
        let mut refused = HealthClient::with_origin(refused, origin);
        let status = refused.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!(attempts(&status), [Some(Failure::Connect); 2], "{transport:?}");
    }
}

/// The failures of the `RetryError` under a status. Empty if there is none.
fn attempts(status: &Status) -> Vec<Option<Failure>> {
    let retries = status.source().and_then(|source| source.downcast_ref::<RetryError>());
    let attempts = retries.map_or(&[][..], |error| error.history().attempts());
    attempts.iter().map(|attempt| attempt.failure).collect()
}

/// `ReplayBodyLayer` in the place of the layer that collects the body. A body of tonic is a stream.
#[tokio::test]
async fn a_streamed_call_is_repeated_if_it_was_kept_or_not_sent() {
    let kept = ReplayBodyLayer::default();
    for (layer, refusals, failures) in [(kept, 2, 0), (kept.max_bytes(0), 2, 0), (kept, 0, 2)] {
        let (address, seen) = server(move |count| (count < failures).then(unavailable)).await;
        let origin = format!("http://localhost:{}", address.port());
        let transport = Endpoint::from_shared(origin.clone())
            .unwrap()
            .connect_with_connector_lazy(connector(refusals, address));
        let routes = RoutingLayer::builder().mount(origin.as_str(), RetryLayer::new(retries()));
        let stack = ServiceBuilder::new()
            .layer(layer)
            .layer(routes.build().unwrap())
            .layer(CookieLayer::default())
            .service(transport.map_request(|request: Request<_>| request.map(TonicBody::new)));
        let channel = Channel::new(stack.map_err(Status::from_error));
        let mut client = HealthClient::with_origin(channel, origin.parse().unwrap());
        let response = client.check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(response.into_inner().status(), Serving::Serving);
        assert_eq!(seen.lock().unwrap().len(), failures + 1);
    }
}

/// The function of the guide's page `clients`.
fn status_of(error: BoxError) -> Status {
    let mut next: Option<&(dyn Error + 'static)> = Some(&*error);
    while let Some(cause) = next {
        let retries = cause.downcast_ref::<RetryError>();
        let is_late =
            retries.is_some_and(|error| error.history().stop_reason() == StopReason::Deadline);
        if is_late || cause.is::<Elapsed>() {
            let mut status = Status::deadline_exceeded(error.to_string());
            status.set_source(Arc::from(error));
            return status;
        }
        next = cause.source();
    }
    Status::from_error(error)
}

/// A channel to a server that never answers. There is no socket, so that time can be paused. How
/// many calls it accepts at a time.
fn silent(
    permits: usize,
    endpoint: &Endpoint,
    policy: RetryPolicy,
    status_of: fn(BoxError) -> Status,
) -> HealthClient<Channel> {
    let far_ends = Mutex::<Vec<DuplexStream>>::default();
    let transport = endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| {
        let (near, far) = duplex(64 * 1024);
        far_ends.lock().unwrap().push(far);
        future::ready(Ok::<_, Infallible>(TokioIo::new(near)))
    }));
    let stack = ServiceBuilder::new()
        .layer(ReplayBodyLayer::default())
        .layer(RetryLayer::new(policy))
        .layer(ConcurrencyLimitLayer::new(permits))
        .service(transport.map_request(|request: Request<_>| request.map(TonicBody::new)));
    let channel = Channel::new(stack.map_err(status_of));
    HealthClient::with_origin(channel, endpoint.uri().clone())
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_a_status_of_its_own() {
    let second = Duration::from_secs(1);
    let without = Endpoint::from_static("http://silent.example");
    let timed = without.clone().timeout(second);
    let timeout = Some(Failure::Timeout);
    let from_error: fn(BoxError) -> Status = Status::from_error;
    let ours: fn(BoxError) -> Status = status_of;
    let (late, unknown) = (Code::DeadlineExceeded, Code::Unknown);
    let once = RetryPolicy::new;
    let rows = [
        ("deadline", 1, &without, retries().deadline(second), ours, late, vec![timeout]),
        ("not ready", 0, &without, retries().deadline(second), ours, late, vec![]),
        ("attempts", 1, &without, retries().attempt_timeout(second), ours, late, vec![timeout; 4]),
        ("one attempt", 1, &without, once().attempt_timeout(second), ours, late, vec![]),
        ("tonic's", 1, &timed, retries(), ours, Code::Cancelled, vec![Some(Failure::Other); 4]),
        ("alone", 1, &without, retries().deadline(second), from_error, unknown, vec![timeout]),
    ];
    for (name, permits, endpoint, policy, status_of, code, wanted) in rows {
        let mut client = silent(permits, endpoint, policy, status_of);
        let status = client.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!((status.code(), attempts(&status)), (code, wanted), "{name}: {status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_timeout_of_a_request_bounds_each_attempt() {
    let endpoint = Endpoint::from_static("http://silent.example");
    let mut client = silent(1, &endpoint, retries(), status_of);
    let mut request = TonicRequest::new(HealthCheckRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let status = client.check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled);
    assert_eq!(attempts(&status), [Some(Failure::Other); 4]);
}
