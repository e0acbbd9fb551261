//! How a URL is read: which host gets which request.

use std::net::{Ipv6Addr, TcpListener};

use super::*;
use crate::rows;

/// As curl does, except for the rows that say otherwise.
#[test]
fn a_path_is_sent_without_its_dot_segments() {
    let rows = [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/../", "/a/"),
        ("/../../x", "/x"),
        ("/a//../b", "/a/b"),
        ("/.", "/"),
        ("", "/"),
        ("?x=../y", "/?x=../y"),
        ("/a/..?q=/../z", "/?q=/../z"),
        ("/x#/../y", "/x"),
        ("/\u{e9}", "/%C3%A9"),
        ("/%zz", "/%zz"),
        ("/a%2Fb", "/a%2Fb"),
        // As browsers do: curl sends them as they are.
        ("/a/%2e%2E/b", "/b"),
        ("/a\\b", "/a/b"),
    ];
    let server = Server::new(|seen, _| match seen.target.strip_prefix("/redirect") {
        // Of the first one, so that the second must be spelled as it was.
        Some(_) => reply(302, "Location: ../x\r\n", ""),
        None => ok(""),
    });
    rows::hold(rows, |(path, target)| {
        assert_outcome(&fetch(&[&format!("http://{}{path}", server.address)]), 0, "");
        (path, server.seen().pop().unwrap().target, target)
    });
    assert_outcome(&fetch(&["-L", &server.url("/redirect/./a/../b/c")]), 0, "");
    let targets = server.targets();
    let last = ["GET /redirect/b/c", "GET /redirect/x", "GET /x"];
    assert_eq!(targets[targets.len() - 3..], last);
}

#[test]
fn a_host_beyond_ascii_is_asked_by_its_ascii_name() {
    let rows = [
        ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ("B\u{dc}CHER.example", "xn--bcher-kva.example"),
        ("fa\u{df}.example", "xn--fa-hia.example"),
        ("\u{2603}.example", "xn--n3h.example"),
        ("a\u{3002}example", "a.example"),
        ("XN--BCHER-kva.example", "xn--bcher-kva.example"),
    ];
    let server = Server::new(|seen, _| match seen.target.as_str() {
        "/set" => reply(200, "Set-Cookie: id=1\r\n", ""),
        _ => ok(seen.header("cookie")),
    });
    let port = server.port();
    rows::hold(rows, |(host, name)| {
        // --resolve too may name it either way.
        for resolved in [host, name] {
            let resolve = format!("{resolved}:{port}:127.0.0.1");
            let [set, get] = ["set", ""].map(|path| format!("http://{host}:{port}/{path}"));
            assert_outcome(&fetch(&["--resolve", &resolve, &set, &get]), 0, "id=1");
        }
        let got = server.seen().pop().unwrap().header("host").to_owned();
        (host, got, format!("{name}:{port}"))
    });
    let away = format!("Location: http://b\u{fc}cher.example:{port}/\u{fc}\r\n");
    let first = Server::new(move |_, _| reply(302, &away, ""));
    let resolve = format!("xn--bcher-kva.example:{port}:127.0.0.1");
    assert_outcome(&fetch(&["-L", "--resolve", &resolve, &first.url("/")]), 0, "");
    assert_eq!(server.targets().pop().unwrap(), "GET /%C3%BC");
}

#[test]
fn a_zone_of_an_ipv6_address_is_for_the_connection_alone() {
    let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
        eprintln!("skipped: no IPv6 on this machine");
        return;
    };
    let server = Server::on(listener, None, |seen, _| match seen.target.as_str() {
        "/" => reply(302, "Location: /next\r\nSet-Cookie: id=1\r\n", ""),
        _ => ok(seen.header("cookie")),
    });
    let port = server.port();
    // A number is a zone on any machine, a name only if there is such an interface.
    rows::hold(["", "%251", "%1"], |zone| {
        let outcome = fetch(&["-L", &format!("http://[::1{zone}]:{port}/")]);
        assert_outcome(&outcome, 0, "id=1");
        let hosts: Vec<_> =
            server.seen().iter().rev().take(2).map(|seen| seen.header("host").to_owned()).collect();
        (zone, hosts, vec![format!("[::1]:{port}"); 2])
    });
    let outcome = fetch(&[&format!("http://[fe80::1%25none0]:{port}/")]);
    assert_outcome(&outcome, 6, "");
}
