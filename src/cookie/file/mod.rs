//! `CookieFile`: a jar and its file; saves are atomic, locked and merged.

mod error;
mod held;
mod merge;
mod settings;
mod times;

use std::{
    collections::HashSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, TryLockError},
    time::{Duration, Instant},
};

pub use self::error::FileError;
use self::{
    held::{Held, read},
    merge::{Merged, Terms, Theirs, brought, merge},
    settings::{Settings, bounds},
    times::{Mark, Times},
};
use crate::cookie::{
    format::{self, Entry, Format, ReadError, SkippedLine},
    jar::{
        CookieJar,
        change::{Change, to_stamp},
        changes::Listener,
    },
    model::cookie::Cookie,
};
use crate::disk::{Locked, kept_beside};

/// A jar and the file in which it is kept.
///
/// [`save`](Self::save) merges the jar's changes with what other processes have saved, so that two
/// processes lose none of each other's cookies. If both changed a cookie, the later change is kept.
/// A save replaces the whole file or nothing.
///
/// Dropping a `CookieFile` saves nothing: save it on the error path too.
///
/// A line of cookies.txt that cannot be read is [skipped](Self::skipped). Each save keeps it
/// unchanged and in its place. [`strict`](CookieFileBuilder::strict) makes it an error instead.
///
/// Until the `CookieFile` is dropped, its jar [logs](crate::cookie::CookieJarBuilder::log_changes)
/// the changes that are not saved yet.
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
///
/// # In async code
///
/// Opening and saving block the thread: they wait for the disk, and a save waits for other saves of
/// the same file (by default up to 10 s). Call them on a thread that may block:
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
/// # On disk
///
/// A save writes a temporary file (mode 0600) in the same directory, syncs it, renames it and syncs
/// the directory. If the path is a symbolic link, the file that it points to is replaced, and the
/// link stays. A process that is killed while it saves leaves its temporary file, `.NAME.save-` and
/// 16 letters. The next save of the same file removes it.
///
/// Meanwhile the save holds a lock on `.NAME.lock` in the same directory, which stays. The lock
/// file also holds the times of the changes, without values, since most formats do not keep them.
pub struct CookieFile {
    path: PathBuf,
    format: Format,
    jar: CookieJar,
    settings: Settings,
    skipped: Vec<SkippedLine>,
    unlisted: usize,
    changes: Listener,
    unsaved: Mutex<Unsaved>,
}

/// What is known of the file.
#[derive(Default)]
struct Unsaved {
    /// Whether the jar has cookies that the file never had. The file is then written even if
    /// nothing has changed since.
    is_new: bool,
    /// When the cookies that the file held at the last meeting were set.
    times: Times,
}

impl fmt::Debug for CookieFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, jar, skipped, .. } = self;
        f.debug_struct("CookieFile")
            .field("path", path)
            .field("format", format)
            .field("jar", jar)
            .field("skipped", skipped)
            .finish_non_exhaustive()
    }
}

impl CookieFile {
    /// Reads the file into a new jar. If there is no file, the jar is empty, and the first save
    /// creates the file.
    ///
    /// # Errors
    ///
    /// [`FileError`] if the file cannot be read, is not a regular file, is larger than 64 MiB, or
    /// is damaged. The file stays as it is. You decide whether to start empty.
    ///
    /// - A cookies.txt is damaged if it has lines other than comments and blank lines, but none is
    ///   a cookie. Lines that cannot be read are skipped.
    /// - A `Browser` file is damaged if it is not such an export, or if it has cookies, but none
    ///   that a jar could hold. A cookie that no jar could hold is skipped.
    /// - A `Json` or `CookieStore` file is damaged if any part cannot be read.
    pub fn open(path: impl Into<PathBuf>, format: Format) -> Result<Self, FileError> {
        Self::builder(path, format).open()
    }

