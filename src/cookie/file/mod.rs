//! `CookieFile`: a jar and the file it is kept in; saves are atomic, locked and merged.

mod disk;
mod error;
mod merge;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

pub use self::error::FileError;
use self::{
    disk::{Locked, contents},
    merge::{Base, each_once},
};
use crate::cookie::{
    format::{self, Contents, Entry, Format, ReadError, SkippedLine},
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
/// A line of cookies.txt that cannot be read is [skipped](Self::skipped), and each save keeps it,
/// byte for byte and in its place. [`strict`](CookieFileBuilder::strict) makes it an error.
///
/// Opening and saving block the thread: they wait for the disk, and a save waits for others who
/// save the same file. In async code, call them on a thread that may block:
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
    last: Mutex<Last>,
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
            // Four times what a jar holds at its default limits: a file also has what limits and
            // rules keep out of the jar.
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Jar and file when they last met.
struct Last {
    /// What [`CookieJar::changes`] said then. `None` if the jar holds what the file lacks.
    changes: Option<u64>,
    base: Base,
}

impl fmt::Debug for CookieFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, jar, settings: _, skipped, last: _ } = self;
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
    /// [`FileError`] if the file cannot be read, is not a regular file, is larger than 64 MiB or is
    /// damaged. A cookies.txt is damaged if it has lines and none of them is a cookie. A file of
    /// another format is damaged if any part cannot be read. The file stays as it is: whether to
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

    /// A file to save `jar` into, which is not read now. [`save`](Self::save) merges the jar into
    /// what the file holds: the jar's cookies win, and cookies that were taken out of the jar since
    /// this call are taken out of the file.
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let last = Mutex::new(Last { changes: None, base: Base::unmet(jar.iter()) });
        let (settings, skipped) = (Settings::default(), Vec::new());
        Self { path: path.into(), format, jar, settings, skipped, last }
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

    /// The lines that could not be read, as numbered when the file was opened. Empty for every
    /// format except cookies.txt.
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

    /// Writes the jar's changes since the last save into the file, beside those of others.
    ///
    /// If both have changed a cookie, the jar's change is kept. A cookie that was taken out of the
    /// jar is taken out of the file, unless another process has given it a new value meanwhile.
    /// Cookies that the jar's rules refuse or its limits have no room for stay in the file. A file
    /// that is no longer there is written anew, with all of the jar. The jar itself does not
    /// change. Waits while another saves, for [`lock_timeout`](CookieFileBuilder::lock_timeout) at
    /// most.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, byte for byte, except where [`FileError::Write`]
    /// says otherwise. A file that has been damaged meanwhile is an error and is not overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        let until = self.until();
        self.save_changes(&mut self.last(), until)
    }

    /// As [`save`](Self::save), without waiting for others who save.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); [`FileError::Locked`] at once if another saves now.
    pub fn try_save(&self) -> Result<(), FileError> {
        let mut last = match self.last.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A thread of our own is saving.
            Err(TryLockError::WouldBlock) => return Err(self.busy()),
        };
        self.save_changes(&mut last, Some(Instant::now()))
    }

    /// Saves if the jar has changed since it was last saved or opened, and returns whether it had.
    /// Call it at intervals of your choice: this crate starts no task of its own.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    pub fn save_if_changed(&self) -> Result<bool, FileError> {
        let until = self.until();
        let mut last = self.last();
        if last.changes == Some(self.jar.changes()) {
            return Ok(false);
        }
        self.save_changes(&mut last, until).map(|()| true)
    }

    /// Writes the jar as it is, whatever the file holds: nothing is merged. What others have saved is
    /// lost, damaged or not, and so are lines that could not be read. For a file that no one else
    /// writes to. Atomic and locked, as [`save`](Self::save) is.
    ///
    /// # Errors
    ///
    /// [`FileError`]; the file is then as it was, except where [`FileError::Write`] says otherwise.
    pub fn overwrite(&self) -> Result<(), FileError> {
        let until = self.until();
        let mut last = self.last();
        let file = self.locked(until)?;
        let (changes, ours) = self.ours();
        let entries: Vec<Entry> = ours.iter().cloned().map(Entry::Cookie).collect();
        self.write(&file, &entries)?;
        let base = Base::met(ours.iter().cloned(), &ours);
        *last = Last { changes, base };
        Ok(())
    }

    fn save_changes(&self, last: &mut Last, until: Option<Instant>) -> Result<(), FileError> {
        // Locked before it is read: what another saved in between would be lost.
        let file = self.locked(until)?;
        let theirs = read(file.path(), self.format, &self.jar, self.settings)
            .map_err(|error| unread(&self.path, self.format, error))?;
        let (changes, ours) = self.ours();
        if theirs.is_none() {
            last.base.file_is_gone();
        }
        let merged = last.base.merge(self.format, &ours, theirs.unwrap_or_default().entries);
        self.write(&file, &merged)?;
        // Only once the file is there: a save that failed is to be done again.
        let base = Base::met(ours, merged.iter().filter_map(Entry::cookie));
        *last = Last { changes, base };
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

    /// When a save that starts now gives up; `None` for never.
    fn until(&self) -> Option<Instant> {
        // Asked before the wait for our own mutex, so that the wait for other threads counts too.
        Instant::now().checked_add(self.settings.lock_timeout)
    }

    fn locked(&self, until: Option<Instant>) -> Result<Locked, FileError> {
        let locked = Locked::at(&self.path, until).map_err(|error| self.unsaved(error))?;
        locked.ok_or_else(|| self.busy())
    }

    fn write(&self, file: &Locked, entries: &[Entry]) -> Result<(), FileError> {
        file.replace(|sink| format::write(self.format, sink, entries))
            .map_err(|error| self.unsaved(error))
    }

    fn busy(&self) -> FileError {
        FileError::Locked { path: self.path.clone() }
    }

    fn unsaved(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
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
    /// Whether a line that cannot be read is an error, at opening and at each save.
    ///
    /// Default: false; such lines are [skipped](CookieFile::skipped) and kept. This is for
    /// cookies.txt. The other formats are always strict.
    pub const fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// The jar to read the file into, for a jar with limits or a policy of its own. Cookies of the
    /// file replace the jar's.
    ///
    /// Default: a new jar.
    pub fn jar(mut self, jar: CookieJar) -> Self {
        self.jar = jar;
        self
    }

    /// How long a save waits for others who save the same file. After that it returns
    /// [`FileError::Locked`].
    ///
    /// Default: 10 s. A save takes a few milliseconds. The wait is longer if many processes save at
    /// once, or if one was stopped while it saved. [`Duration::MAX`] waits without a bound.
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// The size in bytes of the largest file that is read, at opening and at each save. A larger
    /// file is [`ReadError::TooLarge`].
    ///
    /// Default: 64 MiB. A jar holds at most 16 MiB at its default limits.
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
        let had_cookies = jar.iter().next().is_some();
        // Before the jar is touched: a file with a damaged line must leave it as it was.
        let held =
            read(&path, format, &jar, settings).map_err(|error| unread(&path, format, error))?;
        let Held { entries, allowed, skipped } = held.unwrap_or_default();
        skipped.iter().for_each(SkippedLine::report);
        jar.extend(&allowed);
        // Cookies that the jar held before are still to be written.
        let changes = (!had_cookies).then(|| jar.changes());
        let base = Base::read(jar.iter(), entries.iter().filter_map(Entry::cookie));
        let last = Mutex::new(Last { changes, base });
        Ok(CookieFile { path, format, jar, settings, skipped, last })
    }
}

