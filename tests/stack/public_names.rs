//! Uses each public name once, as other people's code does. This file compiles as long as no name
//! changes.

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
        self, CallerCookies, Change, Cookie, CookieConflict, CookieContext, CookieControl,
        CookieFile, CookieId, CookieJar, CookieJarBuilder, CookieLimits, CookiePolicy,
        CookieService, CookieStorage, DeletedCookie, DomainPolicy, FileError, Format, HostDecides,
        InvalidCookie, JarPool, PublicSuffixes, ReadError, ReadSummary, RejectedCookie, Rejection,
        ResponseCookies, SameSite, SiteForCookies, SkippedLine, StoreAction, Withheld,
    },
    retry::{
        self, Attempt, AttemptNumber, AttemptRecord, Backoff, Budget, Decision, Drain, Failure,
        Jitter, Limit, OneExchangeLayer, OneExchangeService, OverMax, Policy, ReplayBody,
        ReplayBodyLayer, ReplayableBody, RetryError, RetryHistory, RetryPolicy, RetryService,
        ServerDelay, StopReason, Terms,
        replay::{Replay, ReplayBodyService, ReplayByTrait, ReplayWith},
        retry_after,
    },
    routing::{
        Mount, MountChanges, MountError, MountPrefix, MountService, NoMount, PrefixError,
        PrefixFault, RoutingHandle, RoutingService, UriError,
    },
};

type Body = Full<Bytes>;

fn storage(_: &impl CookieStorage) {}
fn clone_send_sync<T: Clone + Send + Sync>() {}
fn replayable<T: ReplayableBody>() {}

#[cfg(feature = "session")]
fn is<T>(_: T) {}

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

/// A storage may be shared or boxed.
#[test]
fn names_of_the_cookie_wing_for_storages_and_for_one_request() {
    let store = || Mutex::new(cookie_store::CookieStore::default());
    storage(&Arc::new(store()));
    storage(&Box::new(store()));
    storage(&&store());
    let _ = CookieLayer::with_storage(Arc::new(store())).expect_restrictions();
    let (uri, site): (Uri, Uri) =
        ("https://example.com/".parse().unwrap(), "https://a.example/".parse().unwrap());
    let site = SiteForCookies::new(&site).top_level_navigation(true);
    let _ = SiteForCookies::opaque();
    let context = CookieContext::new(&uri, &Method::GET).on_behalf_of(Some(&site));
    let _: (&Uri, &Method, Option<&SiteForCookies>, usize) =
        (context.uri(), context.method(), context.site(), context.reserved());
    let jar = CookieJar::builder()
        .localhost_names(false)
        .secure_hosts(["backend"])
        .policy(DomainPolicy::block(["evil.example"]).unwrap())
        .log_changes()
        .build();
    jar.set(&uri, "id=42; SameSite=Lax").unwrap();
    for (cookie, why) in jar.explain(&context) {
        let _: (Cookie, Option<Withheld>) = (cookie, why);
    }
    let _: Option<SameSite> = jar.get("id").unwrap().unwrap().same_site();
    let mut request = Request::new(());
    request.extensions_mut().insert(HostDecides);
    request.extensions_mut().insert(site);
    let cookies = ResponseCookies::default();
    let _: (&[DeletedCookie], &[RejectedCookie]) = (cookies.deleted(), cookies.rejected());
    let (converted, left_out): (CookieJar, usize) =
        CookieJar::from_cookie_store(&cookie_store::CookieStore::default());
    let (_, _): (cookie_store::CookieStore, usize) = converted.to_cookie_store();
    assert_eq!(left_out, 0);
}

