//! `FileError`: why a cookie file was not read or saved.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

use crate::cookie::format::{Format, ReadError};

/// Why a cookie file was not read or saved. The message names the file, and no cookie.
///
/// ```
/// use tower_outbound::cookie::{CookieFile, FileError, Format};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("cookies.txt");
/// std::fs::write(&path, "# a comment\nnot a cookie\n")?;
/// match CookieFile::open(&path, Format::Netscape) {
///     Err(error @ FileError::Read { .. }) => assert_eq!(error.line(), Some(2)),
///     other => panic!("the file is damaged, but: {other:?}"),
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be read, or a line of it is damaged.
    #[non_exhaustive]
    Read {
        /// The file.
        path: PathBuf,
        /// The format that was expected.
        format: Format,
        /// What is wrong with it, and in which line.
        source: ReadError,
    },
    /// The file cannot be replaced, and is unchanged. One exception: if only the directory could
    /// not be synced, the new file is in place but may not survive a crash.
    #[non_exhaustive]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// Another process or thread is saving the file, and
    /// [`CookieFileBuilder::lock_timeout`](crate::cookie::CookieFileBuilder::lock_timeout) is over.
    /// The file is unchanged. Try to save again later.
    #[non_exhaustive]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// The path of the file, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } | Self::Locked { path } => path,
        }
    }

    /// The damaged line, counted from 1. `None` for any other error.
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
            Self::Locked { path } => {
                write!(
                    f,
                    "cannot save cookies to {}: another process or thread is saving it",
                    path.display()
                )
            }
        }
    }
}

impl error::Error for FileError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            // Our own message ends with the error's text. A report of the whole chain would print
            // it twice.
            Self::Read { source, .. } => source.source(),
            Self::Write { source, .. } => source.source(),
            Self::Locked { .. } => None,
        }
    }
}
