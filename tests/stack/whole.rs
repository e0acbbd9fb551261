//! The three layers together, and what their events say.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Full;
use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, RetryHistory, RetryPolicy},
    routing::Mount,
};
use tracing_subscriber::layer::SubscriberExt;

use crate::listen::{Written, listen};

type Body = Full<Bytes>;

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn cookies(request: &Request<Body>) -> String {
    request
        .headers()
        .get(header::COOKIE)
        .map_or(String::new(), |line| line.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn row_21_an_attempt_sends_what_the_one_before_it_received_and_a_hop_too() {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&sent);
    let server = service_fn(move |request: Request<Body>| {
        log.lock().unwrap().push(format!("{} {}", request.uri().path(), cookies(&request)));
        let response = match log.lock().unwrap().len() {
            1 => Response::builder().status(503).header("set-cookie", "busy=1"),
            2 => Response::builder()
                .status(302)
                .header("set-cookie", "moved=1")
                .header("location", "/new"),
            _ => Response::builder(),
        };
        std::future::ready(response.body(Body::default()).map_err(BoxError::from))
    });
    let jar = CookieJar::new();
    let retry = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()));
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(RoutingLayer::builder().mount("https://h.example", retry).build().unwrap())
        .layer(CookieLayer::new(jar.clone()))
        .service(server);
    let response = client.oneshot(get("https://h.example/old")).await.unwrap();
    assert_eq!(*sent.lock().unwrap(), ["/old ", "/old busy=1", "/new busy=1; moved=1"]);
    assert_eq!(&*response.extensions().get::<Mount>().unwrap().0, "https://h.example");
    assert!(
        response.extensions().get::<RetryHistory>().is_none(),
        "the hop that answered took one attempt"
    );
    assert_eq!(jar.len(), 2);
}

#[test]
fn events_tell_attempts_decisions_and_rejected_cookies_and_no_secret() {
    let written = Written::default();
    let subscriber = tracing_subscriber::registry().with(written.clone());
    let count = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        let response = match count.fetch_add(1, Relaxed) {
            0 => Response::builder().status(503).header("set-cookie", "bad=secret; Domain=example"),
            _ => Response::builder().header("set-cookie", "good=secret"),
        };
        std::future::ready(response.body(Body::default()).map_err(BoxError::from))
    });
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(RetryPolicy::new().backoff(Backoff::none())))
        .layer(CookieLayer::default())
        .service(server);
    listen(subscriber, || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(client.oneshot(get("https://u:secret@h.example:8443/p?t=secret")))
            .unwrap();
    });
    let events = written.events.lock().unwrap();
    let expected = [
        &["name=\"bad\"", "reason=its domain is a public suffix"][..],
        &["attempt=1", "method=GET", "uri=https://h.example:8443/p", "status=503", "elapsed_ms="],
        &["attempt=1", "method=GET", "decision=\"retry\"", "delay_ms=0.0", "retries_left=2"],
        &["attempt=2", "method=GET", "uri=https://h.example:8443/p", "status=200"],
    ];
    assert_eq!(events.len(), expected.len(), "{events:#?}");
    for (event, fields) in events.iter().zip(expected) {
        assert!(
            fields.iter().all(|field| event.contains(field)),
            "{event} lacks one of {fields:?}"
        );
        assert!(!event.contains("secret"), "{event}");
    }
    let all = written.all.lock().unwrap();
    assert!(!all.contains("secret"), "{all}");
}
