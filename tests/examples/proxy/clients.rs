//! Clients that stall, break off, or send what a proxy must not pass on.

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use bytes::Bytes;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::mpsc, time::timeout};

use super::*;
use crate::rows_async;

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
    let late = "408: the rest of the request did not arrive in time\n";
    let broken = "400: the body of the request is incomplete or invalid\n";
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
    let mut sent = [0, 0];
    rows_async::hold(rows, async |(path, rest, want)| {
        let head = format!("PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        let answer = exchange(&proxy, &(head + rest)).await;
        sent[usize::from(path == "/request")] += 1;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        (format!("{path} {rest}: {answer}"), body, Some(want.to_owned()))
    })
    .await;
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

/// RFC 9110 section 4.2.4: whoever stands before the at sign is no host.
#[tokio::test]
async fn a_host_with_userinfo_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let upstream = serve(Router::new().fallback(|| std::future::ready("reached"))).await;
    let proxy = Proxy::start(&mount("", upstream, "")).await;
    let rows = [("127.0.0.1", "200"), ("else.example@127.0.0.1", "400"), ("u:p@127.0.0.1", "400")];
    rows_async::hold(rows, async |(host, status)| {
        let mut socket = tokio::net::TcpStream::connect(proxy.public).await.unwrap();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        let answered = answer.starts_with(&format!("HTTP/1.1 {status}"));
        (format!("{host}: {answer}"), answered, true)
    })
    .await;
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
