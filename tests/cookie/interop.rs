//! The `cookie_store` crate's store as the layer's storage, and conversions of its cookies and
//! files.

use std::sync::{Mutex, RwLock};

use cookie_store::{CookieStore, serde::json};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::SET_COOKIE};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieFile, CookieJar, CookieLayer, CookieStorage, Format, ReadError,
    RejectedCookie, Rejection, ResponseCookies, SiteForCookies,
};

use crate::rows;

fn store_with(lines: &[(&str, &str)]) -> CookieStore {
    let mut store = CookieStore::default();
    for (url, line) in lines {
        store.parse(line, &url.parse().unwrap()).unwrap();
    }
    store
}

fn set(storage: &impl CookieStorage, uri: &str, line: &[u8]) -> ResponseCookies {
    let mut headers = HeaderMap::new();
    headers.append(SET_COOKIE, HeaderValue::from_bytes(line).unwrap());
    storage.store_response(&CookieContext::new(&uri.parse().unwrap(), &Method::GET), &headers)
}

fn sent(storage: &impl CookieStorage, uri: &str) -> String {
    let header = storage.header(&CookieContext::new(&uri.parse().unwrap(), &Method::GET));
    header.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
}

#[test]
fn the_rules_of_a_jar_hold_for_a_store() {
    use Rejection::*;
    const H: &str = "https://www.example.com/";
    // The origin, the line, the reason, and what is then sent to H and to http.
    let rows: &[(&str, &[u8], Option<Rejection>, &str, &str)] = &[
        (H, b"a=1", None, "a=1", "a=1"),
        (H, b"a=1; Secure", None, "a=1", ""),
        (H, b"a=1; Domain=example.com", None, "a=1", "a=1"),
        (H, b"a=1; Domain=com", Some(PublicSuffix), "", ""),
        (H, b"a=1; Domain=evil.com", Some(DomainMismatch), "", ""),
        (H, b"__Host-a=1; Secure; Path=/; Domain=www.example.com", Some(HostPrefix), "", ""),
        (H, b"a=1; SameSite=None", Some(SameSiteNone), "", ""),
        (H, b"a=1\xe9", Some(Unstorable), "", ""),
        (H, b"nameless", Some(Unstorable), "", ""),
        (H, b"a=\"quoted\"; Path=/", None, "a=\"quoted\"", "a=\"quoted\""),
        (H, b"a=1; Expires=Thu, 1 Jan 1970 00:00:00 GMT", None, "", ""),
        (H, b"a=1; Path=/deep", None, "", ""),
        ("http://www.example.com/", b"a=1; Secure", Some(InsecureOrigin), "", ""),
        ("https://example.com/", b"a=1; Domain=example.com", None, "a=1", "a=1"),
        ("https://example.com/", b"a=1", None, "", ""),
        ("https://other.com/", b"a=1", None, "", ""),
    ];
    rows::hold(rows, |(from, line, want, https, http)| {
        let reason =
            |cookies: &ResponseCookies| cookies.rejected().first().map(RejectedCookie::reason);
        let store = Mutex::new(CookieStore::default());
        let got = reason(&set(&store, from, line));
        let headers = (sent(&store, H), sent(&store, "http://www.example.com/"));
        // A jar gives the same reason, except for what only a store cannot hold.
        let of_jar = reason(&set(&CookieJar::new(), from, line));
        let agree = of_jar == got || got == Some(Unstorable);
        let name = format!("{from} {:?}: a jar says {of_jar:?}", String::from_utf8_lossy(line));
        let want = (*want, ((*https).to_owned(), (*http).to_owned()), true);
        (name, (got, headers, agree), want)
    });
}

#[test]
fn what_a_store_holds_against_the_rules_is_not_sent() {
    let supercookie = Cookie::builder("super", "1").domain("com").build().unwrap();
    let supercookie = cookie_store::Cookie::try_from(&supercookie).unwrap();
    let store = CookieStore::from_cookies([Ok::<_, ()>(supercookie)], true).unwrap();
    assert_eq!(store.iter_any().count(), 1);
    assert_eq!(sent(&Mutex::new(store), "https://evil.com/"), "");
}

