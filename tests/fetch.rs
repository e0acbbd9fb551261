//! `examples/fetch` as its users run it: the built program against small servers on the loopback.
// The helpers are tests as well.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Barrier, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

// The servers.

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
    /// Sends the bytes and never again anything.
    Hang(Vec<u8>),
    /// Closes it so that the other side sees a reset.
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
                // Closing with data unread is what makes a reset of it; the peer's own close would
                // be too late.
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

// The program.

fn program() -> PathBuf {
    let test = std::env::current_exe().expect("this test's own path");
    let directory = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let program = directory.join("examples").join(format!("fetch{}", std::env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is not there: `cargo test` builds it, `cargo test --test fetch` does not; run `cargo build --example fetch`",
        program.display()
    );
    program
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
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

/// A table's rows are all judged before one fails the test.
#[track_caller]
fn no_failures(failures: &[String]) {
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// An address that nobody listens on. No other test takes ports on 127.0.0.7.
fn closed_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 7), 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

// Output.

#[test]
fn stdout_gets_the_final_response_only() {
    let server = Server::new(|seen, number| match (seen.target.as_str(), number) {
        (_, 0) => reply(503, "", "busy"),
        ("/", _) => reply(302, "Location: /end\r\n", "moved"),
        _ => ok("done"),
    });
    let outcome = fetch(&["-L", "--retry", "1", "--retry-delay", "0.01", &server.url("/")]);
    assert_outcome(&outcome, 0, "done");
    assert_eq!(server.targets(), ["GET /", "GET /", "GET /end"]);
}

#[test]
fn with_i_the_final_head_comes_first() {
    let server = Server::new(|seen, _| match seen.target.as_str() {
        "/" => reply(302, "Location: /end\r\nX-Hop: 1\r\n", "moved"),
        _ => reply(404, "X-End: a b\r\n", "none"),
    });
    let outcome = fetch(&["-i", "-L", &server.url("/")]);
    assert_outcome(&outcome, 0, "HTTP/1.1 404 Why\r\nx-end: a b\r\ncontent-length: 4\r\n\r\nnone");
}

#[test]
fn without_location_a_redirect_is_the_response() {
    let server = Server::new(|_, _| reply(302, "Location: /end\r\n", "moved"));
    assert_outcome(&fetch(&[&server.url("/")]), 0, "moved");
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn each_o_takes_one_url_in_order_and_stdout_the_rest() {
    let server = Server::new(|seen, _| ok(&seen.target));
    let directory = tempfile::tempdir().unwrap();
    let [one, two] = ["1", "2"].map(|name| directory.path().join(name).display().to_string());
    let urls = ["/a", "/b", "/c"].map(|path| server.url(path));
    let outcome = fetch(&["-o", &one, &urls[0], "-o", &two, &urls[1], &urls[2]]);
    assert_outcome(&outcome, 0, "/c");
    assert_eq!([one, two].map(|path| fs::read_to_string(path).unwrap()), ["/a", "/b"]);
}

#[test]
fn a_file_is_not_touched_before_its_response_comes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    fs::write(&path, "old").unwrap();
    let outcome = fetch(&["-o", path.to_str().unwrap(), &format!("http://{}/", closed_address())]);
    assert_outcome(&outcome, 7, "");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn a_url_that_fails_stops_no_other_and_gives_the_exit_status() {
    let server = Server::new(|seen, _| match seen.target.as_str() {
        "/cut" => Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec()),
        target => ok(target),
    });
    let refused = format!("http://{}/", closed_address());
    let outcome = fetch(&[&server.url("/1"), &server.url("/cut"), &refused, &server.url("/2")]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (18, "/1abc/2"), "{outcome:?}");
    assert_eq!(outcome.stderr.lines().count(), 2, "{outcome:?}");
}

#[test]
fn a_body_is_written_as_it_comes() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        request(&mut BufReader::new(&socket)).expect("a request");
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").unwrap();
        released.lock().unwrap().recv().unwrap();
        socket.write_all(b"later").unwrap();
    });
    let mut child = command(&[&format!("http://{address}/")]).spawn().unwrap();
    let mut first = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    release.send(()).unwrap();
    assert_eq!(&first, b"first");
    assert_outcome(&finish(child), 0, "later");
}

