//! `examples/session` as `docs/story.md` shows it: the built program, against its own server and
//! against another one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    thread,
};

use crate::program::program;

const STORY: &str = include_str!("../../docs/story.md");

/// What it prints.
fn session(arguments: &[&str]) -> String {
    let output =
        Command::new(program("session")).args(arguments).output().expect("the program runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The text without what differs from run to run: the port and the measured times.
fn normal(text: &str) -> String {
    let mut normal = text.to_owned();
    for before in ["localhost:", "elapsed_ms=", " Error after "] {
        let mut parts = normal.split(before);
        let mut line = parts.next().unwrap().to_owned();
        for part in parts {
            let rest = part.trim_start_matches(|c: char| c.is_alphanumeric() || c == '.');
            line.push_str(&format!("{before}_{rest}"));
        }
        normal = line;
    }
    normal
}

#[test]
fn the_story_shows_what_the_example_prints() {
    let (_, rest) = STORY.split_once("```text\nagainst a server of its own").expect("the story");
    let (story, _) = rest.split_once("```").expect("its end");
    let (shown, printed) =
        (normal(&format!("against a server of its own{story}")), normal(&session(&[])));
    let lines = shown.lines().zip(printed.lines());
    let differ: Vec<_> = lines.filter(|(shown, printed)| shown != printed).collect();
    assert!(differ.is_empty(), "story and program: {differ:#?}");
    assert_eq!(shown, printed);
}

/// Serves only `/protected`, and answers 404 to everything else.
fn serve(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut target, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if target.is_empty() {
                target = line;
            } else if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.parse().unwrap();
            } else if line.is_empty() {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        let status = if target.contains(" /protected ") { "200 OK" } else { "404 Not Found" };
        write!(stream.get_mut(), "HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nbody").unwrap();
    }
}

#[test]
fn a_step_whose_endpoint_answers_404_is_skipped() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(|| serve(stream));
        }
    });
    let printed = session(&[&base]);
    let steps: Vec<_> = printed
        .lines()
        .filter_map(|line| {
            let skipped = line.strip_prefix("  skipped: ").map(|_| "skipped");
            line.strip_prefix("# ").or(skipped).or_else(|| line.strip_prefix("  status   "))
        })
        .collect();
    let wanted = [
        "a cookie for one request only, without the session's jar",
        "skipped",
        "log in as \"name\"",
        "skipped",
        "and ask for the protected page",
        "200 OK",
        "log in as \"some_name\"",
        "skipped",
        "and ask for the protected page",
        "200 OK",
        "a flaky endpoint, retried by the policy of its mount",
        "skipped",
        "an endpoint that is down; this request has a policy that makes it an error",
        "skipped",
        "the same endpoint through its own mount, which has no retries",
        "skipped",
        "the jar on disk, and a second session that loads it",
        "200 OK",
    ];
    assert_eq!(steps, wanted, "{printed}");
    assert!(printed.ends_with("\n9 requests, over 1 connection(s)\n"), "{printed}");
}
