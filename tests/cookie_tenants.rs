//! A jar per request, pools of jars, the caller's say, and on whose behalf a request is made.
#![cfg(feature = "cookie")]

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Method, Request, Response, header::COOKIE};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneService};
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieControl, CookieJar, CookieLayer, CookieLimits, CookiePolicy,
    DomainPolicy, JarPool, Rejection, ResponseCookies, SiteForCookies, StoreAction,
};

type Client = BoxCloneService<Request<()>, Response<String>, Infallible>;

/// A server that sets what the request's `x-set` says, and answers with the `Cookie` header it got.
fn per_request() -> Client {
    let server = service_fn(|request: Request<()>| async move {
        let got =
            request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap()).to_owned();
        let mut response = Response::new(got);
        if let Some(line) = request.headers().get("x-set") {
            response.headers_mut().insert("set-cookie", line.clone());
        }
        Ok(response)
    });
    BoxCloneService::new(CookieLayer::per_request().layer(server))
}

async fn send(
    client: &mut Client,
    set: &str,
    extensions: impl FnOnce(&mut http::Extensions),
) -> Response<String> {
    let mut request = Request::get("https://example.com/").header("x-set", set).body(()).unwrap();
    extensions(request.extensions_mut());
    client.ready().await.unwrap().call(request).await.unwrap()
}

#[tokio::test]
async fn each_request_has_the_jar_it_brings_and_no_other() {
    let mut client = per_request();
    let (ann, bob) = (CookieJar::new(), CookieJar::new());
    send(&mut client, "who=ann", |e| drop(e.insert(ann.clone()))).await;
    send(&mut client, "who=bob", |e| drop(e.insert(bob.clone()))).await;
    let body = |response: Response<String>| response.into_body();
    assert_eq!(body(send(&mut client, "x=1", |e| drop(e.insert(ann.clone()))).await), "who=ann");
    assert_eq!(body(send(&mut client, "x=1", |e| drop(e.insert(bob.clone()))).await), "who=bob");
    // Without a jar: nothing sent, nothing stored, yet the response says what it set.
    let response = send(&mut client, "who=nobody", |_| ()).await;
    assert_eq!(response.extensions().get::<ResponseCookies>().unwrap().to_map()["who"], "nobody");
    assert_eq!(body(response), "");
    // And one request can opt out of its own jar.
    let control = CookieControl { send: false, store: false };
    let response = send(&mut client, "who=changed", |e| {
        e.insert(ann.clone());
        e.insert(control);
    });
    assert_eq!(body(response.await), "");
    let value = |jar: &CookieJar| jar.get("who").unwrap().unwrap().value().into_owned();
    assert_eq!(
        (value(&ann), value(&bob), ann.len(), bob.len()),
        ("ann".into(), "bob".into(), 2, 2)
    );
}

static SECONDS: AtomicU64 = AtomicU64::new(0);
static CLOCK: Mutex<()> = Mutex::new(());

fn clock() -> Instant {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *START.get_or_init(Instant::now) + Duration::from_secs(SECONDS.load(Ordering::SeqCst))
}

/// A pool that notes what leaves it.
fn pool(max_jars: usize) -> (JarPool, Arc<Mutex<Vec<String>>>) {
    let left: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = Arc::clone(&left);
    let pool = JarPool::builder()
        .max_jars(max_jars)
        .idle(Duration::from_secs(10))
        .clock(clock)
        .on_evict(move |key: &String, jar| {
            note.lock().unwrap().push(format!("{key}:{}", jar.len()))
        })
        .build();
    (pool, left)
}

#[test]
fn a_pool_keeps_the_jars_that_are_asked_for() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let (jars, left) = pool(3);
    let uri = "https://example.com/".parse().unwrap();
    for key in ["a", "b", "c"] {
        jars.get(key).set(&uri, format!("who={key}")).unwrap();
    }
    jars.get("a");
    jars.get("d");
    assert_eq!((jars.len(), left.lock().unwrap().clone()), (3, vec!["b:1".to_owned()]));
    assert_eq!(jars.get("a").header(&uri).unwrap(), "who=a");
    assert_eq!(jars.get("b").header(&uri), None, "it left, and begins anew");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:1", "c:1"]);

    SECONDS.store(9, Ordering::SeqCst);
    jars.get("a");
    SECONDS.store(10, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (2, 1));
    assert_eq!(left.lock().unwrap().as_slice(), ["b:1", "c:1", "d:0", "b:0"]);
    assert_eq!((jars.evict_all(), jars.is_empty()), (1, true));
}

