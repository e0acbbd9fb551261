//! `FileStoreError`: why a session's file was not read or changed.

use std::{error, fmt, io, time::Duration};

/// Why a session's file was not read or changed. It is as it was.
///
/// It names no session: people put tokens into keys.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileStoreError {
    /// The disk refused: no permission, no room, not a directory.
    #[non_exhaustive]
    Disk {
        /// What was tried.
        tried: &'static str,
        /// Why not, without a path.
        source: io::Error,
    },
    /// A file is not one of a session's, or of another session. It is kept as it is. To start
    /// without it, [forget](crate::session::SessionStore::forget) the session.
    Damaged,
    /// Another process or thread holds the session's lock, and the time to wait is over. See
    /// [`FileStore::lock_timeout`](crate::session::FileStore::lock_timeout).
    #[non_exhaustive]
    Locked {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The session's cookies of this site would take more than this many bytes. See
    /// [`FileStore::max_bytes`](crate::session::FileStore::max_bytes).
    #[non_exhaustive]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// The key of the session is longer than this many bytes, and no file can have such a name.
    #[non_exhaustive]
    KeyTooLong {
        /// The bound.
        max_bytes: usize,
    },
    /// The runtime is shutting down, or there is none.
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
            Self::Damaged => f.write_str("a session's file is damaged, or belongs to another"),
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

// No `source`: our own message ends with its words.
impl error::Error for FileStoreError {}
