//! The errors of a request that no mount serves, and of a mount that fails.

use std::{
    convert::Infallible,
    error::Error,
    future::{Ready, ready},
    io,
    task::{Context, Poll},
};

use http::{Request, Response};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    layer::util::Identity,
    service_fn,
    util::{BoxCloneService, BoxCloneSyncService},
};
use tower_outbound::routing::{MountError, NoMount, RoutingLayer, RoutingLayerBuilder, UriError};

type Below = BoxCloneSyncService<Request<()>, Response<()>, Infallible>;

fn below() -> Below {
    Below::new(service_fn(|_: Request<()>| ready(Ok(Response::new(())))))
}

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

fn mounted(prefixes: &[&str]) -> RoutingLayerBuilder<Below, (), ()> {
    prefixes
        .iter()
        .fold(RoutingLayer::builder(), |builder, prefix| builder.mount(*prefix, Identity::new()))
}

#[tokio::test]
async fn a_request_without_a_mount_is_told_the_nearest_one_of_its_host() {
    /// Mounts, a URI, the nearest mount.
    type Row<'a> = (&'a [&'a str], &'a str, Option<&'a str>);
    let paths: &[&str] = &[
        "https://h",
        "https://h/api/v1",
        "https://h/api/v2/items",
        "https://h/api-old",
        "https://h/b/c",
        "https://other/api/v1/x",
    ];
    let rows: &[Row<'_>] = &[
        (&["https://h/v1"], "https://h/v10", Some("https://h/v1")),
        (&["https://h/v1"], "https://h/", Some("https://h/v1")),
        (&["https://h"], "http://h/", Some("https://h")),
        (&["https://h:8443"], "https://h/", Some("https://h:8443")),
        (&["HTTPS://H.:8443/"], "https://u:p@h?q", Some("HTTPS://H.:8443/")),
        (&["https://h"], "https://g/", None),
        (&["https://h"], "https://h.g/", None),
        (&[], "https://h/", None),
        // The longest beginning in common, whole segments before parts of them.
        (paths, "http://h/api/v1/x", Some("https://h/api/v1")),
        (paths, "http://h/api/v1", Some("https://h/api/v1")),
        (paths, "http://h/api/v2", Some("https://h/api/v2/items")),
        (paths, "http://h/api/v2/other", Some("https://h/api/v2/items")),
        (paths, "http://h/x/../api/v%31/x", Some("https://h/api/v1")),
        (paths, "http://h/b", Some("https://h/b/c")),
        (paths, "http://h/", Some("https://h")),
        (paths, "http://h/zzz", Some("https://h")),
        (&["https://h/a", "https://h/a-", "https://h/a-b"], "http://h/a/b", Some("https://h/a")),
        (&["https://h/a-b", "https://h/a/b"], "http://h/a", Some("https://h/a/b")),
        (&["https://h/b", "https://h/a/b/c"], "http://h/zzz", Some("https://h/b")),
        // The same port before another one.
        (&["https://h:1", "https://h:80", "https://h:8080"], "http://h/", Some("https://h:80")),
        (&["https://h:1", "https://h:2"], "https://h:3/", Some("https://h:1")),
        // A wildcard, if no mount has the very host; no prefix for every host.
        (&["https://*.ex.com"], "http://a.ex.com/", Some("https://*.ex.com")),
        (
            &["https://*.ex.com", "https://*.b.ex.com"],
            "http://a.b.ex.com/",
            Some("https://*.b.ex.com"),
        ),
        (
            &["https://*.ex.com", "https://a.ex.com/x"],
            "http://a.ex.com/",
            Some("https://a.ex.com/x"),
        ),
        (&["https://*.ex.com"], "http://ex.com/", None),
        (&["https://"], "http://h/", None),
        (
            &["http://[fe80::1%25eth0]/v1"],
            "http://[fe80::1%eth0]/",
            Some("http://[fe80::1%25eth0]/v1"),
        ),
    ];
    let mut failures = Vec::new();
    for (prefixes, uri, want) in rows {
        let client = mounted(prefixes).strict().build().unwrap().layer(below());
        let error = client.oneshot(get(uri)).await.unwrap_err();
        let got = error.downcast_ref::<NoMount>().map(NoMount::nearest);
        let is_named = want.is_none_or(|want| error.to_string().ends_with(&format!("is {want})")));
        if got != Some(*want) || !is_named {
            failures.push(format!("{uri} with {prefixes:?}: {error}, want {want:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn a_connect_and_a_relative_uri_are_told_the_nearest_mount_too() {
    let client = mounted(&["https://h"])
        .default_origin("http://h".parse().unwrap())
        .strict()
        .build()
        .unwrap()
        .layer(below());
    for request in [Request::connect("h:443").body(()).unwrap(), get("/rel")] {
        let error = client.clone().oneshot(request).await.unwrap_err();
        assert_eq!(
            error.downcast_ref::<NoMount>().unwrap().nearest(),
            Some("https://h"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_unmounted_prefix_is_near_no_more() {
    let client =
        mounted(&["https://h/a/b", "https://h/c"]).strict().build().unwrap().layer(below());
    let nearest = || async {
        let error = client.clone().oneshot(get("http://h/a/b")).await.unwrap_err();
        error.downcast_ref::<NoMount>().unwrap().nearest().map(str::to_owned)
    };
    assert_eq!(nearest().await.as_deref(), Some("https://h/a/b"));
    client.handle().update(|mounts| mounts.unmount("https://h/a/b")).unwrap();
    assert_eq!(nearest().await.as_deref(), Some("https://h/c"));
    client.handle().update(|mounts| mounts.unmount("https://h/c")).unwrap();
    assert_eq!(nearest().await, None);
}

#[tokio::test]
async fn a_host_without_mounts_hides_no_wildcard_any_more() {
    let mounts = &["https://a.ex.com/x", "https://*.ex.com"];
    let client = mounted(mounts).strict().build().unwrap().layer(below());
    let nearest = || async {
        let error = client.clone().oneshot(get("http://a.ex.com/")).await.unwrap_err();
        error.downcast_ref::<NoMount>().unwrap().nearest().map(str::to_owned)
    };
    assert_eq!(nearest().await.as_deref(), Some("https://a.ex.com/x"));
    client.handle().update(|mounts| mounts.unmount("https://a.ex.com/x")).unwrap();
    assert_eq!(nearest().await.as_deref(), Some("https://*.ex.com"));
}

#[derive(Debug, PartialEq)]
struct Own(&'static str);

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Own {}

/// Fails before it is ready.
#[derive(Clone)]
struct Closed;

impl Service<Request<()>> for Closed {
    type Response = Response<()>;
    type Error = Own;
    type Future = Ready<Result<Response<()>, Own>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Own>> {
        Poll::Ready(Err(Own("closed")))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Err(Own("called")))
    }
}

#[tokio::test]
async fn an_error_of_a_mount_names_the_mount_if_asked_and_no_other_error_does() {
    let fails = |name| service_fn(move |_: Request<()>| ready(Err::<Response<()>, _>(Own(name))));
    let build = || {
        RoutingLayer::builder()
            .mount("https://layer", Identity::new())
            .mount_service("HTTPS://Service:443/v1/", fails("service"))
            .mount_service("https://closed", Closed)
    };
    let plain = build().build().unwrap().layer(fails("below"));
    let named = build().mount_errors().build().unwrap().layer(fails("below"));
    let rows = [
        ("https://layer:8080/", Some("https://layer"), Own("below")),
        ("https://service/v1/x", Some("HTTPS://Service:443/v1/"), Own("service")),
        ("https://closed/", Some("https://closed"), Own("closed")),
        ("https://else/", None, Own("below")),
    ];
    let mut failures = Vec::new();
    for (uri, mount, own) in rows {
        let error = plain.clone().oneshot(get(uri)).await.unwrap_err();
        if error.downcast_ref() != Some(&own) {
            failures.push(format!("{uri}, not asked: {error:?}"));
        }
        let error = named.clone().oneshot(get(uri)).await.unwrap_err();
        let ok = match error.downcast_ref::<MountError>() {
            Some(error) => {
                let source = error.source().and_then(|source| source.downcast_ref());
                mount == Some(&*error.mount)
                    && source == Some(&own)
                    && error.source.downcast_ref() == Some(&own)
                    && error.to_string().contains(&*error.mount)
            }
            None => mount.is_none() && error.downcast_ref() == Some(&own),
        };
        if !ok {
            failures.push(format!("{uri}: {error:?}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    let strict = build().mount_errors().strict().build().unwrap().layer(fails("below"));
    let error = |uri| {
        let client = strict.clone();
        async move { client.oneshot(get(uri)).await.unwrap_err() }
    };
    assert!(error("https://else/").await.is::<NoMount>());
    assert!(error("https://h:99999/").await.is::<UriError>());
}

/// A client's own types are found behind the mount's name, as in any chain of sources.
#[tokio::test]
async fn a_boxed_error_of_a_mount_is_boxed_once() {
    let fails = service_fn(|_: Request<()>| {
        ready(Err::<Response<()>, BoxError>(io::Error::other("down").into()))
    });
    let client = RoutingLayer::builder()
        .mount("https://h", Identity::new())
        .mount_errors()
        .build()
        .unwrap()
        .layer(BoxCloneSyncService::new(fails));
    let client = BoxCloneService::new(client);
    let error = client.oneshot(get("https://h/")).await.unwrap_err();
    let error = error.downcast::<MountError>().unwrap();
    assert_eq!(error.source.downcast::<io::Error>().unwrap().to_string(), "down");
}

#[cfg(feature = "tracing")]
#[test]
fn a_request_without_a_mount_whose_host_has_one_is_an_event_and_no_other_is() {
    use tracing_subscriber::layer::SubscriberExt;

    use crate::listen::{Written, listen};

    let written = Written::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    listen(tracing_subscriber::registry().with(written.clone()), || {
        let lax = mounted(&["https://h/v1"]).build().unwrap().layer(below());
        let strict = mounted(&["https://h/v1"]).strict().build().unwrap().layer(below());
        for client in [lax, strict] {
            for uri in ["https://h/v1/x", "https://g/", "https://u:secret@h/v10?secret"] {
                _ = runtime.block_on(client.clone().oneshot(get(uri)));
            }
        }
    });
    let event = " message=no mount uri=https://h/v10 nearest=\"https://h/v1\"";
    assert_eq!(*written.events.lock().unwrap(), [event, event]);
}
