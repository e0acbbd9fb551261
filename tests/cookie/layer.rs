//! The cookie layer around a client: what it sends, what it stores, and what one request can
//! change.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::Full;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneService};
use tower_http::follow_redirect::{
    FollowRedirectLayer,
    policy::{FilterCredentials, Policy, Standard},
};
use tower_outbound::cookie::{
    CallerCookies, CookieControl, CookieJar, CookieLayer, HostDecides, Rejection, ResponseCookies,
    header_value,
};

use crate::rows_async;

type Body = Full<Bytes>;
type Client = BoxCloneService<Request<Body>, Response<Body>, Infallible>;

/// A URI, and the `Cookie` lines of its request.
type Got = (String, Vec<String>);

/// Answers from a list, then with an empty 200, and keeps the URI and `Cookie` lines of what it
/// got.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Response<Body>>>>,
    got: Arc<Mutex<Vec<Got>>>,
}

impl Server {
    fn new(answers: impl IntoIterator<Item = Response<Body>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn service(&self) -> Client {
        let server = self.clone();
        BoxCloneService::new(service_fn(move |request: Request<Body>| {
            let lines = request.headers().get_all(header::COOKIE).iter();
            let lines =
                lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
            server.got.lock().unwrap().push((request.uri().to_string(), lines));
            let answer = server.answers.lock().unwrap().pop_front().unwrap_or_default();
            std::future::ready(Ok(answer))
        }))
    }

    /// The `Cookie` line of the last request, or an empty text.
    fn cookie(&self) -> String {
        let got = self.got.lock().unwrap();
        let lines = &got.last().unwrap().1;
        assert!(lines.len() <= 1, "several Cookie lines: {lines:?}");
        lines.first().cloned().unwrap_or_default()
    }
}

fn answer(status: u16, headers: &[(&'static str, &str)]) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    response.body(Body::default()).unwrap()
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::default()).unwrap()
}

fn jar_with(lines: &[&str]) -> CookieJar {
    let jar = CookieJar::new();
    for line in lines {
        jar.set(&"https://example.com/".parse().unwrap(), line).unwrap();
    }
    jar
}

#[tokio::test]
async fn row_19_a_redirects_cookies_go_to_the_next_hop() {
    let server = Server::new([answer(
        302,
        &[("location", "/next"), ("set-cookie", "a=1"), ("set-cookie", "b=2")],
    )]);
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(CookieLayer::default())
        .service(server.service());
    client.oneshot(get("https://example.com/")).await.unwrap();
    assert_eq!(server.cookie(), "a=1; b=2");
}

#[tokio::test]
async fn a_redirects_cookie_belongs_to_who_answered_and_none_of_it_reaches_another_host() {
    let jar = jar_with(&["own=1; Secure"]);
    let server = Server::new([
        answer(302, &[("location", "https://b.example/1"), ("set-cookie", "from-a=1")]),
        answer(302, &[("location", "https://b.example/2")]),
        answer(302, &[("location", "http://example.com/plain")]),
    ]);
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(CookieLayer::new(jar))
        .service(server.service());
    let mut request = get("https://example.com/");
    request.headers_mut().insert(header::COOKIE, header_value([("user", "1")]).unwrap());
    client.oneshot(request).await.unwrap();
    let got: Vec<_> = server.got.lock().unwrap().iter().map(|(_, lines)| lines.join("|")).collect();
    assert_eq!(got, ["user=1; own=1", "", "", "from-a=1"]);
}

/// `FollowRedirect` removes a request's extensions at a hop to another origin, and does not restore
/// them.
#[tokio::test]
async fn a_jar_of_one_request_goes_to_other_origins_only_where_the_policy_of_redirects_lets_it() {
    async fn hops(
        policy: impl Policy<Body, Infallible> + Clone,
    ) -> (Vec<String>, Vec<String>, Vec<bool>) {
        let server = Server::new([
            answer(302, &[("location", "/next"), ("set-cookie", "first=1; Path=/")]),
            answer(302, &[("location", "https://b.example/"), ("set-cookie", "second=1; Path=/")]),
            answer(302, &[("location", "https://b.example/2"), ("set-cookie", "from-b=1; Path=/")]),
            answer(
                302,
                &[("location", "https://example.com/back"), ("set-cookie", "from-b2=1; Path=/")],
            ),
            answer(200, &[("set-cookie", "last=1; Path=/")]),
        ]);
        // Which of the responses say what they have set.
        let said: Arc<Mutex<Vec<bool>>> = Arc::default();
        let says = Arc::clone(&said);
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::with_policy(policy))
            .map_response(move |response: Response<Body>| {
                says.lock().unwrap().push(response.extensions().get::<ResponseCookies>().is_some());
                response
            })
            .layer(CookieLayer::per_request())
            .service(server.service());
        let jar = jar_with(&["own=1"]);
        let mut request = get("https://example.com/");
        request.extensions_mut().insert(jar.clone());
        client.oneshot(request).await.unwrap();
        let sent = server.got.lock().unwrap().iter().map(|(_, lines)| lines.join("|")).collect();
        let kept =
            jar.iter().map(|cookie| format!("{} of {}", cookie.name(), cookie.domain())).collect();
        let said = said.lock().unwrap().clone();
        (sent, kept, said)
    }
    let of_a = ["own of example.com", "first of example.com", "second of example.com"];

    let (sent, kept, said) = hops(Standard::default()).await;
    assert_eq!(sent, ["own=1", "own=1; first=1", "", "", ""]);
    assert_eq!(kept, of_a);
    assert_eq!(said, [true; 5], "each response says what it set, stored or not");

    let of_b = ["from-b of b.example", "from-b2 of b.example", "last of example.com"];
    let keeps = |(sent, kept, _): (Vec<String>, Vec<String>, Vec<bool>)| {
        assert_eq!(sent, ["own=1", "own=1; first=1", "", "from-b=1", "own=1; first=1; second=1"]);
        assert_eq!(kept, [&of_a[..], &of_b].concat());
    };
    keeps(hops(FilterCredentials::new().allow_extension::<CookieJar>()).await);
    #[cfg(feature = "follow-redirect")]
    keeps(hops(tower_outbound::RedirectPolicy::new()).await);
}

#[tokio::test]
async fn row_20_the_callers_cookies_are_merged_or_stand_alone() {
    let rows = [
        (CallerCookies::Merge, &["x=9"][..], "x=9; y=2"),
        (CallerCookies::Replace, &["x=9"], "x=9"),
        (CallerCookies::Merge, &["x=9", "z=3"], "x=9; z=3; y=2"),
        (CallerCookies::Merge, &[], "x=1; y=2"),
        (CallerCookies::Replace, &[], "x=1; y=2"),
    ];
    for (mode, own, want) in rows {
        let server = Server::new([answer(200, &[("set-cookie", "stored=1")])]);
        let jar = jar_with(&["x=1", "y=2"]);
        let client = CookieLayer::new(jar.clone()).caller_cookies(mode).layer(server.service());
        let mut request = get("https://example.com/");
        for line in own {
            request.headers_mut().append(header::COOKIE, HeaderValue::from_static(line));
        }
        client.oneshot(request).await.unwrap();
        assert_eq!(server.cookie(), want, "{mode:?} of {own:?}");
        assert!(jar.get("stored").unwrap().is_some(), "{mode:?}: the response's cookie is stored");
    }
}

#[tokio::test]
async fn one_request_may_send_or_store_nothing_and_the_next_does_again() {
    let set = || answer(200, &[("set-cookie", "new=1"), ("set-cookie", "bad=1; Domain=com")]);
    let rows = [(true, true), (false, true), (true, false), (false, false)];
    for (send, store) in rows {
        let (server, jar) = (Server::new([set(), set()]), jar_with(&["old=1"]));
        let mut client = CookieLayer::new(jar.clone()).layer(server.service());
        let mut request = get("https://example.com/");
        request.extensions_mut().insert(CookieControl { send, store });
        let response = client.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(server.cookie(), if send { "old=1" } else { "" }, "send {send}, store {store}");
        assert_eq!(jar.len(), if store { 2 } else { 1 }, "send {send}, store {store}");
        // The response says what it set, stored or not.
        let cookies: &ResponseCookies = response.extensions().get().unwrap();
        assert_eq!(cookies.get("new").unwrap().value(), "1");
        assert_eq!(
            (cookies.rejected()[0].name(), cookies.rejected()[0].reason()),
            ("bad", Rejection::PublicSuffix)
        );

        client.ready().await.unwrap().call(get("https://example.com/")).await.unwrap();
        assert_eq!(server.cookie(), if store { "old=1; new=1" } else { "old=1" });
    }
}

#[tokio::test]
async fn a_malformed_cookie_is_dropped_alone_and_the_response_is_untouched() {
    let long = format!("long={}", "x".repeat(5000));
    let lines = [
        ("set-cookie", "good=1"),
        ("set-cookie", &*long),
        ("set-cookie", "b=\u{e9}"),
        ("set-cookie", ";;;"),
    ];
    let (server, jar) = (Server::new([answer(418, &lines)]), CookieJar::new());
    let response = CookieLayer::new(jar.clone())
        .layer(server.service())
        .oneshot(get("https://h.example/"))
        .await
        .unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers().get_all("set-cookie").iter().count()),
        (418, 4)
    );
    assert_eq!((jar.len(), jar.to_map()["good"].as_str()), (2, "1"));
}

