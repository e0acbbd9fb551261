//! The load and the upstream. Both write prepared bytes, so that the proxy between them takes the
//! time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    runtime::{self, Runtime},
    task::JoinSet,
};

/// The number of connections. Each sends one request after the other.
pub(crate) const CONNECTIONS: usize = 64;

const SMALL: usize = 27;
const LARGE: usize = 64 * 1024;

pub(crate) struct Load {
    pub(crate) name: &'static str,
    path: &'static str,
    length: usize,
}

impl Load {
    pub(crate) const fn small() -> Self {
        Self { name: "answers of 27 bytes", path: "/small", length: SMALL }
    }

    pub(crate) const fn large() -> Self {
        Self { name: "answers of 64 KiB", path: "/large", length: LARGE }
    }

    /// The number of requests that all connections complete in that time.
    pub(crate) fn run_for(&self, to: SocketAddr, tenant: bool, time: Duration) -> usize {
        let end = Instant::now() + time;
        self.run_while(to, tenant, move |_| Instant::now() < end)
    }

    /// Sends that number of requests on each connection.
    pub(crate) fn run(&self, to: SocketAddr, tenant: bool, requests: usize) {
        self.run_while(to, tenant, move |sent| sent < requests);
    }

    fn run_while(
        &self,
        to: SocketAddr,
        tenant: bool,
        goes_on: impl Fn(usize) -> bool + Copy + Send + 'static,
    ) -> usize {
        let tenant = if tenant { "X-Tenant: ann\r\n" } else { "" };
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {to}\r\nUser-Agent: load/1.0\r\nAccept: */*\r\n{tenant}\r\n",
            self.path
        );
        let length = self.length;
        let client = move || {
            let request = request.clone();
            async move {
                let mut stream = connected(TcpStream::connect(to).await.expect("a proxy"));
                let mut sent = 0;
                while goes_on(sent) {
                    stream.write_all(request.as_bytes()).await.expect("a connection");
                    let said = head(&mut stream, |line| {
                        assert!(!line.starts_with("HTTP/") || line.contains(" 200 "), "{line}");
                    });
                    assert_eq!(said.await, Some(length));
                    let mut left = length;
                    while left > 0 {
                        let read = stream.fill_buf().await.expect("a body").len().min(left);
                        assert!(read > 0, "the whole body");
                        stream.consume(read);
                        left -= read;
                    }
                    sent += 1;
                }
                sent
            }
        };
        one_thread().block_on(async {
            let clients: JoinSet<usize> = (0..CONNECTIONS).map(|_| client()).collect();
            clients.join_all().await.into_iter().sum()
        })
    }
}

fn one_thread() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn connected(stream: TcpStream) -> BufReader<TcpStream> {
    stream.set_nodelay(true).expect("an option");
    BufReader::with_capacity(2 * LARGE, stream)
}

/// Reads the head of a message, and the length in it.
async fn head(
    stream: &mut (impl AsyncBufRead + Unpin),
    mut each: impl FnMut(&str),
) -> Option<usize> {
    let mut length = None;
    let mut line = String::new();
    loop {
        line.clear();
        assert!(stream.read_line(&mut line).await.expect("a head") > 0, "a closed connection");
        if line == "\r\n" {
            return length;
        }
        each(&line);
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
}

/// Answers for ever. It prints its address first.
pub(crate) fn upstream() {
    let answer = |length: usize| {
        let cookie = "Set-Cookie: id=7f3a9c51e0b24d68; Path=/; HttpOnly\r\n";
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{cookie}Content-Length: {length}\r\n\r\n"
        );
        [head.into_bytes(), vec![b'x'; length]].concat()
    };
    let answers: &'static [Vec<u8>; 2] = Box::leak(Box::new([answer(SMALL), answer(LARGE)]));
    one_thread().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        println!("{}", listener.local_addr().expect("an address"));
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = connected(stream);
                // It is no fault if a connection is closed between two requests.
                while stream.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
                    let mut is_large = false;
                    head(&mut stream, |line| is_large |= line.starts_with("GET /large")).await;
                    if stream.write_all(&answers[usize::from(is_large)]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}
