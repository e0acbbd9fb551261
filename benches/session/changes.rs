//! Changes per second of each store, compared with a blob that is read and written whole.
//!
//! Measured on two busy cores, with Redis 7.0 on a Unix socket:
//!
//! | changes a second | |
//! |---|---|
//! | `FileStore`, synced, one process and four | 191, 1,785 |
//! | `FileStore`, not synced, one process and four | 2,267, 2,917 |
//! | `RedisStore`, one after another and 32 at once | 32,154, 63,996 |
//! | a blob on the same server, 32 at once, 90 % lost | 50,728 |

use std::{
    env,
    path::Path,
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tower_outbound::session::{FileStore, Record, SessionKey, SessionStore, StoreKey, Version};

const LONG: Duration = Duration::from_secs(3_600);
const SESSIONS: u64 = 10;
#[cfg(all(feature = "redis", unix))]
const AT_ONCE: u64 = 32;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_micros() as u64
}

/// The record of a login cookie, sealed.
fn record(stamp: u64) -> Record {
    Record { field: b"example.com\0/\0sid"[..].into(), stamp, body: Some(vec![7; 120].into()) }
}

fn key(tenant: u64) -> StoreKey {
    StoreKey::new(SessionKey::new(format!("tenant {tenant}").into_bytes()), "example.com")
}

/// One change after another, of a few sessions.
async fn one_by_one<S: SessionStore>(store: &S, changes: u64) -> f64 {
    let begin = Instant::now();
    for change in 0..changes {
        let (key, records) = (key(change % SESSIONS), [record(now())]);
        let applied = store.apply(&key, &Version::default(), &records, LONG).await;
        applied.map_err(Into::into).expect("it is stored");
    }
    changes as f64 / begin.elapsed().as_secs_f64()
}

/// The number of changes at a time in a busy process.
#[cfg(all(feature = "redis", unix))]
async fn at_once<S: SessionStore>(store: &S, changes: u64) -> f64 {
    use futures_util::future::join_all;

    let begin = Instant::now();
    join_all((0..AT_ONCE).map(|_| one_by_one(store, changes / AT_ONCE + 1))).await;
    changes as f64 / begin.elapsed().as_secs_f64()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

fn row(name: &str, changes: f64) {
    println!("| {name} | {changes:.0} |");
}

/// The other process of [`report`].
pub(crate) fn run(directory: &str, sync: &str, changes: u64) {
    let store = FileStore::open(directory).expect("it opens").sync(sync == "sync");
    runtime().block_on(one_by_one(&store, changes));
}

/// Prints the table.
pub(crate) fn report(changes: u64) {
    println!("| changes a second | |\n|---|---|");
    let directory = tempfile::tempdir().expect("a directory is made");
    for (name, sync) in [("synced", true), ("not synced", false)] {
        let store = FileStore::open(directory.path().join(name)).expect("it opens").sync(sync);
        row(
            &format!("FileStore, {name}, one process"),
            runtime().block_on(one_by_one(&store, changes)),
        );
        row(
            &format!("FileStore, {name}, four processes"),
            of_four(&directory.path().join(name), sync, changes),
        );
    }
    on_a_server(changes * 4);
}

fn of_four(directory: &Path, sync: bool, changes: u64) -> f64 {
    let begin = Instant::now();
    let start = |_| {
        Command::new(env::current_exe().expect("it has a path"))
            .args(["changes", directory.to_str().expect("it is UTF-8")])
            .args([if sync { "sync" } else { "no sync" }, &changes.to_string()])
            .spawn()
            .expect("it starts")
    };
    for mut child in [0; 4].map(start) {
        assert!(child.wait().expect("it ends").success());
    }
    4.0 * changes as f64 / begin.elapsed().as_secs_f64()
}

#[cfg(not(all(feature = "redis", unix)))]
fn on_a_server(_: u64) {}

#[cfg(all(feature = "redis", unix))]
fn on_a_server(changes: u64) {
    use tower_outbound::session::{RedisConfig, RedisStore};

    let Some(server) = Server::start() else {
        println!("RedisStore: neither redis-server nor valkey-server is in PATH");
        return;
    };
    runtime().block_on(async {
        let config = RedisConfig::new(&server.url()).expect("it is a URL");
        let store = loop {
            if let Ok(store) = RedisStore::connect(config.clone()).await {
                break store;
            }
        };
        row("RedisStore, one after another", one_by_one(&store, changes).await);
        row("RedisStore, 32 at once", at_once(&store, changes).await);
        for session in 0..SESSIONS {
            store.forget(key(session).tenant()).await.expect("it is forgotten");
        }
        let (per_second, lost) = blobs(&store, changes).await;
        let name = format!("a blob on the same server, 32 at once, {:.0} % lost", lost * 100.0);
        row(&name, per_second);
    });
}

/// Sessions as in most middleware: read at the beginning of a request, changed, and written whole.
/// So a change needs two round trips, and if two are made at once, one is lost. Returns the changes
/// per second, and the part of them that was lost.
#[cfg(all(feature = "redis", unix))]
async fn blobs<S: SessionStore>(store: &S, changes: u64) -> (f64, f64) {
    use std::cell::Cell;

    use futures_util::future::join_all;

    let lost = Cell::new(0_u64);
    let begin = Instant::now();
    // Each task has its own place in the blob, so that changes are only lost if two collide.
    let worker = async |place: usize| {
        let mut last = [0; SESSIONS as usize];
        for change in 0..changes / AT_ONCE + 1 {
            let session = change % SESSIONS;
            let key = key(session);
            let read = store.load(&key).await.map_err(Into::into).expect("it is read");
            let blob = read.records.into_iter().find_map(|record| record.body);
            let mut blob = blob.unwrap_or_else(|| vec![0; AT_ONCE as usize * 8].into());
            let mine = &mut blob[place * 8..][..8];
            if *mine != u64::to_le_bytes(last[session as usize]) {
                lost.set(lost.get() + 1);
            }
            last[session as usize] = change + 1;
            mine.copy_from_slice(&(change + 1).to_le_bytes());
            let whole = Record { field: b"blob"[..].into(), stamp: now(), body: Some(blob) };
            let written = store.apply(&key, &read.version, &[whole], LONG).await;
            written.map_err(Into::into).expect("it is stored");
        }
    };
    join_all((0..AT_ONCE as usize).map(worker)).await;
    let per_second = changes as f64 / begin.elapsed().as_secs_f64();
    (per_second, lost.get() as f64 / changes as f64)
}

/// Killed when it is dropped.
#[cfg(all(feature = "redis", unix))]
struct Server {
    child: std::process::Child,
    directory: tempfile::TempDir,
}

#[cfg(all(feature = "redis", unix))]
impl Server {
    fn start() -> Option<Self> {
        let path = env::var_os("PATH")?;
        let programs = |path: std::path::PathBuf| {
            ["redis-server", "valkey-server"].map(|name| path.join(name))
        };
        let program = env::split_paths(&path).flat_map(programs).find(|path| path.is_file())?;
        let directory = tempfile::tempdir().ok()?;
        let child = Command::new(program)
            .args(["--port", "0", "--save", ""])
            .arg("--dir")
            .arg(directory.path())
            .arg("--unixsocket")
            .arg(directory.path().join("socket"))
            .stdout(std::process::Stdio::null())
            .spawn()
            .ok()?;
        Some(Self { child, directory })
    }

    fn url(&self) -> String {
        format!("unix://{}", self.directory.path().join("socket").display())
    }
}

#[cfg(all(feature = "redis", unix))]
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
