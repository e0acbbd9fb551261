//! A server for the tests: hyper on the loopback, with HTTP/1.1 and HTTP/2, with and without TLS.
#![allow(missing_docs, missing_debug_implementations)]

use std::{
    future::pending,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Collected, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
};
use tokio_rustls::TlsAcceptor;

/// One request, as the server received it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    pub host: String,
    pub cookies: String,
    pub header: http::HeaderMap,
    pub body: Bytes,
}

impl Seen {
    /// Method, path and cookies.
    pub fn line(&self) -> String {
        format!("{} {} {}", self.method, self.uri.path(), self.cookies).trim_end().to_owned()
    }
}

type Handler = Arc<dyn Fn(&Seen, usize) -> Response<Full<Bytes>> + Send + Sync>;

pub struct Server {
    pub address: SocketAddr,
    /// The certificate of the server.
    pub certificate: Option<CertificateDer<'static>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// `handler` gets each request, and the number of earlier requests to the same path. If the
    /// response has an `h2::Reason` in its extensions, the server resets the stream instead. If it
    /// has an `Arc<Notify>`, the server notifies it and never sends the response.
    pub async fn start(
        handler: impl Fn(&Seen, usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(None, Arc::new(handler)).await
    }

    /// With a certificate for `localhost`.
    pub async fn start_tls(
        handler: impl Fn(&Seen, usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a certificate and its key");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::listen(Some((config, certificate)), Arc::new(handler)).await
    }

    async fn listen(
        tls: Option<(ServerConfig, CertificateDer<'static>)>,
        handler: Handler,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (config, certificate) = tls.unzip();
        let acceptor = config.map(|config| TlsAcceptor::from(Arc::new(config)));
        let server =
            Self { address, certificate, seen: Arc::default(), connections: Arc::default() };
        let (seen, connections) = (Arc::clone(&server.seen), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Relaxed);
                let (seen, handler, acceptor) =
                    (Arc::clone(&seen), Arc::clone(&handler), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => serve(socket, seen, handler).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(socket).await {
                                serve(stream, seen, handler).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// `http://HOST:port`, for a name of the loopback.
    pub fn origin(&self, host: &str) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{host}:{}", self.address.port())
    }
}

async fn serve(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: Arc<Mutex<Vec<Seen>>>,
    handler: Handler,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, handler) = (Arc::clone(&seen), Arc::clone(&handler));
        async move {
            let (parts, body) = request.into_parts();
            // If a request breaks off here, no test reads it, so it may be empty.
            let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
            let text = |name: &str| {
                let values: Vec<_> = parts
                    .headers
                    .get_all(name)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .collect();
                values.join("; ")
            };
            let host = parts.uri.authority().map_or_else(|| text("host"), ToString::to_string);
            let request = Seen {
                host,
                cookies: text("cookie"),
                method: parts.method,
                uri: parts.uri,
                version: parts.version,
                header: parts.headers,
                body,
            };
            let count = {
                let mut seen = seen.lock().expect("no panic");
                let count =
                    seen.iter().filter(|other| other.uri.path() == request.uri.path()).count();
                seen.push(request.clone());
                count
            };
            let response = handler(&request, count);
            if let Some(arrived) = response.extensions().get::<Arc<Notify>>() {
                arrived.notify_one();
                pending::<()>().await;
            }
            match response.extensions().get::<h2::Reason>() {
                Some(reason) => Err(h2::Error::from(*reason)),
                None => Ok(response),
            }
        }
    });
    let _ =
        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
}

/// Answers the first request to a path with 503 and a cookie, and the others with `answer` and
/// another cookie.
pub fn busy_at_first(
    answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> impl Fn(&Seen, usize) -> Response<Full<Bytes>> + Send + Sync + 'static {
    move |seen, count| {
        let (mut response, cookie) = match count {
            0 => {
                let mut response = Response::new(Full::from("busy"));
                *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
                (response, "busy=1")
            }
            _ => (answer(seen), "done=1"),
        };
        response.headers_mut().append("set-cookie", http::HeaderValue::from_static(cookie));
        response
    }
}

/// A response with JSON in it.
pub fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    let body = Full::from(value.to_string());
    Response::builder().header("content-type", "application/json").body(body).expect("a response")
}

/// The snippets of the guide's page `clients`, as doctests.
#[cfg(doctest)]
#[doc = include_str!("../../src/guide/clients.md")]
struct InYourClient;
