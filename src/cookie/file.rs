//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

use std::{
    collections::HashMap,
    error, fmt,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    cookie::{Cookie, Data},
    format::{Format, ReadError},
    jar::CookieJar,
};

/// A jar and the file it is kept in.
///
/// [`save`](Self::save) replaces the file whole or not at all: it writes a temporary file (mode 0600) beside it, syncs
/// it, renames it and syncs the directory. It holds a lock meanwhile (on `.NAME.lock` beside the file, which stays) and
/// merges with what others have saved since, so that two processes lose none of each other's cookies. A symbolic link
/// is followed: the file that it points to is replaced, the link stays.
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
#[derive(Debug)]
pub struct CookieFile {
    path: PathBuf,
    format: Format,
    jar: CookieJar,
    base: Mutex<Base>,
}

/// The jar as it was when it and the file last agreed: what tells our changes from those of others.
struct Base {
    cookies: HashMap<Identity, Cookie>,
    /// Whether the file held them; if not, a cookie that it lacks was not removed by another.
    in_file: bool,
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Base").field("len", &self.cookies.len()).field("in_file", &self.in_file).finish()
    }
}

/// A cookie by its name, domain, host-only flag and path.
#[derive(Clone)]
struct Identity(Arc<Data>);

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
    /// Reads the file into a new jar. Where there is no file the jar is empty, and the first save makes it.
    ///
    /// # Errors
    ///
    /// [`FileError`] where the file cannot be read or a line of it is damaged. The file stays as it is: whether to start
    /// empty is the caller's choice.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Self, FileError> {
        let (path, jar) = (path.into(), CookieJar::new());
        read(&path, format, &jar)?;
        let base = Mutex::new(Base::of(&jar, true));
        Ok(Self { path, format, jar, base })
    }

    /// A file to save `jar` into, without reading it now. [`save`](Self::save) then merges the jar into what the file
    /// holds: the jar's cookies win, and those taken out of the jar since this call are taken out of the file.
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let base = Mutex::new(Base::of(&jar, false));
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

    /// Writes the jar's changes since the last save into the file, beside those of others; of two changes to one
    /// cookie ours counts. The jar itself does not change. Waits while another process saves.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, byte for byte. A file that has been damaged meanwhile is an error and
    /// is not overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| FileError::Write { path: self.path.clone(), source: error };
        let target = resolve(&self.path).map_err(failed)?;
        let _lock = lock(&target).map_err(failed)?;
        let theirs = self.jar.sibling();
        read(&target, self.format, &theirs)?;
        let ours = Base::of(&self.jar, true);
        let merged = merge(&base, &ours, theirs.iter(), self.jar.iter());
        replace(&target, |sink| super::format::write(self.format, sink, &merged)).map_err(failed)?;
        *base = ours;
        Ok(())
    }
}

impl Base {
    fn of(jar: &CookieJar, in_file: bool) -> Self {
        let cookies = jar.iter().map(|cookie| (Identity(Arc::clone(&cookie.data)), cookie)).collect();
        Self { cookies, in_file }
    }
}

/// A merge of three: `theirs` is what the file holds by now, in its order; what only we have comes after.
fn merge(
    base: &Base,
    ours: &Base,
    theirs: impl Iterator<Item = Cookie>,
    in_order: impl Iterator<Item = Cookie>,
) -> Vec<Cookie> {
    let changed = |identity: &Identity, cookie: &Cookie| {
        !base.in_file || base.cookies.get(identity).is_none_or(|old| !same(old, cookie))
    };
    let mut merged = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for cookie in theirs {
        let identity = Identity(Arc::clone(&cookie.data));
        match ours.cookies.get(&identity) {
            Some(own) if changed(&identity, own) => merged.push(own.clone()),
            Some(_) => merged.push(cookie),
            // We have taken out what we once had, unless another has changed it since.
            None if base.cookies.get(&identity).is_some_and(|old| !base.in_file || same(old, &cookie)) => {}
            None => merged.push(cookie),
        }
        seen.insert(identity);
    }
    for cookie in in_order {
        let identity = Identity(Arc::clone(&cookie.data));
        if !seen.contains(&identity) && changed(&identity, &cookie) {
            merged.push(cookie);
        }
    }
    merged
}

/// Whether two states of one cookie are the same in every format: files know seconds only.
fn same(a: &Cookie, b: &Cookie) -> bool {
    a.data.same_content(&b.data) && a.expires.div_ceil(1000) == b.expires.div_ceil(1000)
}

fn read(path: &Path, format: Format, jar: &CookieJar) -> Result<(), FileError> {
    let source = match File::open(path) {
        Ok(file) => jar.read_from(file, format).map(drop),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(ReadError::Io(error)),
    };
    source.map_err(|source| FileError::Read { path: path.to_owned(), source })
}

/// The file to replace: what a symbolic link points to, if it points to anything.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(target) if fs::metadata(&target)?.is_file() => Ok(target),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if fs::symlink_metadata(path).is_ok() {
                return Err(io::Error::new(error.kind(), "a symbolic link that points nowhere"));
            }
            let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
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

/// Locks a file beside the target, since the target itself is replaced. The lock ends when the file is dropped.
fn lock(target: &Path) -> io::Result<File> {
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(directory(target).join(name))?;
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
        /// What is wrong with it, and in which line.
        source: ReadError,
    },
    /// It cannot be replaced; it is as it was.
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
            Self::Read { path, source } => write!(f, "cannot read cookies from {}: {source}", path.display()),
            Self::Write { path, source } => write!(f, "cannot save cookies to {}: {source}", path.display()),
        }
    }
}

impl error::Error for FileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Read { source, .. } => Some(source),
            Self::Write { source, .. } => Some(source),
        }
    }
}
