//! A hyper client and the server side of its connections, over plain TCP or TLS, HTTP/1.1 or
//! HTTP/2.

use std::{io, net::SocketAddr, sync::Arc};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsAcceptor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Http1,
    Http1Tls,
    Http2,
    Http2Tls,
}

impl Transport {
    pub(crate) const fn is_tls(self) -> bool {
        matches!(self, Self::Http1Tls | Self::Http2Tls)
    }

    pub(crate) const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2Tls)
    }

    pub(crate) fn uri(self, address: SocketAddr) -> String {
        match self.is_tls() {
            true => format!("https://localhost:{}/", address.port()),
            false => format!("http://{address}/"),
        }
    }

    pub(crate) fn client<C, B>(self, connector: C) -> Client<C, B>
    where
        C: Connect + Clone,
        B: http_body::Body + Send,
        B::Data: Send,
    {
        Client::builder(TokioExecutor::new()).http2_only(self == Self::Http2).build(connector)
    }
}

pub(crate) type HttpClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// A certificate authority of one certificate, for `localhost`.
pub(crate) struct Tls {
    server: Arc<rustls::ServerConfig>,
    trusting: rustls::ClientConfig,
}

impl Tls {
    pub(crate) fn new(transport: Transport) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        server.alpn_protocols =
            vec![if transport.is_http2() { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { server: Arc::new(server), trusting }
    }

    #[allow(dead_code)] // not every test file needs it
    pub(crate) fn client<B>(&self, transport: Transport) -> HttpClient<B>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        transport.client(self.connector(transport, tcp()))
    }

    /// A client that trusts no certificate.
    pub(crate) fn wary_client<B>(&self, transport: Transport) -> HttpClient<B>
    where
        B: http_body::Body + Send,
        B::Data: Send,
    {
        let nothing = rustls::RootCertStore::empty();
        let config =
            rustls::ClientConfig::builder().with_root_certificates(nothing).with_no_client_auth();
        transport.client(connector_with(config, transport, tcp()))
    }

    /// TLS over the connections of another, where the transport has it.
    pub(crate) fn connector<C>(&self, transport: Transport, connections: C) -> HttpsConnector<C> {
        connector_with(self.trusting.clone(), transport, connections)
    }

    /// The stream of a connection, after its handshake where there is one.
    pub(crate) async fn accept(
        &self,
        transport: Transport,
        stream: TcpStream,
    ) -> io::Result<Box<dyn Stream>> {
        if !transport.is_tls() {
            return Ok(Box::new(stream));
        }
        Ok(Box::new(TlsAcceptor::from(Arc::clone(&self.server)).accept(stream).await?))
    }
}

fn connector_with<C>(
    config: rustls::ClientConfig,
    transport: Transport,
    connections: C,
) -> HttpsConnector<C> {
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    match transport.is_http2() {
        true => builder.enable_http2().wrap_connector(connections),
        false => builder.enable_http1().wrap_connector(connections),
    }
}

/// A stream that TLS can use.
pub(crate) fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector
}

pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
