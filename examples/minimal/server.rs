//! A server that is busy at first, then sets a cookie at `/login` and reads it elsewhere.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

/// True until the first request was refused.
static BUSY: AtomicBool = AtomicBool::new(true);

/// Starts the server and returns its URL. The server ends with the program.
pub(crate) fn start() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let base = format!("http://localhost:{}", listener.local_addr()?.port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| serve(stream));
        }
    });
    Ok(base)
}

fn serve(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            head.push_str(&line.to_ascii_lowercase());
        }
        let (status, headers, body) = if BUSY.swap(false, Ordering::Relaxed) {
            ("503 Service Unavailable", "", "busy")
        } else if head.starts_with("get /login ") {
            ("200 OK", "set-cookie: user_id=1; httponly\r\n", "hello")
        } else if head.contains("\r\ncookie: user_id=1\r\n") {
            ("200 OK", "", "it is you again")
        } else {
            ("401 Unauthorized", "", "who are you?")
        };
        let length = body.len();
        write!(
            stream.get_mut(),
            "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\n\r\n{body}"
        )?;
    }
}