#[tokio::test]
async fn a_host_header_changes_no_cookies_owner() {
    let (server, jar) =
        (Server::new([answer(200, &[("set-cookie", "a=1")])]), jar_with(&["mine=1"]));
    let mut client = CookieLayer::new(jar.clone()).layer(server.service());
    let mut request = get("https://other.example/");
    request.headers_mut().insert(header::HOST, HeaderValue::from_static("example.com"));
    client.ready().await.unwrap().call(request).await.unwrap();
    assert_eq!(server.cookie(), "");
    assert_eq!(jar.get("a").unwrap().unwrap().domain(), "other.example");
}

#[tokio::test]
async fn a_relative_uri_has_cookies_only_with_a_default_origin() {
    for (origin, want) in [(None, ""), (Some("https://example.com"), "a=1; p=2")] {
        let (server, jar) =
            (Server::new([answer(200, &[("set-cookie", "a=1; Path=/")])]), CookieJar::new());
        jar.set(&"https://example.com/p/x".parse().unwrap(), "p=2").unwrap();
        let mut layer = CookieLayer::new(jar);
        if let Some(origin) = origin {
            layer = layer.default_origin(origin.parse().unwrap());
        }
        let mut client = layer.layer(server.service());
        for _ in 0..2 {
            client.ready().await.unwrap().call(get("/p/y")).await.unwrap();
        }
        let mut cookies: Vec<_> = server.cookie().split("; ").map(str::to_owned).collect();
        cookies.sort();
        assert_eq!(cookies.join("; "), want, "{origin:?}");
        assert_eq!(server.got.lock().unwrap()[0].0, "/p/y", "the request keeps its URI");
    }
}

