//! Replicas are processes with one store. Four cookies of each tenant are set and deleted at once
//! on different replicas. Each cookie must end with what the upstream said last.
//!
//! `SESSION_TENANTS` sets the number of tenants. Each tenant sends 80 requests.

mod blob;
mod replica;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::Instant};

use self::replica::{Answer, Replica, Setup};
use crate::contract::model::Random;

/// Times that a cookie is set or deleted.
const CHANGES: u64 = 10;
const COOKIES: usize = 4;
const REPLICAS: usize = 3;
/// Tenants that are served at the same time.
const AT_ONCE: usize = 16;

fn tenants(usually: usize) -> usize {
    let tenants = std::env::var("SESSION_TENANTS").ok();
    tenants.map_or(usually, |text| text.parse().expect("a number of tenants"))
}

/// What the callers saw.
#[derive(Debug, Default)]
struct Seen {
    requests: AtomicUsize,
    /// A request to another replica, right after an answer, was not sent what the answer had set.
    stale: AtomicUsize,
    /// A request was sent a cookie of another tenant.
    mixed: AtomicUsize,
    /// There was no answer: the store was down, or the replica was killed.
    refused: AtomicUsize,
    /// At the end a replica had another value than the upstream had said last.
    lost: AtomicUsize,
}

struct Fleet {
    setup: Setup,
    replicas: [Replica; REPLICAS],
    /// Whether a check has the version of the answer before it.
    tokens: bool,
    seen: Seen,
}

impl Fleet {
    async fn start(setup: Setup, skews: [i64; REPLICAS], tokens: bool) -> Arc<Self> {
        let started = join_all(skews.map(|skew| Replica::start(&setup, skew))).await;
        let replicas = started.try_into().unwrap_or_else(|_| panic!("there are {REPLICAS}"));
        Arc::new(Self { setup, replicas, tokens, seen: Seen::default() })
    }

    async fn ask(&self, replica: usize, tenant: usize, set: &str, version: &str) -> Option<Answer> {
        self.seen.requests.fetch_add(1, SeqCst);
        let answer = self.replicas[replica].ask(tenant, set, version).await;
        match &answer {
            None => {
                self.seen.refused.fetch_add(1, SeqCst);
            }
            Some(answer) => {
                let own = format!("t{tenant}.");
                let foreign = |pair: &str| !pair.split_once('=').unwrap().1.starts_with(&own);
                if answer.cookies().any(foreign) {
                    self.seen.mixed.fetch_add(1, SeqCst);
                }
            }
        }
        answer
    }

