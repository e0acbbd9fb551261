//! The class of each error of a client.

use std::{error::Error, io, vec};

use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{
            HttpConnector,
            dns::{GaiResolver, Name},
        },
    },
    rt::TokioExecutor,
};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};
use tower_outbound::retry::{Failure, Policy, RetryError, RetryLayer};

#[cfg(feature = "http2")]
use crate::fakes::Body;
use crate::{fakes::policy, rows_async};

/// The policy's decision for a GET with this error.
fn class(error: &(dyn Error + 'static)) -> Failure {
    Policy::classify(&policy(), Err(error)).expect("an error is a failure")
}

#[tokio::test]
async fn a_request_that_the_client_cannot_send_is_not_tried_again() {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let relative = Request::get("/path").body(Empty::new()).unwrap();
    let mut version = Request::get("http://127.0.0.1:1/").body(Empty::new()).unwrap();
    *version.version_mut() = http::Version::HTTP_09;
    let https = Request::get("https://127.0.0.1:1/").body(Empty::new()).unwrap();
    let rows = [("a relative URI", relative), ("HTTP/0.9", version), ("https without TLS", https)];
    rows_async::hold(rows, async |(what, request)| {
        let error = Client::request(&client, request).await.unwrap_err();
        (format!("{what}: {error:?}"), class(&error), Failure::Never)
    })
    .await;
}

/// A POST to this host, through this resolver.
async fn resolved<R>(resolver: R, host: &str) -> BoxError
where
    R: Service<Name, Response: Iterator<Item = std::net::SocketAddr> + Send, Error: Into<BoxError>>
        + Clone
        + Send
        + Sync
        + 'static,
    R::Future: Send,
{
    let connector = HttpConnector::new_with_resolver(resolver);
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let post = Request::post(format!("http://{host}/")).body(Empty::new()).unwrap();
    RetryLayer::new(policy()).layer(client).oneshot(post).await.unwrap_err()
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_tried_again_for_any_method() {
    let fails = service_fn(async |_: Name| {
        Err::<vec::IntoIter<_>, _>(io::Error::other("failed to lookup address information"))
    });
    // A label is at most 63 bytes long, so the system's resolver sends no question.
    let too_long = format!("{}.example", "a".repeat(64));
    rows_async::hold([false, true], async |is_systems| {
        let error = match is_systems {
            true => resolved(GaiResolver::new(), &too_long).await,
            false => resolved(fails, "nowhere.example").await,
        };
        let attempts = error.downcast_ref().map(|error: &RetryError| {
            error.history().attempts().iter().map(|attempt| attempt.failure).collect::<Vec<_>>()
        });
        let want = Some(vec![Some(Failure::Connect); 4]);
        (format!("the system's resolver: {is_systems}, {error:?}"), attempts, want)
    })
    .await;
}

/// The error of a request whose connection is closed before the request is sent.
pub(crate) async fn closed() -> hyper::Error {
    let (near, far) = tokio::io::duplex(64);
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(
        hyper_util::rt::TokioIo::new(near),
    )
    .await
    .unwrap();
    drop((connection, far));
    sender.ready().await.unwrap_err()
}

#[tokio::test]
async fn a_connection_found_closed_before_sending_has_sent_nothing() {
    let error = closed().await;
    assert!(error.is_closed());
    assert_eq!(class(&error), Failure::Unsent);
}

/// A RST_STREAM with a code; 7 is REFUSED_STREAM.
#[cfg(feature = "http2")]
pub(crate) fn reset(code: u8) -> Vec<u8> {
    vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]
}

/// A GOAWAY with a code, and the last stream that the server may have processed.
#[cfg(feature = "http2")]
pub(crate) fn goaway(last: u8, code: u8) -> Vec<u8> {
    vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, code]
}

/// The error of a request over HTTP/2 and a pipe. The server reads the head of a request, then
/// sends what the test says. It closes the connection if the test says so, otherwise after the
/// client.
#[cfg(feature = "http2")]
pub(crate) async fn http2(server_says: &[u8], hangs_up: bool) -> hyper::Error {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let said = server_says.to_vec();
    tokio::spawn(async move {
        far.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
        // The preface, SETTINGS, then frames until HEADERS.
        let mut seen = vec![0; 24];
        far.read_exact(&mut seen).await.unwrap();
        loop {
            let mut head = [0; 9];
            far.read_exact(&mut head).await.unwrap();
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            far.read_exact(&mut payload).await.unwrap();
            if head[3] == 1 {
                break;
            }
        }
        far.write_all(&said).await.unwrap();
        far.flush().await.unwrap();
        while !hangs_up && far.read(&mut seen).await.is_ok_and(|read| read > 0) {}
    });
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://h.example/").body(Body::from("upload")).unwrap();
    sender.send_request(request).await.unwrap_err()
}

#[cfg(feature = "http2")]
#[tokio::test]
async fn http2_tells_what_it_did_not_process_from_what_it_may_have() {
    // RFC 9113 section 6.8: streams above the named one were not processed, whatever the code.
    let rows = [
        ("GOAWAY NO_ERROR, not us", goaway(0, 0), false, Failure::Unsent),
        ("GOAWAY ENHANCE_YOUR_CALM, not us", goaway(0, 11), false, Failure::Unsent),
        ("GOAWAY INTERNAL_ERROR, not us", goaway(0, 2), false, Failure::Unsent),
        ("GOAWAY NO_ERROR with us, then the end", goaway(1, 0), true, Failure::Read),
        ("GOAWAY INTERNAL_ERROR with us, then the end", goaway(1, 2), true, Failure::Read),
        ("RST_STREAM REFUSED_STREAM", reset(7), false, Failure::Unsent),
        ("RST_STREAM CANCEL", reset(8), false, Failure::Read),
        ("RST_STREAM INTERNAL_ERROR", reset(2), false, Failure::Read),
        ("RST_STREAM HTTP_1_1_REQUIRED", reset(13), false, Failure::Never),
        ("GOAWAY HTTP_1_1_REQUIRED, not us", goaway(0, 13), false, Failure::Never),
        ("the end", vec![], true, Failure::Read),
    ];
    rows_async::hold(rows, async |(what, said, hangs_up, want)| {
        let got = class(&http2(&said, hangs_up).await);
        (what, got, want)
    })
    .await;
}
