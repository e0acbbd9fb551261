//! The cookies of a jar: buckets by registrable domain, spread over locks so that readers of
//! different sites do not meet.

use std::{
    mem,
    sync::{
        OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use hashbrown::hash_table::Entry;
use http::HeaderValue;

use super::{
    bucket::{Bucket, Survey, Tally},
    limits::CookieLimits,
    line::{choose, line},
    log::Log,
    shard::Shard,
    slot::{Incoming, Numbers, Slot, StoreAction, Stored},
};
use crate::cookie::{
    event, model::cookie::Cookie, model::data::Millis, model::rules::Rejection, model::visit::Visit,
};

/// How many locks the buckets are spread over; a power of two. More than a machine's threads are
/// likely to want at once, and few enough that to take all of them, for a snapshot, costs little.
const SHARDS: usize = 16;

pub(super) struct Store {
    pub(super) shards: Box<[Shard; SHARDS]>,
    hasher: ahash::RandomState,
    pub(super) len: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    pub(super) numbers: Numbers,
    changes: AtomicU64,
    /// `None` until somebody wants to know of changes. Boxed, so that a jar without it is as small
    /// as it was.
    log: OnceLock<Box<Log>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            shards: Box::default(),
            // Keyed anew for each jar: strangers choose the hosts, and could make them meet.
            hasher: ahash::RandomState::new(),
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            numbers: Numbers::default(),
            changes: AtomicU64::new(0),
            log: OnceLock::new(),
        }
    }
}

/// Look-ups.
impl Store {
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// By bits that the table itself uses for neither its place nor its tag.
    pub(super) fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// Looks at the cookies of the site that a request goes to, under their lock.
    ///
    /// They mostly are at the likely key and know that it is the right one, which saves 230
    /// instructions over a question to the suffix list.
    fn look<T>(&self, visit: &Visit<'_>, look: impl FnOnce(&Bucket) -> T) -> Option<T> {
        let (mut key, mut is_known) = visit.key();
        loop {
            let hash = self.hash(key.as_bytes());
            let table = self.shard(hash).read();
            let bucket = table.find(hash, |bucket| bucket.key() == key.as_bytes());
            let is_there = match bucket {
                Some(bucket) if is_known || bucket.is_site_of(&visit.origin.host) => {
                    if bucket.is_undivided() {
                        visit.settle(key);
                    }
                    return Some(look(bucket));
                }
                bucket => bucket.is_some(),
            };
            drop(table);
            let likely = mem::replace(&mut key, visit.site().key);
            if is_known || !is_there && key == likely {
                return None;
            }
            is_known = true;
        }
    }

    /// The `Cookie` header for a request, of which `reserved` bytes are taken already. `may_send`
    /// is the caller's say on each cookie. It is asked under no lock, so that it may use the jar.
    pub(super) fn header(
        &self,
        visit: &Visit<'_>,
        limits: &CookieLimits,
        reserved: usize,
        may_send: Option<&dyn Fn(&Cookie) -> bool>,
    ) -> Option<HeaderValue> {
        let room = limits.header_bytes.saturating_sub(reserved);
        let mut survey = Survey::default();
        let whole = self.look(visit, |bucket| {
            survey = bucket.survey(visit, |_| ());
            let goes_whole = may_send.is_none() && survey.fits(limits.header_cookies, room);
            if survey.count > 0 && goes_whole {
                self.whole_header(bucket, &survey, visit, limits)
            } else {
                None
            }
        });
        // Under the write lock, after the look-up's read lock is gone.
        if survey.is_stale {
            self.remove_expired_of(visit.site(), visit.now);
        }
        match whole.flatten() {
            None if survey.count > 0 => {
                self.chosen_header(visit, limits.header_cookies, room, may_send)
            }
            whole => whole,
        }
    }

    /// The header of all cookies that match: the kept one, or one that is made and kept.
    fn whole_header(
        &self,
        bucket: &Bucket,
        survey: &Survey,
        visit: &Visit<'_>,
        limits: &CookieLimits,
    ) -> Option<HeaderValue> {
        let Some(places) = survey.places else {
            let mut sent = Vec::with_capacity(survey.count);
            bucket.survey(visit, |slot| {
                slot.touch(visit.now);
                sent.push(slot.data());
            });
            return line(sent.into_iter(), survey.length);
        };
        let sent = bucket.at(places).inspect(|slot| slot.touch(visit.now));
        if let Some(kept) = bucket.line(places) {
            sent.for_each(drop);
            return Some(kept.clone());
        }
        let line = line(sent.map(Slot::data), survey.length)?;
        // What is kept counts as the jar's memory, but is not worth a cookie.
        if self.bytes.load(Relaxed).saturating_add(line.len()) <= limits.bytes {
            let more = bucket.keep_line(&line, places, survey.count);
            self.bytes.fetch_add(more, Relaxed);
        }
        Some(line)
    }

