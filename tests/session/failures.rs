//! What happens when the store fails.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;
use tower_outbound::{
    cookie::CookieJar,
    session::{
        Contents, Event, MemoryStore, OnOutage, Record, SessionError, SessionStore, Version,
    },
};

use crate::{
    rows_async,
    support::{Builder, Replica, SITE, get, key, settle, store_key, uri},
};

fn refused(error: tower::BoxError) -> SessionError {
    *error.downcast_ref().unwrap_or_else(|| panic!("{error}"))
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_loaded_is_refused_and_nothing_is_sent() {
    let memory = MemoryStore::new();
    let rows = [
        ("it is down", true, OnOutage::Refuse),
        ("it is down, the last known will do", true, OnOutage::LastKnown(Duration::MAX)),
        ("it is slow", false, OnOutage::Refuse),
    ];
    rows_async::hold(rows, async |(name, is_down, on_outage)| {
        let a = Replica::with(&memory, |pool| pool.on_outage(on_outage)).await;
        a.store.is_down.store(is_down, SeqCst);
        let _gate = a.store.shut_loads();
        let start = Instant::now();
        if is_down {
            _gate.open();
        }
        let error = get(&a.client, "ann", &["id=1"]).await.unwrap_err();
        assert!(start.elapsed() <= Duration::from_millis(251), "{name}: {:?}", start.elapsed());
        // Nothing was sent, so nothing was set.
        assert_eq!(a.pool.stats().failures, 1, "{name}");
        (name, refused(error), SessionError::Unavailable)
    })
    .await;
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "");
}

