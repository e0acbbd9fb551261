//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

mod disk;
mod merge;

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use self::{
    disk::{Locked, contents},
    merge::{Base, each_once},
};
use crate::cookie::{
    format::{self, Format, ReadError},
    jar::CookieJar,
    model::cookie::Cookie,
};

/// A jar and the file it is kept in.
///
/// [`save`](Self::save) replaces the whole file or nothing: it writes a temporary file (mode 0600)
/// beside it, syncs it, renames it and syncs the directory. It holds a lock meanwhile, on
/// `.NAME.lock` beside the file, which stays. It merges with what others have saved since, so that
/// two processes lose none of each other's cookies. If the path is a symbolic link, the file that
/// it points to is replaced and the link stays. A process that is killed while it saves leaves its
/// temporary file, `.cookies-` and six letters.
///
/// ```
/// use tower_outbound::cookie::{CookieFile, Format};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("cookies.txt");
/// let file = CookieFile::open(&path, Format::Netscape)?; // no such file: an empty jar
/// file.jar().set(&"https://example.com/".parse()?, "id=42; Max-Age=3600")?;
/// file.save()?;
///
/// let again = CookieFile::open(&path, Format::Netscape)?;
/// assert_eq!(again.jar().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct CookieFile {
    path: PathBuf,
    format: Format,
    jar: CookieJar,
    last: Mutex<Last>,
}

/// Jar and file when they last met.
struct Last {
    /// What [`CookieJar::changes`] said then. `None` if the jar holds what the file lacks.
    changes: Option<u64>,
    base: Base,
}

impl fmt::Debug for CookieFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, jar, last: _ } = self;
        f.debug_struct("CookieFile")
            .field("path", path)
            .field("format", format)
            .field("jar", jar)
            .finish_non_exhaustive()
    }
}

impl CookieFile {
    /// Reads the file into a new jar. If there is no file, the jar is empty and the first save
    /// makes the file.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file cannot be read, is no regular file, or has a damaged line. The
    /// file stays as it is: whether to start empty is the caller's choice.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Self, FileError> {
        Self::open_into(path, format, CookieJar::new())
    }

    /// Reads the file into `jar`, for a jar with limits or a policy of its own. Cookies of the file
    /// replace the jar's.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the jar is then as it was.
    pub fn open_into(
        path: impl Into<PathBuf>,
        format: Format,
        jar: CookieJar,
    ) -> Result<Self, FileError> {
        let path = path.into();
        let had_cookies = jar.iter().next().is_some();
        // Before the jar is touched: a file with a damaged line must leave it as it was.
        let held = read(&path, format, &jar).map_err(|error| unread(&path, format, error))?;
        let Held { allowed, refused } = held.unwrap_or_default();
        jar.extend(&allowed);
        // Cookies that the jar held before are still to be written.
        let changes = (!had_cookies).then(|| jar.changes());
        let base = Base::read(jar.iter(), refused.iter().chain(&allowed));
        Ok(Self { path, format, jar, last: Mutex::new(Last { changes, base }) })
    }

    /// A file to save `jar` into, which is not read now. [`save`](Self::save) merges the jar into
    /// what the file holds: the jar's cookies win, and cookies that were taken out of the jar since
    /// this call are taken out of the file.
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let last = Mutex::new(Last { changes: None, base: Base::unmet(jar.iter()) });
        Self { path: path.into(), format, jar, last }
    }

    /// The jar.
    #[must_use]
    pub const fn jar(&self) -> &CookieJar {
        &self.jar
    }

    /// The path, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the jar's changes since the last save into the file, beside those of others.
    ///
    /// If both have changed a cookie, the jar's change is kept. A cookie that was taken out of the
    /// jar is taken out of the file, unless another process has given it a new value meanwhile.
    /// Cookies that the jar's rules refuse or its limits have no room for stay in the file. A file
    /// that is no longer there is written anew, with all of the jar. The jar itself does not
    /// change. Waits while another process saves.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, byte for byte, except where [`FileError::Write`]
    /// says otherwise. A file that has been damaged meanwhile is an error and is not overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        self.save_changes(&mut self.last())
    }

    /// Saves if the jar has changed since it was last saved or opened, and returns whether it had.
    /// Call it at intervals of your choice: this crate starts no task of its own.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_if_changed(&self) -> Result<bool, FileError> {
        let mut last = self.last();
        if last.changes == Some(self.jar.changes()) {
            return Ok(false);
        }
        self.save_changes(&mut last).map(|()| true)
    }

    /// Writes the jar as it is, whatever the file holds: nothing is merged, and what others have
    /// saved is lost, damaged or not. For a file that no one else writes to. Atomic and locked, as
    /// [`save`](Self::save) is.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, except where [`FileError::Write`] says otherwise.
    pub fn overwrite(&self) -> Result<(), FileError> {
        let mut last = self.last();
        let file = self.locked()?;
        let (changes, ours) = self.ours();
        self.write(&file, &ours)?;
        let base = Base::met(ours.iter().cloned(), &ours);
        *last = Last { changes, base };
        Ok(())
    }

    fn save_changes(&self, last: &mut Last) -> Result<(), FileError> {
        // Locked before it is read: what another saved in between would be lost.
        let file = self.locked()?;
        let theirs = read(file.path(), self.format, &self.jar)
            .map_err(|error| unread(&self.path, self.format, error))?;
        let (changes, ours) = self.ours();
        if theirs.is_none() {
            last.base.file_is_gone();
        }
        let Held { allowed, refused } = theirs.unwrap_or_default();
        let merged = last.base.merge(self.format, &ours, refused.into_iter().chain(allowed));
        self.write(&file, &merged)?;
        // Only once the file is there: a save that failed is to be done again.
        *last = Last { changes, base: Base::met(ours, &merged) };
        Ok(())
    }

    /// The jar's cookies, and the number of its changes.
    fn ours(&self) -> (Option<u64>, Vec<Cookie>) {
        // The number first: a change in between is then saved twice and never missed.
        let changes = Some(self.jar.changes());
        (changes, self.jar.iter().collect())
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        // It is replaced whole, after everything that can panic.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> Result<Locked, FileError> {
        Locked::at(&self.path).map_err(|error| self.unsaved(error))
    }

    fn write(&self, file: &Locked, cookies: &[Cookie]) -> Result<(), FileError> {
        file.replace(|sink| format::write(self.format, sink, cookies))
            .map_err(|error| self.unsaved(error))
    }

    fn unsaved(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
    }
}