    /// The header if more cookies match than it may carry, or if the caller has a say: some are
    /// [chosen](choose).
    fn chosen_header(
        &self,
        visit: &Visit<'_>,
        most: usize,
        room: usize,
        may_send: Option<&dyn Fn(&Cookie) -> bool>,
    ) -> Option<HeaderValue> {
        let mut cookies = self.matching(visit);
        if let Some(may_send) = may_send {
            cookies.retain(may_send);
        }
        let match_all = cookies.len();
        let header = choose(&mut cookies, most, room);
        event::over_limit(&visit.origin.host, match_all - cookies.len());
        let mut sent: Vec<_> = cookies.iter().map(|cookie| cookie.order).collect();
        sent.sort_unstable();
        // By their numbers: the lock was open meanwhile, so that places may have moved.
        self.look(visit, |bucket| {
            let slots = bucket.slots().iter();
            slots
                .filter(|slot| sent.binary_search(&slot.order()).is_ok())
                .for_each(|slot| slot.touch(visit.now));
        });
        header
    }

    /// The cookies for a request, in the order they are sent.
    pub(super) fn matching(&self, visit: &Visit<'_>) -> Vec<Cookie> {
        let mut cookies = Vec::new();
        let survey =
            self.look(visit, |bucket| bucket.survey(visit, |slot| cookies.push(slot.cookie())));
        if survey.is_some_and(|survey| survey.is_stale) {
            self.remove_expired_of(visit.site(), visit.now);
        }
        cookies
    }

    /// Every cookie of a site, in the order of a header, whether it would be sent or not.
    pub(super) fn of_site(&self, visit: &Visit<'_>) -> Vec<Cookie> {
        self.look(visit, |bucket| bucket.slots().iter().map(Slot::cookie).collect())
            .unwrap_or_default()
    }

    /// Every live cookie as of one moment, oldest first.
    pub(super) fn snapshot(&self, now: Millis) -> Vec<Cookie> {
        let (mut cookies, mut stale) = (Vec::new(), false);
        {
            // All locks at once, so that a file that is saved from it has all of a change or
            // nothing. Always in the same order, which is `retain`'s too, so that no
            // two wait for each other.
            let tables: Vec<_> = self.shards.iter().map(Shard::read).collect();
            for slot in tables.iter().flat_map(|table| table.iter()).flat_map(Bucket::slots) {
                if slot.expires() > now {
                    cookies.push(slot.cookie());
                } else {
                    stale = true;
                }
            }
        }
        if stale {
            self.remove_expired(now);
        }
        cookies.sort_unstable_by_key(|cookie| (cookie.data.created, cookie.order));
        cookies
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    pub(super) fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    pub(super) fn log(&self) -> Option<&Log> {
        self.log.get().map(Box::as_ref)
    }

    /// The log, which is switched on by `new` if there is none.
    pub(super) fn log_or(&self, new: impl FnOnce() -> Log) -> &Log {
        self.log.get_or_init(|| Box::new(new()))
    }
}

/// The way in.
impl Store {
    /// A hash of a `Set-Cookie` line, by which it is known again.
    pub(super) fn fingerprint(&self, line: &[u8]) -> u64 {
        // 0 stands for no line.
        self.hash(line) | 1
    }

    /// The short way for a cookie that is there by the very same line. `None` if there is no such
    /// cookie, or if it has to be judged again.
    ///
    /// Many servers send the same lines with every response. This way takes a third of what the
    /// long one does, and shares the lock with look-ups, since nothing moves but times.
    pub(super) fn set_again<T>(
        &self,
        visit: &Visit<'_>,
        fingerprint: u64,
        line: &[u8],
        tell: impl Fn(&Slot) -> T,
    ) -> Option<T> {
        let now = visit.now;
        let found = self.look(visit, |bucket| {
            let mut slots = bucket.slots().iter();
            let slot = slots.find(|slot| slot.is_from(fingerprint))?;
            // From a non-secure origin, a Secure cookie may forbid it: that is for the long way.
            let may_touch =
                visit.origin.secure || bucket.slots().iter().all(|slot| !slot.data().flags.secure);
            if slot.expires() <= now || !may_touch || !slot.is_meant_by(line, visit) {
                return None;
            }
            if slot.renew(slot.expires_if_renewed(now), now) {
                self.changes.fetch_add(1, Relaxed);
                // Others may renew it too, since the lock is shared. The last to come here notes
                // what all of them left, so that the log ends as the jar does.
                if let Some(log) = self.log() {
                    log.renewed(|| slot.cookie(), visit.origin.secure);
                }
            }
            Some(tell(slot))
        });
        found.flatten()
    }

