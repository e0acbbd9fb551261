//! `RedisStore` with real servers: its commands, and what it does when they fail.

mod faults;
mod many;
mod start;

use std::{pin::Pin, time::Duration};

use futures_util::{Stream, StreamExt};
use tower_outbound::session::{
    Event, RedisConfig, RedisError, RedisStore, SessionStore, StoreKey, Version,
};

use crate::{
    contract::{clean, deleted, key, merged, set},
    server::{Server, can_start},
};

const LONG: Duration = Duration::from_secs(3_600);

fn config(url: &str) -> RedisConfig {
    RedisConfig::new(url).unwrap().timeout(Duration::from_secs(20))
}

fn store(url: &str) -> RedisStore {
    RedisStore::new(config(url)).unwrap()
}

/// Sets the cookie `a` of this key, and returns its body.
async fn write(store: &RedisStore, key: &StoreKey, stamp: u64) -> Result<String, RedisError> {
    let body = format!("body-{stamp}");
    store.apply(key, &Version::default(), &[set("a", stamp, &body)], LONG).await.map(|_| body)
}

/// The body of the cookie `a`.
async fn read(store: &RedisStore, key: &StoreKey) -> Option<String> {
    let records = store.load(key).await.unwrap().records;
    let body = records.into_iter().find(|record| *record.field == *b"a")?.body?;
    Some(String::from_utf8(body.into()).unwrap())
}

type Events<'a> = Pin<Box<dyn Stream<Item = Event> + Send + 'a>>;

async fn next(events: &mut Events<'_>) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
    next.expect("an event comes").expect("events do not end")
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Lost => "lost",
        Event::Back { same_server: true, .. } => "back",
        Event::Back { same_server: false, .. } => "another",
        Event::AllChanged => "all changed",
        Event::Changed(_) => "changed",
        _ => "unknown",
    }
}

/// Waits for each of these in turn.
async fn told(events: &mut Events<'_>, kinds: &[&str]) {
    for (number, expected) in kinds.iter().enumerate() {
        let event = next(events).await;
        assert_eq!(kind(&event), *expected, "event {number}: {event:?}");
    }
}

#[tokio::test]
async fn a_session_has_the_documented_names_on_the_server() {
    if !can_start("redis::a_session_has_the_documented_names_on_the_server") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("a}:b", "example.com");
    let records = [set("name", 7, "body"), deleted("v", u64::MAX)];
    clean(store.apply(&key, &Version::default(), &records, LONG).await.unwrap());

    let hash = "to1:{a%7d%3ab}:example.com";
    assert_eq!(server.ask(&format!("HGET {hash} cname")), "00000000000000000007+body");
    assert_eq!(server.ask(&format!("HGET {hash} cv")), "18446744073709551615-");
    assert!(server.ask(&format!("HGET {hash} v")).starts_with("1:"));
    assert_eq!(server.ask("SMEMBERS to1:{a%7d%3ab}"), "example.com");
    assert_eq!(server.ask("DBSIZE"), ":2");
    for name in [hash, "to1:{a%7d%3ab}"] {
        let left: u64 = server.ask(&format!("TTL {name}"))[1..].parse().unwrap();
        assert!((3_500..=3_600).contains(&left), "{name}: {left}");
    }
    store.forget(key.tenant()).await.unwrap();
    assert_eq!(server.ask("DBSIZE"), ":0");
}

#[tokio::test]
async fn the_set_of_sites_stays_as_long_as_the_last_of_them() {
    if !can_start("redis::the_set_of_sites_stays_as_long_as_the_last_of_them") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    for (site, hours) in [("long.com", 2), ("brief.com", 1)] {
        let ttl = Duration::from_secs(hours * 3_600);
        store.apply(&key("t", site), &Version::default(), &[set("a", 1, "")], ttl).await.unwrap();
    }
    let left: u64 = server.ask("TTL to1:{t}")[1..].parse().unwrap();
    assert!(left > 7_000, "{left}");
}

