//! The advisories and faults that concern cookies. Those about a crash or a full disk are in
//! `alone`.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{AUTHORIZATION, COOKIE, HOST, LOCATION, SET_COOKIE},
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_http::follow_redirect::FollowRedirectLayer;
use tower_outbound::cookie::{
    CookieControl, CookieFile, CookieJar, CookieLayer, Format, JarPool, Rejection, ResponseCookies,
};

use crate::{
    files::formats,
    jars::{header as sent, set, uri},
    rows,
};

mod locks;
mod suffixes;

type Client = BoxCloneSyncService<Request<String>, Response<String>, tower::BoxError>;

/// What each request sent: its URI, its cookies, and its credentials.
type Log = Arc<Mutex<Vec<(String, String, bool)>>>;

/// Redirects by a table of absolute URIs; every other request is answered with 200. Each host sets
/// `from=HOST`.
fn server(redirects: &'static [(&'static str, &'static str)]) -> (Client, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let service = service_fn(move |request: Request<String>| {
        let cookies =
            request.headers().get_all(COOKIE).iter().map(|line| line.to_str().unwrap().to_owned());
        let to = request.uri().to_string();
        let cookies = cookies.collect::<Vec<_>>().join(" | ");
        seen.lock().unwrap().push((
            to.clone(),
            cookies,
            request.headers().contains_key(AUTHORIZATION),
        ));
        let host = request.uri().host().unwrap().trim_end_matches('.').to_owned();
        let mut response = Response::builder().header(SET_COOKIE, format!("from={host}"));
        if let Some((_, location)) = redirects.iter().find(|(from, _)| *from == to) {
            response = response.status(302).header(LOCATION, *location);
        }
        std::future::ready(response.body(String::new()).map_err(tower::BoxError::from))
    });
    (BoxCloneSyncService::new(service), log)
}

fn cookies_of(log: &Log) -> Vec<String> {
    log.lock().unwrap().iter().map(|(to, cookies, _)| format!("{to} {cookies}")).collect()
}

/// curl CVE-2022-27779, CVE-2023-46218.
#[test]
fn a_public_suffix_is_refused_with_a_trailing_dot_and_in_capitals() {
    let rows = [
        ("https://evil.com./", "a=1; Domain=com", Rejection::PublicSuffix),
        ("https://evil.com./", "a=1; Domain=com.", Rejection::PublicSuffix),
        ("https://evil.com/", "a=1; Domain=.com", Rejection::PublicSuffix),
        ("https://x.co.uk/", "a=1; Domain=co.UK", Rejection::PublicSuffix),
        ("https://x.CO.uk/", "a=1; Domain=CO.UK", Rejection::PublicSuffix),
        ("https://x.github.io/", "a=1; Domain=GitHub.io", Rejection::PublicSuffix),
    ];
    rows::hold(rows, |(from, line, want)| {
        (format!("{from} {line}"), set(&CookieJar::new(), from, line), Err(want))
    });
}

/// curl CVE-2022-35252.
#[tokio::test]
async fn a_control_byte_drops_the_cookie_and_the_response_is_delivered() {
    for byte in (0..=31_u8).chain([127]).filter(|byte| *byte != b'\t') {
        let line = [b"a=1", &[byte][..], b"2"].concat();
        assert_eq!(
            set(&CookieJar::new(), "https://h.example/", &line),
            Err(Rejection::ControlCharacter),
            "{byte}"
        );
    }
    // Through the layer, as far as a header can contain it.
    let service = service_fn(|_request: Request<()>| async {
        let line = HeaderValue::from_bytes(b"bad=\x80\xff; Path=/").unwrap();
        Ok::<_, Infallible>(
            Response::builder()
                .header(SET_COOKIE, line)
                .header(SET_COOKIE, "ok=1")
                .body("body")
                .unwrap(),
        )
    });
    let response =
        CookieLayer::default().layer(service).oneshot(Request::get("https://h/").body(()).unwrap());
    let response = response.await.unwrap();
    assert_eq!(
        (*response.body(), response.headers().get_all(SET_COOKIE).iter().count()),
        ("body", 2)
    );
    assert_eq!(response.extensions().get::<ResponseCookies>().unwrap().accepted().len(), 2);
}