fn unread(path: &Path, format: Format, source: ReadError) -> FileError {
    FileError::Read { path: path.to_owned(), format, source }
}

/// What a file holds, without expired cookies, each cookie once.
#[derive(Default)]
struct Held {
    /// Also what the jar's rules refuse. Those of other programs may not, so a save keeps it.
    entries: Vec<Entry>,
    /// The cookies that the jar's rules allow.
    allowed: Vec<Cookie>,
    skipped: Vec<SkippedLine>,
}

/// `None` if there is no file.
fn read(
    path: &Path,
    format: Format,
    jar: &CookieJar,
    settings: Settings,
) -> Result<Option<Held>, ReadError> {
    let Settings { strict, max_bytes, .. } = settings;
    let Some(text) = contents(path, max_bytes)? else { return Ok(None) };
    if text.len() > max_bytes {
        return Err(ReadError::TooLarge { max_bytes });
    }
    let now = jar.now();
    let contents = format::read(format, &text, now)?;
    let Contents { entries, skipped } = if strict { contents.whole()? } else { contents };
    let alive = |entry: &Entry| entry.cookie().is_none_or(|cookie| cookie.times.expires > now);
    let judged = entries.into_iter().filter(alive).map(|entry| {
        let allowed = entry.cookie().is_some_and(|cookie| jar.allows(cookie));
        (entry, allowed)
    });
    // A file that others append to may name a cookie twice, and the merge goes by identity.
    let judged = each_once(judged.collect());
    let allowed = judged.iter().filter(|(_, allowed)| *allowed);
    let allowed = allowed.filter_map(|(entry, _)| entry.cookie().cloned()).collect();
    let entries = judged.into_iter().map(|(entry, _)| entry).collect();
    Ok(Some(Held { entries, allowed, skipped }))
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
