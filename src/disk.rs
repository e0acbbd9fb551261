//! Files on disk for `cookie` and `session`: reads a regular file, follows links, takes the lock,
//! and replaces a whole file.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The bytes of a regular file, and when it was written. `None` if nothing is at that path. One
/// byte more than `max_bytes` means that the file is too large.
pub(crate) fn contents(path: &Path, max_bytes: usize) -> io::Result<Option<(Vec<u8>, SystemTime)>> {
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = || {
        // The kind is checked first: opening a pipe waits for a writer, and reading a device may
        // never end.
        regular(&fs::metadata(path)?)?;
        let mut bytes = Vec::new();
        // Not by the length that the system reports: another process may be appending.
        let file = File::open(path)?;
        // A system that does not tell: as late as possible.
        let written = file.metadata()?.modified().unwrap_or_else(|_| SystemTime::now());
        file.take(most).read_to_end(&mut bytes)?;
        Ok((bytes, written))
    };
    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match read() {
        Err(error) if missing(&error) => {}
        outcome => return outcome.map(Some),
    }
    let is_link = match fs::symlink_metadata(path) {
        Ok(entry) => entry.is_symlink(),
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    // It is there now: another process may have made it between the two questions.
    match read() {
        Err(error) if missing(&error) && is_link => Err(points_nowhere()),
        Err(error) if missing(&error) => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn regular(entry: &fs::Metadata) -> io::Result<()> {
    if entry.is_file() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
    }
}

fn points_nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "a symbolic link that points nowhere")
}

/// A locked file. No other process that takes the lock replaces it until this is dropped.
pub(crate) struct Locked {
    target: PathBuf,
    lock: File,
}

impl Locked {
    /// Takes the lock. `None` if another process holds it until the given time. Without a time it
    /// waits without a limit. The file need not exist yet.
    pub(crate) fn at(path: &Path, until: Option<Instant>) -> io::Result<Option<Self>> {
        let target = resolve(path)?;
        let lock = lock(lock_path(&target), until)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot lock it: {error}")))?;
        Ok(lock.map(|lock| Self { target, lock }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    /// The bytes that were [kept](Self::keep_beside) next to the file. Empty if they cannot be
    /// read.
    pub(crate) fn kept_beside(&self, max_bytes: usize) -> Vec<u8> {
        beside(&self.lock, max_bytes)
    }

    /// Keeps some bytes in the lock file for the next save. They begin with `name`.
    ///
    /// Not in a file of their own, which people would see and remove. They are not synced, and a
    /// failure does not fail the save: a reader must do without them, or with half of them.
    pub(crate) fn keep_beside(&self, bytes: &[u8], name: &[u8]) {
        let mut lock = &self.lock;
        // What another program keeps there is not ours to overwrite.
        let found = self.kept_beside(name.len());
        if !name.starts_with(&found) || is_linked(lock) {
            return;
        }
        let kept =
            lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(bytes));
        if kept.is_err() {
            // Half of them would be ignored, but take room on a disk that is full.
            let _ = lock.set_len(0);
        }
    }

    /// Replaces the whole file by what `write` writes, or leaves it as it is.
    pub(crate) fn replace(
        &self,
        max_bytes: usize,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        replace(&self.target, max_bytes, true, write)
    }
}

/// Replaces the whole file by what `write` writes, or leaves it as it is. The caller holds its
/// lock.
///
/// Without `sync` that holds if the process is killed, but not if the machine stops.
pub(crate) fn replace(
    target: &Path,
    max_bytes: usize,
    sync: bool,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    // In the same directory: a rename to another file system is a copy, which can be cut short.
    let directory = directory(target);
    let prefix = temporary_prefix(target);
    sweep(directory, &prefix);
    let mut file = tempfile::Builder::new()
        .prefix(&prefix)
        .rand_bytes(TEMPORARY_LETTERS)
        .tempfile_in(directory)?;
    write(file.as_file_mut())?;
    file.as_file_mut().flush()?;
    // A file that nobody could read again is not a save.
    if file.as_file().metadata()?.len() > u64::try_from(max_bytes).unwrap_or(u64::MAX) {
        let most = format!("it would be larger than {max_bytes} bytes, the most that is read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, most));
    }
    // Before the rename: otherwise a crash can leave the new name without bytes.
    if sync {
        file.as_file().sync_all()?;
    }
    file.persist(target).map_err(|error| error.error)?;
    // After it: the rename itself must survive a crash. Only Unix lets a directory be synced.
    #[cfg(unix)]
    if sync {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// The bytes that the last save [kept](Locked::keep_beside) next to the file. They are read without
/// the lock, so they may be half old and half new. Empty if nothing was kept.
pub(crate) fn kept_beside(path: &Path, max_bytes: usize) -> Vec<u8> {
    let open = || {
        let path = lock_path(&resolve(path)?);
        regular(&fs::symlink_metadata(&path)?)?;
        let mut options = File::options();
        options.read(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NO_LINK);
        let file = options.open(path)?;
        regular(&file.metadata()?).map(|()| file)
    };
    open().map(|lock| beside(&lock, max_bytes)).unwrap_or_default()
}

/// Whether the file has another name, under which it may belong to anyone: writing to it would
/// write there too.
fn is_linked(file: &File) -> bool {
    #[cfg(unix)]
    let names = file.metadata().map_or(0, |entry| std::os::unix::fs::MetadataExt::nlink(&entry));
    #[cfg(not(unix))]
    let names = {
        let _ = file;
        1
    };
    names > 1
}

fn beside(mut lock: &File, max_bytes: usize) -> Vec<u8> {
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = lock.rewind().and_then(|()| lock.take(most).read_to_end(&mut bytes));
    if read.is_ok() { bytes } else { Vec::new() }
}

/// The file to replace: if the path is a symbolic link, what it points to.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(target) => regular(&fs::metadata(&target)?).map(|()| target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A link to nothing is more likely a mistake than a new file.
            if fs::symlink_metadata(path).is_ok() {
                return Err(points_nowhere());
            }
            let name = path
                .file_name()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
            // Canonical as well, so that every way to spell the path comes to the same lock.
            Ok(fs::canonicalize(directory(path))?.join(name))
        }
        Err(error) => Err(error),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        // A bare file name has an empty parent, which the system does not accept.
        _ => Path::new("."),
    }
}

/// The start of the names of a file's temporary files. The rest is random: two saves share no file,
/// even if someone removes the lock file.
fn temporary_prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".save-");
    prefix
}

