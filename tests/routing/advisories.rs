//! The advisories that concern only routing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    io,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response, Uri, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower::{
    BoxError, Layer, Service, ServiceBuilder, ServiceExt,
    layer::{layer_fn, util::Identity},
    service_fn,
    util::BoxCloneSyncService,
};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::routing::{Mount, NoMount, PrefixFault, RoutingLayer, UriError};

use crate::{loopback::serve, rows_async, strict::Strict};

fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

/// Each row: a URI, and the mount that serves it, `F` for none of them, or the error.
async fn served(prefixes: &[&str], table: &[(&str, &str)]) {
    let below = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let builder = prefixes
        .iter()
        .fold(RoutingLayer::builder(), |builder, prefix| builder.mount(*prefix, Identity::new()));
    let client = builder.build().unwrap().layer(below);
    rows_async::hold(table, async |(uri, want)| {
        let got = match client.clone().oneshot(get(uri)).await {
            Ok(response) => response
                .extensions()
                .get::<Mount>()
                .map_or("F".to_owned(), |mount| mount.0.to_string()),
            Err(error) => format!("{:?}", error.downcast_ref::<UriError>()),
        };
        (uri, got, (*want).to_owned())
    })
    .await;
}

#[tokio::test]
async fn coraza_cve_2025_29914_spellings_of_a_path_are_routed_as_documented() {
    let rows = [
        ("https://h//admin", "F"),
        ("https://h/a/../admin", "https://h/admin"),
        ("https://h/%61dmin", "https://h/admin"),
        ("https://h/apifoo", "F"),
        ("https://h/api/../admin", "https://h/admin"),
        ("https://h/api/..%2fadmin", "https://h/api"),
        ("https://h/api/..;/admin", "https://h/api"),
    ];
    served(&["https://h/api", "https://h/admin"], &rows).await;
}

#[tokio::test]
async fn coraza_cve_2025_29914_what_a_server_could_read_as_another_path_can_be_refused() {
    let below = service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(()))));
    let builder = || RoutingLayer::builder().mount("https://h/api", Identity::new());
    let lax = builder().build().unwrap().layer(below);
    let no_dots = builder().reject_dot_segments().build().unwrap().layer(below);
    let no_slashes = builder().reject_encoded_slashes().strict().build().unwrap().layer(below);
    let neither =
        builder().reject_dot_segments().reject_encoded_slashes().build().unwrap().layer(below);
    use UriError::{DotSegments, EncodedSlash};
    let rows = [
        ("https://h/api/x", None, None),
        ("https://h/api/x?../%2f", None, None),
        ("https://h/api/..x/...", None, None),
        ("https://h/api/../admin", Some(DotSegments), None),
        ("https://h/api/%2E%2e/admin", Some(DotSegments), None),
        ("https://h/api/./x", Some(DotSegments), None),
        ("https://h/api/..;v=1/admin", Some(DotSegments), None),
        ("https://h/api/x%2fadmin", None, Some(EncodedSlash)),
        ("https://h/api/..%5cadmin", Some(DotSegments), Some(EncodedSlash)),
        ("https://h/api/..%2f../admin", Some(DotSegments), Some(EncodedSlash)),
    ];
    rows_async::hold(rows, async |(uri, dots, slashes)| {
        let mut got = Vec::new();
        for client in [&lax, &no_dots, &no_slashes, &neither] {
            let error = client.clone().oneshot(get(uri)).await.err();
            got.push(error.and_then(|error| error.downcast_ref().copied()));
        }
        (uri, got, vec![None, dots, slashes, dots.or(slashes)])
    })
    .await;
}

#[tokio::test]
async fn idna_rustsec_2024_0421_an_a_label_that_decodes_to_ascii_is_not_that_host() {
    let rows = [
        ("https://xn--example-.org/", "F"),
        ("https://XN--EXAMPLE-.org/", "F"),
        ("https://example.org/", "https://example.org"),
    ];
    served(&["https://example.org"], &rows).await;
    for prefix in
        ["https://xn--example-.org", "https://*.xn--example-.org", "https://XN--example-.org"]
    {
        let error = RoutingLayer::<(), (), ()>::builder()
            .mount_service(prefix, nothing())
            .build()
            .unwrap_err();
        assert_eq!((error.prefix(), error.fault()), (prefix, PrefixFault::Idna));
    }
}

fn nothing() -> BoxCloneSyncService<Request<()>, Response<()>, Infallible> {
    BoxCloneSyncService::new(service_fn(|_: Request<()>| ready(Ok(Response::new(())))))
}

#[tokio::test]
async fn requests_cve_2024_47081_and_tough_cookie_what_stands_before_an_at_sign_is_no_host() {
    let rows = [
        ("http://a.com:@evil.com/", "http://evil.com"),
        ("http://a.com:80@evil.com/", "http://evil.com"),
        ("http://a.com%5C@evil.com/", "http://evil.com"),
        ("http://a.com%2F@evil.com/", "http://evil.com"),
        ("http://evil.com@a.com/", "http://a.com"),
        ("http://x.evil.com/@a.com", "F"),
    ];
    served(&["http://a.com", "http://evil.com"], &rows).await;
}

