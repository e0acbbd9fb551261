//! `FileError`: why a cookie file was not read or saved.

use std::{
    error, fmt, io,
    path::{Path, PathBuf},
};

use crate::cookie::format::{Format, ReadError};

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
    /// Another process or thread is saving the file, and the time to wait is over: see
    /// [`CookieFileBuilder::lock_timeout`](crate::cookie::CookieFileBuilder::lock_timeout). The
    /// file is as it was. Save again later.
    #[non_exhaustive]
    Locked {
        /// The file.
        path: PathBuf,
    },
}

impl FileError {
    /// The file, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } | Self::Locked { path } => path,
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
            // Our own message ends with the words of the error itself: a report of the whole chain
            // would print them twice.
            Self::Read { source, .. } => source.source(),
            Self::Write { source, .. } => source.source(),
            Self::Locked { .. } => None,
        }
    }
}
