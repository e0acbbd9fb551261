//! Which host gets a header after a redirect to another host, by the layer that sets it. The
//! guide's page on credentials has this table.

use std::{
    future::ready,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::Full;
use tower::{
    BoxError, ServiceBuilder, ServiceExt,
    layer::util::{Identity, Stack},
    service_fn,
    util::BoxCloneSyncService,
};
use tower_http::{follow_redirect::FollowRedirectLayer, set_header::SetRequestHeaderLayer};
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::CookieJar,
    retry::{Backoff, RetryPolicy},
};

use crate::rows_async;

type Body = Full<Bytes>;
type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

const ALL: [&str; 4] = ["authorization", "key", "own cookie", "jar's cookie"];
const KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Where the credentials are set.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Set {
    OnTheRequest,
    OutsideTheRedirects,
    BetweenRedirectsAndMounts,
    InTheMount,
    InTheMountInsideTheRetries,
    BelowTheMounts,
}

type SetHeader = SetRequestHeaderLayer<HeaderValue>;
type Credentials = Stack<SetHeader, Stack<SetHeader, SetHeader>>;

const CREDENTIALS: [(HeaderName, &str); 3] =
    [(header::AUTHORIZATION, "Bearer secret"), (KEY, "secret"), (header::COOKIE, "own=1")];

/// Sets the headers if this is the place. Otherwise it sets headers without a meaning.
fn credentials(is_here: bool) -> Credentials {
    let [authorization, key, cookie] = CREDENTIALS.map(|(name, value)| {
        let name = if is_here { name } else { HeaderName::from_static("x-other") };
        SetRequestHeaderLayer::appending(name, HeaderValue::from_static(value))
    });
    Stack::new(authorization, Stack::new(key, cookie))
}

/// What each host got of the three headers, and of the jar's cookie.
async fn got(place: Set) -> Vec<(String, Vec<&'static str>)> {
    let log: Arc<Mutex<Vec<_>>> = Arc::default();
    let seen = Arc::clone(&log);
    let server = service_fn(move |request: Request<Body>| {
        let host = request.uri().host().unwrap().to_owned();
        let has = |name: &HeaderName, value: &str| {
            let values = request.headers().get_all(name).iter();
            values.into_iter().any(|all| all.to_str().unwrap().split("; ").any(|it| it == value))
        };
        let all = CREDENTIALS.into_iter().chain([(header::COOKIE, "jar=1")]);
        let got = all.zip(ALL).filter(|((name, value), _)| has(name, value)).map(|(_, what)| what);
        let got: Vec<_> = got.collect();
        let mut seen = seen.lock().unwrap();
        seen.push((host.clone(), got));
        let response = match &*host {
            // Answers 503 at first, so that there is a retry.
            "a.example" if seen.len() == 1 => Response::builder().status(503),
            "a.example" => Response::builder().status(302).header("location", "https://b.example/"),
            _ => Response::builder(),
        };
        ready(response.body(Body::default()).map_err(BoxError::from))
    });
    let retries = RetryLayer::new(RetryPolicy::new().backoff(Backoff::none()));
    let mount = Stack::new(
        credentials(place == Set::InTheMountInsideTheRetries),
        Stack::new(retries.clone(), credentials(place == Set::InTheMount)),
    );
    let routes = RoutingLayer::builder()
        .mount("https://a.example", mount)
        .mount("https://", Stack::new(Identity::new(), retries))
        .build()
        .unwrap();
    let jar = CookieJar::new();
    jar.set(&"https://a.example/".parse().unwrap(), "jar=1; Secure").unwrap();
    let client = ServiceBuilder::new()
        .layer(credentials(place == Set::OutsideTheRedirects))
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(credentials(place == Set::BetweenRedirectsAndMounts))
        .layer(routes)
        .layer(CookieLayer::new(jar))
        .layer(credentials(place == Set::BelowTheMounts))
        .service(Client::new(server));
    let mut request = Request::get("https://a.example/").body(Body::default()).unwrap();
    if place == Set::OnTheRequest {
        for (name, value) in CREDENTIALS {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    }
    client.oneshot(request).await.unwrap();
    log.lock().unwrap().clone()
}

#[tokio::test]
async fn another_host_gets_what_is_set_inside_the_redirects_and_a_key_unless_a_mount_sets_it() {
    let rows: [(_, &[&str]); 6] = [
        (Set::InTheMount, &[]),
        (Set::InTheMountInsideTheRetries, &[]),
        (Set::OnTheRequest, &["key"]),
        (Set::OutsideTheRedirects, &["key"]),
        (Set::BetweenRedirectsAndMounts, &["authorization", "key", "own cookie"]),
        (Set::BelowTheMounts, &["authorization", "key", "own cookie"]),
    ];
    rows_async::hold(rows, async |(place, at_b)| {
        let a = || ("a.example".to_owned(), ALL.to_vec());
        let want = vec![a(), a(), ("b.example".to_owned(), at_b.to_vec())];
        (format!("{place:?}"), got(place).await, want)
    })
    .await;
}