/// Enough that nobody types them by chance: a word or a date after the prefix is a person's own
/// copy.
const TEMPORARY_LETTERS: usize = 16;

/// Removes what killed saves have left. They held the lock that we hold, so nobody writes to it.
fn sweep(directory: &Path, prefix: &OsStr) {
    // Not a failure of the save: at worst a file stays.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let letters = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
        // The whole name: another file's may begin with ours.
        let is_ours = letters.is_some_and(|letters| {
            letters.len() == TEMPORARY_LETTERS && letters.iter().all(u8::is_ascii_alphanumeric)
        });
        if is_ours && entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// How long to sleep between two attempts to lock. A save takes a few milliseconds, most of them to
/// sync, so a longer sleep would leave the lock unused.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// A separate lock file: the target itself is replaced, and a lock on the old file would not lock
/// the new one. It is not removed, since others may hold a lock on it.
fn lock_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    directory(target).join(name)
}

/// Do not follow a link, and do not wait for a pipe.
#[cfg(unix)]
const NO_LINK: i32 = {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
    flags.bits().cast_signed()
};

/// Locks a file that has no other use, and creates it if necessary. `None` if another process holds
/// the lock until the given time.
///
/// The lock ends when the file is dropped, or with the process.
pub(crate) fn lock(path: PathBuf, until: Option<Instant>) -> io::Result<Option<File>> {
    // A link would have us make, or wait for, a file of somebody else's choice.
    match fs::symlink_metadata(&path) {
        Ok(entry) => regular(&entry)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        // As for the cookies themselves: whoever may not read them should not be able to block us.
        options.mode(0o600).custom_flags(NO_LINK);
    }
    let file = options.open(path)?;
    // It may have been put there since.
    regular(&file.metadata()?)?;
    // Not the system's own wait, which has no bound: the holder may be a process that is stopped.
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        let left =
            until.map_or(LOCK_PAUSE, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(left.min(LOCK_PAUSE));
    }
}