#[test]
fn a_logout_logs_out_and_a_secure_cookie_is_left_alone() {
    let store = RwLock::new(store_with(&[("https://example.com/", "sid=1; Secure; Path=/")]));
    for line in [&b"sid=evil; Path=/"[..], b"=sid=evil; Path=/", b"sid=; Max-Age=0; Path=/"] {
        let evil = set(&store, "http://example.com/", line);
        assert_eq!(
            evil.rejected()[0].reason(),
            Rejection::ShadowsSecure,
            "{}",
            line.escape_ascii()
        );
    }
    assert_eq!(sent(&store, "https://example.com/"), "sid=1");
    set(&store, "https://example.com/", b"sid=; Path=/; Expires=Thu, 1 Jan 1970 00:00:00 GMT");
    assert_eq!(
        (sent(&store, "https://example.com/"), store.read().unwrap().iter_any().count()),
        (String::new(), 0)
    );
}

#[test]
fn a_header_has_one_order_and_stays_within_its_limits() {
    let store = Mutex::new(CookieStore::default());
    set(&store, "https://example.com/x/", b"zdeep=1; Path=/x");
    for n in 0..400 {
        set(
            &store,
            "https://example.com/x/",
            format!("c{n:03}={}; Path=/", "v".repeat(100)).as_bytes(),
        );
    }
    let line = sent(&store, "https://example.com/x/");
    let names: Vec<_> = line.split("; ").map(|pair| pair.split('=').next().unwrap()).collect();
    assert!(line.len() <= 8190 && names.len() > 70, "{} bytes, {names:?}", line.len());
    assert!(names[0] == "zdeep" && names[1..].is_sorted(), "{names:?}");
    assert!(line == sent(&store, "https://example.com/x/"));
    assert_eq!(store.lock().unwrap().iter_any().count(), 180);
    let full = set(&store, "https://example.com/", b"one=more");
    assert_eq!(full.rejected()[0].reason(), Rejection::NoRoom);
    // Another site has room, and so has a site whose cookies have expired.
    assert_eq!(set(&store, "https://example.net/", b"a=1").accepted().len(), 1);
}

#[test]
fn same_site_holds_for_a_store_too() {
    let store = Mutex::new(store_with(&[
        ("https://example.com/", "strict=1; SameSite=Strict"),
        ("https://example.com/", "none=1; SameSite=None; Secure"),
    ]));
    let (uri, page) =
        ("https://example.com/".parse().unwrap(), "https://evil.example/".parse().unwrap());
    let site = SiteForCookies::new(&page);
    let context = CookieContext::new(&uri, &Method::GET).on_behalf_of(Some(&site));
    assert_eq!(store.header(&context).unwrap(), "none=1");
}

#[tokio::test]
async fn a_layer_works_with_a_locked_store() {
    let client = CookieLayer::with_storage(Mutex::new(CookieStore::default()));
    let mut client = client.layer(service_fn(|request: Request<()>| async move {
        let got = request.headers().get("cookie").cloned();
        Response::builder().header("set-cookie", "id=42; Secure").body(got)
    }));
    for want in [None, Some("id=42")] {
        let request = Request::get("https://example.com/").body(()).unwrap();
        let response = tower::Service::call(client.ready().await.unwrap(), request).await.unwrap();
        assert_eq!(response.body().as_ref().map(|value| value.to_str().unwrap()), want);
        assert_eq!(response.extensions().get::<ResponseCookies>().unwrap().accepted().len(), 1);
    }
}

/// Panics while it holds the lock, as another user of a shared store may.
fn poison<G>(lock: impl FnOnce() -> G) {
    let holder = || {
        let _guard = lock();
        panic!("on purpose");
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(holder)).is_err());
}

