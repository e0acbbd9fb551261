//! When each cookie of a file was set or deleted, and by which kind of origin. Most formats do not
//! keep that, and no format keeps deletions, so it is kept next to the file. Pure: bytes to times
//! and back.

use std::collections::{HashMap, HashSet};

use crate::cookie::{
    format::{Entry, Format},
    jar::{
        change::{Change, Stamp},
        replay::Last,
        shares::{self, Bounds, Item},
    },
    model::{cookie::Cookie, id::CookieId, suffix::PublicSuffixes},
};

/// Times of cookies. The time of a cookie counts only for the state with which it was kept: another
/// program, which does not know of these times, may have written another state.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Times {
    by_id: HashMap<CookieId, (Mark, State)>,
}

/// When it was set or deleted, and whether a secure origin or the caller did it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Mark {
    at: Stamp,
    from_secure: bool,
    /// If an origin that is not secure did it: when a secure one last changed the cookie before. A
    /// `Secure` cookie that was set before that, and is saved later, is logged out.
    after_secure: Option<Stamp>,
}

impl Mark {
    /// By a secure origin, or by the caller.
    pub(super) const fn secure(at: Stamp) -> Self {
        Self { at, from_secure: true, after_secure: None }
    }

    /// By an origin that is not secure, if the flag says so.
    pub(super) const fn by(at: Stamp, from_secure: bool) -> Self {
        Self { at, from_secure, after_secure: None }
    }

    pub(super) fn of(last: &Last<'_>) -> Self {
        let Last { change, after_secure, .. } = *last;
        Self { at: change.stamp(), from_secure: change.from_secure(), after_secure }
    }

    pub(super) const fn at(&self) -> Stamp {
        self.at
    }

    /// The change that it was.
    pub(super) fn set(self, cookie: Cookie) -> Change {
        Change::set_at(cookie, self.at, self.from_secure).after_secure(self.after_secure)
    }

    fn deleted(self, id: CookieId) -> Change {
        Change::deleted_at(id, self.at, self.from_secure).after_secure(self.after_secure)
    }
}

/// What [`Format::state`] says of a cookie. `None` if it was deleted.
type State = Option<u64>;

/// Most deletions that are kept: the latest of each site. Each keeps an older change, which a
/// process has not saved yet, from bringing its cookie back. A site with many drops some first.
const DELETIONS: Bounds = Bounds {
    per_site: usize::MAX,
    total: 4_096,
    // A server chooses the names, and so how long they are.
    bytes: 1 << 20,
    spares_older: false,
};

/// A time further ahead than this is ignored. The clock was wrong, or the time was forged, and the
/// cookie could never be changed again.
pub(super) const MOST_AHEAD: Stamp = 24 * 60 * 60 * 1_000_000;

/// The first bytes. Another layout has other ones.
const MAGIC: &[u8] = b"tower-outbound cookie times 3\n";
/// At the beginning of every layout.
pub(super) const NAME: &[u8] = b"tower-outbound cookie times ";

/// Flags of an entry.
const IS_THERE: u8 = 1;
const IS_INSECURE: u8 = 2;
/// The time of the secure change before it follows.
const IS_AFTER_SECURE: u8 = 4;

/// The most bytes of an entry beside its id: time, flags, state, length and the time before.
const ENTRY: usize = 8 + 1 + 8 + 2 + 8;

impl Times {
    /// When a cookie was set that is in that state.
    pub(super) fn of(&self, id: &CookieId, state: u64) -> Option<Mark> {
        self.by_id.get(id).filter(|(_, kept)| *kept == Some(state)).map(|(mark, _)| *mark)
    }

    /// What was deleted, except for these cookies.
    pub(super) fn deletions(&self, but: &HashSet<CookieId>) -> Vec<Change> {
        let deleted =
            self.by_id.iter().filter(|(id, (_, state))| state.is_none() && !but.contains(id));
        deleted.map(|(id, (mark, _))| mark.deleted(id.clone())).collect()
    }

    pub(super) fn latest(&self) -> Stamp {
        self.by_id.values().map(|(mark, _)| mark.at).max().unwrap_or_default()
    }

