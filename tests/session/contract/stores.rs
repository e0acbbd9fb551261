//! The suite over each store.

use std::{env, fmt::Debug, ops::Range, sync::Arc};

use tower_outbound::session::{FileStore, MemoryStore, SessionStore};

use super::{Replicas, commutes, holds};

/// The number of stories: the one given here, or `SESSION_STORIES`. `SESSION_SEED` repeats one
/// story.
fn stories(usually: u64) -> Range<u64> {
    let number = |name| env::var(name).ok().map(|text| text.parse().expect("a number"));
    match number("SESSION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SESSION_STORIES").unwrap_or(usually),
    }
}

async fn suite<S: SessionStore<Error: Debug>>(replicas: Vec<S>, usually: u64) {
    let replicas = Replicas(replicas);
    holds(&replicas).await;
    commutes(&replicas, stories(usually)).await;
}

#[tokio::test]
async fn memory_holds_to_the_contract() {
    let store = Arc::new(MemoryStore::new());
    suite(vec![store; 3], 10_000).await;
}

#[tokio::test]
async fn a_directory_holds_to_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    // A sync only waits for the disk, and changes nothing that is tested here.
    let open = |_| FileStore::open(directory.path().join("sessions")).unwrap().sync(false);
    suite((0..3).map(open).collect(), 100).await;
}

#[cfg(all(feature = "redis", unix))]
#[tokio::test]
async fn a_server_holds_to_the_contract() {
    use crate::server::{Server, can_start};
    use tower_outbound::session::{RedisConfig, RedisStore};

    if !can_start("contract::stores::a_server_holds_to_the_contract") {
        return;
    }
    let server = Server::start(&[]);
    let connect = |_| RedisStore::new(RedisConfig::new(&server.url()).unwrap()).unwrap();
    suite((0..3).map(connect).collect(), 1_000).await;
}
