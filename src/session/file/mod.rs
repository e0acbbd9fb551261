//! `FileStore`: sessions in a directory, for several processes of one machine.

mod contents;
mod error;
mod name;

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant, SystemTime},
};

use futures_core::Stream;

use self::contents::{HEAD, Head, Stored};
pub use self::error::FileStoreError;
use super::{
    Applied, Contents, Event, Record, SessionKey, SessionStore, StoreKey, TOMBSTONES_KEPT, Version,
    nonce::nonce,
};
use crate::disk;

/// Sessions in a directory, for several processes of one machine. No server is needed.
///
/// A session is a directory, and a site in it is a file (modes 0700 and 0600). A change takes the
/// session's lock, replaces the file whole, and syncs it. So it is atomic across processes, and a
/// process that is killed at any moment leaves the old file or the new one. Its temporary file,
/// `.NAME.save-` and 16 letters, is removed by the next change of that session. There are 256
/// lock files, `.lock-XX`, which stay; sessions share them.
///
/// It tells no [events](SessionStore::events), so that a pool asks for the version at each request:
/// a read of 49 bytes. All work is done by tokio's threads for blocking calls, so it must be used
/// in a tokio runtime.
///
/// Use a disk of this machine. Locks of network file systems cannot be relied on.
///
/// ```
/// use tower_outbound::session::FileStore;
///
/// # let directory = tempfile::tempdir()?;
/// # let directory = directory.path().join("sessions");
/// let store = FileStore::open(directory)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct FileStore {
    root: PathBuf,
    lock_timeout: Duration,
    max_bytes: usize,
    sync: bool,
}

