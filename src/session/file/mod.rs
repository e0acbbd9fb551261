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

/// Sessions in a directory, shared by the processes of one machine. It needs no server.
///
/// A session is a directory, and a site in it is a file (modes 0700 and 0600). A change takes the
/// session's lock, replaces the whole file, and syncs it. So a change is atomic across processes: a
/// process that is killed leaves the old file or the new one. Its temporary file, `.NAME.save-` and
/// 16 letters, is removed by the next change of that session. Sessions share 256 lock files,
/// `.lock-XX`, which stay.
///
/// It reports no [events](SessionStore::events), so a pool reads the version at each request: 49
/// bytes. All work is done on tokio's threads for blocking calls, so it must be used in a tokio
/// runtime.
///
/// Use a local disk. Locks of network file systems are not reliable.
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
    /// Uses the sessions in this directory. The directory is created if it does not exist, with
    /// mode 0700.
    ///
    /// # Errors
    ///
    /// [`FileStoreError::Disk`] if the directory cannot be created, or the path is not a directory.
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

    /// Longest time to wait for a session's lock, which another process may hold.
    ///
    /// Default: 2 s. A pool's deadline is usually shorter. A request then stops waiting, and the
    /// change is still made.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::FileStore;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path().join("sessions");
    /// let store = FileStore::open(directory)?.lock_timeout(Duration::from_secs(5));
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn lock_timeout(mut self, wait: Duration) -> Self {
        self.lock_timeout = wait;
        self
    }

    /// Largest file, in bytes. A file holds the cookies of one site in one session. A change that
    /// needs a larger file fails, and so does reading one.
    ///
    /// Default: 16 MiB. With default jars, replicas that know nothing of each other store at most
    /// 1,080 cookies and tombstones of a site each. With the longest names and paths these take
    /// less than 12 MB. Most files are a thousand times smaller.
    ///
    /// ```
    /// use tower_outbound::session::FileStore;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path().join("sessions");
    /// let store = FileStore::open(directory)?.max_bytes(1024 * 1024);
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Whether a change waits until the disk has it.
    ///
    /// Default: true. Without it a change is many times faster, and still survives the end of this
    /// process. If the machine stops, the last changes may be lost, and their files may be damaged.
    ///
    /// ```
    /// use tower_outbound::session::FileStore;
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let directory = directory.path().join("sessions");
    /// let store = FileStore::open(directory)?.sync(false);
    /// # let _ = store;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Removes the expired files of all sessions, and returns their number.
    ///
    /// Call it about once a day. Otherwise an expired file only takes space until its session is
    /// changed.
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

    /// Only the contents say whose file it is.
    fn remove_if_expired(&self, path: &Path) -> bool {
        let has_expired =
            |bytes: &[u8]| Head::read(bytes).is_some_and(|head| head.has_expired(now()));
        let Ok(Some((bytes, _))) = disk::contents(path, self.max_bytes) else { return false };
        let Some(tenant) = Stored::tenant(&bytes).filter(|_| has_expired(&bytes)) else {
            return false;
        };
        // Now under the lock, since the file may have changed. It does not wait for the lock: the
        // next call can remove the file.
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

    /// What a file holds. Empty if there is no file, or if it has expired.
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

    /// Empty: no process tells another of its changes.
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
