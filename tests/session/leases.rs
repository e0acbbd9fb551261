//! Leases, which one replica holds at a time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout};
use tower_outbound::{
    cookie::CookieJar,
    session::{Event, MemoryStore, SessionError, SessionPool, SessionSeal},
};

use crate::{
    rows_async,
    support::{Double, Replica, get, key, settle},
};

const TTL: Duration = Duration::from_secs(8);
/// When another may have a lease whose holder died.
const FREE: Duration = Duration::from_secs(9);

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_by_one_of_many_replicas_at_a_time() {
    let memory = MemoryStore::new();
    let (held, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let fences = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for _ in 0..3 {
        let replica = Replica::new(&memory).await;
        for _ in 0..20 {
            let pool = replica.pool.clone();
            let (held, most, fences) = (held.clone(), most.clone(), fences.clone());
            tasks.push(tokio::spawn(async move {
                let lease = pool.lease(&key("ann"), "refresh", TTL).await.unwrap();
                most.fetch_max(held.fetch_add(1, SeqCst) + 1, SeqCst);
                fences.lock().unwrap().push(lease.fence());
                tokio::time::sleep(Duration::from_millis(7)).await;
                held.fetch_sub(1, SeqCst);
                lease.release().await.unwrap();
            }));
        }
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(most.load(SeqCst), 1);
    let fences = fences.lock().unwrap();
    assert!(fences.len() == 60 && fences.is_sorted_by(|a, b| a < b), "{fences:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_its_holders_end() {
    // What the holder does, and when another has the lease.
    let at_once = Duration::from_millis(300);
    let rows = [
        ("it releases", at_once),
        ("it drops it", at_once),
        ("it drops it, without a driver", FREE),
        ("it dies", FREE),
    ];
    rows_async::hold(rows, async |(name, within)| {
        let memory = MemoryStore::new();
        let (a, driver) = Replica::undriven(&memory, |pool| pool);
        let driver = tokio::spawn(driver);
        let b = Replica::new(&memory).await;
        let lease = a.pool.lease(&key("ann"), "x", TTL).await.unwrap();
        assert!(lease.remaining() > TTL - Duration::from_millis(1));
        let start = Instant::now();
        let other = tokio::spawn({
            let pool = b.pool.clone();
            async move { pool.lease(&key("ann"), "x", TTL).await.unwrap() }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        match name {
            "it releases" => lease.release().await.unwrap(),
            "it drops it" => drop(lease),
            "it dies" => std::mem::forget(lease),
            _ => {
                driver.abort();
                settle().await;
                drop(lease);
            }
        }
        let other = other.await.unwrap();
        let took = start.elapsed();
        assert!(took <= within + at_once, "{name}: {took:?}");
        assert!(within != FREE || took >= TTL, "{name}: {took:?}");
        (name, other.fence() > 1, true)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_release_of_an_ended_lease_takes_nothing_from_the_next_holder() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    let ended = a.pool.lease(&key("ann"), "x", TTL).await.unwrap();
    let held = b.pool.lease(&key("ann"), "x", TTL * 100).await.unwrap();
    assert_eq!(ended.remaining(), Duration::ZERO);
    ended.release().await.unwrap();
    let third = timeout(TTL, a.pool.lease(&key("ann"), "x", TTL)).await;
    assert!(third.is_err(), "it is still held");
    assert!(held.remaining() > TTL);
    // Other names and other sessions are other leases.
    drop(a.pool.lease(&key("ann"), "y", TTL).await.unwrap());
    drop(a.pool.lease(&key("bob"), "x", TTL).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_ahead_takes_no_lease_from_a_living_holder() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    // `b` is not told the store's time.
    b.store.tell(Event::Lost);
    settle().await;
    let lease = a.pool.lease(&key("ann"), "x", TTL).await.unwrap();
    let start = Instant::now();
    let other = b.pool.lease(&key("ann"), "x", TTL).await.unwrap();
    assert!(start.elapsed() >= TTL && lease.remaining().is_zero());
    drop(other);
}

/// How far a replica's clock was set forward, in seconds.
static SET_FORWARD: AtomicU64 = AtomicU64::new(0);

fn set_forward() -> SystemTime {
    SystemTime::now() + Duration::from_secs(SET_FORWARD.load(SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_takes_no_lease_from_a_living_holder() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let jars = || CookieJar::builder().clock(set_forward);
    let b = Replica::with(&memory, |pool| pool.jar(jars())).await;
    let lease = a.pool.lease(&key("ann"), "x", TTL).await.unwrap();
    SET_FORWARD.store(3_600, SeqCst);
    let start = Instant::now();
    let other = b.pool.lease(&key("ann"), "x", TTL).await.unwrap();
    assert!(start.elapsed() >= TTL && lease.remaining().is_zero(), "{:?}", start.elapsed());
    drop(other);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_can_be_spent_once_is_spent_once_under_a_lease() {
    let memory = MemoryStore::new();
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let replica = Replica::new(&memory).await;
        // No change is reported, so only the lease makes a replica look.
        replica.store.tells.store(false, SeqCst);
        replicas.push(replica);
    }
    replicas[0].set("ann", &["token=0"]).await;
    let spent = Arc::new(Mutex::new(0));
    let mut tasks = Vec::new();
    for nth in 0..60 {
        let (client, pool) = (replicas[nth % 3].client.clone(), replicas[nth % 3].pool.clone());
        let spent = Arc::clone(&spent);
        tasks.push(tokio::spawn(async move {
            let lease = pool.lease(&key("ann"), "token", TTL).await.unwrap();
            let next = {
                let mut spent = spent.lock().unwrap();
                *spent += 1;
                *spent
            };
            let got = get(&client, "ann", &[&format!("token={next}")]).await.unwrap();
            assert_eq!(got, format!("token={}", next - 1));
            lease.release().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_lease_or_cannot_be_asked_for_is_an_error() {
    let memory = MemoryStore::new();
    let pool = |number| {
        let seal = SessionSeal::new(number, &[7; 32]);
        let store = Double::new(&memory);
        (SessionPool::builder(Arc::clone(&store)).seal(seal).build().0, store)
    };
    let (a, store) = pool(1);
    drop(a.lease(&key("ann"), "x", TTL).await.unwrap());
    let (b, _) = pool(2);
    let other = b.lease(&key("ann"), "x", TTL).await;
    assert_eq!(other.unwrap_err(), SessionError::Unreadable);
    store.is_down.store(true, SeqCst);
    let down = a.lease(&key("ann"), "x", TTL).await;
    assert_eq!(down.unwrap_err(), SessionError::Unavailable);
}
