//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

mod disk;
mod error;
mod merge;

use std::{
    collections::HashSet,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

pub use self::error::FileError;
use self::{
    disk::{contents, lock, replace, resolve},
    merge::{Base, Identity, by_identity, identities, merge},
};
use crate::cookie::{
    format::{self, Contents, Entry, Format, ReadError, SkippedLine},
    jar::CookieJar,
    model::cookie::Cookie,
    model::data::Millis,
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
/// A line of cookies.txt that cannot be read is [skipped](Self::skipped). Each save keeps it, byte
/// for byte and in its place. [`builder`](Self::builder) can refuse such files.
///
/// Opening and saving block the thread: on the disk, and on others who save. In async code run them
/// on a thread that may block:
///
/// ```
/// use std::sync::Arc;
/// use tower_outbound::cookie::{CookieFile, Format};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("cookies.txt");
/// let file = Arc::new(CookieFile::open(path, Format::Netscape)?);
/// file.jar().set(&"https://example.com/".parse()?, "id=42; Max-Age=3600")?;
/// let saved = Arc::clone(&file);
/// tokio::task::spawn_blocking(move || saved.save()).await??;
/// # Ok(())
/// # }
/// ```
///
/// From one run to the next:
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
    settings: Settings,
    skipped: Vec<SkippedLine>,
    base: Mutex<Base>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    strict: bool,
    lock_timeout: Duration,
    max_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strict: false,
            lock_timeout: Duration::from_secs(10),
            // Four times the text that a jar holds at its default limits.
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for CookieFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, jar, settings: _, skipped, base: _ } = self;
        f.debug_struct("CookieFile")
            .field("path", path)
            .field("format", format)
            .field("jar", jar)
            .field("skipped", skipped)
            .finish_non_exhaustive()
    }
}

