//! `examples/fetch`, as users run it: the built program with small servers on the loopback.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::program::program;

mod compressed;
mod cookies;
mod explain;
mod log;
mod output;
#[cfg(target_os = "linux")]
mod progress;
mod redirects;
mod requests;
mod retries;
mod tls;
mod urls;

/// One request as a server got it.
#[derive(Clone, Debug, Default)]
struct Seen {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Seen {
    fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    fn header(&self, name: &str) -> &str {
        self.all(name).first().copied().unwrap_or_default()
    }
}

type Answer = fn() -> Reply;

/// What a server does with a request.
enum Reply {
    /// Sends the bytes and keeps the connection.
    Keep(Vec<u8>),
    /// Sends the bytes and closes it.
    Close(Vec<u8>),
    /// Sends the bytes, then nothing more.
    Hang(Vec<u8>),
    /// Closes the connection so that the other side sees a reset.
    Reset,
}

fn reply(status: u16, headers: &str, body: &str) -> Reply {
    Reply::Keep(message(status, headers, body))
}

fn message(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Why\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn ok(body: &str) -> Reply {
    reply(200, "", body)
}

trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    /// `handler` gets each request with its number, from 0.
    fn new(handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self::on(listener, None, handler)
    }

    fn on(
        listener: TcpListener,
        tls: Option<Arc<rustls::ServerConfig>>,
        handler: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().expect("bound");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, handler) = (Arc::clone(&seen), Arc::new(handler));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (log, handler, tls) = (Arc::clone(&log), Arc::clone(&handler), tls.clone());
                thread::spawn(move || {
                    let raw = socket.try_clone().expect("a second handle");
                    let stream: Box<dyn Stream> = match tls {
                        Some(config) => {
                            let connection = rustls::ServerConnection::new(config)
                                .expect("a valid configuration");
                            Box::new(rustls::StreamOwned::new(connection, socket))
                        }
                        None => Box::new(socket),
                    };
                    serve(stream, &raw, &log, &*handler);
                });
            }
        });
        Self { address, seen }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn targets(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

fn serve(
    stream: Box<dyn Stream>,
    raw: &TcpStream,
    log: &Mutex<Vec<Seen>>,
    handler: &dyn Fn(&Seen, usize) -> Reply,
) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = request(&mut stream) {
        let number = {
            let mut log = log.lock().unwrap();
            log.push(seen.clone());
            log.len() - 1
        };
        let (bytes, keep) = match handler(&seen, number) {
            Reply::Keep(bytes) => (bytes, true),
            Reply::Close(bytes) => (bytes, false),
            Reply::Hang(bytes) => {
                let _ = stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush());
                // Until the client goes away.
                let _ = stream.read_to_end(&mut Vec::new());
                return;
            }
            Reply::Reset => {
                // Closing with unread data makes a reset. The peer's own close would be too late.
                socket2::SockRef::from(raw).set_linger(Some(Duration::ZERO)).expect("a socket");
                return;
            }
        };
        if stream.get_mut().write_all(&bytes).and_then(|()| stream.get_mut().flush()).is_err()
            || !keep
        {
            return;
        }
    }
}

fn request(stream: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|&read| read > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut seen = Seen { method: words.next()?, target: words.next()?, ..Seen::default() };
    loop {
        line.clear();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        seen.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    seen.body = vec![0; seen.header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut seen.body).ok()?;
    Some(seen)
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("fetch"));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[derive(Debug)]
struct Outcome {
    status: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let outcome = Self {
            status: output.status.code().expect("an exit status"),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(
            outcome.status != 101 && !outcome.stderr.contains("panicked"),
            "a panic: {outcome:?}"
        );
        outcome
    }
}

fn fetch(arguments: &[&str]) -> Outcome {
    command(arguments).output().expect("the program runs").into()
}

fn finish(child: Child) -> Outcome {
    child.wait_with_output().expect("the program ends").into()
}

#[track_caller]
fn assert_outcome(outcome: &Outcome, status: i32, stdout: &str) {
    assert_eq!((outcome.status, outcome.stdout.as_str()), (status, stdout), "{outcome:?}");
    let lines = if status == 0 { 0 } else { 1 };
    assert_eq!(
        outcome.stderr.lines().count(),
        lines,
        "one line for an error, else none: {outcome:?}"
    );
}

/// An address that nobody listens on. No other test takes ports on 127.0.0.7.
fn closed_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 7), 0)).expect("a free port");
    listener.local_addr().expect("bound")
}
