//! Bytes to and from a server: TCP, TLS or a Unix socket.

use std::{io, pin::Pin, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{address::Address, error::RedisError};

pub(super) trait Bytes: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

pub(super) type Stream = Pin<Box<dyn Bytes>>;

/// Reads the certificates, which blocks. So it is done once, and not for each connection.
pub(super) fn tls(ca_certificates: Option<&[u8]>) -> Result<TlsConnector, RedisError> {
    let wrong = |reason| RedisError::Config { reason };
    let mut roots = RootCertStore::empty();
    match ca_certificates {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate =
                    certificate.map_err(|_| wrong("the certificates are not in the format PEM"))?;
                roots
                    .add(certificate)
                    .map_err(|_| wrong("a certificate cannot be used to check others"))?;
            }
        }
        // Certificates that cannot be read do not prevent the use of the others.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(wrong("there is no certificate to check the server's with"));
    }
    // The provider is named explicitly: a process with two providers and no default would panic.
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| wrong("rustls has no protocol version"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(super) async fn open(address: &Address, tls: Option<&TlsConnector>) -> io::Result<Stream> {
    match address {
        Address::Tcp { host, port, tls: secure } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            // Each command waits for its answer: a small write must not wait for the next one.
            stream.set_nodelay(true)?;
            if !secure {
                return Ok(Box::pin(stream));
            }
            let tls = tls.ok_or(io::ErrorKind::Unsupported)?;
            let name = ServerName::try_from(host.clone())
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            Ok(Box::pin(tls.connect(name, stream).await?))
        }
        #[cfg(unix)]
        Address::Unix(path) => Ok(Box::pin(tokio::net::UnixStream::connect(path).await?)),
        #[cfg(not(unix))]
        Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}
