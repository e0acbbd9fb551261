//! The jar's JSON file: what it keeps, what is tolerated, and what counts as damage.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tower_outbound::cookie::{CookieFile, CookieJar, Format, ReadError, SameSite};

use crate::{files, rows};

const H: &str = "https://example.com/";

fn set(jar: &CookieJar, line: impl AsRef<[u8]>) {
    jar.set(&H.parse().unwrap(), line).unwrap();
}

fn written(jar: &CookieJar) -> Vec<u8> {
    files::written(jar, Format::Json)
}

fn read(text: impl AsRef<[u8]>) -> Result<CookieJar, ReadError> {
    files::read(text, Format::Json)
}

/// Everything about each cookie, in the order of creation.
fn known(jar: &CookieJar) -> Vec<String> {
    let all = |c: tower_outbound::cookie::Cookie| {
        format!(
            "{:?}={:?} {} {} {} {} {} {} {:?} {:?} {:?} {:?}",
            c.name(),
            c.value_bytes(),
            c.domain(),
            c.host_only(),
            c.path(),
            c.secure(),
            c.http_only(),
            c.partitioned(),
            c.same_site(),
            c.expires(),
            c.created(),
            c.last_access()
        )
    };
    jar.iter().map(all).collect()
}

fn full_jar() -> CookieJar {
    let jar = CookieJar::new();
    for line in [
        &b"z=first"[..],
        b"a=second; Max-Age=86400; Secure; HttpOnly; SameSite=Strict; Partitioned; Path=/deep",
        b"c=third; Domain=example.com; SameSite=Lax",
        b"n=4; SameSite=None; Secure",
        b"nameless",
        b"=also=nameless; Path=/x",
        b"bytes=\xe9\xff",
        b"\xe9=name",
        b"quoted=\"a, b\\c\"",
        b"tab=a\tb",
        b"empty=",
        b"__Host-h=1; Secure; Path=/",
    ] {
        set(&jar, line);
    }
    jar.header(&H.parse().unwrap()).unwrap();
    jar
}

#[test]
fn a_round_trip_keeps_everything_and_the_order() {
    let jar = full_jar();
    let text = written(&jar);
    let again = read(&text).unwrap();
    assert_eq!(known(&again), known(&jar));
    assert_eq!(String::from_utf8(written(&again)).unwrap(), String::from_utf8(text).unwrap());
    let header = |jar: &CookieJar| jar.header(&H.parse().unwrap()).unwrap().as_bytes().to_vec();
    assert_eq!(header(&again), header(&jar));
}

#[test]
fn what_a_later_release_adds_is_passed_over_and_what_is_absent_has_a_default() {
    let jar = read(
        "\u{feff}{\"version\": 1, \"written_by\": {\"x\": [1]}, \"cookies\": [\
         {\"name\": \"a\", \"value\": \"1\", \"domain\": \"EXAMPLE.com.\", \"path\": \"/\", \"priority\": \"high\", \"expires\": null},\
         {\"name\": \"b\", \"value\": [233], \"domain\": \".example.com\", \"path\": \"/\", \"same_site\": \"lax\"}]}",
    )
    .unwrap();
    let cookies: Vec<_> = jar.iter().collect();
    assert_eq!(
        (cookies[0].domain(), cookies[0].expires(), cookies[0].secure()),
        ("example.com", None, false)
    );
    assert_eq!(
        (cookies[1].value_bytes(), cookies[1].same_site()),
        (&b"\xe9"[..], Some(SameSite::Lax))
    );
    assert!(
        cookies.iter().all(|cookie| cookie.created() > SystemTime::now() - Duration::from_secs(60))
    );
    assert_eq!(read("{\"cookies\": [], \"version\": 1}").unwrap().len(), 0);
}