#[tokio::test]
async fn a_poisoned_lock_recovers() {
    let store = || store_with(&[("https://example.com/", "kept=1")]);
    let (mutex, lock) = (Mutex::new(store()), RwLock::new(store()));
    poison(|| mutex.lock().unwrap());
    poison(|| lock.write().unwrap());
    assert!(mutex.is_poisoned() && lock.is_poisoned());

    async fn serves_and_stores(storage: impl CookieStorage) {
        let mut client = CookieLayer::with_storage(storage).layer(service_fn(
            |request: Request<()>| async move {
                let got = request.headers().get("cookie").cloned();
                Response::builder().header("set-cookie", "new=1").body(got)
            },
        ));
        for want in ["kept=1", "kept=1; new=1"] {
            let request = Request::get("https://example.com/").body(()).unwrap();
            let response =
                tower::Service::call(client.ready().await.unwrap(), request).await.unwrap();
            assert_eq!(response.body().as_ref().unwrap(), want);
        }
    }
    serves_and_stores(mutex).await;
    serves_and_stores(lock).await;
}

#[test]
fn conversions_keep_all_that_the_other_side_can_hold() {
    let jar = CookieJar::new();
    let uri = "https://www.example.com/".parse().unwrap();
    for line in [
        "plain=1",
        "all=2; Domain=example.com; Path=/x; Secure; HttpOnly; SameSite=Strict; Partitioned; Max-Age=86400",
        "lax=3; SameSite=Lax",
        "none=4; SameSite=None; Secure",
        "quoted=\"5\"",
    ] {
        jar.set(&uri, line).unwrap();
    }
    jar.set(&uri, "nameless").unwrap();
    jar.set(&uri, b"bytes=\xe9").unwrap();
    jar.set(&"http://10.0.0.1/".parse().unwrap(), "ip=6; Max-Age=60").unwrap();
    jar.set(&"http://[::1]/".parse().unwrap(), "ip6=7").unwrap();
    let told = |jar: &CookieJar| {
        let mut all: Vec<_> = jar
            .iter()
            .map(|c| {
                let flags =
                    (c.host_only(), c.secure(), c.http_only(), c.partitioned(), c.same_site());
                (
                    format!("{}={}", c.name(), c.value()),
                    c.domain().to_owned(),
                    c.path().to_owned(),
                    flags,
                    c.expires(),
                )
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    let store = CookieStore::from(&jar);
    let again = CookieJar::from(&store);
    let mut want = told(&jar);
    want.retain(|cookie| !cookie.0.starts_with("=nameless") && !cookie.0.starts_with("bytes"));
    assert_eq!(told(&again), want);
    assert_eq!(want.len(), 7);
    // And what the store itself reads.
    let url = "https://www.example.com/x".parse().unwrap();
    let mut values: Vec<_> =
        store.get_request_values(&url).map(|(name, value)| format!("{name}={value}")).collect();
    values.sort();
    assert_eq!(values, ["all=2", "lax=3", "none=4", "plain=1", "quoted=\"5\""]);
}

#[test]
fn a_cookie_alone_says_why_it_cannot_be_converted() {
    let build = |name: &[u8], value: &[u8]| {
        Cookie::builder(name, value).domain("example.com").build().unwrap()
    };
    for (cookie, want) in [
        (build(b"", b"x"), "name"),
        (build(b"a", b"\xe9"), "value"),
        (build(b"\xe9", b"a"), "name"),
    ] {
        let error = cookie_store::Cookie::try_from(&cookie).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    let raw = cookie_store::RawCookie::new("a", "1;2");
    let theirs =
        cookie_store::Cookie::try_from_raw_cookie(&raw, &"https://h.example/".parse().unwrap())
            .unwrap();
    assert!(Cookie::try_from(&theirs).is_err());
}

/// Files as `reqwest_cookie_store`'s users have them: by the present module and by the older
/// methods.
#[test]
fn a_file_moves_over_and_back() {
    let store = store_with(&[
        (
            "https://www.example.com/",
            "sid=1; Domain=example.com; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age=86400",
        ),
        ("https://www.example.com/a/b", "host=2; Max-Age=86400"),
        ("https://www.example.com/", "session=3"),
    ]);
    let mut array = Vec::new();
    json::save_incl_expired_and_nonpersistent(&store, &mut array).unwrap();
    let mut lines = Vec::new();
    #[allow(deprecated)]
    store.save_incl_expired_and_nonpersistent_json(&mut lines).unwrap();

    let directory = tempfile::tempdir().unwrap();
    for text in [&array, &lines] {
        let path = directory.path().join("cookies.json");
        std::fs::write(&path, text).unwrap();
        let file = CookieFile::open(&path, Format::CookieStore).unwrap();
        assert_eq!(file.jar().len(), 3);
        let deep = file.jar().header(&"https://www.example.com/a/b".parse().unwrap()).unwrap();
        assert!(deep.to_str().unwrap().starts_with("host=2; "), "{deep:?}");
        file.jar().set(&"https://new.example/".parse().unwrap(), "new=4; Max-Age=60").unwrap();
        file.save().unwrap();

        let back = json::load_all(&std::fs::read(&path).unwrap()[..]).unwrap();
        let told = |store: &CookieStore| {
            let mut all: Vec<_> = store
                .iter_any()
                .map(|c| {
                    let flags = (
                        c.secure().unwrap_or(false),
                        c.http_only().unwrap_or(false),
                        c.same_site(),
                    );
                    let place = (c.domain.clone(), String::from(&c.path), c.expires.clone());
                    (c.name().to_owned(), c.value().to_owned(), place, flags)
                })
                .collect();
            all.sort_by(|a, b| a.0.cmp(&b.0));
            all
        };
        let mut want = told(&store);
        want.insert(1, told(&back).into_iter().find(|cookie| cookie.0 == "new").unwrap());
        assert_eq!(told(&back), want);
    }
}

#[test]
fn damage_in_such_a_file_names_the_line_and_quotes_nothing() {
    let cookie = r#"{"raw_cookie":"a=s3cret","path":["/",true],"domain":{"HostOnly":"example.com"},"expires":"SessionEnd"}"#;
    let rows = [
        (format!("[\n{cookie},\n{}]", cookie.replace("\"/\"", "7")), 3),
        (format!("[\n{cookie},\n{}]", cookie.replace("HostOnly", "s3cret")), 3),
        (format!("[\n{cookie},\n\"s3cret\"]"), 3),
        (format!("[\n{cookie}"), 2),
        (format!("{cookie}\n{cookie}\ns3cret"), 3),
        (format!("{cookie}\n{{\"raw_cookie\": \"s3cret\"}}"), 2),
    ];
    rows::hold(rows, |(text, line)| {
        match CookieJar::new().read_from(text.as_bytes(), Format::CookieStore) {
            Err(error @ ReadError::Line { line: got, .. })
                if got == line && !format!("{error} {error:?}").contains("s3cret") =>
            {
                Ok(())
            }
            outcome => Err(format!("{text:?}: {outcome:?}, not line {line}")),
        }
    });
    let jar = CookieJar::new();
    jar.read_from(
        format!("[{}]", cookie.replace("HostOnly", "Suffix").replace("example.com", "com"))
            .as_bytes(),
        Format::CookieStore,
    )
    .unwrap();
    assert_eq!(jar.len(), 0);
}

#[test]
fn a_save_of_such_a_file_takes_nothing_that_the_rules_refuse() {
    let cookie = |pair: &str, host: &str| {
        format!(
            r#"{{"raw_cookie":"{pair}","path":["/",true],"domain":{host},"expires":"SessionEnd"}}"#
        )
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.json");
    let host = r#"{"HostOnly":"example.com"}"#;
    let refused = [cookie("__Host-a=1", host), cookie("wide=1", r#"{"Suffix":"com"}"#)];
    std::fs::write(&path, format!("[{}]", refused.join(","))).unwrap();
    let file = CookieFile::open(&path, Format::CookieStore).unwrap();
    assert!(file.jar().is_empty());
    set(file.jar(), "https://example.com/", b"b=1");
    file.save().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(["__Host-a=1", "wide=1", "b=1"].iter().all(|pair| text.contains(pair)), "{text}");

    // What no jar could hold is an error instead.
    let long = format!("a={}", "x".repeat(5000));
    for (pair, host) in [(&*long, host), ("a=1", r#""NotPresent""#)] {
        std::fs::write(&path, format!("[\n{}]", cookie(pair, host))).unwrap();
        assert_eq!(
            CookieFile::open(&path, Format::CookieStore).unwrap_err().line(),
            Some(2),
            "{host}"
        );
    }
}
