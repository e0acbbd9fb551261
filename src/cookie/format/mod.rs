//! The files a jar is kept in.

mod netscape;

use std::{
    error, fmt,
    io::{self, Write},
};

use super::{cookie::Cookie, data::Millis};

/// A file format for cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// cookies.txt, as curl, wget, yt-dlp and Python's `MozillaCookieJar` read and write it. It keeps name, value,
    /// domain, host-only flag, path, `Secure`, `HttpOnly` (as `#HttpOnly_`) and the expiry in seconds, and does not
    /// know `SameSite`, `Partitioned` or times of creation: the order of lines stands for the last. A cookie with a
    /// tab in its name or path cannot be written and is left out. A session cookie is written with the expiry 0, as curl
    /// does, and read with 0 or none; Python's jar reads 0 with `ignore_expires=True` alone.
    Netscape,
}

/// Why a file was not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// It could not be read at all.
    Io(io::Error),
    /// A line is no cookie.
    #[non_exhaustive]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong with it; nothing of the line itself, which may be a secret.
        reason: &'static str,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Line { line, reason } => write!(f, "line {line}: {reason}"),
        }
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Line { .. } => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Every cookie of a file in its order, those that have expired among them.
pub(super) fn read(format: Format, text: &[u8], now: Millis) -> Result<Vec<Cookie>, ReadError> {
    match format {
        Format::Netscape => netscape::read(text, now),
    }
}

pub(super) fn write(format: Format, sink: impl Write, cookies: &[Cookie]) -> io::Result<()> {
    match format {
        Format::Netscape => netscape::write(sink, cookies),
    }
}
