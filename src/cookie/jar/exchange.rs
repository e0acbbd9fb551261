//! Reads a jar's cookies from the bytes of a file, and writes them.

use std::io::{self, Read, Write};

use super::{CookieJar, slot::Keep};
use crate::cookie::{
    event,
    format::{self, Entry, Format, ReadError, ReadSummary, SkippedLine},
    model::cookie::Cookie,
};

impl CookieJar {
    /// Reads a file's cookies into this jar.
    ///
    /// Expired cookies, and cookies that the rules reject, are left out and not counted. The jar's
    /// limits may evict some of the counted ones. Lines of cookies.txt that cannot be read are
    /// listed in the summary. The whole source is read into memory: bound a source that you do not
    /// trust with [`Read::take`].
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
    /// [`ReadError`] if the source cannot be read, if a cookies.txt has lines but no cookie, or if
    /// any part of another format is damaged. In a browser's export, a cookie that no jar could
    /// hold is skipped. It is an error only if no cookie is left. On an error the jar is unchanged.
    pub fn read_from(
        &self,
        mut source: impl Read,
        format: Format,
    ) -> Result<ReadSummary, ReadError> {
        let mut text = Vec::new();
        source.read_to_end(&mut text)?;
        // Everything is read before the first cookie is stored, so a damaged file leaves no partial
        // result.
        let contents = format::read(format, &text, self.now())?;
        let (skipped, unlisted) = (contents.skipped.clone(), contents.unlisted);
        skipped.iter().for_each(SkippedLine::report);
        let cookies = self.judge(contents.into_cookies());
        self.extend(&cookies);
        Ok(ReadSummary { cookies: cookies.len(), skipped, unlisted })
    }

    /// Keeps the live cookies that the rules allow, among cookies that no response set.
    pub(in crate::cookie) fn judge(&self, mut cookies: Vec<Cookie>) -> Vec<Cookie> {
        // Expired cookies first: a rejection of one interests nobody.
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

    /// Inserts cookies that the rules allow.
    pub(in crate::cookie) fn extend(&self, cookies: &[Cookie]) {
        let now = self.now();
        for cookie in cookies {
            self.put(cookie, now, Keep::Given);
        }
    }

    /// Writes all live cookies, in the order of creation. A cookie that the format cannot hold is
    /// left out: see [`Format`].
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, Format};
    ///
    /// let jar = CookieJar::new();
    /// jar.set(&"https://example.com/".parse()?, "id=42; Secure")?;
    /// let mut text = Vec::new();
    /// jar.write_to(&mut text, Format::Netscape)?;
    /// assert!(String::from_utf8(text)?.contains("example.com\tFALSE\t/\tTRUE\t0\tid\t42"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
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
