//! Faults of a server, and of the connection to it.

use std::{
    task::{Context, Waker},
    time::Instant,
};

use super::*;
use crate::{
    rows,
    server::proxy::{Proxy, Wire},
};

/// A configuration with short time-outs.
fn watchful(url: &str) -> RedisStore {
    let config = RedisConfig::new(url).unwrap();
    let config = config.timeout(Duration::from_millis(400)).ping(Duration::from_millis(200));
    RedisStore::new(config).unwrap()
}

/// Repeats a call until it succeeds, because the store is about to find its server.
async fn read_in_the_end(store: &RedisStore, key: &StoreKey) -> Option<String> {
    let patience = Instant::now() + Duration::from_secs(30);
    loop {
        match store.load(key).await {
            Ok(_) => return read(store, key).await,
            Err(error) => assert!(Instant::now() < patience, "{error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_forgot_the_script_is_told_it_again() {
    if !can_start("redis::faults::a_server_that_forgot_the_script_is_told_it_again") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    for stamp in 1..4 {
        let body = write(&store, &key, stamp).await.unwrap();
        assert_eq!(read(&store, &key).await, Some(body));
        server.ask("SCRIPT FLUSH");
    }
    store.forget(key.tenant()).await.unwrap();
    assert_eq!(read(&store, &key).await, None);
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_waited_for() {
    if !can_start("redis::faults::a_server_that_became_a_replica_is_waited_for") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    let mut events: Events<'_> = Box::pin(store.events());
    told(&mut events, &["back"]).await;
    write(&store, &key, 1).await.unwrap();
    let roles = || server.info("commandstats", "cmdstat_role").unwrap();
    let before = roles();
    server.ask("REPLICAOF 127.0.0.1 1");
    let promote = async {
        // Once it has been asked for its role, the write was refused.
        while roles() == before {
            tokio::task::yield_now().await;
        }
        server.ask("REPLICAOF NO ONE");
    };
    let (body, ()) = tokio::join!(write(&store, &key, 2), promote);
    assert_eq!(read(&store, &key).await, Some(body.unwrap()));
    // It may have lost what it had: it has a line of data of its own now.
    told(&mut events, &["lost", "another"]).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_is_made_again() {
    if !can_start("redis::faults::a_connection_that_is_closed_is_made_again") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    // Without anyone who listens, too.
    for stamp in 1..4 {
        let body = write(&store, &key, stamp).await.unwrap();
        server.ask("CLIENT KILL TYPE normal");
        assert_eq!(read(&store, &key).await, Some(body));
    }
    let mut events: Events<'_> = Box::pin(store.events());
    told(&mut events, &["back"]).await;
    server.ask("CLIENT KILL TYPE normal");
    told(&mut events, &["lost", "back"]).await;
}

#[tokio::test]
async fn a_killed_server_comes_back_as_another_one() {
    if !can_start("redis::faults::a_killed_server_comes_back_as_another_one") {
        return;
    }
    for (arguments, is_kept) in
        [(&["--appendonly", "yes", "--appendfsync", "always"][..], true), (&[][..], false)]
    {
        let mut server = Server::start(arguments);
        let store = store(&server.url());
        let key = key("t", "example.com");
        let mut events: Events<'_> = Box::pin(store.events());
        told(&mut events, &["back"]).await;
        let body = write(&store, &key, 1).await.unwrap();
        server.kill();
        told(&mut events, &["lost"]).await;
        server.start_again();
        told(&mut events, &["another"]).await;
        assert_eq!(read(&store, &key).await, is_kept.then_some(body), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_stopped_server_is_an_error_in_time_and_no_loss() {
    if !can_start("redis::faults::a_stopped_server_is_an_error_in_time_and_no_loss") {
        return;
    }
    let server = Server::start(&[]);
    let key = key("t", "example.com");
    for listens in [true, false] {
        let store = watchful(&server.url());
        let mut events: Events<'_> = Box::pin(store.events());
        if listens {
            told(&mut events, &["back"]).await;
        }
        let body = write(&store, &key, if listens { 1 } else { 2 }).await.unwrap();
        let stopped = server.pause();
        let begin = Instant::now();
        let error = store.load(&key).await.unwrap_err();
        assert!(
            matches!(error, RedisError::Timeout { .. } | RedisError::Unreachable { .. }),
            "{error}"
        );
        // The bound is 0.4 s. The machine may be busy.
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
        if listens {
            told(&mut events, &["lost"]).await;
        }
        drop(stopped);
        assert_eq!(read_in_the_end(&store, &key).await, Some(body));
        if listens {
            told(&mut events, &["back"]).await;
        }
    }
}

#[tokio::test]
async fn a_slow_wire_is_waited_for_and_a_dropped_request_harms_no_other() {
    if !can_start("redis::faults::a_slow_wire_is_waited_for") {
        return;
    }
    let server = Server::start(&[]);
    let wire = Proxy::to(&server.socket());
    let store = store(&wire.url());
    let (one, other) = (key("t", "one.com"), key("t", "other.com"));
    write(&store, &one, 1).await.unwrap();
    write(&store, &other, 2).await.unwrap();
    wire.set(Wire::Late(Duration::from_millis(30)));
    for _ in 0..5 {
        let mut dropped = Box::pin(store.load(&other));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(dropped.as_mut().poll(&mut cx).is_pending());
        drop(dropped);
        assert_eq!(read(&store, &one).await.as_deref(), Some("body-1"));
    }
    assert_eq!(wire.connections(), 1);
}

#[tokio::test]
async fn a_wire_that_is_silent_or_cut_is_an_error_until_it_is_whole() {
    if !can_start("redis::faults::a_wire_that_is_silent_or_cut_is_an_error_until_it_is_whole") {
        return;
    }
    let server = Server::start(&[]);
    let key = key("t", "example.com");
    for broken in [Wire::Silent, Wire::Cut] {
        let wire = Proxy::to(&server.socket());
        let body = write(&store(&server.url()), &key, 1).await.unwrap();
        let store = watchful(&wire.url());
        assert_eq!(read_in_the_end(&store, &key).await.as_ref(), Some(&body));
        wire.set(broken.clone());
        for _ in 0..2 {
            let error = store.load(&key).await.unwrap_err();
            assert!(
                matches!(error, RedisError::Timeout { .. } | RedisError::Unreachable { .. }),
                "{broken:?}: {error}"
            );
        }
        wire.set(Wire::Whole);
        assert_eq!(read_in_the_end(&store, &key).await, Some(body));
    }
}

#[tokio::test]
async fn garbage_on_the_wire_is_an_error_and_never_an_empty_jar() {
    if !can_start("redis::faults::garbage_on_the_wire_is_an_error_and_never_an_empty_jar") {
        return;
    }
    let server = Server::start(&[]);
    let answers = [
        "",
        "\0\u{1}\u{2}\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "+OK\r\n",
        ":1\r\n",
        "_\r\n",
        "*0\r\n",
        "$-1\r\n",
        "$5\r\nmarke\r\n",
        "%1\r\n$1\r\nx\r\n$1\r\ny\r\n",
        "-ERR secret\r\n",
        "-secret\r\n",
        "%1\r\n$6\r\ncfield\r\n$6\r\nmarker\r\n",
        "%9999999999\r\n",
    ];
    for answer in answers {
        let wire = Proxy::to(&server.socket());
        let key = key("t", "example.com");
        let record = [set("a", 1, "marker")];
        // By a store that has time: a busy machine may be slower than the one that is tested.
        let patient = store(&server.url());
        patient.apply(&key, &Version::default(), &record, LONG).await.unwrap();
        let store = watchful(&wire.url());
        assert_eq!(read_in_the_end(&store, &key).await.as_deref(), Some("marker"), "{answer:?}");
        wire.set(Wire::Says(b"marker", answer.as_bytes().to_vec()));
        let load = store.load(&key).await.map(drop);
        let change = store.apply(&key, &Version::default(), &record, LONG).await.map(drop);
        for error in [load, change].map(Result::unwrap_err) {
            let told = format!("{error} {error:?}");
            assert!(!told.contains("secret") && !told.contains("marker"), "{answer:?}: {told}");
        }
        wire.set(Wire::Whole);
        assert_eq!(read_in_the_end(&store, &key).await.as_deref(), Some("marker"), "{answer:?}");
    }
}

#[tokio::test]
async fn garbage_on_the_server_is_an_error_until_the_session_is_forgotten() {
    if !can_start("redis::faults::garbage_on_the_server_is_an_error_until_it_is_forgotten") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let commands = [
        "HSET HASH ca x",
        "HSET HASH ca 00000000000000000001?",
        "HSET HASH ca -0000000000000000001+",
        "HSET HASH ca 99999999999999999999+x",
        "HSET HASH x 00000000000000000001+",
        "HDEL HASH v",
    ];
    let mut faults = Vec::new();
    for command in commands {
        let key = key("t", "example.com");
        write(&store, &key, 1).await.unwrap();
        server.ask(&command.replace("HASH", "to1:{t}:example.com"));
        let error = store.load(&key).await.err();
        if !matches!(error, Some(RedisError::Garbage { .. })) {
            faults.push(Err(format!("{command}: {error:?}")));
        }
        store.forget(key.tenant()).await.unwrap();
        faults.push(match read(&store, &key).await {
            None => Ok(()),
            Some(body) => Err(format!("{command}: {body}")),
        });
    }
    rows::hold(faults, |fault| fault);

    // A change does not overwrite what it cannot read, and does not write only a part.
    let key = key("t", "example.com");
    server.ask("HSET to1:{t}:example.com v 1:0 ca x");
    let both = [set("b", 5, "5"), set("a", 5, "5")];
    let error = store.apply(&key, &Version::default(), &both, LONG).await.unwrap_err();
    assert!(matches!(error, RedisError::Garbage { .. }), "{error}");
    assert_eq!(server.ask("HLEN to1:{t}:example.com"), ":2");

    server.ask("DEL to1:{t}:example.com");
    server.ask("SET to1:{t}:example.com x");
    let error = store.load(&key).await.unwrap_err();
    assert!(matches!(&error, RedisError::Refused { code, .. } if code == "WRONGTYPE"), "{error}");
}

#[tokio::test]
async fn a_server_without_memory_refuses_a_change_whole() {
    if !can_start("redis::faults::a_server_without_memory_refuses_a_change_whole") {
        return;
    }
    let server = Server::start(&[]);
    let store = store(&server.url());
    let key = key("t", "example.com");
    let body = write(&store, &key, 1).await.unwrap();
    server.ask("CONFIG SET maxmemory 1");
    let both = [set("a", 2, "2"), set("b", 2, "2")];
    let error = store.apply(&key, &Version::default(), &both, LONG).await.unwrap_err();
    assert!(matches!(&error, RedisError::Refused { code, .. } if code == "OOM"), "{error}");
    server.ask("CONFIG SET maxmemory 0");
    assert_eq!(read(&store, &key).await, Some(body));
    assert_eq!(server.ask("HLEN to1:{t}:example.com"), ":2");
    write(&store, &key, 2).await.unwrap();
}
