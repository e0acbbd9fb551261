//! More than one server: Sentinels that choose a primary, and a cluster.

use super::*;

fn arguments(text: &str) -> Vec<String> {
    text.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Repeats a command until the server gives this answer.
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_sentinels_choose_anew_is_found() {
    if !can_start("redis::many::a_primary_that_sentinels_choose_anew_is_found") {
        return;
    }
    let mut primary = Server::start_on_tcp(|_, _| Vec::new());
    let port = primary.port();
    let replica = Server::start_on_tcp(|_, _| arguments(&format!("--replicaof 127.0.0.1 {port}")));
    wait_for("the replica follows", || {
        replica.info("replication", "master_link_status").as_deref() == Some("up")
    });
    let sentinel = Server::start_on_tcp(|_, _| arguments("--sentinel"));
    sentinel.ask(&format!("SENTINEL MONITOR main 127.0.0.1 {port} 1"));
    sentinel.ask("SENTINEL SET main down-after-milliseconds 300");
    sentinel.ask("SENTINEL SET main failover-timeout 2000");
    wait_for("the Sentinel knows the replica", || {
        sentinel.ask("SENTINEL REPLICAS main").contains(&replica.port().to_string())
    });

    // The first of them does not answer.
    let url = format!("redis://127.0.0.1:{}", sentinel.port());
    let config = |name| RedisConfig::sentinel(name, ["redis://127.0.0.1:1", &url]).unwrap();
    let unknown = RedisStore::connect(config("another")).await.unwrap_err();
    assert!(unknown.to_string().contains("knows no primary of that name"), "{unknown}");
    // A Sentinel is no server of sessions.
    let sentinel_itself = RedisStore::connect(RedisConfig::new(&url).unwrap()).await.unwrap_err();
    assert!(matches!(sentinel_itself, RedisError::NotPrimary { .. }), "{sentinel_itself}");

    let store = RedisStore::connect(config("main").timeout(Duration::from_secs(60))).await.unwrap();
    let key = key("t", "example.com");
    let mut events: Events<'_> = Box::pin(store.events());
    told(&mut events, &["back"]).await;
    let body = write(&store, &key, 1).await.unwrap();
    primary.ask("WAIT 1 10000");
    primary.kill();
    // It waits for the new primary, so that no caller sees the failure of the old one.
    assert_eq!(read(&store, &key).await, Some(body));
    let body = write(&store, &key, 2).await.unwrap();
    assert_eq!(read(&store, &key).await, Some(body));
    told(&mut events, &["lost", "another"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_keeps_each_session_on_a_node_of_its_own() {
    if !can_start("redis::many::a_cluster_keeps_each_session_on_a_node_of_its_own") {
        return;
    }
    let node = || {
        Server::start_on_tcp(|_, port| {
            let bus = if port < 55_536 { port + 10_000 } else { port - 10_000 };
            arguments(&format!("--cluster-enabled yes --cluster-port {bus}"))
        })
    };
    let one = node();
    one.ask("CLUSTER ADDSLOTSRANGE 0 16383");
    wait_for("one node is a cluster", || one.ask("CLUSTER INFO").contains("cluster_state:ok"));
    let store = store(&format!("redis://127.0.0.1:{}", one.port()));
    let mut events: Events<'_> = Box::pin(store.events());
    told(&mut events, &["back"]).await;
    // The empty name needs one slot for both of its keys, too.
    let tenants =
        ["", "a", "a}:b", "c", "d", "e", "f", "g"].map(|tenant| key(tenant, "example.com"));
    for key in &tenants {
        let body = write(&store, key, 1).await.unwrap();
        assert_eq!(read(&store, key).await, Some(body));
    }

    // Half of the slots move to another node.
    let other = node();
    other.ask(&format!("CLUSTER MEET 127.0.0.1 {}", one.port()));
    wait_for("they know each other", || {
        [&one, &other].iter().all(|node| {
            let info = node.ask("CLUSTER INFO");
            info.contains("known_nodes:2") && info.contains("cluster_state:ok")
        })
    });
    let ids = [&one, &other].map(|node| node.ask("CLUSTER MYID"));
    for slot in 0..8_192 {
        let names = one.ask(&format!("CLUSTER GETKEYSINSLOT {slot} 10"));
        if names.is_empty() {
            continue;
        }
        // While it moves, the old node asks to look at the new one for what it has given away.
        other.ask(&format!("CLUSTER SETSLOT {slot} IMPORTING {}", ids[0]));
        one.ask(&format!("CLUSTER SETSLOT {slot} MIGRATING {}", ids[1]));
        for name in names.lines() {
            let moved = one.ask(&format!("MIGRATE 127.0.0.1 {} {name} 0 5000", other.port()));
            assert_eq!(moved, "+OK", "{name}");
        }
        for key in &tenants {
            assert!(read(&store, key).await.is_some(), "slot {slot} of {key:?} is moving");
        }
        for node in [&other, &one] {
            assert_eq!(node.ask(&format!("CLUSTER SETSLOT {slot} NODE {}", ids[1])), "+OK");
        }
    }
    wait_for("the other has keys", || other.ask("DBSIZE") != ":0");
    for key in &tenants {
        let body = write(&store, key, 2).await.unwrap();
        assert_eq!(read(&store, key).await, Some(body));
    }
    // Both nodes report changes.
    let replica = self::store(&format!("redis://127.0.0.1:{}", other.port()));
    for key in &tenants {
        store.load(key).await.unwrap();
        write(&replica, key, 3).await.unwrap();
        loop {
            // A key that was moved away was told, too.
            match next(&mut events).await {
                Event::Changed(changed) if changed == *key => break,
                Event::Changed(_) => {}
                event => panic!("{event:?}"),
            }
        }
    }
}