impl CookieFile {
    /// Reads the file into a new jar. If there is no file, the jar is empty and the first save makes
    /// the file.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file cannot be read, is no regular one, is larger than 64 MiB or is
    /// damaged. A cookies.txt is damaged if none of its lines is a cookie although it has lines;
    /// other formats are damaged if any part cannot be read. The file stays as it is: whether to
    /// start empty is the caller's choice.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Self, FileError> {
        Self::builder(path, format).open()
    }

    /// Reads the file into `jar`: see [`CookieFileBuilder::jar`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); the jar is then as it was.
    pub fn open_into(
        path: impl Into<PathBuf>,
        format: Format,
        jar: CookieJar,
    ) -> Result<Self, FileError> {
        Self::builder(path, format).jar(jar).open()
    }

    /// Starts to open a file with other settings than the defaults.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::cookie::{CookieFile, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// let file = CookieFile::builder(path, Format::Netscape)
    ///     .strict(true)
    ///     .lock_timeout(Duration::from_secs(1))
    ///     .open()?;
    /// assert!(file.jar().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn builder(path: impl Into<PathBuf>, format: Format) -> CookieFileBuilder {
        CookieFileBuilder {
            path: path.into(),
            format,
            jar: CookieJar::new(),
            settings: Settings::default(),
        }
    }

    /// A file to save `jar` into, without reading it now. [`save`](Self::save) then merges the jar
    /// into what the file holds: the jar's cookies win, and those taken out of the jar since
    /// this call are taken out of the file.
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let base = Mutex::new(Base { changes: None, jar: by_identity(jar.iter()), file: None });
        let (settings, skipped) = (Settings::default(), Vec::new());
        Self { path: path.into(), format, jar, settings, skipped, base }
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

    /// The lines that could not be read when the file was opened, in its order. Their numbers are of
    /// that time. Empty for every format but cookies.txt.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieFile, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// std::fs::write(&path, "example.com\tFALSE\t/\tTRUE\t0\tid\t42\nexported by hand\n")?;
    /// let file = CookieFile::open(&path, Format::Netscape)?;
    /// assert_eq!(file.jar().len(), 1);
    /// for line in file.skipped() {
    ///     eprintln!("{}, {line}", path.display()); // line 2: expected seven fields between tabs
    /// }
    /// # assert_eq!(file.skipped()[0].line, 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn skipped(&self) -> &[SkippedLine] {
        &self.skipped
    }

    /// Writes the jar's changes since the last save into the file, beside those of others; of two
    /// changes to one cookie ours counts, and a cookie that we have taken out goes, unless
    /// another has given it a new value meanwhile. What the jar's rules refuse or its limits
    /// have no room for stays in the file. A file that is not there any more is written anew,
    /// with all of the jar. The jar itself does not change. Waits while another process saves, for
    /// [`lock_timeout`](CookieFileBuilder::lock_timeout) at most.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, byte for byte, save where [`FileError::Write`]
    /// says otherwise. A file that has been damaged meanwhile is an error and is not
    /// overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        let until = self.until();
        self.save_changes(&mut self.base(), until)
    }

    /// As [`save`](Self::save), without waiting for others who save.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); [`FileError::Locked`] at once if another saves now.
    pub fn try_save(&self) -> Result<(), FileError> {
        let mut base = match self.base.try_lock() {
            Ok(base) => base,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(self.locked()),
        };
        self.save_changes(&mut base, Some(Instant::now()))
    }

    /// Saves if the jar has changed since it was last saved or opened, and says whether it had. For
    /// calls at intervals of the caller's choice: this crate starts no task of its own.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_if_changed(&self) -> Result<bool, FileError> {
        let until = self.until();
        let mut base = self.base();
        if base.changes == Some(self.jar.changes()) {
            return Ok(false);
        }
        self.save_changes(&mut base, until).map(|()| true)
    }

    /// Writes the jar as it is, whatever the file holds: nothing is merged. What others have saved is
    /// gone, and so are lines that could not be read. For a file that no one else writes to. Atomic and locked,
    /// as [`save`](Self::save) is.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, save where [`FileError::Write`] says otherwise.
    pub fn overwrite(&self) -> Result<(), FileError> {
        let until = self.until();
        let mut base = self.base();
        let (changes, ours) = self.ours();
        let target = self.target()?;
        let _lock = self.lock(&target, until)?;
        let entries: Vec<Entry> = ours.iter().cloned().map(Entry::Cookie).collect();
        self.replace(&target, &entries)?;
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

    /// When a save that starts now gives up; `None` for never. Taken before the wait for a thread of
    /// our own that saves, so that this wait counts too.
    fn until(&self) -> Option<Instant> {
        Instant::now().checked_add(self.settings.lock_timeout)
    }

    fn save_changes(&self, base: &mut Base, until: Option<Instant>) -> Result<(), FileError> {
        let target = self.target()?;
        let _lock = self.lock(&target, until)?;
        let theirs = read(&target, self.format, &self.jar, self.settings)?;
        let (changes, ours) = self.ours();
        if theirs.is_none() {
            // It was taken away, not emptied: the jar is all there is.
            base.file = None;
        }
        let theirs = theirs.unwrap_or_default();
        let merged = merge(self.format, base, &ours, theirs.entries);
        self.replace(&target, &merged)?;
        let file = Some(identities(merged.iter().filter_map(Entry::cookie)));
        *base = Base { changes, jar: by_identity(ours), file };
        Ok(())
    }

    fn target(&self) -> Result<PathBuf, FileError> {
        resolve(&self.path).map_err(|error| self.failed(error))
    }

    fn lock(&self, target: &Path, until: Option<Instant>) -> Result<File, FileError> {
        let locked = lock(target, until).map_err(|error| {
            self.failed(io::Error::new(error.kind(), format!("cannot lock it: {error}")))
        });
        locked?.ok_or_else(|| self.locked())
    }

    fn replace(&self, target: &Path, entries: &[Entry]) -> Result<(), FileError> {
        let write = |sink: &mut File| format::write(self.format, sink, entries);
        replace(target, write).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
    }

    fn locked(&self) -> FileError {
        FileError::Locked { path: self.path.clone() }
    }
}

/// Opens a [`CookieFile`]; from [`CookieFile::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct CookieFileBuilder {
    path: PathBuf,
    format: Format,
    jar: CookieJar,
    settings: Settings,
}

