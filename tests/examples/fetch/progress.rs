//! The progress bar, which only a terminal shows.

use std::{
    env,
    io::{BufReader, Read, Write},
    process::{Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
};

use super::*;

/// Runs it on a terminal of its own; `None` if the system has no program that makes one.
fn on_a_terminal(arguments: &[&str]) -> Option<std::process::Child> {
    let program = program("fetch");
    let line = [&[program.to_str().unwrap()], arguments].concat().join(" ");
    let child = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    if child.is_err() {
        assert!(env::var_os("CI").is_none(), "util-linux's `script` is not installed");
        eprintln!("skipped: util-linux's `script` is not installed");
    }
    child.ok()
}

#[test]
fn a_transfer_of_more_than_two_seconds_has_a_bar_on_a_terminal() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        request(&mut BufReader::new(&socket)).expect("a request");
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n").unwrap();
        socket.write_all(&[b'x'; 1024]).unwrap();
        // The rest comes once the bar was seen.
        released.lock().unwrap().recv().unwrap();
        socket.write_all(&[b'x'; 3072]).unwrap();
    });
    let Some(mut child) = on_a_terminal(&["-o", "/dev/null", &url]) else { return };
    let mut shown = Vec::new();
    let mut stdout = child.stdout.take().unwrap();
    let is_bar = |shown: &[u8]| String::from_utf8_lossy(shown).contains("1.00 KiB of 4.00 KiB");
    while !is_bar(&shown) {
        let mut bytes = [0; 1024];
        let read = stdout.read(&mut bytes).unwrap();
        assert!(read > 0, "no bar: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&bytes[..read]);
    }
    release.send(()).unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    assert!(child.wait().unwrap().success());
    let text = String::from_utf8_lossy(&shown);
    assert!(text.trim_end().ends_with("\u{1b}[2K"), "it is cleared at the end: {text:?}");
}

#[test]
fn a_short_transfer_has_no_bar() {
    let server = Server::new(|_, _| ok("body"));
    let Some(child) = on_a_terminal(&["-o", "/dev/null", &server.url("/")]) else { return };
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
}