    /// Stores a cookie, or deletes the one with its identity if it has expired already. `tell` says
    /// of the stored cookie what the caller wants to know.
    pub(super) fn store<T>(
        &self,
        new: &Incoming<'_>,
        limits: &CookieLimits,
        tell: impl Fn(&Slot) -> T,
    ) -> Stored<T> {
        let has_room = limits.per_domain > 0 && limits.total > 0 && new.text_len() <= limits.bytes;
        if new.lives() && !has_room {
            return Err(Rejection::NoRoom);
        }
        let (action, stored) = self.store_in_site(new, limits.per_domain, tell)?;
        let Some((number, told)) = stored else { return Ok((action, None)) };
        // The site's lock is open again: this may take the locks of all sites.
        self.evict_total(number, new.now(), limits);
        Ok((action, Some(told)))
    }

    /// Stores a cookie under the lock of its site, and says its number too.
    fn store_in_site<T>(
        &self,
        new: &Incoming<'_>,
        most: usize,
        tell: impl Fn(&Slot) -> T,
    ) -> Stored<(u64, T)> {
        let (key, mut tally) = (new.site().key.as_bytes(), Tally::default());
        let hash = self.hash(key);
        let mut table = self.shard(hash).write();
        let entry =
            table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
        let tell = |slot: &Slot| (slot.order(), tell(slot));
        let stored = match entry {
            Entry::Occupied(mut entry) => {
                let bucket = entry.get_mut();
                let stored = bucket.store(new, most, &self.numbers, &mut tally);
                let slot = |number| bucket.slots().iter().find(|slot| slot.order() == number);
                let stored = stored.map(|(action, number)| (action, number.and_then(slot)));
                if let (Some(log), Ok((action, slot))) = (self.log(), &stored) {
                    log.stored(new, *action, *slot, tally.has_changed);
                }
                let stored = stored.map(|(action, slot)| (action, slot.map(tell)));
                // A bucket takes its key from its first cookie, so that an empty one has none.
                if bucket.is_empty() {
                    entry.remove();
                }
                stored
            }
            Entry::Vacant(_) if !new.lives() => {
                if let Some(log) = self.log() {
                    log.stored(new, StoreAction::Expired, None, false);
                }
                Ok((StoreAction::Expired, None))
            }
            Entry::Vacant(entry) => {
                let slot = self.numbers.slot(new);
                if let Some(log) = self.log() {
                    log.stored(new, StoreAction::Inserted, Some(&slot), true);
                }
                let told = tell(&slot);
                entry.insert(Bucket::new(new.site(), slot, &mut tally));
                Ok((StoreAction::Inserted, Some(told)))
            }
        };
        // Also if it failed: a site that has no room for a cookie may have lost expired ones.
        self.settle(tally);
        stored
    }

    /// Counts a change, while the lock is held that it was made under: else what is counted out
    /// could not be in yet.
    pub(super) fn settle(&self, tally: Tally) {
        self.len.fetch_add(tally.len.cast_unsigned(), Relaxed);
        self.bytes.fetch_add(tally.bytes.cast_unsigned(), Relaxed);
        if tally.has_changed {
            self.changes.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::cookie::model::{origin::Origin, rules, suffix::PublicSuffixes};

    /// Nothing that a caller gives runs under the locks, so that only from in here one can be
    /// poisoned.
    #[test]
    fn a_panic_under_a_lock_spoils_nothing() {
        let (store, limits) = (Store::default(), CookieLimits::default());
        let uri = "https://example.com/".parse().unwrap();
        let (origin, suffixes) = (Origin::of(&uri).unwrap(), PublicSuffixes::Embedded);
        let visit = Visit::new(&origin, &suffixes, None, &http::Method::GET, 1);
        let set = |line: &str| {
            let new = rules::admit(&visit, line.as_bytes()).unwrap();
            store.store(&Incoming::from_response(&visit, &new, 0), &limits, |_| ()).unwrap().0
        };
        let header = || store.header(&visit, &limits, 0, None).unwrap();
        assert_eq!(set("kept=1"), StoreAction::Inserted);
        let panics = || store.change(visit.site(), |_, _| panic!("on purpose"));
        assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        assert!(store.shards.iter().any(Shard::is_poisoned));

        assert_eq!(header(), "kept=1");
        assert_eq!(set("new=2"), StoreAction::Inserted);
        assert_eq!(header(), "kept=1; new=2");
        assert_eq!((store.len(), store.snapshot(1).len()), (2, 2));
        store.clear();
        assert_eq!(store.len(), 0);
    }
}
