//! Every order of the three layers and of redirects: what each order keeps and loses. The README's
//! order is the best. The crate's docs summarise what the others lose.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use tower::{BoxError, Layer, ServiceExt, layer::layer_fn, service_fn, util::BoxCloneSyncService};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::{CookieJar, ResponseCookies},
    retry::{Backoff, RetryHistory, RetryPolicy},
    routing::Mount,
};

use crate::rows_async;

type Body = Full<Bytes>;
type Client = BoxCloneSyncService<Request<Body>, Response<Body>, BoxError>;

/// One request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    host: String,
    path: String,
    /// The mount that served it.
    via: String,
    cookies: String,
    authorization: String,
}

/// Both hosts of the story answer 503 at first. Then a.example redirects to b.example. Every answer
/// sets a cookie with the name of its host.
fn server(log: &Arc<Mutex<Vec<Seen>>>) -> Client {
    let log = Arc::clone(log);
    Client::new(service_fn(move |request: Request<Body>| {
        let text = |name| {
            request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let seen = Seen {
            host: request.uri().host().unwrap().to_owned(),
            path: request.uri().path().to_owned(),
            via: text("via"),
            cookies: text("cookie"),
            authorization: text("authorization"),
        };
        let mut log = log.lock().unwrap();
        let count = log
            .iter()
            .filter(|other| (&other.host, &other.path) == (&seen.host, &seen.path))
            .count();
        let host = &seen.host[..1];
        let response = match (seen.path.as_str(), count) {
            ("/story", 0) => {
                Response::builder().status(503).header("set-cookie", format!("{host}-busy=1"))
            }
            ("/story", _) if host == "a" => Response::builder()
                .status(302)
                .header("location", "https://b.example/story")
                .header("set-cookie", "a-moved=1"),
            _ => Response::builder().header("set-cookie", format!("{host}-done=1")),
        };
        log.push(seen);
        ready(response.body(Body::default()).map_err(BoxError::from))
    }))
}

/// The mounted layer marks its requests, so that the test knows the mount.
fn routing() -> RoutingLayer<Client, Body, Body> {
    let via = |mount: &'static str| {
        layer_fn(move |inner: Client| {
            inner.map_request(move |mut request: Request<Body>| {
                request.headers_mut().append(header::VIA, HeaderValue::from_static(mount));
                request
            })
        })
    };
    RoutingLayer::builder()
        .mount("https://a.example", via("a"))
        .mount("https://b.example", via("b"))
        .build()
        .unwrap()
}

/// `order` names the layers from the outside to the inside: Follow redirects, Retry, Mounts,
/// Cookies.
fn stack(order: &str, jar: &CookieJar, server: Client) -> Client {
    order.chars().rev().fold(server, |inner, layer| match layer {
        'F' => Client::new(FollowRedirectLayer::with_policy(RedirectPolicy::new()).layer(inner)),
        'R' => Client::new(
            RetryLayer::new(RetryPolicy::new().total(3).backoff(Backoff::none())).layer(inner),
        ),
        'M' => Client::new(routing().layer(inner)),
        'C' => Client::new(CookieLayer::new(jar.clone()).layer(inner)),
        other => panic!("{other} is no layer"),
    })
}

fn orders() -> Vec<String> {
    let mut orders = vec![String::new()];
    for _ in 0..4 {
        orders = orders
            .iter()
            .flat_map(|order| {
                "FRMC"
                    .chars()
                    .filter(|layer| !order.contains(*layer))
                    .map(move |layer| format!("{order}{layer}"))
            })
            .collect();
    }
    orders
}

