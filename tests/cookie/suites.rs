//! The cookie tests of other projects, as rows: tough-cookie, Go's net/http/cookiejar, CPython's
//! http.cookiejar and web-platform-tests.
//!
//! `data/suites/design.json` lists the rows that contradict RFC 6265bis, each with the reason.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Method, Uri, header::SET_COOKIE};
use serde::Deserialize;
use serde_json::Value;
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieJar, CookieStorage, SameSite, SiteForCookies,
};

use crate::rows;

#[derive(Deserialize)]
struct Suite {
    /// The time at which each row begins, in seconds since 1970.
    base: u64,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    suite: String,
    group: String,
    name: String,
    steps: Vec<Vec<Value>>,
}

/// Milliseconds since 1970, as the rows' jars see them. One test alone uses it.
static NOW: AtomicU64 = AtomicU64::new(0);

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW.load(Ordering::Relaxed))
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn uri(value: &Value) -> Uri {
    text(value).parse().expect("a URI")
}

fn pair(cookie: &Cookie) -> String {
    let (name, value) = (cookie.name(), cookie.value());
    if name.is_empty() { value.into_owned() } else { format!("{name}={value}") }
}

fn same(what: &str, got: &str, want: &str) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what}: {got:?}, not {want:?}")) }
}

/// What a cookie has, under the names of the rows.
fn attribute(cookie: &Cookie, base: u64, name: &str) -> Value {
    match name {
        "value" => cookie.value().into(),
        "domain" => cookie.domain().into(),
        "path" => cookie.path().into(),
        "host_only" => cookie.host_only().into(),
        "secure" => cookie.secure().into(),
        "http_only" => cookie.http_only().into(),
        // In seconds from the beginning of the row.
        "expires" => cookie.expires().map_or(Value::Null, |at| {
            at.duration_since(UNIX_EPOCH)
                .expect("it is later")
                .as_secs()
                .saturating_sub(base)
                .into()
        }),
        "same_site" => match cookie.same_site() {
            None => Value::Null,
            Some(SameSite::Strict) => "strict".into(),
            Some(SameSite::Lax) => "lax".into(),
            Some(SameSite::None) => "none".into(),
        },
        other => panic!("no such attribute: {other}"),
    }
}

fn play(jar: &CookieJar, base: u64, step: &[Value]) -> Result<(), String> {
    let header = |context: &CookieContext<'_>| {
        let header = CookieStorage::header(jar, context);
        header.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).unwrap_or_default()
    };
    match (text(&step[0]), &step[1..]) {
        ("set", [from, line]) => {
            // Some of these lines must be rejected. The cookies that are sent later show that.
            let _ = jar.set(&uri(from), text(line));
            Ok(())
        }
        ("no", [from, line]) => match jar.set(&uri(from), text(line)) {
            Ok(action) => Err(format!("{line} is {action:?}, and should be refused")),
            Err(_) => Ok(()),
        },
        ("setsite", [site, from, line]) => {
            let (site, from) = (SiteForCookies::new(&uri(site)), uri(from));
            let context = CookieContext::new(&from, &Method::GET).on_behalf_of(Some(&site));
            let line = HeaderValue::from_bytes(text(line).as_bytes()).expect("a header");
            let _ = CookieStorage::store_response(
                jar,
                &context,
                &HeaderMap::from_iter([(SET_COOKIE, line)]),
            );
            Ok(())
        }
        ("sent", [to, want]) => {
            same("sent", &header(&CookieContext::new(&uri(to), &Method::GET)), text(want))
        }
        ("sentsite", [site, top_level, method, to, want]) => {
            let top_level = top_level.as_bool().expect("a flag");
            let site = SiteForCookies::new(&uri(site)).top_level_navigation(top_level);
            let (to, method) = (uri(to), text(method).parse().expect("a method"));
            same(
                "sent",
                &header(&CookieContext::new(&to, &method).on_behalf_of(Some(&site))),
                text(want),
            )
        }
        ("all", [want]) => {
            let mut got: Vec<_> = jar.iter().map(|cookie| pair(&cookie)).collect();
            let want: Vec<String> = serde_json::from_value(want.clone()).expect("a list");
            // The suites sort it by their own rules.
            let mut sorted = want.clone();
            got.sort_unstable();
            sorted.sort_unstable();
            same("the jar", &got.join("; "), &sorted.join("; "))
        }
        ("attr", [name, want]) => {
            let found = jar.iter().find(|cookie| cookie.name() == text(name));
            let cookie = found.ok_or_else(|| format!("{name} is not in the jar"))?;
            let want: BTreeMap<String, Value> =
                serde_json::from_value(want.clone()).expect("a map");
            let got: BTreeMap<_, _> =
                want.keys().map(|key| (key.clone(), attribute(&cookie, base, key))).collect();
            if got == want { Ok(()) } else { Err(format!("{name}: {got:?}, not {want:?}")) }
        }
        ("tick", [milliseconds]) => {
            NOW.fetch_add(milliseconds.as_u64().expect("milliseconds"), Ordering::Relaxed);
            Ok(())
        }
        (other, _) => panic!("no such step: {other}"),
    }
}

fn suite(text: &str) -> Suite {
    serde_json::from_str(text).expect("a suite")
}

#[test]
fn the_suites_of_others_pass_but_for_the_rows_that_contradict_the_rfc() {
    let design: BTreeMap<String, String> =
        serde_json::from_str(include_str!("../data/suites/design.json")).expect("reasons");
    let suites = [
        (suite(include_str!("../data/suites/tough.json")), 157),
        (suite(include_str!("../data/suites/go.json")), 106),
        (suite(include_str!("../data/suites/cpython.json")), 55),
        (suite(include_str!("../data/suites/wpt.json")), 760),
    ];
    let mut all = Vec::new();
    for (Suite { base, rows }, count) in suites {
        assert_eq!(rows.len(), count);
        all.extend(rows.into_iter().map(|row| (base, row)));
    }
    rows::hold(all, |(base, Row { suite, group, name, steps })| {
        NOW.store(base * 1000, Ordering::Relaxed);
        let jar = CookieJar::builder().clock(clock).build();
        let name = format!("{suite}/{group}/{name}");
        let played = steps.iter().try_for_each(|step| play(&jar, base, step));
        match (played, excused(&design, &name)) {
            (Ok(()), None) | (Err(_), Some(_)) => Ok(()),
            (Ok(()), Some(why)) => Err(format!("{name} holds, and is excused: {why}")),
            (Err(why), None) => Err(format!("{name}: {why}")),
        }
    });
}

/// Why a row may fail. A name in the list that ends in `*` means all names with this beginning.
fn excused<'a>(design: &'a BTreeMap<String, String>, row: &str) -> Option<&'a str> {
    let fits =
        |name: &str| name == row || name.strip_suffix('*').is_some_and(|it| row.starts_with(it));
    design.iter().find(|(name, _)| fits(name)).map(|(_, why)| why.as_str())
}