#[test]
fn names_of_jars_that_are_shared_and_kept() {
    let uri: Uri = "https://example.com/".parse().unwrap();
    let jar = CookieJar::builder().log_changes().build();
    jar.set(&uri, "id=42").unwrap();
    let site: String = jar.site_of(&uri).unwrap();
    let changes: Vec<Change> = jar.take_changes();
    let change = &changes[0];
    let (id, at): (&CookieId, SystemTime) = (change.id(), change.at());
    let bytes: Vec<u8> = change.cookie().unwrap().to_bytes();
    let cookie: Cookie = Cookie::from_bytes(&bytes).unwrap();
    assert_eq!((&cookie.id(), CookieId::from_bytes(id.as_bytes()).as_ref()), (id, Some(id)));
    jar.seen(at);
    jar.load_site(&site, [Change::set(cookie, at), Change::deleted(id.clone(), at)]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("jar");
    let file: CookieFile = CookieFile::builder(&path, Format::Netscape)
        .strict(false)
        .jar(CookieJar::new())
        .lock_timeout(Duration::from_secs(1))
        .max_bytes(1 << 20)
        .open()
        .unwrap();
    let _: &[SkippedLine] = file.skipped();
    let _: (Result<(), FileError>, Result<bool, FileError>) =
        (file.try_save(), file.save_if_changed());
    let _: Result<(), FileError> = file.overwrite();
    let jars: JarPool = JarPool::builder()
        .max_jars(10)
        .idle(Duration::from_secs(60))
        .new_jar(|_: &String| CookieJar::new())
        .on_evict(|_: &String, _: &CookieJar| {})
        .build();
    let _: CookieJar = jars.get("ann");
    let _: (Option<CookieJar>, usize) = (jars.peek(&"ann".to_owned()), jars.evict_all());
}

#[test]
fn names_of_budgets_terms_and_replay() {
    let budget = Budget::new(20).min_retries(1, Duration::from_secs(30));
    let policy = RetryPolicy::new().budget(budget.window(Duration::from_secs(10)));
    let policy = policy.attempt_header("x-attempt".parse().unwrap()).deadline(None);
    assert_eq!(policy, policy.clone());
    assert_ne!(policy, RetryPolicy::urllib3().total(Limit::Times(1)));
    let terms: Terms = Policy::terms(&RetryPolicy::none().attempt_timeout(None));
    assert_eq!(terms.deadline, Terms::default().deadline);
    let _ = (terms.attempt_timeout, terms.drain, terms.raise_on_status, terms.attempt_header);
    let client =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    let _: OneExchangeService<_> = OneExchangeLayer::new().layer(client);
    fn replays<R: Replay<Body>>(_: &R) {}
    replays(&ReplayByTrait);
    fn layer<F: Fn(&Body) -> Option<Body> + Clone>(layer: RetryLayer<RetryPolicy, ReplayWith<F>>) {
        drop(layer);
    }
    layer(RetryLayer::new(policy).replay_with(|body: &Body| Some(body.clone())));
    let _: ReplayBodyService<_> = ReplayBodyLayer::new().layer(client);
    let _ = RedirectPolicy::new().max(5).replay_with(|body: &Body| Some(body.clone()));
}

#[cfg(feature = "serde")]
#[test]
fn names_of_configurations() {
    use tower_outbound::retry::mesh::{
        HttpRouteRetry, HttpRouteTimeouts, LinkerdRetryBudget, MeshError, RetryConstraint,
    };
    fn read<T: serde::de::DeserializeOwned>() {}
    read::<RetryPolicy>();
    read::<Backoff>();
    read::<CookieLimits>();
    read::<MountPrefix>();
    read::<HttpRouteRetry>();
    read::<HttpRouteTimeouts>();
    read::<RetryConstraint>();
    read::<LinkerdRetryBudget>();
    let route: HttpRouteRetry = serde_json::from_str(r#"{ "attempts": 2 }"#).unwrap();
    let _: Result<RetryPolicy, MeshError> = RetryPolicy::try_from(route);
}

#[test]
fn names_of_changes_to_a_table() {
    type Changes<S> = MountChanges<S, Body, Body>;
    fn change<S: Clone + MountService<Body, Body>>(changes: Changes<S>) -> Changes<S> {
        let legacy = service_fn(|_: Request<Body>| async {
            Ok::<_, BoxError>(Response::new(Body::default()))
        });
        changes
            .mount("https://a.example", Identity::new())
            .mount_service("https://b.example", legacy)
    }
    let client =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    let layer = RoutingLayer::builder().reject_dot_segments().reject_encoded_slashes();
    let service: RoutingService<_, Body, Body> = layer.build().unwrap().layer(client);
    service.handle().update(change).unwrap();
    let prefixes: Vec<Arc<str>> = service.handle().prefixes();
    assert_eq!(prefixes.len(), 2);
    let prefix: MountPrefix = "https://a.example".parse().unwrap();
    let _: &str = prefix.as_str();
    let error: PrefixError = "any://10.0.0.0/8".parse::<MountPrefix>().unwrap_err();
    assert_eq!((error.fault(), error.prefix()), (PrefixFault::Network, "any://10.0.0.0/8"));
    let _: Option<UriError> = None;
}

#[cfg(feature = "session")]
#[test]
fn names_of_stores_of_sessions() {
    use tower_outbound::session::{
        Applied, Contents, Event, Record, SessionKey, SessionStore, StoreKey, TOMBSTONES_KEPT,
        Version,
    };
    fn answers<S: SessionStore>(_: S, applied: Applied, event: Event, key: &StoreKey) {
        match applied {
            Applied::Clean(version) => drop::<Version>(version),
            Applied::Merged(Contents { version, records }) => drop((version, records)),
        }
        if let Event::Changed(changed) = event {
            assert_eq!((changed.tenant(), changed.site()), (key.tenant(), key.site()));
        }
    }
    let _ = answers::<Nowhere>;
    let _ = SessionKey::new(&b"tenant"[..]);
    let record = Record { field: Box::default(), stamp: 1, body: None };
    let _ = (record, Version::from_bytes(b"1").as_bytes(), TOMBSTONES_KEPT);

    struct Nowhere;
    impl SessionStore for Nowhere {
        type Error = BoxError;

        async fn load(&self, _: &StoreKey) -> Result<Contents, BoxError> {
            Err("no store".into())
        }

        async fn apply(
            &self,
            _: &StoreKey,
            _: &Version,
            _: &[Record],
            _: Duration,
        ) -> Result<Applied, BoxError> {
            Err("no store".into())
        }

        async fn forget(&self, _: &SessionKey) -> Result<(), BoxError> {
            Ok(())
        }

        fn events(&self) -> impl futures_util::Stream<Item = Event> + Send {
            futures_util::stream::empty()
        }
    }
}

#[cfg(feature = "session")]
#[tokio::test]
async fn names_of_sessions() {
    use tower_outbound::session::{
        Consistency, FileStore, FileStoreError, Lease, MemoryStore, OnOutage, ResponseFuture, Said,
        Seal, SessionError, SessionKey, SessionLayer, SessionPool, SessionPoolBuilder,
        SessionService, SessionStats, SessionStore, SessionVersion, StoreKey, Unsaid, Write,
    };

    struct Plain;
    impl Seal for Plain {
        fn seal(&self, _aad: &[u8], body: Vec<u8>) -> Vec<u8> {
            body
        }

        fn open(&self, _aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
            Some(sealed.to_vec())
        }
    }

    clone_send_sync::<MemoryStore>();
    clone_send_sync::<SessionPool<MemoryStore>>();
    clone_send_sync::<SessionLayer<MemoryStore>>();
    let builder: SessionPoolBuilder<MemoryStore, Unsaid> = SessionPool::builder(MemoryStore::new());
    let builder: SessionPoolBuilder<MemoryStore, Said> = builder
        .max_sessions(10_000)
        .idle(Duration::from_secs(3600))
        .deadline(Duration::from_millis(250))
        .on_outage(OnOutage::LastKnown(Duration::from_secs(60)))
        .on_outage(OnOutage::Refuse)
        .consistency(Consistency::Validated)
        .consistency(Consistency::Cached)
        .write(Write::Behind(Duration::from_millis(10)))
        .write(Write::Through)
        .refresh(Duration::from_secs(5))
        .replay(Duration::from_secs(30))
        .session_cookies(Duration::from_secs(30 * 24 * 3600))
        .jar(CookieJar::builder())
        .seal(Plain);
    let (pool, driver) = builder.build();
    tokio::spawn(driver);
    let (ann, uri) = (SessionKey::new(&b"ann"[..]), Uri::from_static("https://example.com/"));
    let _: &[u8] = ann.as_bytes();
    let key = StoreKey::new(ann.clone(), "example.com");
    let _: (&SessionKey, &str) = (key.tenant(), key.site());

    let jar: Result<CookieJar, SessionError> = pool.jar(&ann, &uri).await;
    jar.unwrap().set(&uri, "id=42; Secure").unwrap();
    let _: Result<(), SessionError> = pool.flush().await;
    let lease: Result<Lease<MemoryStore>, SessionError> =
        pool.lease(&ann, "refresh", Duration::from_secs(1)).await;
    let lease = lease.unwrap();
    let _: (u64, Duration) = (lease.fence(), lease.remaining());
    let _: Result<(), SessionError> = lease.release().await;
    let _: Result<(), SessionError> = pool.forget(&ann).await;
    let stats: SessionStats = pool.stats();
    let _: (usize, u64, u64, u64, u64, u64, u64, u64, u64) = (
        stats.sessions,
        stats.loads,
        stats.checks,
        stats.applies,
        stats.merges,
        stats.stale_refusals,
        stats.unreadable,
        stats.failures,
        stats.dropped,
    );
    let _: (Duration, Duration, bool, Option<String>) =
        (stats.apply_time, stats.slowest_apply, stats.is_listening, stats.last_failure);
    let _ = [SessionError::Unavailable, SessionError::Unreadable, SessionError::NoHost];

    let client =
        service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(Response::new(Body::default())) });
    let mut service: SessionService<_, MemoryStore> =
        SessionLayer::new(pool).default_origin(uri).layer(CookieLayer::per_request().layer(client));
    let request = Request::get("https://example.com/").extension(ann).body(Body::default());
    let future: ResponseFuture<_, Body, Body, MemoryStore> = service.call(request.unwrap());
    let response = future.await.unwrap();
    let version: &SessionVersion = response.extensions().get().unwrap();
    assert_eq!(&SessionVersion::from_bytes(version.as_bytes()), version);

    let directory = tempfile::tempdir().unwrap();
    let store: Result<FileStore, FileStoreError> = FileStore::open(directory.path().join("s"));
    let store = store.unwrap().sync(false).lock_timeout(Duration::from_secs(1)).max_bytes(1 << 20);
    let _: Result<usize, FileStoreError> = store.remove_expired().await;
    fn is_store<S: SessionStore<Error = FileStoreError>>(_: &S) {}
    is_store(&store);
    let (pool, _driver) = SessionPool::builder(store).unsealed().build();
    drop(pool);
    fn kinds(error: FileStoreError) {
        match error {
            FileStoreError::Damaged | FileStoreError::Stopped => {}
            FileStoreError::Disk { tried, source, .. } => is::<(&str, io::Error)>((tried, source)),
            FileStoreError::KeyTooLong { max_bytes, .. }
            | FileStoreError::TooLarge { max_bytes, .. } => is::<usize>(max_bytes),
            FileStoreError::Locked { waited, .. } => is::<Duration>(waited),
            _ => {}
        }
    }
    let _ = kinds;
}

