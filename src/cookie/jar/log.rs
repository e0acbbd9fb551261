//! The log of a jar's changes: what was set and deleted since somebody last asked, for a file or a
//! store that several jars write to.
//!
//! Each cookie has one entry, its latest. What a limit evicts and what expires is no change: others
//! still have it, and this jar alone is short of memory.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    eviction::{self, Candidate},
    limits::CookieLimits,
    slot::{Incoming, Sender, Slot, StoreAction},
};
use crate::cookie::model::{cookie::Cookie, data::NEVER, id::CookieId};

/// Microseconds since 1970. Finer than a cookie's times: two processes that set one cookie within a
/// millisecond still know who was later.
pub(in crate::cookie) type Stamp = u64;

pub(in crate::cookie) fn to_stamp(time: SystemTime) -> Stamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::try_from(since.as_micros()).unwrap_or(Stamp::MAX)
}

/// One change of a jar, or of a store that a jar is loaded from: a cookie was set, or deleted.
///
/// From [`CookieJar::take_changes`](crate::cookie::CookieJar::take_changes).
#[derive(Clone)]
pub struct Change {
    id: CookieId,
    at: Stamp,
    cookie: Option<Cookie>,
    only_expiry: bool,
}

impl Change {
    /// A cookie was set at that time.
    #[must_use]
    pub fn set(cookie: Cookie, at: SystemTime) -> Self {
        Self { id: cookie.id(), at: to_stamp(at), cookie: Some(cookie), only_expiry: false }
    }

    /// A cookie was deleted at that time.
    #[must_use]
    pub fn deleted(id: CookieId, at: SystemTime) -> Self {
        Self { id, at: to_stamp(at), cookie: None, only_expiry: false }
    }

    /// Which cookie has changed.
    #[must_use]
    pub const fn id(&self) -> &CookieId {
        &self.id
    }

    /// When it changed, in whole microseconds. The times of one jar's changes never run backward,
    /// whatever its clock does.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        // Only a platform whose time ends before ours can fail here.
        UNIX_EPOCH.checked_add(Duration::from_micros(self.at)).unwrap_or(UNIX_EPOCH)
    }

    /// The cookie as it was set. `None` if it was deleted.
    #[must_use]
    pub const fn cookie(&self) -> Option<&Cookie> {
        self.cookie.as_ref()
    }

    /// Whether only the expiry of the cookie moved, as far as this jar knows. Servers move it with
    /// every response, so that a store may want to write such a change less often.
    #[must_use]
    pub const fn only_expiry(&self) -> bool {
        self.only_expiry
    }

    pub(in crate::cookie) const fn stamp(&self) -> Stamp {
        self.at
    }

    pub(in crate::cookie) fn into_cookie(self) -> Option<Cookie> {
        self.cookie
    }
}

// A cookie's own `Debug` shows no value.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("id", &self.id)
            .field("at", &self.at())
            .field("deleted", &self.cookie.is_none())
            .field("only_expiry", &self.only_expiry)
            .finish()
    }
}

/// Who reads a jar's changes. Each has all of them, since one that takes its changes must not take
/// those of another: a jar may be kept in two files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cookie) enum Reader {
    /// `CookieJar::take_changes`.
    Own,
    /// A file, by its number.
    File(u64),
}

/// What changed in a jar. A change is written under the lock of its site, so that the order of two
/// changes to one cookie is the jar's. The log's own lock is taken last, and no other under it.
pub(super) struct Log {
    clock: fn() -> SystemTime,
    limits: CookieLimits,
    readers: Mutex<Readers>,
}

#[derive(Default)]
struct Readers {
    pending: Vec<(Reader, Pending)>,
    /// The next file, and the next entry.
    next: u64,
    /// No change is earlier than this one.
    floor: Stamp,
}

/// The changes that one reader has not taken.
#[derive(Default)]
struct Pending {
    by_id: HashMap<CookieId, Entry>,
    bytes: usize,
}

struct Entry {
    order: u64,
    change: Change,
}

impl Entry {
    fn bytes(&self) -> usize {
        let cookie = self.change.cookie.as_ref();
        self.change.id.as_bytes().len() + cookie.map_or(0, |cookie| cookie.data.text_len())
    }
}

impl Log {
    pub(super) fn new(clock: fn() -> SystemTime, limits: CookieLimits) -> Self {
        Self { clock, limits, readers: Mutex::default() }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        // Nothing of a caller's runs under it but the clock, which is asked before a change begins.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add_own(&self) {
        self.readers().pending.push((Reader::Own, Pending::default()));
    }

    pub(super) fn add_file(&self) -> Reader {
        let mut readers = self.readers();
        readers.next += 1;
        let reader = Reader::File(readers.next);
        readers.pending.push((reader, Pending::default()));
        reader
    }

    /// Nobody will ask for these changes again.
    pub(super) fn end(&self, reader: Reader) {
        self.readers().pending.retain(|(other, _)| *other != reader);
    }

    /// Changes from now on come after that time.
    pub(super) fn seen(&self, at: Stamp) {
        let readers = &mut *self.readers();
        readers.floor = readers.floor.max(at.saturating_add(1));
    }