#[test]
fn a_pool_by_default_keeps_a_thousand_jars_for_an_hour() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let jars: JarPool<u32> = JarPool::keyed().clock(clock).build();
    for key in 0..1_000_u32 {
        jars.get(key);
    }
    assert_eq!((jars.len(), jars.peek(&0).is_some()), (1_000, true));
    jars.get(1_000_u32);
    assert_eq!((jars.len(), jars.peek(&0).is_some()), (1_000, false));
    SECONDS.store(3_599, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (0, 1_000));
    SECONDS.store(3_600, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (1_000, 0));
    // Each of them is made as any jar is.
    let limits = CookieLimits::default();
    let lines = |n: usize| ("set-cookie".parse().unwrap(), format!("c{n}=1").parse().unwrap());
    let uri = "https://example.com/".parse().unwrap();
    let stored =
        jars.get(0_u32).store_response(&uri, &(0..=limits.per_response).map(lines).collect());
    assert_eq!((stored.accepted().len(), stored.rejected().len()), (limits.per_response, 1));
}

#[test]
fn a_jar_that_a_request_holds_is_passed_over() {
    let _clock = CLOCK.lock();
    SECONDS.store(100, Ordering::SeqCst);
    let (jars, left) = pool(2);
    let held = jars.get("held");
    jars.get("b");
    SECONDS.store(200, Ordering::SeqCst);
    jars.get("c");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0"]);
    jars.get("d");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0"]);
    assert!(jars.peek(&"held".to_owned()).is_some());
    // Bounded all the same where every jar is held.
    let all: Vec<_> = (0..10).map(|n| jars.get(format!("h{n}"))).collect();
    assert_eq!(jars.len(), 2);
    assert_eq!(left.lock().unwrap().len(), 2 + 10);
    drop((held, all));
}

/// Else each new key would look at every jar that is held.
#[test]
fn a_jar_that_a_request_holds_counts_as_asked_for() {
    let _clock = CLOCK.lock();
    SECONDS.store(0, Ordering::SeqCst);
    let (jars, left) = pool(3);
    let held = jars.get("held");
    jars.get("b");
    jars.get("c");
    SECONDS.store(9, Ordering::SeqCst);
    jars.get("d");
    drop(held);
    SECONDS.store(18, Ordering::SeqCst);
    assert_eq!((jars.evict_idle(), jars.len()), (1, 2));
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0"]);
    jars.get("e");
    jars.get("f");
    assert_eq!(left.lock().unwrap().as_slice(), ["b:0", "c:0", "d:0"]);
}

type Callback = fn(&JarPool<u32>, &u32);

/// A pool of two jars whose callback uses the pool; and what has left it.
fn pool_with(callback: Callback) -> (JarPool<u32>, Arc<Mutex<Vec<u32>>>) {
    let left: Arc<Mutex<Vec<u32>>> = Arc::default();
    let pool: Arc<std::sync::OnceLock<JarPool<u32>>> = Arc::default();
    let (note, inside) = (Arc::clone(&left), Arc::clone(&pool));
    let jars = JarPool::keyed().max_jars(2).on_evict(move |key, _| {
        note.lock().unwrap().push(*key);
        callback(inside.get().unwrap(), key);
    });
    (pool.get_or_init(|| jars.build()).clone(), left)
}

