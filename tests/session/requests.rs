//! The layer in a stack: which jar a request gets.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use http::{HeaderMap, Request, Response};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_outbound::{
    CookieLayer,
    cookie::HostDecides,
    session::{
        MemoryStore, SessionKey, SessionLayer, SessionPool, SessionStore, SessionVersion, Version,
    },
};

use crate::{
    rows_async,
    support::{Replica, SITE, answer, get, key, request, settle, store_key, tick, uri},
};

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_or_a_host_has_no_session() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    a.set("ann", &["id=1"]).await;
    let rows = [
        ("with a key", request("ann", SITE, &[]), true),
        ("without", Request::get(SITE).body(()).unwrap(), false),
        ("without a host", request("ann", "/", &[]), false),
        ("another site", request("ann", "https://example.org/", &[]), false),
    ];
    rows_async::hold(rows, async |(name, request, has_cookies)| {
        let has_session = name != "without" && name != "without a host";
        let response = a.client.clone().oneshot(request).await.unwrap();
        let version = response.extensions().get::<SessionVersion>();
        assert_eq!(version.is_some(), has_session, "{name}");
        (name, response.into_body(), if has_cookies { "id=1" } else { "" })
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_site_is_that_of_the_cookies_below() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    a.set("ann", &["id=1"]).await;
    let origin = || uri("https://example.com");
    let client = SessionLayer::new(a.pool.clone()).default_origin(origin()).layer(
        CookieLayer::per_request()
            .default_origin(origin())
            .layer(service_fn(|request: Request<()>| async move { answer(&request) })),
    );
    let by_host = |host: &str| {
        Request::get("https://127.0.0.1:8443/").header("host", host).extension(key("ann"))
    };
    let rows = [
        ("a relative URI", request("ann", "/path", &[]), "id=1"),
        ("a Host header", by_host("example.com").extension(HostDecides).body(()).unwrap(), "id=1"),
        ("one that does not decide", by_host("example.com").body(()).unwrap(), ""),
        ("another host", by_host("a.test").extension(HostDecides).body(()).unwrap(), ""),
        ("no host", by_host("a@b").extension(HostDecides).body(()).unwrap(), ""),
    ];
    rows_async::hold(rows, async |(name, request, want)| {
        let body = client.clone().oneshot(request).await.unwrap().into_body();
        (name, body, want)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_and_an_error_pass_as_they_are() {
    #[derive(Debug)]
    struct Mine;
    impl std::fmt::Display for Mine {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("mine")
        }
    }
    impl std::error::Error for Mine {}

    /// Neither `Clone` nor `Sync` nor a body.
    #[derive(Debug)]
    struct Whole(#[expect(dead_code, reason = "it is not Sync")] std::cell::Cell<u8>);

    let a = Replica::new(&MemoryStore::new()).await;
    let client = SessionLayer::new(a.pool.clone()).layer(CookieLayer::per_request().layer(
        service_fn(|request: Request<Whole>| async move {
            match request.uri().path() {
                "/error" => Err(Mine),
                _ => Ok(Response::builder()
                    .header("set-cookie", "id=1")
                    .body(request.into_body())
                    .unwrap()),
            }
        }),
    ));
    let request = |path: &str| {
        let uri = format!("https://example.com{path}");
        Request::get(uri).extension(key("ann")).body(Whole(0.into())).unwrap()
    };
    for _ in ["cold", "warm"] {
        let error = client.clone().oneshot(request("/error")).await.unwrap_err();
        assert!(error.is::<Mine>());
    }
    let _: Response<Whole> = client.oneshot(request("/")).await.unwrap();
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn each_attempt_sees_the_cookies_of_the_one_before_it() {
    use http::{StatusCode, header::COOKIE};
    use tower_outbound::retry::RetryLayer;

    /// Fails until it gets the cookie that it sets.
    async fn server(
        request: Request<http_body_util::Empty<bytes::Bytes>>,
    ) -> Result<Response<http_body_util::Empty<bytes::Bytes>>, Infallible> {
        let mut response = Response::new(http_body_util::Empty::new());
        if request.headers().get(COOKIE).is_none_or(|got| got != "id=1") {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response.headers_mut().insert("set-cookie", "id=1".parse().unwrap());
        }
        Ok(response)
    }

    for is_outside in [true, false] {
        let memory = MemoryStore::new();
        let a = Replica::new(&memory).await;
        let request = Request::get(SITE).extension(key("ann")).body(Default::default()).unwrap();
        let sessions = SessionLayer::new(a.pool.clone());
        let cookies = CookieLayer::per_request().layer(service_fn(server));
        let status = if is_outside {
            let client = RetryLayer::default().layer(sessions.layer(cookies));
            client.oneshot(request).await.unwrap().status()
        } else {
            let client = sessions.layer(RetryLayer::default().layer(cookies));
            client.oneshot(request).await.unwrap().status()
        };
        assert_eq!(status, StatusCode::OK, "{is_outside}");
        // Even if the last response set nothing.
        assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=1", "{is_outside}");
    }
}

#[cfg(feature = "follow-redirect")]
#[tokio::test(start_paused = true)]
async fn a_login_over_another_origin_keeps_its_session_with_our_redirects_alone() {
    use http::header::COOKIE;
    use tower::{BoxError, ServiceBuilder};
    use tower_http::follow_redirect::{FollowRedirectLayer, policy::Policy};
    use tower_outbound::RedirectPolicy;

    type Body = http_body_util::Empty<bytes::Bytes>;

    /// app -> login -> app, each with its own cookie. The last answers with what it got.
    async fn server(request: Request<Body>) -> Result<Response<Body>, Infallible> {
        let cookies = request.headers().get(COOKIE).cloned();
        let response = match (request.uri().host().unwrap(), request.uri().path()) {
            ("app.test", "/") => Response::builder()
                .status(302)
                .header("set-cookie", "app=1; Path=/")
                .header("location", "https://login.test/"),
            ("login.test", _) => Response::builder()
                .status(302)
                .header("set-cookie", "login=1; Path=/")
                .header("location", "https://app.test/back"),
            _ => Response::builder()
                .header("x-got", cookies.unwrap_or(http::HeaderValue::from_static(""))),
        };
        Ok(response.body(Body::new()).unwrap())
    }

    async fn got<P>(a: &Replica, policy: P) -> String
    where
        P: Policy<Body, BoxError> + Clone + Send + 'static,
    {
        let client = ServiceBuilder::new()
            .layer(FollowRedirectLayer::with_policy(policy))
            .layer(SessionLayer::new(a.pool.clone()))
            .layer(CookieLayer::per_request())
            .service(service_fn(server));
        let request =
            Request::get("https://app.test/").extension(key("ann")).body(Body::new()).unwrap();
        let response = client.oneshot(request).await.unwrap();
        response.headers()["x-got"].to_str().unwrap().to_owned()
    }

    let a = Replica::new(&MemoryStore::new()).await;
    assert_eq!(got(&a, RedirectPolicy::new()).await, "app=1");
    let jar = a.pool.jar(&key("ann"), &uri("https://login.test/")).await.unwrap();
    assert_eq!(jar.to_map()["login"], "1");
    // Another policy drops the key when the origin changes: no cookies are sent or stored.
    let b = Replica::new(&MemoryStore::new()).await;
    assert_eq!(got(&b, tower_http::follow_redirect::policy::Standard::default()).await, "");
    let jar = b.pool.jar(&key("ann"), &uri("https://login.test/")).await.unwrap();
    assert!(jar.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_said_in_clear_takes_no_secure_cookie_on_any_replica() {
    let rows = [
        ("set", "sid=evil; Path=/"),
        ("delete", "sid=; Path=/; Max-Age=0"),
        ("shadow", "sid=evil; Path=/deep"),
        ("of the domain", "sid=evil; Path=/; Domain=example.com"),
    ];
    rows_async::hold(rows, async |(name, line)| {
        let memory = MemoryStore::new();
        let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
        a.sees("ann").await;
        b.sees("ann").await;
        b.store.tells.store(false, SeqCst);
        a.set("ann", &["sid=1; Path=/; Secure"]).await;
        // `b` does not know of it, and its clock is later.
        tick();
        let clear = request("ann", "http://example.com/deep/", &[line]);
        b.client.clone().oneshot(clear).await.unwrap();
        settle().await;
        let deep = "https://example.com/deep/";
        let mut got = Vec::new();
        for replica in [&a, &b, &Replica::new(&memory).await] {
            let response = replica.client.clone().oneshot(request("ann", deep, &[])).await;
            got.push(response.unwrap().into_body());
        }
        (name, got, vec!["sid=1"; 3])
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_in_clear_stays_so_after_its_tombstone_has_gone() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let memory = MemoryStore::new();
    let ann = store_key(&memory, "ann").await;
    let a = Replica::new(&memory).await;
    a.set("ann", &["id=1; Path=/"]).await;
    tick();
    let clear = request("ann", "http://example.com/", &["id=; Path=/; Max-Age=0"]);
    a.client.clone().oneshot(clear).await.unwrap();
    // The next change of anything tidies up. A store removes tombstones in no other call.
    a.set("ann", &["more=1; Path=/"]).await;
    let mut records = memory.load(&ann).await.unwrap().records;
    records.retain(|record| record.body.is_some());
    let a_day_later = MemoryStore::new();
    a_day_later.apply(&ann, &Version::default(), &records, HOUR).await.unwrap();
    let sees = Replica::new(&a_day_later).await.sees("ann").await;
    assert!(!sees.contains("id=1"), "{sees}");
}

#[tokio::test(start_paused = true)]
async fn readiness_is_used_for_the_request_that_asked_for_it() {
    /// Counts readiness and calls.
    #[derive(Clone)]
    struct Counting {
        ready: bool,
        calls: Arc<AtomicUsize>,
        headers: Arc<Mutex<Vec<HeaderMap>>>,
    }

    impl Service<Request<()>> for Counting {
        type Response = Response<()>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<()>, Infallible>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            self.ready = true;
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Request<()>) -> Self::Future {
            assert!(std::mem::take(&mut self.ready), "called without readiness");
            self.calls.fetch_add(1, SeqCst);
            self.headers.lock().unwrap().push(request.headers().clone());
            std::future::ready(Ok(Response::new(())))
        }
    }

    let (pool, _driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
    let (calls, headers) = (Arc::default(), Arc::default());
    let inner = Counting { ready: false, calls: Arc::clone(&calls), headers };
    let mut client = SessionLayer::new(pool).layer(inner);
    for _ in 0..3 {
        client.ready().await.unwrap().call(request("ann", SITE, &[])).await.unwrap();
    }
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn the_key_says_nothing_and_compares_by_its_bytes() {
    assert_eq!(key("ann"), SessionKey::new(*b"ann"));
    assert_ne!(key("ann"), key("Ann"));
    let a = Replica::new(&MemoryStore::new()).await;
    a.set("ann", &["id=1"]).await;
    assert_eq!(get(&a.client, "Ann", &[]).await.unwrap(), "");
    tokio::time::sleep(Duration::ZERO).await;
}
