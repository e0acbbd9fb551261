//! The public names that others write against, used once each: this file compiles as long as they
//! stand.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Empty, Full};
use tower::{BoxError, Layer, Service, layer::util::Identity, service_fn};
use tower_outbound::{
    CookieLayer, RedirectPolicy, RetryLayer, RoutingLayer,
    cookie::{
        self, CallerCookies, Cookie, CookieConflict, CookieControl, CookieFile, CookieJar,
        CookieJarBuilder, CookieLimits, CookiePolicy, CookieService, CookieStorage, FileError,
        Format, InvalidCookie, PublicSuffixes, ReadError, ReadSummary, Rejection, ResponseCookies,
        StoreAction,
    },
    retry::{
        self, Attempt, AttemptNumber, AttemptRecord, Backoff, Decision, Drain, Failure, Jitter,
        Limit, OverMax, Policy, ReplayBody, ReplayBodyLayer, ReplayableBody, RetryError,
        RetryHistory, RetryPolicy, RetryService, ServerDelay, StopReason, retry_after,
    },
    routing::{Mount, MountError, NoMount, PrefixError, RoutingHandle, RoutingService},
};

type Body = Full<Bytes>;

fn storage(_: &impl CookieStorage) {}
fn clone_send_sync<T: Clone + Send + Sync>() {}
fn replayable<T: ReplayableBody>() {}

struct Everything;
impl CookiePolicy for Everything {}

#[test]
fn names_of_the_cookie_wing() {
    clone_send_sync::<CookieJar>();
    clone_send_sync::<RedirectPolicy>();
    let _: RedirectPolicy = RedirectPolicy::new().max(20);
    let jar = CookieJar::new();
    let _ = CookieJar::default();
    let uri: Uri = "https://example.com/".parse().unwrap();
    let _: Result<StoreAction, Rejection> = jar.set(&uri, "a=1");
    let _: Result<StoreAction, Rejection> = jar.set(&uri, b"a=1");
    let _: ResponseCookies = jar.store_response(&uri, &HeaderMap::new());
    let _: Option<HeaderValue> = jar.header(&uri);
    let _: Vec<Cookie> = jar.matching(&uri);
    let iter = jar.iter();
    let _: Result<Option<Cookie>, CookieConflict> = jar.get("a");
    let _: BTreeMap<String, String> = jar.to_map();
    jar.insert(Cookie::builder("n", "v").domain("example.com").build().unwrap());
    let _: Option<Cookie> = jar.remove("example.com", "/", "n");
    jar.merge(&CookieJar::new());
    let _: (usize, usize, usize, bool) =
        (jar.clear_expired(), jar.clear_session_cookies(), jar.len(), jar.is_empty());
    jar.clear_domain("example.com");
    let _: Result<ReadSummary, ReadError> = jar.read_from(&b""[..], Format::Netscape);
    let _: io::Result<()> = jar.write_to(Vec::new(), Format::Json);
    jar.clear();
    drop(iter);
    for suffixes in [
        PublicSuffixes::Embedded,
        PublicSuffixes::Custom(publicsuffix_list()),
        PublicSuffixes::None,
    ] {
        let limits = CookieLimits {
            per_domain: 180,
            total: 50_000,
            bytes: 16 * 1024 * 1024,
            per_response: 50,
            header_bytes: 8_190,
            header_cookies: 150,
        };
        assert_eq!(limits, CookieLimits::default());
        let builder: CookieJarBuilder = CookieJar::builder();
        let _: CookieJar = builder
            .public_suffixes(suffixes)
            .limits(limits)
            .policy(Everything)
            .clock(SystemTime::now)
            .build();
    }
    jar.set(&uri, "a=1").unwrap();
    let cookie = jar.get("a").unwrap().unwrap();
    let _ = (
        cookie.name(),
        cookie.value(),
        cookie.value_bytes(),
        cookie.domain(),
        cookie.host_only(),
        cookie.path(),
    );
    let _ = (
        cookie.secure(),
        cookie.http_only(),
        cookie.same_site(),
        cookie.partitioned(),
        cookie.expires(),
    );
    let _: (SystemTime, SystemTime) = (cookie.created(), cookie.last_access());
    let directory = tempfile::tempdir().unwrap();
    let file: Result<CookieFile, FileError> =
        CookieFile::open(directory.path().join("jar"), Format::Netscape);
    let file = file.unwrap();
    let _: &CookieJar = file.jar();
    let _: Result<(), FileError> = file.save();
    assert_eq!(CookieControl { send: true, store: true }, CookieControl::default());
    let _: Result<HeaderValue, InvalidCookie> = cookie::header_value([("user_id", "2")]);
    storage(&jar);
    let store = Mutex::new(cookie_store::CookieStore::default());
    storage(&store);
    let _ = CookieLayer::with_storage(store)
        .default_origin(uri.clone())
        .caller_cookies(CallerCookies::Replace);
    let _ = CookieLayer::per_request().caller_cookies(CallerCookies::Merge);
    let client =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    let service: CookieService<_, CookieJar> = CookieLayer::default().layer(client);
    fn is_service<S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>>(_: S) {}
    is_service(service);
    let cookies = ResponseCookies::default();
    let _ = (cookies.accepted(), cookies.rejected(), cookies.get("a"), cookies.to_map());
    let _: CookieJar = CookieJar::from(&cookie_store::CookieStore::default());
    let _: cookie_store::CookieStore = (&jar).into();
    let theirs: cookie_store::Cookie<'static> = (&cookie).try_into().unwrap();
    let _: Cookie = (&theirs).try_into().unwrap();
}

