//! A panic in the caller's code, or in the client below the layer, does not change the jar. The
//! caller's code is never called under a lock.

use std::{
    convert::Infallible,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc,
    },
    task::{Context, Poll},
    thread,
    time::{Duration, SystemTime},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, Request, Response, header::COOKIE};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieFile, CookieJar, CookieLayer, CookiePolicy, Format, JarPool,
    StoreAction,
};

use crate::{
    gated::Gated,
    jars::{header, uri},
};

const H: &str = "https://example.com/";

fn response(lines: &[&str]) -> HeaderMap {
    lines.iter().map(|line| ("set-cookie".parse().unwrap(), line.parse().unwrap())).collect()
}

/// Every use of a jar that changes or locks it. After it the jar holds the same cookies.
#[track_caller]
fn serves_and_stores_as_before(jar: &CookieJar, row: &str) {
    let (before, len) = (header(jar, H), jar.len());
    assert_eq!(before, "kept=1", "{row}");
    assert_eq!(jar.set(&uri(H), "probe=1"), Ok(StoreAction::Inserted), "{row}");
    assert_eq!(jar.set(&uri(H), "probe=2"), Ok(StoreAction::Updated), "{row}");
    assert_eq!(jar.store_response(&uri(H), &response(&["more=1"])).accepted().len(), 1, "{row}");
    assert_eq!(header(jar, H), "kept=1; probe=2; more=1", "{row}");
    assert_eq!(
        (jar.iter().count(), jar.matching(&uri(H)).len(), jar.clear_expired()),
        (3, 3, 0),
        "{row}"
    );
    assert_eq!(jar.set(&uri(H), "probe=; Max-Age=0"), Ok(StoreAction::Expired), "{row}");
    assert!(jar.remove("example.com", "/", "more").is_some(), "{row}");
    assert_eq!((header(jar, H), jar.len()), (before, len), "{row}");
}

/// Panics while the test says so.
#[derive(Clone, Default)]
struct Trap(Arc<AtomicBool>);

impl Trap {
    fn spring(&self) {
        assert!(!self.0.load(SeqCst), "on purpose");
    }
}

struct Trapped {
    accept: Trap,
    send: Trap,
}

impl CookiePolicy for Trapped {
    fn accept(&self, _context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.accept.spring();
        true
    }

    fn send(&self, _context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.send.spring();
        true
    }
}

#[test]
fn a_policy_that_panics_leaves_the_jar_as_it_was() {
    let (accept, send) = (Trap::default(), Trap::default());
    let jar =
        CookieJar::builder().policy(Trapped { accept: accept.clone(), send: send.clone() }).build();
    jar.set(&uri(H), "kept=1").unwrap();
    let rows: &[(&str, &Trap, fn(&CookieJar))] = &[
        ("a new cookie", &accept, |jar| _ = jar.set(&uri(H), "new=1")),
        ("a changed cookie", &accept, |jar| _ = jar.set(&uri(H), "kept=2")),
        ("a cookie that is there", &accept, |jar| _ = jar.set(&uri(H), "kept=1")),
        ("a response", &accept, |jar| {
            drop(jar.store_response(&uri(H), &response(&["new=1", "kept=2"])));
        }),
        ("a header", &send, |jar| drop(jar.header(&uri(H)))),
    ];
    for (row, trap, call) in rows {
        trap.0.store(true, SeqCst);
        assert!(catch_unwind(|| call(&jar)).is_err(), "{row} was not asked about");
        trap.0.store(false, SeqCst);
        serves_and_stores_as_before(&jar, row);
    }
}

#[test]
fn a_clock_that_panics_leaves_the_jar_as_it_was() {
    static STOPPED: AtomicBool = AtomicBool::new(false);
    fn clock() -> SystemTime {
        assert!(!STOPPED.load(SeqCst), "on purpose");
        SystemTime::now()
    }
    let jar = CookieJar::builder().clock(clock).build();
    jar.set(&uri(H), "kept=1").unwrap();
    let other = CookieJar::new();
    other.set(&uri(H), "new=1").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = CookieFile::with_jar(&path, Format::Netscape, jar.clone());
    let rows: &[(&str, &dyn Fn(&CookieJar))] = &[
        ("set", &|jar| _ = jar.set(&uri(H), "new=1")),
        ("store_response", &|jar| drop(jar.store_response(&uri(H), &response(&["new=1"])))),
        ("header", &|jar| drop(jar.header(&uri(H)))),
        ("matching", &|jar| drop(jar.matching(&uri(H)))),
        ("iter", &|jar| drop(jar.iter())),
        ("get", &|jar| drop(jar.get("kept"))),
        ("insert", &|jar| {
            jar.insert(Cookie::builder("new", "1").domain("example.com").build().unwrap());
        }),
        ("merge", &|jar| jar.merge(&other)),
        ("remove", &|jar| drop(jar.remove("example.com", "/", "kept"))),
        ("clear_expired", &|jar| _ = jar.clear_expired()),
        ("save", &|_| drop(file.save())),
        ("overwrite", &|_| drop(file.overwrite())),
    ];
    for (row, call) in rows {
        STOPPED.store(true, SeqCst);
        assert!(catch_unwind(AssertUnwindSafe(|| call(&jar))).is_err(), "{row} asks no clock");
        STOPPED.store(false, SeqCst);
        serves_and_stores_as_before(&jar, row);
    }
    // The file is not stuck either, although its lock was held.
    file.save().unwrap();
    assert_eq!(CookieFile::open(&path, Format::Netscape).unwrap().jar().len(), 1);
}

