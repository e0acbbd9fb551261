//! Redirects, and what is sent to their targets.

use super::*;
use crate::rows;

#[test]
fn a_redirect_sends_the_body_again_or_turns_post_into_get() {
    let rows = [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")];
    rows::hold(rows, |(status, method)| {
        let server = Server::new(move |seen, _| match seen.target.as_str() {
            "/" => reply(status, "Location: /end?q=1#fragment\r\n", ""),
            _ => ok("done"),
        });
        let outcome = fetch(&["-L", "-d", "a=1", &server.url("/")]);
        let seen = server.seen().pop().unwrap();
        let body = if method == "POST" { "a=1" } else { "" };
        let typed = !seen.all("content-type").is_empty();
        let got = (outcome.stdout, seen.method, seen.target, seen.body, typed);
        let want = ["done", method, "/end?q=1"].map(str::to_owned);
        let [stdout, sent, target] = want;
        (status, got, (stdout, sent, target, body.as_bytes().to_vec(), method == "POST"))
    });
}

#[test]
fn an_empty_location_is_no_redirect_and_a_post_is_not_repeated_at_its_own_url() {
    // Status, Location; the exit status, what is printed, how often the server was asked.
    let rows: [(u16, &str, &[&str], i32, &str, usize); 4] = [
        (302, "", &[], 0, "first", 1),
        (307, "", &["-d", "a=1"], 0, "first", 1),
        (302, "/", &[], 0, "second", 2),
        (307, "/", &["-d", "a=1"], 1, "", 1),
    ];
    rows::hold(rows, |(status, location, arguments, exit, printed, requests)| {
        let server = Server::new(move |_, number| match number {
            0 => reply(status, &format!("Location: {location}\r\n"), "first"),
            _ => ok("second"),
        });
        let outcome = fetch(&[&["-L"], arguments, &[&server.url("/")]].concat());
        let got = (outcome.status, outcome.stdout, server.seen().len());
        (format!("{status} {location:?}"), got, (exit, printed.to_owned(), requests))
    });
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

/// curl 7.88 follows the first of its lines only.
#[test]
fn a_folded_location_is_followed() {
    let rows = [("\r\n /next", "/next"), (" /ne\r\n xt", "/ne%20xt"), (" /next\r\n ", "/next")];
    rows::hold(rows, |(location, target)| {
        let server = Server::new(move |_, number| match number {
            0 => reply(302, &format!("Location:{location}\r\n"), ""),
            _ => ok("end"),
        });
        assert_outcome(&fetch(&["-L", &server.url("/")]), 0, "end");
        (format!("{location:?}"), server.seen()[1].target.clone(), target)
    });
}

/// What curl does, unless a row says otherwise. The server is asked as 127.0.0.1; `away` is the
/// same server as localhost.
#[test]
fn credentials_of_a_location_replace_those_of_a_url_and_none_of_the_users_own() {
    const OLD: &str = "Basic b2xkOnB3";
    const NEW: &str = "Basic bmV3OnB3";
    let own = ["-u", "old:pw"];
    let header = ["-H", "Authorization: mine"];
    let trusted = ["--location-trusted", "-u", "old:pw"];
    let trusted_header = ["--location-trusted", "-H", "Authorization: mine"];
    // Flags, userinfo of the URL; the Location's host and userinfo; what the second and the third
    // request send, where the third is one more hop within the second's origin.
    let rows: [(&[&str], &str, &str, [&str; 2]); 14] = [
        (&[], "old:pw@", "new:pw@home", [NEW, NEW]),
        (&[], "old:pw@", "home", [OLD, OLD]),
        (&[], "old:pw@", "@home", [OLD, OLD]),
        (&[], "", "new:pw@home", [NEW, NEW]),
        // curl keeps the first password for it.
        (&[], "old:pw@", "new@home", ["Basic bmV3Og=="; 2]),
        (&own, "", "new:pw@home", [OLD, OLD]),
        (&own, "url:pw@", "home", [OLD, OLD]),
        (&header, "", "new:pw@home", ["mine", "mine"]),
        (&own, "", "away", ["", ""]),
        // curl sends none of both.
        (&own, "", "new:pw@away", [NEW, NEW]),
        (&trusted, "", "away", [OLD, OLD]),
        (&trusted_header, "", "new:pw@away", ["mine", "mine"]),
        (&["--location-trusted"], "old:pw@", "away", [OLD, OLD]),
        (&["--location-trusted"], "old:pw@", "new:pw@away", [NEW, NEW]),
    ];
    rows::hold(rows, |(flags, userinfo, location, want)| {
        let server = Server::new(move |seen, number| {
            let port = seen.header("host").rsplit(':').next().unwrap().to_owned();
            let location = location
                .replace("home", &format!("127.0.0.1:{port}"))
                .replace("away", &format!("localhost:{port}"));
            match number {
                0 => reply(302, &format!("Location: http://{location}/n\r\n"), ""),
                1 => reply(302, "Location: /m\r\n", ""),
                _ => ok("end"),
            }
        });
        let resolve = format!("localhost:{}:127.0.0.1", server.port());
        let url = format!("http://{userinfo}{}/", server.address);
        let outcome = fetch(&[&["-L", "--resolve", &resolve], flags, &[&url]].concat());
        assert_outcome(&outcome, 0, "end");
        let seen = server.seen();
        let got = [1, 2].map(|number| seen[number].header("authorization"));
        (
            format!("{flags:?} {userinfo} {location}"),
            got.map(str::to_owned),
            want.map(str::to_owned),
        )
    });
}

#[test]
fn trusted_hosts_get_cookies_and_authorization_but_no_host_header() {
    let other = Server::new(|_, _| ok("end"));
    let location = format!("Location: {}\r\n", other.url("/"));
    let server = Server::new(move |_, _| reply(302, &location, ""));
    let arguments = [
        "--location-trusted",
        "-H",
        "Host: virtual.example",
        "-H",
        "Cookie: own=1",
        "-H",
        "Proxy-Authorization: p",
        "-b",
        "inline=1",
        "-u",
        "u:p",
        &server.url("/"),
    ];
    assert_outcome(&fetch(&arguments), 0, "end");
    let seen = &other.seen()[0];
    let names = ["host", "cookie", "proxy-authorization", "authorization"];
    let address = other.address.to_string();
    assert_eq!(
        names.map(|name| seen.all(name).join(", ")),
        [&address, "own=1; inline=1", "p", "Basic dTpw"]
    );
}

/// As curl does, except that a method of `-X` is not kept where these flags do not keep it.
#[test]
fn post301_and_its_kin_keep_method_data_and_type() {
    let (put, post) = ("PUT x=1 typed", "POST x=1 typed");
    let get = "GET";
    let rows: [(&[&str], &[u16], &[&str]); 14] = [
        (&["--post301"], &[301], &[post]),
        (&["--post302"], &[301], &[get]),
        (&["--post303"], &[301], &[get]),
        (&["--post302"], &[302], &[post]),
        (&["--post301"], &[302], &[get]),
        (&["--post303"], &[303], &[post]),
        (&["--post302"], &[303], &[get]),
        (&["--post301"], &[301, 302, 307], &[post, get, get]),
        (&["--post301"], &[302, 301], &[get, get]),
        (&["--post301", "--post302"], &[301, 307, 301, 302], &[post; 4]),
        (&["--post303"], &[303, 301, 307], &[post, get, get]),
        (&["-X", "PUT", "--post303"], &[303, 302, 303], &[put; 3]),
        (&["-X", "PUT"], &[301, 303], &[put, get]),
        (&["-X", "PUT", "--post301"], &[303], &[get]),
    ];
    rows::hold(rows, |(flags, statuses, want)| {
        let server = Server::new(move |_, number| match statuses.get(number) {
            Some(&status) => reply(status, &format!("Location: /{number}\r\n"), ""),
            None => ok("end"),
        });
        let outcome = fetch(&[&["-L", "-d", "x=1"], flags, &[&server.url("/")]].concat());
        assert_outcome(&outcome, 0, "end");
        let got: Vec<_> = server.seen()[1..]
            .iter()
            .map(|seen| {
                let typed = if seen.all("content-type").len() == 1 { " typed" } else { "" };
                let body = String::from_utf8_lossy(&seen.body);
                format!("{} {body}{typed}", seen.method).trim_end().to_owned()
            })
            .collect();
        (format!("{flags:?} {statuses:?}"), got, want.to_vec())
    });
    // They follow nothing by themselves; what is trusted is followed.
    for (flag, requests) in [("--post302", 1), ("--location-trusted", 2)] {
        let server = Server::new(|_, number| match number {
            0 => reply(302, "Location: /end\r\n", "moved"),
            _ => ok("moved"),
        });
        assert_outcome(&fetch(&[flag, &server.url("/")]), 0, "moved");
        assert_eq!(server.seen().len(), requests, "{flag}");
    }
}

#[test]
fn a_post_that_is_kept_is_not_repeated_at_its_own_url() {
    for (flag, status) in [("--post301", 301), ("--post302", 302), ("--post303", 303)] {
        let server = Server::new(move |_, _| reply(status, "Location: /\r\n", "moved"));
        let outcome = fetch(&["-L", flag, "-d", "x=1", &server.url("/")]);
        assert_outcome(&outcome, 1, "");
        assert_eq!(server.seen().len(), 1, "{flag}");
    }
}