fn publicsuffix_list() -> publicsuffix::List {
    "// ===BEGIN ICANN DOMAINS===\ncom\n// ===END ICANN DOMAINS===\n".parse().unwrap()
}

#[derive(Clone)]
struct Never;

impl Policy for Never {
    fn for_request(&self, _extensions: &Extensions) -> Self {
        Self
    }

    fn decide(&mut self, _attempt: &Attempt<'_>) -> Decision {
        let _ = Decision::Retry { after: Duration::ZERO };
        Decision::Return(StopReason::Success)
    }
}

#[test]
fn names_of_the_retry_wing() {
    let policy: RetryPolicy = RetryPolicy::new()
        .total(3)
        .connect(None)
        .read(Limit::Disabled)
        .status(2)
        .other(1)
        .allowed_methods([Method::GET])
        .any_method()
        .status_forcelist([StatusCode::BAD_GATEWAY])
        .backoff(
            Backoff::exponential(Duration::from_millis(100))
                .max(Duration::from_secs(20))
                .jitter(Jitter::Full),
        )
        .respect_retry_after(true)
        .retry_after_max(Duration::from_secs(6 * 60 * 60))
        .retry_after_over_max(OverMax::GiveUp)
        .retry_after_over_max(OverMax::Clamp)
        .budget(tower::retry::budget::TpsBudget::new(Duration::from_secs(10), 10, 0.2))
        .no_budget()
        .attempt_timeout(Duration::from_secs(1))
        .deadline(Duration::from_secs(5))
        .drain(Drain { bytes: 64 * 1024, time: Duration::from_millis(100) })
        .raise_on_status(false)
        .classify(|_: Result<&http::response::Parts, &(dyn std::error::Error + 'static)>| None)
        .retry_after(|_: &http::response::Parts| None::<ServerDelay>)
        .retry_after(retry_after::retry_after_ms)
        .retry_after(retry_after::x_ratelimit_reset)
        .retry_after(retry_after::grpc_retry_pushback_ms)
        .idempotent(|_: &Method, _: &Uri, _: &HeaderMap| false)
        .before_retry(|_: &mut http::request::Parts, _: &AttemptRecord| {});
    let _ = [ServerDelay::After(Duration::ZERO), ServerDelay::Never];
    let AttemptNumber(_number) = AttemptNumber(2);
    let _: fn(&AttemptRecord) -> Option<Duration> = AttemptRecord::asked;
    for backoff in [
        Backoff::none(),
        Backoff::constant(Duration::ZERO),
        Backoff::exponential(Duration::ZERO),
        Backoff::urllib3(Duration::ZERO),
    ] {
        let _ = backoff.jitter(Jitter::Added(Duration::ZERO));
    }
    let _ = [Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated];
    let _ = [
        Failure::Connect,
        Failure::Unsent,
        Failure::Read,
        Failure::Timeout,
        Failure::Status(StatusCode::BAD_GATEWAY),
        Failure::Other,
        Failure::Never,
    ];
    let _ = RetryLayer::new(Never);
    let _ = RetryLayer::new(policy.clone()).replay_with(|body: &Body| Some(body.clone()));
    let _ = tower::retry::RetryLayer::new(policy.clone());
    let _ = tower::retry::RetryLayer::new(policy.boxed_errors());
    let _ = ReplayBodyLayer::new().max_bytes(64 * 1024);
    let _: ReplayBody<Body> = ReplayBody::default();
    replayable::<Empty<Bytes>>();
    replayable::<Body>();
    replayable::<Either<Body, Empty<Bytes>>>();
    replayable::<ReplayBody<Body>>();
    assert!(Body::default().try_replay().is_some() && Body::default().can_replay());
    fn history(history: &RetryHistory, error: &RetryError) {
        let _ = (history.attempts(), history.stop_reason(), history.to_string());
        let (_, _): (&RetryHistory, _) = (error.history(), std::error::Error::source(error));
    }
    let _ = history;
    fn service<S, P, R, B>(service: RetryService<S, P, R>)
    where
        RetryService<S, P, R>: Service<Request<B>, Error = BoxError>,
    {
        drop(service);
    }
    let client =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    service(RetryLayer::new(retry::RetryPolicy::new()).layer(client));
}

#[tokio::test]
async fn names_of_the_routing_wing() {
    let client = || {
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) })
    };
    let layer: Result<RoutingLayer<_, Body, Body>, PrefixError> = RoutingLayer::builder()
        .mount("http://localhost", RetryLayer::new(RetryPolicy::new()))
        .mount_service("https://legacy.example", client())
        .mount_keyed("https://keyed.example", "1", Identity::new())
        .strict()
        .mount_errors()
        .default_origin("https://legacy.example".parse().unwrap())
        .build();
    let mut service: RoutingService<_, Body, Body> = layer.unwrap().layer(client());
    let handle: RoutingHandle<_, Body, Body> = service.handle();
    let changed: Result<(), PrefixError> = handle.update(|mounts| {
        mounts.unmount("http://localhost").mount("https://new.example", Identity::new())
    });
    changed.unwrap();
    let response = service.call(Request::new(Body::default())).await;
    assert!(
        response.unwrap().extensions().get::<Mount>().is_some(),
        "a bare slash goes to the default origin"
    );
    let response = service
        .call(Request::get("https://new.example/").body(Body::default()).unwrap())
        .await
        .unwrap();
    let Mount(prefix) = response.extensions().get::<Mount>().unwrap();
    assert_eq!(&**prefix, "https://new.example");
    let replaced: Result<(), PrefixError> = handle.replace(|mounts| {
        mounts.mount_keyed("https://keyed.example", String::from("1"), Identity::new())
    });
    replaced.unwrap();
    let request = Request::get("http://keyed.example/").body(Body::default()).unwrap();
    let error = service.call(request).await.unwrap_err();
    let nearest: Option<&str> = error.downcast_ref::<NoMount>().unwrap().nearest();
    assert_eq!(nearest, Some("https://keyed.example"));
    let parts = |error: MountError| -> (Arc<str>, BoxError) { (error.mount, error.source) };
    let _ = parts;
}