    /// Asks until there is an answer. What was asked for may have been done before, too.
    async fn ask_again(&self, random: &mut Random, tenant: usize, set: &str) -> (usize, Answer) {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let replica = random.below(REPLICAS);
            if let Some(answer) = self.ask(replica, tenant, set, "").await {
                return (replica, answer);
            }
            assert!(Instant::now() < patience, "no replica answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sets and deletes one cookie, each time on any replica. Returns its last value.
    async fn change(&self, tenant: usize, cookie: usize) -> Option<String> {
        let mut random = Random((tenant * COOKIES + cookie) as u64);
        let mut value = None;
        for change in 0..CHANGES {
            value = (random.below(4) > 0).then(|| format!("t{tenant}.{change}"));
            let set = match &value {
                Some(value) => format!("c{cookie}={value}; Secure; Max-Age=9999"),
                None => format!("c{cookie}=; Secure; Max-Age=0"),
            };
            let (replica, answer) = self.ask_again(&mut random, tenant, &set).await;
            let elsewhere = (replica + 1 + random.below(REPLICAS - 1)) % REPLICAS;
            let version = if self.tokens { answer.version.as_str() } else { "" };
            if let Some(check) = self.ask(elsewhere, tenant, "", version).await
                && check.value(cookie) != value.as_deref()
            {
                self.seen.stale.fetch_add(1, SeqCst);
            }
        }
        value
    }

    /// Compares each replica with what was said last. The news may still be on its way.
    async fn settle(&self, tenant: usize, said: &[Option<String>]) {
        for replica in 0..REPLICAS {
            let patience = Instant::now() + self.setup.patience;
            loop {
                let answer = self.ask(replica, tenant, "", "").await;
                let holds = answer.is_some_and(|answer| {
                    (0..COOKIES).all(|cookie| answer.value(cookie) == said[cookie].as_deref())
                });
                if holds {
                    break;
                }
                if Instant::now() > patience {
                    self.seen.lost.fetch_add(1, SeqCst);
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Runs everything, while `fault` runs too.
    async fn run(self: &Arc<Self>, tenants: usize, fault: impl Future<Output = ()>) -> &Seen {
        let begin = Instant::now();
        let room = Arc::new(Semaphore::new(AT_ONCE));
        let served = (0..tenants).map(|tenant| {
            let (fleet, room) = (Arc::clone(self), Arc::clone(&room));
            tokio::spawn(async move {
                let _place = room.acquire().await.unwrap();
                join_all((0..COOKIES).map(|cookie| fleet.change(tenant, cookie))).await
            })
        });
        let (said, ()) = tokio::join!(join_all(served), fault);
        let settled = said.into_iter().enumerate().map(|(tenant, said)| {
            let (fleet, room) = (Arc::clone(self), Arc::clone(&room));
            tokio::spawn(async move {
                let _place = room.acquire().await.unwrap();
                fleet.settle(tenant, &said.unwrap()).await;
            })
        });
        for settled in join_all(settled).await {
            settled.unwrap();
        }
        println!("{tenants} tenants in {:?}: {:?}", begin.elapsed(), self.seen);
        &self.seen
    }
}

async fn no_fault() {}

fn got(count: &AtomicUsize) -> usize {
    count.load(SeqCst)
}

#[tokio::test]
async fn replicas_on_one_directory_lose_and_mix_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup::new(format!("files:{}", directory.path().display()));
    let fleet = Fleet::start(setup, [0; REPLICAS], false).await;
    let seen = fleet.run(tenants(8), no_fault()).await;
    // A directory reports no changes, so the pool looks at it for each request.
    assert_eq!((got(&seen.lost), got(&seen.mixed), got(&seen.stale)), (0, 0, 0));
    assert_eq!(got(&seen.refused), 0);
}

#[cfg(feature = "redis")]
mod on_a_server {
    use super::*;
    use crate::server::{Server, can_start};

    #[tokio::test]
    async fn cached_replicas_lose_and_mix_nothing() {
        if !can_start("fleet::cached_replicas_lose_and_mix_nothing") {
            return;
        }
        let server = Server::start(&[]);
        let setup = Setup::new(format!("redis:{}", server.url()));
        let fleet = Fleet::start(setup, [0; REPLICAS], false).await;
        let seen = fleet.run(tenants(20), no_fault()).await;
        assert_eq!((got(&seen.lost), got(&seen.mixed), got(&seen.refused)), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_version_or_a_look_at_each_request_is_never_stale() {
        if !can_start("fleet::a_version_or_a_look_at_each_request_is_never_stale") {
            return;
        }
        for validated in [false, true] {
            let server = Server::start(&[]);
            let mut setup = Setup::new(format!("redis:{}", server.url()));
            setup.validated = validated;
            let fleet = Fleet::start(setup, [0; REPLICAS], !validated).await;
            let seen = fleet.run(tenants(20), no_fault()).await;
            assert_eq!((got(&seen.lost), got(&seen.mixed), got(&seen.refused)), (0, 0, 0));
            assert_eq!(got(&seen.stale), 0, "validated: {validated}");
        }
    }

    #[tokio::test]
    async fn clocks_behind_and_ahead_lose_nothing() {
        if !can_start("fleet::clocks_behind_and_ahead_lose_nothing") {
            return;
        }
        let server = Server::start(&[]);
        let setup = Setup::new(format!("redis:{}", server.url()));
        let fleet = Fleet::start(setup, [-5_000, 0, 3_000], false).await;
        let seen = fleet.run(tenants(20), no_fault()).await;
        assert_eq!((got(&seen.lost), got(&seen.mixed), got(&seen.refused)), (0, 0, 0));
    }

    /// Shows that the tests above can fail, with sessions as in most middleware.
    #[tokio::test]
    async fn one_blob_a_session_loses_updates() {
        if !can_start("fleet::one_blob_a_session_loses_updates") {
            return;
        }
        let server = Server::start(&[]);
        let mut setup = Setup::new(format!("blob:{}", server.url()));
        setup.validated = true;
        // It is lost for good, and need not be waited for.
        setup.patience = Duration::ZERO;
        let fleet = Fleet::start(setup, [0; REPLICAS], false).await;
        let seen = fleet.run(tenants(20), no_fault()).await;
        assert!(got(&seen.lost) > 0, "{seen:?}");
    }

    /// Waits until the callers have had this many answers.
    async fn after(fleet: &Fleet, requests: usize) {
        while got(&fleet.seen.requests) < requests {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn killed_replicas_lose_nothing_that_was_answered() {
        if !can_start("fleet::killed_replicas_lose_nothing_that_was_answered") {
            return;
        }
        let server = Server::start(&[]);
        let setup = Setup::new(format!("redis:{}", server.url()));
        let fleet = Fleet::start(setup, [-5_000, 0, 3_000], false).await;
        let tenants = tenants(20);
        let kills = async {
            for (kill, replica) in [0, 1, 2, 0].into_iter().enumerate() {
                after(&fleet, tenants * 80 * (kill + 1) / 6).await;
                fleet.replicas[replica].kill_and_start_again().await;
            }
        };
        let seen = fleet.run(tenants, kills).await;
        assert_eq!((got(&seen.lost), got(&seen.mixed)), (0, 0));
        assert!(got(&seen.refused) > 0, "no kill was in the way of a request: {seen:?}");
    }

    #[tokio::test]
    async fn a_server_that_is_stopped_or_killed_loses_nothing() {
        if !can_start("fleet::a_server_that_is_stopped_or_killed_loses_nothing") {
            return;
        }
        let with_log = &["--appendonly", "yes", "--appendfsync", "everysec"][..];
        for (name, arguments) in [("stop", &[][..]), ("kill, with a log", with_log), ("kill", &[])]
        {
            let mut server = Server::start(arguments);
            let mut setup = Setup::new(format!("redis:{}", server.url()));
            setup.deadline = Duration::from_millis(250);
            let fleet = Fleet::start(setup, [-5_000, 0, 3_000], false).await;
            let tenants = tenants(20);
            let fault = async {
                after(&fleet, tenants * 20).await;
                if name == "stop" {
                    let stopped = server.pause();
                    // It is the fault itself, and not a wait for something.
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    drop(stopped);
                } else {
                    server.kill();
                    // Until a caller has noticed.
                    let before = got(&fleet.seen.refused);
                    while got(&fleet.seen.refused) == before {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    server.start_again();
                }
            };
            let seen = fleet.run(tenants, fault).await;
            assert_eq!((got(&seen.lost), got(&seen.mixed)), (0, 0), "{name}");
        }
    }
}