#[tokio::test(start_paused = true)]
async fn the_last_known_cookies_serve_for_their_time() {
    let (minute, none) = (Duration::from_secs(60), OnOutage::Refuse);
    let rows = [
        ("refused", none, Duration::ZERO, false),
        ("at once", OnOutage::LastKnown(minute), Duration::ZERO, true),
        ("in time", OnOutage::LastKnown(minute), minute / 2, true),
        ("too late", OnOutage::LastKnown(minute), minute * 2, false),
    ];
    rows_async::hold(rows, async |(name, on_outage, wait, serves)| {
        let memory = MemoryStore::new();
        let a = Replica::with(&memory, |pool| pool.on_outage(on_outage)).await;
        a.set("ann", &["id=1"]).await;
        // It was correct all the time.
        tokio::time::sleep(minute * 5).await;
        a.store.tell(Event::Lost);
        a.store.is_down.store(true, SeqCst);
        settle().await;
        tokio::time::sleep(wait).await;
        let got = get(&a.client, "ann", &[]).await;
        if serves {
            // The next one does not even ask.
            let before = a.store.commands();
            get(&a.client, "ann", &[]).await.unwrap();
            assert_eq!(a.store.commands(), before, "{name}");
        }
        let want = if serves { Ok("id=1".to_owned()) } else { Err(SessionError::Unavailable) };
        (name, got.map_err(refused), want)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_response_is_held_longer_than_the_deadline_and_its_change_is_written_later() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    // The load takes 200 ms of the 250, so the apply has 50.
    let gate = a.store.shut_loads();
    let applies = a.store.shut_applies();
    let start = Instant::now();
    let ((), got) = tokio::join!(
        async {
            gate.waits().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            gate.open();
        },
        get(&a.client, "ann", &["id=1"])
    );
    assert_eq!(got.unwrap(), "");
    let took = start.elapsed();
    assert!((249..252).contains(&took.as_millis()), "{took:?}");
    applies.open();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=1");
}

#[tokio::test(start_paused = true)]
async fn a_change_made_while_the_store_is_down_is_written_when_it_is_back() {
    for answers_are_lost in [false, true] {
        let memory = MemoryStore::new();
        let a = Replica::new(&memory).await;
        a.sees("ann").await;
        a.store.answers_are_lost.store(answers_are_lost, SeqCst);
        a.store.is_down.store(true, SeqCst);
        a.set("ann", &["id=1"]).await;
        a.set("ann", &["id=2"]).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        let failures = a.pool.stats().failures;
        assert!(failures < 620, "about one try a second: {failures}");
        assert_eq!(a.pool.stats().last_failure.as_deref(), Some("it is down"));
        a.store.is_down.store(false, SeqCst);
        a.store.tell(Event::Back { same_server: true, offset: 0 });
        settle().await;
        assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=2");
        assert_eq!(a.sees("ann").await, "id=2");
    }
}

fn days_ago() -> SystemTime {
    SystemTime::now() - Duration::from_secs(3 * 86_400)
}

#[tokio::test(start_paused = true)]
async fn a_cookie_of_the_last_stamp_is_tidied_into_nothing_that_cannot_be_read() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let memory = MemoryStore::new();
    let ann = store_key(&memory, "ann").await;
    let set_up = |pool: Builder| pool.jar(CookieJar::builder().clock(days_ago));
    Replica::undriven(&memory, set_up).0.set("ann", &["old=1; Max-Age=60"]).await;
    let records = memory.load(&ann).await.unwrap().records;
    let old = records.into_iter().find(|record| record.field.ends_with(b"old")).unwrap();
    let last = Record { stamp: (1 << 53) - 1, ..old };
    memory.apply(&ann, &Version::default(), &[last], HOUR).await.unwrap();
    let a = Replica::new(&memory).await;
    a.sees("ann").await;
    a.set("ann", &["new=1"]).await;
    assert!(Replica::new(&memory).await.sees("ann").await.contains("new=1"));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_and_stays_as_it_is() {
    let memory = MemoryStore::new();
    let ann = store_key(&memory, "ann").await;
    let good = memory.load(&ann).await.unwrap().records;
    let [record] = &good[..] else { panic!("{good:?}") };
    let with = |change: fn(&mut Record)| {
        let mut record = record.clone();
        change(&mut record);
        vec![record]
    };
    let rows: [(&str, Vec<Record>, bool); 9] = [
        ("nothing", vec![], true),
        ("its own", good.clone(), true),
        ("a field twice", vec![record.clone(), record.clone()], false),
        ("the last stamp", with(|record| record.stamp = u64::MAX), false),
        ("a stamp that is no double", with(|record| record.stamp = 1 << 53), false),
        ("no field", with(|record| record.field = b""[..].into()), false),
        ("another field", with(|record| record.field = b"=example.com\0/\0x"[..].into()), false),
        ("no body to speak of", with(|record| record.body = Some(b""[..].into())), false),
        ("a body of a megabyte", with(|record| record.body = Some(vec![1; 1 << 20].into())), false),
    ];
    rows_async::hold(rows, async |(name, records, is_readable)| {
        let a = Replica::new(&memory).await;
        let contents = Contents { version: Version::from_bytes(b"x"), records };
        *a.store.garbage.lock().unwrap() = Some(contents);
        let got = get(&a.client, "ann", &["evil=1"]).await.map(drop).map_err(refused);
        let stats = a.pool.stats();
        let want = if is_readable { Ok(()) } else { Err(SessionError::Unreadable) };
        assert_eq!(stats.unreadable, u64::from(!is_readable), "{name}");
        if !is_readable {
            // Not even the last known cookies are served, and a jar is refused too.
            let jar = a.pool.jar(&key("ann"), &uri(SITE)).await;
            assert_eq!(jar.unwrap_err(), SessionError::Unreadable, "{name}");
            *a.store.garbage.lock().unwrap() = None;
            assert_eq!(a.sees("ann").await.split("; ").next(), Some("key=1"), "{name}");
        }
        (name, got, want)
    })
    .await;
}

#[cfg(feature = "retry")]
#[tokio::test(start_paused = true)]
async fn retries_outside_ask_a_failed_store_again_unless_the_policy_is_told_not_to() {
    use http::{Method, Request, Response};
    use tower::{BoxError, Layer, ServiceExt, service_fn};
    use tower_outbound::{
        cookie::CookieLayer,
        retry::{Failure, Policy, RetryError, RetryLayer, RetryPolicy},
        session::SessionLayer,
    };

    type Body = http_body_util::Empty<bytes::Bytes>;

    fn told(policy: RetryPolicy) -> RetryPolicy {
        let usual = policy.clone();
        policy.classify(move |outcome| match outcome {
            Err(error) if error.is::<SessionError>() => Some(Failure::Never),
            outcome => Policy::classify(&usual, outcome),
        })
    }

    let usual = RetryPolicy::new;
    // Whether the error is a `RetryError`, and how often the store was asked.
    let rows = [
        ("a GET", Method::GET, usual(), false, (true, 4)),
        ("a POST", Method::POST, usual(), false, (false, 1)),
        ("a GET, told", Method::GET, told(usual()), false, (false, 1)),
        ("a GET, unreadable", Method::GET, usual(), true, (true, 4)),
        ("a GET, unreadable, told", Method::GET, told(usual()), true, (false, 1)),
    ];
    rows_async::hold(rows, async |(name, method, policy, is_unreadable, want)| {
        let a = Replica::new(&MemoryStore::new()).await;
        if is_unreadable {
            let field = b""[..].into();
            let record = Record { field, stamp: 1, body: Some(b""[..].into()) };
            let contents = Contents { version: Version::from_bytes(b"x"), records: vec![record] };
            *a.store.garbage.lock().unwrap() = Some(contents);
        } else {
            a.store.is_down.store(true, SeqCst);
        }
        let upstream = service_fn(|_: Request<Body>| async {
            Err::<Response<Body>, BoxError>("it was sent".into())
        });
        let sessions = SessionLayer::new(a.pool.clone());
        let client = RetryLayer::new(policy)
            .layer(sessions.layer(CookieLayer::per_request().layer(upstream)));
        let request = Request::builder().method(method).uri(SITE).extension(key("ann"));
        let error = client.oneshot(request.body(Body::new()).unwrap()).await.unwrap_err();
        let retried = error.downcast_ref::<RetryError>();
        let cause = match retried {
            Some(error) => std::error::Error::source(error).unwrap().downcast_ref(),
            None => error.downcast_ref(),
        };
        let fault =
            if is_unreadable { SessionError::Unreadable } else { SessionError::Unavailable };
        assert_eq!(cause, Some(&fault), "{name}: {error}");
        (name, (retried.is_some(), a.store.commands().loads), want)
    })
    .await;
}