/// curl CVE-2022-32205.
#[test]
fn ten_thousand_cookies_in_a_response_hurt_no_sister_site() {
    let jar = CookieJar::new();
    set(&jar, "https://sister.example.com/", "sid=1; Secure").unwrap();
    set(&jar, "https://example.com/", "own=1; Domain=example.com; Secure").unwrap();
    let big = "v".repeat(4000);
    for response in 0..5 {
        let lines = (0..10_000).map(|n| {
            (SET_COOKIE, format!("c{response}-{n}={big}; Domain=example.com").parse().unwrap())
        });
        let cookies =
            jar.store_response(&uri("http://evil.example.com/"), &lines.collect::<HeaderMap>());
        assert_eq!(cookies.accepted().len(), 50);
        assert_eq!(cookies.rejected()[0].reason(), Rejection::TooMany);
    }
    let line = sent(&jar, "https://sister.example.com/");
    assert!(line.len() <= 8190, "{} bytes", line.len());
    let names: Vec<_> = jar.iter().map(|cookie| cookie.name().into_owned()).collect();
    assert!(names.contains(&"sid".to_owned()) && names.contains(&"own".to_owned()));
    assert_eq!(names.len(), 180);
}

/// curl CVE-2023-46219.
#[test]
fn a_save_that_fails_leaves_the_old_file_byte_for_byte() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = CookieFile::open(&path, Format::Netscape).unwrap();
    set(file.jar(), "https://h.example/", "a=1; Max-Age=60").unwrap();
    file.save().unwrap();
    let old = std::fs::read(&path).unwrap();
    // The temporary file gets a name that no file can have.
    let long = directory.path().join("x".repeat(255));
    let broken = CookieFile::with_jar(&long, Format::Netscape, file.jar().clone());
    assert!(broken.save().is_err());
    std::fs::write(&path, "damaged").unwrap();
    set(file.jar(), "https://h.example/", "b=2; Max-Age=60").unwrap();
    assert!(file.save().is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"damaged");
    std::fs::write(&path, &old).unwrap();
    file.save().unwrap();
    assert_eq!(CookieFile::open(&path, Format::Netscape).unwrap().jar().len(), 2);
}

