//! Where the response is written, and the exit status.

use std::{
    fs,
    io::{BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, mpsc},
    thread,
};

use super::*;
use crate::rows;

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
    rows::hold(rows, |(what, bytes, status, stdout)| {
        let server = Server::new(move |_, _| Reply::Close(bytes.to_vec()));
        let outcome = fetch(&[&server.url("/")]);
        let lines = outcome.stderr.lines().count();
        let got = (outcome.status, outcome.stdout.clone(), lines);
        (format!("{what}: {outcome:?}"), got, (status, stdout.to_owned(), usize::from(status != 0)))
    });
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