    pub(super) fn has(&self, id: &CookieId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn set(&mut self, id: CookieId, mark: Mark, state: u64) {
        self.by_id.insert(id, (mark, Some(state)));
    }

    /// Takes over deletions, as many as are kept.
    pub(super) fn add_deletions<'a>(
        &mut self,
        deletions: impl Iterator<Item = (&'a CookieId, Mark)>,
        suffixes: &PublicSuffixes,
    ) {
        let mut all: Vec<_> = deletions.collect();
        all.sort_by_key(|(_, mark)| mark.at);
        let items = all.iter().map(|(id, mark)| Item {
            site: suffixes.site(id.domain()).key,
            bytes: id.as_bytes().len(),
            rank: (mark.from_secure || mark.after_secure.is_some(), mark.at),
            is_there: false,
        });
        let gone = shares::over(&items.collect::<Vec<_>>(), DELETIONS);
        for (place, (id, mark)) in all.into_iter().enumerate() {
            if !gone.contains(&place) {
                self.by_id.insert(id.clone(), (mark, None));
            }
        }
    }

    /// The times of what a file holds: from `kept`, or else from `known`. A cookie in neither is as
    /// old as the file (`written`), or older if the format says so.
    pub(super) fn in_file<'a>(
        format: Format,
        entries: impl IntoIterator<Item = &'a Entry>,
        written: Stamp,
        [kept, known]: [&Self; 2],
    ) -> Self {
        let time = |cookie: &Cookie| {
            let (id, state) = (cookie.id(), format.state(cookie));
            let mark = kept.of(&id, state).or_else(|| known.of(&id, state));
            let at = || written.min(last_set(cookie));
            let mark = mark.unwrap_or_else(|| Mark::secure(at()));
            (id, (mark, Some(state)))
        };
        Self { by_id: entries.into_iter().filter_map(Entry::cookie).map(time).collect() }
    }

    /// The longest bytes that are written beside a file of that size.
    pub(super) const fn most_bytes(file_bytes: usize) -> usize {
        // A line of cookies.txt holds the id and 17 bytes more, and the other formats hold more.
        let most_deletions = DELETIONS.bytes + DELETIONS.total * ENTRY;
        file_bytes.saturating_mul(2).saturating_add(most_deletions + MAGIC.len() + 8)
    }