#[tokio::test]
async fn go_retryablehttp_cve_2024_6104_userinfo_and_query_are_in_no_error_and_no_debug() {
    let client = RoutingLayer::builder()
        .mount_service("https://h", nothing())
        .default_origin("https://u:secret@h".parse().unwrap())
        .strict()
        .build()
        .unwrap();
    let mut texts = vec![format!("{client:?}")];
    let client = client.layer(nothing());
    texts.push(format!("{client:?} {:?}", client.handle()));
    for uri in [
        "https://u:secret@x/p?secret",
        "https://u:secret@h:99999/?secret",
        "https://u:secret@127.1/?secret",
        "ftp://secret@x",
        "secret@x",
    ] {
        let error = client.clone().oneshot(get(uri)).await.unwrap_err();
        assert!(error.is::<NoMount>() || error.is::<UriError>(), "{error:?}");
        texts.push(format!("{error} {error:?}"));
    }
    for prefix in [
        "https://u:secret@h",
        "u:secret@h",
        "https://u:secret@h:x/",
        "https://h/?secret",
        "https:///u:secret@h",
    ] {
        let builder = RoutingLayer::<(), (), ()>::builder().mount_service(prefix, nothing());
        texts.push(format!("{builder:?}"));
        let error = builder.build().unwrap_err();
        texts.push(format!("{error} {error:?}"));
        let error = client.handle().update(|mounts| {
            let mounts = mounts.unmount(prefix);
            texts.push(format!("{mounts:?}"));
            mounts
        });
        texts.push(format!("{error:?}"));
    }
    let call = client.clone().call(get("https://u:secret@h/?secret"));
    texts.push(format!("{call:?}"));
    let told: Vec<_> = texts.iter().filter(|text| text.contains("secret")).collect();
    assert!(told.is_empty(), "{told:#?}");
}

#[tokio::test]
async fn tower_resilience_362_every_call_of_a_mounted_service_follows_its_own_readiness() {
    let strict = || Strict::new(nothing(), 2);
    let layer = RoutingLayer::builder()
        .mount("https://a", Identity::new())
        .mount_service("https://b", strict())
        .build();
    let mut client = layer.unwrap().layer(strict());
    for uri in ["https://a/", "https://b/", "https://c/", "https://a/", "https://b/", "https://c/"]
    {
        client.call(get(uri)).await.unwrap();
        client.clone().oneshot(get(uri)).await.unwrap();
    }
}

type Client = BoxCloneSyncService<Request<Full<Bytes>>, Response<Full<Bytes>>, BoxError>;
type Log = Arc<Mutex<Vec<String>>>;

/// Three redirects, each to another origin or path. It records which host gets which secrets.
fn redirecting(log: &Log) -> Client {
    let log = Arc::clone(log);
    Client::new(service_fn(move |request: Request<Full<Bytes>>| {
        let secrets = [header::COOKIE, header::AUTHORIZATION, header::PROXY_AUTHORIZATION]
            .map(|name| u8::from(request.headers().contains_key(name)));
        log.lock().unwrap().push(format!("{} {secrets:?}", request.uri()));
        let scheme = request.uri().scheme_str().unwrap();
        let to = match (request.uri().host(), request.uri().path()) {
            (_, "/3") => None,
            (Some("a.example"), _) => Some(format!("{scheme}://b.example/1")),
            (_, "/1") => Some(format!("{scheme}://b.example/2")),
            (_, "/2") => Some("http://a.example:8080/3".to_owned()),
            _ => None,
        };
        let response = to.map_or_else(Response::builder, |to| {
            Response::builder().status(302).header("location", to)
        });
        ready(response.body(Full::default()).map_err(BoxError::from))
    }))
}

/// A hyper client whose every connection goes to a forward proxy, behind which all hosts are
/// `redirecting`.
async fn proxied(log: &Log) -> Client {
    let origins = redirecting(log);
    let address = serve(move |socket, _| {
        let origins = origins.clone();
        let proxy = service_fn(move |request: Request<Incoming>| {
            // In absolute form, because the proxy needs the host.
            assert!(request.uri().authority().is_some(), "{request:?}");
            origins.clone().oneshot(request.map(|_| Full::default()))
        });
        let connection = http1::Builder::new()
            .serve_connection(TokioIo::new(socket), TowerToHyperService::new(proxy));
        tokio::spawn(connection);
        ready(())
    })
    .await;
    let connector = service_fn(move |_: Uri| {
        Box::pin(async move {
            TcpStream::connect(address).await.map(|stream| TokioIo::new(ToProxy(stream)))
        })
    });
    let hyper = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    Client::new(
        hyper
            .map_response(|response: Response<Incoming>| response.map(|_| Full::default()))
            .map_err(BoxError::from),
    )
}