#[test]
fn a_callback_that_uses_the_pool_panics_and_holds_up_no_other_jar() {
    let rows: &[(&str, Callback)] = &[
        ("ask for its own key", |jars, key| drop(jars.get(*key))),
        ("ask for another", |jars, key| drop(jars.get((key + 1) % 20))),
        ("ask for one that nobody else asks for", |jars, _| drop(jars.get(99_u32))),
        ("look at its own key", |jars, key| drop(jars.peek(key))),
        ("count the jars", |jars, _| _ = jars.len()),
        ("take its own out", |jars, key| drop(jars.remove(key))),
        ("evict what is idle", |jars, _| _ = jars.evict_idle()),
        ("evict all", |jars, _| _ = jars.evict_all()),
    ];
    let mut wrong = Vec::new();
    for (row, callback) in rows {
        let (jars, left) = pool_with(*callback);
        for n in 0..20_u32 {
            let asked = std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(n)));
            if asked.is_err() != (n >= 2) || jars.len() > 2 {
                wrong.push(format!("{row}: {n}, {} jars", jars.len()));
            }
        }
        let all = std::panic::catch_unwind(AssertUnwindSafe(|| jars.evict_all()));
        let left = left.lock().unwrap().clone();
        if all.is_ok() || !jars.is_empty() || left.len() != 20 {
            wrong.push(format!("{row}: {all:?}, {left:?} left"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_new_jar_that_is_made_with_the_pool_panics_and_leaves_it_whole() {
    let pool: Arc<std::sync::OnceLock<JarPool<u32>>> = Arc::default();
    let inside = Arc::clone(&pool);
    let jars = JarPool::keyed().new_jar(move |key| match key {
        0 => inside.get().unwrap().get(1_u32),
        _ => CookieJar::new(),
    });
    let jars = pool.get_or_init(|| jars.build());
    assert!(std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(0_u32))).is_err());
    jars.get(2_u32);
    assert_eq!((jars.len(), jars.peek(&0).is_some(), jars.peek(&2).is_some()), (1, false, true));
}

#[test]
fn a_callback_that_panics_holds_up_no_other_jar() {
    let calls: &[(&str, fn(&JarPool<u32>))] = &[
        ("get", |jars| drop(jars.get(9_u32))),
        ("evict_idle", |jars| _ = jars.evict_idle()),
        ("evict_all", |jars| _ = jars.evict_all()),
    ];
    let _clock = CLOCK.lock();
    let mut wrong = Vec::new();
    for (row, call) in calls {
        for bad in [vec![1], vec![1, 2], vec![2], vec![3], vec![1, 2, 3]] {
            SECONDS.store(0, Ordering::SeqCst);
            let left: Arc<Mutex<Vec<u32>>> = Arc::default();
            let (note, throws) = (Arc::clone(&left), bad.clone());
            let jars: JarPool<u32> = JarPool::keyed()
                .clock(clock)
                .idle(Duration::from_secs(10))
                .on_evict(move |key, _| {
                    note.lock().unwrap().push(*key);
                    assert!(!throws.contains(key), "on purpose");
                })
                .build();
            (1..4_u32).for_each(|key| drop(jars.get(key)));
            SECONDS.store(20, Ordering::SeqCst);
            let panics = std::panic::catch_unwind(AssertUnwindSafe(|| call(&jars))).is_err();
            let mut left = left.lock().unwrap().clone();
            left.sort_unstable();
            let rest = jars.len();
            if !panics || left != [1, 2, 3] || rest != usize::from(*row == "get") {
                wrong.push(format!(
                    "{row} with {bad:?}: panics {panics}, left {left:?}, {rest} stay"
                ));
            }
            // And the next ones leave as ever.
            (4..6_u32).for_each(|key| drop(jars.get(key)));
            assert_eq!((jars.evict_all(), jars.len()), (2 + rest, 0), "{row}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_pool_whose_callback_always_panics_grows_no_further() {
    let jars: JarPool<u32> =
        JarPool::keyed().max_jars(4).on_evict(|_, _| panic!("on purpose")).build();
    let panics = (0..20_u32)
        .filter(|&n| std::panic::catch_unwind(AssertUnwindSafe(|| jars.get(n))).is_err())
        .count();
    assert_eq!((panics, jars.len()), (16, 4));
}

/// By handshakes: `a` is evicted, asked for while its callback runs, and evicted again before the
/// first callback returns.
#[test]
fn an_eviction_that_was_called_off_takes_no_later_jar_with_it() {
    use std::sync::mpsc::channel;
    let ((entered, enter), (go_on, wait)) = (channel::<u32>(), channel::<()>());
    let (entered, wait) = (Mutex::new(entered), Mutex::new(wait));
    let calls = AtomicU64::new(0);
    let jars: JarPool<u32> = JarPool::keyed()
        .max_jars(1)
        .on_evict(move |key, _| {
            if *key == 1 && calls.fetch_add(1, Ordering::SeqCst) == 0 {
                entered.lock().unwrap().send(*key).unwrap();
                wait.lock().unwrap().recv().unwrap();
            }
        })
        .build();
    let uri = "https://example.com/".parse().unwrap();
    jars.get(1_u32).set(&uri, "v=1").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| jars.get(2_u32));
        assert_eq!(enter.recv(), Ok(1));
        let rescued = jars.get(1_u32);
        rescued.set(&uri, "v=2").unwrap();
        go_on.send(()).unwrap();
    });
    assert_eq!(jars.get(1_u32).header(&uri).unwrap(), "v=2");
    assert_eq!(jars.len(), 1);
}

#[test]
fn a_pool_of_files_brings_no_logout_back() {
    use tower_outbound::cookie::{CookieFile, Format};
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().to_owned(), directory.path().to_owned());
    let jars = JarPool::builder()
        .max_jars(1)
        .new_jar(move |key: &String| {
            CookieFile::open(from.join(key), Format::Netscape).unwrap().jar().clone()
        })
        .on_evict(move |key: &String, jar| {
            CookieFile::with_jar(to.join(key), Format::Netscape, jar.clone()).overwrite().unwrap();
        })
        .build();
    let uri = "https://example.com/".parse().unwrap();
    for (line, want) in [
        ("sid=1; Max-Age=1000", Some("sid=1")),
        ("sid=; Max-Age=0", None),
        ("x=2; Max-Age=9", Some("x=2")),
    ] {
        jars.get("ann").set(&uri, line).unwrap();
        jars.get("bob");
        let header = jars.get("ann").header(&uri);
        assert_eq!(header.as_ref().map(|value| value.to_str().unwrap()), want);
    }
}