impl FileStore {
    /// The sessions in this directory. It is made if it is not there, with mode 0700.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Disk`] if it cannot be made, or is not a directory.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, FileStoreError> {
        let root = directory.into();
        make_directory(&root)
            .map_err(|error| FileStoreError::disk("make the directory of sessions", &error))?;
        Ok(Self {
            root,
            lock_timeout: Duration::from_secs(2),
            max_bytes: 16 * 1024 * 1024,
            sync: true,
        })
    }

    /// Longest time to wait for a session's lock. Another process may hold it and be stopped.
    ///
    /// Default: 2 s. A pool's own deadline is usually shorter, and the change is then still made.
    #[must_use]
    pub const fn lock_timeout(mut self, wait: Duration) -> Self {
        self.lock_timeout = wait;
        self
    }

    /// Largest file, which holds the cookies of one site in one session. A change that needs more
    /// is refused, and so is a file that is larger.
    ///
    /// Default: 16 MiB. Replicas that know nothing of each other store at most 1,080 cookies and
    /// tombstones of a site each, which take less than 12 MB with the longest names and paths,
    /// unless their jars have other limits. A thousand times less is usual.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Whether a change waits until the disk has it.
    ///
    /// Default: true. Without it a change is many times faster and still outlives this process,
    /// but if the machine stops, the last changes may be lost, and their files may be damaged.
    #[must_use]
    pub const fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Removes what has expired of all sessions, and returns how many files that was.
    ///
    /// Otherwise an expired file stays until its session is changed, and does nothing but take
    /// room. Call it once a day or so.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Disk`] if the directory cannot be read. A file that cannot be read or
    /// removed is left.
    pub async fn remove_expired(&self) -> Result<usize, FileStoreError> {
        self.blocking(|store| {
            let mut removed = 0;
            let mut directories = vec![store.root.clone()];
            while let Some(directory) = directories.pop() {
                let entries = fs::read_dir(&directory)
                    .map_err(|error| FileStoreError::disk("list the sessions", &error));
                let entries = match entries {
                    Ok(entries) => entries.flatten(),
                    Err(error) if directory == store.root => return Err(error),
                    // Forgotten meanwhile.
                    Err(_) => continue,
                };
                for entry in entries {
                    let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
                    if is_directory {
                        directories.push(entry.path());
                    } else if entry.file_name().to_str().is_some_and(name::is_site) {
                        removed += usize::from(store.remove_if_expired(&entry.path()));
                    }
                }
            }
            Ok(removed)
        })
        .await
    }

    /// Whose file it is, only its contents tell.
    fn remove_if_expired(&self, path: &Path) -> bool {
        let has_expired =
            |bytes: &[u8]| Head::read(bytes).is_some_and(|head| head.has_expired(now()));
        let Ok(Some((bytes, _))) = disk::contents(path, self.max_bytes) else { return false };
        let Some(tenant) = Stored::tenant(&bytes).filter(|_| has_expired(&bytes)) else {
            return false;
        };
        // Now under the lock, since it may have been changed. It is not waited for: there is a
        // next time.
        let lock = disk::lock(name::lock(&self.root, &tenant), Some(Instant::now()));
        let Ok(Some(_lock)) = lock else { return false };
        let still = disk::contents(path, self.max_bytes);
        let removed = matches!(still, Ok(Some((bytes, _))) if has_expired(&bytes))
            && fs::remove_file(path).is_ok();
        self.remove_empty(path.parent());
        removed
    }

    /// Removes empty directories, up to the root.
    fn remove_empty(&self, directory: Option<&Path>) {
        let mut directory = directory;
        while let Some(path) = directory.filter(|path| *path != self.root) {
            // One that is not empty is not removed.
            if fs::remove_dir(path).is_err() {
                return;
            }
            directory = path.parent();
        }
    }

    /// Does the work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, FileStoreError> + Send + 'static,
    ) -> Result<T, FileStoreError> {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return Err(FileStoreError::Stopped);
        };
        let store = self.clone();
        match runtime.spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(FileStoreError::Stopped),
            },
        }
    }

    /// What a file holds: the default if there is none, or if it has expired.
    fn read(&self, path: &Path, key: &StoreKey, now: u64) -> Result<Stored, FileStoreError> {
        let read = disk::contents(path, self.max_bytes);
        let Some((bytes, _)) = read.map_err(|error| FileStoreError::disk("read", &error))? else {
            return Ok(Stored::default());
        };
        if bytes.len() > self.max_bytes {
            return Err(FileStoreError::TooLarge { max_bytes: self.max_bytes });
        }
        let stored = Stored::read(&bytes, key).ok_or(FileStoreError::Damaged)?;
        Ok(if stored.head.has_expired(now) { Stored::default() } else { stored })
    }

    fn lock(&self, tenant: &SessionKey) -> Result<fs::File, FileStoreError> {
        let until = Instant::now().checked_add(self.lock_timeout);
        disk::lock(name::lock(&self.root, tenant), until)
            .map_err(|error| FileStoreError::disk("lock", &error))?
            .ok_or(FileStoreError::Locked { waited: self.lock_timeout })
    }

    fn load_now(&self, key: &StoreKey) -> Result<Contents, FileStoreError> {
        let (path, now) = (path_of(&self.root, key)?, now());
        // No lock: a file is replaced by a rename, so that it is the old one or the new one.
        Ok(self.read(&path, key, now)?.contents(now))
    }

    fn version_now(&self, key: &StoreKey) -> Result<Version, FileStoreError> {
        let path = path_of(&self.root, key)?;
        let read = disk::contents(&path, HEAD);
        let Some((bytes, _)) = read.map_err(|error| FileStoreError::disk("read", &error))? else {
            return Ok(Version::default());
        };
        Ok(Head::read(&bytes).ok_or(FileStoreError::Damaged)?.version(now()))
    }

    fn apply_now(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, FileStoreError> {
        let path = path_of(&self.root, key)?;
        let _lock = self.lock(key.tenant())?;
        let now = now();
        let mut stored = self.read(&path, key, now)?;
        let clean = stored.head.version(now) == *known;
        let horizon = now.saturating_sub(micros(TOMBSTONES_KEPT));
        stored.apply(records, nonce(), now.saturating_add(micros(ttl)), horizon);
        // A key that was never written stays so if there is nothing to write.
        if stored.is_written() {
            self.write(&path, &stored.write(key))?;
        }
        Ok(if clean {
            Applied::Clean(stored.head.version(now))
        } else {
            Applied::Merged(stored.contents(now))
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), FileStoreError> {
        let max_bytes = self.max_bytes;
        if bytes.len() > max_bytes {
            return Err(FileStoreError::TooLarge { max_bytes });
        }
        let save = || disk::replace(path, max_bytes, self.sync, |file| file.write_all(bytes));
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut outcome = save();
        for _ in 0..MAKINGS {
            if !outcome.as_ref().is_err_and(missing) {
                break;
            }
            let directory = path.parent().unwrap_or(&self.root);
            outcome = make_directory(directory).and_then(|()| save());
        }
        outcome.map_err(|error| FileStoreError::disk("save", &error))
    }

    fn forget_now(&self, tenant: &SessionKey) -> Result<(), FileStoreError> {
        let directory = name::tenant(&self.root, tenant).ok_or(TOO_LONG)?;
        let _lock = self.lock(tenant)?;
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileStoreError::disk("remove", &error))
            }
            _ => {
                self.remove_empty(directory.parent());
                Ok(())
            }
        }
    }
}

/// How often a directory is made. Two long keys may share one, and another process may just have
/// removed it as empty.
const MAKINGS: usize = 8;

const TOO_LONG: FileStoreError = FileStoreError::KeyTooLong { max_bytes: name::LONGEST };

fn path_of(root: &Path, key: &StoreKey) -> Result<PathBuf, FileStoreError> {
    name::site(root, key).ok_or(TOO_LONG)
}

fn make_directory(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, micros)
}

impl SessionStore for FileStore {
    type Error = FileStoreError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, FileStoreError> {
        let key = key.clone();
        self.blocking(move |store| store.load_now(&key)).await
    }

    /// The change is made even if the future is dropped.
    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, FileStoreError> {
        let (key, known, records) = (key.clone(), known.clone(), records.to_vec());
        self.blocking(move |store| store.apply_now(&key, &known, &records, ttl)).await
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, FileStoreError> {
        let key = key.clone();
        self.blocking(move |store| store.version_now(&key)).await
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), FileStoreError> {
        let tenant = tenant.clone();
        self.blocking(move |store| store.forget_now(&tenant)).await
    }

    /// None: no process tells another of its changes.
    fn events(&self) -> impl Stream<Item = Event> + Send {
        NoEvents
    }
}

struct NoEvents;

impl Stream for NoEvents {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Event>> {
        Poll::Ready(None)
    }
}
