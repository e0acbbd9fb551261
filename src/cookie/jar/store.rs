//! The cookies of a jar: buckets by registrable domain, spread over locks so that readers of
//! different sites do not meet.

use std::sync::{
    PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use hashbrown::{HashTable, hash_table::Entry};
use http::HeaderValue;

use super::{
    bucket::{Bucket, Survey, Tally},
    eviction,
    limits::CookieLimits,
    line::{choose, line},
    slot::{Slot, Source, is_session},
};
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Millis, NEVER, SEPARATOR, Times},
    model::rules::{Admitted, Rejection},
    model::suffix::Site,
    model::visit::Visit,
};

/// What became of a cookie that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAction {
    /// It is new.
    Inserted,
    /// It took the place of one with the same name, domain and path.
    Updated,
    /// It was there already, with the same value; its expiry may have moved.
    Unchanged,
    /// It came with an expiry that is past, as a logout does: one that was there is gone.
    Expired,
}

/// How many locks the buckets are spread over; a power of two.
const SHARDS: usize = 16;

pub(super) struct Store {
    shards: Box<[Shard; SHARDS]>,
    hasher: ahash::RandomState,
    len: AtomicUsize,
    bytes: AtomicUsize,
    /// Numbers the cookies as they come, for those of one millisecond.
    next: AtomicU64,
    /// Creation times never run backward, whatever the clock does.
    last_created: AtomicU64,
    changes: AtomicU64,
}

/// A cache line each, so that two locks do not share one.
#[derive(Default)]
#[repr(align(64))]
struct Shard(RwLock<HashTable<Bucket>>);

impl Default for Store {
    fn default() -> Self {
        Self {
            shards: Box::default(),
            hasher: ahash::RandomState::new(),
            len: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            last_created: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }
}

impl Shard {
    // A panic under the lock leaves no half-done change behind that a later call could trip over,
    // so poison is ignored.
    fn read(&self) -> RwLockReadGuard<'_, HashTable<Bucket>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashTable<Bucket>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Look-ups.
impl Store {
    fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    /// By bits that the table itself uses for neither its place nor its tag.
    fn shard(&self, hash: u64) -> &Shard {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }

    /// Looks at the cookies of a site, under its lock.
    fn look<T>(&self, site: Site<'_>, look: impl FnOnce(&Bucket) -> T) -> Option<T> {
        let key = site.key.as_bytes();
        let hash = self.hash(key);
        let table = self.shard(hash).read();
        table.find(hash, |bucket| bucket.key() == key).map(look)
    }

    /// The `Cookie` header for a request, of which `reserved` bytes are taken already. `may_send`
    /// is the caller's say on each cookie; it is asked under no lock.
    pub(super) fn header(
        &self,
        visit: &Visit<'_>,
        limits: &CookieLimits,
        reserved: usize,
        may_send: Option<&dyn Fn(&Cookie) -> bool>,
    ) -> Option<HeaderValue> {
        let room = limits.header_bytes.saturating_sub(reserved);
        let mut survey = Survey::default();
        let header = self.look(visit.site, |bucket| {
            survey = bucket.survey(visit, |_| ());
            let fits = survey.count <= limits.header_cookies
                && survey.length <= room.saturating_add(SEPARATOR.len());
            if survey.count == 0 || !fits || may_send.is_some() {
                return None;
            }
            let Some(places) = survey.places else {
                let mut sent = Vec::with_capacity(survey.count);
                bucket.survey(visit, |slot| {
                    slot.touch(visit.now);
                    sent.push(&slot.data);
                });
                return line(sent.into_iter(), survey.length);
            };
            bucket.at(places).for_each(|slot| slot.touch(visit.now));
            bucket.line(places).cloned().or_else(|| {
                let line = line(bucket.at(places).map(|slot| &slot.data), survey.length)?;
                if self.bytes.load(Relaxed).saturating_add(line.len()) <= limits.bytes {
                    let more = bucket.keep_line(&line, places, survey.count);
                    self.bytes.fetch_add(more, Relaxed);
                }
                Some(line)
            })
        });
        if survey.is_stale {
            self.remove_expired_of(visit.site.key, visit.now);
        }
        match header.flatten() {
            None if survey.count > 0 => {
                self.chosen_header(visit, limits.header_cookies, room, may_send)
            }
            header => header,
        }
    }

    /// More match than a header may carry, or the caller has a say: some are [chosen](choose),
    /// still in their order.
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
        let header = choose(&mut cookies, most, room);
        let mut sent: Vec<_> = cookies.iter().map(|cookie| cookie.order).collect();
        sent.sort_unstable();
        self.look(visit.site, |bucket| {
            let slots = bucket.slots().iter();
            slots
                .filter(|slot| sent.binary_search(&slot.order).is_ok())
                .for_each(|slot| slot.touch(visit.now));
        });
        header
    }