    /// Reads the file into `jar`: see [`CookieFileBuilder::jar`].
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open). The jar is then unchanged.
    pub fn open_into(
        path: impl Into<PathBuf>,
        format: Format,
        jar: CookieJar,
    ) -> Result<Self, FileError> {
        Self::builder(path, format).jar(jar).open()
    }

    /// Starts to open a file with settings other than the defaults.
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

    /// Makes a `CookieFile` of `jar`. The file is not read until the first [`save`](Self::save),
    /// which merges the jar into it.
    ///
    /// If both have a cookie, the one that was set later is kept. The jar does not know which
    /// origins set its cookies, so a non-`Secure` cookie of the jar yields to a `Secure` one of
    /// the file. Cookies that are deleted from the jar after this call are also removed from the
    /// file.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieFile, CookieJar, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// let jar = CookieJar::new();
    /// jar.set(&"https://example.com/".parse()?, "id=42")?;
    /// CookieFile::with_jar(&path, Format::Netscape, jar).save()?;
    /// assert_eq!(CookieFile::open(&path, Format::Netscape)?.jar().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_jar(path: impl Into<PathBuf>, format: Format, jar: CookieJar) -> Self {
        let changes = jar.listen();
        let (settings, skipped) = (Settings::default(), Vec::new());
        let unsaved = Mutex::new(Unsaved { is_new: true, ..Unsaved::default() });
        Self { path: path.into(), format, jar, settings, skipped, unlisted: 0, changes, unsaved }
    }

    /// The jar.
    #[must_use]
    pub const fn jar(&self) -> &CookieJar {
        &self.jar
    }

    /// The path of the file, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lines that could not be read when the file was opened, with their numbers at that time;
    /// at most the first 10,000. Empty for all formats except cookies.txt and browsers' exports.
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

    /// The number of unreadable lines beyond those that [`skipped`](Self::skipped) lists.
    #[must_use]
    pub const fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Writes the jar's changes since the last save into the file, and keeps the changes of others.
    ///
    /// If others changed a cookie too, the later change is kept, whoever saves first. A cookie that
    /// a response or a caller deletes is removed from the file, even if this jar never had it. A
    /// cookie that expires in the jar, or that a limit evicts, stays in the file. So do cookies
    /// that the jar's rules reject or its limits have no room for. If the file is gone, all of the
    /// jar is written.
    ///
    /// The save waits while another one runs, for at most
    /// [`lock_timeout`](CookieFileBuilder::lock_timeout) (by default 10 s).
    ///
    /// If the file has a matching `Secure` cookie, a change by an insecure origin is not saved,
    /// whichever jar set the `Secure` cookie (RFC 6265bis section 5.7). The jar then drops the
    /// change and takes the `Secure` cookie. Nothing else changes in the jar.
    ///
    /// The time of a change is that of its jar's clock. A cookie that another program wrote has the
    /// time of the file. A time more than a day ahead is ignored.
    ///
    /// # Errors
    ///
    /// [`FileError`]. The file is then unchanged, except as [`FileError::Write`] says. A file that
    /// was damaged meanwhile is an error, and is not overwritten.
    pub fn save(&self) -> Result<(), FileError> {
        let until = self.until();
        self.save_changes(&mut self.unsaved(), until)
    }

    /// Like [`save`](Self::save), without waiting for others.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save). If another save is running, the error is [`FileError::Locked`],
    /// at once.
    pub fn try_save(&self) -> Result<(), FileError> {
        let mut unsaved = match self.unsaved.try_lock() {
            Ok(last) => last,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // A thread of our own is saving.
            Err(TryLockError::WouldBlock) => return Err(self.busy()),
        };
        self.save_changes(&mut unsaved, Some(Instant::now()))
    }

    /// Saves if the jar has changed since it was last saved or opened. Returns whether it saved.
    ///
    /// An expiry or eviction is not a change. Call it at intervals of your choice: this crate
    /// starts no task.
    ///
    /// # Errors
    ///
    /// As for [`save`](Self::save).
    pub fn save_if_changed(&self) -> Result<bool, FileError> {
        let until = self.until();
        let mut unsaved = self.unsaved();
        if !unsaved.is_new && !self.changes.is_pending() {
            return Ok(false);
        }
        self.save_changes(&mut unsaved, until).map(|()| true)
    }

    /// Replaces the file by the jar, without a merge. What others have saved is lost, and so are
    /// lines that could not be read. Use it for a file that no one else writes to.
    ///
    /// It is atomic and locked, like [`save`](Self::save).
    ///
    /// # Errors
    ///
    /// [`FileError`]. The file is then unchanged, except as [`FileError::Write`] says.
    pub fn overwrite(&self) -> Result<(), FileError> {
        let until = self.until();
        let mut unsaved = self.unsaved();
        let file = self.locked(until)?;
        let (kept, now) = (self.kept(&file), to_stamp(self.jar.time()));
        self.write(&file, &mut unsaved, |jar, taken, unsaved| {
            let ids: HashSet<_> = jar.iter().map(Cookie::id).collect();
            // A cookie that was evicted since is a change, but the jar does not hold it.
            let ours = taken
                .iter()
                .filter(|change| change.cookie().is_none() || ids.contains(change.id()));
            let brought = brought(self.format, jar, taken, &unsaved.times, now);
            let ours = ours.cloned().chain(brought).collect();
            (ours, Vec::new(), Times::default(), kept.deletions(&ids))
        })
    }

    fn save_changes(&self, unsaved: &mut Unsaved, until: Option<Instant>) -> Result<(), FileError> {
        // Locked before it is read. Otherwise a save of another process in between would be lost.
        let file = self.locked(until)?;
        let held = read(file.path(), self.format, &self.jar, self.settings)
            .map_err(|error| unread(&self.path, self.format, error))?;
        let (kept, now) = (self.kept(&file), to_stamp(self.jar.time()));
        self.write(&file, unsaved, |jar, taken, unsaved| {
            let mut ours = taken.to_vec();
            let brought = brought(self.format, jar, taken, &unsaved.times, now);
            let Some(Held { entries, written, .. }) = held else {
                // The file was removed, not emptied: the jar is all there is.
                ours.extend(brought);
                return (ours, Vec::new(), Times::default(), Vec::new());
            };
            if unsaved.is_new {
                // A cookie that was in the file, and that others removed, must not come back.
                ours.extend(brought.filter(|change| !unsaved.times.has(change.id())));
            }
            let times = Times::in_file(self.format, &entries, written, [&kept, &unsaved.times]);
            let ids = entries.iter().filter_map(Entry::cookie).map(Cookie::id).collect();
            (ours, entries, times, kept.deletions(&ids))
        })
    }

    /// Merges, and replaces the file. `parts` returns what to merge: our changes, and what the file
    /// holds, with its times and its deletions.
    fn write(
        &self,
        file: &Locked,
        unsaved: &mut Unsaved,
        parts: impl FnOnce(&[Cookie], &[Change], &Unsaved) -> Parts,
    ) -> Result<(), FileError> {
        // Before the changes are taken: the clock is the caller's, and may panic.
        let jar: Vec<Cookie> = self.jar.iter().collect();
        let taken = self.changes.take();
        let (ours, entries, times, deletions) = parts(&jar, &taken, unsaved);
        let terms = Terms {
            format: self.format,
            suffixes: self.jar.suffixes(),
            bounds: bounds(self.jar.limits()),
        };
        let theirs = Theirs { entries, times: &times, deletions };
        let Merged { entries, times, corrections } = merge(terms, &ours, &jar, theirs);
        let max_bytes = self.settings.max_bytes;
        if let Err(error) =
            file.replace(max_bytes, |sink| format::write(self.format, sink, &entries))
        {
            // The next save repeats what this one failed to write.
            self.changes.put_back(taken);
            return Err(self.unsaved_by(error));
        }
        // After the file: times for another state of a cookie are ignored.
        file.keep_beside(&times.to_bytes(), times::NAME);
        // What the jar changes from now on comes after what the file holds.
        self.jar.seen_stamp(times.latest());
        *unsaved = Unsaved { times, ..Unsaved::default() };
        self.jar.take_in(&self.changes, &corrections);
        Ok(())
    }

    fn kept(&self, file: &Locked) -> Times {
        let most = Times::most_bytes(self.settings.max_bytes);
        Times::from_bytes(&file.kept_beside(most), to_stamp(self.jar.time()))
    }

    fn unsaved(&self) -> MutexGuard<'_, Unsaved> {
        // It is replaced as a whole, after everything that can panic.
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a save that starts now gives up; `None` for never.
    fn until(&self) -> Option<Instant> {
        // Read before the wait for our own mutex, so that the wait for other threads counts too.
        Instant::now().checked_add(self.settings.lock_timeout)
    }

    fn locked(&self, until: Option<Instant>) -> Result<Locked, FileError> {
        let locked = Locked::at(&self.path, until).map_err(|error| self.unsaved_by(error))?;
        locked.ok_or_else(|| self.busy())
    }

    fn busy(&self) -> FileError {
        FileError::Locked { path: self.path.clone() }
    }

    fn unsaved_by(&self, source: io::Error) -> FileError {
        FileError::Write { path: self.path.clone(), source }
    }
}

