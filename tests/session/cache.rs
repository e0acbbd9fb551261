//! What a pool keeps in memory, and when it asks the store again.

use std::{
    sync::atomic::{AtomicI64, Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use tower_outbound::{
    cookie::{CookieJar, CookieLimits},
    session::{Event, MemoryStore},
};

use crate::support::{Replica, SITE, get, key, settle, store_key, tick, uri};

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_is_read_before_its_loads_reply_is_not_lost() {
    let memory = MemoryStore::new();
    let ann = store_key(&memory, "ann").await;
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    a.store.tells.store(false, SeqCst);
    // The load has read the old contents, and its reply waits.
    let gate = a.store.shut_loads();
    let ((), got) = tokio::join!(
        async {
            gate.waits().await;
            b.set("ann", &["key=2"]).await;
            a.store.tell(Event::Changed(ann.clone()));
            settle().await;
            gate.open();
        },
        a.sees("ann")
    );
    // The request that had asked before the change may be served with either.
    assert!(["key=1", "key=2"].contains(&&*got), "{got}");
    assert_eq!(a.sees("ann").await, "key=2");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_after_an_own_write_still_comes() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    a.set("ann", &["id=1"]).await;
    for nth in 2..5 {
        b.set("ann", &[&format!("id={nth}")]).await;
        settle().await;
        assert_eq!(a.sees("ann").await, format!("id={nth}"));
        a.set("ann", &[&format!("id=own{nth}")]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn many_requests_of_a_cold_session_are_one_load_and_a_cancelled_one_wakes_the_next() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let gate = a.store.shut_loads();
    let first = tokio::spawn({
        let client = a.client.clone();
        async move { get(&client, "ann", &[]).await.unwrap() }
    });
    gate.waits().await;
    let others: Vec<_> = (0..50)
        .map(|_| {
            let client = a.client.clone();
            tokio::spawn(async move { get(&client, "ann", &[]).await.unwrap() })
        })
        .collect();
    settle().await;
    assert_eq!(a.store.commands().loads, 1);
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    gate.waits().await;
    gate.open();
    for other in others {
        other.await.unwrap();
    }
    assert_eq!(a.store.commands().loads, 2);
}

#[tokio::test(start_paused = true)]
async fn validations_that_wait_share_one() {
    use tower_outbound::session::Consistency;

    let memory = MemoryStore::new();
    let a = Replica::with(&memory, |pool| pool.consistency(Consistency::Validated)).await;
    a.set("ann", &["id=1"]).await;
    // An apply is on its way, so that the others wait for their turn.
    let gate = a.store.shut_applies();
    let writer = tokio::spawn({
        let client = a.client.clone();
        async move { get(&client, "ann", &["id=2"]).await.unwrap() }
    });
    gate.waits().await;
    let before = a.store.commands().versions;
    let others: Vec<_> = (0..50)
        .map(|_| {
            let client = a.client.clone();
            tokio::spawn(async move { get(&client, "ann", &[]).await.unwrap() })
        })
        .collect();
    settle().await;
    gate.open();
    for other in others {
        assert_eq!(other.await.unwrap(), "id=2");
    }
    writer.await.unwrap();
    assert_eq!(a.store.commands().versions - before, 1);
}

#[tokio::test(start_paused = true)]
async fn at_most_so_many_sessions_are_in_memory_and_the_oldest_leaves() {
    let memory = MemoryStore::new();
    let a = Replica::with(&memory, |pool| pool.max_sessions(3)).await;
    let loads = async |name: &'static str| {
        let before = a.store.commands().loads;
        a.sees(name).await;
        a.store.commands().loads - before
    };
    for name in ["ann", "bob", "cid", "ann", "dan"] {
        a.sees(name).await;
        assert!(a.pool.stats().sessions <= 3);
    }
    assert_eq!(
        [loads("ann").await, loads("cid").await, loads("dan").await, loads("bob").await],
        [0, 0, 0, 1],
        "bob was used longest ago"
    );
    // A session whose jar is in use stays, and its changes are not lost.
    let jar = a.pool.jar(&key("ann"), &uri(SITE)).await.unwrap();
    for name in 0..20 {
        a.sees(&name.to_string()).await;
    }
    jar.set(&uri(SITE), "id=1").unwrap();
    assert_eq!(a.sees("ann").await, "id=1");
}

#[tokio::test(start_paused = true)]
async fn a_session_with_unwritten_changes_is_written_before_it_leaves() {
    for is_driven in [true, false] {
        let memory = MemoryStore::new();
        let (a, driver) = Replica::undriven(&memory, |pool| pool.max_sessions(2));
        let _driver = if is_driven { Ok(tokio::spawn(driver)) } else { Err(driver) };
        settle().await;
        a.sees("ann").await;
        let answers = a.store.shut_applies();
        a.store.is_stuck.store(true, SeqCst);
        a.set("ann", &["id=1"]).await;
        a.store.is_stuck.store(false, SeqCst);
        answers.open();
        for name in ["bob", "cid", "dan", "eva"] {
            a.sees(name).await;
        }
        // The driver tries again a second after a failure.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(a.pool.stats().sessions <= 2, "{is_driven}");
        let b = Replica::new(&memory).await;
        assert_eq!(b.sees("ann").await, "id=1", "{is_driven}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_leaves() {
    let memory = MemoryStore::new();
    let a = Replica::with(&memory, |pool| pool.idle(Duration::from_secs(60))).await;
    a.set("ann", &["id=1"]).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    a.sees("bob").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(a.pool.stats().sessions, 1);
    assert_eq!(a.sees("ann").await, "id=1");
}

#[tokio::test(start_paused = true)]
async fn an_eviction_takes_nothing_from_the_store() {
    let memory = MemoryStore::new();
    let limits = CookieLimits { per_domain: 2, ..CookieLimits::default() };
    let a = Replica::with(&memory, |pool| pool.jar(CookieJar::builder().limits(limits))).await;
    for line in ["one=1", "two=2", "three=3"] {
        a.set("ann", &[line]).await;
    }
    assert_eq!(a.sees("ann").await.split("; ").count(), 2);
    let b = Replica::new(&memory).await;
    assert_eq!(b.sees("ann").await, "one=1; two=2; three=3");
}

/// The error of a replica's clock, in seconds.
static AHEAD: AtomicI64 = AtomicI64::new(0);

fn skewed() -> SystemTime {
    let (now, ahead) = (SystemTime::now(), AHEAD.load(SeqCst));
    let by = Duration::from_secs(ahead.unsigned_abs());
    if ahead < 0 { now - by } else { now + by }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_last_holds_whatever_the_clocks_say() {
    // The clock, and how far the store reports to be ahead of it. A wrong clock still orders a
    // change after what it has seen. If events tell the store's time, also after what it has not
    // seen.
    for (ahead, offset) in [(0, 0), (-5, 5_000_000), (3, -3_000_000), (-5, 0), (3, 0), (-86_400, 0)]
    {
        AHEAD.store(ahead, SeqCst);
        let memory = MemoryStore::new();
        let right = Replica::new(&memory).await;
        let off = Replica::with(&memory, |pool| pool.jar(CookieJar::builder().clock(skewed))).await;
        off.store.tell(Event::Back { same_server: true, offset });
        settle().await;
        for nth in 0..4 {
            let (a, b) = if nth % 2 == 0 { (&off, &right) } else { (&right, &off) };
            a.set("ann", &[&format!("id={nth}")]).await;
            settle().await;
            assert_eq!(b.sees("ann").await, format!("id={nth}"), "{ahead} s, {nth}");
        }
        // Neither has seen the other's change, so the store's time decides.
        if offset != 0 {
            for replica in [&off, &right] {
                replica.store.tells.store(false, SeqCst);
            }
            for nth in 4..8 {
                let a = if nth % 2 == 0 { &off } else { &right };
                a.set("ann", &[&format!("id={nth}")]).await;
                tick();
            }
            let later = Replica::new(&memory).await;
            assert_eq!(later.sees("ann").await, "id=7", "{ahead} s");
        }
    }
}