#[test]
fn broken_transfers_fail_after_what_came_was_written() {
    let rows: [(&str, &[u8], i32, &str); 7] = [
        ("short body", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", 18, "abc"),
        (
            "chunks without an end",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            18,
            "abc",
        ),
        (
            "a broken chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
            56,
            "abc",
        ),
        ("no answer", b"", 52, ""),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-", 52, ""),
        ("not HTTP", b"SSH-2.0-OpenSSH_9.2 is what listens here\r\n", 8, ""),
        ("no length at all", b"HTTP/1.1 200 OK\r\n\r\nabc", 0, "abc"),
    ];
    let mut failures = Vec::new();
    for (what, bytes, status, stdout) in rows {
        let server = Server::new(move |_, _| Reply::Close(bytes.to_vec()));
        let outcome = fetch(&[&server.url("/")]);
        let lines = outcome.stderr.lines().count();
        if (outcome.status, outcome.stdout.as_str(), lines)
            != (status, stdout, usize::from(status != 0))
        {
            failures.push(format!("{what}: {outcome:?}"));
        }
    }
    no_failures(&failures);
}

#[test]
fn a_closed_stdout_is_one_line() {
    let (closed, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = Server::new(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        ok(&"x".repeat(1 << 20))
    });
    let mut child = command(&[&server.url("/")]).spawn().unwrap();
    drop(child.stdout.take());
    closed.send(()).unwrap();
    assert_outcome(&finish(child), 23, "");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_write_error() {
    let server = Server::new(|_, _| ok("body"));
    assert_outcome(&fetch(&["-o", "/dev/full", &server.url("/")]), 23, "");
}

#[test]
fn silent_prints_no_error() {
    let outcome = fetch(&["-s", &format!("http://{}/", closed_address())]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (7, ""));
}

// Requests.

#[test]
fn data_is_sent_as_by_curl() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("data");
    fs::write(&file, "l1\r\nl2\n").unwrap();
    let at_file = format!("@{}", file.display());
    let form = "application/x-www-form-urlencoded";
    let rows: [(&[&str], &str, &str, &[u8]); 9] = [
        (&["-d", "a=1"], "POST", form, b"a=1"),
        (&["-d", "--a"], "POST", form, b"--a"),
        (&["-d", "a=1", "-d", "b=2"], "POST", form, b"a=1&b=2"),
        (&["-d", ""], "POST", form, b""),
        (&["-d", &at_file], "POST", form, b"l1l2"),
        (&["--data-binary", &at_file], "POST", form, b"l1\r\nl2\n"),
        (&["--data-binary", "@-"], "POST", form, b"from\nstdin"),
        (&["-X", "PUT", "-d", "x"], "PUT", form, b"x"),
        (&["-d", "{}", "-H", "Content-Type: application/json"], "POST", "application/json", b"{}"),
    ];
    let mut failures = Vec::new();
    for (arguments, method, content_type, body) in rows {
        let server = Server::new(|_, _| ok("ok"));
        let mut child =
            command(arguments).arg(server.url("/")).stdin(Stdio::piped()).spawn().unwrap();
        // It need not be read.
        let _ = child.stdin.take().unwrap().write_all(b"from\nstdin");
        let outcome = finish(child);
        let seen = server.seen().pop().unwrap_or_default();
        let got =
            (outcome.status, seen.method.as_str(), seen.all("content-type"), seen.body.as_slice());
        if got != (0, method, vec![content_type], body) {
            failures.push(format!("{arguments:?}: {got:?}"));
        }
    }
    no_failures(&failures);
}

#[test]
fn headers_are_added_replaced_emptied_and_left_out() {
    let server = Server::new(|_, _| ok(""));
    let arguments = [
        "-H",
        "X-A: 1",
        "-H",
        "X-A:2",
        "-H",
        "Accept: text/html",
        "-H",
        "User-Agent:",
        "-H",
        "X-Empty;",
    ];
    let outcome = fetch(&[&arguments[..], &[&server.url("/?q#fragment")]].concat());
    assert_outcome(&outcome, 0, "");
    let seen = server.seen().remove(0);
    assert_eq!(seen.target, "/?q");
    assert_eq!(seen.all("x-a"), ["1", "2"]);
    assert_eq!(seen.all("accept"), ["text/html"]);
    assert_eq!(seen.all("user-agent"), [""; 0]);
    assert_eq!(seen.all("x-empty"), [""]);
}

#[test]
fn a_header_that_cannot_be_read_costs_no_other() {
    let server = Server::new(|_, _| {
        reply(200, "X-Bad: \u{1}\r\nSet-Cookie: a=\u{1}\r\nSet-Cookie: b=1\r\n", "body")
    });
    assert_outcome(&fetch(&["-o", "-", &server.url("/"), &server.url("/")]), 0, "bodybody");
    assert_eq!(server.seen()[1].all("cookie"), ["b=1"]);
}

#[test]
fn userinfo_becomes_basic_authorization() {
    let server = Server::new(|_, _| ok(""));
    let address = server.address;
    let rows = [
        ("Aladdin:open%20sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
        ("user", "Basic dXNlcjo="),
        ("a@b:c:d", "Basic YUBiOmM6ZA=="),
    ];
    for (userinfo, expected) in rows {
        assert_outcome(&fetch(&[&format!("{userinfo}@{address}")]), 0, "");
        assert_eq!(server.seen().pop().unwrap().all("authorization"), [expected], "{userinfo}");
    }
    fetch(&["-H", "Authorization: Bearer t", &format!("http://u:p@{address}")]);
    assert_eq!(
        server.seen().pop().unwrap().all("authorization"),
        ["Bearer t"],
        "the caller's own header wins"
    );
}

#[test]
fn bad_usage_is_2_before_any_request_and_repeats_no_secret() {
    let server = Server::new(|_, _| ok(""));
    let url = server.url("/");
    let good = url.as_str();
    let rows: &[&[&str]] = &[
        &[],
        &["--no-such-flag=SECRET", good],
        &["--silent=SECRET", good],
        &["-b"],
        &["--retry", "-1", good],
        &["--retry", "many", good],
        &["--max-time", "-1", good],
        &["--max-time", "NaN", good],
        &["--max-time", "1e400", good],
        &["--retry-delay", "soon", good],
        &["--max-redirs", "-2", good],
        &["--resolve", "example.com", good],
        &["--resolve", "example.com:80", good],
        &["--resolve", ":80:127.0.0.1", good],
        &["--resolve", "example.com:99999:127.0.0.1", good],
        &["--resolve", "example.com:80:localhost", good],
        &["-H", "no colon SECRET", good],
        &["-H", "Bad Name: SECRET", good],
        &["-H", "X: SECRET\r\nX-Injected: 1", good],
        &["-H", "X: SECRET\n", good],
        &["-b", "SECRET=\u{1}", good],
        &["-b", "-", good],
        &["-c", "-", good],
        &["-b", "one.txt", "-b", "two.txt", good],
        &["-X", "GE T", good],
        &["-X", "GET\r\nX-Injected: 1", good],
        &["-X", "", good],
        &["-d", "a", "--data-binary", "b", good],
        &["-o", "1", "-o", "2", good],
        &[good, ""],
        &[good, "http://"],
        &[good, "http:///SECRET"],
        &[good, "http://:80/"],
        &[good, "http://user:SECRET@/"],
        &[good, "http://user:SECRET@:80/"],
        &[good, "?SECRET"],
        &[good, "ftp://user:SECRET@example.com/"],
        &[good, "file:///etc/SECRET"],
        &[good, "http://user:SECRET@127.0.0.1:99999/"],
        &[good, "http://127.0.0.1:+80/?SECRET"],
        &[good, "http://127.0.0.1:http/?SECRET"],
        &[good, "http://exa mple.com/?SECRET"],
        &[good, "http://127.0.0.1/?SECRET\r\nX-Injected: 1"],
        &[good, "http://[::1/?SECRET"],
    ];
    let mut failures = Vec::new();
    for arguments in rows {
        let outcome = fetch(arguments);
        let one_line = outcome.stderr.starts_with("fetch: ") && outcome.stderr.lines().count() == 1;
        if outcome.status != 2
            || !outcome.stdout.is_empty()
            || !one_line
            || outcome.stderr.contains("SECRET")
        {
            failures.push(format!("{arguments:?}: {outcome:?}"));
        }
    }
    no_failures(&failures);
    assert_eq!(server.seen().len(), 0);
}

#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_bad_usage() {
    use std::os::unix::ffi::OsStrExt;
    for flag in ["-H", "-b", "-X", "--retry", "--"] {
        let outcome: Outcome =
            command(&[flag]).arg(std::ffi::OsStr::from_bytes(b"\xff")).output().unwrap().into();
        assert_outcome(&outcome, 2, "");
    }
}

#[test]
fn more_headers_than_a_map_can_hold_are_bad_usage() {
    let server = Server::new(|_, _| ok(""));
    let url = server.url("/");
    let mut arguments = ["-H", "a:b"].repeat(40_000);
    arguments.push(&url);
    assert_outcome(&fetch(&arguments), 2, "");
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn files_to_send_or_trust_that_cannot_be_used_end_it_before_any_request() {
    let server = Server::new(|_, _| ok(""));
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing").display().to_string();
    let garbage = directory.path().join("garbage");
    fs::write(&garbage, "SECRET\n-----BEGIN CERTIFICATE-----\nSECRET\n-----END CERTIFICATE-----\n")
        .unwrap();
    let at_missing = format!("@{missing}");
    let rows: [(&[&str], i32); 5] = [
        (&["-d", &at_missing], 26),
        (&["--data-binary", &at_missing], 26),
        (&["--cacert", &missing], 77),
        (&["--cacert", garbage.to_str().unwrap()], 77),
        (&["--cacert", "/dev/null"], 77),
    ];
    for (arguments, status) in rows {
        let outcome = fetch(&[arguments, &[&server.url("/")]].concat());
        assert_outcome(&outcome, status, "");
        assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    }
    assert_eq!(server.seen().len(), 0);
}

#[test]
fn help_is_no_error() {
    let outcome = fetch(&["--help"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains("--retry-max-time"), "{}", outcome.stdout);
}

// Cookies.

/// As written by curl 7.88.1.
const CURL_FILE: &str = "# Netscape HTTP Cookie File
# https://curl.se/docs/http-cookies.html
# This file was generated by libcurl! Edit at your own risk.

127.0.0.1\tFALSE\t/\tFALSE\t0\tempty\t
127.0.0.1\tFALSE\t/deep\tFALSE\t4133980799\tdeep\td1
#HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\ts1
127.0.0.1\tFALSE\t/\tFALSE\t3795501505\tpersistent\tp1
";

/// As written by Python 3.11's `MozillaCookieJar`.
const PYTHON_FILE: &str = "# Netscape HTTP Cookie File
# http://curl.haxx.se/rfc/cookie_spec.html
# This is a generated file!  Do not edit.

127.0.0.1\tFALSE\t/\tFALSE\t3795501505\tpersistent\tp1
127.0.0.1\tFALSE\t/\tFALSE\t\tsession\ts1
127.0.0.1\tFALSE\t/\tFALSE\t\tempty\t
127.0.0.1\tFALSE\t/deep\tFALSE\t4133980799\tdeep\td1
";

#[test]
fn files_of_curl_and_of_python_are_read_and_survive_a_save() {
    for (writer, text) in [("curl", CURL_FILE), ("python", PYTHON_FILE)] {
        let server = Server::new(|_, _| ok(""));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cookies.txt");
        fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        for _ in 0..2 {
            assert_outcome(
                &fetch(&["-b", file, "-c", file, &server.url("/deep/er"), &server.url("/")]),
                0,
                "",
            );
            let seen = server.seen();
            let sent: Vec<_> =
                seen.iter().rev().take(2).map(|seen| sorted(seen.header("cookie"))).collect();
            let root = "empty=; persistent=p1; session=s1";
            assert_eq!(sent, [root.to_owned(), format!("deep=d1; {root}")], "{writer}");
        }
        let saved = fs::read_to_string(&path).unwrap();
        assert_eq!(saved.contains("#HttpOnly_127.0.0.1"), writer == "curl", "{saved}");
    }
}

fn sorted(cookies: &str) -> String {
    let mut pairs: Vec<_> = cookies.split("; ").collect();
    pairs.sort_unstable();
    pairs.join("; ")
}

#[test]
fn cookies_are_kept_from_url_to_url_and_from_run_to_run() {
    let server = Server::new(|seen, _| match seen.target.as_str() {
        "/login" => reply(200, "Set-Cookie: id=42; Max-Age=3600\r\n", ""),
        "/logout" => reply(200, "Set-Cookie: id=; Max-Age=0\r\n", ""),
        _ => ok(seen.header("cookie")),
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("new.txt");
    let file = path.to_str().unwrap();
    assert_outcome(
        &fetch(&["-b", file, "-c", file, &server.url("/login"), &server.url("/")]),
        0,
        "id=42",
    );
    assert_outcome(&fetch(&["-b", file, &server.url("/")]), 0, "id=42");
    assert_outcome(&fetch(&["-b", "", &server.url("/")]), 0, "");
    let other = directory.path().join("other.txt");
    assert_outcome(
        &fetch(&["-b", file, "-c", other.to_str().unwrap(), &server.url("/")]),
        0,
        "id=42",
    );
    assert_outcome(&fetch(&["-b", other.to_str().unwrap(), &server.url("/")]), 0, "id=42");
    assert_outcome(
        &fetch(&["-b", file, "-c", file, &server.url("/logout"), &server.url("/")]),
        0,
        "",
    );
    assert_outcome(&fetch(&["-b", file, &server.url("/")]), 0, "");
}

#[test]
fn a_damaged_file_is_named_by_line_before_any_request_and_stays() {
    let server = Server::new(|_, _| ok(""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = "\n127.0.0.1\tFALSE\t/\tSECRET\n";
    fs::write(&path, text).unwrap();
    let file = path.to_str().unwrap();
    let outcome = fetch(&["-b", file, "-c", file, &server.url("/")]);
    assert_outcome(&outcome, 26, "");
    assert!(outcome.stderr.contains(file) && outcome.stderr.contains("line 2"), "{outcome:?}");
    assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    assert_eq!(server.seen().len(), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    // Not read at first, it is an error when it would be merged into; and it stays as well.
    assert_eq!(fetch(&["-c", file, &server.url("/")]).status, 23);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);

    let outcome = fetch(&["-b", directory.path().to_str().unwrap(), &server.url("/")]);
    assert_outcome(&outcome, 26, "");
}

#[test]
fn a_line_that_cannot_be_read_is_named_and_stays_and_the_others_are_used() {
    let server = Server::new(|seen, _| ok(seen.header("cookie")));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let bad = "127.0.0.1\tFALSE\t/\tSECRET\n";
    let good = "127.0.0.1 FALSE / FALSE 4102444800 id 42\n";
    fs::write(&path, [bad, good].concat()).unwrap();
    let file = path.to_str().unwrap();
    let outcome = fetch(&["-b", file, "-c", file, &server.url("/")]);
    let said = format!("fetch: skipped in {file}, line 1: expected seven fields between tabs\n");
    assert_eq!((outcome.status, &*outcome.stdout, &*outcome.stderr), (0, "id=42", &*said));
    assert!(fs::read_to_string(&path).unwrap().contains(bad));
    assert_outcome(&fetch(&["-s", "-b", file, &server.url("/")]), 0, "id=42");
}

#[test]
fn a_public_suffixs_cookie_is_not_taken_from_a_file() {
    let server = Server::new(|_, _| ok(""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(
        &path,
        ".com\tTRUE\t/\tFALSE\t0\tevil\t1\n.example.com\tTRUE\t/\tFALSE\t0\tgood\t1\n",
    )
    .unwrap();
    let host = format!("www.example.com:{}", server.port());
    let outcome = fetch(&[
        "-b",
        path.to_str().unwrap(),
        "--resolve",
        &format!("{host}:127.0.0.1"),
        &format!("http://{host}/"),
    ]);
    assert_outcome(&outcome, 0, "");
    assert_eq!(server.seen()[0].all("cookie"), ["good=1"]);
}

#[cfg(unix)]
#[test]
fn a_saved_file_is_private_and_a_new_one_in_the_place_of_the_old() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::new(|_, _| reply(200, "Set-Cookie: new=1; Max-Age=3600\r\n", ""));
    let directory = tempfile::tempdir().unwrap();
    let [path, link] = ["cookies.txt", "link"].map(|name| directory.path().join(name));
    fs::write(&path, CURL_FILE).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::hard_link(&path, &link).unwrap();
    assert_outcome(&fetch(&["-c", path.to_str().unwrap(), &server.url("/")]), 0, "");
    let saved = fs::read_to_string(&path).unwrap();
    assert!(saved.contains("\tnew\t1") && saved.contains("\tpersistent\tp1"), "{saved}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&link).unwrap(), CURL_FILE, "written over in place");
}

#[test]
fn a_save_that_fails_is_an_error_after_the_body() {
    let server = Server::new(|_, _| reply(200, "Set-Cookie: a=1\r\n", "body"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("no/such/directory/cookies.txt");
    let outcome = fetch(&["-c", path.to_str().unwrap(), &server.url("/")]);
    assert_outcome(&outcome, 23, "body");
}

#[test]
fn programs_that_save_at_once_lose_nothing() {
    const RUNS: usize = 4;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    for round in 0..5 {
        // All have read the file before one saves it.
        let barrier = Barrier::new(RUNS);
        let server = Server::new(move |seen, _| {
            barrier.wait();
            reply(200, &format!("Set-Cookie: {}=1; Max-Age=3600\r\n", &seen.target[1..]), "")
        });
        let file = path.to_str().unwrap();
        let run = |number: usize| {
            command(&[
                "--max-time",
                "60",
                "-b",
                file,
                "-c",
                file,
                &server.url(&format!("/r{round}n{number}")),
            ])
            .spawn()
            .unwrap()
        };
        for child in (0..RUNS).map(run).collect::<Vec<_>>() {
            assert_outcome(&finish(child), 0, "");
        }
    }
    let saved = fs::read_to_string(&path).unwrap();
    for name in
        (0..5).flat_map(|round| (0..RUNS).map(move |number| format!("\tr{round}n{number}\t1")))
    {
        assert!(saved.contains(&name), "{name:?} is lost:\n{saved}");
    }
}

#[test]
fn own_cookies_come_first_and_win_in_one_line() {
    let server = Server::new(|seen, _| match seen.target.as_str() {
        "/set" => reply(200, "Set-Cookie: a=jar\r\nSet-Cookie: b=jar\r\n", ""),
        _ => ok(""),
    });
    fetch(&["-H", "Cookie: z=own; a=own", "-b", "i=inline", &server.url("/set"), &server.url("/")]);
    assert_eq!(server.seen()[1].all("cookie"), ["z=own; a=own; i=inline; b=jar"]);
}

// Retries.

#[test]
fn six_statuses_are_retried_and_the_last_response_is_the_output() {
    let mut failures = Vec::new();
    for status in [400, 401, 404, 408, 413, 418, 425, 429, 500, 501, 502, 503, 504, 505, 599] {
        let headers = if status == 413 { "Retry-After: 1\r\n" } else { "" };
        let server = Server::new(move |_, number| reply(status, headers, &number.to_string()));
        let outcome = fetch(&["--retry", "2", "--retry-delay", "0.01", &server.url("/")]);
        let retried = [408, 429, 500, 502, 503, 504].contains(&status);
        let (attempts, body) = if retried { (3, "2") } else { (1, "0") };
        if (outcome.status, outcome.stdout.as_str(), server.seen().len()) != (0, body, attempts) {
            failures.push(format!("{status}: {} requests, {outcome:?}", server.seen().len()));
        }
    }
    no_failures(&failures);
}

#[test]
fn without_retry_there_is_one_attempt() {
    let server = Server::new(|_, _| reply(503, "Retry-After: 0\r\n", "busy"));
    assert_outcome(&fetch(&[&server.url("/")]), 0, "busy");
    let broken = Server::new(|_, _| Reply::Close(Vec::new()));
    assert_outcome(&fetch(&[&broken.url("/")]), 52, "");
    assert_eq!((server.seen().len(), broken.seen().len()), (1, 1));
}

#[test]
fn what_a_server_may_have_received_is_sent_again_only_if_idempotent() {
    let mut failures = Vec::new();
    for (method, retried) in
        [("GET", true), ("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false)]
    {
        let cases: [(&str, Answer); 3] = [
            ("reset", || Reply::Reset),
            ("empty reply", || Reply::Close(Vec::new())),
            ("503", || reply(503, "", "busy")),
        ];
        for (case, failure) in cases {
            let server =
                Server::new(move |_, number| if number == 0 { failure() } else { ok("done") });
            fetch(&[
                "--retry",
                "3",
                "--retry-delay",
                "0.01",
                "-X",
                method,
                "-d",
                "x=1",
                &server.url("/"),
            ]);
            let bodies: Vec<_> = server.seen().into_iter().map(|seen| seen.body).collect();
            if bodies != vec![b"x=1".to_vec(); if retried { 2 } else { 1 }] {
                failures.push(format!("{method}, {case}: {bodies:?}"));
            }
        }
    }
    no_failures(&failures);
}

#[test]
fn a_refused_connection_is_retried_whatever_the_method() {
    for method in ["GET", "POST", "PATCH"] {
        let address = closed_address();
        let url = format!("http://{address}/");
        let mut child = command(&[
            "-v",
            "--retry",
            "50",
            "--retry-delay",
            "0.05",
            "-X",
            method,
            "-d",
            "x=1",
            &url,
        ])
        .spawn()
        .unwrap();
        // The first attempt has failed once it is logged.
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        log.read_line(&mut line).unwrap();
        assert!(line.contains(method), "{line}");
        let server = Server::on(TcpListener::bind(address).unwrap(), None, |_, _| ok("done"));
        // The rest of the log must find a reader.
        thread::spawn(move || log.read_to_string(&mut line));
        let outcome = finish(child);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (0, "done"), "{method}: {outcome:?}");
        assert_eq!(server.targets(), [format!("{method} /")]);
    }
}

#[test]
fn retry_delay_and_retry_after_are_waited_out() {
    let server = Server::new(|_, number| if number < 2 { reply(500, "", "") } else { ok("") });
    let start = Instant::now();
    assert_outcome(&fetch(&["--retry", "2", "--retry-delay", "0.3", &server.url("/")]), 0, "");
    let took = start.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(5)).contains(&took), "{took:?}");

    let server =
        Server::new(
            |_, number| if number < 1 { reply(503, "Retry-After: 1\r\n", "") } else { ok("") },
        );
    let start = Instant::now();
    assert_outcome(&fetch(&["--retry", "2", &server.url("/")]), 0, "");
    let took = start.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn a_wait_that_would_pass_the_limit_gives_up_at_once() {
    let rows: [(&[&str], &str); 3] = [
        (&["--retry-max-time", "30"], "Retry-After: 60\r\n"),
        (&["--retry-max-time", "30", "--retry-delay", "60"], ""),
        (&[], "Retry-After: 21601\r\n"),
    ];
    for (arguments, headers) in rows {
        let server = Server::new(move |_, _| reply(503, headers, "busy"));
        let start = Instant::now();
        assert_outcome(
            &fetch(&[&["--retry", "5"], arguments, &[&server.url("/")]].concat()),
            0,
            "busy",
        );
        assert!(start.elapsed() < Duration::from_secs(20), "{arguments:?}: {:?}", start.elapsed());
        assert_eq!(server.seen().len(), 1, "{arguments:?}");
    }
}

#[test]
fn the_retry_limit_also_cuts_an_attempt_in_flight() {
    let server = Server::new(|_, _| Reply::Hang(Vec::new()));
    let start = Instant::now();
    assert_outcome(&fetch(&["--retry", "5", "--retry-max-time", "0.4", &server.url("/")]), 28, "");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn the_retry_limit_holds_for_all_hops_of_a_url_together() {
    // The first hop takes 0.6 s of the second that there is, so the second hop has no time for the
    // same.
    let server = Server::new(|seen, number| match (seen.target.as_str(), number) {
        ("/", 2) => reply(302, "Location: /next\r\n", ""),
        _ => reply(503, "", "busy"),
    });
    let arguments =
        ["-L", "--retry", "5", "--retry-delay", "0.3", "--retry-max-time", "1", &server.url("/")];
    assert_outcome(&fetch(&arguments), 0, "busy");
    let next = server.seen().iter().filter(|seen| seen.target == "/next").count();
    assert!((1..=2).contains(&next), "{:?}", server.targets());
}

#[test]
fn each_hop_has_its_own_retries() {
    let server = Server::new(|seen, number| match (seen.target.as_str(), number) {
        ("/", 2) => reply(302, "Location: /next\r\n", ""),
        ("/next", 5) => ok("done"),
        _ => reply(503, "", "busy"),
    });
    assert_outcome(
        &fetch(&["-L", "--retry", "2", "--retry-delay", "0.01", &server.url("/")]),
        0,
        "done",
    );
    assert_eq!(server.seen().len(), 6);
}

#[test]
fn a_slow_error_body_does_not_delay_the_retry() {
    let server = Server::new(|_, number| match number {
        0 => Reply::Hang(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000\r\n\r\nwait".to_vec()),
        _ => ok("done"),
    });
    let start = Instant::now();
    assert_outcome(
        &fetch(&["--retry", "1", "--retry-delay", "0.01", "--max-time", "20", &server.url("/")]),
        0,
        "done",
    );
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn max_time_bounds_everything_and_is_not_retried() {
    let rows: [(&str, Answer, &str, usize); 4] = [
        ("no head", || Reply::Hang(Vec::new()), "", 1),
        (
            "no end",
            || Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
            "abc",
            1,
        ),
        ("a wait", || reply(503, "Retry-After: 60\r\n", "busy"), "", 1),
        ("a redirect", || reply(302, "Location: /hang\r\n", ""), "", 2),
    ];
    for (what, answer, stdout, requests) in rows {
        let server = Server::new(move |seen, _| match seen.target.as_str() {
            "/hang" => Reply::Hang(Vec::new()),
            _ => answer(),
        });
        let start = Instant::now();
        let outcome = fetch(&["-L", "--retry", "5", "--max-time", "0.4", &server.url("/")]);
        assert_outcome(&outcome, 28, stdout);
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
        assert_eq!(server.seen().len(), requests, "{what}");
    }
}

#[test]
fn absurd_times_are_no_panic() {
    let server =
        Server::new(|_, number| if number % 2 == 0 { reply(500, "", "") } else { ok("done") });
    for time in ["0", "1e-9", "1e19"] {
        let limits = if time == "1e-9" { "5" } else { time };
        let arguments = [
            "--retry",
            "1",
            "--retry-max-time",
            limits,
            "--max-time",
            limits,
            "--retry-delay",
            "0.01",
            &server.url("/"),
        ];
        assert_outcome(&fetch(&arguments), 0, "done");
    }
    // A wait that would never end is cut by --max-time.
    let arguments =
        ["--retry", "1", "--retry-delay", "1e19", "--max-time", "0.3", &server.url("/")];
    assert_outcome(&fetch(&arguments), 28, "");
}

// Redirects.

#[test]
fn a_redirect_sends_the_body_again_or_turns_post_into_get() {
    let mut failures = Vec::new();
    for (status, method) in [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
    {
        let server = Server::new(move |seen, _| match seen.target.as_str() {
            "/" => reply(status, "Location: /end?q=1#fragment\r\n", ""),
            _ => ok("done"),
        });
        let outcome = fetch(&["-L", "-d", "a=1", &server.url("/")]);
        let seen = server.seen().pop().unwrap();
        let body = if method == "POST" { "a=1" } else { "" };
        let got = (
            outcome.stdout.as_str(),
            seen.method.as_str(),
            seen.target.as_str(),
            seen.body.as_slice(),
        );
        let typed = !seen.all("content-type").is_empty();
        if got != ("done", method, "/end?q=1", body.as_bytes()) || typed != (method == "POST") {
            failures.push(format!("{status}: {got:?}"));
        }
    }
    no_failures(&failures);
}

#[test]
fn too_many_redirects_are_47() {
    let server = Server::new(|seen, _| {
        let number: u32 = seen.target[1..].parse().unwrap();
        if number == 60 {
            ok("end")
        } else {
            reply(302, &format!("Location: /{}\r\n", number + 1), "moved")
        }
    });
    let rows: [(&[&str], i32, &str, usize); 5] = [
        (&[], 47, "", 51),
        (&["--max-redirs", "2"], 47, "", 3),
        (&["--max-redirs", "0"], 47, "", 1),
        (&["--max-redirs", "60"], 0, "end", 61),
        (&["--max-redirs", "-1"], 0, "end", 61),
    ];
    for (arguments, status, stdout, requests) in rows {
        let before = server.seen().len();
        assert_outcome(
            &fetch(&[&["-L"], arguments, &[&server.url("/0")]].concat()),
            status,
            stdout,
        );
        assert_eq!(server.seen().len() - before, requests, "{arguments:?}");
    }
}

#[test]
fn an_attempt_and_a_hop_send_the_cookies_of_those_before() {
    let server = Server::new(|seen, number| match number {
        0 => reply(503, "Set-Cookie: attempt=1\r\n", ""),
        1 => reply(
            302,
            &format!("Location: /{}\r\nSet-Cookie: hop=1\r\n", seen.header("cookie")),
            "",
        ),
        _ => ok(&format!("{} {}", seen.target, seen.header("cookie"))),
    });
    let outcome = fetch(&["-L", "--retry", "1", "--retry-delay", "0.01", &server.url("/")]);
    assert_outcome(&outcome, 0, "/attempt=1 attempt=1; hop=1");
}

#[test]
fn another_origin_gets_no_credentials_and_there_is_no_way_back_to_them() {
    // The same server under two names: first, home -> home, then away, then home again.
    let server = Server::new(|seen, number| {
        let port = seen.header("host").rsplit(':').next().unwrap().to_owned();
        match number {
            0 => reply(302, "Location: /same\r\nSet-Cookie: jar=home\r\n", ""),
            1 => reply(307, &format!("Location: http://localhost:{port}/away\r\n"), ""),
            2 => reply(
                307,
                &format!("Location: http://127.0.0.1:{port}/home\r\nSet-Cookie: jar=away\r\n"),
                "",
            ),
            _ => ok("end"),
        }
    });
    let url = format!("http://user:pass@{}/", server.address);
    let host = format!("localhost:{}", server.port());
    let arguments = [
        "-L",
        "-H",
        "Cookie: own=1",
        "-H",
        "Proxy-Authorization: p",
        "-H",
        "X-Kept: 1",
        "-b",
        "inline=1",
        "--resolve",
        &format!("{host}:127.0.0.1"),
        &url,
    ];
    assert_outcome(&fetch(&arguments), 0, "end");
    let seen = server.seen();
    let got: Vec<_> = seen
        .iter()
        .map(|seen| {
            (
                seen.header("authorization"),
                seen.header("proxy-authorization"),
                seen.header("cookie"),
                seen.header("x-kept"),
            )
        })
        .collect();
    let basic = "Basic dXNlcjpwYXNz";
    assert_eq!(
        got,
        [
            (basic, "p", "own=1; inline=1", "1"),
            (basic, "p", "own=1; inline=1; jar=home", "1"),
            ("", "", "", "1"),
            ("", "", "jar=home", "1"),
        ]
    );
}

#[test]
fn a_host_header_and_a_port_belong_to_their_origin() {
    let other = Server::new(|_, _| ok("end"));
    let location = format!("Location: {}\r\n", other.url("/"));
    let server = Server::new(move |_, _| reply(302, &location, ""));
    let arguments =
        ["-L", "-H", "Host: virtual.example", "-H", "Authorization: secret", &server.url("/")];
    assert_outcome(&fetch(&arguments), 0, "end");
    assert_eq!(server.seen()[0].all("host"), ["virtual.example"]);
    assert_eq!(other.seen()[0].all("host"), [other.address.to_string()]);
    assert_eq!(other.seen()[0].all("authorization"), [""; 0]);
}

#[test]
fn userinfo_in_a_location_is_for_its_origin() {
    let other = Server::new(|seen, _| match seen.target.as_str() {
        "/" => reply(302, "Location: /end\r\n", ""),
        _ => ok("end"),
    });
    let location = format!("Location: http://u:p@{}/\r\n", other.address);
    let server = Server::new(move |_, _| reply(302, &location, ""));
    assert_outcome(&fetch(&["-L", &server.url("/")]), 0, "end");
    let sent: Vec<_> = other
        .seen()
        .iter()
        .map(|seen| (seen.target.clone(), seen.header("authorization").to_owned()))
        .collect();
    assert_eq!(sent, [("/".into(), "Basic dTpw".into()), ("/end".into(), "Basic dTpw".to_owned())]);
}

#[test]
fn a_redirect_that_leads_nowhere_is_an_error() {
    for location in ["http://h:99999/?SECRET", "http://", "http://[::1/"] {
        let server =
            Server::new(move |_, _| reply(302, &format!("Location: {location}\r\n"), "moved"));
        let outcome = fetch(&["-L", &server.url("/")]);
        assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert!(
            outcome.stderr.contains("cannot follow") && !outcome.stderr.contains("SECRET"),
            "{outcome:?}"
        );
    }
}

#[test]
fn a_redirect_out_of_http_is_an_error() {
    let server =
        Server::new(|_, _| reply(302, "Location: ftp://user:SECRET@127.0.0.1/?SECRET\r\n", ""));
    let outcome = fetch(&["-L", "-v", &server.url("/")]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
    assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
}

// The log.

#[test]
fn verbose_logs_a_line_for_each_attempt_and_no_secret() {
    let server = Server::new(|seen, number| match (seen.target.as_str(), number) {
        (_, 0) => {
            reply(503, "Set-Cookie: SECRET=SECRET; Domain=example.com\r\nX-A: SECRET\r\n", "SECRET")
        }
        ("/a?SECRET", _) => reply(302, "Location: /b?SECRET\r\n", "SECRET"),
        _ => ok("done"),
    });
    let refused = closed_address();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, "127.0.0.1\tFALSE\t/\tFALSE\t0\tSECRET\tSECRET\n").unwrap();
    let outcome = fetch(&[
        "-v",
        "-L",
        "--retry",
        "1",
        "--retry-delay",
        "0.01",
        "-b",
        path.to_str().unwrap(),
        "-H",
        "X-Key: SECRET",
        &format!("http://SECRET:SECRET@{}/a?SECRET#SECRET", server.address),
        &format!("http://SECRET@{refused}/c?SECRET"),
    ]);
    assert_eq!((outcome.status, outcome.stdout.as_str()), (7, "done"), "{outcome:?}");
    let stderr = outcome.stderr.replace("cookie SECRET", "");
    assert!(!stderr.contains("SECRET") && !stderr.contains("U0VDUkVU"), "{stderr}");
    let (a, b, c) = (server.url("/a"), server.url("/b"), format!("http://{refused}/c"));
    for (url, words) in [
        (&a, vec!["503", "10 ms"]),
        (&a, vec!["302"]),
        (&b, vec!["200"]),
        (&c, vec!["connect", "10 ms"]),
    ] {
        let hits = stderr
            .lines()
            .filter(|line| line.contains(&format!("GET {url}")))
            .filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(hits.count(), 1, "{url} {words:?}:\n{stderr}");
    }
    // Five attempts, one refused cookie, one error.
    assert_eq!(stderr.lines().count(), 7, "{stderr}");
}

#[test]
fn verbose_names_a_refused_cookie_and_why() {
    let server =
        Server::new(|_, _| reply(200, "Set-Cookie: evil=SECRET; Domain=example.com\r\n", ""));
    let outcome = fetch(&["-v", &server.url("/")]);
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.contains("evil"))
        .unwrap_or_else(|| panic!("{outcome:?}"));
    assert!(line.contains("cookie") && !outcome.stderr.contains("SECRET"), "{line}");
}

#[test]
fn errors_show_no_secret() {
    let server = Server::new(|_, _| Reply::Close(b"SECRET\r\n\r\n".to_vec()));
    let refused = closed_address();
    let outcome = fetch(&[
        "-H",
        "X: SECRET",
        "-b",
        "SECRET=SECRET",
        &format!("http://u:SECRET@{}/?SECRET", server.address),
        &format!("http://SECRET@{refused}/p?SECRET"),
    ]);
    assert_eq!(outcome.status, 8, "{outcome:?}");
    assert!(!outcome.stderr.contains("SECRET"), "{outcome:?}");
    let last = outcome.stderr.lines().last().unwrap();
    assert!(
        last.starts_with(&format!("fetch: http://{refused}/p: ")) && last.contains("refused"),
        "{last}"
    );
}

// TLS.

struct Certificate {
    config: Arc<rustls::ServerConfig>,
    pem: String,
}

fn certificate(name: &str) -> Certificate {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate and its key");
    Certificate { config: Arc::new(config), pem: made.cert.pem() }
}

#[test]
fn tls_trusts_cacert_and_checks_the_name_behind_resolve() {
    let certificate = certificate("secure.example");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    fs::write(&path, &certificate.pem).unwrap();
    let pem = path.to_str().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let server =
        Server::on(listener, Some(certificate.config), |seen, _| match seen.target.as_str() {
            "/set" => reply(200, "Set-Cookie: __Host-id=1; Secure; Path=/\r\n", ""),
            _ => ok(seen.header("cookie")),
        });
    let port = server.port();
    let [right, wrong] =
        ["secure.example", "other.example"].map(|host| format!("{host}:{port}:127.0.0.1"));
    let [set, get] = ["set", ""].map(|path| format!("https://Secure.example:{port}/{path}"));
    let other = format!("https://other.example:{port}/");

    assert_outcome(&fetch(&["--cacert", pem, "--resolve", &right, &set, &get]), 0, "__Host-id=1");
    let outcome = fetch(&["--resolve", &right, &get]);
    assert_outcome(&outcome, 60, "");
    assert!(outcome.stderr.contains("certificate"), "{outcome:?}");
    let outcome = fetch(&[
        "--retry",
        "3",
        "--retry-delay",
        "60",
        "--cacert",
        pem,
        "--resolve",
        &wrong,
        &other,
    ]);
    assert_outcome(&outcome, 60, "");
    // Plain HTTP where TLS is spoken, and the other way round.
    assert_ne!(fetch(&[&server.url("/")]).status, 0);
    let plain = Server::new(|_, _| ok(""));
    assert_outcome(&fetch(&[&format!("https://{}/", plain.address)]), 35, "");
}

#[test]
fn resolve_is_for_one_host_and_port() {
    let server = Server::new(|seen, _| ok(seen.header("host")));
    let port = server.port();
    let arguments = [
        "--resolve",
        &format!("Made-Up.example:{port}:127.0.0.1"),
        &format!("http://made-up.EXAMPLE:{port}/"),
    ];
    assert_outcome(&fetch(&arguments), 0, &format!("made-up.example:{port}"));
    // An entry for another port does not count: then this address is asked itself, and nobody is
    // there.
    let refused = closed_address();
    assert!(matches!(refused.ip(), IpAddr::V4(_)));
    let arguments =
        ["--resolve", &format!("{}:{port}:127.0.0.1", refused.ip()), &format!("http://{refused}/")];
    assert_outcome(&fetch(&arguments), 7, "");
}
