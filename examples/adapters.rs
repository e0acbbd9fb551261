//! Two complete clients with their own TLS settings are mounted for two prefixes. A third client
//! serves everything else. In requests this is `session.mount` with an `HTTPAdapter` that has an
//! `ssl_context`.
//!
//! ```sh
//! cargo run --example adapters
//! ```
//!
//! This starts three TLS servers on the loopback. Each has a certificate that only one of the
//! clients trusts. The output shows which client reaches which server, and which is refused.
#![allow(clippy::print_stdout)]

use std::{error::Error, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioIo},
};
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
    version::{TLS12, TLS13},
};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::{BoxError, Layer, ServiceExt, util::BoxCloneSyncService};
use tower_outbound::{
    CookieLayer, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::RetryPolicy,
    routing::{Mount, RoutingService},
};

type Body = Full<Bytes>;
type Adapter = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;
type Session = RoutingService<Adapter, Body, Incoming>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    for line in run().await? {
        println!("{line}");
    }
    Ok(())
}

/// The lines that the example prints.
pub async fn run() -> Result<Vec<String>, BoxError> {
    let modern = Server::start(&["api.example"], &[&TLS13]).await?;
    let old =
        Server::start(&["legacy.example", "old.example", "elsewhere.example"], &[&TLS12]).await?;
    let public = Server::start(&["www.example"], &[&TLS12, &TLS13]).await?;
    let hosts = vec![
        ("api.example", modern.address),
        ("legacy.example", old.address),
        ("old.example", old.address),
        ("elsewhere.example", old.address),
        ("www.example", public.address),
    ];
    let hosts: Arc<[_]> = hosts.into();

    // All clients get the same jar. A mounted client is complete in itself: no layer outside it
    // gives it a jar.
    let jar = CookieJar::new();
    let strict = client(&jar, &hosts, &[&TLS13], &[&modern, &old])?;
    let lenient = client(&jar, &hosts, &[&TLS12], &[&old])?;
    let usual = client(&jar, &hosts, &[&TLS12, &TLS13], &[&public])?;

    let session: Session = RoutingLayer::builder()
        .mount_service(
            "https://api.example",
            RetryLayer::new(RetryPolicy::new()).layer(strict.clone()),
        )
        .mount_service("https://legacy.example", lenient)
        // The first client trusts this server's certificate, but does not allow its TLS version.
        .mount_service("https://old.example", strict)
        .build()?
        .layer(usual);

    let mut lines = Vec::new();
    for uri in [
        "https://api.example/",
        "https://legacy.example/",
        "https://www.example/",
        "https://api.example/again",
        "https://old.example/",
        "https://elsewhere.example/",
    ] {
        lines.push(format!("{uri:27} {}", visit(&session, uri).await));
    }
    let mut cookies: Vec<_> = jar.iter().map(|cookie| cookie.domain().to_owned()).collect();
    cookies.sort();
    lines.push(format!("one jar, with cookies of    {}", cookies.join(", ")));
    Ok(lines)
}

async fn visit(session: &Session, uri: &str) -> String {
    match fetch(session, uri).await {
        Ok(line) => line,
        Err(error) => format!("refused: {}", root(&*error)),
    }
}

async fn fetch(session: &Session, uri: &str) -> Result<String, BoxError> {
    let response = session.clone().oneshot(Request::get(uri).body(Body::default())?).await?;
    let mount = response
        .extensions()
        .get()
        .map_or("everything else".to_owned(), |Mount(prefix)| prefix.to_string());
    let body = response.into_body().collect().await?.to_bytes();
    Ok(format!("{mount:24} {}", String::from_utf8_lossy(&body)))
}

/// The innermost error. An `io::Error` does not return the error inside it as its source.
fn root(error: &(dyn Error + 'static)) -> String {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .map(|inner| inner as &(dyn Error + 'static));
    inner.or_else(|| error.source()).map_or_else(|| error.to_string(), root)
}

/// A complete client, with its own pool and TLS settings, and the shared jar.
fn client(
    jar: &CookieJar,
    hosts: &Arc<[(&'static str, SocketAddr)]>,
    versions: &[&'static SupportedProtocolVersion],
    trusted: &[&Server],
) -> Result<Adapter, BoxError> {
    let mut roots = RootCertStore::empty();
    for server in trusted {
        roots.add(server.certificate.clone())?;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder(TokioExecutor::new()).build(connector(hosts, tls));
    Ok(Adapter::new(CookieLayer::new(jar.clone()).layer(client).map_err(BoxError::from)))
}

type Resolved = std::iter::Once<SocketAddr>;
type Resolver = tower::util::BoxCloneSyncService<Name, Resolved, io::Error>;

/// Resolves only the example's hosts, so that nothing leaves the loopback.
fn connector(
    hosts: &Arc<[(&'static str, SocketAddr)]>,
    tls: ClientConfig,
) -> HttpsConnector<HttpConnector<Resolver>> {
    let hosts = Arc::clone(hosts);
    let resolver = Resolver::new(tower::service_fn(move |name: Name| {
        let found =
            hosts.iter().find(|(host, _)| *host == name.as_str()).map(|(_, address)| *address);
        std::future::ready(
            found.map(std::iter::once).ok_or_else(|| io::Error::other("no such host")),
        )
    }));
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    // Otherwise a small last piece of a request waits for an acknowledgement, 40 ms or more.
    tcp.set_nodelay(true);
    HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_only()
        .enable_http1()
        .wrap_connector(tcp)
}

struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
}

impl Server {
    /// Answers with the TLS version of the connection and the cookies of the request.
    async fn start(
        names: &[&str],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<Self, BoxError> {
        let mut params =
            CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, names[0]);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(serve(listener, TlsAcceptor::from(Arc::new(config))));
        Ok(Self { address, certificate })
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true); // as above
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // The client may refuse the handshake.
            let Ok(stream) = acceptor.accept(socket).await else { return };
            let version = stream
                .get_ref()
                .1
                .protocol_version()
                .and_then(|version| version.as_str())
                .unwrap_or("?");
            let answer = service_fn(move |request: Request<Incoming>| {
                let cookies = request
                    .headers()
                    .get("cookie")
                    .and_then(|line| line.to_str().ok())
                    .unwrap_or("none");
                let response = Response::builder()
                    .header("set-cookie", format!("seen={version}; Secure"))
                    .body(Body::from(format!("over {version}, cookies: {cookies}")));
                std::future::ready(response)
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}
