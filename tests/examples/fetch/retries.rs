//! Which failures are retried, and for how long.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::{pairs::pairs, rows};

#[test]
fn six_statuses_are_retried_and_the_last_response_is_the_output() {
    let statuses = [400, 401, 404, 408, 413, 418, 425, 429, 500, 501, 502, 503, 504, 505, 599];
    rows::hold(statuses, |status| {
        let headers = if status == 413 { "Retry-After: 1\r\n" } else { "" };
        let server = Server::new(move |_, number| reply(status, headers, &number.to_string()));
        let outcome = fetch(&["--retry", "2", "--retry-delay", "0.01", &server.url("/")]);
        let retried = [408, 429, 500, 502, 503, 504].contains(&status);
        let (attempts, body) = if retried { (3, "2") } else { (1, "0") };
        let name = format!("{status}: {outcome:?}");
        (
            name,
            (outcome.status, outcome.stdout, server.seen().len()),
            (0, body.to_owned(), attempts),
        )
    });
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
    let methods =
        [("GET", true), ("PUT", true), ("DELETE", true), ("POST", false), ("PATCH", false)];
    let cases: [(&str, Answer); 3] = [
        ("reset", || Reply::Reset),
        ("empty reply", || Reply::Close(Vec::new())),
        ("503", || reply(503, "", "busy")),
    ];
    rows::hold(pairs(methods, cases), |((method, retried), (case, failure))| {
        let server = Server::new(move |_, number| if number == 0 { failure() } else { ok("done") });
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
        (format!("{method}, {case}"), bodies, vec![b"x=1".to_vec(); if retried { 2 } else { 1 }])
    });
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

/// The longest that a timer can wait is the longest that can be asked for. What is longer is bad
/// usage.
#[test]
fn absurd_times_are_no_panic() {
    let server =
        Server::new(|_, number| if number % 2 == 0 { reply(500, "", "") } else { ok("done") });
    for time in ["0", "1e-9", "68719476"] {
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
    // A wait of two years is cut by --max-time.
    let arguments =
        ["--retry", "1", "--retry-delay", "68719476", "--max-time", "0.3", &server.url("/")];
    assert_outcome(&fetch(&arguments), 28, "");
}

#[test]
fn with_all_errors_any_failure_before_the_response_is_retried() {
    let failures: [(&str, Answer, i32); 3] = [
        ("reset", || Reply::Reset, 56),
        ("not HTTP", || Reply::Close(b"SSH-2.0\r\n\r\n".to_vec()), 8),
        ("503", || reply(503, "", "busy"), 0),
    ];
    let flags: [(&[&str], usize); 3] = [
        (&["--retry-connrefused"], 1),
        (&["--retry-all-errors"], 2),
        (&["--retry-all-errors", "--retry-connrefused"], 2),
    ];
    rows::hold(pairs(failures, flags), |((what, failure, exit), (flags, attempts))| {
        let server = Server::new(move |_, number| if number == 0 { failure() } else { ok("done") });
        let url = server.url("/");
        let arguments = ["--retry", "2", "--retry-delay", "0.01", "-d", "x=1", &url];
        let outcome = fetch(&[flags, &arguments].concat());
        let exit = if attempts == 1 { exit } else { 0 };
        (
            format!("{what}, {flags:?}: {outcome:?}"),
            (outcome.status, server.seen().len()),
            (exit, attempts),
        )
    });
    // Not after the body has begun, because two bodies would follow one another.
    let cut = || Reply::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec());
    let server = Server::new(move |_, _| cut());
    let arguments = ["--retry", "2", "--retry-all-errors", "--retry-delay", "0.01"];
    assert_outcome(&fetch(&[&arguments[..], &[&server.url("/")]].concat()), 18, "abc");
    assert_eq!(server.seen().len(), 1);
}
