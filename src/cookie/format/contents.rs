//! What a file holds: its cookies, and the lines that could not be read.

use std::fmt;

use super::read_error::ReadError;
use crate::cookie::{event, model::cookie::Cookie};

/// What a file holds, in its order.
#[derive(Default)]
pub(in crate::cookie) struct Contents {
    pub(in crate::cookie) entries: Vec<Entry>,
    pub(in crate::cookie) skipped: Vec<SkippedLine>,
    /// How many more lines were skipped than are listed.
    pub(in crate::cookie) unlisted: usize,
}

/// Most lines that are listed. Nobody reads more, and the list for a file of one-byte lines would
/// take twelve times its memory.
const MOST_LISTED: usize = 10_000;

/// A piece of a file.
#[derive(Clone)]
pub(in crate::cookie) enum Entry {
    /// A cookie, expired or not.
    Cookie(Cookie),
    /// Bytes that only the format knows: lines that could not be read, or the `origins` of a
    /// `storageState`. A save writes them again as they are, in their place.
    Kept(Vec<u8>),
}

impl Entry {
    pub(in crate::cookie) const fn cookie(&self) -> Option<&Cookie> {
        match self {
            Self::Cookie(cookie) => Some(cookie),
            Self::Kept(_) => None,
        }
    }
}

impl Contents {
    /// The contents of a file in which each piece is a cookie.
    #[cfg(feature = "json")]
    pub(super) fn of(cookies: Vec<Cookie>) -> Self {
        Self { entries: cookies.into_iter().map(Entry::Cookie).collect(), ..Self::default() }
    }

    /// Keeps a line that could not be read.
    pub(super) fn skip(&mut self, line: usize, text: &[u8], reason: &'static str) {
        // Lines in a row are one entry: with one for each, a file of short lines would take fifty
        // times its size in memory.
        match self.entries.last_mut() {
            Some(Entry::Kept(lines)) => {
                lines.push(b'\n');
                lines.extend_from_slice(text);
            }
            _ => self.entries.push(Entry::Kept(text.to_owned())),
        }
        self.list(line, reason);
    }

    /// Lists a line that could not be read.
    pub(super) fn list(&mut self, line: usize, reason: &'static str) {
        if self.skipped.len() < MOST_LISTED {
            self.skipped.push(SkippedLine { line, reason });
        } else {
            self.unlisted += 1;
        }
    }

    /// The contents, or an error that names the first line that was skipped.
    pub(in crate::cookie) fn whole(self) -> Result<Self, ReadError> {
        match self.skipped.first() {
            Some(&first) => Err(first.into()),
            None => Ok(self),
        }
    }

    pub(in crate::cookie) fn into_cookies(self) -> Vec<Cookie> {
        let cookie = |entry| match entry {
            Entry::Cookie(cookie) => Some(cookie),
            Entry::Kept(_) => None,
        };
        self.entries.into_iter().filter_map(cookie).collect()
    }
}

/// What [`CookieJar::read_from`](crate::cookie::CookieJar::read_from) has read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadSummary {
    /// The number of cookies given to the jar: those that have not expired and that its rules
    /// allow.
    pub cookies: usize,
    /// The lines that could not be read, in the order of the file; at most the first 10,000. Only
    /// cookies.txt and browsers' exports have any. In the other formats such a line is an error.
    pub skipped: Vec<SkippedLine>,
    /// How many more lines could not be read than are listed.
    pub unlisted: usize,
}

/// A line of cookies.txt, or a cookie of a browser's export, that could not be read. The rest of
/// the file was read.
///
/// Neither field quotes the line, which may hold a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct SkippedLine {
    /// Number of the line when the file was read, counted from 1. For an exported cookie, its first
    /// line.
    pub line: usize,
    /// Why it could not be read.
    pub reason: &'static str,
}

impl SkippedLine {
    pub(in crate::cookie) fn report(&self) {
        event::skipped(self.line, self.reason);
    }
}

impl fmt::Display for SkippedLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, reason } = self;
        write!(f, "line {line}: {reason}")
    }
}

impl From<SkippedLine> for ReadError {
    fn from(SkippedLine { line, reason }: SkippedLine) -> Self {
        Self::Line { line, reason }
    }
}
