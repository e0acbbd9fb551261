//! cookies.txt: what it keeps, what is tolerated, and what counts as damage.

use std::time::SystemTime;

use tower_outbound::cookie::{Cookie, CookieFile, CookieJar, Format, ReadError};

use crate::{
    files::{self, formats},
    jars::header,
    pairs::pairs,
    rows,
};

fn read(text: impl AsRef<[u8]>) -> Result<CookieJar, ReadError> {
    files::read(text, Format::Netscape)
}

fn written(jar: &CookieJar) -> String {
    String::from_utf8(files::written(jar, Format::Netscape)).unwrap()
}

/// What a file keeps of each cookie.
fn kept(jar: &CookieJar) -> Vec<String> {
    let seconds = |at: SystemTime| {
        at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis().div_ceil(1000)
    };
    let line = |c: Cookie| {
        let flags = (c.host_only(), c.secure(), c.http_only());
        format!(
            "{}={} {} {} {flags:?} {:?}",
            c.name(),
            c.value(),
            c.domain(),
            c.path(),
            c.expires().map(seconds)
        )
    };
    jar.iter().map(line).collect()
}

#[test]
fn a_round_trip_keeps_every_flag_and_the_order() {
    let jar = CookieJar::new();
    for (uri, line) in [
        ("https://www.example.com/a/b", "plain=1"),
        (
            "https://www.example.com/",
            "dom=2; Domain=example.com; Secure; HttpOnly; Max-Age=86400; Path=/x",
        ),
        ("https://www.example.com/", "nameless"),
        ("https://www.example.com/", "empty="),
        ("https://www.example.com/", "spaces=a  b"),
        ("https://www.example.com/", "#HttpOnly_=odd; HttpOnly"),
        ("http://127.0.0.1:8080/", "local=1; Secure; Domain=127.0.0.1"),
        ("http://[::1]/", "six=1"),
    ] {
        jar.set(&uri.parse().unwrap(), line).unwrap();
    }
    let again = read(written(&jar)).unwrap();
    assert_eq!(kept(&again), kept(&jar));
    assert_eq!(written(&again), written(&jar));
}

#[test]
fn a_damaged_line_is_skipped_or_if_strict_an_error_that_takes_nothing() {
    let rows: &[(&str, &[u8], usize)] = &[
        ("too few fields", b"# c\n\nh.example\tFALSE\t/\n", 3),
        ("no flag", b"h.example\tMAYBE\t/\tFALSE\t0\ta\t1\n", 1),
        ("no expiry", b"h.example\tFALSE\t/\tFALSE\tsoon\ta\t1\n", 1),
        ("no path", b"h.example\tFALSE\tx\tFALSE\t0\ta\t1\n", 1),
        ("no domain", b"\tFALSE\t/\tFALSE\t0\ta\t1\n", 1),
        ("a control character", b"h.example\tFALSE\t/\tFALSE\t0\ta\t1\x00\n", 1),
        ("no name and no value", b"h.example\tFALSE\t/\tFALSE\t0\t\t\n", 1),
        ("a semicolon in the value", b"h.example\tFALSE\t/\tFALSE\t0\ta\t1; b=2\n", 1),
        (
            "a pair that is too long",
            &[b"h.example\tFALSE\t/\tFALSE\t0\ta\t", &[b'x'; 4096][..]].concat(),
            1,
        ),
        (
            "a path that is too long",
            &[b"h.example\tFALSE\t/", &[b'x'; 3072][..], b"\tFALSE\t0\ta\t1"].concat(),
            1,
        ),
        ("a tab in the value", b"h.example\tFALSE\t/\tFALSE\t0\ta\t1\t2\n", 1),
        (
            "line ends of old",
            b"# Netscape HTTP Cookie File\rh.example\tFALSE\t/\tFALSE\t0\ta\t1\r",
            1,
        ),
        ("binary", b"\xff\xfe\x00\x01", 1),
    ];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    rows::hold(rows, |(row, text, want)| {
        let good = b"good.example\tFALSE\t/\tFALSE\t0\tgood\t1\n";
        std::fs::write(&path, [&good[..], text].concat()).unwrap();
        let jar = CookieJar::new();
        let strict = CookieFile::builder(&path, Format::Netscape).strict(true).jar(jar.clone());
        match strict.open() {
            Err(error) if error.line() == Some(want + 1) && jar.is_empty() => {}
            other => return Err(format!("{row}: {other:?}, {} cookies", jar.len())),
        }
        let file = CookieFile::open(&path, Format::Netscape).unwrap();
        let skipped: Vec<usize> = file.skipped().iter().map(|skipped| skipped.line).collect();
        match (file.jar().len(), skipped == [want + 1]) {
            (1, true) => Ok(()),
            (cookies, _) => Err(format!("{row}: {skipped:?}, {cookies} cookies")),
        }
    });
}

#[test]
fn odd_but_harmless_files_are_read() {
    let rows: &[(&str, &str, &str)] = &[
        ("an empty file", "", ""),
        ("carriage returns", "h.example\tFALSE\t/\tFALSE\t0\ta\t1\r\n", "a=1"),
        ("a byte-order mark", "\u{feff}# x\nh.example\tFALSE\t/\tFALSE\t0\ta\t1", "a=1"),
        ("no value field", "h.example\tFALSE\t/\tFALSE\t0\ta\n", "a="),
        ("a fraction of a second", "h.example\tFALSE\t/\tFALSE\t4102444800.5\ta\t1\n", "a=1"),
        ("expired", "h.example\tFALSE\t/\tFALSE\t1000\ta\t1\n", ""),
        ("expired before 1970", "h.example\tFALSE\t/\tFALSE\t-1000\ta\t1\n", ""),
        (
            "an expiry beyond time",
            "h.example\tFALSE\t/\tFALSE\t99999999999999999999999\ta\t1\n",
            "a=1",
        ),
        ("a public suffix", ".example\tTRUE\t/\tFALSE\t0\ta\t1\n", ""),
        ("a broken promise", "h.example\tFALSE\t/\tFALSE\t0\t__Secure-a\t1\n", ""),
    ];
    rows::hold(rows, |(row, text, want)| match read(text) {
        Ok(jar) if header(&jar, "https://h.example/") == *want => Ok(()),
        other => Err(format!("{row}: {other:?}")),
    });
}