/// Changes of ours; what the file holds, with its times and its deletions.
type Parts = (Vec<Change>, Vec<Entry>, Times, Vec<Change>);

/// Opens a [`CookieFile`] with other settings than the defaults. Created by
/// [`CookieFile::builder`].
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
    /// Default: false. Such lines are [skipped](CookieFile::skipped) and kept. The setting is for
    /// cookies.txt and browsers' exports. The other formats are always strict.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieFile, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// std::fs::write(&path, "example.com\tFALSE\t/\tTRUE\t0\tid\t42\nexported by hand\n")?;
    /// let file = CookieFile::builder(path, Format::Netscape).strict(true).open();
    /// let error = file.expect_err("a line cannot be read");
    /// assert_eq!(error.line(), Some(2));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// Sets the jar to read the file into, for a jar with its own limits or policy. Cookies of the
    /// file replace those of the jar.
    ///
    /// Default: a new jar.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieFile, CookieJar, CookieLimits, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// let limits = CookieLimits { total: 500, ..CookieLimits::default() };
    /// let jar = CookieJar::builder().limits(limits).build();
    /// let file = CookieFile::builder(path, Format::Netscape).jar(jar).open()?;
    /// # let _ = file;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn jar(mut self, jar: CookieJar) -> Self {
        self.jar = jar;
        self
    }

    /// How long a save waits for other saves of the same file. After that it fails with
    /// [`FileError::Locked`].
    ///
    /// Default: 10 s. A save takes a few milliseconds. The wait is longer if many processes save at
    /// once, or if one was stopped while it saved. [`Duration::MAX`] waits without a limit.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::cookie::{CookieFile, Format};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// let wait = Duration::from_secs(1);
    /// let file = CookieFile::builder(path, Format::Netscape).lock_timeout(wait).open()?;
    /// # let _ = file;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = timeout;
        self
    }

    /// Largest file that is read or written, in bytes.
    ///
    /// Default: 64 MiB. A larger file fails with [`ReadError::TooLarge`] at opening and at each
    /// save. A save that would write a larger file fails with [`FileError::Write`], and the file
    /// stays as it is.
    ///
    /// A jar holds at most 16 MiB at its default limits. A file can hold more, since cookies that a
    /// jar evicts stay in the file for others. A save does not grow a file beyond four times the
    /// cookies per site, or two times the total cookies or bytes, of the jar's
    /// [limits](crate::cookie::CookieLimits) or of the default ones, whichever are larger. Above
    /// that, the site with the most cookies drops some: first those that are not `Secure`, then
    /// those that the jar has evicted, then those that were set first. The half that has been in
    /// the file longest is dropped last. Lines that could not be read are always kept.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieFile, FileError, Format, ReadError};
    ///
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cookies.txt");
    /// std::fs::write(&path, "example.com\tFALSE\t/\tTRUE\t0\tid\t42\n")?;
    /// let file = CookieFile::builder(path, Format::Netscape).max_bytes(10).open();
    /// assert!(matches!(file, Err(FileError::Read { source: ReadError::TooLarge { .. }, .. })));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.settings.max_bytes = max_bytes;
        self
    }

    /// Reads the file.
    ///
    /// # Errors
    ///
    /// As for [`CookieFile::open`]. The jar is then unchanged.
    pub fn open(self) -> Result<CookieFile, FileError> {
        let Self { path, format, jar, settings } = self;
        // Before the jar is changed: a file with a damaged line must leave the jar as it was.
        let held =
            read(&path, format, &jar, settings).map_err(|error| unread(&path, format, error))?;
        let Held { entries, allowed, skipped, unlisted, written } = held.unwrap_or_default();
        let most = Times::most_bytes(settings.max_bytes);
        let kept = Times::from_bytes(&kept_beside(&path, most), to_stamp(jar.time()));
        let times = Times::in_file(format, &entries, written, [&kept, &Times::default()]);
        skipped.iter().for_each(SkippedLine::report);
        let changes = jar.listen();
        // As old as they are: what others set meanwhile, in this jar or in the file, is newer.
        let read = allowed.into_iter().map(|mut cookie| {
            let mark = times.of(&cookie.id(), format.state(&cookie));
            let mark = mark.unwrap_or(Mark::secure(0));
            // Most formats do not keep this time, and another file of this jar must not take it for
            // newer.
            cookie.times.updated = cookie.times.updated.min(mark.at() / 1_000);
            (mark.set(cookie), mark.at())
        });
        jar.take_in(&changes, &read.collect::<Vec<_>>());
        // Cookies that the jar held before are still to be written.
        let is_new = jar.iter().any(|cookie| !times.has(&cookie.id()));
        // Deletions too, which the file itself does not hold: what the jar changes from now on
        // comes after all that could be read.
        jar.seen_stamp(times.latest().max(kept.latest()));
        let unsaved = Mutex::new(Unsaved { is_new, times });
        Ok(CookieFile { path, format, jar, settings, skipped, unlisted, changes, unsaved })
    }
}

fn unread(path: &Path, format: Format, source: ReadError) -> FileError {
    FileError::Read { path: path.to_owned(), format, source }
}
