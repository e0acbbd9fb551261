//! The request that the arguments make.

use std::{fs, io::Write, process::Stdio};

use super::*;
use crate::rows;

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
    rows::hold(rows, |(arguments, method, content_type, body)| {
        let server = Server::new(|_, _| ok("ok"));
        let mut child =
            command(arguments).arg(server.url("/")).stdin(Stdio::piped()).spawn().unwrap();
        // It need not be read.
        let _ = child.stdin.take().unwrap().write_all(b"from\nstdin");
        let outcome = finish(child);
        let seen = server.seen().pop().unwrap_or_default();
        let types: Vec<_> = seen.all("content-type").into_iter().map(str::to_owned).collect();
        let got = (outcome.status, seen.method, types, seen.body);
        let want = (0, (*method).to_owned(), vec![(*content_type).to_owned()], body.to_vec());
        (format!("{arguments:?}"), got, want)
    });
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

/// As curl does: `-H` before `-u` before the URL.
#[test]
fn user_and_password_apart_from_the_url_replace_those_in_it() {
    let server = Server::new(|_, _| ok(""));
    let plain = format!("http://{}/", server.address);
    let with_userinfo = format!("http://url:pw@{}/", server.address);
    let own = ["-u", "opt:pw", "-H", "Authorization: mine"];
    let rows: [(&[&str], &str, &str); 7] = [
        (&["-u", "opt:pw"], &plain, "Basic b3B0OnB3"),
        (&["-u", "opt:p:w%20"], &plain, "Basic b3B0OnA6dyUyMA=="),
        (&["-u", "opt:"], &plain, "Basic b3B0Og=="),
        (&["-u", ":"], &plain, "Basic Og=="),
        (&["-u", "a:b", "-u", "c:d"], &plain, "Basic Yzpk"),
        (&["-u", "opt:pw"], &with_userinfo, "Basic b3B0OnB3"),
        (&own, &with_userinfo, "mine"),
    ];
    rows::hold(rows, |(arguments, url, want)| {
        assert_outcome(&fetch(&[arguments, &[url]].concat()), 0, "");
        let got = server.seen().pop().unwrap().all("authorization").join(", ");
        (format!("{arguments:?} {url}"), got, want)
    });
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
        &["--retry-delay", "1e19", good],
        &["--retry-delay", "68719477", good],
        &["--retry-max-time", "1e19", good],
        &["--max-time", "1e19", good],
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
        &["-u", "SECRET", good],
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
        &[good, "http://127.0.0.1/?SECRET space"],
        &[good, "http://\\SECRET/"],
        &[good, "http://xn--/?SECRET"],
        &[good, "http://a\u{2260}\u{338}%00b/?SECRET"],
        &[good, "http://[fe80::1%25SECRET"],
        &[good, "http://[fe80::1%]/?SECRET"],
        &[good, "http://[fe80::1%25a/b]/?SECRET"],
        &[good, "http://[fe80::1%25SECRET]/", "http://[fe80::1%25other]/"],
    ];
    rows::hold(rows, |arguments| {
        let outcome = fetch(arguments);
        let one_line = outcome.stderr.starts_with("fetch: ") && outcome.stderr.lines().count() == 1;
        let told = outcome.stderr.contains("SECRET");
        let got = (outcome.status, outcome.stdout.as_str(), one_line, told);
        (format!("{arguments:?}: {outcome:?}"), got == (2, "", true, false), true)
    });
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
fn help_is_no_error_and_has_the_table_of_the_page() {
    let outcome = fetch(&["--help"]);
    assert_eq!((outcome.status, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains("--retry-max-time"), "{}", outcome.stdout);
    let page = include_str!("../../../examples/fetch/README.md");
    let table: Vec<_> = page.lines().filter(|line| line.starts_with('|')).collect();
    assert!(table.len() > 20 && outcome.stdout.ends_with(&format!("{}\n", table.join("\n"))));
}
