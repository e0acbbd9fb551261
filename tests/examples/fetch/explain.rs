//! `--explain`: why a cookie is sent or not.

use std::fs;

use super::*;
use crate::rows;

#[test]
fn explain_says_of_each_cookie_what_becomes_of_it_and_sends_nothing() {
    const FILE: &str = ".example.com\tTRUE\t/\tFALSE\t4102444800\tid\tSECRET\n\
        www.example.com\tFALSE\t/shop\tFALSE\t0\tcart\tSECRET\n\
        .example.com\tTRUE\t/\tTRUE\t0\tsecure\tSECRET\n\
        api.example.com\tFALSE\t/\tFALSE\t0\tapi\tSECRET\n\
        other.test\tFALSE\t/\tFALSE\t0\tother\tSECRET\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    fs::write(&path, FILE).unwrap();
    let file = path.to_str().unwrap();
    let id = "id, example.com and below, /";
    let cart = "cart, www.example.com, /shop";
    let secure = "secure, example.com and below, /";
    let api = "api, api.example.com, /";
    let other = "other, other.test, /: it is another site's";
    let not_secure = format!("{secure}: it is Secure, but the request's origin is not");
    let not_path = format!("{cart}: it belongs to another path");
    let not_host = format!("{api}: it belongs to another host");
    let own = "id, from the command line";
    let replaced = format!("{id}: the command line has a cookie of this name");
    // Arguments; the lines that are sent, and those that are not, in any order.
    let rows: [(&[&str], &str, &[&str], &[&str]); 6] = [
        (&["-b", file], "https://www.example.com/shop/1", &[cart, id, secure], &[&not_host, other]),
        (
            &["-b", file],
            "http://u:SECRET@www.example.com/?SECRET",
            &[id],
            &[&not_path, &not_secure, &not_host, other],
        ),
        (
            &["-b", file, "-b", "id=SECRET"],
            "http://www.example.com/",
            &[own],
            &[&replaced, &not_path, &not_secure, &not_host, other],
        ),
        (&["-j", "-b", file], "http://www.example.com/", &[id], &[]),
        (
            &["-b", file, "-H", "Host: www.example.com"],
            "http://127.0.0.1:1/",
            &[id],
            &[&not_path, &not_secure, &not_host, other],
        ),
        (&[], "http://www.example.com/", &["no cookies"], &[]),
    ];
    rows::hold(rows, |(arguments, url, sent, not_sent)| {
        let outcome = fetch(&[&["--explain"], arguments, &[url]].concat());
        let mut lines: Vec<_> = outcome.stdout.lines().skip(1).map(str::trim).collect();
        lines.sort_unstable();
        let fated = |fate: &'static str| move |line: &&str| format!("{fate:8}  {line}");
        let sent = sent.iter().map(fated(if *sent == ["no cookies"] { "" } else { "sent" }));
        let mut want: Vec<_> = sent.chain(not_sent.iter().map(fated("not sent"))).collect();
        let mut want: Vec<_> = want.iter_mut().map(|line| line.trim()).collect();
        want.sort_unstable();
        assert!(!outcome.stdout.contains("SECRET") && outcome.status == 0, "{outcome:?}");
        (format!("{arguments:?} {url}"), lines.join("\n"), want.join("\n"))
    });
}

#[test]
fn explain_agrees_with_what_is_sent() {
    let server = Server::new(|_, _| ok(""));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let lines = ["/ a", "/deep b", "/deep/er c", "/other d"].map(|line| {
        let (path, name) = line.split_once(' ').unwrap();
        format!("127.0.0.1\tFALSE\t{path}\tFALSE\t0\t{name}\t1\n")
    });
    fs::write(&path, lines.concat()).unwrap();
    let file = path.to_str().unwrap();
    rows::hold(["/", "/deep", "/deep/er/x", "/other/", "/deeper"], |target| {
        let url = server.url(target);
        let outcome = fetch(&["--explain", "-b", file, &url]);
        let sent = outcome.stdout.lines().filter_map(|line| line.strip_prefix("  sent      "));
        let names: Vec<_> = sent.map(|line| format!("{}=1", &line[..1])).collect();
        assert_outcome(&fetch(&["-b", file, &url]), 0, "");
        (target, names.join("; "), server.seen().pop().unwrap().header("cookie").to_owned())
    });
    assert_eq!(server.seen().len(), 5, "--explain sent none");
}
