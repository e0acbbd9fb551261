//! The disk: reading a regular file, following links, the lock, and replacing a file whole.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// The bytes of a regular file, which unlike others has an end; `None` where there is nothing. One
/// byte more than `max_bytes` tells that there are too many.
pub(super) fn contents(path: &Path, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    let most = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let read = || {
        regular(&fs::metadata(path)?)?;
        let mut bytes = Vec::new();
        // Not by its length: another may be appending to it.
        File::open(path)?.take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
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
    // Another may have made it since.
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

/// Such a link is more likely a mistake than a jar to be.
fn points_nowhere() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "a symbolic link that points nowhere")
}

/// The file to replace: what a symbolic link points to, if it points to anything.
pub(super) fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(target) => regular(&fs::metadata(&target)?).map(|()| target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(points_nowhere());
            }
            let name = path
                .file_name()
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
            Ok(fs::canonicalize(directory(path))?.join(name))
        }
        Err(error) => Err(error),
    }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// How long to sleep between two looks at a lock. A save takes a few milliseconds, most of them to
/// sync, so a longer one would leave the lock unused.
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Locks a file beside the target, since the target itself is replaced. The lock ends when the file
/// is dropped. `None`: another held it until the given time, or at once if that is over.
pub(super) fn lock(target: &Path, until: Option<Instant>) -> io::Result<Option<File>> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    let path = directory(target).join(name);
    match fs::symlink_metadata(&path) {
        Ok(entry) => regular(&entry)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => {}
        }
        // The system's own wait has no bound, and the holder may be a process that is stopped.
        let left =
            until.map_or(LOCK_PAUSE, |until| until.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(left.min(LOCK_PAUSE));
    }
}

pub(super) fn replace(
    target: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let directory = directory(target);
    let mut file = tempfile::Builder::new().prefix(".cookies-").tempfile_in(directory)?;
    write(file.as_file_mut())?;
    file.as_file_mut().flush()?;
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    // The rename is what must survive a crash; only Unix lets a directory be synced.
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}
