//! The files a jar is kept in.

#[cfg(feature = "cookie_store")]
pub(in crate::cookie) mod cookie_store;
#[cfg(feature = "json")]
mod json;
mod netscape;

use std::{
    error, fmt,
    io::{self, Write},
};

use super::{
    model::cookie::Cookie,
    model::data::{Flags, Millis, NEVER},
};

/// A file format for cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// cookies.txt, as curl, wget, yt-dlp and Python's `MozillaCookieJar` read and write it. It
    /// keeps name, value, domain, host-only flag, path, `Secure`, `HttpOnly` (as `#HttpOnly_`)
    /// and the expiry in seconds, and does not know `SameSite`, `Partitioned` or times of
    /// creation: the order of lines stands for the last. A cookie with a tab in its name, value
    /// or path cannot be written and is left out. A session cookie is written with the expiry 0, as
    /// curl does, and read with 0 or none.
    ///
    /// What others make of it: Python skips session cookies unless it is told to `ignore_discard`
    /// where it writes, and to `ignore_expires` where it reads the expiry 0. Python refuses a
    /// file with bytes that are not UTF-8. Python writes `localhost` as `localhost.local`,
    /// which is read as that host. Wget skips the lines of `HttpOnly` cookies. curl reads
    /// a nameless cookie as a name without a value.
    Netscape,
    /// The jar's own file, which keeps everything: also `SameSite`, `Partitioned`, the order of
    /// creation, the times of creation, of the last `Set-Cookie` and of the last use, and bytes
    /// that are not UTF-8.
    ///
    /// An object with `version` (1) and `cookies`, an array of objects: `name`, `value` (text, or
    /// an array of bytes), `domain`, `path`, the flags `host_only`, `secure`, `http_only` and
    /// `partitioned` (false where absent), `same_site` (`strict`, `lax` or `none`), and
    /// `expires` (absent for a session cookie), `created`, `updated` and `sent`, in
    /// milliseconds since 1970. Unknown fields are passed over; a newer version is an error.
    #[cfg(feature = "json")]
    Json,
    /// The JSON of the `cookie_store` crate: an array, as `cookie_store::serde::json` writes it, or
    /// a cookie a line, as older releases do. It keeps no times of creation or use, and the
    /// expiry in seconds. What its store cannot hold is left out: a cookie without a name, with
    /// bytes that are not UTF-8, with Unicode white space at an end of its value, or of a host
    /// that the `url` crate refuses.
    #[cfg(feature = "cookie_store")]
    CookieStore,
}

impl Format {
    /// As an error names it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Netscape => "cookies.txt",
            #[cfg(feature = "json")]
            Self::Json => "a jar's JSON",
            #[cfg(feature = "cookie_store")]
            Self::CookieStore => "cookie_store's JSON",
        }
    }

    /// Whether two states of one cookie differ in what the format keeps, times of use apart.
    pub(super) fn tells_apart(self, a: &Cookie, b: &Cookie) -> bool {
        let flags = |cookie: &Cookie| match self {
            Self::Netscape => Flags { same_site: None, partitioned: false, ..cookie.data.flags },
            #[cfg(feature = "json")]
            _ => cookie.data.flags,
        };
        a.data.value() != b.data.value() || flags(a) != flags(b) || !self.same_expiry(a, b)
    }

    fn same_expiry(self, a: &Cookie, b: &Cookie) -> bool {
        let (a, b) = (a.times.expires, b.times.expires);
        match self {
            #[cfg(feature = "json")]
            Self::Json => a == b,
            _ => (a == NEVER) == (b == NEVER) && a.div_ceil(1000) == b.div_ceil(1000),
        }
    }
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
            Self::Io(error) => error.source(),
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
        #[cfg(feature = "json")]
        Format::Json => json::read(text, now),
        #[cfg(feature = "cookie_store")]
        Format::CookieStore => cookie_store::read(text),
    }
}

pub(super) fn write(format: Format, sink: impl Write, cookies: &[Cookie]) -> io::Result<()> {
    match format {
        Format::Netscape => netscape::write(sink, cookies),
        #[cfg(feature = "json")]
        Format::Json => json::write(sink, cookies),
        #[cfg(feature = "cookie_store")]
        Format::CookieStore => cookie_store::write(sink, cookies),
    }
}

/// A file that must be text, from behind the mark that some editors put in front.
#[cfg(feature = "json")]
fn text(bytes: &[u8]) -> Result<&str, ReadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        ReadError::Line { line: lines(before) + 1, reason: "it is not UTF-8" }
    })
}

/// The line that `part`, a piece of `text`, begins in.
#[cfg(feature = "json")]
fn line_of(text: &str, part: &str) -> usize {
    let start = part.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    lines(text.as_bytes().get(..start).unwrap_or_default()) + 1
}

#[cfg(feature = "json")]
fn lines(text: &[u8]) -> usize {
    text.iter().filter(|&&byte| byte == b'\n').count()
}
