//! Why a file was not read, and in which line.

use std::{error, fmt, io};

/// Why a file was not read. From [`CookieJar::read_from`](crate::cookie::CookieJar::read_from), and
/// the field `source` of [`FileError::Read`](crate::cookie::FileError::Read).
///
/// `Error::source` of that `FileError` does not return it, because the message of the `FileError`
/// already has its text.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, Format, ReadError};
///
/// let read = CookieJar::new().read_from(&b"<html>"[..], Format::Netscape);
/// let error = read.expect_err("it has no cookie");
/// assert!(matches!(error, ReadError::Line { line: 1, .. }));
/// assert_eq!(error.to_string(), "line 1: it is HTML, not cookies.txt");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The source could not be read.
    Io(io::Error),
    /// A line is damaged.
    #[non_exhaustive]
    Line {
        /// Number of the line, counted from 1.
        line: usize,
        /// What is wrong with the line. It does not quote the line, which may hold a secret.
        reason: &'static str,
    },
    /// The file is larger than
    /// [`CookieFileBuilder::max_bytes`](crate::cookie::CookieFileBuilder::max_bytes).
    #[non_exhaustive]
    TooLarge {
        /// The limit, in bytes.
        max_bytes: usize,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Line { line, reason } => write!(f, "line {line}: {reason}"),
            Self::TooLarge { max_bytes } => {
                write!(f, "it is larger than {max_bytes} bytes, the most that is read")
            }
        }
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            // Not the error itself: our own message shows its text already.
            Self::Io(error) => error.source(),
            Self::Line { .. } | Self::TooLarge { .. } => None,
        }
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A file that must be text.
#[cfg(feature = "json")]
pub(super) fn text(bytes: &[u8]) -> Result<&str, ReadError> {
    // Some editors put a byte-order mark in front, which JSON has no place for.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        ReadError::Line { line: lines(before) + 1, reason: "it is not UTF-8" }
    })
}

/// The line that `part`, a piece of `text`, begins in.
#[cfg(feature = "json")]
pub(super) fn line_of(text: &str, part: &str) -> usize {
    // By address: the reader keeps no positions, but borrows its parts from the text.
    let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    lines(text.as_bytes().get(..start).unwrap_or_default()) + 1
}

#[cfg(feature = "json")]
fn lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}
