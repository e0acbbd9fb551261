//! `FileStore`: what it writes to the disk, and how it handles what it finds there.

use std::{
    fs,
    path::{Path, PathBuf},
    task::{Context, Poll, Waker},
    time::Duration,
};

#[cfg(feature = "seal")]
use tower_outbound::session::SessionPool;
use tower_outbound::session::{FileStore, FileStoreError, SessionStore, StoreKey, Version};

use crate::{
    contract::{clean, key, set},
    rows,
};

const LONG: Duration = Duration::from_secs(3_600);

fn open(directory: &Path) -> FileStore {
    FileStore::open(directory).unwrap().sync(false)
}

async fn write(store: &FileStore, key: &StoreKey) {
    let records = [set("a", 1, "body")];
    clean(store.apply(key, &Version::default(), &records, LONG).await.unwrap());
}

/// Everything below a directory, except locks.
fn everything(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
            if !entry.file_name().to_str().unwrap().starts_with(".lock-") {
                found.push(entry.path());
            }
        }
    }
    found
}

fn only_file(directory: &Path) -> PathBuf {
    let mut files = everything(directory);
    files.retain(|path| path.is_file());
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_a_session_and_none_leaves_the_directory() {
    use std::os::unix::fs::PermissionsExt;

    let outside = tempfile::tempdir().unwrap();
    let store = open(&outside.path().join("a/sessions"));
    for tenant in ["../../x", "/etc/x", ".", "ann"] {
        write(&store, &key(tenant, "../example.com")).await;
    }
    for path in everything(outside.path()) {
        assert!(path.starts_with(outside.path().join("a")), "{path:?}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{path:?}");
    }
}

#[tokio::test]
async fn a_damaged_file_is_an_error_until_the_session_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let key = key("ann", "example.com");
    write(&store, &key).await;
    let path = only_file(directory.path());
    let whole = fs::read(&path).unwrap();
    let mut damages: Vec<_> = (0..whole.len()).map(|cut| whole[..cut].to_vec()).collect();
    damages.push([&*whole, b"x"].concat());
    damages.push(b"Set-Cookie: x".to_vec());
    let mut verdicts = Vec::new();
    for damage in damages {
        fs::write(&path, &damage).unwrap();
        let load = store.load(&key).await.map(drop);
        let records = [set("a", 2, "2")];
        let change = store.apply(&key, &Version::default(), &records, LONG).await.map(drop);
        for outcome in [load, change] {
            verdicts.push(match outcome {
                Err(FileStoreError::Damaged) => Ok(()),
                other => Err(format!("{} bytes: {other:?}", damage.len())),
            });
        }
        assert_eq!(fs::read(&path).unwrap(), damage, "it is kept as it is");
    }
    rows::hold(verdicts, |verdict| verdict);
    store.forget(key.tenant()).await.unwrap();
    write(&store, &key).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_in_the_way_is_an_error_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (store, key) = (open(directory.path()), key("ann", "example.com"));
    write(&store, &key).await;
    let file = only_file(directory.path());
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let outcomes =
        async { (store.load(&key).await.map(drop), store.version(&key).await.map(drop)) };
    let outcomes = tokio::time::timeout(Duration::from_secs(5), outcomes).await;
    if outcomes.is_err() {
        // Otherwise the waiting thread would keep the test from ending.
        fs::File::options().read(true).write(true).open(&file).unwrap();
    }
    let (load, version) = outcomes.expect("it is not waited for");
    for outcome in [load, version] {
        let error = outcome.unwrap_err();
        assert!(matches!(error, FileStoreError::Disk { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_file_of_another_session_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (ann, bob) = (key("ann", "example.com"), key("bob", "example.com"));
    write(&store, &ann).await;
    let of_ann = only_file(directory.path());
    write(&store, &bob).await;
    let of_bob = PathBuf::from(of_ann.to_str().unwrap().replace("ann", "bob"));
    fs::copy(&of_ann, &of_bob).unwrap();
    let error = store.load(&bob).await.unwrap_err();
    assert!(matches!(error, FileStoreError::Damaged), "{error}");
}

#[tokio::test]
async fn what_is_too_large_or_too_long_is_refused_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).max_bytes(1_000);
    let ann = key("ann", "example.com");
    write(&store, &ann).await;
    let before = store.load(&ann).await.unwrap();
    let large = [set("b", 1, vec![0; 1_000])];
    let error = store.apply(&ann, &Version::default(), &large, LONG).await.unwrap_err();
    assert!(matches!(error, FileStoreError::TooLarge { max_bytes: 1_000, .. }), "{error}");
    assert_eq!(store.load(&ann).await.unwrap(), before);

    let long = key(vec![b'x'; 1_025], "example.com");
    for error in [
        store.load(&long).await.map(drop).unwrap_err(),
        store.version(&long).await.map(drop).unwrap_err(),
        store.apply(&long, &Version::default(), &large, LONG).await.map(drop).unwrap_err(),
        store.forget(long.tenant()).await.unwrap_err(),
    ] {
        assert!(matches!(error, FileStoreError::KeyTooLong { .. }), "{error}");
    }

    let sparse = open(directory.path()).max_bytes(10);
    let error = sparse.load(&ann).await.unwrap_err();
    assert!(matches!(error, FileStoreError::TooLarge { .. }), "{error}");
}

/// The default bound must hold all that a pool ever stores of a site.
#[cfg(feature = "seal")]
#[tokio::test]
async fn a_site_with_the_longest_names_does_not_fill_its_file() {
    use crate::support::{client, get};

    let directory = tempfile::tempdir().unwrap();
    let patience = Duration::from_secs(60);
    let builder = SessionPool::builder(open(directory.path())).deadline(patience);
    let (pool, _driver) = builder.unsealed().build();
    let client = client(&pool);
    get(&client, "ann", &["sid=1; Secure"]).await.unwrap();
    let (name, path) = ("n".repeat(4_000), "p".repeat(1_000));
    for round in 0..14 {
        let line = |nth| {
            let rest = if nth % 2 == 0 { "" } else { "; Max-Age=0" };
            format!("{name}{round}_{nth}=; Path=/{path}{rest}")
        };
        let lines: Vec<_> = (0..100).map(line).collect();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        get(&client, "ann", &lines).await.unwrap();
    }
    get(&client, "ann", &["sid=; Secure; Max-Age=0"]).await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.last_failure.as_deref(), stats.failures), (None, 0));
    assert!(stats.dropped > 0, "it is full: {stats:?}");
    assert_eq!(get(&client, "ann", &[]).await.unwrap(), "");
}