#[cfg(feature = "seal")]
#[test]
fn names_of_seals() {
    use tower_outbound::session::{Seal, SessionSeal};
    let seal = SessionSeal::new(2, &[2; 32]).also_open(1, &[1; 32]);
    let sealed: Vec<u8> = seal.seal(b"aad", b"body".to_vec());
    assert_eq!(seal.open(b"aad", &sealed).as_deref(), Some(&b"body"[..]));
}

#[cfg(feature = "redis")]
#[test]
fn names_of_the_store_on_redis() {
    use std::future::Future;

    use tower_outbound::session::{RedisConfig, RedisError, RedisStore, SessionStore};

    let configs: [Result<RedisConfig, RedisError>; 3] = [
        RedisConfig::new("redis://127.0.0.1/"),
        RedisConfig::sentinel("primary", ["redis://127.0.0.1:26379/"]),
        RedisConfig::cluster(["redis://127.0.0.1/"]),
    ];
    let config = configs.map(Result::unwrap)[0]
        .clone()
        .login("app", "secret")
        .database(1)
        .max_sites(16)
        .ping(Duration::from_secs(1))
        .timeout(Duration::from_millis(250));
    let config: RedisConfig = config.ca_certificates(Vec::new());
    fn connects<F: Future<Output = Result<RedisStore, RedisError>>>(_: fn(RedisConfig) -> F) {}
    connects(RedisStore::connect);
    let _: fn(RedisConfig) -> Result<RedisStore, RedisError> = RedisStore::new;
    drop(config);
    fn is_store<S: SessionStore<Error = RedisError>>() {}
    is_store::<RedisStore>();
    fn kinds(error: RedisError) {
        match error {
            RedisError::Config { reason, .. } => is::<&str>(reason),
            RedisError::Garbage { expected, server, .. } => {
                is::<(&str, String)>((expected, server));
            }
            RedisError::NotPrimary { role, server, .. } => is::<(&str, String)>((role, server)),
            RedisError::Refused { code, server, .. } => is::<(String, String)>((code, server)),
            RedisError::Timeout { waited, .. } => is::<Duration>(waited),
            RedisError::TooManySites { max_sites, .. } => is::<u32>(max_sites),
            RedisError::TooOld { server, .. } => is::<String>(server),
            RedisError::Unreachable { server, source, .. } => {
                is::<(String, io::Error)>((server, source));
            }
            _ => {}
        }
    }
    let _ = kinds;
}
