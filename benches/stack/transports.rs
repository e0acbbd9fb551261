//! The same stack over HTTP/2 and TLS, beside the hyper client alone over the same.

use std::sync::Arc;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tower_outbound::retry::RetryPolicy;

use super::{
    Case, case,
    clients::{self, Body, HOST, Names},
    count,
    server::Address,
};

/// The first is what the ratios of the others are compared with.
const NAMES: [&str; 4] = ["HTTP/1.1", "HTTP/2", "HTTP/1.1 over TLS", "HTTP/2 over TLS"];
const REQUESTS: u32 = 1_000;

/// Over one of `NAMES`: the hyper client alone, and the whole stack.
fn pair(number: usize, server: &Address) -> [Case; 2] {
    let mut builder = Client::builder(TokioExecutor::new());
    match number {
        0 => around(&builder.build(clients::connector(server.plain)), "http"),
        1 => around(&builder.http2_only(true).build(clients::connector(server.plain)), "http"),
        2 => around(&builder.build(over_tls(server, false)), "https"),
        _ => around(&builder.build(over_tls(server, true)), "https"),
    }
}

fn over_tls(server: &Address, http2: bool) -> HttpsConnector<HttpConnector<Names>> {
    let mut roots = RootCertStore::empty();
    roots.add(server.certificate.clone()).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = clients::connector(server.tls);
    tcp.enforce_http(false);
    let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
    if http2 {
        tls.enable_http2().wrap_connector(tcp)
    } else {
        tls.enable_http1().wrap_connector(tcp)
    }
}

fn around<C>(client: &Client<C, Body>, scheme: &str) -> [Case; 2]
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let uri: Uri = format!("{scheme}://{HOST}/items/42").parse().expect("a URI");
    let other = format!("{scheme}://other.example");
    let ours = clients::stack(client.clone(), clients::jar(&other), &other, RetryPolicy::new());
    [case(client, &uri), case(&ours, &uri)]
}

/// What callgrind runs: a number of requests of one of a pair.
pub(crate) fn run(number: u32, which: u32, server: &Address, requests: u32) {
    pair(number as usize, server)[which as usize](1, requests);
}

/// Each case once.
pub(crate) fn try_out(server: &Address) {
    for number in 0..NAMES.len() {
        for case in pair(number, server) {
            case(2, 2);
        }
    }
}

/// The whole stack as a ratio to the hyper client alone.
pub(crate) fn report(server: &Address) {
    println!(
        "{:<48} {:>12} {:>7} {:>15} {:>7} {:>12}",
        "one after another, by transport: the whole stack",
        "instructions",
        "ratio",
        "outside malloc",
        "ratio",
        "allocations"
    );
    let mut over_http1 = None;
    for (number, name) in NAMES.into_iter().enumerate() {
        let [bare, ours] = pair(number, server).map(|case| {
            (case(1, 3 * REQUESTS).1 - case(1, REQUESTS).1) as f64 / f64::from(2 * REQUESTS)
        });
        let allocations = ours - bare;
        let Some([bare, ours]) = instructions(number, server) else {
            println!("  {name:<46} no valgrind, no instructions; {allocations:+.2} allocations");
            continue;
        };
        let [all, outside] = [ours[0] / bare[0], ours[1] / bare[1]];
        let apart = outside - *over_http1.get_or_insert(outside);
        // A bare client that has more to do lowers the ratio.
        let verdict = if apart > 0.02 { "  MISSED" } else { "" };
        println!(
            "  {name:<46} {:>12.0} {all:>7.3} {:>15.0} {outside:>7.3} {allocations:>+12.2}{verdict}",
            ours[0], ours[1]
        );
    }
}

/// Per request of the hyper client alone and of the whole stack: all, and those outside malloc.
fn instructions(number: usize, server: &Address) -> Option<[[f64; 2]; 2]> {
    let of = |which: usize| {
        let collected = |requests: u32| {
            count::collected(&[
                "over".to_owned(),
                number.to_string(),
                which.to_string(),
                server.to_string(),
                requests.to_string(),
            ])
        };
        let (few, many) = collected(REQUESTS).zip(collected(3 * REQUESTS))?;
        let slope = |few: u64, many: u64| (many as f64 - few as f64) / f64::from(2 * REQUESTS);
        Some([slope(few.all, many.all), slope(few.outside_malloc, many.outside_malloc)])
    };
    Some([of(0)?, of(1)?])
}
