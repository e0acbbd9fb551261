//! A restriction of a request also holds for its redirects: `RedirectPolicy`, and layers that
//! expect restrictions.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::ready,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_http::follow_redirect::{FollowRedirectLayer, policy::Standard};
use tower_outbound::{
    RedirectPolicy,
    cookie::{CookieControl, CookieJar, CookieLayer, HostDecides, ResponseCookies, SiteForCookies},
};

use crate::rows_async;

type Body = Full<Bytes>;
type Client = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// Answers from a list, then with an empty 200, and keeps the heads of what it got.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    got: Arc<Mutex<Vec<http::request::Parts>>>,
}

impl Server {
    fn new(answers: impl IntoIterator<Item = Response<Body>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn service(&self) -> Client {
        let server = self.clone();
        BoxCloneService::new(service_fn(move |request: Request<Body>| {
            server.got.lock().unwrap().push(request.into_parts().0);
            ready(Ok(server.answers.lock().unwrap().pop_front().unwrap_or_default()))
        }))
    }

    /// A header of every request, or an empty text.
    fn header(&self, name: header::HeaderName) -> Vec<String> {
        let got = self.got.lock().unwrap();
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        got.iter().map(|head| head.headers.get(&name).map_or_else(String::new, text)).collect()
    }

    fn requests(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(Body::default()).unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

/// A jar with a cookie of b.example for each value of `SameSite`.
fn jar() -> CookieJar {
    let jar = CookieJar::new();
    for line in ["strict=1; SameSite=Strict", "lax=1", "none=1; SameSite=None; Secure"] {
        jar.set(&"https://b.example/".parse().unwrap(), line).unwrap();
    }
    jar
}

const OPT_OUT: CookieControl = CookieControl { send: false, store: false };
const ALL: &str = "strict=1; lax=1; none=1";

fn site(page: &str) -> Option<SiteForCookies> {
    Some(SiteForCookies::new(&page.parse().unwrap()))
}

/// a.example leads to b.example, which sets two cookies.
#[tokio::test]
async fn a_restriction_holds_at_another_origin_with_our_policy_or_a_layer_that_expects_it() {
    let evil = || site("https://evil.example/");
    let send_only = CookieControl { send: true, store: false };
    // Whether the policy is ours, whether the layer expects restrictions, what b.example gets, and
    // what is stored for it.
    let rows = [
        ("nothing is said", None, None, [true, false], ALL, "lax2 none2"),
        ("opted out", Some(OPT_OUT), None, [true, false], "", ""),
        ("stores nothing", Some(send_only), None, [true, false], ALL, ""),
        ("a foreign site", None, evil(), [true, false], "none=1", "none2"),
        ("a foreign site, opted out", Some(OPT_OUT), evil(), [true, false], "", ""),
        ("its own site", None, site("https://b.example/"), [true, false], ALL, "lax2 none2"),
        // tower-http's policy drops the restriction, and the layer knows that there was one.
        ("dropped: opted out", Some(OPT_OUT), None, [false, true], "", ""),
        ("dropped: a foreign site", None, evil(), [false, true], "", ""),
        ("dropped: its own site", None, site("https://b.example/"), [false, true], "", ""),
        ("expected and kept: opted out", Some(OPT_OUT), None, [true, true], "", ""),
        ("expected and kept: a site", None, evil(), [true, true], "none=1", "none2"),
        (
            "expected and kept: its own",
            None,
            site("https://b.example/"),
            [true, true],
            ALL,
            "lax2 none2",
        ),
        // What the docs warn of: no policy, no expectation.
        ("lost: opted out", Some(OPT_OUT), None, [false, false], ALL, "lax2 none2"),
        ("lost: a foreign site", None, evil(), [false, false], ALL, "lax2 none2"),
    ];
    rows_async::hold(rows, async |(row, control, site, [ours, expects], sent, stored)| {
        let there = answer(302, &[("location", "https://b.example/")]);
        let sets = [("set-cookie", "lax2=1"), ("set-cookie", "none2=1; SameSite=None; Secure")];
        let (server, jar) = (Server::new([there, answer(200, &sets)]), jar());
        let layer = CookieLayer::new(jar.clone());
        let layer = if expects { layer.expect_restrictions() } else { layer };
        let client = layer.layer(server.service());
        let mut request = get("https://a.example/");
        control.map(|control| request.extensions_mut().insert(control));
        site.map(|site| request.extensions_mut().insert(site));
        let response = if ours {
            let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
            redirects.layer(client).oneshot(request).await.unwrap()
        } else {
            let redirects = FollowRedirectLayer::with_policy(Standard::default());
            redirects.layer(client).oneshot(request).await.unwrap()
        };
        assert!(response.extensions().get::<ResponseCookies>().is_some(), "it can be looked at");
        let new = jar.iter().skip(3).map(|cookie| cookie.name().into_owned()).collect::<Vec<_>>();
        let got = server.header(header::COOKIE).pop().unwrap();
        (row, (got, new.join(" ")), (sent.to_owned(), stored.to_owned()))
    })
    .await;
}

#[tokio::test]
async fn what_a_request_does_not_say_is_forbidden_if_restrictions_are_expected() {
    let control = |send, store| Some(CookieControl { send, store });
    let own = || site("https://b.example/");
    let rows = [
        ("nothing", None, None, "", ""),
        ("its own site", None, own(), ALL, "lax2 none2"),
        ("control alone", control(true, true), None, "none=1", "none2"),
        ("control alone, to send", control(true, false), None, "none=1", ""),
        ("control alone, to store", control(false, true), None, "", "none2"),
        ("both", control(true, true), own(), ALL, "lax2 none2"),
        ("both, to send", control(true, false), own(), ALL, ""),
        ("both, to store", control(false, true), own(), "", "lax2 none2"),
        ("an opaque site", None, Some(SiteForCookies::opaque()), "none=1", "none2"),
    ];
    rows_async::hold(rows, async |(row, control, site, sent, stored)| {
        let sets = [("set-cookie", "lax2=1"), ("set-cookie", "none2=1; SameSite=None; Secure")];
        let (server, jar) = (Server::new([answer(200, &sets)]), jar());
        let client = CookieLayer::new(jar.clone()).expect_restrictions().layer(server.service());
        let mut request = get("https://b.example/");
        control.map(|control| request.extensions_mut().insert(control));
        site.map(|site| request.extensions_mut().insert(site));
        client.oneshot(request).await.unwrap();
        let new = jar.iter().skip(3).map(|cookie| cookie.name().into_owned()).collect::<Vec<_>>();
        let got = server.header(header::COOKIE).pop().unwrap();
        (row, (got, new.join(" ")), (sent.to_owned(), stored.to_owned()))
    })
    .await;
}

#[tokio::test]
async fn credentials_and_foreign_extensions_end_where_a_hop_leaves_the_origin() {
    #[derive(Clone)]
    struct Foreign;

    let server = Server::new([
        answer(302, &[("location", "/same")]),
        answer(302, &[("location", "https://b.example/")]),
        answer(302, &[("location", "https://b.example/2")]),
        answer(302, &[("location", "https://a.example/back")]),
    ]);
    let client = FollowRedirectLayer::with_policy(RedirectPolicy::new()).layer(server.service());
    let mut request = get("https://a.example/");
    request.extensions_mut().insert(Foreign);
    request.extensions_mut().insert(OPT_OUT);
    let secret = [header::AUTHORIZATION, header::COOKIE, header::PROXY_AUTHORIZATION];
    for name in &secret {
        request.headers_mut().insert(name, HeaderValue::from_static("s"));
    }
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("*"));
    client.oneshot(request).await.unwrap();
    for name in secret {
        assert_eq!(server.header(name.clone()), ["s", "s", "", "", ""], "{name}");
    }
    assert_eq!(server.header(header::ACCEPT), ["*"; 5]);
    let got = server.got.lock().unwrap();
    let foreign: Vec<_> =
        got.iter().map(|head| head.extensions.get::<Foreign>().is_some()).collect();
    assert_eq!(foreign, [true, true, false, false, false]);
    assert!(got.iter().all(|head| head.extensions.get() == Some(&OPT_OUT)));
}

#[tokio::test]
async fn twenty_hops_are_followed_or_as_many_as_were_asked_for() {
    let rows = [
        ("the default", RedirectPolicy::new(), 20),
        ("none", RedirectPolicy::new().max(0), 0),
        ("three", RedirectPolicy::new().max(3), 3),
    ];
    rows_async::hold(rows, async |(row, policy, hops)| {
        let moved = |n| answer(302, &[("location", &format!("/{n}"))]);
        let server = Server::new((0..30).map(moved));
        let client = FollowRedirectLayer::with_policy(policy).layer(server.service());
        // Twice, because the hops of one request must not affect the next one.
        for _ in 0..2 {
            let response = client.clone().oneshot(get("https://a.example/")).await.unwrap();
            assert_eq!(response.status(), 302);
            *server.answers.lock().unwrap() = (0..30).map(moved).collect();
        }
        (row, server.requests(), 2 * (hops + 1))
    })
    .await;
}

/// A server that redirects three requests to the same place and sets a cookie, and then answers.
#[tokio::test]
async fn an_empty_location_is_no_redirect_and_no_post_is_repeated_at_its_own_uri() {
    let uri = "https://a.example:443/p?q=1";
    let rows = [
        // With a cookie layer, which sees the Location.
        (Method::GET, 302, "", true, 1),
        (Method::GET, 302, "  ", true, 1),
        (Method::GET, 301, "", true, 1),
        (Method::GET, 307, "", true, 1),
        (Method::POST, 303, "", true, 1),
        (Method::POST, 302, "", true, 1),
        (Method::POST, 307, "", true, 1),
        (Method::PUT, 308, "", true, 1),
        (Method::GET, 302, "/p?q=1", true, 4),
        (Method::GET, 307, "?q=1", true, 4),
        (Method::HEAD, 302, "/p?q=1", true, 4),
        (Method::POST, 303, "/p?q=1", true, 4),
        (Method::POST, 307, "/p?q=1", true, 1),
        (Method::POST, 307, "/p?q=2", true, 2),
        // Without one, an empty Location looks like the request's own URI.
        (Method::GET, 302, "", false, 1),
        (Method::GET, 302, "/p?q=1", false, 1),
        (Method::GET, 302, "/p?q=2", false, 2),
        (Method::POST, 307, "", false, 1),
        (Method::POST, 308, "/p?q=1", false, 1),
        // It becomes a GET, so that it is not the same request.
        (Method::POST, 303, "/p?q=1", false, 2),
    ];
    rows_async::hold(rows, async |(method, status, location, cookies, sends)| {
        let headers = [("location", location), ("set-cookie", "seen=1")];
        let server = Server::new((0..3).map(|_| answer(status, &headers)));
        let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
        let request = Request::builder().method(&method).uri(uri).body(Body::from("x")).unwrap();
        let response = if cookies {
            let client = CookieLayer::default().layer(server.service());
            redirects.layer(client).oneshot(request).await.unwrap()
        } else {
            redirects.layer(server.service()).oneshot(request).await.unwrap()
        };
        let stopped = server.requests() < 4;
        assert_eq!(response.status() == StatusCode::OK, !stopped, "the redirect is returned");
        if stopped {
            assert_eq!(response.headers()["location"], location, "as it came");
        }
        (format!("{method} {status} {location:?}, cookies {cookies}"), server.requests(), sends)
    })
    .await;
}

#[tokio::test]
async fn what_was_noted_of_one_request_is_not_true_of_another() {
    let server = Server::new([
        answer(302, &[("location", "")]),
        answer(302, &[("location", "/")]),
        answer(302, &[("location", "/two")]),
        answer(302, &[("location", "")]),
    ]);
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
        .layer(CookieLayer::default())
        .service(server.service());
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let response = client.clone().oneshot(get("https://a.example/")).await.unwrap();
        statuses.push(response.status().as_u16());
    }
    assert_eq!(statuses, [302, 302, 200]);
    let paths: Vec<_> =
        server.got.lock().unwrap().iter().map(|head| head.uri.path().to_owned()).collect();
    assert_eq!(paths, ["/", "/", "/", "/two", "/"]);
}

/// It names a host at the address of the first origin. curl drops it there too.
#[tokio::test]
async fn a_host_header_ends_where_a_hop_leaves_the_origin() {
    let hops = [
        answer(302, &[("location", "/next")]),
        answer(302, &[("location", "http://b.example/")]),
        answer(302, &[("location", "http://127.0.0.1:8080/back")]),
    ];
    let server = Server::new(hops);
    let client = CookieLayer::default().layer(server.service());
    let request = Request::get("http://127.0.0.1:8080/").header(header::HOST, "a.example");
    let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
    redirects.layer(client).oneshot(request.body(Body::default()).unwrap()).await.unwrap();
    assert_eq!(server.header(header::HOST), ["a.example", "a.example", "", ""]);
}

/// The same two hosts behind one address: a hop within the origin, then to another, and back.
#[tokio::test]
async fn a_host_that_decides_ends_where_a_hop_leaves_the_origin() {
    let hops = || {
        [
            answer(302, &[("location", "/next"), ("set-cookie", "one=1; Path=/")]),
            answer(302, &[("location", "http://b.example/"), ("set-cookie", "two=1; Path=/")]),
            answer(302, &[("location", "http://127.0.0.1:8080/back"), ("set-cookie", "b=1")]),
        ]
    };
    let request = || {
        let request = Request::get("http://127.0.0.1:8080/").header(header::HOST, "a.example");
        request.extension(HostDecides).body(Body::default()).unwrap()
    };
    let owners = |jar: &CookieJar| -> Vec<_> {
        jar.iter().map(|cookie| format!("{} of {}", cookie.name(), cookie.domain())).collect()
    };
    let (server, jar) = (Server::new(hops()), CookieJar::new());
    let client = CookieLayer::new(jar.clone()).layer(server.service());
    let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
    redirects.layer(client).oneshot(request()).await.unwrap();
    assert_eq!(server.header(header::HOST), ["a.example", "a.example", "", ""]);
    assert_eq!(server.header(header::COOKIE), ["", "one=1", "", ""]);
    assert_eq!(owners(&jar), ["one of a.example", "two of a.example", "b of b.example"]);

    // Redirects inside the cookies: the last response's cookies belong to the host that answered.
    let rows = [(0, "one of a.example"), (1, "two of a.example"), (2, "b of b.example")];
    rows_async::hold(rows, async |(max, owner)| {
        let (server, jar) = (Server::new(hops()), CookieJar::new());
        let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new().max(max));
        let client = CookieLayer::new(jar.clone()).layer(redirects.layer(server.service()));
        client.oneshot(request()).await.unwrap();
        (format!("{max} hops"), owners(&jar), vec![owner.to_owned()])
    })
    .await;
}