#[tokio::test]
async fn no_error_names_a_session() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).lock_timeout(Duration::ZERO);
    let secret = key("secret", "example.com");
    write(&store, &secret).await;
    let path = only_file(directory.path());
    let session = path.parent().unwrap().to_owned();
    let mut errors = Vec::new();

    // There is a directory where a file is needed, and a file where a directory is needed.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    errors.push(store.load(&secret).await.unwrap_err());
    fs::remove_dir_all(&session).unwrap();
    fs::write(&session, "x").unwrap();
    errors.push(store.load(&secret).await.unwrap_err());
    let records = [set("a", 2, "2")];
    let change = store.apply(&secret, &Version::default(), &records, LONG).await;
    errors.push(change.unwrap_err());
    errors.push(store.forget(secret.tenant()).await.unwrap_err());
    fs::remove_file(&session).unwrap();

    // Someone holds each lock.
    let locks = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let locks: Vec<_> = locks.map(|path| fs::File::open(path).unwrap()).collect();
    locks.iter().for_each(|lock| lock.lock().unwrap());
    let change = store.apply(&secret, &Version::default(), &records, LONG).await;
    let locked = change.unwrap_err();
    assert!(matches!(locked, FileStoreError::Locked { .. }), "{locked}");
    errors.push(locked);
    // A load needs no lock.
    assert!(store.load(&secret).await.unwrap().records.is_empty());

    for error in errors {
        let told = format!("{error} {error:?}");
        assert!(!told.contains("secret"), "{told}");
    }
    let error = FileStore::open(file_in_the_way(directory.path())).unwrap_err();
    assert!(matches!(error, FileStoreError::Disk { .. }), "{error}");
}

fn file_in_the_way(directory: &Path) -> PathBuf {
    let path = directory.join("file");
    fs::write(&path, "").unwrap();
    path.join("sessions")
}