/// A replica that writes without a load does not know how long the other cookies live.
#[tokio::test]
async fn a_later_write_with_a_shorter_ttl_does_not_shorten_that_of_the_key() {
    if !can_start("redis::a_later_write_with_a_shorter_ttl_does_not_shorten_that_of_the_key") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    for (stamp, hours) in [(1, 2), (2, 1)] {
        let ttl = Duration::from_secs(hours * 3_600);
        store.apply(&key, &Version::default(), &[set("a", stamp, "")], ttl).await.unwrap();
    }
    let left: u64 = server.ask("TTL to1:{t}:example.com")[1..].parse().unwrap();
    assert!(left > 7_000, "{left}");
}

#[tokio::test]
async fn a_load_a_look_and_a_change_are_one_command_each() {
    if !can_start("redis::a_load_a_look_and_a_change_are_one_command_each") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    write(&store, &key, 1).await.unwrap();
    server.ask("CONFIG RESETSTAT");
    let before: u64 = server.info("stats", "total_commands_processed").unwrap().parse().unwrap();
    write(&store, &key, 2).await.unwrap();
    store.version(&key).await.unwrap();
    store.load(&key).await.unwrap();
    let after: u64 = server.info("stats", "total_commands_processed").unwrap().parse().unwrap();
    // The command before is counted too. Commands inside a script do not count as ours.
    let calls = |name: &str| {
        let stat = server.info("commandstats", &format!("cmdstat_{name}")).unwrap_or_default();
        stat.split(',').next().unwrap_or_default().to_owned()
    };
    assert_eq!(calls("evalsha"), "calls=1");
    assert!(after - before >= 4, "{before} {after}");
    assert_eq!(calls("eval"), "");
    assert_eq!(calls("client|tracking"), "");
}

#[tokio::test]
async fn others_are_told_of_each_change_also_after_their_own() {
    if !can_start("redis::others_are_told_of_each_change_also_after_their_own") {
        return;
    }
    let server = Server::start(&[]);
    let (one, other) = (store(&server.url()), store(&server.url()));
    let (key, unread) = (key("t {}", "example.com"), key("t", "unread.com"));
    let mut events: Events<'_> = Box::pin(other.events());
    told(&mut events, &["back"]).await;
    other.load(&key).await.unwrap();
    write(&one, &key, 1).await.unwrap();
    write(&one, &unread, 1).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Changed(key.clone()));
    // It is not told of its own change. The script has read the key again, so it is told of the
    // next.
    write(&other, &key, 2).await.unwrap();
    write(&one, &key, 3).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Changed(key.clone()));
    // The next change is also not lost if it follows an answer with all contents.
    let stale = other.apply(&key, &Version::default(), &[set("a", 4, "4")], LONG).await.unwrap();
    merged(stale);
    one.forget(key.tenant()).await.unwrap();
    assert_eq!(next(&mut events).await, Event::Changed(key.clone()));
    server.ask("FLUSHALL");
    told(&mut events, &["all changed"]).await;
}

#[tokio::test]
async fn the_clocks_are_compared() {
    if !can_start("redis::the_clocks_are_compared") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let mut events: Events<'_> = Box::pin(store.events());
    match next(&mut events).await {
        // The same machine, which may be busy.
        Event::Back { same_server: true, offset } => assert!(offset.abs() < 200_000, "{offset}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_has_cookies_of_so_many_sites_and_no_more() {
    if !can_start("redis::a_session_has_cookies_of_so_many_sites_and_no_more") {
        return;
    }
    let server = Server::start(&[]);
    let store = RedisStore::new(config(&server.url()).max_sites(2)).unwrap();
    let site = |site| key("t", site);
    write(&store, &site("a.com"), 1).await.unwrap();
    write(&store, &site("b.com"), 1).await.unwrap();
    let refused = write(&store, &site("c.com"), 1).await.unwrap_err();
    assert!(matches!(refused, RedisError::TooManySites { max_sites: 2, .. }), "{refused}");
    assert_eq!(read(&store, &site("c.com")).await, None);
    // Sites that it already has, and other sessions, still work.
    write(&store, &site("a.com"), 2).await.unwrap();
    write(&store, &key("other", "c.com"), 1).await.unwrap();
    // A site that has expired makes room.
    server.ask("DEL to1:{t}:b.com");
    write(&store, &site("c.com"), 1).await.unwrap();
    assert_eq!(server.ask("SCARD to1:{t}"), ":2");
}