    /// Notes what became of a cookie that came in. `has_moved` says whether a file would show it.
    pub(super) fn stored(
        &self,
        new: &Incoming<'_>,
        action: StoreAction,
        slot: Option<&Slot>,
        has_moved: bool,
    ) {
        match (action, slot) {
            (StoreAction::Expired, _) => self.deleted(|| new.id()),
            (StoreAction::Unchanged, Some(slot)) => {
                // A caller's cookie that yields to a newer one moves the creation time at most,
                // which is no news to others.
                if has_moved && matches!(new.sender(), Sender::Response { .. }) {
                    self.set(|| slot.cookie(), true);
                }
            }
            (_, Some(slot)) => self.set(|| slot.cookie(), false),
            (_, None) => {}
        }
    }

    /// Notes that a cookie was set.
    pub(super) fn set(&self, cookie: impl FnOnce() -> Cookie, only_expiry: bool) {
        self.note(|| cookie().into(), only_expiry);
    }

    /// Notes that a cookie was deleted, whether or not the jar had it.
    pub(super) fn deleted(&self, id: impl FnOnce() -> CookieId) {
        self.note(|| What::Deleted(id()), false);
    }

    fn note(&self, what: impl FnOnce() -> What, only_expiry: bool) {
        let mut guard = self.readers();
        let readers = &mut *guard;
        // A file was opened once, and is closed.
        if readers.pending.is_empty() {
            return;
        }
        let now = to_stamp((self.clock)());
        let (id, cookie) = match what() {
            What::Set(cookie) => (cookie.id(), Some(cookie)),
            What::Deleted(id) => (id, None),
        };
        readers.next += 1;
        readers.floor = readers.floor.max(now);
        let change = Change { id, at: readers.floor, cookie, only_expiry };
        for (_, pending) in &mut readers.pending {
            pending.add(readers.next, change.clone(), &self.limits);
        }
    }

    /// The changes since the reader last asked, in the jar's order.
    pub(super) fn take(&self, reader: Reader) -> Vec<Change> {
        let mut readers = self.readers();
        let pending = readers.pending.iter_mut().find(|(other, _)| *other == reader);
        let taken = pending.map(|(_, pending)| std::mem::take(pending)).unwrap_or_default();
        drop(readers);
        let mut entries: Vec<_> = taken.by_id.into_values().collect();
        entries.sort_unstable_by_key(|entry| entry.order);
        entries.into_iter().map(|entry| entry.change).collect()
    }

    /// Whether the reader has changes to take.
    pub(super) fn is_pending(&self, reader: Reader) -> bool {
        let readers = self.readers();
        readers.pending.iter().any(|(other, pending)| *other == reader && !pending.by_id.is_empty())
    }

    /// Whether the owner lacks a change that is newer than what it says of that cookie: set or
    /// deleted at that time, or `None` for nothing. An older change is not told any more.
    pub(super) fn is_newer(&self, id: &CookieId, at: Option<Stamp>) -> bool {
        let mut readers = self.readers();
        let own = readers.pending.iter_mut().find(|(reader, _)| *reader == Reader::Own);
        let Some((_, pending)) = own else { return false };
        match (pending.by_id.get(id), at) {
            (None, _) => false,
            (Some(entry), Some(at)) if entry.change.at < at => {
                pending.remove(id);
                false
            }
            (Some(_), _) => true,
        }
    }
}

enum What {
    Set(Cookie),
    Deleted(CookieId),
}

impl From<Cookie> for What {
    fn from(cookie: Cookie) -> Self {
        Self::Set(cookie)
    }
}

impl Pending {
    /// An entry takes the place of an older one of the same cookie.
    fn add(&mut self, order: u64, mut change: Change, limits: &CookieLimits) {
        if let Some(old) = self.remove(&change.id) {
            change.only_expiry &= old.only_expiry;
        }
        let entry = Entry { order, change };
        self.bytes += entry.bytes();
        self.by_id.insert(entry.change.id.clone(), entry);
        if self.by_id.len() > limits.total || self.bytes > limits.bytes {
            self.shrink(order, limits);
        }
    }

    fn remove(&mut self, id: &CookieId) -> Option<Change> {
        let old = self.by_id.remove(id)?;
        self.bytes -= old.bytes();
        Some(old.change)
    }

    /// A log that nobody reads must not fill the memory. It is bounded as the jar is, and by the
    /// same rule: a flood reaches nothing that was there before it. Deletions are given up first: a
    /// cookie that comes and goes leaves one.
    fn shrink(&mut self, newest: u64, limits: &CookieLimits) {
        let candidate = |entry: &Entry| Candidate {
            order: entry.order,
            bytes: entry.bytes(),
            is_secure: false,
            was_sent: entry.change.cookie.is_some(),
            last_used: entry.order,
            expires: NEVER,
            shares_before: 0,
        };
        let candidates = self.by_id.values().map(candidate).collect();
        let doomed = eviction::of_jar(candidates, newest, limits, 0);
        let bytes = &mut self.bytes;
        self.by_id.retain(|_, entry| {
            let stays = !doomed.contains(&entry.order);
            if !stays {
                *bytes -= entry.bytes();
            }
            stays
        });
    }
}