/// curl CVE-2026-6276.
#[tokio::test]
async fn a_host_header_set_by_hand_changes_no_cookies_owner() {
    let (server, log) = server(&[]);
    let jar = CookieJar::new();
    set(&jar, "https://b.example/", "of=b").unwrap();
    let mut client = CookieLayer::new(jar.clone()).layer(server);
    for host in ["b.example", "a.example", "b.example"] {
        let request =
            Request::get("https://a.example/").header(HOST, host).body(String::new()).unwrap();
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    let a = "https://a.example/";
    assert_eq!(
        cookies_of(&log),
        [format!("{a} "), format!("{a} from=a.example"), format!("{a} from=a.example")]
    );
    assert_eq!(sent(&jar, "https://b.example/"), "of=b");
}

/// curl CVE-2025-9086.
#[test]
fn a_cookie_set_over_http_shadows_no_secure_one() {
    let jar = CookieJar::new();
    set(&jar, "https://h.example/", "sid=1; Secure; Path=/").unwrap();
    for line in [
        "sid=evil; Path=/",
        "sid=evil; Path=/deep",
        "sid=evil",
        "sid=; Path=/; Max-Age=0",
        "sid=evil; Domain=h.example; Path=/",
        // Nameless, and sent as `sid=evil`.
        "=sid=evil; Path=/",
        "= sid =evil",
        "sid",
    ] {
        assert_eq!(
            set(&jar, "http://h.example/deep/er", line),
            Err(Rejection::ShadowsSecure),
            "{line}"
        );
    }
    assert_eq!(sent(&jar, "https://h.example/deep/er"), "sid=1");
    for line in ["=sid2=1", "=x=sid", "other=sid"] {
        assert!(set(&jar, "http://h.example/deep/er", line).is_ok(), "{line}");
    }
}

/// urllib3 CVE-2023-43804, undici, Go CVE-2023-45289 and CVE-2024-45336.
#[tokio::test]
async fn nothing_of_one_origin_reaches_another_nor_comes_back_later_in_the_chain() {
    let (server, log) = server(&[
        ("https://a.example/", "https://b.example/"),
        ("https://b.example/", "https://b.example/2"),
    ]);
    let jar = CookieJar::new();
    set(&jar, "https://a.example/", "sid=a; Domain=a.example").unwrap();
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(CookieLayer::new(jar))
        .service(server);
    let mut request = Request::get("https://a.example/").body(String::new()).unwrap();
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Basic c2VjcmV0"));
    request.headers_mut().insert(COOKIE, HeaderValue::from_static("own=a"));
    client.oneshot(request).await.unwrap();
    assert_eq!(
        cookies_of(&log),
        [
            "https://a.example/ own=a; sid=a",
            "https://b.example/ ",
            "https://b.example/2 from=b.example"
        ]
    );
    let credentials: Vec<_> =
        log.lock().unwrap().iter().map(|(.., credentials)| *credentials).collect();
    assert_eq!(credentials, [true, false, false]);
}

/// urllib3 GHSA-qccp-gfcp-xxvc: the same through every entry point.
#[cfg(feature = "routing")]
#[tokio::test]
async fn a_mounted_layer_and_a_mounted_client_strip_as_the_direct_way_does() {
    use tower_outbound::RoutingLayer;
    const CHAIN: &[(&str, &str)] = &[
        ("https://a.example/", "https://b.example/"),
        ("https://b.example/", "https://b.example/2"),
    ];
    let mut seen = Vec::new();
    for way in ["direct", "mounted layer", "mounted client"] {
        let (server, log) = server(CHAIN);
        let jar = CookieJar::new();
        set(&jar, "https://a.example/", "sid=a; Domain=a.example").unwrap();
        let cookies = CookieLayer::new(jar.clone());
        let client: Client = match way {
            "direct" => BoxCloneSyncService::new(cookies.layer(server)),
            "mounted layer" => {
                let routes = RoutingLayer::builder().mount("https://a.example", cookies.clone());
                let routes = routes.mount("https://b.example", cookies).build().unwrap();
                BoxCloneSyncService::new(routes.layer(server))
            }
            _ => {
                let own = cookies.clone().layer(server.clone());
                let routes = RoutingLayer::builder()
                    .mount_service("https://a.example", own)
                    .build()
                    .unwrap();
                BoxCloneSyncService::new(routes.layer(cookies.layer(server)))
            }
        };
        let client = FollowRedirectLayer::new().layer(client);
        let mut request = Request::get("https://a.example/").body(String::new()).unwrap();
        request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Basic c2VjcmV0"));
        client.oneshot(request).await.unwrap();
        seen.push((way, log.lock().unwrap().clone()));
    }
    rows::hold(&seen, |(way, log)| (way, log, &seen[0].1));
    assert_eq!(seen[0].1[1], ("https://b.example/".to_owned(), String::new(), false));
}

/// requests CVE-2018-18074, reqwest #2985.
#[tokio::test]
async fn secure_cookies_do_not_follow_a_redirect_to_http() {
    let (server, log) = server(&[("https://h.example:8443/", "http://h.example:8443/")]);
    let jar = CookieJar::new();
    set(&jar, "https://h.example/", "sid=1; Secure").unwrap();
    set(&jar, "https://h.example/", "plain=1").unwrap();
    let client = ServiceBuilder::new()
        .layer(FollowRedirectLayer::new())
        .layer(CookieLayer::new(jar))
        .service(server);
    client
        .oneshot(Request::get("https://h.example:8443/").body(String::new()).unwrap())
        .await
        .unwrap();
    assert_eq!(
        cookies_of(&log),
        [
            "https://h.example:8443/ sid=1; plain=1",
            "http://h.example:8443/ plain=1; from=h.example"
        ]
    );
}

/// requests CVE-2024-47081, tough-cookie.
#[test]
fn userinfo_is_never_taken_for_the_host() {
    let jar = CookieJar::new();
    set(&jar, "https://a.com/", "of=a").unwrap();
    set(&jar, "https://evil.com/", "of=evil").unwrap();
    set(&jar, "https://example.com/", "of=example").unwrap();
    let rows = [
        ("http://a.com:@evil.com/", "of=evil"),
        ("http://a.com@evil.com/", "of=evil"),
        ("http://a.com:80@evil.com:80/", "of=evil"),
        ("https://example.com%5C@example.net/", ""),
        ("https://example.com%2F@example.net/", ""),
    ];
    rows::hold(rows, |(to, want)| (to, sent(&jar, to), want));
}

/// requests CVE-2015-2296.
#[tokio::test]
async fn a_302s_cookie_belongs_to_who_answered_not_to_where_it_points() {
    let (server, log) = server(&[("https://a.example/", "https://b.example/")]);
    let jar = CookieJar::new();
    let layer = CookieLayer::new(jar.clone());
    let client =
        ServiceBuilder::new().layer(FollowRedirectLayer::new()).layer(layer).service(server);
    client.oneshot(Request::get("https://a.example/").body(String::new()).unwrap()).await.unwrap();
    assert_eq!(cookies_of(&log), ["https://a.example/ ", "https://b.example/ "]);
    assert_eq!(
        (sent(&jar, "https://a.example/"), sent(&jar, "https://b.example/")),
        ("from=a.example".into(), "from=b.example".into())
    );
}

/// requests CVE-2024-35195.
#[tokio::test]
async fn an_override_for_one_request_is_gone_at_the_next() {
    let (server, log) = server(&[]);
    let jar = CookieJar::new();
    set(&jar, "https://h.example/", "sid=1").unwrap();
    let mut client = CookieLayer::new(jar.clone()).layer(server);
    let plain = || Request::get("https://h.example/").body(String::new()).unwrap();
    let mut opted_out = plain();
    opted_out.extensions_mut().insert(CookieControl { send: false, store: false });
    for request in [opted_out, plain(), plain()] {
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    let h = "https://h.example/";
    assert_eq!(
        cookies_of(&log),
        [format!("{h} "), format!("{h} sid=1"), format!("{h} sid=1; from=h.example")]
    );
}

/// tough-cookie CVE-2023-26136.
#[test]
fn a_cookie_or_domain_named_proto_is_one_like_any_other() {
    let jar = CookieJar::new();
    set(&jar, "https://h.example/", "__proto__=1").unwrap();
    set(&jar, "https://__proto__/", "constructor=1; Path=/__proto__").unwrap();
    assert_eq!(sent(&jar, "https://h.example/"), "__proto__=1");
    assert_eq!(sent(&jar, "https://__proto__/__proto__/x"), "constructor=1");
    assert_eq!(sent(&jar, "https://other.example/"), "");
    assert_eq!(
        set(&jar, "https://h.example/", "a=1; Domain=__proto__"),
        Err(Rejection::DomainMismatch)
    );
}

/// cookie RUSTSEC-2017-0005.
#[test]
fn lifetimes_beyond_all_numbers_are_capped_or_ignored() {
    let days = |line: &str| {
        let jar = CookieJar::new();
        set(&jar, "https://h.example/", line).unwrap();
        let expires = jar.iter().next().unwrap().expires();
        expires.map(|at| at.duration_since(SystemTime::now()).unwrap().as_secs().div_ceil(86_400))
    };
    let rows = [
        ("a=1; Max-Age=9e30".to_owned(), None),
        (format!("a=1; Max-Age=1{}", "0".repeat(40)), Some(400)),
        (format!("a=1; Max-Age={}", u64::MAX), Some(400)),
        (format!("a=1; Max-Age={}", i64::MAX), Some(400)),
        ("a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT".to_owned(), Some(400)),
        ("a=1; Expires=Fri, 31 Dec 99999 23:59:59 GMT".to_owned(), None),
    ];
    rows::hold(rows, |(line, want)| {
        let got = days(&line);
        (line, got, want)
    });
}

/// time RUSTSEC-2026-0009.
#[test]
fn a_megabyte_of_nested_expires_is_ignored_and_fast() {
    let start = Instant::now();
    for filler in ["(", "Jan ", "1:1:1 ", "; Expires=("] {
        let jar = CookieJar::new();
        set(
            &jar,
            "https://h.example/",
            format!("a=1; Expires={}", filler.repeat((1 << 20) / filler.len())),
        )
        .unwrap();
        assert_eq!(jar.iter().next().unwrap().expires(), None);
    }
    // Quadratic work would take minutes.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// aiohttp #13653 and #12824.
#[test]
fn a_round_trip_through_a_file_keeps_every_flag_for_the_owner_alone() {
    for format in formats() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("jar");
        let file = CookieFile::open(&path, format).unwrap();
        let lines = [
            "host=1; Path=/",
            "domain=1; Domain=example.com; Path=/",
            "secure=1; Secure; Path=/x",
            "http=1; HttpOnly; Max-Age=1000000",
        ];
        for line in lines {
            set(file.jar(), "https://www.example.com/", line).unwrap();
        }
        file.save().unwrap();
        let again = CookieFile::open(&path, format).unwrap();
        let told = |jar: &CookieJar| {
            let told = |c: tower_outbound::cookie::Cookie| {
                (
                    c.name().into_owned(),
                    c.domain().to_owned(),
                    c.host_only(),
                    c.path().to_owned(),
                    c.secure(),
                    c.http_only(),
                )
            };
            jar.iter().map(told).collect::<Vec<_>>()
        };
        assert_eq!(told(again.jar()), told(file.jar()), "{format:?}");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &std::fs::metadata(&path).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600, "{format:?}");
        }
    }
}