    /// The cookies for a request, in the order they are sent.
    pub(super) fn matching(&self, visit: &Visit<'_>) -> Vec<Cookie> {
        let mut cookies = Vec::new();
        let survey = self
            .look(visit.site, |bucket| bucket.survey(visit, |slot| cookies.push(slot.cookie())));
        if survey.is_some_and(|survey| survey.is_stale) {
            self.remove_expired_of(visit.site.key, visit.now);
        }
        cookies
    }

    /// Every live cookie as of one moment, oldest first.
    pub(super) fn snapshot(&self, now: Millis) -> Vec<Cookie> {
        let (mut cookies, mut stale) = (Vec::new(), false);
        {
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
}

/// The same `Set-Cookie` again.
impl Store {
    pub(super) fn fingerprint(&self, line: &[u8]) -> u64 {
        self.hash(line) | 1
    }

    /// Stores a cookie that stands there by the very same line; `None` if there is none, or if it
    /// has to be judged again.
    ///
    /// What the line says was judged when it came first, so what remains is what the request says:
    /// that its host and path are the cookie's, and that it may touch what is `Secure`.
    pub(super) fn set_again<T>(
        &self,
        visit: &Visit<'_>,
        fingerprint: u64,
        line: &[u8],
        found: impl Fn(&Slot) -> T,
    ) -> Option<T> {
        let &Visit { origin, now, .. } = visit;
        self.look(visit.site, |bucket| {
            let slot = bucket.slots().iter().find(|slot| slot.source.fingerprint == fingerprint)?;
            let (data, source) = (&slot.data, slot.source);
            let same_text = line
                .strip_prefix(data.pair())
                .is_some_and(|rest| rest.first().is_none_or(|&b| b == b';'));
            let same_host = slot.covers(origin.host.as_bytes());
            let same_path =
                !source.has_default_path || origin.default_path().as_bytes() == data.path_bytes();
            let may_touch =
                origin.secure || bucket.slots().iter().all(|slot| !slot.data.flags.secure);
            if slot.expires() <= now || !(same_text && same_host && same_path && may_touch) {
                return None;
            }
            let expires = match source.max_age {
                0 => slot.expires(),
                age => now.saturating_add(u64::from(age) * 1000).min(NEVER - 1),
            };
            if slot.set_again(expires, now) {
                self.changes.fetch_add(1, Relaxed);
            }
            Some(found(slot))
        })
        .flatten()
    }
}

/// Changes.
impl Store {
    /// Stores what `rules` admitted, unless a `Secure` cookie stands in its way.
    pub(super) fn set<T>(
        &self,
        visit: &Visit<'_>,
        new: &Admitted<'_>,
        fingerprint: u64,
        limits: &CookieLimits,
        stored: impl Fn(&Slot) -> T,
    ) -> Result<(StoreAction, Option<T>), Rejection> {
        let (key, now) = (visit.site.key, visit.now);
        let hash = self.hash(key.as_bytes());
        let lives = new.expires > now;
        if lives && new.text_len() > limits.bytes {
            return Err(Rejection::NoRoom);
        }
        let source = Source {
            fingerprint: if new.lasts { fingerprint } else { 0 },
            max_age: new.max_age,
            has_default_path: new.has_default_path,
        };
        let same = |slot: &Slot| {
            let old = &slot.data;
            old.flags.host_only == new.flags.host_only
                && old.name() == new.name
                && old.path_bytes() == new.path.as_bytes()
                && old.domain_bytes() == new.domain.as_bytes()
        };
        let mut tally = Tally::default();
        let mut table = self.shard(hash).write();
        let place = table.entry(
            hash,
            |bucket| bucket.key() == key.as_bytes(),
            |bucket| self.hash(bucket.key()),
        );
        let place = match place {
            Entry::Vacant(_) if !lives => return Ok((StoreAction::Expired, None)),
            Entry::Vacant(entry) => Entry::Vacant(entry),
            Entry::Occupied(mut entry) => {
                let bucket = entry.get_mut();
                if !visit.origin.secure && bucket.slots().iter().any(|slot| slot.shields(new, now))
                {
                    return Err(Rejection::ShadowsSecure);
                }
                if let Some(at) = bucket.position(same) {
                    let slot = bucket.slot_mut(at);
                    if lives && slot.expires() > now {
                        let moved = slot.set_again(new.expires, now);
                        let action =
                            if slot.data.flags == new.flags && slot.data.value() == new.value {
                                slot.source = source;
                                StoreAction::Unchanged
                            } else {
                                let created = slot.data.created;
                                bucket.replace(at, new.to_data(created), source, &mut tally);
                                StoreAction::Updated
                            };
                        let slot = bucket.slot_mut(at);
                        let (order, cookie) = (slot.order, stored(slot));
                        if moved || action == StoreAction::Updated {
                            self.settle(tally);
                        }
                        drop(table);
                        self.evict_total(order, now, limits);
                        return Ok((action, Some(cookie)));
                    }
                    // A deletion; or the old one expired unseen, and what replaces it is a new
                    // cookie.
                    bucket.remove(at, &mut tally);
                    if bucket.is_empty() {
                        Entry::Vacant(entry.remove().1)
                    } else {
                        Entry::Occupied(entry)
                    }
                } else {
                    Entry::Occupied(entry)
                }
            }
        };
        if !lives {
            self.settle(tally);
            drop(table);
            return Ok((StoreAction::Expired, None));
        }
        let created = self.last_created.fetch_max(now, Relaxed).max(now);
        let order = self.next.fetch_add(1, Relaxed);
        let times = Times { expires: new.expires, updated: now, sent: 0 };
        let slot = Slot::new(new.to_data(created), order, times, source);
        let cookie = stored(&slot);
        let fits = insert(place, key, slot, limits, now, &mut tally);
        self.settle(tally);
        drop(table);
        if !fits {
            return Err(Rejection::NoRoom);
        }
        self.evict_total(order, now, limits);
        Ok((StoreAction::Inserted, Some(cookie)))
    }

    /// Puts a cookie in whatever its origin. One of the same identity makes room: its creation time
    /// stays if it is the older, and all of it stays if `unless_newer` and it was set later.
    pub(super) fn put(
        &self,
        site: Site<'_>,
        cookie: &Cookie,
        now: Millis,
        limits: &CookieLimits,
        unless_newer: bool,
    ) {
        let (mut data, key) = (cookie.data.clone(), site.key.as_bytes());
        data.flags.host_only |= site.is_suffix;
        let lives = cookie.times.expires > now;
        if lives && data.text_len() > limits.bytes {
            return;
        }
        let (hash, mut tally, mut order) = (self.hash(key), Tally::default(), None);
        let mut table = self.shard(hash).write();
        let place =
            table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
        let place = match place {
            Entry::Vacant(_) if !lives => return,
            Entry::Vacant(entry) => Entry::Vacant(entry),
            Entry::Occupied(mut entry) => {
                let bucket = entry.get_mut();
                if let Some(at) = bucket.position(|slot| slot.data.same_identity(&data)) {
                    let old = &bucket.slots()[at];
                    let newer = old.expires() > now && old.updated() > cookie.times.updated;
                    if unless_newer && newer && old.data.created <= data.created {
                        return;
                    }
                    let mut old = bucket.remove(at, &mut tally);
                    order = Some(old.order);
                    let created = data.created.min(old.data.created);
                    if unless_newer && newer {
                        old.data.created = created;
                        bucket.insert(old, &mut tally);
                        self.settle(tally);
                        drop(table);
                        return;
                    }
                    data.created = created;
                    if bucket.is_empty() {
                        Entry::Vacant(entry.remove().1)
                    } else {
                        Entry::Occupied(entry)
                    }
                } else {
                    Entry::Occupied(entry)
                }
            }
        };
        if !lives {
            self.settle(tally);
            drop(table);
            return;
        }
        let order = order.unwrap_or_else(|| self.next.fetch_add(1, Relaxed));
        insert(
            place,
            site.key,
            Slot::new(data, order, cookie.times, Source::default()),
            limits,
            now,
            &mut tally,
        );
        self.settle(tally);
        drop(table);
        self.evict_total(order, now, limits);
    }

    /// Of a host-only cookie and one for the whole domain, the host-only one goes first.
    pub(super) fn remove(
        &self,
        key: &str,
        domain: &str,
        path: &str,
        name: &[u8],
        now: Millis,
    ) -> Option<Cookie> {
        let mut removed = None;
        self.change(key, |bucket, tally| {
            // One that has expired unseen is not there.
            bucket.retain(tally, |slot| slot.expires() > now);
            let at = |host_only| {
                bucket.position(|slot| {
                    let data = &slot.data;
                    data.flags.host_only == host_only
                        && data.name() == name
                        && data.domain() == domain
                        && data.path() == path
                })
            };
            if let Some(at) = at(true).or_else(|| at(false)) {
                removed = Some(bucket.remove(at, tally).cookie());
            }
        });
        removed
    }

    pub(super) fn remove_domain(&self, key: &str, domain: &str) {
        self.change(key, |bucket, tally| bucket.retain(tally, |slot| slot.data.domain() != domain));
    }

    fn remove_expired_of(&self, key: &str, now: Millis) {
        self.change(key, |bucket, tally| bucket.retain(tally, |slot| slot.expires() > now));
    }

    pub(super) fn remove_expired(&self, now: Millis) -> usize {
        self.retain(|slot| slot.expires() > now)
    }

    pub(super) fn remove_session(&self) -> usize {
        self.retain(|slot| !is_session(slot))
    }

    pub(super) fn clear(&self) {
        self.retain(|_| false);
    }

    fn change(&self, key: &str, change: impl FnOnce(&mut Bucket, &mut Tally)) {
        let (key, mut tally) = (key.as_bytes(), Tally::default());
        let hash = self.hash(key);
        let mut table = self.shard(hash).write();
        if let Ok(mut entry) = table.find_entry(hash, |bucket| bucket.key() == key) {
            change(entry.get_mut(), &mut tally);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        if tally.len != 0 {
            self.settle(tally);
        }
    }

    /// All at once, as of one moment.
    fn retain(&self, keep: impl Fn(&Slot) -> bool) -> usize {
        let mut tally = Tally::default();
        let mut tables: Vec<_> = self.shards.iter().map(Shard::write).collect();
        for table in &mut tables {
            table.retain(|bucket| {
                bucket.retain(&mut tally, &keep);
                !bucket.is_empty()
            });
            // What a flood has filled is given back.
            let room = table.len() * 2;
            if room < table.capacity() / 2 {
                table.shrink_to(room, |bucket| self.hash(bucket.key()));
            }
        }
        if tally.len != 0 {
            self.settle(tally);
        }
        tally.len.unsigned_abs()
    }

    /// Counts a change, while the lock is held that it was made under: else what is counted out
    /// could not be in yet.
    fn settle(&self, tally: Tally) {
        self.len.fetch_add(tally.len.cast_unsigned(), Relaxed);
        self.bytes.fetch_add(tally.bytes.cast_unsigned(), Relaxed);
        self.changes.fetch_add(1, Relaxed);
    }

    /// Gives back what is there for speed alone.
    fn drop_lines(&self) {
        for shard in &*self.shards {
            let (mut table, mut tally) = (shard.write(), Tally::default());
            table.iter_mut().for_each(|bucket| bucket.drop_line(&mut tally));
            self.bytes.fetch_add(tally.bytes.cast_unsigned(), Relaxed);
        }
    }

    fn is_over(&self, limits: &CookieLimits) -> bool {
        self.len.load(Relaxed) > limits.total || self.bytes.load(Relaxed) > limits.bytes
    }

    /// Makes a jar over its totals give up what [`eviction`] chooses. `newest` has just been stored.
    fn evict_total(&self, newest: u64, now: Millis, limits: &CookieLimits) {
        if !self.is_over(limits) {
            return;
        }
        // Kept headers are there for speed alone, and may be all that is too much.
        self.drop_lines();
        if !self.is_over(limits) {
            return;
        }
        // One lock after the other, and none while the choice is made: requests go on meanwhile.
        // What they change is at worst one cookie more or less than there should be.
        let mut candidates = Vec::with_capacity(self.len());
        for shard in &*self.shards {
            candidates.extend(shard.read().iter().flat_map(Bucket::slots).map(Slot::candidate));
        }
        let doomed = eviction::of_jar(candidates, newest, limits, now);
        self.retain(|slot| !doomed.contains(&slot.order));
    }
}

/// Puts a new cookie in its place; `false` where its site has no room for it.
fn insert(
    place: Entry<'_, Bucket>,
    key: &str,
    slot: Slot,
    limits: &CookieLimits,
    now: Millis,
    tally: &mut Tally,
) -> bool {
    let order = slot.order;
    match place {
        _ if limits.per_domain == 0 || limits.total == 0 => false,
        Entry::Vacant(entry) => {
            tally.add(&slot);
            entry.insert(Bucket::new(key, slot));
            true
        }
        Entry::Occupied(mut entry) => {
            let bucket = entry.get_mut();
            bucket.insert(slot, tally);
            if bucket.slots().len() <= limits.per_domain {
                return true;
            }
            let cookies = bucket.slots().iter().map(Slot::candidate);
            let doomed = eviction::of_site(cookies, limits.per_domain, order, now);
            bucket.retain(tally, |slot| !doomed.contains(&slot.order));
            bucket.slots().iter().any(|slot| slot.order == order)
        }
    }
}
