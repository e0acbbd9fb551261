//! The caller's policies, and the site on whose behalf a request is made.

use std::convert::Infallible;

use http::{Method, Request, Response, header::COOKIE};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieJar, CookieLayer, CookiePolicy, DomainPolicy, Rejection,
    ResponseCookies, SiteForCookies, StoreAction,
};

use crate::{rows, rows_async};

struct NoAds;

impl CookiePolicy for NoAds {
    fn accept(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        context.uri().path() != "/refused" && cookie.name() != "ad"
    }

    fn send(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        context.method() == Method::GET && cookie.name() != "kept"
    }
}

#[test]
fn the_caller_has_a_say_on_what_is_stored_and_sent() {
    let jar = CookieJar::builder().policy(NoAds).build();
    let uri = "https://example.com/".parse().unwrap();
    assert_eq!(jar.set(&uri, "ad=1"), Err(Rejection::Policy));
    assert_eq!(
        jar.set(&"https://example.com/refused".parse().unwrap(), "a=1"),
        Err(Rejection::Policy)
    );
    assert_eq!(jar.set(&uri, "a=1"), Ok(StoreAction::Inserted));
    assert_eq!(jar.set(&uri, "kept=1"), Ok(StoreAction::Inserted));
    assert_eq!(jar.header(&uri).unwrap(), "a=1");
    assert_eq!(jar.matching(&uri).len(), 2);
    // A refusal is a typed reason in the response's report, and a logout needs no permission.
    let headers = [("set-cookie", "ad=1"), ("set-cookie", "a=; Max-Age=0")];
    let headers = headers
        .map(|(name, line)| (name.parse().unwrap(), line.parse().unwrap()))
        .into_iter()
        .collect();
    let cookies = jar.store_response(&uri, &headers);
    assert_eq!(
        (cookies.rejected()[0].name(), cookies.rejected()[0].reason()),
        ("ad", Rejection::Policy)
    );
    assert_eq!(jar.header(&uri), None);
    // Unchanged lines are asked about again.
    let jar = CookieJar::builder().policy(DomainPolicy::block(["other.example"]).unwrap()).build();
    for action in [StoreAction::Inserted, StoreAction::Unchanged] {
        assert_eq!(jar.set(&uri, "a=1"), Ok(action));
    }
}

#[test]
fn domains_are_allowed_and_blocked_with_their_subdomains() {
    let allow = || DomainPolicy::allow(["example.com", ".example.net"]).unwrap();
    let block = || DomainPolicy::block(["ads.example.com", "10.0.0.1"]).unwrap();
    let both = || allow().and_block(["ads.example.com"]).unwrap();
    let rows: &[(&str, DomainPolicy, &str, bool)] = &[
        ("allow", allow(), "https://example.com/", true),
        ("allow", allow(), "https://www.EXAMPLE.com./", true),
        ("allow", allow(), "https://example.net/", true),
        ("allow", allow(), "https://notexample.com/", false),
        ("allow", allow(), "https://example.org/", false),
        ("block", block(), "https://example.com/", true),
        ("block", block(), "https://ads.example.com/", false),
        ("block", block(), "https://x.ads.example.com/", false),
        ("block", block(), "https://10.0.0.1/", false),
        ("both", both(), "https://www.example.com/", true),
        ("both", both(), "https://ads.example.com/", false),
        ("both", both(), "https://example.org/", false),
    ];
    rows::hold(rows, |(fact, policy, uri, want)| {
        let uri = uri.parse().unwrap();
        let jar = CookieJar::builder().policy(policy.clone()).build();
        let stored = jar.set(&uri, "a=1").is_ok();
        jar.insert(Cookie::builder("b", "2").domain(uri.host().unwrap()).build().unwrap());
        (format!("{fact}: {uri}"), [stored, jar.header(&uri).is_some()], [*want; 2])
    });
    for domain in [
        "",
        "https://example.com",
        "example.com:80",
        "exa mple.com",
        "b\u{fc}cher.example",
        "*.example.com",
        "https://u:secret@example.com",
    ] {
        let error = DomainPolicy::block([domain]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        assert!(error.to_string().contains("is not the domain of a host"), "{domain}: {error}");
    }
}

#[tokio::test]
async fn a_request_on_behalf_of_another_site_carries_no_lax_or_strict_cookies() {
    let jar = CookieJar::new();
    let uri = "https://example.com/".parse().unwrap();
    for line in [
        "strict=1; SameSite=Strict",
        "lax=1; SameSite=Lax",
        "unsaid=1",
        "none=1; SameSite=None; Secure",
    ] {
        jar.set(&uri, line).unwrap();
    }
    let server = service_fn(|request: Request<()>| async move {
        let got =
            request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap()).to_owned();
        Ok::<_, Infallible>(Response::builder().header("set-cookie", "new=1").body(got).unwrap())
    });
    let client = CookieLayer::new(jar.clone()).layer(server);
    let site = |page: &str| SiteForCookies::new(&page.parse().unwrap());
    let all = "strict=1; lax=1; unsaid=1; none=1";
    // Sent, and whether the response may store.
    let rows: &[(&str, Option<SiteForCookies>, Method, &str, bool)] = &[
        ("no word", None, Method::POST, all, true),
        ("its own site", Some(site("https://www.example.com/")), Method::POST, all, true),
        ("another scheme", Some(site("http://example.com/")), Method::GET, "none=1", false),
        ("another site", Some(site("https://evil.example/")), Method::GET, "none=1", false),
        ("no site", Some(SiteForCookies::opaque()), Method::GET, "none=1", false),
        (
            "a link that a person follows",
            Some(site("https://evil.example/").top_level_navigation(true)),
            Method::GET,
            "lax=1; unsaid=1; none=1",
            true,
        ),
        (
            "a form that a person sends",
            Some(site("https://evil.example/").top_level_navigation(true)),
            Method::POST,
            "none=1",
            true,
        ),
    ];
    rows_async::hold(rows, async |(fact, site, method, want, stores)| {
        let mut request =
            Request::builder().method(method).uri("https://example.com/").body(()).unwrap();
        request.extensions_mut().extend(site.clone().map_or_else(http::Extensions::new, |site| {
            let mut extensions = http::Extensions::new();
            extensions.insert(site);
            extensions
        }));
        let response = client.clone().oneshot(request).await.unwrap();
        let rejected = response.extensions().get::<ResponseCookies>().unwrap().rejected();
        let reason = rejected.first().map(tower_outbound::cookie::RejectedCookie::reason);
        let stored = jar.remove("example.com", "/", "new").is_some();
        let want = ((*want).to_owned(), *stores, (!stores).then_some(Rejection::CrossSite));
        (fact, (response.body().clone(), stored, reason), want)
    })
    .await;
}
