//! `examples/proxy`, as users run it: the built program, with clients and upstreams on the
//! loopback.

use std::{fs, net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
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
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, Command},
    sync::Notify,
    time::timeout,
};

use crate::program::program;

mod clients;
mod ending;
#[cfg(all(feature = "redis", feature = "seal"))]
#[allow(dead_code)] // most of it is for the tests of the store
#[path = "../session/server.rs"]
mod server;
#[cfg(all(feature = "redis", feature = "seal"))]
mod sessions;
mod tables;
mod tenants;
mod upstreams;
mod wire;

#[allow(dead_code)] // the tests read a table as the program does, and no more
#[path = "../../examples/proxy/table.rs"]
mod table;

// The program.

/// A time-out: nothing here takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let mut child = Command::new(program("proxy"))
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

    /// Writes a table, reloads it, and returns the line that the proxy prints.
    async fn reload(&mut self, table: &str) -> String {
        // Renamed into place, as an editor does, so that nothing reads half of it.
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

    /// The number in that line of the metrics page.
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

    /// Its last line, and its exit status.
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

/// Answers with what it was sent, and sets the cookie that the query names.
async fn echo(request: Request) -> Response {
    let headers = request.headers();
    let mut names: Vec<_> = headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| !["host", "via"].contains(name) && !name.contains("forwarded"))
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

/// Sends these bytes, and returns everything until the proxy closes the connection.
async fn exchange(proxy: &Proxy, sent: &str) -> String {
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(sent.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("an end").unwrap();
    String::from_utf8(answer).unwrap()
}

/// An upstream that reports a request, and answers when the test says so.
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

/// A request that has arrived at the upstream.
async fn in_flight(proxy: &Proxy, arrived: &Notify) -> tokio::task::JoinHandle<Answer> {
    let (client, to) = (proxy.client.clone(), proxy.public);
    let request =
        tokio::spawn(async move { send(&client, to, "GET", "/held", &[], Bytes::new()).await });
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    request
}
