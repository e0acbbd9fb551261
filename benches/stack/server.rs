//! The server, in a process of its own: what it takes is not the client's.

use std::{
    env, fmt,
    future::ready,
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{Request, Response, header};
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
};
use tokio_rustls::TlsAcceptor;

use super::{
    clients::{Body, HOST},
    runtime,
};

pub(crate) const JSON: &[u8] = br#"{"id":42,"ok":true}."#;

/// Where it listens. As text, one line.
#[derive(Clone)]
pub(crate) struct Address {
    /// HTTP/1.1 and, with prior knowledge, HTTP/2.
    pub(crate) plain: SocketAddr,
    /// The same over TLS.
    pub(crate) tls: SocketAddr,
    /// For `HOST`.
    pub(crate) certificate: CertificateDer<'static>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let certificate = BASE64_STANDARD.encode(&self.certificate);
        write!(f, "{} {} {certificate}", self.plain, self.tls)
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split_whitespace();
        let mut word = || words.next().ok_or("too few words");
        let (plain, tls, certificate) = (word()?, word()?, word()?);
        Ok(Self {
            plain: plain.parse().or(Err("no address"))?,
            tls: tls.parse().or(Err("no address"))?,
            certificate: BASE64_STANDARD.decode(certificate).or(Err("no certificate"))?.into(),
        })
    }
}

/// Serves until the process is ended, and prints its address first.
pub(crate) fn serve() {
    let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a certificate and its key");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    runtime().block_on(async {
        let listener = || TcpListener::bind("127.0.0.1:0");
        let (plain, tls) =
            (listener().await.expect("a port"), listener().await.expect("another port"));
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        println!("{}", Address { plain: address(&plain), tls: address(&tls), certificate });
        loop {
            tokio::select! {
                accepted = plain.accept() => {
                    let (stream, _) = accepted.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    tokio::spawn(answer(stream));
                }
                accepted = tls.accept() => {
                    let (stream, _) = accepted.expect("a connection");
                    stream.set_nodelay(true).expect("an option");
                    let shaken = acceptor.accept(stream);
                    tokio::spawn(async move { answer(shaken.await.expect("a handshake")).await });
                }
            }
        }
    });
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let json = |_: Request<Incoming>| {
        let json = Response::builder().header(header::CONTENT_TYPE, "application/json");
        ready(json.body(Body::from(JSON)))
    };
    let http = auto::Builder::new(TokioExecutor::new());
    // A client that goes away is no fault.
    let _ = http.serve_connection(TokioIo::new(stream), service_fn(json)).await;
}

/// That process, which ends with this value.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: Address,
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
        Self { child, address: line.parse().expect("an address") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