fn unread(path: &Path, format: Format, source: ReadError) -> FileError {
    FileError::Read { path: path.to_owned(), format, source }
}

/// What a file holds that is alive, each cookie once.
#[derive(Default)]
struct Held {
    allowed: Vec<Cookie>,
    /// What the jar's rules refuse. Those of other programs may not, so it stays in the file.
    refused: Vec<Cookie>,
}

/// `None` if there is no file.
fn read(path: &Path, format: Format, jar: &CookieJar) -> Result<Option<Held>, ReadError> {
    let Some(text) = contents(path)? else { return Ok(None) };
    let (mut allowed, mut refused) = jar.read_alive(&text, format)?;
    // A file that others append to may name a cookie twice, and the merge goes by identity.
    each_once([&mut allowed, &mut refused]);
    Ok(Some(Held { allowed, refused }))
}

/// Why a cookie file was not read or saved.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// It cannot be read, or a line of it is damaged.
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// What it was read as.
        format: Format,
        /// What is wrong with it, and in which line.
        source: ReadError,
    },
    /// It cannot be replaced, and is as it was. One exception: if only the directory could not be
    /// synced, the new file is there, but may not survive a crash.
    #[non_exhaustive]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl FileError {
    /// The file, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } => path,
        }
    }

    /// The damaged line, counted from 1.
    #[must_use]
    pub const fn line(&self) -> Option<usize> {
        match self {
            Self::Read { source: ReadError::Line { line, .. }, .. } => Some(*line),
            _ => None,
        }
    }
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, format, source } => {
                write!(
                    f,
                    "cannot read cookies from {} as {}: {source}",
                    path.display(),
                    format.name()
                )
            }
            Self::Write { path, source } => {
                write!(f, "cannot save cookies to {}: {source}", path.display())
            }
        }
    }
}

impl error::Error for FileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            // Our own message ends with the words of the error itself: a report of the whole chain
            // would print them twice.
            Self::Read { source, .. } => source.source(),
            Self::Write { source, .. } => source.source(),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn damage_that_a_save_meets_behind_a_link_is_named_by_the_path_that_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("cookies.txt"), directory.path().join("link"));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let file = CookieFile::open(&link, Format::Netscape).unwrap();
        fs::write(&target, "damaged").unwrap();
        let error = file.save().unwrap_err();
        assert_eq!((error.path(), error.line()), (&*link, Some(1)));
        assert_eq!(fs::read_to_string(&target).unwrap(), "damaged");
    }
}
