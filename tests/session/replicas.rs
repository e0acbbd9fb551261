//! What one replica does, another sees.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use tower_outbound::session::{
    Consistency, Event, MemoryStore, SessionError, SessionPool, SessionVersion,
};

use crate::{
    rows, rows_async,
    support::{Builder, Commands, Replica, SITE, get, key, settle, tick, uri, versioned},
};

#[tokio::test(start_paused = true)]
async fn a_login_on_one_replica_holds_on_another_and_a_logout_does_not_come_back() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    assert_eq!(b.sees("ann").await, "");
    a.set("ann", &["sid=1; Secure; Max-Age=3600"]).await;
    settle().await;
    assert_eq!(b.sees("ann").await, "sid=1");
    assert_eq!(b.sees("bob").await, "", "another tenant");
    b.set("ann", &["sid=; Max-Age=0"]).await;
    settle().await;
    assert_eq!(a.sees("ann").await, "");
    // And a replica that starts later.
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "");
}

#[tokio::test(start_paused = true)]
async fn commands_are_none_warm_one_cold_and_one_for_a_change() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let mut before = Commands::default();
    let mut new = || {
        let now = a.store.commands();
        let new = [
            now.loads - before.loads,
            now.versions - before.versions,
            now.applies - before.applies,
        ];
        before = now;
        new
    };
    a.sees("ann").await;
    assert_eq!(new(), [1, 0, 0], "cold");
    a.sees("ann").await;
    assert_eq!(new(), [0, 0, 0], "warm");
    let lines: Vec<_> = (0..180).map(|n| format!("name{n}=1")).collect();
    a.set("ann", &lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(new(), [0, 0, 1], "180 cookies");
    a.sees("ann").await;
    assert_eq!(new(), [0, 0, 0], "warm after an own write");
    Replica::new(&memory).await.set("ann", &["more=1"]).await;
    settle().await;
    a.sees("ann").await;
    assert_eq!(new(), [1, 0, 0], "after another's write");
}