#[test]
fn many_threads_share_a_pool_and_no_tenant_sees_another() {
    let jars: JarPool<usize> = JarPool::keyed().max_jars(8).build();
    std::thread::scope(|scope| {
        for thread in 0..8_usize {
            let jars = jars.clone();
            scope.spawn(move || {
                let uri = "https://example.com/".parse().unwrap();
                for round in 0..500 {
                    let key = (thread * 7 + round) % 16;
                    let jar = jars.get(key);
                    if let Some(header) = jar.header(&uri) {
                        assert_eq!(header, format!("who={key}"));
                    }
                    jar.set(&uri, format!("who={key}")).unwrap();
                }
            });
        }
    });
    assert!(jars.len() <= 8, "{}", jars.len());
}

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
    let mut wrong = Vec::new();
    for (fact, policy, uri, want) in rows {
        let uri = uri.parse().unwrap();
        let jar = CookieJar::builder().policy(policy.clone()).build();
        let stored = jar.set(&uri, "a=1").is_ok();
        jar.insert(Cookie::builder("b", "2").domain(uri.host().unwrap()).build().unwrap());
        if (stored, jar.header(&uri).is_some()) != (*want, *want) {
            wrong.push(format!("{fact}: {uri}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for domain in [
        "",
        "https://example.com",
        "example.com:80",
        "exa mple.com",
        "b\u{fc}cher.example",
        "*.example.com",
    ] {
        let error = DomainPolicy::block([domain]).unwrap_err();
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
    let mut wrong = Vec::new();
    for (fact, site, method, want, stores) in rows {
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
        if response.body() != want
            || stored != *stores
            || reason != (!stores).then_some(Rejection::CrossSite)
        {
            wrong.push(format!("{fact}: {:?}, stored {stored}, {reason:?}", response.body()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn of_two_jars_merged_the_later_cookie_wins_and_the_older_creation_time_stays() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let clock = || std::time::UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::SeqCst));
    let at = |seconds: u64| NOW.store(1_000_000 + seconds, Ordering::SeqCst);
    let jar = || CookieJar::builder().clock(clock).build();
    let (left, right) = (jar(), jar());
    let uri = "https://example.com/".parse().unwrap();
    for (seconds, jar, line) in [
        (0, &left, "a=left"),
        (1, &right, "a=right"),
        (2, &right, "b=right"),
        (3, &left, "b=left"),
        (4, &left, "only=left"),
        (5, &right, "also=right"),
        (6, &right, "gone=right; Max-Age=1"),
    ] {
        at(seconds);
        jar.set(&uri, line).unwrap();
    }
    at(10);
    let changes = left.changes();
    left.merge(&right);
    assert!(left.changes() > changes);
    assert_eq!(left.header(&uri).unwrap(), "a=right; b=left; only=left; also=right");
    let created = |name: &str| {
        left.get(name).unwrap().unwrap().created().duration_since(std::time::UNIX_EPOCH).unwrap()
    };
    let seconds = |name| created(name).as_secs() - 1_000_000;
    assert_eq!((seconds("a"), seconds("b"), seconds("also")), (0, 2, 5));
    assert_eq!(right.len(), 4 - 1, "the expired one is gone, and else the other jar is as it was");
    // With itself, and back: nothing happens.
    let (header, changes) = (left.header(&uri), left.changes());
    left.merge(&left.clone());
    assert_eq!((left.header(&uri), left.changes()), (header, changes));
}
