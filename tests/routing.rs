//! The routing layer around services made for the test.
#![cfg(feature = "routing")]

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{
    BoxError, Layer, Service, ServiceExt, layer::layer_fn, limit::ConcurrencyLimitLayer, load_shed::LoadShedLayer,
};
use tower_outbound::routing::{Mount, NoMount, RoutingLayer, RoutingService, UriError};

/// Says its name; panics on a call without readiness of its own.
#[derive(Debug)]
struct Named {
    name: &'static str,
    ready: bool,
}

fn named(name: &'static str) -> Named {
    Named { name, ready: false }
}

impl Clone for Named {
    /// A clone is not ready because its original is.
    fn clone(&self) -> Self {
        named(self.name)
    }
}

#[derive(Debug, PartialEq)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Service<Request<()>> for Named {
    type Response = Response<String>;
    type Error = Broken;
    type Future = Ready<Result<Response<String>, Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(std::mem::take(&mut self.ready), "called without being ready");
        ready(if self.name == "broken" {
            Err(Broken)
        } else {
            Ok(Response::new(format!("{} {}", self.name, request.uri())))
        })
    }
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

async fn send(client: &RoutingService<Named, (), String>, uri: &str) -> Result<(String, Option<Mount>), BoxError> {
    let response = client.clone().oneshot(get(uri)).await?;
    let mount = response.extensions().get().cloned();
    Ok((response.into_body(), mount))
}

#[tokio::test]
async fn a_request_goes_to_its_mount_as_it_was_given_and_the_response_names_it() {
    let client = RoutingLayer::builder()
        .mount("https://h/Api", layer_fn(|inner: Named| inner))
        .mount_service("https://legacy.example", named("legacy"))
        .build()
        .unwrap()
        .layer(named("inner"));
    let rows = [
        ("https://h/x/../Api/%7e?q", "inner https://h/x/../Api/%7e?q", Some("https://h/Api")),
        ("https://legacy.example/", "legacy https://legacy.example/", Some("https://legacy.example")),
        ("https://else.example/", "inner https://else.example/", None),
    ];
    for (uri, body, mount) in rows {
        let (got, by) = send(&client, uri).await.unwrap();
        assert_eq!((got.as_str(), by.as_ref().map(|mount| &*mount.0)), (body, mount));
    }
}

#[tokio::test]
async fn strict_names_what_has_no_mount_without_userinfo_and_query() {
    let client: RoutingService<Named, (), String> =
        RoutingLayer::builder().strict().build().unwrap().layer(named("inner"));
    for uri in ["ftp://x/", "https://u:secret@h.example/p?token=secret"] {
        let error = send(&client, uri).await.unwrap_err();
        let error: &NoMount = error.downcast_ref().unwrap();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let error = send(&client, "https://u:secret@h.example/p?token=secret").await.unwrap_err();
    assert_eq!(error.to_string(), "no mount for https://h.example/p");
}

#[tokio::test]
async fn row_19_what_cannot_be_routed_is_an_error_and_is_not_sent() {
    let client = RoutingLayer::builder().mount("any://", layer_fn(|inner: Named| inner)).build().unwrap();
    let client = client.layer(named("inner"));
    for (uri, want) in
        [("/rel", UriError::Relative), ("http://a:99999/", UriError::Port), ("http://127.1/", UriError::NumericHost)]
    {
        let error = send(&client, uri).await.unwrap_err();
        assert_eq!(error.downcast_ref::<UriError>(), Some(&want), "{uri}");
    }
}

#[tokio::test]
async fn a_default_origin_routes_relative_uris_and_must_be_one() {
    let builder = || RoutingLayer::builder().mount("https://h/api", layer_fn(|inner: Named| inner));
    let client = builder().default_origin("https://h".parse().unwrap()).build().unwrap().layer(named("inner"));
    let (body, mount) = send(&client, "/api/x").await.unwrap();
    assert_eq!((body.as_str(), mount.is_some()), ("inner /api/x", true));
    assert!(builder().default_origin("/rel".parse().unwrap()).build().is_err());
}

#[tokio::test]
async fn an_error_from_a_mount_and_from_the_fallback_keeps_its_type() {
    let client = RoutingLayer::builder().mount_service("https://m.example", named("broken")).build().unwrap();
    let client = client.layer(named("broken"));
    for uri in ["https://m.example/", "https://else.example/"] {
        assert_eq!(send(&client, uri).await.unwrap_err().downcast_ref(), Some(&Broken), "{uri}");
    }
}

#[tokio::test]
async fn a_layer_is_applied_once_and_its_limit_holds_for_all_clones() {
    let applied = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&applied);
    let layer = RoutingLayer::builder()
        .mount(
            "https://h",
            layer_fn(move |inner: Pending| {
                counted.fetch_add(1, Relaxed);
                LoadShedLayer::new().layer(ConcurrencyLimitLayer::new(1).layer(inner))
            }),
        )
        .build()
        .unwrap();
    let client = layer.layer(Pending);
    let clone = client.clone();
    assert_eq!(applied.load(Relaxed), 1);
    let mut first = tokio_test::task::spawn(client.oneshot(get("https://h/")));
    assert!(first.poll().is_pending());
    let error = clone.clone().oneshot(get("https://h/")).await.unwrap_err();
    assert!(error.is::<tower::load_shed::error::Overloaded>());
    drop(first);
    let mut again = tokio_test::task::spawn(clone.oneshot(get("https://h/")));
    assert!(again.poll().is_pending(), "the permit came back with the dropped request");
    assert_eq!(applied.load(Relaxed), 1);
}

/// Never answers.
#[derive(Clone)]
struct Pending;

impl Service<Request<()>> for Pending {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = std::future::Pending<Result<Response<String>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        std::future::pending()
    }
}
