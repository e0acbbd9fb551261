//! `examples/proxy` as its users run it: the built program, its clients and its upstreams on the
//! loopback.
#![cfg(unix)]
// The helpers are tests as well.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../examples/proxy/table.rs"]
mod table;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Request,
    response::Response,
    routing::{any, get},
};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpSocket, TcpStream},
    process::{Child, ChildStderr, Command},
    sync::{Notify, mpsc},
    time::timeout,
};
use tower_outbound::retry::Policy;

// The program.

/// Nothing here takes long: what takes this long does not happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let directory = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let program = directory.join("examples").join("proxy");
    assert!(
        program.exists(),
        "{} is not there: `cargo test --all-features` builds it, `cargo test --test proxy` does not; run `cargo build \
         --all-features --example proxy`",
        program.display()
    );
    program
}

struct Proxy {
    child: Child,
    lines: Lines<BufReader<ChildStderr>>,
    public: SocketAddr,
    metrics: SocketAddr,
    directory: TempDir,
    client: Client<HttpConnector, Full<Bytes>>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Proxy {
    async fn start(table: &str) -> Self {
        Self::start_with(table, &[]).await
    }

    async fn start_with(table: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("table.toml");
        fs::write(&path, table).unwrap();
        let mut child = Command::new(program())
            .arg(&path)
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"])
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let (public, metrics) = first
            .strip_prefix("proxy: clients on ")
            .and_then(|rest| rest.split_once(", metrics on "))
            .expect(&first);
        let (public, metrics) = (public.parse().unwrap(), metrics.parse().unwrap());
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { child, lines, public, metrics, directory, client }
    }

    async fn line(&mut self) -> String {
        timeout(PATIENCE, self.lines.next_line())
            .await
            .expect("a line")
            .unwrap()
            .expect("the proxy runs")
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().unwrap().to_string();
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &pid])
            .status()
            .await
            .unwrap();
        assert!(status.success(), "{status}");
    }

    /// What the proxy says of that table; by then it serves by it, or has refused it.
    async fn reload(&mut self, table: &str) -> String {
        // As an editor does: no one reads half of it.
        let (path, new) =
            (self.directory.path().join("table.toml"), self.directory.path().join("new"));
        fs::write(&new, table).unwrap();
        fs::rename(&new, &path).unwrap();
        self.signal("HUP").await;
        self.line().await
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &[u8])],
        body: impl Into<Bytes>,
    ) -> Answer {
        send(&self.client, self.public, method, path, headers, body.into()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    async fn get_as(&self, tenant: &str, path: &str) -> Answer {
        self.send("GET", path, &[("x-tenant", tenant.as_bytes())], "").await
    }

    /// Of the metrics page: that line's number.
    async fn count(&self, name: &str) -> u64 {
        let page = send(&self.client, self.metrics, "GET", "/metrics", &[], Bytes::new()).await;
        assert_eq!(
            (page.status, &page.headers["content-type"]),
            (StatusCode::OK, &"text/plain; version=0.0.4".parse().unwrap())
        );
        let number = page.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        number.unwrap_or_else(|| panic!("no {name} in\n{}", page.body)).parse().unwrap()
    }

    /// Requests, attempts, and retries that the budget refused.
    async fn counts(&self, mount: &str) -> [u64; 3] {
        let mut counts = [0; 3];
        let names = ["requests", "attempts", "retries_refused_by_budget"];
        for (count, name) in counts.iter_mut().zip(names) {
            *count = self
                .count(&format!("proxy_{name}_total{{mount=\"http://127.0.0.1:*{mount}\"}}"))
                .await;
        }
        counts
    }

    /// What it says at the very end, and its exit status.
    async fn ended(mut self) -> (Vec<String>, Option<i32>) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("an end").unwrap();
        let mut said = Vec::new();
        while let Some(line) = self.lines.next_line().await.unwrap() {
            said.push(line);
        }
        (said, status.code())
    }
}

async fn send(
    client: &Client<HttpConnector, Full<Bytes>>,
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &[u8])],
    body: Bytes,
) -> Answer {
    let mut request = http::Request::builder().method(method).uri(format!("http://{to}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = async {
        let response = client.request(request.body(Full::new(body)).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: head.status,
            headers: head.headers,
            body: String::from_utf8(body.into()).unwrap(),
        }
    };
    timeout(PATIENCE, answer).await.expect("an answer")
}

// The upstreams.

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Says what it was sent, and sets the cookie that the query asks for.
async fn echo(request: Request) -> Response {
    let headers = request.headers();
    let mut names: Vec<_> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| !["host", "via"].contains(name))
        .collect();
    names.sort_unstable();
    let cookies: Vec<_> =
        headers.get_all("cookie").iter().map(|value| value.to_str().unwrap()).collect();
    let said = format!("cookies {cookies:?}, headers {names:?}");
    let response = Response::builder();
    match request.uri().query() {
        Some(cookie) => response
            .header("set-cookie", format!("{cookie}; Path=/; HttpOnly"))
            .header("set-cookie", "second=1; Path=/")
            .header("set-cookie2", "old=1")
            .header("connection", "x-hop")
            .header("x-hop", "1"),
        None => response,
    }
    .body(Body::from(said))
    .unwrap()
}

