//! The smallest correct proxy on hyper and hyper-util's client: no mounts, no retries, no cookies,
//! no limits, no counters.

use std::{convert::Infallible, net::SocketAddr};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

pub(crate) fn run(upstream: SocketAddr) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(upstream));
}

async fn serve(upstream: SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("{}", listener.local_addr().expect("an address"));
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build(connector);
    loop {
        let (stream, peer) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let client = client.clone();
        let service = service_fn(move |request| {
            let client = client.clone();
            async move { Ok::<_, Infallible>(forward(&client, upstream, peer, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn forward(
    client: &Client<HttpConnector, Incoming>,
    upstream: SocketAddr,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Response<Either<Incoming, Empty<bytes::Bytes>>> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let uri: Uri = format!("http://{upstream}{target}").parse().expect("a URI");
    let host = request.headers_mut().remove(header::HOST);
    one_hop(request.headers_mut());
    for name in ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
        request.headers_mut().remove(name);
    }
    let address = peer.ip().to_string();
    let headers = request.headers_mut();
    if let Some(host) = host {
        let text = host.to_str().unwrap_or_default();
        let forwarded = format!("for={address};host=\"{text}\";proto=http");
        headers.insert("forwarded", HeaderValue::try_from(forwarded).expect("text"));
        headers.insert("x-forwarded-host", host);
    }
    headers.insert("x-forwarded-for", HeaderValue::try_from(address).expect("an address"));
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    headers.append(header::VIA, HeaderValue::from_static("1.1 bare"));
    *request.uri_mut() = uri;
    match client.request(request).await {
        Ok(mut answer) => {
            one_hop(answer.headers_mut());
            answer.map(Either::Left)
        }
        Err(_) => {
            let mut answer = Response::new(Either::Right(Empty::new()));
            *answer.status_mut() = StatusCode::BAD_GATEWAY;
            answer
        }
    }
}

/// What is between two neighbours.
fn one_hop(headers: &mut http::HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|list| list.to_str().ok())
        .flat_map(|list| list.split(',').map(|name| name.trim().to_owned()))
        .collect();
    for name in named {
        headers.remove(name.as_str());
    }
    for name in [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ] {
        headers.remove(name);
    }
}