/// The result of an order: a line of the table below, and lines that no order may have.
async fn play(order: &str) -> (String, Vec<String>) {
    let log = Arc::default();
    let jar = CookieJar::new();
    let client = stack(order, &jar, server(&log));
    let get = |uri: &str| {
        let request = Request::get(uri)
            .header(header::AUTHORIZATION, "secret")
            .body(Body::default())
            .unwrap();
        client.clone().oneshot(request)
    };
    let response = get("https://a.example/story").await.unwrap();
    assert_eq!(response.status(), 200, "{order}");
    let story = log.lock().unwrap().clone();
    let extensions = response.extensions();
    // The hosts that the cookies of the story are kept for.
    get("https://a.example/after").await.unwrap();
    get("https://b.example/after").await.unwrap();
    let after = log.lock().unwrap()[story.len()..].to_vec();

    let mut leaks = Vec::new();
    for seen in story.iter().chain(&after).filter(|seen| seen.host == "b.example") {
        // The last request has it because the caller set it.
        let authorized = seen.path == "/story" && !seen.authorization.is_empty();
        if seen.cookies.contains("a-") || authorized {
            leaks.push(format!("{order}: {seen:?}"));
        }
    }
    for seen in story.iter().chain(&after).filter(|seen| seen.host == "a.example") {
        if seen.cookies.contains("b-") {
            leaks.push(format!("{order}: {seen:?}"));
        }
    }

    let cookies = |seen: &Seen| match seen.cookies.as_str() {
        "" => "-".to_owned(),
        cookies => cookies.replace("=1", "").replace("; ", " "),
    };
    let requests: Vec<_> =
        story.iter().map(|seen| format!("{}/{}", &seen.host[..1], seen.via)).collect();
    let again = story.iter().skip(1).find(|seen| seen.host == "a.example").map(cookies).unwrap();
    let mount =
        extensions.get::<Mount>().map_or("-", |Mount(prefix)| &prefix["https://".len()..][..1]);
    let attempts = extensions.get::<RetryHistory>().map_or(1, |history| history.attempts().len());
    let own = extensions
        .get::<ResponseCookies>()
        .map(|own| own.to_map().into_keys().collect::<Vec<_>>().join(" "));
    let line = format!(
        "{order} | {} | {again} | {} | {} | {mount} {attempts} {}",
        requests.join(" "),
        cookies(&after[0]),
        cookies(&after[1]),
        own.unwrap_or_default()
    );
    (line, leaks)
}

/// Order from the outside to the inside | every request, as host/mount that it came by | cookies of
/// the second attempt | what a.example is sent afterwards | and b.example | what the response
/// tells: mount, attempts, cookies of its own.
///
/// - Retries outside cookies: the second attempt sends what the first received.
/// - Redirects outside cookies: every hop's cookies are kept, and the next hop sends them.
///   Otherwise the cookies of the hops between are lost, and only the first hop sends cookies.
///   Those of the last answer are kept for the host that answered.
/// - Redirects outside mounts: every hop is served by the mount of its own host. Otherwise the
///   mount of the first host serves all hops.
/// - Redirects outside retries: if a hop fails, only that hop is repeated. Otherwise the whole
///   chain is repeated.
///
/// The order of mounts and retries, and of mounts and cookies, makes no difference here, because
/// all mounts share what is below them.
const TABLE: [&str; 24] = [
    "FRMC | a/a a/a b/b b/b | a-busy | a-busy a-moved | b-busy b-done | b 2 b-done",
    "FRCM | a/a a/a b/b b/b | a-busy | a-busy a-moved | b-busy b-done | b 2 b-done",
    "FMRC | a/a a/a b/b b/b | a-busy | a-busy a-moved | b-busy b-done | b 2 b-done",
    "FMCR | a/a a/a b/b b/b | - | a-moved | b-done | b 2 b-done",
    "FCRM | a/a a/a b/b b/b | - | a-moved | b-done | b 2 b-done",
    "FCMR | a/a a/a b/b b/b | - | a-moved | b-done | b 2 b-done",
    "RFMC | a/a a/a b/b a/a b/b | a-busy | a-busy a-moved | b-busy b-done | b 3 b-done",
    "RFCM | a/a a/a b/b a/a b/b | a-busy | a-busy a-moved | b-busy b-done | b 3 b-done",
    "RMFC | a/a a/a b/a a/a b/a | a-busy | a-busy a-moved | b-busy b-done | a 3 b-done",
    "RMCF | a/a a/a b/a a/a b/a | a-busy | a-busy | b-busy b-done | a 3 b-done",
    "RCFM | a/a a/a b/b a/a b/b | a-busy | a-busy | b-busy b-done | b 3 b-done",
    "RCMF | a/a a/a b/a a/a b/a | a-busy | a-busy | b-busy b-done | a 3 b-done",
    "MFRC | a/a a/a b/a b/a | a-busy | a-busy a-moved | b-busy b-done | a 2 b-done",
    "MFCR | a/a a/a b/a b/a | - | a-moved | b-done | a 2 b-done",
    "MRFC | a/a a/a b/a a/a b/a | a-busy | a-busy a-moved | b-busy b-done | a 3 b-done",
    "MRCF | a/a a/a b/a a/a b/a | a-busy | a-busy | b-busy b-done | a 3 b-done",
    "MCFR | a/a a/a b/a b/a | - | - | b-done | a 2 b-done",
    "MCRF | a/a a/a b/a a/a b/a | - | - | b-done | a 3 b-done",
    "CFRM | a/a a/a b/b b/b | - | - | b-done | b 2 b-done",
    "CFMR | a/a a/a b/b b/b | - | - | b-done | b 2 b-done",
    "CRFM | a/a a/a b/b a/a b/b | - | - | b-done | b 3 b-done",
    "CRMF | a/a a/a b/a a/a b/a | - | - | b-done | a 3 b-done",
    "CMFR | a/a a/a b/a b/a | - | - | b-done | a 2 b-done",
    "CMRF | a/a a/a b/a a/a b/a | - | - | b-done | a 3 b-done",
];

