//! Tables of mounts through the public API, readiness, and what clones share.

use std::{
    convert::Infallible,
    fmt,
    future::{Future, Ready, pending, ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use http::{Request, Response, Uri};
use tower::{
    BoxError, Layer, Service, ServiceExt,
    layer::{layer_fn, util::Identity},
    limit::ConcurrencyLimitLayer,
    load_shed::{LoadShedLayer, error::Overloaded},
    service_fn,
    util::ServiceFn,
};
use tower_outbound::routing::{
    Mount, NoMount, PrefixFault, RoutingLayer, RoutingService, UriError,
};

use crate::{pairs::pairs, rows, rows_async, strict::Strict};

/// Answers with the URI that it was sent. Every call must follow its own readiness.
type Echo = Strict<ServiceFn<fn(Request<()>) -> Ready<Result<Response<Uri>, Infallible>>>>;

fn uri_of(request: Request<()>) -> Ready<Result<Response<Uri>, Infallible>> {
    ready(Ok(Response::new(request.into_parts().0.uri)))
}

fn echo() -> Echo {
    Strict::new(service_fn(uri_of), 1)
}

type Echoes = RoutingService<Echo, (), Uri>;

fn mounted(prefixes: &[&str]) -> Echoes {
    let builder = prefixes
        .iter()
        .fold(RoutingLayer::builder(), |builder, prefix| builder.mount(*prefix, Identity::new()));
    builder.build().unwrap().layer(echo())
}

fn strict(prefixes: &[&str]) -> Echoes {
    let builder = prefixes
        .iter()
        .fold(RoutingLayer::builder(), |builder, prefix| builder.mount(*prefix, Identity::new()));
    builder.strict().build().unwrap().layer(echo())
}

async fn send(service: &Echoes, uri: &str) -> Result<Response<Uri>, BoxError> {
    service.clone().oneshot(Request::get(uri).body(()).unwrap()).await
}

/// The prefix that served `uri`, `F` for the fallback, or the error. Also checks that the original
/// was sent.
async fn served_by(service: &Echoes, uri: &str) -> String {
    match send(service, uri).await {
        Ok(response) if *response.body() != uri => format!("sent as {}", response.body()),
        Ok(response) => response.extensions().get().map_or("F".to_owned(), mount_name),
        Err(error) => error.to_string(),
    }
}

fn is_pending<F: Future>(future: &mut Pin<Box<F>>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

/// A row's name, the mounts, and which of them serves each URI.
type Row<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

/// Every failing row in one report.
async fn check(rows: &[Row<'_>]) {
    rows_async::hold(rows, async |(row, prefixes, requests)| {
        let service = mounted(prefixes);
        let mut wrong = Vec::new();
        for (uri, want) in *requests {
            let got = served_by(&service, uri).await;
            if got != *want {
                wrong.push(format!("{row}: {uri} with {prefixes:?}: {got}, want {want}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
    })
    .await;
}

#[tokio::test]
async fn requests_go_where_the_rows_say() {
    check(&[
        (
            "1",
            &["https://", "http://"],
            &[("https://x/y", "https://"), ("http://x:8080/", "http://")],
        ),
        (
            "3",
            &["http://localhost"],
            &[
                ("http://localhost.evil.com/", "F"),
                ("http://localhost@evil.com/", "F"),
                ("http://localhost:80@evil.com/", "F"),
            ],
        ),
        (
            "4",
            &["http://localhost"],
            &[
                ("http://localhost:8080/", "http://localhost"),
                ("http://localhost/", "http://localhost"),
                ("https://localhost/", "F"),
            ],
        ),
        (
            "4",
            &["http://localhost:*"],
            &[
                ("http://localhost:8080/", "http://localhost:*"),
                ("http://localhost/", "http://localhost:*"),
            ],
        ),
        ("5", &["http://h/"], &[("http://h:80/", "http://h/"), ("http://h:/", "http://h/")]),
        (
            "5",
            &["https://h:443"],
            &[("https://h/", "https://h:443"), ("https://h:443/", "https://h:443")],
        ),
        ("6", &["http://h:80"], &[("http://h:8080/", "F"), ("http://h/", "http://h:80")]),
        ("6", &["https://h:443"], &[("https://h:8443/", "F")]),
        (
            "6a",
            &["http://h", "http://h:80"],
            &[
                ("http://h/", "http://h:80"),
                ("http://h:/", "http://h:80"),
                ("http://h:80/", "http://h:80"),
                ("http://h:8080/", "http://h"),
            ],
        ),
        (
            "6b",
            &["http://[fe80::1%25eth0]"],
            &[
                ("http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]"),
                ("http://[FE80:0::1%25eth0]:8080/", "http://[fe80::1%25eth0]"),
                ("http://[fe80::1%eth0]/", "http://[fe80::1%25eth0]"),
                ("http://[fe80::1%25eth1]/", "F"),
                ("http://[fe80::1%25ETH0]/", "F"),
                ("http://[fe80::1]/", "F"),
            ],
        ),
        (
            "6d",
            &["http://h/v1", "http://h:8080"],
            &[
                ("http://h:8080/v1/x", "http://h/v1"),
                ("http://h:8080/v2", "http://h:8080"),
                ("http://h/v2", "F"),
            ],
        ),
        (
            "7",
            &["https://h/v1"],
            &[
                ("https://h/v10/x", "F"),
                ("https://h/v1", "https://h/v1"),
                ("https://h/v1/", "https://h/v1"),
                ("https://h/v1/x", "https://h/v1"),
                ("https://h/v1?q", "https://h/v1"),
            ],
        ),
        ("8", &["https://h/Admin"], &[("https://h/admin", "F")]),
        ("9", &["HTTPS://API.Ex.com"], &[("https://api.EX.com/", "HTTPS://API.Ex.com")]),
        (
            "10",
            &["https://h/", "https://h/a", "https://h/a/b"],
            &[
                ("https://h/a/b/c", "https://h/a/b"),
                ("https://h/a/bc", "https://h/a"),
                ("https://h/x", "https://h/"),
            ],
        ),
        (
            "11",
            &["https://h"],
            &[
                ("https://u:p@h/", "https://h"),
                ("https://h./", "https://h"),
                ("https://h?q", "https://h"),
            ],
        ),
        ("12", &["http://[::1]"], &[("http://[0:0:0:0:0:0:0:1]:80/", "http://[::1]")]),
        (
            "14",
            &["https://*.ex.com"],
            &[
                ("https://a.b.ex.com/", "https://*.ex.com"),
                ("https://ex.com/", "F"),
                ("https://notex.com/", "F"),
            ],
        ),
        (
            "15",
            &["https://*.ex.com/x", "https://a.ex.com"],
            &[("https://a.ex.com/x", "https://a.ex.com")],
        ),
        ("16", &["any://h", "https://h"], &[("https://h/", "https://h"), ("http://h/", "any://h")]),
        (
            "17",
            &["https://h/admin"],
            &[
                ("https://h/x/../admin/", "https://h/admin"),
                ("https://h/pub/%2e%2E/admin", "https://h/admin"),
            ],
        ),
        ("18", &["https://h/a%7Eb"], &[("https://h/a~b", "https://h/a%7Eb")]),
        ("18", &["https://h/a/b"], &[("https://h/a%2Fb", "F"), ("https://h/a%2fb", "F")]),
    ])
    .await;
}

/// Row 13.
#[cfg(feature = "idna")]
#[tokio::test]
async fn a_mount_beyond_ascii_serves_the_a_labels_of_its_host() {
    check(&[(
        "13",
        &["https://bücher.example", "https://*.BÜCHER.example", "https://faß.example/ü"],
        &[
            ("https://xn--bcher-kva.example/", "https://bücher.example"),
            ("https://XN--BCHER-KVA.example./", "https://bücher.example"),
            ("https://a.xn--bcher-kva.example/", "https://*.BÜCHER.example"),
            ("https://bucher.example/", "F"),
            ("https://xn--fa-hia.example/%c3%bc/x", "https://faß.example/ü"),
            ("https://fass.example/%c3%bc/x", "F"),
        ],
    )])
    .await;
}

#[tokio::test]
async fn the_more_specific_mount_wins_whatever_the_order() {
    check(&[
        (
            "host over path, path over port, port over scheme",
            &[
                "any://",
                "https://",
                "https://*.com",
                "https://*.ex.com",
                "any://a.ex.com",
                "https://a.ex.com:8443",
            ],
            &[
                ("https://a.ex.com:8443/", "https://a.ex.com:8443"),
                ("https://a.ex.com/", "any://a.ex.com"),
                ("https://b.ex.com/", "https://*.ex.com"),
                ("https://c.com/", "https://*.com"),
                ("https://d.net/", "https://"),
                ("ftp://d.net/", "any://"),
            ],
        ),
        (
            "a host whose mounts do not match is looked for further out",
            &["https://a.ex.com/v1", "https://*.ex.com"],
            &[
                ("https://a.ex.com/v2", "https://*.ex.com"),
                ("https://a.ex.com/v1", "https://a.ex.com/v1"),
            ],
        ),
        (
            "a path whose ports do not match is looked for further up",
            &["https://h:8443/a/b", "https://h/a", "https://h:443"],
            &[
                ("https://h/a/b", "https://h/a"),
                ("https://h:8443/a/b", "https://h:8443/a/b"),
                ("https://h:9/a/b", "https://h/a"),
                ("https://h/b", "https://h:443"),
                ("https://h:9/b", "F"),
            ],
        ),
        (
            "a port that is written out",
            &["any://h", "any://h:443"],
            &[("https://h/", "any://h:443"), ("http://h/", "any://h")],
        ),
        (
            "a port over a scheme",
            &["any://h:443", "https://h"],
            &[
                ("https://h/", "any://h:443"),
                ("wss://h/", "any://h:443"),
                ("https://h:8443/", "https://h"),
                ("http://h/", "F"),
            ],
        ),
        (
            "a scheme over any, on one port",
            &["any://h:443", "https://h:443"],
            &[("https://h/", "https://h:443"), ("wss://h/", "any://h:443")],
        ),
        (
            "schemes of one's own, which have no default port",
            &["grpc://h", "grpc://h:50051", "Unix://h:*", "any://h", "tcp://h:1"],
            &[
                ("grpc://h/", "grpc://h"),
                ("GRPC://h:50051/", "grpc://h:50051"),
                ("grpc://h:1/", "grpc://h"),
                ("tcp://h:1/", "tcp://h:1"),
                ("tcp://h/", "any://h"),
                ("unix://h:1/", "Unix://h:*"),
                ("gopher://h/", "any://h"),
            ],
        ),
        (
            "no subdomain has an empty label",
            &["https://*.ex.com"],
            &[("https://.ex.com/", "F"), ("https://a..ex.com/", "F")],
        ),
        (
            "an empty segment",
            &["https://h/a//"],
            &[("https://h/a//b", "https://h/a//"), ("https://h/a/b", "F")],
        ),
        ("a long path", &["https://h/a"], &[("https://h/a/b/c/d/e/f/g/h/i/j/k", "https://h/a")]),
        (
            "an A-label that decodes to ASCII is no other host",
            &["https://example.org"],
            &[("https://xn--example-.org/", "F"), ("https://example.org/", "https://example.org")],
        ),
        ("the whole server", &["https://h", "https://h/a"], &[("https://h", "https://h")]),
    ])
    .await;
}

#[tokio::test]
async fn connect_in_authority_form_is_served_by_mounts_for_any_scheme() {
    let rows: [Row<'_>; 5] = [
        ("6c", &["any://", "https://h"], &[("h:443", "any://"), ("[::1]:80", "any://")]),
        ("6c", &["https://h"], &[("h:443", "F"), ("https://h:443", "https://h")]),
        (
            "by host and port",
            &["any://", "any://h:443", "any://h", "any://*.h"],
            &[
                ("h:443", "any://h:443"),
                ("u@H.:443", "any://h:443"),
                ("h:80", "any://h"),
                ("a.h:443", "any://*.h"),
                // No scheme implies a port.
                ("h", "any://h"),
            ],
        ),
        ("no path", &["any://h/v1"], &[("h:443", "F")]),
        (
            "errors",
            &["any://"],
            &[
                ("h:99999", &UriError::Port.to_string()),
                ("127.1:443", &UriError::NumericHost.to_string()),
            ],
        ),
    ];
    let mut failures = Vec::new();
    for (row, prefixes, requests) in rows {
        let service = mounted(prefixes);
        for (uri, want) in requests {
            let request = Request::connect(*uri).body(()).unwrap();
            let got = match service.clone().oneshot(request).await {
                Ok(response) => response.extensions().get().map_or("F".to_owned(), mount_name),
                Err(error) => error.to_string(),
            };
            if got != *want {
                failures.push(format!("{row}: {uri} with {prefixes:?}: {got}, want {want}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

fn mount_name(Mount(prefix): &Mount) -> String {
    prefix.to_string()
}

/// The module's table of equivalents, each with what httpx's pattern matches and does not.
#[tokio::test]
async fn httpx_patterns_have_equivalents() {
    check(&[
        ("all://", &["any://"], &[("http://x:1/", "any://"), ("wss://x/", "any://")]),
        ("https://", &["https://"], &[("https://x:1/", "https://"), ("http://x/", "F")]),
        (
            "all://example.com",
            &["any://example.com"],
            &[
                ("http://example.com/", "any://example.com"),
                ("https://example.com:8443/", "any://example.com"),
                ("https://www.example.com/", "F"),
                ("https://example.com.evil.test/", "F"),
            ],
        ),
        (
            "https://example.com",
            &["https://example.com"],
            &[("https://example.com:8443/", "https://example.com"), ("http://example.com/", "F")],
        ),
        (
            "all://localhost:8080",
            &["any://localhost:8080"],
            &[("https://localhost:8080/", "any://localhost:8080"), ("http://localhost/", "F")],
        ),
        (
            "all://*.example.com",
            &["any://*.example.com"],
            &[
                ("http://a.b.example.com:8080/", "any://*.example.com"),
                ("http://example.com/", "F"),
                ("http://notexample.com/", "F"),
            ],
        ),
        (
            "all://*example.com",
            &["any://*.example.com", "any://example.com"],
            &[
                ("http://a.example.com:8080/", "any://*.example.com"),
                ("http://example.com:8080/", "any://example.com"),
                ("http://notexample.com/", "F"),
            ],
        ),
    ])
    .await;
}

#[tokio::test]
async fn spellings_of_a_path_that_advisories_are_about_are_routed_as_documented() {
    check(&[(
        "Coraza CVE-2025-29914",
        &["https://h/api", "https://h/admin"],
        &[
            ("https://h//admin", "F"),
            ("https://h/a//admin", "F"),
            ("https://h/a/../admin", "https://h/admin"),
            ("https://h/admin/../pub", "F"),
            ("https://h/%61dmin", "https://h/admin"),
            ("https://h/%2561dmin", "F"),
            ("https://h/apifoo", "F"),
            ("https://h/api/foo", "https://h/api"),
        ],
    )])
    .await;
}

#[tokio::test]
async fn userinfo_is_never_taken_for_the_host() {
    check(&[(
        "userinfo",
        &["https://example.com", "https://example.net/in"],
        &[
            ("https://example.com%5C@example.net/", "F"),
            ("https://example.com:443@example.net/in", "https://example.net/in"),
            ("https://a@b:@example.com/", "https://example.com"),
            ("https://example.com.example.net/", "F"),
            ("https://example.net/@example.com/", "F"),
            ("https://example.net/?https://example.com/", "F"),
        ],
    )])
    .await;
}

#[tokio::test]
async fn the_same_prefix_again_replaces_the_mount() {
    check(&[(
        "replaced",
        &["https://h", "https://other", "HTTPS://H.:*/"],
        &[("https://h/", "HTTPS://H.:*/"), ("https://other/", "https://other")],
    )])
    .await;
}

#[tokio::test]
async fn strict_fails_what_no_mount_serves_and_names_the_uri_without_secrets() {
    let none = strict(&[]);
    let error = send(&none, "ftp://x/").await.unwrap_err();
    assert_eq!(error.downcast_ref::<NoMount>().unwrap().uri(), "ftp://x/");

    let service = strict(&["https://h/v1"]);
    let error = send(&service, "https://user:secret@h:8443/v10?token=secret").await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(error.is::<NoMount>(), "{error:?}");
    assert!(text.contains("https://h:8443/v10"), "{text}");
    assert!(!text.contains("secret") && !text.contains("user"), "{text}");
    assert_eq!(served_by(&service, "https://h/v1").await, "https://h/v1");
}

#[tokio::test]
async fn a_uri_that_says_not_clearly_where_it_goes_is_an_error_with_and_without_a_fallback() {
    let rows = [
        ("/rel", UriError::Relative),
        ("*", UriError::Relative),
        ("h:443", UriError::Relative),
        ("http://a:99999/", UriError::Port),
        ("http://u:80@a:99999/", UriError::Port),
        ("http://a:x/", UriError::Port),
        ("http://127.1/", UriError::NumericHost),
        ("http://127.1./", UriError::NumericHost),
        ("http://0x7f.1/", UriError::NumericHost),
        ("http://2130706433/", UriError::NumericHost),
        ("http://0177.0.0.1/", UriError::NumericHost),
    ];
    let prefixes = ["any://", "http://a", "http://127.0.0.1"];
    let services = [mounted(&[]), mounted(&prefixes), strict(&prefixes)];
    rows_async::hold(pairs(services, rows), async |(service, (uri, want))| {
        match send(&service, uri).await {
            Err(error) if error.downcast_ref() == Some(&want) => Ok(()),
            other => Err(format!("{uri}: {other:?}, want {want:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_relative_uri_is_routed_by_the_default_origin_and_sent_as_it_is() {
    let service = RoutingLayer::builder()
        .mount("https://h:8443/v1", Identity::new())
        .default_origin(Uri::from_static("https://u:p@H:8443/ignored"))
        .build()
        .unwrap()
        .layer(echo());
    let rows = [
        ("/v1/x", "https://h:8443/v1"),
        ("/v2", "F"),
        ("/v2/../v1?q", "https://h:8443/v1"),
        ("http://h/v1", "F"),
    ];
    for (uri, want) in rows {
        assert_eq!(served_by(&service, uri).await, want, "{uri}");
    }
    // It names a host, and not that one.
    assert_eq!(
        send(&service, "h:8443").await.unwrap_err().downcast_ref(),
        Some(&UriError::Relative)
    );
}

#[test]
fn a_default_origin_that_is_none_is_a_build_error_and_tells_no_secret() {
    let rows = [
        ("/rel", PrefixFault::Scheme),
        ("h:443", PrefixFault::Scheme),
        ("https://u:secret@h:99999", PrefixFault::Port),
        ("https://u:secret@127.1/?secret", PrefixFault::NumericHost),
    ];
    for (origin, fault) in rows {
        let layer = RoutingLayer::<Echo, (), Uri>::builder()
            .default_origin(origin.parse().unwrap())
            .build();
        let error = layer.unwrap_err();
        assert_eq!(error.fault(), fault, "{origin}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
}

#[test]
fn a_bad_prefix_is_named_with_its_fault_and_without_userinfo() {
    let rows = [
        ("localhost", "localhost", "scheme"),
        ("localhost:8080", "localhost:8080", "scheme"),
        ("", "", "scheme"),
        ("https:///v1", "https:///v1", "host"),
        ("https://:8080", "https://:8080", "host"),
        ("https://u:secret@h/a", "https://h/a", "user"),
        ("u:secret@h", "h", "scheme"),
        ("https://h/a?q", "https://h/a", "query"),
        ("https://h/a#f", "https://h/a", "fragment"),
        ("https://h:99999", "https://h:99999", "port"),
        ("https://u:secret@h:99999/", "https://h:99999/", ""),
        ("https://127.1", "https://127.1", "octets"),
        ("https://0x7f.1", "https://0x7f.1", "octets"),
        ("https://*", "https://*", "`*`"),
        ("https://a.*.com", "https://a.*.com", "`*`"),
        ("https://[::1", "https://[::1", ""),
        ("https://a b", "https://a b", "host"),
        ("https://xn--example-.org", "https://xn--example-.org", "IDNA"),
        ("all://example.com", "all://example.com", "any://"),
        ("any://192.168.0.0/16", "any://192.168.0.0/16", "network"),
    ];
    faults(&rows);
}

#[cfg(feature = "idna")]
#[test]
fn a_prefix_beyond_ascii_that_idna_refuses_is_named_with_that_fault() {
    faults(&[("https://\u{5d0}a.example", "https://\u{5d0}a.example", "IDNA")]);
}

#[cfg(not(feature = "idna"))]
#[test]
fn a_prefix_beyond_ascii_names_the_feature_that_it_needs() {
    faults(&[("https://\u{5d0}a.example", "https://\u{5d0}a.example", "feature `idna`")]);
}

/// Each row: a prefix, what is shown of it, and a word of its fault.
fn faults(rows: &[(&str, &str, &str)]) {
    rows::hold(rows, |(prefix, shown, fault)| {
        let built = RoutingLayer::<Echo, (), Uri>::builder()
            .mount("https://fine.example", Identity::new())
            .mount(*prefix, Identity::new())
            .build();
        let Err(error) = built else { return Err(format!("{prefix} is built")) };
        let text = format!("{error} {error:?}");
        let ok = text.contains(shown) && text.contains(fault) && !text.contains("secret");
        if ok { Ok(()) } else { Err(text) }
    });
}

#[tokio::test]
async fn the_service_is_ready_before_the_one_it_selects_and_calls_only_what_is_ready() {
    let slow = || Strict::new(service_fn(uri_of), 2);
    let mut service = RoutingLayer::builder()
        .mount("https://layer", Identity::new())
        .mount_service("https://service", slow())
        .build()
        .unwrap()
        .layer(slow());
    let mut clone = service.clone();
    for uri in ["https://layer/", "https://service/", "https://fallback/"] {
        for _ in 0..2 {
            for service in [&mut service, &mut clone] {
                // Not even polled for readiness: it has to look after that itself.
                let response = service.call(Request::get(uri).body(()).unwrap()).await.unwrap();
                assert_eq!(response.body(), uri);
            }
        }
    }
}

#[tokio::test]
async fn layers_are_applied_once_for_each_layer_call() {
    let applied = Arc::new(AtomicUsize::new(0));
    let count = || applied.load(Ordering::Relaxed);
    let counting = {
        let applied = Arc::clone(&applied);
        layer_fn(move |inner: Echo| {
            applied.fetch_add(1, Ordering::Relaxed);
            inner
        })
    };
    let layer = RoutingLayer::builder().mount("https://h", counting).build().unwrap();
    assert_eq!(count(), 0);
    let service = layer.layer(echo());
    assert_eq!(count(), 1);
    for _ in 0..3 {
        assert_eq!(served_by(&service.clone(), "https://h/").await, "https://h");
    }
    assert_eq!(count(), 1);
    let _second = layer.clone().layer(echo());
    assert_eq!(count(), 2);
}

#[tokio::test]
async fn clones_share_a_mounts_limit_and_load_shedding_belongs_inside_a_mount() {
    let hang = service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
    let layer = tower::ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .layer(ConcurrencyLimitLayer::new(1));
    let service =
        RoutingLayer::builder().mount("https://h", layer.into_inner()).build().unwrap().layer(hang);
    let request = || Request::get("https://h/").body(()).unwrap();

    let mut first = Box::pin(service.clone().oneshot(request()));
    assert!(is_pending(&mut first));
    let error = service.clone().oneshot(request()).await.unwrap_err();
    assert!(error.is::<Overloaded>(), "{error:?}");

    // Dropping the call gives its permit back.
    drop(first);
    let mut next = Box::pin(service.oneshot(request()));
    assert!(is_pending(&mut next));
}

#[tokio::test]
async fn a_busy_mount_keeps_no_other_waiting() {
    let layer = RoutingLayer::builder()
        .mount("https://busy", ConcurrencyLimitLayer::new(0))
        .mount("https://free", Identity::new())
        .build()
        .unwrap();
    let service = layer.layer(echo());
    let mut busy = Box::pin(send(&service, "https://busy/"));
    assert!(is_pending(&mut busy));
    assert_eq!(served_by(&service, "https://free/").await, "https://free");
    assert_eq!(served_by(&service, "https://else/").await, "F");
    assert!(is_pending(&mut busy));
}

#[tokio::test]
async fn a_call_in_flight_needs_the_service_no_longer() {
    let mut service = mounted(&["https://h"]);
    let first = service.call(Request::get("https://h/1").body(()).unwrap());
    let mut clone = service.clone();
    let second = clone.call(Request::get("https://h/2").body(()).unwrap());
    let third = service.call(Request::get("https://else/3").body(()).unwrap());
    drop((service, clone));
    assert_eq!(third.await.unwrap().body(), "https://else/3");
    assert_eq!(second.await.unwrap().body(), "https://h/2");
    assert_eq!(first.await.unwrap().body(), "https://h/1");
}

#[tokio::test]
async fn the_selected_services_own_error_can_be_downcast() {
    #[derive(Debug, PartialEq)]
    struct Own(&'static str);

    impl fmt::Display for Own {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Own {}

    let fails = |name| service_fn(move |_: Request<()>| ready(Err::<Response<()>, _>(Own(name))));
    let boxed = service_fn(|_: Request<()>| {
        ready(Err::<Response<()>, BoxError>(io::Error::other("boxed").into()))
    });
    let service = RoutingLayer::builder()
        .mount("https://layer", Identity::new())
        .mount_service("https://service", fails("service"))
        .mount_service("https://boxed", boxed)
        .build()
        .unwrap()
        .layer(fails("below"));
    let error = |uri| {
        let service = service.clone();
        async move { service.oneshot(Request::get(uri).body(()).unwrap()).await.unwrap_err() }
    };
    assert_eq!(error("https://layer/").await.downcast_ref(), Some(&Own("below")));
    assert_eq!(error("https://service/").await.downcast_ref(), Some(&Own("service")));
    assert_eq!(error("https://else/").await.downcast_ref(), Some(&Own("below")));
    // Boxed once, not twice.
    assert_eq!(
        error("https://boxed/").await.downcast_ref::<io::Error>().unwrap().to_string(),
        "boxed"
    );
}

#[tokio::test]
async fn the_mount_extension_is_the_prefix_as_written_and_absent_for_the_fallback() {
    let service = RoutingLayer::builder()
        .mount("HTTPS://Layer:443/a/../", Identity::new())
        .mount_service("https://service", echo())
        .build()
        .unwrap()
        .layer(echo());
    let mount = |uri| {
        let service = service.clone();
        async move { send(&service, uri).await.unwrap().extensions().get::<Mount>().cloned() }
    };
    assert_eq!(mount("https://layer/").await, Some(Mount("HTTPS://Layer:443/a/../".into())));
    assert_eq!(mount("https://service/").await, Some(Mount("https://service".into())));
    assert_eq!(mount("https://else/").await, None);
}

#[test]
fn the_service_and_its_future_are_send_whatever_the_response_body() {
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    let service = is_send(mounted(&["https://h"]));
    drop(is_send(service.clone().call(Request::get("https://h/").body(()).unwrap())));
    let text = format!("{service:?}");
    assert!(text.contains("https://h"), "{text}");
}

/// rustc cannot see that such a call is `Send`, for any layer, if the type below contains
/// `BoxError`.
#[tokio::test]
async fn a_finished_stack_in_a_box_can_be_called_in_a_spawned_task() {
    type Below = tower::util::BoxCloneSyncService<Request<()>, Response<()>, BoxError>;
    let below = Below::new(service_fn(|_: Request<()>| ready(Ok(Response::new(())))));
    let client =
        RoutingLayer::builder().mount("https://h", Identity::new()).build().unwrap().layer(below);
    let client = client.boxed_clone();
    let call =
        async move { client.oneshot(Request::get("https://h/").body(()).unwrap()).await.map(drop) };
    tokio::spawn(call).await.unwrap().unwrap();
}