fn mount(prefix: &str, upstream: SocketAddr, retry: &str) -> String {
    format!(
        "[[mount]]\nprefix = \"http://127.0.0.1:*{prefix}\"\nupstream = \"http://{upstream}\"\nretry = {{ {retry} }}\n"
    )
}

const TENANTS: &str = "tenants = [\"ann\", \"bob\"]\n";
const AT_ONCE: &str = "backoff = { constant = \"0s\" }";

#[tokio::test]
async fn each_tenant_has_a_jar_and_no_cookie_reaches_a_client_or_another_tenant() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&format!("{TENANTS}{}", mount("", upstream, ""))).await;

    for (tenant, path) in
        [("ann", "/login?id=of-ann"), ("bob", "/login?id=of-bob"), ("ann", "/login?more=1")]
    {
        let answer = proxy.get_as(tenant, path).await;
        assert_eq!(answer.status, StatusCode::OK);
        for name in ["set-cookie", "set-cookie2", "x-hop"] {
            assert_eq!(answer.headers.get(name), None, "{name}");
        }
    }
    let sent = async |headers: &[(&str, &[u8])]| proxy.send("GET", "/", headers, "").await.body;
    assert_eq!(
        sent(&[("x-tenant", b"ann")]).await,
        r#"cookies ["id=of-ann; second=1; more=1"], headers ["cookie"]"#
    );
    assert_eq!(
        sent(&[("x-tenant", b"bob")]).await,
        r#"cookies ["id=of-bob; second=1"], headers ["cookie"]"#
    );

    // What a client brings of its own goes nowhere.
    let own: &[(&str, &[u8])] = &[
        ("x-tenant", b"bob"),
        ("cookie", b"id=of-ann"),
        ("cookie2", b"$Version=1"),
        ("connection", b"x-drop, x-tenant"),
        ("x-drop", b"1"),
        ("te", b"trailers"),
        ("accept", b"*/*"),
    ];
    assert_eq!(sent(own).await, r#"cookies ["id=of-bob; second=1"], headers ["accept", "cookie"]"#);
    // It would come back in the body.
    assert_eq!(proxy.send("TRACE", "/", own, "").await.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_tenant_header_that_is_missing_or_hostile_gives_no_jar() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&format!("{TENANTS}{}", mount("", upstream, ""))).await;
    proxy.get_as("ann", "/?id=of-ann").await;

    let long = "ann".repeat(3_000);
    let rows: &[&[(&str, &[u8])]] = &[
        &[],
        &[("x-tenant", b"")],
        &[("x-tenant", b"carol")],
        &[("x-tenant", b"ANN")],
        &[("x-tenant", b"ann,bob")],
        &[("x-tenant", b"../ann")],
        &[("x-tenant", b"an%6e")],
        &[("x-tenant", b"ann\xff")],
        &[("x-tenant", long.as_bytes())],
        &[("x-tenant", b"ann"), ("x-tenant", b"ann")],
        &[("x-tenant", b"ann"), ("x-tenant", b"bob")],
        &[("x-tenant-id", b"ann")],
    ];
    for headers in rows {
        for _ in 0..2 {
            let answer = proxy.send("GET", "/?id=of-no-one", headers, "").await;
            assert!(answer.body.starts_with("cookies [], "), "{headers:?}: {}", answer.body);
            assert_eq!(
                (answer.status, answer.headers.get("set-cookie")),
                (StatusCode::OK, None),
                "{headers:?}"
            );
        }
    }
    assert!(proxy.get_as("ann", "/").await.body.starts_with(r#"cookies ["id=of-ann; second=1"]"#));
    assert!(proxy.get_as("bob", "/").await.body.starts_with("cookies []"));
}

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
            &format!("{AT_ONCE}, budget = {{ percent = 0, per_second = 2, window = \"1m\" }}"),
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

    // 2 a second over a minute.
    for _ in 0..50 {
        assert_eq!(proxy.get("/down").await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    assert_eq!(proxy.counts("/down").await, [50, 50 + 120, 10]);
    assert_eq!(down.load(Relaxed), 170);
}

#[tokio::test]
async fn an_upstream_that_is_down_is_a_502_and_one_that_is_late_a_504_each_with_a_clear_body() {
    // Bound, so that no one else is there, and deaf.
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
        ("TRACE", "/down", 501, "501: this proxy knows neither CONNECT nor TRACE"),
    ];
    let mut wrong = Vec::new();
    for (method, path, status, body) in rows {
        let answer = proxy.send(method, path, &[], "").await;
        let tells = answer.body.contains("secret") || answer.body.contains(&down.to_string());
        if answer.status != status || !answer.body.starts_with(body) || tells {
            wrong.push(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(proxy.count("proxy_unrouted_requests_total").await, 2);

    // Bytes that the client above does not send.
    let rows = [
        ("GET /down HTTP/1.0\r\n\r\n", "400: a request needs one host and a path"),
        ("OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n", "400: a request needs one host and a path"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "400: a request needs one host and a path"),
        ("GET / HTTP/1.1\r\nHost: 127.1\r\n", "400: cannot route to a host that is a number"),
        (
            "CONNECT 127.0.0.1:80 HTTP/1.1\r\nHost: 127.0.0.1\r\n",
            "501: this proxy knows neither CONNECT",
        ),
        ("GET https://127.0.0.1/down HTTP/1.1\r\nHost: 127.0.0.1\r\n", "421: clients speak http"),
        (
            "PUT /down HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            "501: this proxy knows no transfer coding but chunked",
        ),
    ];
    let mut wrong = Vec::new();
    for (head, want) in rows {
        let answer = exchange(&proxy, &format!("{head}Connection: close\r\n\r\n")).await;
        if !answer.split_once("\r\n\r\n").is_some_and(|(_, body)| body.starts_with(want)) {
            wrong.push(format!("{head}{answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What comes back for these bytes, until the proxy closes the connection.
async fn exchange(proxy: &Proxy, sent: &str) -> String {
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn what_is_for_this_proxy_alone_goes_no_further() {
    let upstream = serve(Router::new().fallback(|request: Request| async move {
        let target = request.uri().to_string();
        let said = echo(request).await;
        (said.status(), [("proxy-authenticate", "Basic")], [("x-target", target)], said.into_body())
    }))
    .await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let head = "GET http://127.0.0.1?q=1 HTTP/1.1\r\nHost: else.example\r\nProxy-Authorization: Basic eA==\r\nTE: x\r\n";
    let answer = exchange(&proxy, &format!("{head}Connection: close\r\n\r\n")).await;
    assert!(answer.contains("x-target: /?q=1\r\n") && answer.ends_with("headers []"), "{answer}");
    assert!(!answer.contains("proxy-authenticate"), "{answer}");
}

#[tokio::test]
async fn a_client_that_stalls_or_breaks_off_is_told_so_and_its_request_sent_once() {
    let upstream = serve(Router::new().fallback(|request: Request| async move {
        match request.into_body().collect().await {
            Ok(body) => body.to_bytes().len().to_string(),
            Err(error) => error.to_string(),
        }
    }))
    .await;
    let table = [
        mount("/attempt", upstream, &format!("{AT_ONCE}, attempt_timeout = \"500ms\"")),
        mount("/request", upstream, &format!("{AT_ONCE}, deadline = \"500ms\"")),
    ];
    let proxy = Proxy::start(&table.concat()).await;
    let late = "408: the rest of the request did not come in time\n";
    let broken = "400: the body of the request broke off, or was not one\n";
    let rows = [
        ("/attempt", "Content-Length: 10\r\n\r\n", late),
        ("/attempt", "Content-Length: 10\r\n\r\nabc", late),
        ("/request", "Content-Length: 10\r\n\r\nabc", late),
        ("/attempt", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", late),
        ("/attempt", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nno size\r\n", broken),
        (
            "/attempt",
            "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "3",
        ),
    ];
    let mut wrong = Vec::new();
    let mut sent = [0, 0];
    for (path, rest, want) in rows {
        let answer =
            exchange(&proxy, &format!("PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}")).await;
        if answer.split_once("\r\n\r\n").is_none_or(|(_, body)| body != want) {
            wrong.push(format!("{path} {rest}: {answer}"));
        }
        sent[usize::from(path == "/request")] += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (path, sent) in ["/attempt", "/request"].into_iter().zip(sent) {
        assert_eq!(proxy.counts(path).await, [sent, sent, 0], "{path}");
    }
}

#[tokio::test]
async fn a_client_that_is_idle_within_a_request_or_an_answer_is_not_waited_for() {
    /// Says that it is dropped.
    struct Held(mpsc::UnboundedSender<()>);
    impl Drop for Held {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (let_go, mut gone) = mpsc::unbounded_channel();
    let endless = move || {
        let answer = Held(let_go.clone());
        let stream = futures_util::stream::repeat_with(move || {
            let _ = &answer;
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1 << 16]))
        });
        std::future::ready(Response::new(Body::from_stream(stream)))
    };
    let router =
        Router::new().route("/endless", get(endless)).fallback(|request: Request| async move {
            if request.uri().path() == "/read" {
                let _ = request.into_body().collect().await;
            }
            "early"
        });
    let upstream = serve(router).await;
    let proxy = Proxy::start_with(&mount("", upstream, ""), &["--idle", "1"]).await;
    let stalled =
        |path| format!("PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc");
    let early = exchange(&proxy, &stalled("/early")).await;
    assert!(early.ends_with("early"), "{early}");
    let read = exchange(&proxy, &stalled("/read")).await;
    assert!(read.starts_with("HTTP/1.1 408 ") && read.contains("connection: close\r\n"), "{read}");
    assert_eq!(proxy.counts("").await, [2, 2, 0]);

    let mut deaf = TcpStream::connect(proxy.public).await.unwrap();
    deaf.write_all(b"GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    deaf.readable().await.unwrap();
    timeout(PATIENCE, gone.recv()).await.expect("the end of the answer");
}

#[tokio::test]
async fn a_request_that_comes_back_goes_round_no_more() {
    let mut proxy = Proxy::start("").await;
    let itself = mount("", proxy.public, "total = 0");
    proxy.reload(&itself).await;
    let answer = proxy.get("/").await;
    assert_eq!(
        (answer.status.as_u16(), &*answer.body),
        (508, "508: this request has been here before\n")
    );
    assert_eq!(proxy.counts("").await, [1, 1, 0]);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let (upstream, arrived, _release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    proxy.signal("TERM").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    proxy.signal("TERM").await;
    let ended =
        (vec!["proxy: told to end at once; requests were still in flight".to_owned()], Some(1));
    assert_eq!(proxy.ended().await, ended);
}

#[tokio::test]
async fn a_client_that_does_not_end_the_head_of_a_request_is_not_waited_for() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let mut proxy = Proxy::start_with(&mount("", upstream, ""), &["--head", "1"]).await;
    // Ends with the connection.
    exchange(&proxy, "GET / HTTP/1.1\r\nHo").await;
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    // By now the proxy has read that, or has it to read.
    proxy.get("/").await;
    proxy.signal("TERM").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    assert_eq!(proxy.ended().await, (vec![], Some(0)));
}

#[tokio::test]
async fn a_redirect_to_the_upstream_itself_leads_back_to_the_proxy() {
    let router = Router::new().fallback(|request: Request| async move {
        let location = request.headers()["x-location"].clone();
        (StatusCode::FOUND, [("location", location.clone()), ("content-location", location)])
    });
    let upstream = serve(router).await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let rows = [
        (format!("http://{upstream}/next?q=1"), "/next?q=1"),
        (format!("http://{upstream}"), "/"),
        (format!("http://{upstream}/next#part"), "/next#part"),
        (format!("http://{upstream}?q=1"), "/?q=1"),
        (format!("http://{upstream}//evil.example/x"), "/.//evil.example/x"),
        (format!("//{upstream}/next"), "/next"),
        ("/next".to_owned(), "/next"),
        ("//else.example/next".to_owned(), "//else.example/next"),
        ("https://else.example/".to_owned(), "https://else.example/"),
    ];
    for (location, want) in rows {
        let answer = proxy.send("GET", "/", &[("x-location", location.as_bytes())], "").await;
        assert_eq!(
            (&answer.headers["location"], &answer.headers["content-location"]),
            (&want.parse().unwrap(), &want.parse().unwrap())
        );
    }
    for (upstream, location) in [("http://up", "http://UP:80/x"), ("http://up:80", "http://up/x")] {
        let text = format!("[[mount]]\nprefix = \"http://h\"\nupstream = \"{upstream}\"");
        let table = table::Table::parse(text.as_bytes()).unwrap();
        let (_, mount) = table.mounts.first_key_value().unwrap();
        assert_eq!(mount.upstream.public(location).as_deref(), Some("/x"), "{upstream}");
        assert_eq!(mount.upstream.public("http://up:81/x"), None, "{upstream}");
    }
}

/// RFC 9110 section 4.2.4: whoever stands before the at sign is no host.
#[tokio::test]
async fn a_host_with_userinfo_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = serve(Router::new().fallback(|| std::future::ready("reached"))).await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let mut wrong = Vec::new();
    for (host, status) in
        [("127.0.0.1", "200"), ("else.example@127.0.0.1", "400"), ("u:p@127.0.0.1", "400")]
    {
        let mut socket = tokio::net::TcpStream::connect(proxy.public).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        if !answer.starts_with(&format!("HTTP/1.1 {status}")) {
            wrong.push(format!("{host}: {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_length_beside_a_transfer_coding_counts_for_nothing_and_no_protocol_is_switched_unasked()
{
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rows = [
        (
            "200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            200,
            "abc",
        ),
        ("200 OK\r\nContent-Length: 2, 2\r\n\r\nab", 200, "ab"),
        ("101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, "502: "),
    ];
    for (answer, status, body) in rows {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(socket.read_u8().await.unwrap());
                }
                socket.write_all(format!("HTTP/1.1 {answer}").as_bytes()).await.unwrap();
                // Until the proxy has had enough of it.
                let _ = socket.read_u8().await;
            }
        });
        let proxy = Proxy::start(&mount("", upstream, "")).await;
        let got = proxy.send("GET", "/", &[], "").await;
        assert_eq!(got.status.as_u16(), status);
        let said =
            got.headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
        assert!(said.is_none_or(|said| said == got.body.len().to_string()), "{answer}");
        assert!(got.body.starts_with(body), "{:?}", got.body);
    }
}

#[tokio::test]
async fn a_reload_under_load_loses_no_request_and_keeps_the_budget_of_mounts_that_are_as_before() {
    const SWAPS: usize = 20;
    let named =
        |name: &'static str| serve(Router::new().fallback(get(move || std::future::ready(name))));
    let (a, b) = (named("a").await, named("b").await);
    let busy =
        serve(Router::new().fallback(|| std::future::ready(StatusCode::SERVICE_UNAVAILABLE))).await;
    let budget = |total: u32| {
        let budget = "budget = { percent = 0, per_second = 1, window = \"1m\" }";
        mount("/busy", busy, &format!("total = {total}, {AT_ONCE}, {budget}"))
    };
    let table = |upstream: SocketAddr, busy: String| {
        format!("{TENANTS}{}{busy}", mount("/which", upstream, ""))
    };
    let mut proxy = Proxy::start(&table(a, budget(100))).await;

    assert_eq!(proxy.get("/busy").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(proxy.counts("/busy").await, [1, 61, 1]);

    let (results, mut seen) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = ["ann", "bob", "ann", "bob"]
        .into_iter()
        .map(|tenant| {
            let (client, to, results, over) =
                (proxy.client.clone(), proxy.public, results.clone(), Arc::clone(&over));
            tokio::spawn(async move {
                let mut sent = 0_u64;
                while !over.load(Relaxed) {
                    let headers: [(&str, &[u8]); 1] = [("x-tenant", tenant.as_bytes())];
                    let answer = send(&client, to, "GET", "/which", &headers, Bytes::new()).await;
                    sent += 1;
                    results.send((answer.status, answer.body)).unwrap();
                }
                sent
            })
        })
        .collect();
    for swap in 1..=SWAPS {
        let (upstream, name) = if swap % 2 == 1 { (b, "b") } else { (a, "a") };
        let said = proxy.reload(&table(upstream, budget(100))).await;
        assert!(said.starts_with("proxy: reloaded "), "{said}");
        assert_eq!(proxy.get("/which").await.body, name);
        // There is load between any two.
        for _ in 0..20 {
            let (status, body) = timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
            assert!(status == StatusCode::OK && ["a", "b"].contains(&&*body), "{status} {body}");
        }
    }
    // So it does with a table that is wrong.
    let said = proxy
        .reload(&table(b, budget(100)).replace("http://127.0.0.1:*/busy", "http://u:p@127.1/"))
        .await;
    assert!(
        said.contains("table.toml: line 7: ") && said.ends_with("; the old table stays"),
        "{said}"
    );
    assert!(!said.contains("u:p"), "{said}");
    over.store(true, Relaxed);
    drop(results);
    while let Some((status, body)) = seen.recv().await {
        assert!(status == StatusCode::OK && ["a", "b"].contains(&&*body), "{status} {body}");
    }
    let mut sent = SWAPS as u64;
    for task in load {
        sent += task.await.unwrap();
    }
    assert_eq!(proxy.counts("/which").await, [sent, sent, 0]);
    assert_eq!(proxy.count("proxy_reloads_total{result=\"ok\"}").await, SWAPS as u64);
    assert_eq!(proxy.count("proxy_reloads_total{result=\"kept\"}").await, 1);

    // The budget is as used up as it was; one of a mount that is written otherwise is new.
    proxy.get("/busy").await;
    assert_eq!(proxy.counts("/busy").await, [2, 62, 2]);
    proxy.reload(&table(a, budget(99))).await;
    proxy.get("/busy").await;
    assert_eq!(proxy.counts("/busy").await, [3, 123, 3]);
}

/// All at once: two tenants, an upstream that is busy at every third request, and a table that
/// changes, well and ill.
#[tokio::test]
async fn two_tenants_and_a_flaky_upstream_stay_apart_and_lose_nothing_while_the_table_changes() {
    /// Each request as it was seen: whose, which, and with what cookies.
    type Seen = Arc<Mutex<Vec<(String, u64, String)>>>;
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    let upstream = Router::new().fallback(move |request: Request| {
        let tenant = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let number: u64 = request.uri().query().unwrap().parse().unwrap();
        let mut cookies: Vec<_> = request
            .headers()
            .get_all("cookie")
            .iter()
            .flat_map(|line| line.to_str().unwrap().split("; "))
            .map(str::to_owned)
            .collect();
        cookies.sort_unstable();
        let mut log = log.lock().unwrap();
        let is_first = !log.iter().any(|(whose, which, _)| (whose, *which) == (&tenant, number));
        log.push((tenant.clone(), number, cookies.join("; ")));
        let (status, name) = if number % 3 == 2 && is_first { (503, "busy") } else { (200, "who") };
        let response = Response::builder()
            .status(status)
            .header("set-cookie", format!("{name}={tenant}; Path=/"));
        std::future::ready(response.body(Body::from(format!("{tenant} {number}"))).unwrap())
    });
    let (a, b) = (serve(upstream.clone()).await, serve(upstream).await);
    let table = |upstream: SocketAddr| {
        format!("{TENANTS}{}", mount("/of", upstream, &format!("{AT_ONCE}, budget = \"none\"")))
    };
    let mut proxy = Proxy::start(&table(a)).await;

    let (results, mut answered) = mpsc::unbounded_channel();
    let over = Arc::new(AtomicBool::new(false));
    let load = ["ann", "bob"].map(|tenant| {
        let (client, to, results, over) =
            (proxy.client.clone(), proxy.public, results.clone(), Arc::clone(&over));
        tokio::spawn(async move {
            let mut sent = 0_u64;
            while !over.load(Relaxed) {
                let headers: [(&str, &[u8]); 1] = [("x-tenant", tenant.as_bytes())];
                let answer = send(
                    &client,
                    to,
                    "GET",
                    &format!("/of/{tenant}?{sent}"),
                    &headers,
                    Bytes::new(),
                )
                .await;
                assert_eq!(
                    (answer.status, answer.body),
                    (StatusCode::OK, format!("{tenant} {sent}"))
                );
                assert!(!answer.headers.contains_key("set-cookie"), "{:?}", answer.headers);
                sent += 1;
                results.send(()).unwrap();
            }
            (tenant, sent)
        })
    });
    drop(results);
    for swap in 0..20 {
        let table = table(if swap % 2 == 0 { b } else { a });
        let is_well = swap % 3 != 2;
        let said =
            proxy.reload(&if is_well { table } else { table.replace("prefix", "prefiks") }).await;
        let end = if is_well { "proxy: reloaded " } else { "; the old table stays" };
        assert!(said.contains(end), "{said}");
        // There is load between any two.
        for _ in 0..10 {
            timeout(PATIENCE, answered.recv()).await.unwrap().unwrap();
        }
    }
    over.store(true, Relaxed);
    let seen_by = |tenant| {
        seen.lock()
            .unwrap()
            .iter()
            .filter(|(whose, ..)| whose == tenant)
            .cloned()
            .collect::<Vec<_>>()
    };
    for task in load {
        let (tenant, sent) = task.await.unwrap();
        assert!(sent > 6, "{sent}");
        // Every third one twice; the second time with what the first one was given.
        let wanted: Vec<_> = (0..sent)
            .flat_map(|number| {
                let cookies = match number {
                    0 => String::new(),
                    1 | 2 => format!("who={tenant}"),
                    _ => format!("busy={tenant}; who={tenant}"),
                };
                let again = (number % 3 == 2).then(|| format!("busy={tenant}; who={tenant}"));
                [Some(cookies), again]
                    .into_iter()
                    .flatten()
                    .map(move |cookies| (tenant.to_owned(), number, cookies))
            })
            .collect();
        assert_eq!(seen_by(tenant), wanted);
    }
}

#[tokio::test]
async fn a_table_with_a_fault_keeps_the_old_one_and_says_which_line() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let good = format!("{TENANTS}{}", mount("", upstream, "total = 1"));
    let mut proxy = Proxy::start(&good).await;
    proxy.get_as("ann", "/?id=of-ann").await;
    let rows = [
        (
            good.replace("http://127.0.0.1:*", "127.0.0.1"),
            "line 3: mount prefix \"127.0.0.1\": it must begin with a scheme",
        ),
        (
            good.replace("ann", "eve").replace("total = 1", "totl = 1"),
            "line 5: unknown field `totl`",
        ),
        (good.replace("tenants = [", "tenants = "), "line 1: "),
        (String::from("\n\n[mounts]\n"), "line 3: unknown field `mounts`"),
    ];
    for (number, (table, fault)) in (1..).zip(&rows) {
        let said = proxy.reload(table).await;
        assert!(said.contains(fault) && said.ends_with("; the old table stays"), "{fault}: {said}");
        assert_eq!(proxy.count("proxy_reloads_total{result=\"kept\"}").await, number);
        assert!(
            proxy.get_as("ann", "/").await.body.starts_with(r#"cookies ["id=of-ann; second=1"]"#)
        );
    }
    fs::remove_file(proxy.directory.path().join("table.toml")).unwrap();
    proxy.signal("HUP").await;
    assert!(proxy.line().await.ends_with("; the old table stays"));
    assert_eq!(proxy.get("/").await.status, StatusCode::OK);
    // Read, this would be a table of nothing; others like it would never end.
    std::os::unix::fs::symlink("/dev/null", proxy.directory.path().join("table.toml")).unwrap();
    proxy.signal("HUP").await;
    let said = proxy.line().await;
    assert!(
        said.contains("a table is a regular file") && said.ends_with("; the old table stays"),
        "{said}"
    );
    let too_long = format!("{good}#{}", "x".repeat(1 << 20));
    let said = proxy.reload(&too_long).await;
    assert!(said.contains("at most 1 MiB") && said.ends_with("; the old table stays"), "{said}");
    assert_eq!(proxy.get("/").await.status, StatusCode::OK);

    // One that is well again; a tenant that was out of it for a while comes back without cookies.
    proxy.reload(&good.replace("\"ann\", ", "")).await;
    assert!(proxy.get_as("ann", "/").await.body.starts_with("cookies []"));
    proxy.reload(&good).await;
    assert!(proxy.get_as("ann", "/").await.body.starts_with("cookies []"));
}

#[tokio::test]
async fn a_proxy_does_not_start_with_a_table_that_has_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("table.toml");
    fs::write(&path, "# nothing\n[[mount]]\nprefix = \"http://h\"\nupstream = \"https://h\"\n")
        .unwrap();
    let output = Command::new(program()).arg(&path).output();
    let output = timeout(PATIENCE, output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("table.toml: line 4: an upstream is written as \"http://host:port\""),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// An upstream that says when it has a request, and answers when it is told to.
async fn held() -> (SocketAddr, Arc<Notify>, Arc<Notify>) {
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (has, may) = (Arc::clone(&arrived), Arc::clone(&release));
    let router = Router::new().fallback(move || {
        let (has, may) = (Arc::clone(&has), Arc::clone(&may));
        async move {
            has.notify_one();
            may.notified().await;
            "held"
        }
    });
    (serve(router).await, arrived, release)
}

/// A request that is at the upstream by now.
async fn in_flight(proxy: &Proxy, arrived: &Notify) -> tokio::task::JoinHandle<Answer> {
    let (client, to) = (proxy.client.clone(), proxy.public);
    let request =
        tokio::spawn(async move { send(&client, to, "GET", "/held", &[], Bytes::new()).await });
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    request
}

#[tokio::test]
async fn a_request_in_flight_ends_on_the_table_it_began_with() {
    let (upstream, arrived, release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let request = in_flight(&proxy, &arrived).await;
    proxy.reload(TENANTS).await;
    assert_eq!(proxy.get("/held").await.status, StatusCode::NOT_FOUND);
    release.notify_one();
    assert_eq!(request.await.unwrap().body, "held");
}

#[tokio::test]
async fn the_end_waits_for_requests_in_flight_and_takes_no_more() {
    let (upstream, arrived, release) = held().await;
    let mut proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let request = in_flight(&proxy, &arrived).await;
    proxy.signal("TERM").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    // The listener closes a moment later.
    let refused = async {
        while TcpStream::connect(proxy.public).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("a closed port");
    release.notify_one();
    assert_eq!(request.await.unwrap().body, "held");
    assert_eq!(proxy.ended().await, (vec![], Some(0)));
}

#[tokio::test]
async fn the_end_waits_no_longer_than_the_grace() {
    let (upstream, arrived, _release) = held().await;
    let mut proxy = Proxy::start_with(&mount("/held", upstream, ""), &["--grace", "0"]).await;
    // By a socket, which minds no end.
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    proxy.signal("INT").await;
    assert_eq!(proxy.line().await, "proxy: no more requests are taken");
    let (said, status) = proxy.ended().await;
    assert_eq!(
        (said, status),
        (vec!["proxy: requests were still in flight after 0 s".to_owned()], Some(1))
    );
}

#[tokio::test]
async fn the_metrics_page_is_in_prometheus_text_with_a_line_for_each_mount() {
    let upstream = serve(Router::new().fallback(echo)).await;
    let proxy = Proxy::start(&[mount("/a", upstream, ""), mount("", upstream, "")].concat()).await;
    proxy.get("/a/b").await;
    let page = send(&proxy.client, proxy.metrics, "GET", "/metrics", &[], Bytes::new()).await.body;
    let expected = "\
# HELP proxy_requests_total Requests of clients.
# TYPE proxy_requests_total counter
proxy_requests_total{mount=\"http://127.0.0.1:*\"} 0
proxy_requests_total{mount=\"http://127.0.0.1:*/a\"} 1
# HELP proxy_attempts_total Requests to upstreams, retries included.
# TYPE proxy_attempts_total counter
proxy_attempts_total{mount=\"http://127.0.0.1:*\"} 0
proxy_attempts_total{mount=\"http://127.0.0.1:*/a\"} 1
# HELP proxy_retries_refused_by_budget_total Retries for which the budget had nothing left.
# TYPE proxy_retries_refused_by_budget_total counter
proxy_retries_refused_by_budget_total{mount=\"http://127.0.0.1:*\"} 0
proxy_retries_refused_by_budget_total{mount=\"http://127.0.0.1:*/a\"} 0
# HELP proxy_unrouted_requests_total Requests that no mount serves, or that name no place to go.
# TYPE proxy_unrouted_requests_total counter
proxy_unrouted_requests_total 0
# HELP proxy_reloads_total Reloads of the table; \"kept\" where the new one was wrong.
# TYPE proxy_reloads_total counter
proxy_reloads_total{result=\"ok\"} 0
proxy_reloads_total{result=\"kept\"} 0
";
    assert_eq!(page, expected);
    // Not for clients.
    assert!(!proxy.get("/metrics").await.body.contains("proxy_"));
}

#[test]
fn a_table_is_read_whole_and_what_is_wrong_in_it_has_a_line() {
    let table = table::Table::parse(include_bytes!("../examples/proxy/table.toml")).unwrap();
    assert_eq!((table.tenants.len(), table.mounts.len(), table.cookies.per_domain), (2, 2, 50));
    assert_eq!(table.tenant_header, "x-tenant");
    let empty = table::Table::parse(b"").unwrap();
    assert_eq!(format!("{empty:?}"), format!("{:?}", table::Table::empty()));

    let mount = "[[mount]]\nprefix = \"http://h\"\nupstream = \"http://u:1\"\n";
    let rows = [
        (
            "tenant_header = \"x tenant\"".to_owned(),
            "line 1: \"x tenant\" is not the name of a header",
        ),
        ("[cookies]\nper_domian = 3".to_owned(), "line 2: unknown field `per_domian`"),
        (
            mount.replace("http://h", "https://h"),
            "line 2: https://h: clients speak no https to this proxy; write http://",
        ),
        (mount.replace("http://h", "http://127.1"), "line 2: mount prefix \"http://127.1\": "),
        (
            format!("{mount}\n{}", mount.replace("http://h", "HTTP://H:*")),
            "line 6: HTTP://H:*: it is mounted already",
        ),
        (
            format!("{mount}retry = {{ deadline = 5 }}"),
            "line 4: invalid type: integer `5`, expected a duration",
        ),
        (
            format!("{mount}retry = {{ deadline = \"0s\" }}"),
            "line 4: no request succeeds in no time",
        ),
        (
            format!("{mount}[mount.retry]\nbudget = {{ percent = -1 }}"),
            "line 5: `percent` of a budget",
        ),
        (format!("{mount}upstreams = 1"), "line 4: unknown field `upstreams`"),
        (mount.replace("upstream = \"http://u:1\"\n", ""), "line 1: missing field `upstream`"),
        (
            mount.replace("http://u:1", "http://u:1/x"),
            "line 3: an upstream is written as \"http://host:port\"",
        ),
        (mount.replace("http://u:1", "http://me@u:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "u:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:99999"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:80000#x"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:abc"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:0"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://u:"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://127.1:1"), "line 3: an upstream is written as"),
        (mount.replace("http://u:1", "http://*.u:1"), "line 3: an upstream is written as"),
        ("tenants = [\"ann\", \"\"]".to_owned(), "line 1: \"\" can be no tenant"),
        ("tenants = [\"\u{e9}\"]".to_owned(), "line 1: \"\u{e9}\" can be no tenant"),
        ("tenant_header = \"Host\"".to_owned(), "line 1: \"Host\" means something else already"),
        (
            "tenant_header = \"expect\"".to_owned(),
            "line 1: \"expect\" means something else already",
        ),
        ("mount = [3]".to_owned(), "line 1: invalid type: integer `3`, expected a mount, a table"),
        (
            mount.replace("http://h", "ftp://h"),
            "line 2: ftp://h: clients speak no ftp to this proxy; write http://",
        ),
        (mount.replace("http://u:1\"", "http://u:1"), "line 3: "),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .map(|(text, want)| {
            (table::Table::parse(text.as_bytes()).map_err(|fault| fault.to_string()), want)
        })
        .filter(|(got, want)| !got.as_ref().is_err_and(|got| got.starts_with(*want)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let latin = table::Table::parse(b"# one\n# caf\xe9\n").map_err(|fault| fault.to_string());
    assert_eq!(latin.unwrap_err(), "line 2: this is no text; save it as UTF-8");
    let (own, default) = (
        format!("{mount}retry = {{ deadline = \"5m\" }}"),
        format!("{mount}retry = {{ total = 1 }}"),
    );
    for (text, seconds) in [(own, 300), (default, 60), (mount.to_owned(), 60)] {
        let table = table::Table::parse(text.as_bytes()).unwrap();
        let (_, mount) = table.mounts.first_key_value().unwrap();
        assert_eq!(Policy::deadline(&mount.retry), Some(Duration::from_secs(seconds)), "{text}");
    }
}