    /// Empty if the bytes are damaged, of another layout, or half old and half new. Times too far
    /// ahead of `now` are left out.
    pub(super) fn from_bytes(bytes: &[u8], now: Stamp) -> Self {
        let mut times = Self::read(bytes).unwrap_or_default();
        let latest = now.saturating_add(MOST_AHEAD);
        times.by_id.retain(|_, (mark, _)| mark.at.max(mark.after_secure.unwrap_or(0)) <= latest);
        times
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (bytes, sum) = bytes.split_last_chunk::<8>()?;
        if sum_of(bytes) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (mut rest, mut by_id) = (bytes.strip_prefix(MAGIC)?, HashMap::new());
        while let Some((at, after)) = rest.split_first_chunk::<8>() {
            let (flags, after) = after.split_first()?;
            let (state, after) = after.split_first_chunk::<8>()?;
            let (len, after) = after.split_first_chunk::<2>()?;
            let (id, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            let state = (flags & IS_THERE != 0).then(|| u64::from_le_bytes(*state));
            let mut mark = Mark::by(u64::from_le_bytes(*at), flags & IS_INSECURE == 0);
            rest = after;
            if flags & IS_AFTER_SECURE != 0 {
                let (before, after) = rest.split_first_chunk::<8>()?;
                mark.after_secure = Some(u64::from_le_bytes(*before));
                rest = after;
            }
            by_id.insert(CookieId::from_bytes(id)?, (mark, state));
        }
        Some(Self { by_id })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (id, (Mark { at, from_secure, after_secure }, state)) in &self.by_id {
            // The rules bound name, domain and path far below this.
            let Ok(len) = u16::try_from(id.as_bytes().len()) else { continue };
            bytes.extend(at.to_le_bytes());
            let is_there = if state.is_some() { IS_THERE } else { 0 };
            let is_insecure = if *from_secure { 0 } else { IS_INSECURE };
            let is_after = if after_secure.is_some() { IS_AFTER_SECURE } else { 0 };
            bytes.push(is_there | is_insecure | is_after);
            bytes.extend(state.unwrap_or_default().to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(id.as_bytes());
            bytes.extend(after_secure.iter().flat_map(|at| at.to_le_bytes()));
        }
        let sum = sum_of(&bytes).to_le_bytes();
        bytes.extend(sum);
        bytes
    }
}

/// When a cookie was last set, by its own time. That is in whole milliseconds, so it is rounded up
/// to the last microsecond.
pub(super) fn last_set(cookie: &Cookie) -> Stamp {
    cookie.times.updated.saturating_mul(1_000).saturating_add(999)
}

/// Fletcher's checksum. It detects a torn write, not an attack.
fn sum_of(bytes: &[u8]) -> u64 {
    let (low, high) = bytes.iter().fold((1_u32, 0_u32), |(low, high), &byte| {
        let low = low.wrapping_add(byte.into());
        (low, high.wrapping_add(low))
    });
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(site: &str, name: impl std::fmt::Display) -> CookieId {
        CookieId::from_bytes(format!("-{site}\0/\0{name}").as_bytes()).unwrap()
    }

    fn times() -> Times {
        let mut times = Times::default();
        let mark = Mark::by;
        times.by_id.insert(id("h.example", "set"), (mark(7, true), Some(9)));
        times.by_id.insert(id("h.example", "clear"), (mark(7, false), Some(9)));
        times.by_id.insert(id("h.example", "deleted"), (mark(8, false), None));
        let after = Mark { after_secure: Some(5), ..mark(8, false) };
        times.by_id.insert(id("h.example", "set again"), (after, Some(3)));
        times
    }

    #[test]
    fn times_that_are_cut_or_changed_anywhere_are_none() {
        let bytes = times().to_bytes();
        assert_eq!(Times::from_bytes(&bytes, 10), times());
        let mut wrong = Vec::new();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            for bytes in [&bytes[..at], &changed] {
                if Times::from_bytes(bytes, 10) != Times::default() {
                    wrong.push(at);
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_time_that_is_days_ahead_is_not_believed() {
        let mut ahead = times();
        let far = Mark::secure(u64::MAX);
        let before = Mark { after_secure: Some(u64::MAX), ..Mark::by(1, false) };
        ahead.by_id.insert(id("h.example", "before"), (before, Some(1)));
        ahead.by_id.insert(id("h.example", "forged"), (far, Some(1)));
        ahead.by_id.insert(id("h.example", "gone"), (far, None));
        assert_eq!(Times::from_bytes(&ahead.to_bytes(), 10), times());
    }

    #[test]
    fn the_latest_deletions_are_kept_and_a_flood_of_one_site_takes_no_other_s() {
        let flood = |len: usize, name: &dyn Fn(usize) -> String| {
            let change = |n| (id("flood.example", name(n)), Mark::secure(100 + n as u64));
            let others = (0..100).map(|n| (id(&format!("h{n}.example"), "sid"), Mark::secure(n)));
            (0..len).map(change).chain(others).collect::<Vec<_>>()
        };
        let many = flood(6_000, &|n| n.to_string());
        let long = flood(2_000, &|n| format!("{n:04000}"));
        let mut wrong = Vec::new();
        for (row, deletions) in [("many", many), ("long", long)] {
            let mut times = Times::default();
            times.add_deletions(
                deletions.iter().map(|(id, mark)| (id, *mark)),
                &PublicSuffixes::Embedded,
            );
            let others =
                (0..100).filter(|n| times.has(&id(&format!("h{n}.example"), "sid"))).count();
            let (len, bytes) = (times.by_id.len(), times.to_bytes().len());
            let has_latest = times.latest() == 100 + deletions.len() as u64 - 101;
            let is_bounded = len <= DELETIONS.total && bytes <= Times::most_bytes(0);
            if others != 100 || !has_latest || !is_bounded || len < 200 {
                wrong.push(format!("{row}: {others} of 100, {len} in {bytes} bytes"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
