//! Upstreams that fail, and the metrics page after that.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{Router, extract::Request, routing::any};
use bytes::Bytes;
use http::{HeaderName, StatusCode};
use tokio::net::TcpSocket;

use super::*;
use crate::rows_async;

#[tokio::test]
async fn a_flaky_upstream_is_asked_again_within_its_budget_and_counted() {
    // Two of three requests fail, the third one gives its body back.
    let (flaky, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let down = Arc::clone(&asked);
    let router = Router::new()
        .route(
            "/flaky",
            any(move |body: Bytes| {
                let fails = flaky.fetch_add(1, Relaxed) % 3 < 2;
                let status = if fails { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
                std::future::ready((status, body))
            }),
        )
        .route(
            "/down",
            any(move || {
                asked.fetch_add(1, Relaxed);
                std::future::ready(StatusCode::SERVICE_UNAVAILABLE)
            }),
        );
    let upstream = serve(router).await;
    let table = [
        mount("/flaky", upstream, &format!("total = 2, {AT_ONCE}")),
        mount(
            "/down",
            upstream,
            &format!(
                "{AT_ONCE}, budget = {{ percent = 0, min_retries = {{ count = 120, per = \"1h\" }} }}"
            ),
        ),
    ];
    let proxy = Proxy::start(&table.concat()).await;

    let body = "x".repeat(10_000);
    for _ in 0..5 {
        let answer = proxy.send("PUT", "/flaky", &[], body.clone()).await;
        assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, body.len()));
    }
    // One that may have been processed is not repeated.
    assert_eq!(
        proxy.send("POST", "/flaky", &[], "x").await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(proxy.counts("/flaky").await, [6, 16, 0]);

    // 120 at once.
    for _ in 0..50 {
        assert_eq!(proxy.get("/down").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(proxy.counts("/down").await, [50, 50 + 120, 10]);
    assert_eq!(down.load(Relaxed), 170);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502_and_one_that_is_late_a_504_each_with_a_clear_body() {
    // A port that is bound, so that nothing else uses it, but not listening.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let down = deaf.local_addr().unwrap();
    let late = serve(Router::new().fallback(std::future::pending::<()>)).await;
    let upstream =
        serve(Router::new().fallback(|| std::future::ready(StatusCode::BAD_GATEWAY))).await;
    let table = [
        mount("/down", down, &format!("total = 2, {AT_ONCE}")),
        mount("/late", late, &format!("total = 1, {AT_ONCE}, attempt_timeout = \"20ms\"")),
        mount("/down/soon", down, "backoff = { constant = \"1h\" }, deadline = \"20s\""),
        mount("/late/soon", late, "deadline = \"20ms\""),
        mount("/raised", upstream, &format!("total = 1, {AT_ONCE}, raise_on_status = true")),
    ];
    let proxy = Proxy::start(&table.concat()).await;
    let rows = [
        (
            "GET",
            "/down/x?token=secret",
            502,
            "502: the upstream of http://127.0.0.1:*/down did not answer: gave up after 3 attempts: no retries left in \
             total (last: connect error): Connection refused",
        ),
        (
            "GET",
            "/late",
            504,
            "504: the upstream of http://127.0.0.1:*/late did not answer: gave up after 2 attempts: no retries left in \
             total (last: timeout): ",
        ),
        (
            "GET",
            "/down/soon",
            502,
            "502: the upstream of http://127.0.0.1:*/down/soon did not answer: gave up after 1 attempt: no time left before \
             the deadline (last: connect error): Connection refused",
        ),
        (
            "GET",
            "/late/soon",
            504,
            "504: the upstream of http://127.0.0.1:*/late/soon did not answer: gave up after 1 attempt: no time left before \
             the deadline (last: timeout)",
        ),
        (
            "GET",
            "/raised",
            502,
            "502: the upstream of http://127.0.0.1:*/raised did not answer: gave up after 2 attempts: no retries left \
             in total (last: status 502)\n",
        ),
        ("POST", "/late", 504, "504: the upstream of http://127.0.0.1:*/late did not answer: "),
        ("GET", "/else", 404, "404: no mount for http://127.0.0.1:"),
        ("GET", "/down/%2e%2e/else", 400, "400: "),
        ("TRACE", "/down", 501, "501: this proxy supports neither CONNECT nor TRACE"),
    ];
    rows_async::hold(rows, async |(method, path, status, body)| {
        let answer = proxy.send(method, path, &[], "").await;
        let tells = answer.body.contains("secret") || answer.body.contains(&down.to_string());
        let got = (answer.status.as_u16(), answer.body.starts_with(body), tells);
        (format!("{method} {path}: {}", answer.body), got, (status, true, false))
    })
    .await;
    assert_eq!(proxy.count("proxy_unrouted_requests_total").await, 2);

    // Bytes that the client above does not send.
    let rows = [
        ("GET /down HTTP/1.0\r\n\r\n", "400: a request needs one host and a path"),
        ("OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n", "400: a request needs one host and a path"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "400: a request needs one host and a path"),
        ("GET / HTTP/1.1\r\nHost: 127.1\r\n", "400: cannot route to a host that is a number"),
        (
            "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "501: this proxy supports neither CONNECT",
        ),
        (
            "GET https://127.0.0.1/down HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "421: this proxy accepts http",
        ),
        (
            "PUT /down HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            "501: this proxy supports no transfer coding except chunked",
        ),
    ];
    rows_async::hold(rows, async |(head, want)| {
        let answer = exchange(&proxy, &format!("{head}Connection: close\r\n\r\n")).await;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body);
        let told = body.is_some_and(|body| body.starts_with(want));
        (format!("{head}{answer}"), told, true)
    })
    .await;
}

#[tokio::test]
async fn a_request_that_comes_back_goes_round_no_more() {
    let mut proxy = Proxy::start("").await;
    let itself = mount("", proxy.public, "total = 0");
    proxy.reload(&itself).await;
    let answer = proxy.get("/").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.body),
        (508, "508: this request has passed this proxy before\n")
    );
    assert_eq!(proxy.counts("").await, [1, 1, 0]);
}

#[tokio::test]
async fn a_redirect_to_the_upstream_itself_leads_back_to_the_proxy() {
    let router = Router::new().fallback(|request: Request| async move {
        let headers = request.headers();
        let name = HeaderName::from_bytes(headers["x-name"].as_bytes()).unwrap();
        (StatusCode::FOUND, [(name, headers["x-value"].clone())])
    });
    let upstream = serve(router).await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let own = |text: &str| text.replace("OWN", &upstream.to_string());
    let locations = [
        ("http://OWN/next?q=1", "/next?q=1"),
        ("http://OWN", "/"),
        ("http://OWN/next#part", "/next#part"),
        ("http://OWN?q=1", "/?q=1"),
        ("http://OWN//evil.example/x", "/.//evil.example/x"),
        ("//OWN/next", "/next"),
        ("/next", "/next"),
        ("//else.example/next", "//else.example/next"),
        ("https://else.example/", "https://else.example/"),
    ];
    let others = [
        ("refresh", "5; url=http://OWN/next", "5; url=/next"),
        ("refresh", "0;URL = 'http://OWN/next' ", "0; URL='/next'"),
        ("refresh", "0, url=\"http://OWN\"", "0, url=\"/\""),
        ("refresh", "5; url=http://else.example/", "5; url=http://else.example/"),
        ("refresh", "5; url=\"http://OWN/\u{e9}\"", "5; url=\"http://OWN/\u{e9}\""),
        ("refresh", "5; url=", "5; url="),
        ("refresh", "5", "5"),
        (
            "link",
            "<http://OWN/2>; rel=next, </0>; rel=\"a, <http://OWN/no>\", <http://OWN>; rel=up",
            "</2>; rel=next, </0>; rel=\"a, <http://OWN/no>\", </>; rel=up",
        ),
        ("link", "<http://else.example/>; rel=next", "<http://else.example/>; rel=next"),
        ("link", "<http://OWN/2", "<http://OWN/2"),
        ("x-other", "http://OWN/", "http://OWN/"),
    ];
    let locations = crate::pairs::pairs(["location", "content-location"], locations)
        .map(|(name, (value, want))| (name, value, want));
    rows_async::hold(locations.chain(others), async |(name, value, want)| {
        let value = own(value);
        let headers = [("x-name", name.as_bytes()), ("x-value", value.as_bytes())];
        let answer = proxy.send("GET", "/", &headers, "").await;
        let got = String::from_utf8_lossy(answer.headers[name].as_bytes()).into_owned();
        (format!("{name}: {value}"), got, own(want))
    })
    .await;
    for (upstream, location) in [("http://up", "http://UP:80/x"), ("http://up:80", "http://up/x")] {
        let text = format!("[[mount]]\nprefix = \"http://h\"\nupstream = \"{upstream}\"");
        let table = table::Table::parse(text.as_bytes()).unwrap();
        let (_, mount) = table.mounts.first_key_value().unwrap();
        assert_eq!(mount.upstream.public(location).as_deref(), Some("/x"), "{upstream}");
        assert_eq!(mount.upstream.public("http://up:81/x"), None, "{upstream}");
    }
}

#[tokio::test]
async fn the_metrics_page_is_in_prometheus_text_with_a_line_for_each_mount() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let mounts = [TENANTS.to_owned(), mount("/a", upstream, ""), mount("", upstream, "")];
    let proxy = Proxy::start(&mounts.concat()).await;
    proxy.get_as("ann", "/a/b").await;
    let page = send(&proxy.client, proxy.metrics, "GET", "/metrics", &[], Bytes::new()).await.body;
    let expected = "\
# HELP proxy_requests_total Requests of clients.
# TYPE proxy_requests_total counter
proxy_requests_total{mount=\"http://127.0.0.1:*\"} 0
proxy_requests_total{mount=\"http://127.0.0.1:*/a\"} 1
# HELP proxy_attempts_total Requests to upstreams, including retries.
# TYPE proxy_attempts_total counter
proxy_attempts_total{mount=\"http://127.0.0.1:*\"} 0
proxy_attempts_total{mount=\"http://127.0.0.1:*/a\"} 1
# HELP proxy_retries_refused_by_budget_total Retries that the budget refused.
# TYPE proxy_retries_refused_by_budget_total counter
proxy_retries_refused_by_budget_total{mount=\"http://127.0.0.1:*\"} 0
proxy_retries_refused_by_budget_total{mount=\"http://127.0.0.1:*/a\"} 0
# HELP proxy_answer_seconds Time until an answer's head, including retries.
# TYPE proxy_answer_seconds histogram
# HELP proxy_jars Jars in memory: one per tenant, or with [sessions] one per tenant and site.
# TYPE proxy_jars gauge
proxy_jars 1
# HELP proxy_unrouted_requests_total Requests that no mount serves, or that have no valid host.
# TYPE proxy_unrouted_requests_total counter
proxy_unrouted_requests_total 0
# HELP proxy_reloads_total Reloads of the table; \"kept\" if the new one was wrong.
# TYPE proxy_reloads_total counter
proxy_reloads_total{result=\"ok\"} 0
proxy_reloads_total{result=\"kept\"} 0
";
    // How long it took is in no table.
    let (times, counters): (Vec<_>, Vec<_>) =
        page.lines().partition(|line| line.starts_with("proxy_answer_seconds"));
    assert_eq!(counters.join("\n") + "\n", expected);
    let of = |mount: &str| {
        let label = format!("{{mount=\"http://127.0.0.1:*{mount}\"");
        let of_mount = times.iter().filter(|line| line.contains(&label));
        of_mount.map(|line| line.rsplit_once(' ').unwrap()).collect::<Vec<_>>()
    };
    for (mount, count) in [("", "0"), ("/a", "1")] {
        let lines = of(mount);
        assert_eq!(lines.len(), 15, "{lines:?}");
        let ends = ["le=\"+Inf\"}", "_count"];
        for end in ends {
            let line = lines.iter().find(|(name, _)| name.contains(end)).unwrap();
            assert_eq!(line.1, count, "{end}");
        }
        let buckets: Vec<u64> =
            lines[..13].iter().map(|(_, count)| count.parse().unwrap()).collect();
        assert!(buckets.is_sorted(), "{buckets:?}");
    }
    // Not for clients.
    assert!(!proxy.get("/metrics").await.body.contains("proxy_"));
}