#[tokio::test(start_paused = true)]
async fn without_events_a_cached_session_is_stale_and_a_version_or_validation_is_not() {
    let rows = [
        ("cached", Consistency::Cached, false, "old"),
        ("cached, with the version", Consistency::Cached, true, "new"),
        ("validated", Consistency::Validated, false, "new"),
    ];
    rows_async::hold(rows, async |(name, consistency, with_version, want)| {
        let memory = MemoryStore::new();
        let a = Replica::new(&memory).await;
        let b = Replica::with(&memory, |pool| pool.consistency(consistency)).await;
        a.set("ann", &["id=old"]).await;
        settle().await;
        b.sees("ann").await;
        b.store.tells.store(false, SeqCst);
        let (_, version) = versioned(&a.client, "ann", &["id=new"], None).await;
        settle().await;
        let (got, seen) =
            versioned(&b.client, "ann", &[], Some(&version).filter(|_| with_version)).await;
        if want == "new" {
            assert_eq!(seen, version, "{name}");
        }
        (name, got, format!("id={want}"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_version_whose_change_was_written_with_another_is_seen_elsewhere() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    b.sees("ann").await;
    a.sees("ann").await;
    b.store.tells.store(false, SeqCst);
    // The second and third change wait for the first apply, and are written together.
    let gate = a.store.shut_applies();
    let responses = tokio::join!(
        versioned(&a.client, "ann", &["one=1"], None),
        versioned(&a.client, "ann", &["two=2"], None),
        versioned(&a.client, "ann", &["three=3"], None),
        async {
            gate.waits().await;
            settle().await;
            gate.open();
        }
    );
    assert_eq!(a.store.commands().applies, 2);
    for (nth, ((_, version), cookie)) in
        [(&responses.0, "one=1"), (&responses.1, "two=2"), (&responses.2, "three=3")]
            .into_iter()
            .enumerate()
    {
        let (got, _) = versioned(&b.client, "ann", &[], Some(version)).await;
        assert!(got.contains(cookie), "{nth}: {got}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_of_a_write_that_was_not_confirmed_asks_the_store() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    a.set("ann", &["id=1"]).await;
    settle().await;
    assert_eq!(b.sees("ann").await, "id=1");
    b.store.tells.store(false, SeqCst);
    a.store.answers_are_lost.store(true, SeqCst);
    a.store.is_down.store(true, SeqCst);
    let (_, version) = versioned(&a.client, "ann", &["id=2"], None).await;
    assert_eq!(versioned(&b.client, "ann", &[], Some(&version)).await.0, "id=2");
}

#[tokio::test(start_paused = true)]
async fn a_version_travels_as_bytes_and_a_damaged_one_asks_the_store() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let (_, version) = versioned(&a.client, "ann", &["id=1"], None).await;
    let rows: [(&str, &[u8], usize); 5] = [
        ("itself", version.as_bytes(), 0),
        ("nothing", b"", 1),
        ("another", b"\x01another", 1),
        ("no version", b"\xff\xff", 1),
        ("cut", &version.as_bytes()[..2], 1),
    ];
    rows_async::hold(rows, async |(name, bytes, want)| {
        let before = a.store.commands().loads;
        let version = SessionVersion::from_bytes(bytes);
        let (got, _) = versioned(&a.client, "ann", &[], Some(&version)).await;
        (name, (got, a.store.commands().loads - before), ("id=1".to_owned(), want))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn tenants_and_sites_of_any_name_stay_apart() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let long = "x".repeat(1024);
    let names = ["a}:b", "x {ann}", "", &long, "\u{e4}nn", "ann", "ann\0", "../ann"];
    for (nth, name) in names.iter().enumerate() {
        a.set(name, &[&format!("id={nth}")]).await;
    }
    let b = Replica::new(&memory).await;
    let mut rows = Vec::new();
    for (nth, name) in names.iter().enumerate() {
        rows.push((name.escape_debug().to_string(), b.sees(name).await, format!("id={nth}")));
    }
    rows::hold(rows, |row| row);
    let jar = b.pool.jar(&key("ann"), &uri("https://example.org/")).await.unwrap();
    assert!(jar.is_empty(), "another site");
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_session_is_gone_everywhere_and_can_begin_anew() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    a.set("ann", &["id=1"]).await;
    a.set("bob", &["id=2"]).await;
    settle().await;
    assert_eq!(b.sees("ann").await, "id=1");
    a.pool.forget(&key("ann")).await.unwrap();
    settle().await;
    assert_eq!((a.sees("ann").await, b.sees("ann").await), (String::new(), String::new()));
    assert_eq!(b.sees("bob").await, "id=2");
    b.set("ann", &["id=3"]).await;
    settle().await;
    assert_eq!(a.sees("ann").await, "id=3");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_not_told_brings_a_forgotten_session_back_unless_it_asks() {
    let (cached, validated) = (Consistency::Cached, Consistency::Validated);
    // Any version that no store has.
    let unknown = SessionVersion::from_bytes(b"forgotten");
    let rows = [
        ("cached", cached, None, "id=1"),
        ("cached, with a version", cached, Some(&unknown), ""),
        ("validated", validated, None, ""),
    ];
    rows_async::hold(rows, async |(name, consistency, version, want)| {
        let memory = MemoryStore::new();
        let a = Replica::new(&memory).await;
        let b = Replica::with(&memory, |pool| pool.consistency(consistency)).await;
        a.set("ann", &["id=1"]).await;
        settle().await;
        assert_eq!(b.sees("ann").await, "id=1", "{name}");
        b.store.tells.store(false, SeqCst);
        a.pool.forget(&key("ann")).await.unwrap();
        settle().await;
        assert_eq!(a.sees("ann").await, "", "{name}");
        let (got, _) = versioned(&b.client, "ann", &[], version).await;
        // The server renews a session that it knows.
        let back = if got.is_empty() { "" } else { "id=2" };
        if !got.is_empty() {
            b.set("ann", &[back]).await;
        }
        settle().await;
        assert_eq!(a.sees("ann").await, back, "{name}");
        (name, got, want.to_owned())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_moved_expiry_brings_no_forgotten_session_back() {
    // Whether `b` is told of changes, and what it has to write in addition to the expiry.
    let rows = [(true, None), (false, None), (true, Some("more=1"))];
    for (tells, more) in rows {
        let memory = MemoryStore::new();
        let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
        b.set("ann", &["id=1; Max-Age=100"]).await;
        tick();
        // It waits to be written.
        b.set("ann", &["id=1; Max-Age=200"]).await;
        assert_eq!(b.store.commands().applies, 1);
        if !tells {
            b.store.tells.store(false, SeqCst);
            b.store.tell(Event::Lost);
            settle().await;
        }
        let in_flight = b.pool.jar(&key("ann"), &uri(SITE)).await.unwrap();
        a.pool.forget(&key("ann")).await.unwrap();
        settle().await;
        if let Some(line) = more {
            in_flight.set(&uri(SITE), line).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(a.sees("ann").await, more.unwrap_or_default(), "{tells} {more:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_sets_in_a_jar_is_flushed_or_written_by_the_driver() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    let jar = a.pool.jar(&key("ann"), &uri(SITE)).await.unwrap();
    jar.set(&uri(SITE), "one=1").unwrap();
    a.pool.flush().await.unwrap();
    settle().await;
    assert_eq!(b.sees("ann").await, "one=1");
    jar.set(&uri(SITE), "two=2").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(b.sees("ann").await, "one=1; two=2");
    let none = a.pool.jar(&key("ann"), &uri("/relative")).await;
    assert_eq!(none.unwrap_err(), SessionError::NoHost);
}

#[tokio::test(start_paused = true)]
async fn a_flush_writes_what_a_jar_has_of_another_site() {
    let other = uri("https://example.org/");
    for is_driven in [false, true] {
        let memory = MemoryStore::new();
        let (a, driver) = Replica::undriven(&memory, |pool| pool);
        if is_driven {
            tokio::spawn(driver);
            settle().await;
        }
        let jar = a.pool.jar(&key("ann"), &uri(SITE)).await.unwrap();
        jar.set(&other, "id=1").unwrap();
        a.pool.flush().await.unwrap();
        let there = Replica::new(&memory).await.pool.jar(&key("ann"), &other).await.unwrap();
        assert_eq!(there.to_map().len(), 1, "{is_driven}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_its_driver_a_pool_is_validated_and_writes_through() {
    let memory = MemoryStore::new();
    let (a, _driver) = Replica::undriven(&memory, |pool| pool);
    let b = Replica::new(&memory).await;
    a.set("ann", &["id=1"]).await;
    settle().await;
    assert_eq!(b.sees("ann").await, "id=1");
    b.set("ann", &["id=2"]).await;
    assert_eq!(a.sees("ann").await, "id=2");
    assert!(!a.pool.stats().is_listening && b.pool.stats().is_listening);
}

#[tokio::test(start_paused = true)]
async fn a_driver_ends_with_the_last_handle_and_writes_what_is_left() {
    let memory = MemoryStore::new();
    let (replica, driver) = Replica::undriven(&memory, |pool| pool);
    let driver = tokio::spawn(driver);
    settle().await;
    let Replica { pool, client, .. } = replica;
    let jar = pool.jar(&key("ann"), &uri(SITE)).await.unwrap();
    jar.set(&uri(SITE), "id=1").unwrap();
    drop((pool, client));
    driver.await.unwrap();
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=1");
}

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_forgets_after_the_ttl() {
    let memory = MemoryStore::new();
    let set_up = |pool: Builder| pool.session_cookies(Duration::from_secs(2 * 86_400));
    let (a, _driver) = Replica::undriven(&memory, set_up);
    a.set("ann", &["id=1"]).await;
    a.set("bob", &["id=1; Max-Age=86400"]).await;
    let left = async |name: &'static str| Replica::undriven(&memory, set_up).0.sees(name).await;
    tokio::time::sleep(Duration::from_secs(86_401)).await;
    assert_eq!((left("ann").await, left("bob").await), ("id=1".to_owned(), String::new()));
    tokio::time::sleep(Duration::from_secs(86_401)).await;
    assert_eq!(left("ann").await, "");
}

#[tokio::test(start_paused = true)]
async fn two_pools_over_one_arc_share_a_store() {
    let memory = std::sync::Arc::new(MemoryStore::new());
    let (a, _) = SessionPool::builder(std::sync::Arc::clone(&memory)).unsealed().build();
    let (b, _) = SessionPool::builder(memory).unsealed().build();
    let (a, b) = (crate::support::client(&a), crate::support::client(&b));
    get(&a, "ann", &["id=1"]).await.unwrap();
    assert_eq!(get(&b, "ann", &[]).await.unwrap(), "id=1");
}

#[tokio::test(start_paused = true)]
async fn any_key_may_have_changed_after_these_events() {
    let lost = || vec![Event::Lost];
    let rows: [(&str, Vec<Event>, [usize; 2]); 4] = [
        ("nothing", vec![], [0, 0]),
        ("all changed", vec![Event::AllChanged], [1, 0]),
        // Not told of anything: each request asks, the first one for all.
        ("lost", lost(), [1, 1]),
        (
            "lost and back",
            [lost(), vec![Event::Back { same_server: true, offset: 0 }]].concat(),
            [1, 0],
        ),
    ];
    rows_async::hold(rows, async |(name, events, want)| {
        let a = Replica::new(&MemoryStore::new()).await;
        a.set("ann", &["id=1"]).await;
        let before = a.store.commands();
        for event in events {
            a.store.tell(event);
        }
        settle().await;
        a.sees("ann").await;
        a.sees("ann").await;
        let now = a.store.commands();
        (name, [now.loads - before.loads, now.versions - before.versions], want)
    })
    .await;
}
