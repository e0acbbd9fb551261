//! The foreign types that are recognised at run time. The guide's page on compatibility lists them.
//! A row fails if a dependency's errors have another type.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn;
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioIo},
};
use tokio::io::AsyncReadExt;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer,
    cookie::CookieJar,
    retry::{Failure, Policy, RetryPolicy},
};

use crate::rows;

type Body = Full<Bytes>;

fn post(uri: &str) -> Request<Body> {
    Request::post(uri).body(Body::default()).unwrap()
}

fn class(error: &(dyn Error + 'static)) -> Failure {
    Policy::classify(&RetryPolicy::new(), Err(error)).expect("an error is a failure")
}

/// An error of hyper-util, which wraps one of the system.
async fn no_connection() -> BoxError {
    // A failed name look-up has a private type. Only hyper-util's `is_connect` tells what it is.
    let resolver =
        service_fn(|_| async { Err::<std::vec::IntoIter<_>, _>(io::Error::other("no such host")) });
    let connector = hyper_util::client::legacy::connect::HttpConnector::new_with_resolver(resolver);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    client.oneshot(post("http://h.example/")).await.unwrap_err().into()
}

/// An error of hyper: the server reads the request and closes the connection.
async fn broken_off() -> hyper::Error {
    let (near, mut far) = tokio::io::duplex(1024);
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    let server = async move { far.read(&mut [0; 1024]).await.unwrap() };
    tokio::join!(sender.send_request(post("/")), server).0.unwrap_err()
}

/// An error of h2: the server refuses the stream.
#[cfg(feature = "http2")]
async fn refused() -> hyper::Error {
    let (near, far) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.unwrap();
        while let Some(Ok((_, mut respond))) = server.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(near)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(post("http://h.example/")).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn the_error_of_each_dependency_is_recognised() {
    let never = || service_fn(|_: ()| std::future::pending::<Result<(), BoxError>>());
    let of_tower = ServiceBuilder::new().timeout(Duration::from_secs(1)).service(never());
    let of_tower = of_tower.oneshot(()).await.unwrap_err();
    let of_tokio =
        tokio::time::timeout(Duration::from_secs(1), never().oneshot(())).await.unwrap_err();
    let rows: Vec<(&str, BoxError, Failure)> = vec![
        ("hyper-util", no_connection().await, Failure::Connect),
        ("hyper", broken_off().await.into(), Failure::Read),
        #[cfg(feature = "http2")]
        ("h2", refused().await.into(), Failure::Unsent),
        ("tower", of_tower, Failure::Timeout),
        ("tokio", of_tokio.into(), Failure::Timeout),
        ("an error of no one known", "what".into(), Failure::Other),
    ];
    rows::hold(rows, |(of, error, want)| (format!("{of}: {error:?}"), class(&*error), want));
}

/// tower-http's `RequestUri`. Without it the cookie would belong to the first host.
#[tokio::test]
async fn redirects_inside_the_cookies_say_who_answered() {
    let server = service_fn(|request: Request<Body>| async move {
        match request.uri().host() {
            Some("a.example") => {
                Response::builder().status(302).header("location", "https://b.example/")
            }
            _ => Response::builder().header("set-cookie", "id=42"),
        }
        .body(())
    });
    let jar = CookieJar::new();
    let client = ServiceBuilder::new()
        .layer(CookieLayer::new(jar.clone()))
        .layer(FollowRedirectLayer::new())
        .service(server);
    let request = Request::get("https://a.example/").body(Body::default()).unwrap();
    client.oneshot(request).await.unwrap();
    let domains: Vec<_> = jar.iter().map(|cookie| cookie.domain().to_owned()).collect();
    assert_eq!(domains, ["b.example"]);
}

/// The part of a version that must stay: 1 of 1.12.0, 0.1 of 0.1.21.
fn compatible(version: &str) -> String {
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// With another version everything would compile, but its errors would be `Other`.
#[test]
fn the_guide_names_the_versions_that_are_built_in() {
    let page = include_str!("../../src/guide/compatibility.md");
    let manifest = include_str!("../../Cargo.toml");
    let (_, manifest) = manifest.split_once("\n[dependencies]").expect("the section");
    let (manifest, _) = manifest.split_once("\n[dev-dependencies]").expect("the next one");
    let named = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" | "));
    let named: Vec<_> = named
        .filter_map(|(names, rest)| Some((names, rest.split_once(" |")?.0)))
        .flat_map(|(names, version)| names.split(", ").map(move |name| (name, version)))
        .collect();
    assert!(named.len() > 15, "the two tables: {named:?}");
    rows::hold(named, |(name, version)| {
        let name = name.trim_matches('`');
        let line = manifest.lines().find_map(|line| line.strip_prefix(&format!("{name} = ")));
        let built_in = line.and_then(|line| {
            let after = line.split_once("version = ").map_or(line, |(_, after)| after);
            after.trim_start_matches('"').split('"').next()
        });
        (name, compatible(built_in.unwrap_or("is no dependency")), version.to_owned())
    });
}
