//! What is written to the store, and when.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, SystemTime},
};

use tower_outbound::{
    cookie::{CookieJar, CookieLimits},
    session::{Event, MemoryStore, SessionStore, Version, Write},
};

use crate::support::{Replica, SITE, get, key, settle, store_key, tick, uri};

#[tokio::test(start_paused = true)]
async fn the_change_of_a_dropped_request_is_stored() {
    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    a.sees("ann").await;
    // Its apply is dropped before the store has it, and tried again after a while.
    let answers = a.store.shut_applies();
    a.store.is_stuck.store(true, SeqCst);
    let dropped = tokio::spawn({
        let client = a.client.clone();
        async move { get(&client, "ann", &["id=1"]).await }
    });
    answers.waits().await;
    dropped.abort();
    assert!(dropped.await.unwrap_err().is_cancelled());
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "", "it is not there yet");
    a.store.is_stuck.store(false, SeqCst);
    answers.open();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=1");
}

#[tokio::test(start_paused = true)]
async fn without_a_driver_the_next_request_writes_what_a_dropped_one_changed() {
    let memory = MemoryStore::new();
    let (a, _driver) = Replica::undriven(&memory, |pool| pool);
    a.sees("ann").await;
    let answers = a.store.shut_applies();
    a.store.is_stuck.store(true, SeqCst);
    tokio::select! {
        biased;
        _ = get(&a.client, "ann", &["id=1"]) => panic!("its apply waits"),
        () = answers.waits() => {}
    }
    a.store.is_stuck.store(false, SeqCst);
    answers.open();
    let before = a.store.commands().applies;
    assert_eq!(a.sees("ann").await, "id=1");
    assert_eq!(a.store.commands().applies - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_logout_is_stored_where_the_cookie_never_was_and_a_late_write_does_not_undo_it() {
    let memory = MemoryStore::new();
    let (a, b) = (Replica::new(&memory).await, Replica::new(&memory).await);
    a.sees("ann").await;
    b.sees("ann").await;
    b.store.tells.store(false, SeqCst);
    // `a` sets it, and its write does not reach the store.
    a.store.is_down.store(true, SeqCst);
    a.set("ann", &["sid=1"]).await;
    // `b` has never seen it, and deletes it later.
    tick();
    b.set("ann", &["sid=; Max-Age=0"]).await;
    // The write comes late.
    a.store.is_down.store(false, SeqCst);
    a.pool.flush().await.unwrap();
    settle().await;
    assert_eq!((a.sees("ann").await, b.sees("ann").await), (String::new(), String::new()));
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "");
    assert_eq!(a.pool.stats().stale_refusals, 1);
}

#[tokio::test(start_paused = true)]
async fn an_expiry_that_moves_is_written_once_a_tenant_and_refresh() {
    let memory = MemoryStore::new();
    let a = Replica::with(&memory, |pool| pool.refresh(Duration::from_secs(5))).await;
    let names: Vec<_> = (0..24).map(|n| n.to_string()).collect();
    for name in &names {
        a.set(name, &["id=1; Max-Age=3600"]).await;
    }
    let before = a.store.commands().applies;
    // 24,000 answers in ten seconds, each of which moves the expiry.
    for nth in 0..1_000 {
        for name in &names {
            a.set(name, &[&format!("id=1; Max-Age={}", 3_601 + nth)]).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let applies = a.store.commands().applies - before;
    assert!(applies <= 24 * 3, "{applies}");
    assert!(applies >= 24, "{applies}");
    // The last one is written too, after a while.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let b = Replica::new(&memory).await;
    let jar = b.pool.jar(&key("0"), &uri(SITE)).await.unwrap();
    let left = jar.get("id").unwrap().unwrap().expires().unwrap();
    assert!(left > SystemTime::now() + Duration::from_secs(4_500));
}

#[tokio::test(start_paused = true)]
async fn behind_a_response_does_not_wait_and_the_driver_writes() {
    let memory = MemoryStore::new();
    let behind = Write::Behind(Duration::from_secs(2));
    let a = Replica::with(&memory, |pool| pool.write(behind)).await;
    a.sees("ann").await;
    for nth in 0..10 {
        a.set("ann", &[&format!("id={nth}")]).await;
    }
    assert_eq!(a.store.commands().applies, 0);
    tokio::time::sleep(Duration::from_millis(2_001)).await;
    assert_eq!(a.store.commands().applies, 1, "all ten in one");
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=9");
    // Without the driver it is written through.
    let (b, _driver) = Replica::undriven(&memory, |pool| pool.write(behind));
    b.set("ann", &["id=b"]).await;
    assert_eq!(Replica::new(&memory).await.sees("ann").await, "id=b");
}

#[tokio::test(start_paused = true)]
async fn what_another_server_may_lack_is_written_again() {
    for (same_server, late, want) in [
        (true, Duration::ZERO, ""),
        (false, Duration::ZERO, "id=1"),
        (false, Duration::from_secs(31), ""),
    ] {
        let memory = MemoryStore::new();
        let a = Replica::new(&memory).await;
        a.set("ann", &["id=1"]).await;
        tokio::time::sleep(late).await;
        // The server returns without its last writes: here, without all of them.
        memory.forget(&key("ann")).await.unwrap();
        a.store.tell(Event::Lost);
        a.store.tell(Event::Back { same_server, offset: 0 });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(Replica::new(&memory).await.sees("ann").await, want, "{same_server} {late:?}");
        assert_eq!(a.sees("ann").await, want, "{same_server} {late:?}");
        // And it is kept for as long as the cookie lives.
        drop(a);
        tokio::time::sleep(Duration::from_secs(2 * 86_400)).await;
        let (b, _driver) = Replica::undriven(&memory, |pool| pool);
        assert_eq!(b.sees("ann").await, want, "{same_server} {late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_site_that_invents_names_is_bounded_in_the_store_and_its_login_stays() {
    let memory = MemoryStore::new();
    let limits = CookieLimits { per_domain: 10, ..CookieLimits::default() };
    let a = Replica::with(&memory, |pool| pool.jar(CookieJar::builder().limits(limits))).await;
    a.set("ann", &["sid=1; Secure"]).await;
    for nth in 0..500 {
        a.set("ann", &[&format!("name{nth}=1")]).await;
    }
    let ann = store_key(&memory, "ann").await;
    let stored = memory.load(&ann).await.unwrap().records.len();
    assert!(stored <= 61, "{stored}");
    assert!(a.pool.stats().dropped > 0);
    let b = Replica::new(&memory).await;
    assert!(b.sees("ann").await.contains("sid=1"));
    // What was there before can still be changed.
    a.set("ann", &["sid=2; Secure"]).await;
    settle().await;
    assert!(b.sees("ann").await.contains("sid=2"));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_has_too_much_is_tidied_though_it_has_no_room() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let memory = MemoryStore::new();
    let ann = store_key(&memory, "ann").await;
    let many = MemoryStore::new();
    let names: Vec<_> = (0..100).map(|nth| format!("name{nth}=1; Secure")).collect();
    let lines: Vec<_> = names.iter().map(String::as_str).collect();
    let other = Replica::new(&many).await;
    for of_a_response in lines.chunks(50) {
        other.set("ann", of_a_response).await;
    }
    let records = many.load(&ann).await.unwrap().records;
    memory.apply(&ann, &Version::default(), &records, HOUR).await.unwrap();
    let limits = CookieLimits { per_domain: 10, ..CookieLimits::default() };
    let a = Replica::with(&memory, |pool| pool.jar(CookieJar::builder().limits(limits))).await;
    a.set("ann", &["new=1; Secure"]).await;
    assert_eq!(a.pool.stats().dropped, 1);
    let records = memory.load(&ann).await.unwrap().records;
    assert_eq!(records.iter().filter(|record| record.body.is_some()).count(), 20);
}

#[cfg(feature = "follow-redirect")]
#[tokio::test(start_paused = true)]
async fn a_change_of_another_site_is_filed_under_its_own() {
    // Redirects that are followed below the cookies end at another site.
    use http::Request;
    use tower::{Layer, ServiceExt, service_fn};
    use tower_http::follow_redirect::RequestUri;
    use tower_outbound::{cookie::CookieLayer, session::SessionLayer};

    use crate::support::request;

    let memory = MemoryStore::new();
    let a = Replica::new(&memory).await;
    let server = service_fn(|_: Request<()>| async {
        let mut response = http::Response::builder().header("set-cookie", "id=1").body(()).unwrap();
        response.extensions_mut().insert(RequestUri(uri("https://example.org/")));
        Ok::<_, std::convert::Infallible>(response)
    });
    let client = SessionLayer::new(a.pool.clone()).layer(CookieLayer::per_request().layer(server));
    client.oneshot(request("ann", SITE, &[])).await.unwrap();
    a.pool.flush().await.unwrap();
    for replica in [&a, &Replica::new(&memory).await] {
        let jar = |site| async move {
            replica.pool.jar(&key("ann"), &uri(site)).await.unwrap().to_map().len()
        };
        assert_eq!((jar(SITE).await, jar("https://example.org/").await), (0, 1));
    }
}