#[tokio::test]
async fn what_has_expired_is_removed_and_leaves_no_empty_directory() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let long_name = "n".repeat(900);
    let tenants = ["ann", "bob", &long_name];
    for tenant in tenants {
        let records = [set("a", 1, "1")];
        for (site, ttl) in [("brief.com", Duration::ZERO), ("lasting.com", LONG)] {
            let key = key(tenant, site);
            store.apply(&key, &Version::default(), &records, ttl).await.unwrap();
        }
    }
    assert_eq!(store.remove_expired().await.unwrap(), 3);
    assert_eq!(store.remove_expired().await.unwrap(), 0);
    for tenant in tenants {
        assert_eq!(store.load(&key(tenant, "lasting.com")).await.unwrap().records.len(), 1);
        store.forget(key(tenant, "").tenant()).await.unwrap();
    }
    assert_eq!(everything(directory.path()), Vec::<PathBuf>::new());
    // All of a session may have expired.
    store
        .apply(&key("ann", "a.com"), &Version::default(), &[set("a", 1, "")], Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(store.remove_expired().await.unwrap(), 1);
    assert_eq!(everything(directory.path()), Vec::<PathBuf>::new());
}

#[test]
fn without_a_runtime_it_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let key = key("ann", "example.com");
    let mut load = Box::pin(store.load(&key));
    let answer = load.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Err(FileStoreError::Stopped))));
}

/// The process of another replica is killed at random moments while it changes a session.
#[cfg(unix)]
mod killed {
    use std::{
        env,
        io::{BufRead, BufReader},
        process::{Child, Command, Stdio},
        time::Instant,
    };

    use super::*;

    const CHILD: &str = "SESSION_FILES_CHILD";
    const FIELDS: [&str; 4] = ["a", "b", "c", "d"];

    /// The other process. It sets all fields to one stamp after another, and prints each stamp.
    #[tokio::test]
    async fn the_child_changes_a_session_until_it_is_killed() {
        let Some(directory) = env::var_os(CHILD) else { return };
        let (store, key) = (open(Path::new(&directory)), key("ann", "example.com"));
        let begun = Instant::now();
        let first =
            store.load(&key).await.unwrap().records.first().map_or(0, |record| record.stamp);
        println!("\nstored {first}");
        // Otherwise it would run for ever if its parent is killed.
        for stamp in first + 1.. {
            if begun.elapsed() > Duration::from_secs(60) {
                return;
            }
            // Its length differs each time, so that a mixture of two states is noticed.
            let body = "x".repeat((stamp * 29 % 983) as usize);
            let records = FIELDS.map(|field| set(field, stamp, &body));
            store.apply(&key, &Version::default(), &records, LONG).await.unwrap();
            println!("stored {stamp}");
        }
    }

    /// Kills it, even if this test fails.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// `SESSION_KILLS` sets the number of kills.
    #[tokio::test]
    async fn a_killed_process_leaves_each_change_whole_and_none_that_it_told_is_lost() {
        let kills = env::var("SESSION_KILLS").map_or(30, |kills| kills.parse().unwrap());
        let directory = tempfile::tempdir().unwrap();
        let (store, key) = (open(directory.path()), key("ann", "example.com"));
        for kill in 0..kills {
            let child = Command::new(env::current_exe().unwrap())
                .args(["--exact", "files::killed::the_child_changes_a_session_until_it_is_killed"])
                .arg("--nocapture")
                .env(CHILD, directory.path())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut child = Killed(child);
            let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
            let mut stored = lines
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("stored ")?.parse::<u64>().ok());
            let mut told = stored.next().expect("it reads what is there");
            // This does not wait for an event: it chooses the moment of the kill.
            std::thread::sleep(Duration::from_micros(kill * 7_919 % 20_000));
            child.0.kill().unwrap();
            told = stored.last().unwrap_or(told);
            drop(child);

            let records = store.load(&key).await.unwrap().records;
            let stamps: Vec<_> = records.iter().map(|record| record.stamp).collect();
            assert!(stamps.windows(2).all(|pair| pair[0] == pair[1]), "{stamps:?}");
            assert!(stamps.first().is_none_or(|stamp| *stamp >= told), "{stamps:?} {told}");
        }
        // The next change removes the temporary file of a killed process.
        let stamp = u64::MAX;
        store.apply(&key, &Version::default(), &[set("a", stamp, "")], LONG).await.unwrap();
        only_file(directory.path());
    }
}