#[test]
fn a_pool_with_a_key_that_panics_serves_the_others() {
    #[derive(PartialEq, Eq)]
    struct Key(&'static str);

    impl std::hash::Hash for Key {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            assert_ne!(self.0, "bad", "on purpose");
            self.0.hash(state);
        }
    }

    let jars: JarPool<Key> = JarPool::keyed().max_jars(2).build();
    jars.get(Key("ann")).set(&uri(H), "kept=1").unwrap();
    let rows: &[fn(&JarPool<Key>)] = &[
        |jars| drop(jars.get(Key("bad"))),
        |jars| drop(jars.peek(&Key("bad"))),
        |jars| drop(jars.remove(&Key("bad"))),
    ];
    for call in rows {
        assert!(catch_unwind(AssertUnwindSafe(|| call(&jars))).is_err());
        assert_eq!((jars.len(), header(&jars.get(Key("ann")), H)), (1, "kept=1".to_owned()));
    }
    jars.get(Key("bob"));
    jars.get(Key("eve"));
    assert_eq!((jars.len(), jars.evict_all()), (2, 2));
}

#[tokio::test]
async fn an_inner_service_that_panics_leaves_the_jar_as_it_was() {
    let jar = CookieJar::new();
    jar.set(&uri(H), "kept=1").unwrap();
    let (ready, call, future) = (Trap::default(), Trap::default(), Trap::default());
    let (in_call, in_future) = (call.clone(), future.clone());
    let server = service_fn(move |request: Request<()>| {
        in_call.spring();
        let future = in_future.clone();
        async move {
            future.spring();
            let got = request
                .headers()
                .get(COOKIE)
                .map_or("", |value| value.to_str().unwrap())
                .to_owned();
            Ok::<_, Infallible>(
                Response::builder().header("set-cookie", "kept=1").body(got).unwrap(),
            )
        }
    });
    let in_ready = ready.clone();
    let server = Gated {
        gate: move |_: &mut Context<'_>| {
            in_ready.spring();
            Poll::Ready(Ok(()))
        },
        inner: server,
    };
    let mut client = CookieLayer::new(jar.clone()).layer(server);
    for (row, trap) in [("poll_ready", &ready), ("call", &call), ("the future", &future)] {
        let request = || Request::get(H).body(()).unwrap();
        trap.0.store(true, SeqCst);
        let exchange = async { client.ready().await.unwrap().call(request()).await.unwrap() };
        assert!(AssertUnwindSafe(exchange).catch_unwind().await.is_err(), "{row}");
        trap.0.store(false, SeqCst);
        serves_and_stores_as_before(&jar, row);
        let response = client.ready().await.unwrap().call(request()).await.unwrap();
        assert_eq!(response.body(), "kept=1", "{row}");
    }
}

/// A policy that uses its own jar, once for each call from outside.
#[derive(Clone, Default)]
struct Inquisitive {
    jar: Arc<OnceLock<CookieJar>>,
    asks: Arc<AtomicBool>,
}

impl Inquisitive {
    fn use_the_jar(&self) {
        // What follows asks again.
        if self.asks.swap(true, SeqCst) {
            return;
        }
        let jar = self.jar.get().unwrap();
        let _ = jar.header(&uri(H));
        jar.set(&uri(H), "asked=1; Path=/asked").unwrap();
        jar.set(&uri(H), "asked=; Path=/asked; Max-Age=0").unwrap();
        jar.store_response(&uri(H), &response(&["asked=1; Path=/asked"]));
        jar.insert(
            Cookie::builder("asked", "2").domain("example.com").path("/asked").build().unwrap(),
        );
        assert!(jar.remove("example.com", "/asked", "asked").is_some());
        assert!(jar.remove("example.com", "/asked", "asked").is_some());
        let _ = jar.matching(&uri(H));
        jar.clear_expired();
        jar.iter().count();
        self.asks.store(false, SeqCst);
    }
}

impl CookiePolicy for Inquisitive {
    fn accept(&self, _context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.use_the_jar();
        true
    }

    fn send(&self, _context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.use_the_jar();
        true
    }
}

#[test]
fn a_policy_is_asked_under_no_lock_and_may_use_the_jar() {
    let (done, wait) = mpsc::channel();
    // A deadlock would never end by itself; this thread is then left behind.
    thread::spawn(move || {
        let policy = Inquisitive::default();
        let jar = CookieJar::builder().policy(policy.clone()).build();
        policy.jar.set(jar.clone()).unwrap();
        jar.set(&uri(H), "kept=1").unwrap();
        jar.set(&uri(H), "kept=1").unwrap();
        let accepted =
            jar.store_response(&uri(H), &response(&["more=1", "more=2"])).accepted().len();
        done.send((accepted, header(&jar, H), jar.len())).unwrap();
    });
    let outcome = wait.recv_timeout(Duration::from_secs(60));
    assert_eq!(outcome, Ok((1, "kept=1; more=2".to_owned(), 2)));
}
