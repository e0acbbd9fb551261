//! The log of a jar's changes: what was set and deleted since a reader last took its changes. A
//! reader is a file or a store that several jars write to.
//!
//! Each cookie has one entry, its latest. Evictions and expiries are not logged: only this jar is
//! short of memory, and others still have the cookie.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{
    change::{Change, Stamp, to_stamp},
    limits::CookieLimits,
    shares::{self, Bounds, Item},
    slot::{Incoming, Sender, Slot, StoreAction},
};
use crate::cookie::model::{cookie::Cookie, id::CookieId, suffix::PublicSuffixes};

/// Who reads a jar's changes. Each reader gets all of them: a jar may be kept in two files.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cookie) enum Reader {
    /// `CookieJar::take_changes`.
    Own,
    /// A file, by its number.
    File(u64),
}

/// The changes of a jar. A change is logged under the lock of its site, so two changes of one
/// cookie are in the jar's order. The log's own lock is taken last, and no other lock under it.
pub(super) struct Log {
    clock: fn() -> SystemTime,
    limits: CookieLimits,
    suffixes: Arc<PublicSuffixes>,
    readers: Mutex<Readers>,
}

#[derive(Default)]
struct Readers {
    pending: Vec<(Reader, Pending)>,
    /// Number of the next file or entry.
    next: u64,
    /// No change has an earlier time than this.
    floor: Stamp,
}

/// The changes that one reader has not taken.
#[derive(Default)]
struct Pending {
    by_id: HashMap<CookieId, Change>,
    bytes: usize,
}

impl Log {
    pub(super) fn new(
        clock: fn() -> SystemTime,
        limits: CookieLimits,
        suffixes: Arc<PublicSuffixes>,
    ) -> Self {
        Self { clock, limits, suffixes, readers: Mutex::default() }
    }

    fn readers(&self) -> MutexGuard<'_, Readers> {
        // The only caller code under this lock is the clock, which runs before a change begins.
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

    /// Ends a reader, which will not take changes again.
    pub(super) fn end(&self, reader: Reader) {
        self.readers().pending.retain(|(other, _)| *other != reader);
    }

    /// Makes later changes have a time after `at`.
    pub(super) fn seen(&self, at: Stamp) {
        let readers = &mut *self.readers();
        readers.floor = readers.floor.max(at.saturating_add(1));
    }

    /// Logs what became of an incoming cookie. `has_moved` says whether a file would show the
    /// change.
    pub(super) fn stored(
        &self,
        new: &Incoming<'_>,
        action: StoreAction,
        slot: Option<&Slot>,
        has_moved: bool,
    ) {
        let from_secure = match new.sender() {
            Sender::Response { is_secure, .. } => is_secure,
            Sender::Caller { .. } => true,
        };
        let word = Word { from_secure, only_expiry: false, is_new_here: false };
        match (action, slot) {
            (StoreAction::Expired, _) => {
                self.note(|| What::Deleted(new.id()), Word { is_new_here: !has_moved, ..word });
            }
            (StoreAction::Unchanged, Some(slot)) => {
                // A caller's cookie that yields to a newer one moves at most the creation time,
                // which does not concern others.
                if has_moved && matches!(new.sender(), Sender::Response { .. }) {
                    self.renewed(|| slot.cookie(), from_secure);
                }
            }
            (_, Some(slot)) => {
                let is_new_here = action == StoreAction::Inserted;
                self.note(|| slot.cookie().into(), Word { is_new_here, ..word });
            }
            (_, None) => {}
        }
    }

    /// Logs that a response moved the expiry of a cookie, and whether its origin was secure.
    pub(super) fn renewed(&self, cookie: impl FnOnce() -> Cookie, from_secure: bool) {
        let word = Word { from_secure, only_expiry: true, is_new_here: false };
        self.note(|| cookie().into(), word);
    }

    /// Logs that a caller deleted a cookie, whether or not the jar had it.
    pub(super) fn deleted(&self, id: impl FnOnce() -> CookieId, had: bool) {
        let word = Word { from_secure: true, only_expiry: false, is_new_here: !had };
        self.note(|| What::Deleted(id()), word);
    }

    fn note(&self, what: impl FnOnce() -> What, word: Word) {
        let mut guard = self.readers();
        let readers = &mut *guard;
        // A file was opened once and is closed.
        if readers.pending.is_empty() {
            return;
        }
        let now = to_stamp((self.clock)());
        readers.floor = readers.floor.max(now);
        let change = match what() {
            What::Set(cookie) => Change::set_at(cookie, readers.floor, word.from_secure),
            What::Deleted(id) => Change::deleted_at(id, readers.floor, word.from_secure),
        };
        let Word { only_expiry, is_new_here, .. } = word;
        self.tell(readers, Change { only_expiry, is_new_here, ..change }, None);
    }

    /// Tells all readers of a change, except one.
    fn tell(&self, readers: &mut Readers, change: Change, but: Option<Reader>) {
        readers.next += 1;
        let change = Change { order: readers.next, ..change };
        for (_, pending) in readers.pending.iter_mut().filter(|(other, _)| Some(*other) != but) {
            pending.add(change.clone());
            self.bound(pending);
        }
    }

    /// Tells the others of a change that one reader brought into the jar.
    pub(super) fn tell_others(&self, reader: Reader, change: &Change) {
        self.tell(&mut self.readers(), change.clone(), Some(reader));
    }

