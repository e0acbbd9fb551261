//! The stories that each client runs, and what is counted.

use std::{
    fs, process,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    clients::{CHUNK, Client, Target},
    runtime,
    server::{JSON, Server},
};

/// A client, for all stories.
pub(crate) trait Subject {
    /// Sends the same request several times from each of several tasks. Returns the time and the
    /// allocations.
    fn plain(&self, tasks: u32, requests: u32) -> (Duration, u64);
    fn retried(&self, server: &Server, body: &str) -> Option<Retried>;
    /// A body of this many chunks.
    fn upload(&self, chunks: usize) -> Result<Upload, String>;
    /// This many answers with 50 cookies each.
    fn flood(&self, answers: u32) -> Flood;
    /// This many requests whose answer never comes.
    fn in_flight(&self, server: &Server, requests: usize) -> Result<InFlight, String>;
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Retried {
    pub connections_per_100: u64,
    #[serde(skip)]
    pub(crate) time: Duration,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) peak_mib: f64,
    #[serde(skip)]
    pub(crate) time: Duration,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Flood {
    /// The length of the `Cookie` header that the next request sends, or why it is not answered.
    pub(crate) next_header: Result<u64, String>,
    pub(crate) kept_kib: f64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct InFlight {
    /// Bytes of the client's own future.
    pub(crate) future: usize,
    /// Bytes per request: its task, its connection and what the client keeps for it.
    pub(crate) heap: f64,
}

/// 100 MiB.
pub(crate) const CHUNKS: usize = 100 * 1024 * 1024 / CHUNK;
/// 10,000 cookies.
pub(crate) const FLOODS: u32 = 200;
pub(crate) const IN_FLIGHT: usize = 10_000;

impl<C: Client> Subject for C {
    fn plain(&self, tasks: u32, requests: u32) -> (Duration, u64) {
        let target = Target::new("/items/42");
        let all = |requests: u32| {
            let one = || {
                let (client, target) = (self.clone(), target.clone());
                async move {
                    for _ in 0..requests {
                        let answer = client.get(&target).await.expect("an answer");
                        assert_eq!((answer.status, &*answer.body), (200, JSON));
                    }
                }
            };
            let tasks: Vec<_> = (0..tasks).map(|_| one()).collect();
            async {
                let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
                for task in tasks {
                    task.await.expect("its requests");
                }
            }
        };
        let runtime = runtime();
        // Opens the connections.
        runtime.block_on(all(5));
        let began = Instant::now();
        let counted = allocation_counter::measure(|| runtime.block_on(all(requests)));
        (began.elapsed(), counted.count_total)
    }

    fn retried(&self, server: &Server, body: &str) -> Option<Retried> {
        static STORY: AtomicU32 = AtomicU32::new(0);
        // The server counts by path.
        let story = format!("{}-{}", process::id(), STORY.fetch_add(1, Relaxed));
        let runtime = runtime();
        runtime.block_on(self.get(&Target::new("/"))).ok()?;
        let (before, began) = (server.connections(), Instant::now());
        for nth in 0..100 {
            let target = Target::new(&format!("/flaky/{body}/{story}/{nth}"));
            let answer = runtime.block_on(self.get(&target)).ok()?;
            if answer.status != 200 {
                return None;
            }
        }
        let time = began.elapsed();
        Some(Retried { connections_per_100: server.connections() - before, time })
    }

    fn upload(&self, chunks: usize) -> Result<Upload, String> {
        let (runtime, target) = (runtime(), Target::new("/upload"));
        runtime.block_on(self.get(&Target::new("/"))).map_err(|error| error.to_string())?;
        let began = Instant::now();
        let mut answer = None;
        let counted = allocation_counter::measure(|| {
            answer = Some(runtime.block_on(Client::upload(self, &target, chunks)));
        });
        let answer = answer.expect("it ran").map_err(|error| error.to_string())?;
        assert_eq!(&*answer.body, (chunks * CHUNK).to_string().as_bytes());
        let peak_mib = counted.bytes_max as f64 / f64::from(1 << 20);
        Ok(Upload { peak_mib, time: began.elapsed() })
    }

    fn flood(&self, answers: u32) -> Flood {
        let runtime = runtime();
        let counted = allocation_counter::measure(|| {
            for nth in 0..answers {
                // A client whose header no server takes any more is asked again all the same.
                let _ = runtime.block_on(self.get(&Target::new(&format!("/flood/{nth}"))));
            }
        });
        let kept_kib = counted.bytes_current as f64 / 1024.0;
        let next_header = match runtime.block_on(self.get(&Target::new("/cookies"))) {
            Ok(answer) if answer.status == 200 => {
                Ok(String::from_utf8_lossy(&answer.body).parse().expect("a count"))
            }
            Ok(answer) => Err(format!("status {}", answer.status)),
            Err(error) => Err(error.to_string()),
        };
        Flood { next_header, kept_kib }
    }

    fn in_flight(&self, server: &Server, requests: usize) -> Result<InFlight, String> {
        // Each has a connection, and each connection a descriptor.
        let needed = requests + 100;
        if open_files().is_some_and(|limit| limit < needed) {
            return Err(format!("needs ulimit -n {needed}"));
        }
        let (runtime, target) = (runtime(), Target::new("/held"));
        let held = |count| {
            let wait = tokio::task::spawn_blocking(server.wait_for_held(count));
            async { wait.await.expect("an answer") }
        };
        let future = size_of_val(&self.send(&target));
        // Starts the thread that waits.
        runtime.block_on(async { held(0).await });
        let counted = allocation_counter::measure(|| {
            runtime.block_on(async {
                for _ in 0..requests {
                    tokio::spawn(self.send(&target));
                }
                held(requests).await;
            });
        });
        // Closes the connections.
        drop(runtime);
        server.wait_for_held(0)();
        Ok(InFlight { future, heap: counted.bytes_current as f64 / requests as f64 })
    }
}

/// How many files this process may have open. `None` where the system does not say.
fn open_files() -> Option<usize> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}
