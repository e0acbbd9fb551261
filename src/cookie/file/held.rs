//! What a file holds, by its format and the rules of a jar.

use std::path::Path;

use super::{merge::each_once, settings::Settings, times::MOST_AHEAD};
use crate::cookie::{
    format::{self, Contents, Entry, Format, ReadError, SkippedLine},
    jar::{
        CookieJar,
        change::{Stamp, to_stamp},
    },
    model::{cookie::Cookie, data::NEVER},
};
use crate::disk::contents;

/// What a file holds, each cookie once. Cookies that expired more than a day ago are left out. The
/// day is for clocks that differ: this one may be ahead of the others.
#[derive(Default)]
pub(super) struct Held {
    /// Also cookies that the jar's rules reject. The rules of other programs may not reject them,
    /// so a save keeps them.
    pub(super) entries: Vec<Entry>,
    /// The cookies that the jar's rules allow.
    pub(super) allowed: Vec<Cookie>,
    pub(super) skipped: Vec<SkippedLine>,
    pub(super) unlisted: usize,
    /// When the file was written.
    pub(super) written: Stamp,
}

/// `None` if there is no file.
pub(super) fn read(
    path: &Path,
    format: Format,
    jar: &CookieJar,
    settings: Settings,
) -> Result<Option<Held>, ReadError> {
    let Settings { strict, max_bytes, .. } = settings;
    let Some((text, written)) = contents(path, max_bytes)? else { return Ok(None) };
    if text.len() > max_bytes {
        return Err(ReadError::TooLarge { max_bytes });
    }
    let now = jar.now();
    let contents = format::read(format, &text, now)?;
    let Contents { entries, skipped, unlisted } = if strict { contents.whole()? } else { contents };
    let expires = |entry: &Entry| entry.cookie().map_or(NEVER, |cookie| cookie.times.expires);
    let is_left = |entry: &Entry| expires(entry) > now.saturating_sub(MOST_AHEAD / 1_000);
    let judged = entries.into_iter().filter(is_left).map(|entry| {
        let is_live = expires(&entry) > now;
        let allowed = entry.cookie().is_some_and(|cookie| is_live && jar.allows(cookie));
        (entry, allowed)
    });
    // A file that others append to may name a cookie twice, and the merge goes by identity.
    let judged = each_once(judged.collect());
    let allowed = judged.iter().filter(|(_, allowed)| *allowed);
    let allowed = allowed.filter_map(|(entry, _)| entry.cookie().cloned()).collect();
    let entries = judged.into_iter().map(|(entry, _)| entry).collect();
    // A clock of another machine may be ahead. It was written before now.
    let written = to_stamp(written).min(to_stamp(jar.time()));
    Ok(Some(Held { entries, allowed, skipped, unlisted, written }))
}
