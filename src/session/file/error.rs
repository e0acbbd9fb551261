//! `FileStoreError`: why a session's file was not read or changed.

use std::{error, fmt, io, time::Duration};

/// Why a [`FileStore`](crate::session::FileStore) could not read or change a session's file.
///
/// A change that fails leaves the old file. One exception: if only the directory could not be
/// synced, the new file is in place, but may not survive a crash. A failed `forget` may have
/// removed some of the session's files.
///
/// The message names no session: people put tokens into keys.
///
/// ```
/// use tower_outbound::session::{FileStore, FileStoreError};
///
/// # let directory = tempfile::tempdir()?;
/// let file = directory.path().join("sessions");
/// std::fs::write(&file, "")?;
/// let error = FileStore::open(file).expect_err("it is not a directory");
/// assert!(matches!(error, FileStoreError::Disk { .. }));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FileStoreError {
    /// The file system failed: for example no permission, no space, or not a directory.
    #[non_exhaustive]
    Disk {
        /// What the store tried to do.
        tried: &'static str,
        /// The error of the system, without a path.
        source: io::Error,
    },
    /// The file is damaged, or belongs to another session. It is kept. To start without it,
    /// [forget](crate::session::SessionStore::forget) the session.
    Damaged,
    /// Another process or thread held the session's lock for longer than
    /// [`FileStore::lock_timeout`](crate::session::FileStore::lock_timeout).
    #[non_exhaustive]
    Locked {
        /// How long the store waited.
        waited: Duration,
    },
    /// The session's cookies of this site need more bytes than
    /// [`FileStore::max_bytes`](crate::session::FileStore::max_bytes).
    #[non_exhaustive]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// The session's key is too long for a file name.
    #[non_exhaustive]
    KeyTooLong {
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// There is no tokio runtime, or it is shutting down.
    Stopped,
}

impl FileStoreError {
    /// Without the path, which names the session.
    pub(super) fn disk(tried: &'static str, error: &io::Error) -> Self {
        let source = match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => error.kind().into(),
        };
        Self::Disk { tried, source }
    }
}

impl fmt::Display for FileStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk { tried, source } => write!(f, "cannot {tried}: {source}"),
            Self::Damaged => {
                f.write_str("a session's file is damaged, or belongs to another session")
            }
            Self::Locked { waited } => {
                write!(f, "another process or thread has held a session's lock for {waited:?}")
            }
            Self::TooLarge { max_bytes } => {
                write!(f, "a session's cookies of one site take more than {max_bytes} bytes")
            }
            Self::KeyTooLong { max_bytes } => {
                write!(f, "a session's key is longer than {max_bytes} bytes")
            }
            Self::Stopped => f.write_str("there is no tokio runtime, or it is shutting down"),
        }
    }
}

// No `source`: our own message ends with its text.
impl error::Error for FileStoreError {}
