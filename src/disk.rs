//! The disk: reading a regular file, following links, the lock, and replacing a file whole. For
//! the files of `cookie` and those of `session`.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, TryLockError},
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// The bytes of a regular file, and when they were written. `None` if there is nothing at that
/// path. One byte more than `max_bytes` means that there are too many.
pub(crate) fn contents(path: &Path, max_bytes: usize) -> io::Result<Option<(Vec<u8>, SystemTime)>> {
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = || {
        // The kind comes first: opening a pipe waits for a writer, and a device may never end.
        regular(&fs::metadata(path)?)?;
        let mut bytes = Vec::new();
        // Not by the length that the system tells: another process may be appending to it.
        let file = File::open(path)?;
        // A system that does not tell: as late as it can be.
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

/// A file that no other process replaces until this is dropped, if all of them lock it.
pub(crate) struct Locked {
    target: PathBuf,
    lock: File,
}

impl Locked {
    /// `None` if another process holds the lock until the given time. Without a time it waits for
    /// as long as it takes. There need be no file yet.
    pub(crate) fn at(path: &Path, until: Option<Instant>) -> io::Result<Option<Self>> {
        let target = resolve(path)?;
        let lock = lock(lock_path(&target), until)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot lock it: {error}")))?;
        Ok(lock.map(|lock| Self { target, lock }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.target
    }

    /// What was [kept](Self::keep_beside) beside the file. Empty if it cannot be read.
    pub(crate) fn kept_beside(&self, max_bytes: usize) -> Vec<u8> {
        beside(&self.lock, max_bytes)
    }

    /// Keeps some bytes, which begin with `name`, in the lock file, for the next one that saves.
    ///
    /// Not a file of its own, which would be one more to see and to remove. Not synced, and no
    /// failure of the save: a reader must do without them, or with half of them.
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

    /// Replaces the file by what `write` writes: whole, or not at all.
    pub(crate) fn replace(
        &self,
        max_bytes: usize,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        replace(&self.target, max_bytes, true, write)
    }
}

/// Replaces a file by what `write` writes: whole, or not at all. The caller holds its lock.
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
    // A file that nobody would read again is no save.
    if file.as_file().metadata()?.len() > u64::try_from(max_bytes).unwrap_or(u64::MAX) {
        let most = format!("it would be larger than {max_bytes} bytes, the most that is read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, most));
    }
    // Before the rename: else a crash can leave the new name with no bytes behind it.
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

/// What the last save [kept](Locked::keep_beside) beside the file. It is read without the
/// lock, so it may be half old and half new. Empty if nothing was kept.
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

/// Whether the file has another name too, under which it may be anybody's: to write to it is to
/// write to that one.
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
            // A link to nothing is more likely a mistake than a jar to be.
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
        // A bare file name has an empty parent, which the system knows nothing of.
        _ => Path::new("."),
    }
}

/// What the names of a file's temporary files begin with. The rest is random letters and digits,
/// and not one fixed name: if somebody removes the lock file, two who save still do not share a
/// file.
fn temporary_prefix(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".save-");
    prefix
}

/// As many as no one types by chance: a word or a date behind the prefix is a person's own copy.
const TEMPORARY_LETTERS: usize = 16;

/// Removes what killed saves have left. They were under the lock that we hold, so that nobody
/// writes to it any more.
fn sweep(directory: &Path, prefix: &OsStr) {
    // No failure of the save: at worst the file stays, as if nobody swept.
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

/// A file beside the target: the target itself is replaced, and a lock on the old file would keep
/// nobody from the new one. It stays, since to remove it is to lock a file without a name.
fn lock_path(target: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    directory(target).join(name)
}

/// A link is not followed, and a pipe not waited for.
#[cfg(unix)]
const NO_LINK: i32 = {
    let flags = rustix::fs::OFlags::NOFOLLOW.union(rustix::fs::OFlags::NONBLOCK);
    flags.bits().cast_signed()
};

/// Locks a file of no other use, and makes it if it is not there. `None` if another process holds
/// the lock until the given time.
///
/// The lock ends when the file is dropped, also by the end of the process.
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
        // As the cookies themselves: who may not read them need not make us wait either.
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