#[test]
fn a_tab_in_a_value_keeps_others_from_no_cookie() {
    let jar = CookieJar::new();
    let uri = "https://h.example/".parse().unwrap();
    jar.set(&uri, "a=x\ty; Max-Age=99").unwrap();
    jar.set(&uri, "b=1; Max-Age=99").unwrap();
    let text = written(&jar);
    let lines: Vec<_> =
        text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
    assert!(
        lines.len() == 1 && lines[0].split('\t').count() == 7 && lines[0].ends_with("\tb\t1"),
        "{lines:?}"
    );
}

#[test]
fn a_domain_that_is_no_host_is_damage() {
    for domain in [
        "[",
        "[]",
        "]",
        "[example.com]",
        "[example.com].local",
        "[].local",
        "exa mple.com",
        "a/b",
        "a:b",
        "a:",
        ":80",
        "a:80:80",
        "u@h",
        ".",
        "..",
        "\u{e9}.com",
    ] {
        let text = format!("# Netscape HTTP Cookie File\n{domain}\tFALSE\t/\tFALSE\t0\ta\t1\n");
        assert!(matches!(read(&text), Err(ReadError::Line { line: 2, .. })), "{domain}");
    }
}

/// Each format reads a cookie of a jar back unchanged, or leaves it out. No cookie makes a file
/// that cannot be read.
#[test]
fn whatever_a_jar_holds_its_files_are_read_again() {
    let bank = "https://bank.example/";
    let long = format!("https://h.example/{}/x", "\u{e9}".repeat(400));
    let rows: &[(&str, &[u8])] = &[
        ("https://shop.example/app;v=1/start", b"id=1"),
        ("https://shop.example/app,x:y@z/start", b"id=1"),
        ("https://[fe80::1%25eth0]/", b"zone=1"),
        ("https://[v1.x]/", b"future=1"),
        ("https://[example.com]/", b"sid=evil"),
        ("https://example.com[]/", b"sid=evil"),
        ("https://[]example.com/", b"sid=evil"),
        ("https://a,b.com/", b"comma=1"),
        ("https://a;b.com/", b"semicolon=1"),
        ("https://*.example/", b"star=1"),
        ("https://a%2fb.example/", b"percent=1"),
        ("http://[::1]:80/", b"ip6=1"),
        ("http://10.0.0.1/", b"ip4=1"),
        ("https://h.example/", b"tab=a\tb"),
        ("https://h.example/", b"space=a b"),
        ("https://h.example/", b"bytes=\xe9\xff"),
        ("https://h.example/", b"path=1; Path=/a\xff\xff"),
        ("https://h.example/", b"path=1; Path=/a\tb"),
        ("https://h.example/", "nbsp=a\u{a0}".as_bytes()),
        (&long, b"long=1"),
        ("https://h.example/", b"nameless"),
        ("https://h.example/", b"=a=b"),
        ("https://h.example/", b"#hash=1"),
        ("https://h.example/", b"#HttpOnly_x=1"),
    ];
    rows::hold(pairs(formats(), rows), |(format, (from, line))| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jar");
        let file = CookieFile::open(&path, format).unwrap();
        file.jar().set(&bank.parse().unwrap(), "sid=42; Max-Age=3600").unwrap();
        let Ok(uri) = from.parse() else { return Ok(()) };
        let _ = file.jar().set(&uri, line);
        file.save().unwrap();
        let fact = format!("{format:?} {from} {}", String::from_utf8_lossy(line));
        let again = CookieFile::open(&path, format).map_err(|error| format!("{fact}: {error}"))?;
        let (before, after) = (kept(file.jar()), kept(again.jar()));
        // Only Json keeps everything.
        let lost = after.len() < before.len() && format!("{format:?}") == "Json";
        if lost || !after.iter().all(|cookie| before.contains(cookie)) {
            return Err(format!("{fact}: {after:?}, not {before:?}"));
        }
        if again.jar().header(&"https://example.com/".parse().unwrap()).is_some() {
            return Err(format!("{fact}: it reached another host"));
        }
        if again.save().is_err() || file.save().is_err() {
            return Err(format!("{fact}: cannot be saved again"));
        }
        Ok(())
    });
}

/// Python writes `localhost.local` for `localhost`. In a file of our own it is the host of that
/// name.
#[test]
fn a_host_that_is_called_localhost_local_keeps_its_cookies() {
    let jar = CookieJar::new();
    jar.set(&"http://localhost.local/".parse().unwrap(), "a=1").unwrap();
    let text = written(&jar);
    let again = read(&text).unwrap();
    assert_eq!(again.iter().next().unwrap().domain(), "localhost.local");
    assert_eq!(written(&again), text);
    let line = "localhost.local\tFALSE\t/\tFALSE\t0\ta\t1\n";
    let python = format!("# Netscape HTTP Cookie File\n# This is a generated file!\n\n{line}");
    let theirs = read(python).unwrap();
    assert_eq!(theirs.iter().next().unwrap().domain(), "localhost");
}
