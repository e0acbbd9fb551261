//! The same with shared sessions: two replicas, each with its own pool, over a real Redis server.
//!
//! Time is real here. The requests of one tenant follow one another, on either replica. So with
//! `Consistency::Validated` the upstream knows exactly which cookies each must have.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use http::{Method, Request, StatusCode, Uri};
use tower::{Layer, Service};
use tower_outbound::{
    CookieLayer,
    session::{Consistency, RedisConfig, RedisStore, SessionKey, SessionLayer, SessionPool},
};

use super::{
    AT_ONCE, Memory, TENANTS, give_up,
    upstream::{Chunks, End, HOSTS, Tail, Upstream, World, id},
};

const REPLICAS: usize = 2;
/// Fewer than the sites of all tenants, so that sessions are loaded again.
const SESSIONS: usize = 2_000;
/// Long, because the machine may be busy, and slowness is not a fault here.
const DEADLINE: Duration = Duration::from_secs(10);

/// A server on a Unix socket, which is killed when this is dropped.
struct Server(tempfile::TempDir, Child);

impl Server {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket", "socket"])
            .current_dir(&directory)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is in PATH");
        Self(directory, child)
    }

    async fn store(&self) -> RedisStore {
        let url = format!("unix://{}", self.0.path().join("socket").display());
        let config = RedisConfig::new(&url).expect("a URL").timeout(DEADLINE);
        RedisStore::new(config).expect("a configuration")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.1.kill();
        let _ = self.1.wait();
    }
}

pub(crate) async fn soak(world: &World, requests: u64, memory: &Memory) {
    let server = Server::start();
    world.book().is_real_time = true;
    let mut pools = Vec::new();
    for _ in 0..REPLICAS {
        let (pool, driver) = SessionPool::builder(server.store().await)
            .max_sessions(SESSIONS)
            .deadline(DEADLINE)
            .consistency(Consistency::Validated)
            .unsealed()
            .build();
        tokio::spawn(driver);
        pools.push(pool);
    }
    // The server has started when it answers.
    let (nobody, anywhere) =
        (SessionKey::new(&b"nobody"[..]), Uri::from_static("http://a.example"));
    for pool in &pools {
        while pool.jar(&nobody, &anywhere).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    let pools: Arc<[_]> = pools.into();
    let next = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..AT_ONCE)
        .map(|caller| {
            tokio::spawn(call(
                caller,
                Arc::clone(&pools),
                world.clone(),
                Arc::clone(&next),
                requests,
                memory.clone(),
            ))
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    println!("{:#?}", pools[0].stats());
}

/// The requests of some tenants, one after the other.
async fn call(
    caller: usize,
    pools: Arc<[SessionPool<RedisStore>]>,
    world: World,
    next: Arc<AtomicU64>,
    requests: u64,
    memory: Memory,
) {
    let mut clients: Vec<_> = pools
        .iter()
        .map(|pool| {
            let cookies = CookieLayer::per_request().layer(Upstream(world.clone()));
            SessionLayer::new(pool.clone()).layer(cookies)
        })
        .collect();
    loop {
        let number = next.fetch_add(1, Relaxed);
        if number >= requests {
            return;
        }
        memory.look(number, requests);
        let (request, replica, patience) = {
            let book = &mut *world.book();
            let tenant = caller + AT_ONCE * book.random.usize(..TENANTS / AT_ONCE);
            let (host, replica) = (book.random.usize(..HOSTS.len()), book.random.usize(..REPLICAS));
            book.ask(number, tenant, host, true, false);
            let path = ["/", "/account"][book.random.usize(..2)];
            let scheme = if book.random.u8(..8) == 0 { "http" } else { "https" };
            let patience = (book.random.u8(..32) == 0).then(|| book.random.u32(..6));
            let request = Request::builder()
                .method(Method::PUT)
                .uri(format!("{scheme}://{}{path}", HOSTS[host]))
                .header("x-id", number)
                .header("x-chunks", 1)
                .extension(SessionKey::new(tenant.to_string().into_bytes()))
                .body(Chunks::new(number, 1, 0, Tail::Whole));
            (request.expect("a request"), replica, patience)
        };
        let outcome = give_up(clients[replica].call(request), patience).await;
        let asked = world.book().close(number);
        let end = match outcome {
            None => {
                // The cookies of its response, if there was one, are queued. The next request may
                // be on the other replica.
                if let Err(error) = pools[replica].flush().await {
                    world.book().wrong(format!("#{number}: {error}"));
                }
                "given up by its caller"
            }
            Some(Err(error)) => {
                if asked.end != End::Failed {
                    world.book().wrong(format!("#{number}: {error} after {asked:?}"));
                }
                "an error"
            }
            Some(Ok(response)) => {
                let status: StatusCode = response.status();
                if asked.end != End::Answered(status) || id(response.headers()) != Some(number) {
                    world.book().wrong(format!("#{number}: {status} after {asked:?}"));
                }
                "a response"
            }
        };
        world.book().meet(end);
    }
}
