//! When each cookie of a file was set or deleted. Most formats do not keep it, and no format keeps
//! what was deleted, so that it is kept beside the file. Pure: bytes in, times out, and back.

use std::collections::HashMap;

use crate::cookie::{
    format::{Entry, Format},
    jar::log::{Change, Stamp},
    model::{cookie::Cookie, id::CookieId},
};

/// Times of cookies. One of a cookie that is there counts only for the state that it was kept with:
/// another program may have written another one, and does not know of these times.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Times {
    by_id: HashMap<CookieId, (Stamp, State)>,
}

/// What [`Format::state`] says of a cookie. `None` if it was deleted.
type State = Option<u64>;

/// Deletions that are kept, the latest. Each keeps an older change from bringing its cookie back,
/// if a process has not saved that change yet.
const MOST_DELETIONS: usize = 4_096;

/// At the beginning; another layout would have another one.
const MAGIC: &[u8] = b"tower-outbound cookie times 1\n";

impl Times {
    /// When a cookie was set that is in that state.
    pub(super) fn of(&self, id: &CookieId, state: u64) -> Option<Stamp> {
        self.by_id.get(id).filter(|(_, kept)| *kept == Some(state)).map(|(at, _)| *at)
    }

    /// When a cookie was deleted.
    pub(super) fn deleted(&self, id: &CookieId) -> Option<Stamp> {
        self.by_id.get(id).filter(|(_, kept)| kept.is_none()).map(|(at, _)| *at)
    }

    pub(super) fn latest(&self) -> Stamp {
        self.by_id.values().map(|(at, _)| *at).max().unwrap_or_default()
    }

    pub(super) fn has(&self, id: &CookieId) -> bool {
        self.by_id.contains_key(id)
    }

    pub(super) fn set(&mut self, id: CookieId, at: Stamp, state: u64) {
        self.by_id.insert(id, (at, Some(state)));
    }

    /// Takes over the deletions of cookies that are not there.
    pub(super) fn add_deletions<'a>(
        &mut self,
        changes: impl Iterator<Item = &'a Change>,
        old: &Self,
    ) {
        let deleted = changes.filter(|change| change.cookie().is_none());
        let new = deleted.map(|change| (change.id(), change.stamp()));
        let old = old.by_id.iter().filter(|(_, (_, state))| state.is_none());
        let mut all: Vec<_> =
            new.chain(old.map(|(id, (at, _))| (id, *at))).filter(|(id, _)| !self.has(id)).collect();
        all.sort_unstable_by_key(|(_, at)| std::cmp::Reverse(*at));
        for (id, at) in all.into_iter().take(MOST_DELETIONS) {
            // The latest is first.
            self.by_id.entry(id.clone()).or_insert((at, None));
        }
    }

    /// The times of what a file holds, from `kept` and then from `known`. A cookie that neither knows
    /// is as old as the file is `written`, or was last set when the format says so.
    pub(super) fn in_file<'a>(
        format: Format,
        entries: impl IntoIterator<Item = &'a Entry>,
        written: Stamp,
        [kept, known]: [&Self; 2],
    ) -> Self {
        let time = |cookie: &Cookie| {
            let (id, state) = (cookie.id(), format.state(cookie));
            let at = kept.of(&id, state).or_else(|| known.of(&id, state));
            // A cookie's own time is in whole milliseconds: as late in it as it can be.
            let updated = cookie.times.updated.saturating_mul(1_000).saturating_add(999);
            let at = at.unwrap_or_else(|| written.min(updated));
            (id, (at, Some(state)))
        };
        Self { by_id: entries.into_iter().filter_map(Entry::cookie).map(time).collect() }
    }

    /// None if the bytes are damaged, of another layout, or half old and half new.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        Self::read(bytes).unwrap_or_default()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (bytes, sum) = bytes.split_last_chunk::<8>()?;
        if sum_of(bytes) != u64::from_le_bytes(*sum) {
            return None;
        }
        let (mut rest, mut by_id) = (bytes.strip_prefix(MAGIC)?, HashMap::new());
        while let Some((at, after)) = rest.split_first_chunk::<8>() {
            let (is_there, after) = after.split_first()?;
            let (state, after) = after.split_first_chunk::<8>()?;
            let (len, after) = after.split_first_chunk::<2>()?;
            let (id, after) = after.split_at_checked(u16::from_le_bytes(*len).into())?;
            let state = (*is_there == 1).then(|| u64::from_le_bytes(*state));
            by_id.insert(CookieId::from_bytes(id)?, (u64::from_le_bytes(*at), state));
            rest = after;
        }
        Some(Self { by_id })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (id, (at, state)) in &self.by_id {
            // The rules bound name, domain and path far below this.
            let Ok(len) = u16::try_from(id.as_bytes().len()) else { continue };
            bytes.extend(at.to_le_bytes());
            bytes.push(u8::from(state.is_some()));
            bytes.extend(state.unwrap_or_default().to_le_bytes());
            bytes.extend(len.to_le_bytes());
            bytes.extend(id.as_bytes());
        }
        let sum = sum_of(&bytes).to_le_bytes();
        bytes.extend(sum);
        bytes
    }
}

/// Fletcher's sum: it tells a torn write, and guards against nobody.
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

    fn times() -> Times {
        let id = |name: &str| CookieId::from_bytes(format!("-h.example\0/\0{name}").as_bytes());
        let mut times = Times::default();
        times.by_id.insert(id("set").unwrap(), (7, Some(9)));
        times.by_id.insert(id("deleted").unwrap(), (8, None));
        times
    }

    #[test]
    fn times_that_are_cut_or_changed_anywhere_are_none() {
        let bytes = times().to_bytes();
        assert_eq!(Times::from_bytes(&bytes), times());
        let mut wrong = Vec::new();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            if [&bytes[..at], &changed].map(Times::from_bytes)
                != [const { None }; 2].map(|none: Option<Times>| none.unwrap_or_default())
            {
                wrong.push(at);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_latest_deletions_are_kept_and_no_more() {
        let mut old = Times::default();
        for n in 0..MOST_DELETIONS as u64 + 10 {
            let id = format!("-h.example\0/\0{n}");
            old.by_id.insert(CookieId::from_bytes(id.as_bytes()).unwrap(), (n, None));
        }
        let mut times = Times::default();
        times.add_deletions(std::iter::empty(), &old);
        assert_eq!(times.by_id.len(), MOST_DELETIONS);
        assert_eq!(times.by_id.values().map(|(at, _)| *at).min(), Some(10));
    }
}
