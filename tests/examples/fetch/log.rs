//! The output of `-v`, and errors.

use std::fs;

use super::*;

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
