//! hyper's client, with TLS and `--resolve`.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response, Uri, uri::Scheme};
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
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
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
    let addresses: Arc<HashMap<_, _>> = Arc::new(args.resolve.iter().cloned().collect());
    let tcp = tcp.map_request(move |uri: Uri| resolved(&addresses, &uri).unwrap_or(uri));

    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failed::new(35, error.to_string()))?
        .with_root_certificates(roots(args)?)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
        // One header that cannot be read does not cost the response.
        .http1_ignore_invalid_headers_in_responses(true)
        .build(connector);
    Ok(client.map_err(BoxError::from).boxed_clone())
}

fn roots(args: &Args) -> Result<RootCertStore, Failed> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &args.cacert else {
        // A system may have some that do not parse, or none; what counts is whether the server's is
        // among the others.
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

/// Where `--resolve` says to connect to, if it does.
fn resolved(addresses: &HashMap<(String, u16), IpAddr>, uri: &Uri) -> Option<Uri> {
    let (_, host, port) = origin(uri)?;
    let address = addresses.get(&(host.to_ascii_lowercase(), port))?;
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(SocketAddr::new(*address, port).to_string().parse().ok()?);
    Uri::from_parts(parts).ok()
}

pub(crate) fn origin(uri: &Uri) -> Option<(&Scheme, &str, u16)> {
    let scheme = uri.scheme()?;
    let port = uri.port_u16().unwrap_or(if *scheme == Scheme::HTTPS { 443 } else { 80 });
    Some((scheme, uri.host()?, port))
}
