//! What goes over the wire, byte for byte, and what a connection costs.

use std::fmt::Write as _;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::mpsc,
    time::{Instant, timeout},
};

use super::*;
use crate::{loopback, rows_async};

/// The head of a message, and what came with it.
async fn head(socket: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// An upstream that answers with the head that it was sent.
async fn mirror() -> SocketAddr {
    loopback::serve(|mut socket, _| async move {
        while let Some(head) = head(&mut socket).await {
            let mut left = match &*head {
                head if head.contains("content-length: 3") => 3,
                // What a client of this file sends in one chunk, and the last one.
                head if head.contains("transfer-encoding: chunked") => 13,
                _ => 0,
            };
            while left > 0 {
                left -= socket.read_u8().await.map_or(left, |_| 1);
            }
            let length = head.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}");
            if socket.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// The lines of a head that a mirror has sent back, without those that each request has, sorted.
fn lines(answer: &str) -> Vec<String> {
    let head = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let is_ours = |line: &&str| {
        ["host:", "via:", "forwarded:", "x-forwarded-", "user-agent:", "get ", "post "]
            .iter()
            .all(|name| !line.to_ascii_lowercase().starts_with(name))
    };
    let lines = head.lines().skip(1).filter(|line| !line.is_empty()).filter(is_ours);
    let mut lines: Vec<_> = lines.map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn a_request_says_of_its_body_what_its_client_said() {
    let proxy = Proxy::start(&mount("", mirror().await, "")).await;
    let methods = ["GET", "DELETE", "OPTIONS", "POST", "PUT", "PATCH", "PURGE"];
    let bodies: [(&str, &[&str]); 4] = [
        ("\r\n", &[]),
        ("Content-Length: 0\r\n\r\n", &["content-length: 0"]),
        ("Content-Length: 3\r\n\r\nabc", &["content-length: 3"]),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            &["transfer-encoding: chunked"],
        ),
    ];
    let rows = crate::pairs::pairs(methods, bodies);
    rows_async::hold(rows, async |(method, (body, want))| {
        let sent = format!("{method} / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{body}");
        (sent.clone(), lines(&exchange(&proxy, &sent).await), want.to_vec())
    })
    .await;
}

#[tokio::test]
async fn a_request_has_one_host_whatever_its_target_says() {
    let proxy = Proxy::start(&mount("", mirror().await, "")).await;
    let origin = "GET / HTTP/1.1";
    let absolute = "GET http://127.0.0.1/ HTTP/1.1";
    let old = "GET http://127.0.0.1/ HTTP/1.0";
    let rows: [(&str, &[&str], &str); 14] = [
        (origin, &["127.0.0.1"], "200"),
        (origin, &[], "400"),
        (origin, &[""], "400"),
        (origin, &["127.0.0.1", "127.0.0.1"], "400"),
        (origin, &["127.0.0.1, 127.0.0.1"], "400"),
        (origin, &["a b"], "400"),
        (absolute, &["127.0.0.1"], "200"),
        (absolute, &["else.example"], "200"),
        (absolute, &[""], "200"),
        (absolute, &[], "400"),
        (absolute, &["127.0.0.1", "127.0.0.1"], "400"),
        (absolute, &["a b"], "400"),
        (old, &[], "200"),
        (old, &["a", "b"], "400"),
    ];
    rows_async::hold(rows, async |(line, hosts, want)| {
        let mut sent = format!("{line}\r\nConnection: close\r\n");
        for host in hosts {
            let _ = write!(sent, "Host: {host}\r\n");
        }
        let answer = exchange(&proxy, &(sent.clone() + "\r\n")).await;
        (format!("{sent}{answer}"), status(&answer).to_owned(), want.to_owned())
    })
    .await;
}

#[tokio::test]
async fn who_the_client_is_the_proxy_says_and_no_one_else_unless_the_table_trusts_the_peer() {
    let stranger = mount("", mirror().await, "");
    let hosts: &[&str] = &[
        "forwarded: for=127.0.0.1;host=\"127.0.0.1:80\";proto=http",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: 127.0.0.1:80",
        "x-forwarded-proto: http",
    ];
    let said = "Forwarded: for=9.9.9.9;proto=https\r\nX-Forwarded-For: 9.9.9.9\r\n\
         X-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: site.example\r\n\
         X-Real-IP: 9.9.9.9\r\nX-Forwarded-Port: 443\r\n";
    let all =
        "Connection: forwarded, x-forwarded-for, X-Forwarded-Proto, x-forwarded-host, via\r\n";
    let alike = "x_forwarded_for: 1\r\nx_tenant: ann\r\nX.Tenant: ann\r\nProxy: evil\r\n\
         content_length: 3\r\n";
    let believed: &[&str] = &[
        "forwarded: for=9.9.9.9;proto=https, for=127.0.0.1;host=\"127.0.0.1:80\";proto=http",
        "x-forwarded-for: 9.9.9.9, 8.8.8.8, 127.0.0.1",
        "x-forwarded-host: site.example",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-real-ip: 9.9.9.9",
    ];
    let rows = [
        ("[]", String::new(), hosts),
        ("[]", said.to_owned(), hosts),
        ("[]", format!("{said}{all}"), hosts),
        ("[]", alike.to_owned(), hosts),
        ("[\"127.0.0.2\", \"126.0.0.0/8\", \"::/0\"]", said.to_owned(), hosts),
        ("[\"127.0.0.1\"]", String::new(), hosts),
        ("[\"127.0.0.1\"]", said.to_owned(), believed),
        ("[\"127.0.0.0/8\"]", said.to_owned(), believed),
        ("[\"0.0.0.0/0\"]", format!("{said}{all}"), believed),
        ("[\"127.0.0.1\"]", alike.to_owned(), hosts),
    ];
    let mut proxy = Proxy::start(&stranger).await;
    for (trusted, sent, want) in rows {
        let said = proxy.reload(&format!("trusted = {trusted}\n{TENANTS}{stranger}")).await;
        assert!(said.starts_with("proxy: reloaded"), "{said}");
        let request = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:80\r\n{sent}");
        let end = if sent.contains("Connection") { "\r\n" } else { "Connection: close\r\n\r\n" };
        let mut socket = TcpStream::connect(proxy.public).await.unwrap();
        socket.write_all((request + end).as_bytes()).await.unwrap();
        head(&mut socket).await.unwrap();
        let seen = head(&mut socket).await.unwrap();
        let mut seen: Vec<_> = seen
            .lines()
            .skip(1)
            .filter(|line| !line.is_empty() && !line.starts_with("host: "))
            .map(str::to_owned)
            .collect();
        seen.sort_unstable();
        let via = seen.iter().position(|line| line.starts_with("via: 1.1 proxy-"));
        via.map(|at| seen.remove(at)).expect("a via");
        assert_eq!(seen, want, "{trusted} {sent}");
    }
}

#[tokio::test]
async fn a_client_that_has_closed_its_own_side_gets_its_answer() {
    let (upstream, arrived, release) = held().await;
    let proxy = Proxy::start(&mount("/held", upstream, "")).await;
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.write_all(b"GET /held HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    socket.shutdown().await.unwrap();
    timeout(PATIENCE, arrived.notified()).await.expect("a request at the upstream");
    release.notify_one();
    let mut answer = String::new();
    timeout(PATIENCE, socket.read_to_string(&mut answer)).await.expect("an end").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("held"), "{answer}");
}

#[tokio::test]
async fn a_head_past_its_bound_is_a_431_and_at_its_bound_is_sent_on() {
    let proxy = Proxy::start(&mount("", mirror().await, "")).await;
    let of_bytes = |length: usize| {
        let head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
        let value = "x".repeat(length - head.len() - "a: \r\n\r\n".len());
        format!("{head}a: {value}\r\n\r\n")
    };
    let of_headers = |count: usize| {
        let head = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n".to_owned();
        (2..count).fold(head, |head, number| head + &format!("x-{number}: 1\r\n")) + "\r\n"
    };
    let rows = [
        ("32 KiB", of_bytes(32 * 1024), "200"),
        ("32 KiB and a byte", of_bytes(32 * 1024 + 1), "431"),
        ("40 KiB", of_bytes(40 * 1024), "431"),
        ("100 headers", of_headers(100), "200"),
        ("101 headers", of_headers(101), "431"),
    ];
    rows_async::hold(rows, async |(name, sent, want)| {
        let mut socket = TcpStream::connect(proxy.public).await.unwrap();
        socket.write_all(sent.as_bytes()).await.unwrap();
        let head = timeout(PATIENCE, head(&mut socket)).await.unwrap().unwrap_or_default();
        (name, status(&head).to_owned(), want.to_owned())
    })
    .await;
}

#[tokio::test]
async fn the_head_of_an_answer_past_its_bound_is_a_502() {
    let upstream = loopback::serve(|mut socket, _| async move {
        let Some(request) = head(&mut socket).await else { return };
        let length: usize = request.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n";
        let value = "x".repeat(length - head.len() - "a: \r\n\r\n".len());
        let answer = format!("{head}a: {value}\r\n\r\nok");
        socket.write_all(answer.as_bytes()).await.unwrap();
        // Until the proxy has had enough of it.
        let _ = socket.read_u8().await;
    })
    .await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let rows = [(14 * 1024, 200), (14 * 1024 + 1, 502), (64 * 1024, 502)];
    rows_async::hold(rows, async |(length, want)| {
        (length, proxy.get(&format!("/{length}")).await.status.as_u16(), want)
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_stalls_within_its_answer_is_not_waited_for() {
    let (let_go, mut gone) = mpsc::unbounded_channel();
    let upstream = loopback::serve(move |mut socket, _| {
        let let_go = let_go.clone();
        async move {
            let Some(request) = head(&mut socket).await else { return };
            let answer = match request.split(' ').nth(1).unwrap() {
                "/length" => "Content-Length: 10\r\n\r\nabc",
                "/none" => "Content-Length: 10\r\n\r\n",
                "/chunked" => "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
                _ => "Connection: close\r\n\r\nabc",
            };
            socket.write_all(format!("HTTP/1.1 200 OK\r\n{answer}").as_bytes()).await.unwrap();
            let _ = socket.read_u8().await;
            let_go.send(()).unwrap();
        }
    })
    .await;
    let proxy = Proxy::start_with(&mount("", upstream, ""), &["--stall", "1"]).await;
    let rows = [
        ("/length", "abc"),
        ("/none", ""),
        ("/chunked", "3\r\nabc\r\n"),
        ("/close", "3\r\nabc\r\n"),
    ];
    rows_async::hold(rows, async |(path, want)| {
        let sent = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
        let answer = exchange(&proxy, &sent).await;
        timeout(PATIENCE, gone.recv())
            .await
            .expect("the end of the upstream's connection")
            .unwrap();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        // No last chunk: the client sees that this is not all.
        (format!("{path}: {answer}"), body, Some(want.to_owned()))
    })
    .await;
}

/// Nagle's algorithm holds a small piece back until the one before it has been acknowledged, which
/// the other side delays by 40 ms or more.
#[tokio::test]
async fn no_piece_of_a_body_waits_for_an_acknowledgement() {
    let (arrived, mut seen) = mpsc::unbounded_channel();
    let (pieces, next) = mpsc::unbounded_channel::<()>();
    let next = Arc::new(tokio::sync::Mutex::new(next));
    let upstream = loopback::serve(move |mut socket, _| {
        let (arrived, next) = (arrived.clone(), Arc::clone(&next));
        async move {
            socket.set_nodelay(true).unwrap();
            head(&mut socket).await.unwrap();
            let answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            socket.write_all(answer).await.unwrap();
            let mut next = next.lock().await;
            let mut piece = [0; 1024];
            loop {
                tokio::select! {
                    read = socket.read(&mut piece) => match read {
                        Ok(1..) => arrived.send(()).unwrap(),
                        _ => return,
                    },
                    _ = next.recv() => socket.write_all(b"1\r\nx\r\n").await.unwrap(),
                }
            }
        }
    })
    .await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let mut socket = TcpStream::connect(proxy.public).await.unwrap();
    socket.set_nodelay(true).unwrap();
    let request = "PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n";
    socket.write_all(request.as_bytes()).await.unwrap();
    head(&mut socket).await.unwrap();

    // Two pieces, one after the other: the second one is what would wait. The fastest of many
    // tells, since a busy machine only makes some of them slower.
    let mut fastest = [Duration::MAX; 2];
    for _ in 0..30 {
        let start = Instant::now();
        for _ in 0..2 {
            socket.write_all(b"1\r\nx\r\n").await.unwrap();
            timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
        }
        fastest[0] = fastest[0].min(start.elapsed());
        let start = Instant::now();
        for _ in 0..2 {
            pieces.send(()).unwrap();
            let mut piece = [0; 6];
            timeout(PATIENCE, socket.read_exact(&mut piece)).await.unwrap().unwrap();
        }
        fastest[1] = fastest[1].min(start.elapsed());
    }
    assert!(fastest.iter().all(|time| *time < Duration::from_millis(30)), "{fastest:?}");
}

/// What a process has in memory, in KiB.
#[cfg(target_os = "linux")]
fn memory(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_reads_nothing_of_a_large_answer_costs_at_most_64_kib() {
    const CLIENTS: usize = 200;
    const LENGTH: usize = 64 << 20;
    let (stuck, mut is_stuck) = mpsc::unbounded_channel();
    let upstream = loopback::serve(move |mut socket, _| {
        let stuck = stuck.clone();
        async move {
            head(&mut socket).await.unwrap();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            // Until nothing was written for a while, so that nothing more will be read.
            let idle = Duration::from_millis(500);
            while let Ok(Ok(_)) = timeout(idle, socket.write(&[b'x'; 16 * 1024])).await {}
            stuck.send(socket).unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let pid = proxy.child.id().unwrap();
    let (mut clients, mut sockets, mut before) = (Vec::new(), Vec::new(), 0);
    // The first clients also need memory that all later ones share.
    for many in [50, CLIENTS] {
        before = memory(pid);
        for _ in 0..many {
            let socket = TcpSocket::new_v4().unwrap();
            // The system keeps little, so that the proxy has to keep the rest, or leave it.
            socket.set_recv_buffer_size(4096).unwrap();
            let mut client = socket.connect(proxy.public).await.unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
            clients.push(client);
        }
        for _ in 0..many {
            let stuck = timeout(PATIENCE, is_stuck.recv()).await.expect("a stuck answer");
            sockets.push(stuck.unwrap());
        }
    }
    let each = (memory(pid) - before) / CLIENTS;
    assert!(each <= 64, "{each} KiB a client");
    // The clients are still there, so their memory was measured.
    assert!(clients.iter().all(|client| client.try_write(b"\r\n").is_ok()));
}