#[test]
fn cookies_that_no_rule_allows_or_that_are_over_are_left_out() {
    let cookie = |domain: &str, rest: &str| {
        format!(
            "{{\"version\":1,\"cookies\":[{{\"name\":\"a\",\"value\":\"1\",\"domain\":\"{domain}\",\"path\":\"/\"{rest}}}]}}"
        )
    };
    let far = UNIX_EPOCH.elapsed().unwrap().as_millis() + 1_000_000;
    let rows = [
        (cookie("example.com", ""), 1),
        (cookie("com", ""), 0),
        (cookie("com", ",\"host_only\":true"), 1),
        (cookie("github.io", ""), 0),
        (cookie("example.com", ",\"expires\":1"), 0),
        (cookie("example.com", &format!(",\"expires\":{far}")), 1),
        (cookie("example.com", ",\"same_site\":\"none\""), 0),
        (cookie("10.0.0.1", ""), 1),
    ];
    rows::hold(rows, |(text, want)| {
        let got = read(&text).map(|jar| jar.len()).map_err(|error| error.to_string());
        (text, got, Ok(want))
    });
}

#[test]
fn damage_is_an_error_that_names_the_line_and_quotes_nothing() {
    let cookie = r#"{"name":"sid","value":"s3cret","domain":"example.com","path":"/"}"#;
    let file =
        |second: &str| format!("{{\"version\": 1, \"cookies\": [\n{cookie},\n{second}\n]}}\n");
    let with = |from: &str, to: &str| file(&cookie.replacen(from, to, 1));
    let rows = [
        (String::new(), 1),
        ("\n\n{".to_owned(), 3),
        ("s3cret".to_owned(), 1),
        ("[]".to_owned(), 1),
        ("{\"cookies\": []}".to_owned(), 1),
        ("{\"version\": 1}".to_owned(), 1),
        ("{\n\"version\": 2,\n\"cookies\": []}".to_owned(), 2),
        ("{\n\"version\": \"s3cret\", \"cookies\": []}".to_owned(), 2),
        ("{\"version\": 1,\n\"cookies\": \"s3cret\"}".to_owned(), 2),
        (file("\"s3cret\""), 3),
        (file("{\"name\":\"s3cret\""), 4),
        (with("\"sid\"", "7"), 3),
        (with("\"sid\"", "\"a=b\""), 3),
        (with("\"s3cret\"", "\"s3cret;\""), 3),
        (with("\"s3cret\"", "[256]"), 3),
        (with("\"s3cret\"", "[115,\"s3cret\"]"), 3),
        (with("\"s3cret\"", "\"s3cret\\u0000\""), 3),
        (with("example.com", "exa mple.com"), 3),
        (with("example.com", ""), 3),
        (with("example.com", "https://s3cret"), 3),
        (with("\"/\"", "\"s3cret\""), 3),
        (with("\"/\"", "\"/\\n\""), 3),
        (with("\"/\"}", "\"/\",\"secure\":\"s3cret\"}"), 3),
        (with("\"/\"}", "\"/\",\"expires\":\"s3cret\"}"), 3),
        (with("\"/\"}", "\"/\",\"expires\":-1}"), 3),
        (with("\"/\"}", "\"/\",\"same_site\":\"s3cret\"}"), 3),
        (file("") + "s3cret", 4),
    ];
    rows::hold(rows, |(text, line)| {
        let outcome = read(&text);
        let Err(error @ ReadError::Line { line: got, .. }) = outcome else {
            return Err(format!("{text:?}: {outcome:?}, not line {line}"));
        };
        let shown = format!("{error} {error:?}");
        if got != line || shown.contains("s3cret") {
            return Err(format!("{text:?}: {shown}, not line {line} without a quotation"));
        }
        Ok(())
    });
    assert!(matches!(read(b"{\n\xff}"), Err(ReadError::Line { line: 2, .. })));
}

#[test]
fn a_file_cut_or_flipped_anywhere_is_read_or_refused_and_nothing_in_between() {
    let text = written(&full_jar());
    for end in 0..text.len() - 2 {
        assert!(read(&text[..end]).is_err(), "cut after {end} bytes");
    }
    for at in 0..text.len() {
        for flip in [1, 0x20, 0x80] {
            let mut text = text.clone();
            text[at] ^= flip;
            if let Ok(jar) = read(&text) {
                assert!(jar.len() <= 12, "byte {at}");
            }
        }
    }
    let nested = "[".repeat(100_000);
    assert!(read(format!("{{\"version\": 1, \"x\": {nested}")).is_err());
}