/// `direct` is the same client without routing.
#[tokio::test]
async fn urllib3_ghsa_qccp_gfcp_xxvc_a_redirect_strips_the_same_by_every_way_in() {
    let log = Log::default();
    let redirects = FollowRedirectLayer::new();
    for scheme in ["https", "http"] {
        let a = format!("{scheme}://a.example");
        let request = || {
            Request::get(format!("{a}/"))
                .header(header::COOKIE, "a=secret")
                .header(header::AUTHORIZATION, "secret")
                .header(header::PROXY_AUTHORIZATION, "secret")
                .body(Full::default())
                .unwrap()
        };
        redirects.clone().layer(redirecting(&log)).oneshot(request()).await.unwrap();
        let direct = std::mem::take(&mut *log.lock().unwrap());
        assert_eq!(
            direct,
            [
                format!("{a}/ [1, 1, 1]"),
                format!("{scheme}://b.example/1 [0, 0, 0]"),
                format!("{scheme}://b.example/2 [0, 0, 0]"),
                "http://a.example:8080/3 [0, 0, 0]".to_owned()
            ]
        );
        let mut ways = vec![
            ("a mounted layer", RoutingLayer::builder().mount("any://", Identity::new())),
            (
                "a mounted service",
                RoutingLayer::builder().mount_service("any://", redirecting(&log)),
            ),
            ("the fallback", RoutingLayer::builder()),
            ("one service each", RoutingLayer::builder().mount_service(&*a, redirecting(&log))),
        ];
        // Through a tunnel with TLS in it a proxy sees none of this.
        if scheme == "http" {
            let proxied = proxied(&log).await;
            ways.push((
                "a mounted proxy",
                RoutingLayer::builder().mount_service("any://", proxied.clone()),
            ));
            ways.push((
                "a proxy for the first alone",
                RoutingLayer::builder().mount_service(&*a, proxied),
            ));
        }
        for (way, builder) in ways {
            let client = ServiceBuilder::new()
                .layer(redirects.clone())
                .layer(builder.build().unwrap())
                .service(redirecting(&log));
            client.oneshot(request()).await.unwrap();
            assert_eq!(std::mem::take(&mut *log.lock().unwrap()), direct, "{way}, {scheme}");
        }
    }
}

/// The same for the cookies of a jar that is outside all of them.
#[cfg(feature = "cookie")]
#[tokio::test]
async fn urllib3_ghsa_qccp_gfcp_xxvc_a_jar_sends_the_same_directly_and_through_a_mounted_proxy() {
    let log = Log::default();
    let mut seen = Vec::new();
    for way in ["direct", "mounted", "proxied"] {
        let routes = RoutingLayer::builder();
        let routes = match way {
            "direct" => routes,
            "mounted" => routes.mount_service("any://", redirecting(&log)),
            _ => routes.mount_service("any://", proxied(&log).await),
        };
        let jar = tower_outbound::cookie::CookieJar::new();
        jar.set(&Uri::from_static("http://b.example/"), "sid=secret; Path=/2").unwrap();
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::new())
            .layer(tower_outbound::CookieLayer::new(jar))
            .layer(routes.build().unwrap())
            .service(redirecting(&log));
        client
            .oneshot(Request::get("http://a.example/").body(Full::default()).unwrap())
            .await
            .unwrap();
        seen.push((way, std::mem::take(&mut *log.lock().unwrap())));
    }
    let wanted = [
        "http://a.example/ [0, 0, 0]",
        "http://b.example/1 [0, 0, 0]",
        "http://b.example/2 [1, 0, 0]",
        "http://a.example:8080/3 [0, 0, 0]",
    ];
    crate::rows::hold(seen, |(way, log)| (way, log, wanted));
}

/// A connection to a proxy, which is told the whole URI.
struct ToProxy(TcpStream);

impl Connection for ToProxy {
    fn connected(&self) -> Connected {
        Connected::new().proxy(true)
    }
}

impl AsyncRead for ToProxy {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ToProxy {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn a_panic_in_what_is_mounted_propagates_and_the_table_goes_on_serving() {
    let panics = layer_fn(|_| {
        service_fn(|_: Request<()>| -> Ready<Result<Response<()>, Infallible>> {
            panic!("mounted")
        })
    });
    let client =
        RoutingLayer::builder().mount("https://bad", panics).build().unwrap().layer(nothing());
    let error = tokio::spawn(client.clone().oneshot(get("https://bad/"))).await.unwrap_err();
    assert!(error.is_panic());
    client.clone().oneshot(get("https://good/")).await.unwrap();

    // While the table changes too.
    let handle = client.handle();
    let layer = layer_fn(|_| -> BoxCloneSyncService<Request<()>, Response<()>, Infallible> {
        panic!("layer")
    });
    let update = AssertUnwindSafe(|| {
        handle.update(|mounts| mounts.unmount("https://bad").mount("https://new", layer))
    });
    assert!(std::panic::catch_unwind(update).is_err());
    assert_eq!(handle.prefixes(), [Arc::<str>::from("https://bad")], "all of it or nothing");
    handle.update(|mounts| mounts.unmount("https://bad")).unwrap();
    client.oneshot(get("https://bad/")).await.unwrap();
}