#[tokio::test]
async fn every_order_keeps_and_loses_what_the_table_says_and_sends_nothing_of_one_host_to_the_other()
 {
    let orders = orders();
    assert_eq!(orders.len(), TABLE.len());
    rows_async::hold(orders, async |order| {
        let (line, leaks) = play(&order).await;
        let told = TABLE.contains(&line.as_str());
        (line, (told, leaks), (true, Vec::<String>::new()))
    })
    .await;
}

/// The override allows three retries, the layer one. The redirect leads to the same host or the
/// other, which stays busy.
#[tokio::test]
async fn an_override_crosses_to_another_origin_only_where_the_redirects_or_what_is_inside_them_let_it()
 {
    let policy = |total: u32| RetryPolicy::new().no_budget().total(total).backoff(Backoff::none());
    let allowed = FollowRedirectLayer::with_policy(RedirectPolicy::new());
    let set = move |mut request: Request<Body>| {
        request.extensions_mut().insert(policy(3));
        request
    };
    let retries = |inner: Client| Client::new(RetryLayer::new(policy(1)).layer(inner));
    let plain = |inner: Client| Client::new(FollowRedirectLayer::new().layer(inner));
    let rows: [(&str, &str, Box<dyn Fn(Client) -> Client>, usize); 4] = [
        ("the same origin", "a", Box::new(|server| plain(retries(server))), 4),
        ("another origin", "b", Box::new(|server| plain(retries(server))), 2),
        (
            "another, and the redirects let it",
            "b",
            Box::new(|server| Client::new(allowed.layer(retries(server)))),
            4,
        ),
        (
            "another, set inside",
            "b",
            Box::new(|server| plain(Client::new(retries(server).map_request(set)))),
            4,
        ),
    ];
    rows_async::hold(rows, async |(row, to, stack, sends)| {
        let sent = Arc::new(AtomicUsize::new(0));
        let (counted, location) = (Arc::clone(&sent), format!("https://{to}.example/busy"));
        let client = stack(Client::new(service_fn(move |request: Request<Body>| {
            let response = Response::builder().header(header::LOCATION, location.as_str());
            let status = if request.uri().path() == "/busy" { 503 } else { 302 };
            counted.fetch_add(usize::from(status == 503), Relaxed);
            ready(response.status(status).body(Body::default()).map_err(BoxError::from))
        })));
        let request =
            Request::get("https://a.example/").extension(policy(3)).body(Body::default()).unwrap();
        client.oneshot(request).await.unwrap();
        (row, sent.load(Relaxed), sends)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn retries_outside_the_mounts_repeat_their_errors_unless_the_policy_is_told_not_to() {
    use tower_outbound::{
        retry::{Failure, Policy, RetryError},
        routing::{NoMount, UriError},
    };

    fn told() -> RetryPolicy {
        let usual = RetryPolicy::new();
        usual.clone().classify(move |outcome| match outcome {
            Err(error) if error.is::<NoMount>() || error.is::<UriError>() => Some(Failure::Never),
            outcome => Policy::classify(&usual, outcome),
        })
    }

    // The number of attempts, if the error is a `RetryError`.
    let rows = [
        ("no mount", "https://else.example/", RetryPolicy::new(), Some(4)),
        ("no mount, told", "https://else.example/", told(), None),
        ("no host", "/users", RetryPolicy::new(), Some(4)),
        ("no host, told", "/users", told(), None),
    ];
    rows_async::hold(rows, async |(name, uri, policy, want)| {
        let routes = RoutingLayer::builder().mount("https://a.example", layer_fn(|inner| inner));
        let routes = routes.strict().build().unwrap();
        let client = RetryLayer::new(policy).layer(routes.layer(server(&Arc::default())));
        let error = client.oneshot(Request::get(uri).body(Body::default()).unwrap()).await;
        let error = error.unwrap_err();
        let retried = error.downcast_ref::<RetryError>();
        let cause = match retried {
            Some(error) => std::error::Error::source(error).unwrap(),
            None => &*error,
        };
        assert_eq!(cause.is::<NoMount>(), name.starts_with("no mount"), "{name}: {cause}");
        assert_eq!(cause.is::<UriError>(), name.starts_with("no host"), "{name}: {cause}");
        (name, retried.map(|error| error.history().attempts().len()), want)
    })
    .await;
}