#[tokio::test]
async fn no_debug_shows_a_value() {
    let jar = jar_with(&["id=secret; Secure"]);
    let header = jar.header(&"https://example.com/".parse().unwrap()).unwrap();
    let cookies: Vec<_> = jar.iter().collect();
    let rejected =
        jar.set(&"https://example.com/".parse().unwrap(), "__Host-x=secret").unwrap_err();
    let response = {
        let server =
            Server::new([answer(200, &[("set-cookie", "a=secret"), ("set-cookie", "secret=")])]);
        let client = CookieLayer::new(jar.clone()).layer(server.service());
        client.oneshot(get("https://example.com/")).await.unwrap()
    };
    let cookies_of_response =
        response.extensions().get::<ResponseCookies>().unwrap().accepted()[0].clone();
    let shown = format!(
        "{jar:?} {header:?} {cookies:?} {rejected:?} {cookies_of_response:?} {:?}",
        CookieLayer::new(jar.clone())
    );
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_host_header_does_not_make_another_machine_this_one() {
    // The URI, the `Host` header, what is sent, and whether a Secure cookie is stored.
    let rows = [
        ("http://127.0.0.1:8080/", "localhost", "s=1", true),
        ("https://203.0.113.5/", "localhost", "s=1", true),
        ("http://203.0.113.5/", "localhost", "", false),
        ("http://203.0.113.5/", "127.0.0.1", "", false),
        ("http://203.0.113.5/", "[::1]", "", false),
    ];
    rows_async::hold(rows, async |(uri, host, sent, is_stored)| {
        let jar = CookieJar::new();
        jar.set(&"https://localhost/".parse().unwrap(), "s=1; Secure; Path=/").unwrap();
        let server = Server::new([answer(200, &[("set-cookie", "new=1; Secure")])]);
        let client = CookieLayer::new(jar.clone()).layer(server.service());
        let mut request = get(uri);
        request.headers_mut().append(header::HOST, HeaderValue::from_static(host));
        request.extensions_mut().insert(HostDecides);
        client.oneshot(request).await.unwrap();
        let got = (server.cookie(), jar.get("new").unwrap().is_some());
        (format!("{uri}, {host}"), got, (sent.to_owned(), is_stored))
    })
    .await;
}

#[tokio::test]
async fn a_host_header_decides_only_if_the_request_says_so_and_names_one_host() {
    const URI: &str = "http://127.0.0.1:8080/p";
    // The `Host` headers, whether they decide, what is sent, and the owner of the response's
    // cookie.
    let rows: [(&[&str], bool, &str, &str); 9] = [
        (&["example.com"], true, "name=1", "example.com"),
        (&["EXAMPLE.com:99"], true, "name=1", "example.com"),
        (&["other.example"], true, "", "other.example"),
        (&["example.com"], false, "address=1", "127.0.0.1"),
        (&[], true, "address=1", "127.0.0.1"),
        (&["example.com", "example.com"], true, "", ""),
        (&["u@example.com"], true, "", ""),
        (&[""], true, "", ""),
        (&["exa mple.com"], true, "", ""),
    ];
    rows_async::hold(rows, async |(hosts, decides, sent, owner)| {
        let jar = CookieJar::new();
        jar.set(&"http://example.com/".parse().unwrap(), "name=1").unwrap();
        jar.set(&URI.parse().unwrap(), "address=1; Path=/").unwrap();
        let server = Server::new([answer(200, &[("set-cookie", "new=1")])]);
        let client = CookieLayer::new(jar.clone()).layer(server.service());
        let mut request = get(URI);
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_static(host));
        }
        if decides {
            request.extensions_mut().insert(HostDecides);
        }
        client.oneshot(request).await.unwrap();
        let owned = jar.get("new").unwrap().map(|cookie| cookie.domain().to_owned());
        let got = (server.cookie(), owned.unwrap_or_default());
        (format!("{hosts:?}, {decides}"), got, (sent.to_owned(), owner.to_owned()))
    })
    .await;
}