    /// The changes that a reader has not taken, in the jar's order.
    pub(super) fn take(&self, reader: Reader) -> Vec<Change> {
        let mut readers = self.readers();
        let taken = readers.of(reader).map(std::mem::take).unwrap_or_default();
        drop(readers);
        let mut changes: Vec<_> = taken.by_id.into_values().collect();
        changes.sort_unstable_by_key(|change| change.order);
        changes
    }

    /// Gives back the changes that a reader took. They count as not taken.
    pub(super) fn put_back(&self, reader: Reader, changes: Vec<Change>) {
        let mut readers = self.readers();
        let Some(pending) = readers.of(reader) else { return };
        for change in changes {
            let newer = pending.remove(&change.id);
            pending.add(change);
            newer.into_iter().for_each(|newer| pending.add(newer));
        }
        self.bound(pending);
    }

    /// Whether the reader has changes to take.
    pub(super) fn is_pending(&self, reader: Reader) -> bool {
        self.readers().of(reader).is_some_and(|pending| !pending.by_id.is_empty())
    }

    /// Whether a cookie has a change after `at` that some reader has not taken. If so, this reader
    /// gets the change too.
    pub(super) fn has_later(&self, reader: Reader, id: &CookieId, at: Stamp) -> bool {
        let mut readers = self.readers();
        if readers.of(reader).is_some_and(|pending| pending.by_id.contains_key(id)) {
            return true;
        }
        let pending = readers.pending.iter().filter_map(|(_, pending)| pending.by_id.get(id));
        let Some(later) = pending.filter(|change| change.at > at).max_by_key(|change| change.at)
        else {
            return false;
        };
        let later = later.clone();
        if let Some(pending) = readers.of(reader) {
            pending.add(later);
            self.bound(pending);
        }
        true
    }

    /// The changes of a site that the owner has not taken.
    pub(super) fn own_of(&self, site: &str) -> Vec<Change> {
        let is_below = |domain: &str| {
            // The suffix list is slow, and most changes are of other sites.
            domain.ends_with(site) && self.suffixes.site(domain).key == site
        };
        let mut readers = self.readers();
        let Some(pending) = readers.of(Reader::Own) else { return Vec::new() };
        let changes = pending.by_id.values().filter(|change| is_below(change.id.domain()));
        changes.cloned().collect()
    }

    /// Replaces one entry of the owner, or removes it. Does nothing if the owner has taken it, or
    /// if it has changed.
    pub(super) fn correct_own(&self, old: &Change, new: Option<Change>) {
        let mut readers = self.readers();
        let Some(pending) = readers.of(Reader::Own) else { return };
        if pending.by_id.get(&old.id).is_some_and(|change| change.order == old.order) {
            pending.remove(&old.id);
            new.into_iter().for_each(|new| pending.add(new));
        }
    }

    /// Bounds a log that nobody reads, as the jar is bounded. The site with the most entries drops
    /// some first, so one site's flood drops nothing of another.
    fn bound(&self, pending: &mut Pending) {
        let CookieLimits { total, bytes, .. } = self.limits;
        if pending.by_id.len() <= total && pending.bytes <= bytes {
            return;
        }
        let mut changes: Vec<&Change> = pending.by_id.values().collect();
        changes.sort_unstable_by_key(|change| change.order);
        let items = changes.iter().map(|&change| Item {
            site: self.suffixes.site(change.id.domain()).key,
            bytes: change.bytes(),
            // It carries the https change that it replaced, such as a logout.
            rank: (change.from_secure || change.replaced.is_some(), worth(change), change.order),
            is_there: false,
        });
        let items: Vec<_> = items.collect();
        // Drops a sixteenth more than needed, so that a flood does not pay for each entry.
        let bounds = Bounds {
            per_site: usize::MAX,
            total: total - total / 16,
            bytes: bytes - bytes / 16,
            spares_older: true,
        };
        let doomed: Vec<CookieId> =
            shares::over(&items, bounds).into_iter().map(|at| changes[at].id.clone()).collect();
        doomed.iter().for_each(|id| drop(pending.remove(id)));
    }
}

/// How long a site keeps an entry. A deletion of a cookie that this jar never had mostly concerns
/// no other jar. A logout weighs more than a login, which can be repeated.
const fn worth(change: &Change) -> u8 {
    match (change.cookie.is_some(), change.is_new_here) {
        (false, true) => 0,
        (true, _) => 1,
        (false, false) => 2,
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

/// Which kind of origin made a change, and what it means to others.
#[derive(Clone, Copy)]
struct Word {
    from_secure: bool,
    only_expiry: bool,
    is_new_here: bool,
}

impl Readers {
    fn of(&mut self, reader: Reader) -> Option<&mut Pending> {
        let pending = self.pending.iter_mut().find(|(other, _)| *other == reader);
        pending.map(|(_, pending)| pending)
    }
}

impl Pending {
    /// Adds an entry. It replaces an older one of the same cookie.
    fn add(&mut self, mut change: Change) {
        if let Some(old) = self.remove(&change.id) {
            change.follow(old);
        }
        self.bytes += change.bytes();
        self.by_id.insert(change.id.clone(), change);
    }

    fn remove(&mut self, id: &CookieId) -> Option<Change> {
        let old = self.by_id.remove(id)?;
        self.bytes -= old.bytes();
        Some(old)
    }
}
