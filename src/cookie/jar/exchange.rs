//! A jar's cookies as the bytes of a file, and back.

use std::io::{self, Read, Write};

use super::{CookieJar, slot::Keep};
use crate::cookie::{
    event,
    format::{self, Entry, Format, ReadError, ReadSummary, SkippedLine},
    model::cookie::Cookie,
};

impl CookieJar {
    /// Reads a file's cookies into this jar, under its rules.
    ///
    /// Cookies that have expired, and cookies that a rule refuses, are left out and not counted.
    /// The jar's limits may evict some of those that are counted. Lines of cookies.txt that cannot
    /// be read are listed. The whole source is read: bound one that is not yours with
    /// [`Read::take`].
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, Format};
    ///
    /// let text = "example.com\tFALSE\t/\tTRUE\t0\tid\t42\nexported by hand\n";
    /// let summary = CookieJar::new().read_from(text.as_bytes(), Format::Netscape)?;
    /// assert_eq!(summary.cookies, 1);
    /// assert_eq!(summary.skipped[0].to_string(), "line 2: expected seven fields between tabs");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the source cannot be read, if no line of a cookies.txt is a cookie although
    /// it has lines, or if any part of another format is damaged. A cookie of a browser that no jar
    /// could hold is skipped, unless all are. The jar is then as it was.
    pub fn read_from(
        &self,
        mut source: impl Read,
        format: Format,
    ) -> Result<ReadSummary, ReadError> {
        let mut text = Vec::new();
        source.read_to_end(&mut text)?;
        // All of it is read before any cookie is put in, so that a damaged file leaves no half.
        let contents = format::read(format, &text, self.now())?;
        let (skipped, unlisted) = (contents.skipped.clone(), contents.unlisted);
        skipped.iter().for_each(SkippedLine::report);
        let cookies = self.judge(contents.into_cookies());
        self.extend(&cookies);
        Ok(ReadSummary { cookies: cookies.len(), skipped, unlisted })
    }

    /// The live and allowed ones among cookies that no response set.
    pub(in crate::cookie) fn judge(&self, mut cookies: Vec<Cookie>) -> Vec<Cookie> {
        // The expired ones go first: a rule that refuses them is news to nobody.
        let now = self.now();
        cookies.retain(|cookie| cookie.times.expires > now && self.allows(cookie));
        cookies
    }

    /// Whether the rules allow a cookie that no response set.
    pub(in crate::cookie) fn allows(&self, cookie: &Cookie) -> bool {
        match cookie.judge(&self.shared.settings.suffixes) {
            Ok(()) => true,
            Err(reason) => {
                event::rejected(&cookie.name(), reason);
                false
            }
        }
    }

    /// Inserts cookies that were judged.
    pub(in crate::cookie) fn extend(&self, cookies: &[Cookie]) {
        let now = self.now();
        for cookie in cookies {
            self.put(cookie, now, Keep::Given);
        }
    }

    /// Writes every live cookie, in the order of creation.
    ///
    /// # Errors
    ///
    /// The errors of `sink`.
    pub fn write_to(&self, sink: impl Write, format: Format) -> io::Result<()> {
        // A snapshot, so that no lock is held while the sink writes.
        let entries: Vec<Entry> = self.snapshot().into_iter().map(Entry::Cookie).collect();
        format::write(format, sink, &entries)
    }
}
