//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

mod disk;
mod merge;

use std::{
    collections::HashSet,
    error, fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use self::{
    disk::{contents, lock, replace, resolve},
    merge::{Base, Identity, by_identity, identities, merge},
};
use crate::cookie::{
    format::{Format, ReadError},
    jar::CookieJar,
    model::cookie::Cookie,
};

/// A jar and the file it is kept in.
///
/// [`save`](Self::save) replaces the file whole or not at all: it writes a temporary file (mode
/// 0600) beside it, syncs it, renames it and syncs the directory. It holds a lock meanwhile (on
/// `.NAME.lock` beside the file, which stays) and merges with what others have saved since, so that
/// two processes lose none of each other's cookies. A symbolic link is followed: the file that it
/// points to is replaced, the link stays. A process that is killed while it saves leaves its
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
    base: Mutex<Base>,
}

impl fmt::Debug for CookieFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, jar, base: _ } = self;
        f.debug_struct("CookieFile")
            .field("path", path)
            .field("format", format)
            .field("jar", jar)
            .finish_non_exhaustive()
    }
}

impl CookieFile {
    /// Reads the file into a new jar. Where there is no file the jar is empty, and the first save
    /// makes it.
    ///
    /// # Errors
    ///
    /// [`FileError`] where the file cannot be read, is no regular one, or a line of it is damaged.
    /// The file stays as it is: whether to start empty is the caller's choice.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Self, FileError> {
        Self::open_into(path, format, CookieJar::new())
    }

    /// Reads the file into `jar`, a new one with limits or a policy of its own, say. Cookies of the
    /// file take the place of the jar's.
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
        let others = by_identity(jar.iter());
        let Held { allowed, refused } = read(&path, format, &jar)?.unwrap_or_default();
        jar.extend(&allowed);
        // What the jar held before is as new to the file as what comes later.
        let changes = others.is_empty().then(|| jar.changes());
        let file = identities(refused.iter().chain(&allowed));
        let known = by_identity(jar.iter())
            .into_iter()
            .filter(|(identity, _)| file.contains(identity))
            .collect();
        let base = Mutex::new(Base { changes, jar: known, file: Some(file) });
        Ok(Self { path, format, jar, base })
    }

    /// A file to save `jar` into, without reading it now. [`save`](Self::save) then merges the jar
    /// into what the file holds: the jar's cookies win, and those taken out of the jar since
    /// this call are taken out of the file.
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let base = Mutex::new(Base { changes: None, jar: by_identity(jar.iter()), file: None });
        Self { path: path.into(), format, jar, base }
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

    /// Writes the jar's changes since the last save into the file, beside those of others; of two
    /// changes to one cookie ours counts, and a cookie that we have taken out goes, unless
    /// another has given it a new value meanwhile. What the jar's rules refuse or its limits
    /// have no room for stays in the file. A file that is not there any more is written anew,
    /// with all of the jar. The jar itself does not change. Waits while another process saves.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, byte for byte, save where [`FileError::Write`]
    /// says otherwise. A file that has been damaged meanwhile is an error and is not
    /// overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        self.save_changes(&mut self.base())
    }

    /// Saves if the jar has changed since it was last saved or opened, and says whether it had. For
    /// calls at intervals of the caller's choice: this crate starts no task of its own.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_if_changed(&self) -> Result<bool, FileError> {
        let mut base = self.base();
        if base.changes == Some(self.jar.changes()) {
            return Ok(false);
        }
        self.save_changes(&mut base).map(|()| true)
    }

    /// Writes the jar as it is, whatever the file holds: nothing is merged, and what others have
    /// saved is gone, damaged or not. For a file that no one else writes to. Atomic and locked,
    /// as [`save`](Self::save) is.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, save where [`FileError::Write`] says otherwise.
    pub fn overwrite(&self) -> Result<(), FileError> {
        let mut base = self.base();
        let (changes, ours) = self.ours();
        self.write(&ours)?;
        let file = Some(identities(&ours));
        *base = Base { changes, jar: by_identity(ours), file };
        Ok(())
    }

    /// The jar's cookies, and its changes as of before: a change in between is one for the next
    /// time.
    fn ours(&self) -> (Option<u64>, Vec<Cookie>) {
        let changes = Some(self.jar.changes());
        (changes, self.jar.iter().collect())
    }

    fn base(&self) -> MutexGuard<'_, Base> {
        self.base.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save_changes(&self, base: &mut Base) -> Result<(), FileError> {
        let target = self.target()?;
        let _lock = self.lock(&target)?;
        let theirs = read(&target, self.format, &self.jar)?;
        let (changes, ours) = self.ours();
        if theirs.is_none() {
            // It was taken away, not emptied: the jar is all there is.
            base.file = None;
        }
        let Held { allowed, refused } = theirs.unwrap_or_default();
        let theirs = refused.into_iter().chain(allowed);
        let merged = merge(self.format, base, &ours, theirs);
        self.replace(&target, &merged)?;
        *base = Base { changes, jar: by_identity(ours), file: Some(identities(&merged)) };
        Ok(())
    }

    fn write(&self, cookies: &[Cookie]) -> Result<(), FileError> {
        let target = self.target()?;
        let _lock = self.lock(&target)?;
        self.replace(&target, cookies)
    }

    fn target(&self) -> Result<PathBuf, FileError> {
        resolve(&self.path).map_err(|error| self.failed(error))
    }

    fn lock(&self, target: &Path) -> Result<File, FileError> {
        lock(target).map_err(|error| {
            self.failed(io::Error::new(error.kind(), format!("cannot lock it: {error}")))
        })
    }

    fn replace(&self, target: &Path, cookies: &[Cookie]) -> Result<(), FileError> {
        let write = |sink: &mut File| crate::cookie::format::write(self.format, sink, cookies);
        replace(target, write).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
    }
}

/// What a file holds that is alive, each cookie once.
#[derive(Default)]
struct Held {
    allowed: Vec<Cookie>,
    /// What the jar's rules refuse, and others may not: it stays in the file.
    refused: Vec<Cookie>,
}

/// `None` where there is no file.
fn read(path: &Path, format: Format, jar: &CookieJar) -> Result<Option<Held>, FileError> {
    let cookies = match contents(path) {
        Ok(Some(text)) => jar.read_alive(&text, format),
        Ok(None) => return Ok(None),
        Err(error) => Err(ReadError::Io(error)),
    };
    let (mut allowed, mut refused) =
        cookies.map_err(|source| FileError::Read { path: path.to_owned(), format, source })?;
    // Of a cookie that stands there twice the last one counts, as where it is read into a jar.
    let mut seen = HashSet::new();
    for cookies in [&mut allowed, &mut refused] {
        cookies.reverse();
        cookies.retain(|cookie| seen.insert(Identity(cookie.data.clone())));
        cookies.reverse();
    }
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
    /// It cannot be replaced; it is as it was. Only where the directory alone could not be synced
    /// the new file is there, but may not survive a crash.
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
            // The words of the error itself are ours already; a report of the chain would say them
            // twice.
            Self::Read { source, .. } => source.source(),
            Self::Write { source, .. } => source.source(),
        }
    }
}