#[test]
fn files_merge_what_cookies_txt_could_not_tell_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jar.json");
    let open = || CookieFile::open(&path, Format::Json).unwrap();
    let first = open();
    set(first.jar(), "a=1; Max-Age=3600; SameSite=Lax");
    set(first.jar(), "b=1");
    first.save().unwrap();
    let second = open();
    set(second.jar(), "a=1; Max-Age=3600; SameSite=Strict");
    set(first.jar(), "b=2");
    second.save().unwrap();
    first.save().unwrap();
    let third = open();
    let cookies: Vec<_> = third
        .jar()
        .iter()
        .map(|c| (c.name().into_owned(), c.value().into_owned(), c.same_site()))
        .collect();
    assert_eq!(
        cookies,
        [
            ("a".into(), "1".into(), Some(SameSite::Strict)),
            ("b".into(), "2".into(), None::<SameSite>)
        ]
    );
}

#[test]
fn a_file_is_saved_when_there_is_something_to_save() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jar.json");
    let file = CookieFile::open(&path, Format::Json).unwrap();
    assert!(!file.save_if_changed().unwrap());
    assert!(!path.exists());
    set(file.jar(), "a=1; Max-Age=3600");
    let mut steps = Vec::new();
    let mut step = |fact, changed| steps.push((fact, changed, file.save_if_changed().unwrap()));
    step("a new cookie", true);
    step("nothing", false);
    file.jar().header(&H.parse().unwrap()).unwrap();
    step("a cookie was sent", false);
    set(file.jar(), "a=2; Max-Age=3600");
    step("a new value", true);
    set(file.jar(), "s=1");
    step("a session cookie", true);
    set(file.jar(), "s=1");
    step("the same session cookie", false);
    set(file.jar(), "s=; Max-Age=0");
    step("a logout", true);
    assert!(file.jar().set(&H.parse().unwrap(), "a=1; Domain=com").is_err());
    step("a refusal", false);
    file.jar().clear();
    step("all gone", true);
    rows::hold(steps, |(fact, want, got)| (fact, got, want));
    assert_eq!(CookieFile::open(&path, Format::Json).unwrap().jar().len(), 0);
}

#[test]
fn a_file_is_read_into_a_jar_of_the_callers_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jar.json");
    let file = CookieFile::open(&path, Format::Json).unwrap();
    set(file.jar(), "a=1");
    set(file.jar(), "b=1");
    file.save().unwrap();

    let jar = CookieJar::new();
    set(&jar, "b=mine");
    set(&jar, "c=mine");
    let file = CookieFile::open_into(&path, Format::Json, jar.clone()).unwrap();
    let map = |jar: &CookieJar| {
        jar.to_map().into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(map(&jar), ["a=1", "b=1", "c=mine"]);
    assert!(file.save_if_changed().unwrap());
    let again = CookieFile::open(&path, Format::Json).unwrap();
    assert_eq!(map(again.jar()), map(&jar));

    std::fs::write(&path, "{").unwrap();
    assert!(CookieFile::open_into(&path, Format::Json, jar.clone()).is_err());
    assert_eq!(jar.len(), 3);
}

#[test]
fn a_save_takes_nothing_that_the_rules_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jar.json");
    let refused =
        r#"{"name":"a","value":"1","domain":"example.com","path":"/","same_site":"none"}"#;
    std::fs::write(&path, format!("{{\"version\":1,\"cookies\":[{refused}]}}")).unwrap();
    let file = CookieFile::open(&path, Format::Json).unwrap();
    assert!(file.jar().is_empty());
    set(file.jar(), "b=1");
    file.save().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(r#""name":"a""#) && text.contains(r#""same_site":"none""#), "{text}");
    assert!(text.contains(r#""name":"b""#), "{text}");
}