impl CookieFileBuilder {
    /// Whether a line that cannot be read makes the whole file an error, now and at each save.
    ///
    /// Default: false, such lines are [skipped](CookieFile::skipped) and kept. Only cookies.txt can
    /// be read in part: the other formats are strict whatever this says.
    pub const fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// The jar to read the file into: one with limits or a policy of its own, say. A cookie of the
    /// file replaces the jar's.
    ///
    /// Default: a new jar.
    pub fn jar(mut self, jar: CookieJar) -> Self {
        self.jar = jar;
        self
    }

    /// How long a save waits while others save the same file. Then it gives up with
    /// [`FileError::Locked`].
    ///
    /// Default: 10 s. A save takes a few milliseconds, so only many at a time or a process that is
    /// stopped while it saves take longer. [`Duration::MAX`] waits for ever.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// The largest file that is read, in bytes, now and at each save. A larger one is
    /// [`ReadError::TooLarge`].
    ///
    /// Default: 64 MiB. A jar at its default limits takes 16 MiB.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.settings.max_bytes = max_bytes;
        self
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// As [`CookieFile::open`]; the jar is then as it was.
    pub fn open(self) -> Result<CookieFile, FileError> {
        let Self { path, format, jar, settings } = self;
        let others = by_identity(jar.iter());
        let held = read(&path, format, &jar, settings)?.unwrap_or_default();
        held.skipped.iter().for_each(SkippedLine::report);
        jar.extend(&held.allowed);
        // What the jar held before is as new to the file as what comes later.
        let changes = others.is_empty().then(|| jar.changes());
        let file = identities(held.entries.iter().filter_map(Entry::cookie));
        let known = by_identity(jar.iter())
            .into_iter()
            .filter(|(identity, _)| file.contains(identity))
            .collect();
        let base = Mutex::new(Base { changes, jar: known, file: Some(file) });
        Ok(CookieFile { path, format, jar, settings, skipped: held.skipped, base })
    }
}

/// What a file holds, without expired cookies, and each cookie once.
#[derive(Default)]
struct Held {
    /// What a save has to keep, also what the jar's rules refuse: those of others may not.
    entries: Vec<Entry>,
    /// The cookies among it that the jar's rules allow.
    allowed: Vec<Cookie>,
    skipped: Vec<SkippedLine>,
}

impl Held {
    fn of(contents: Contents, jar: &CookieJar, now: Millis) -> Self {
        let Contents { entries, skipped } = contents;
        let alive = |entry: &Entry| entry.cookie().is_none_or(|cookie| cookie.times.expires > now);
        let judged: Vec<(Entry, bool)> = entries
            .into_iter()
            .filter(alive)
            .map(|entry| {
                let allowed = entry.cookie().is_some_and(|cookie| jar.allows(cookie));
                (entry, allowed)
            })
            .collect();
        let allowed = judged.iter().filter(|(_, allowed)| *allowed);
        let all_allowed = identities(allowed.filter_map(|(entry, _)| entry.cookie()));
        let mut held = Self { skipped, ..Self::default() };
        let mut seen = HashSet::new();
        // From the end: if a cookie is there twice, the last one counts, as where it is read into a
        // jar. There one that is refused does not replace one that is allowed.
        for (entry, allowed) in judged.into_iter().rev() {
            if let Some(cookie) = entry.cookie() {
                let identity = Identity(cookie.data.clone());
                if !allowed && all_allowed.contains(&identity) || !seen.insert(identity) {
                    continue;
                }
                if allowed {
                    held.allowed.push(cookie.clone());
                }
            }
            held.entries.push(entry);
        }
        held.entries.reverse();
        held.allowed.reverse();
        held
    }
}

/// `None` if there is no file.
fn read(
    path: &Path,
    format: Format,
    jar: &CookieJar,
    settings: Settings,
) -> Result<Option<Held>, FileError> {
    let Settings { strict, max_bytes, .. } = settings;
    let failed = |source| FileError::Read { path: path.to_owned(), format, source };
    let Some(text) = contents(path, max_bytes).map_err(|error| failed(ReadError::Io(error)))?
    else {
        return Ok(None);
    };
    if text.len() > max_bytes {
        return Err(failed(ReadError::TooLarge { max_bytes }));
    }
    let now = jar.now();
    let contents = format::read(format, &text, now);
    let contents = if strict { contents.and_then(Contents::whole) } else { contents };
    Ok(Some(Held::of(contents.map_err(failed)?, jar, now)))
}
