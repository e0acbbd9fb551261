//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

use std::{
    collections::{HashMap, HashSet},
    error, fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::cookie::{
    format::{Format, ReadError},
    jar::CookieJar,
    model::cookie::Cookie,
    model::data::Data,
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

/// Jar and file as they were when they last met: what tells our changes from those of others. They
/// are two, since a jar caps lifetimes and has limits, and a file's format does not know all that a
/// jar does.
struct Base {
    /// What [`CookieJar::changes`] said then; `None` before the first time.
    changes: Option<u64>,
    jar: Cookies,
    /// `None` where the jar has never been in the file: what the file lacks was then not taken out
    /// by another.
    file: Option<HashSet<Identity>>,
}

type Cookies = HashMap<Identity, Cookie>;

fn by_identity(cookies: impl IntoIterator<Item = Cookie>) -> Cookies {
    cookies.into_iter().map(|cookie| (Identity(cookie.data.clone()), cookie)).collect()
}

fn identities<'a>(cookies: impl IntoIterator<Item = &'a Cookie>) -> HashSet<Identity> {
    cookies.into_iter().map(|cookie| Identity(cookie.data.clone())).collect()
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

/// A cookie by its name, domain, host-only flag and path.
#[derive(Clone)]
struct Identity(Data);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_identity(&other.0)
    }
}

impl Eq for Identity {}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.name(), self.0.domain(), self.0.path(), self.0.flags.host_only).hash(state);
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

/// A merge of three: `theirs` is what the file holds by now, in its order; what only we have comes
/// after.
fn merge(
    format: Format,
    base: &Base,
    ours: &[Cookie],
    theirs: impl Iterator<Item = Cookie>,
) -> Vec<Cookie> {
    let by_us = |identity: &Identity, cookie: &Cookie| {
        base.file.is_none()
            || base.jar.get(identity).is_none_or(|old| format.tells_apart(old, cookie))
    };
    let renewed = |identity: &Identity, cookie: &Cookie| {
        // What our jar held, not what the file did: a value that another set before our last save
        // is as unknown to the jar.
        let held =
            base.jar.get(identity).is_some_and(|old| old.data.value() == cookie.data.value());
        base.file.as_ref().is_some_and(|file| !held || !file.contains(identity))
    };
    let own = by_identity(ours.iter().cloned());
    let mut merged = Vec::new();
    let mut seen = HashSet::new();
    for cookie in theirs {
        let identity = Identity(cookie.data.clone());
        match own.get(&identity) {
            Some(own) if by_us(&identity, own) => merged.push(used_as(own.clone(), &cookie)),
            Some(own) => merged.push(used_as(cookie, own)),
            // We have taken out what we once had, unless another has given it a new value since.
            None if base.jar.contains_key(&identity) && !renewed(&identity, &cookie) => {}
            None => merged.push(cookie),
        }
        seen.insert(identity);
    }
    for cookie in ours {
        let identity = Identity(cookie.data.clone());
        if !seen.contains(&identity) && by_us(&identity, cookie) {
            merged.push(cookie.clone());
        }
    }
    merged
}

/// One of two states of a cookie, made as early as the older and used as late as the other.
fn used_as(mut cookie: Cookie, other: &Cookie) -> Cookie {
    cookie.data.created = cookie.data.created.min(other.data.created);
    cookie.times.sent = cookie.times.sent.max(other.times.sent);
    cookie
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

/// The bytes of a regular file, which unlike others has an end; `None` where there is nothing.
fn contents(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let read = || regular(&fs::metadata(path)?).and_then(|()| fs::read(path));
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
fn resolve(path: &Path) -> io::Result<PathBuf> {
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

/// Locks a file beside the target, since the target itself is replaced. The lock ends when the file
/// is dropped.
fn lock(target: &Path) -> io::Result<File> {
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
    file.lock()?;
    Ok(file)
}

fn replace(target: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
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