/// gradio GHSA-2mr9-9r47-px2g.
#[tokio::test]
async fn two_tenants_of_one_client_have_disjoint_cookies() {
    let (server, log) = server(&[]);
    let jars = JarPool::builder().build();
    let mut client = CookieLayer::per_request().layer(server);
    for (tenant, path) in [("a", "/login"), ("b", "/"), ("a", "/"), ("", "/")] {
        let mut request =
            Request::get(format!("https://h.example{path}")).body(String::new()).unwrap();
        if !tenant.is_empty() {
            request.extensions_mut().insert(jars.get(tenant));
        }
        client.ready().await.unwrap().call(request).await.unwrap();
    }
    let h = "https://h.example/";
    assert_eq!(
        cookies_of(&log),
        [format!("{h}login "), format!("{h} "), format!("{h} from=h.example"), format!("{h} ")]
    );
}

/// wreq #1209 and #1210.
#[test]
fn host_only_cookies_stay_with_their_host_and_max_age_counts() {
    let jar = CookieJar::new();
    set(&jar, "https://example.com/", "host=1").unwrap();
    set(&jar, "https://example.com/", "gone=1; Max-Age=0").unwrap();
    set(&jar, "https://example.com/", "kept=1; Max-Age=60; Expires=Thu, 1 Jan 1970 00:00:00 GMT")
        .unwrap();
    assert_eq!(
        (sent(&jar, "https://example.com/"), sent(&jar, "https://www.example.com/")),
        ("host=1; kept=1".into(), String::new())
    );
}

