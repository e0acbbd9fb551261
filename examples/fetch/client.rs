//! hyper's client, with TLS, `--resolve` and IPv6 zones.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{
    Request, Response, Uri,
    uri::{Authority, Scheme},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::GaiResolver},
    },
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use tower::{BoxError, ServiceExt, util::BoxCloneService};

use crate::{args::Args, failed::Failed};

pub(crate) type Body = Full<Bytes>;
pub(crate) type HttpClient = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

pub(crate) fn new(args: &Args) -> Result<HttpClient, Failed> {
    let resolver = GaiResolver::new()
        .map_err(|error| Failed::new(6, format!("cannot resolve the host: {error}")));
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Below TLS, so that certificates are still checked against the name in the URL.
    let addresses = Arc::new(addresses(args)?);
    let tcp = tcp.map_request(move |uri: Uri| resolved(&addresses, &uri).unwrap_or(uri));

    let provider = Arc::new(ring::default_provider());
    let tls = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failed::new(35, error.to_string()))?;
    let tls = match args.insecure {
        true => tls.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        false => tls.with_root_certificates(roots(args)?),
    };
    let tls = tls.with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        // A header that cannot be read does not make the response an error.
        .http1_ignore_invalid_headers_in_responses(true)
        // Old servers fold long headers, such as a cookie with its attributes.
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .build(connector);
    Ok(client.map_err(BoxError::from).boxed_clone())
}

fn roots(args: &Args) -> Result<RootCertStore, Failed> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &args.cacert else {
        // A system may have no certificates, or some that do not parse. What matters is whether the
        // server's is among the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let unusable = |why: &dyn std::fmt::Display| {
        Failed::new(77, format!("--cacert {}: {why}", path.display()))
    };
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() { Err(unusable(&"no certificate in it")) } else { Ok(roots) }
}

/// Accepts every certificate, for `-k`. A signature would then prove nothing, so signatures are
/// not checked either.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Host and port of a URL, and what to connect to in their place.
type Addresses = HashMap<(String, u16), Authority>;

/// What `--resolve` says, and the zones of IPv6 addresses.
fn addresses(args: &Args) -> Result<Addresses, Failed> {
    let mut addresses = Addresses::new();
    let authority = |text: String| {
        text.parse::<Authority>().map_err(|_| Failed::new(2, "not an address to connect to"))
    };
    for ((host, port), address) in &args.resolve {
        let to = authority(SocketAddr::new(*address, *port).to_string())?;
        addresses.insert((host.clone(), *port), to);
    }
    for target in &args.urls {
        let (Some((_, host, port)), Some(zone)) = (origin(&target.uri), &target.zone) else {
            continue;
        };
        let to = authority(format!("{}%{zone}]:{port}", host.trim_end_matches(']')))?;
        let other = addresses.insert((host.to_owned(), port), to.clone());
        // The pool keeps connections by host and port, so one zone's would serve the other's.
        if other.is_some_and(|other| other != to) {
            return Err(Failed::new(2, "the same address in two zones"));
        }
    }
    Ok(addresses)
}

fn resolved(addresses: &Addresses, uri: &Uri) -> Option<Uri> {
    let (_, host, port) = origin(uri)?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(addresses.get(&(host.to_ascii_lowercase(), port))?.clone());
    Uri::from_parts(parts).ok()
}

pub(crate) fn origin(uri: &Uri) -> Option<(&Scheme, &str, u16)> {
    let scheme = uri.scheme()?;
    let port = uri.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 });
    Some((scheme, uri.host()?, port))
}