/// go-retryablehttp CVE-2024-6104, for cookies: no value and no userinfo in what is shown.
#[test]
fn debug_shows_no_value_and_no_userinfo() {
    let jar = CookieJar::new();
    let from = uri("https://user:s3cret@h.example/?q=s3cret");
    jar.set(&from, "sid=s3cret").unwrap();
    let headers: HeaderMap =
        [(SET_COOKIE, HeaderValue::from_static("sid=s3cret; Domain=com"))].into_iter().collect();
    let cookies = jar.store_response(&from, &headers);
    let layer = CookieLayer::new(jar.clone()).default_origin(from.clone());
    let shown = format!(
        "{jar:?} {:?} {:?} {cookies:?} {layer:?} {:?} {}",
        jar.header(&from),
        jar.iter().collect::<Vec<_>>(),
        tower_outbound::cookie::CookieContext::new(&from, &http::Method::GET),
        cookies.rejected()[0].reason(),
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}

/// A fault of this crate.
#[cfg(feature = "follow-redirect")]
#[tokio::test]
async fn a_redirect_to_another_origin_does_not_lift_what_restricts_the_request() {
    use bytes::Bytes;
    use http_body_util::Full;
    use tower_outbound::{RedirectPolicy, cookie::SiteForCookies};

    let evil = SiteForCookies::new(&uri("https://evil.test/"));
    let opt_out = CookieControl { send: false, store: false };
    // What is sent to b.test, and how many cookies the jar has then.
    let rows = [
        ("a site, our policy", Some(evil.clone()), None, false, "none=1", 2),
        ("a site, expected", Some(evil), None, true, "", 2),
        ("no cookies, our policy", None, Some(opt_out), false, "", 2),
        ("no cookies, expected", None, Some(opt_out), true, "", 2),
    ];
    crate::rows_async::hold(rows, async |(row, site, control, expects, sent, len)| {
        let (server, log) = server(&[("https://a.test/", "https://b.test/")]);
        let server =
            server.map_request(|request: Request<Full<Bytes>>| request.map(|_| String::new()));
        let jar = CookieJar::new();
        set(&jar, "https://b.test/", "strict=1; SameSite=Strict").unwrap();
        set(&jar, "https://b.test/", "none=1; SameSite=None; Secure").unwrap();
        let layer = CookieLayer::new(jar.clone());
        let mut request = Request::get("https://a.test/").body(Full::default()).unwrap();
        site.map(|site| request.extensions_mut().insert(site));
        control.map(|control| request.extensions_mut().insert(control));
        if expects {
            let client = layer.expect_restrictions().layer(server);
            FollowRedirectLayer::new().layer(client).oneshot(request).await.unwrap();
        } else {
            let redirects = FollowRedirectLayer::with_policy(RedirectPolicy::new());
            redirects.layer(layer.layer(server)).oneshot(request).await.unwrap();
        }
        let got = log.lock().unwrap().pop().unwrap();
        (row, (got.0, got.1, jar.len()), ("https://b.test/".to_owned(), sent.to_owned(), len))
    })
    .await;
}

/// A fault of this crate: glibc asks the DNS for these names.
#[test]
fn names_of_localhost_get_no_secure_cookie_of_localhost() {
    let strict = CookieJar::new;
    let names = || CookieJar::builder().localhost_names(true).build();
    let listed = || CookieJar::builder().secure_hosts(["a.localhost"]).build();
    // The origin that has set a Secure cookie, the origin that requests it, what that one gets, and
    // whether it is secure, so that it may set and replace such a cookie.
    let rows = [
        (strict(), "https://localhost/", "http://localhost/", "s=1", true),
        (strict(), "https://localhost/", "http://localhost:3000/", "s=1", true),
        (strict(), "https://localhost/", "http://localhost./", "", false),
        (strict(), "https://localhost/", "http://LOCALHOST/", "", false),
        (strict(), "https://localhost/", "https://localhost./", "s=1", true),
        (strict(), "https://localhost/", "http://a.localhost/", "", false),
        (strict(), "https://a.localhost/", "http://a.localhost/", "", false),
        (names(), "https://localhost/", "http://localhost./", "s=1", true),
        (names(), "https://localhost/", "http://a.localhost/", "", true),
        (names(), "https://a.localhost/", "http://a.localhost/", "s=1", true),
        (listed(), "https://a.localhost/", "http://a.localhost/", "s=1", true),
        (listed(), "https://b.localhost/", "http://b.localhost/", "", false),
        (listed(), "https://localhost/", "http://localhost./", "", false),
    ];
    rows::hold(rows, |(jar, from, to, gets, is_secure)| {
        set(&jar, from, "s=1; Secure; Path=/").unwrap();
        let got = (sent(&jar, to), set(&jar, to, "s=2; Secure; Path=/").is_ok());
        (format!("{from} to {to}"), got, (gets.to_owned(), is_secure))
    });
}

/// By handshakes: while the first `new_jar` of a key reads its file, others use the pool. The slow
/// one must not put back what it read before that.
#[test]
fn a_slow_new_jar_never_puts_an_older_jar_back_over_a_newer_one() {
    use std::sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::channel,
    };
    type Meanwhile = fn(&JarPool<u32>, &Mutex<u32>);
    let uri: http::Uri = "https://example.com/".parse().unwrap();
    // What other threads do while the jar of key 1 is made from the first version of its file.
    let rows: &[(&str, Meanwhile, &str)] = &[
        ("nothing", |_, _| (), "v=1"),
        ("another key comes and goes", |jars, _| drop((jars.get(2_u32), jars.get(3_u32))), "v=1"),
        ("all are evicted", |jars, _| _ = jars.evict_all(), "v=1"),
        (
            "its key is removed and its file written",
            |jars, file| {
                *file.lock().unwrap() = 2;
                assert!(jars.remove(&1).is_none());
            },
            "v=2",
        ),
    ];
    rows::hold(rows, |(row, meanwhile, want)| {
        let ((entered, enter), (go_on, wait)) = (channel::<()>(), channel::<()>());
        let (entered, wait) = (Mutex::new(entered), Mutex::new(wait));
        let (file, calls) = (Arc::new(Mutex::new(1_u32)), Arc::new(AtomicU64::new(0)));
        let (read, counted, line) = (Arc::clone(&file), Arc::clone(&calls), uri.clone());
        let jars: JarPool<u32> = JarPool::keyed()
            .max_jars(1)
            .new_jar(move |key| {
                let version = *read.lock().unwrap();
                if *key == 1 && counted.fetch_add(1, Ordering::SeqCst) == 0 {
                    entered.lock().unwrap().send(()).unwrap();
                    wait.lock().unwrap().recv().unwrap();
                }
                let jar = CookieJar::new();
                jar.set(&line, format!("v={version}")).unwrap();
                jar
            })
            .build();
        let got = std::thread::scope(|scope| {
            let slow = scope.spawn(|| jars.get(1_u32));
            enter.recv().unwrap();
            meanwhile(&jars, &file);
            // It asks for the same key. Whether it waits or not, it must get the slow one's jar.
            let other = scope.spawn(|| jars.get(1_u32));
            go_on.send(()).unwrap();
            let (slow, other) = (slow.join().unwrap(), other.join().unwrap());
            other.set(&uri, "shared=1").unwrap();
            sent(&slow, "https://example.com/")
        });
        (row, got, format!("{want}; shared=1"))
    });
}
