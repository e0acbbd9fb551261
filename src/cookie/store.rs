//! The cookies of a jar: buckets by registrable domain, spread over locks so that readers of different sites do not meet.

use std::{
    collections::HashSet,
    hash::{BuildHasher, Hasher},
    sync::{
        PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use hashbrown::{HashTable, hash_table::Entry};
use http::{Uri, uri::Scheme};

use super::{
    bucket::{Bucket, Slot, Source, Tally, Visit, is_session, rank},
    cookie::{Cookie, Times},
    data::{Data, Millis, NEVER},
    limits::CookieLimits,
    origin::default_path,
    rules::{Admitted, Rejection},
    suffix::Site,
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
/// How many matching cookies a look-up notes without an allocation.
const FEW: usize = 64;

pub(super) struct Store {
    shards: Box<[Shard]>,
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
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
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
    // A panic under the lock leaves no half-done change behind that a later call could trip over, so poison is ignored.
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

    /// The `Cookie` header for a request, of which `reserved` bytes are taken already. `may_send` is the caller's say on
    /// each cookie; it is asked under no lock.
    pub(super) fn header(
        &self,
        visit: &Visit<'_>,
        limits: &CookieLimits,
        reserved: usize,
        may_send: Option<&dyn Fn(&Cookie) -> bool>,
    ) -> Option<Vec<u8>> {
        let (key, now) = (visit.site.key.as_bytes(), visit.now);
        let hash = self.hash(key);
        let room = limits.header_bytes.saturating_sub(reserved);
        let (mut chosen, mut count, mut length, mut stale) = ([0_u32; FEW], 0_usize, 0_usize, false);
        let mut header = None;
        {
            let table = self.shard(hash).read();
            let bucket = table.find(hash, |bucket| bucket.key() == key)?;
            for (at, slot) in (0_u32..).zip(bucket.slots()) {
                if slot.expires() <= now {
                    stale = true;
                } else if slot.matches(visit) {
                    if let Some(place) = chosen.get_mut(count) {
                        *place = at;
                    }
                    count += 1;
                    length += slot.data.pair().len() + 2;
                }
            }
            if count > 0 && count <= limits.header_cookies.min(FEW) && length - 2 <= room && may_send.is_none() {
                let mut line = Vec::with_capacity(length - 2);
                for &at in &chosen[..count] {
                    let slot = &bucket.slots()[at as usize];
                    push(&mut line, &slot.data);
                    slot.touch(now);
                }
                header = Some(line);
            }
        }
        if stale {
            self.remove_expired_of(hash, key, now);
        }
        if header.is_none() && count > 0 {
            header = self.chosen_header(visit, hash, limits.header_cookies, room, may_send);
        }
        header
    }

    /// More match than a header may carry, or the caller has a say: those used last are sent, still in their order.
    fn chosen_header(
        &self,
        visit: &Visit<'_>,
        hash: u64,
        most: usize,
        room: usize,
        may_send: Option<&dyn Fn(&Cookie) -> bool>,
    ) -> Option<Vec<u8>> {
        let mut cookies = self.matching(visit);
        if let Some(may_send) = may_send {
            cookies.retain(may_send);
        }
        let mut length = 0;
        cookies.sort_by_key(|cookie| std::cmp::Reverse((cookie.times.sent.max(cookie.times.updated), cookie.order)));
        cookies.truncate(most);
        cookies.retain(|cookie| {
            let longer = length + cookie.data.pair().len() + if length > 0 { 2 } else { 0 };
            let fits = longer <= room;
            if fits {
                length = longer;
            }
            fits
        });
        if cookies.is_empty() {
            return None;
        }
        cookies.sort_by_key(|cookie| rank(&cookie.data, cookie.order));
        let mut line = Vec::with_capacity(length);
        for cookie in &cookies {
            push(&mut line, &cookie.data);
        }
        let mut sent: Vec<_> = cookies.iter().map(|cookie| cookie.order).collect();
        sent.sort_unstable();
        let (table, key) = (self.shard(hash).read(), visit.site.key.as_bytes());
        let slots = table.find(hash, |bucket| bucket.key() == key).map_or(&[][..], Bucket::slots);
        slots.iter().filter(|slot| sent.binary_search(&slot.order).is_ok()).for_each(|slot| slot.touch(visit.now));
        Some(line)
    }

    /// The cookies for a request, in the order they are sent.
    pub(super) fn matching(&self, visit: &Visit<'_>) -> Vec<Cookie> {
        let (key, mut stale) = (visit.site.key.as_bytes(), false);
        let hash = self.hash(key);
        let cookies = {
            let table = self.shard(hash).read();
            let slots = table.find(hash, |bucket| bucket.key() == key).map_or(&[][..], Bucket::slots);
            stale |= slots.iter().any(|slot| slot.expires() <= visit.now);
            slots
                .iter()
                .filter(|slot| slot.expires() > visit.now && slot.matches(visit))
                .map(Slot::cookie)
                .collect::<Vec<_>>()
        };
        if stale {
            self.remove_expired_of(hash, key, visit.now);
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
    /// What tells a line from an origin from any other: scheme and host as they are spelt, the default path, the line.
    pub(super) fn fingerprint(&self, uri: &Uri, line: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(u8::from(uri.scheme() == Some(&Scheme::HTTPS)));
        if uri.scheme() != Some(&Scheme::HTTPS) {
            hasher.write(uri.scheme_str().unwrap_or_default().as_bytes());
        }
        hasher.write(uri.host().unwrap_or_default().as_bytes());
        hasher.write(default_path(uri.path()).as_bytes());
        hasher.write(line);
        hasher.finish() | 1
    }

    /// Stores a cookie that stands there by the very same line of the very same origin; `None` if there is none, or if it
    /// has to be judged again.
    ///
    /// The bucket is guessed from the host: a wrong guess finds no such fingerprint. The cookie's text is compared too,
    /// so that at the very worst an expiry moves.
    pub(super) fn set_again<T>(
        &self,
        uri: &Uri,
        fingerprint: u64,
        line: &[u8],
        now: Millis,
        found: impl Fn(&Slot) -> T,
    ) -> Option<T> {
        let host = uri.host()?.as_bytes();
        for key in guesses(host) {
            let hash = self.hash(key);
            let table = self.shard(hash).read();
            let Some(bucket) = table.find(hash, |bucket| bucket.key() == key) else { continue };
            let slot = bucket.slots().iter().find(|slot| slot.source.fingerprint == fingerprint)?;
            let text = line.strip_prefix(slot.data.pair()).is_some_and(|rest| rest.is_empty() || rest[0] == b';');
            let secure = uri.scheme() == Some(&Scheme::HTTPS) || !bucket.slots().iter().any(|s| s.data.flags.secure);
            if !text || !secure || slot.expires() <= now {
                return None;
            }
            let expires = match slot.source.max_age {
                0 => slot.expires(),
                age => now.saturating_add(u64::from(age) * 1000).min(NEVER - 1),
            };
            if slot.set_again(expires, now) {
                self.changes.fetch_add(1, Relaxed);
            }
            return Some(found(slot));
        }
        None
    }
}

/// Changes.
impl Store {
    /// Stores what `rules` admitted, unless a `Secure` cookie stands in its way.
    pub(super) fn set(
        &self,
        visit: &Visit<'_>,
        new: &Admitted<'_>,
        fingerprint: u64,
        limits: &CookieLimits,
    ) -> Result<(StoreAction, Option<Cookie>), Rejection> {
        let (key, now) = (visit.site.key.as_bytes(), visit.now);
        let hash = self.hash(key);
        let lives = new.expires > now;
        if lives && new.text_len() > limits.bytes {
            return Err(Rejection::NoRoom);
        }
        let source = if new.lasts { Source { fingerprint, max_age: new.max_age } } else { Source::default() };
        let same = |slot: &Slot| {
            let old = &slot.data;
            old.flags.host_only == new.flags.host_only
                && old.name() == new.name
                && old.path_bytes() == new.path.as_bytes()
                && old.domain_bytes() == new.domain.as_bytes()
        };
        let mut tally = Tally::default();
        let mut table = self.shard(hash).write();
        let place = table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
        let place = match place {
            Entry::Vacant(_) if !lives => return Ok((StoreAction::Expired, None)),
            Entry::Vacant(entry) => Entry::Vacant(entry),
            Entry::Occupied(mut entry) => {
                let bucket = entry.get_mut();
                if !visit.origin.secure && bucket.slots().iter().any(|slot| slot.shields(new, now)) {
                    return Err(Rejection::ShadowsSecure);
                }
                if let Some(at) = bucket.position(same) {
                    let slot = bucket.slot_mut(at);
                    if lives && slot.expires() > now {
                        let moved = slot.set_again(new.expires, now);
                        let action = if slot.data.flags == new.flags && slot.data.value() == new.value {
                            slot.source = source;
                            StoreAction::Unchanged
                        } else {
                            tally.take(slot);
                            slot.replace(new.to_data(slot.data.created), source);
                            tally.add(slot);
                            StoreAction::Updated
                        };
                        let cookie = slot.cookie();
                        drop(table);
                        if moved || action == StoreAction::Updated {
                            self.settle(tally);
                        }
                        self.evict_total(cookie.order, now, limits);
                        return Ok((action, Some(cookie)));
                    }
                    // A deletion; or the old one expired unseen, and what replaces it is a new cookie.
                    bucket.remove(at, &mut tally);
                    if bucket.is_empty() { Entry::Vacant(entry.remove().1) } else { Entry::Occupied(entry) }
                } else {
                    Entry::Occupied(entry)
                }
            }
        };
        if !lives {
            drop(table);
            self.settle(tally);
            return Ok((StoreAction::Expired, None));
        }
        let created = self.last_created.fetch_max(now, Relaxed).max(now);
        let order = self.next.fetch_add(1, Relaxed);
        let times = Times { expires: new.expires, updated: now, sent: 0 };
        let slot = Slot::new(new.to_data(created), order, times, source);
        let cookie = slot.cookie();
        let fits = insert(place, visit.site, slot, limits, now, &mut tally);
        drop(table);
        self.settle(tally);
        if !fits {
            return Err(Rejection::NoRoom);
        }
        self.evict_total(order, now, limits);
        Ok((StoreAction::Inserted, Some(cookie)))
    }

    /// Puts a cookie in whatever its origin. One of the same identity makes room: its creation time stays if it is the
    /// older, and all of it stays if `unless_newer` and it was set later.
    pub(super) fn put(&self, site: Site<'_>, cookie: &Cookie, now: Millis, limits: &CookieLimits, unless_newer: bool) {
        let (mut data, key) = (cookie.data.clone(), site.key.as_bytes());
        data.flags.host_only |= site.is_suffix;
        let lives = cookie.times.expires > now;
        if lives && data.text_len() > limits.bytes {
            return;
        }
        let (hash, mut tally, mut order) = (self.hash(key), Tally::default(), None);
        let mut table = self.shard(hash).write();
        let place = table.entry(hash, |bucket| bucket.key() == key, |bucket| self.hash(bucket.key()));
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
                        bucket.insert(old);
                        return;
                    }
                    data.created = created;
                    if bucket.is_empty() { Entry::Vacant(entry.remove().1) } else { Entry::Occupied(entry) }
                } else {
                    Entry::Occupied(entry)
                }
            }
        };
        if !lives {
            drop(table);
            self.settle(tally);
            return;
        }
        let order = order.unwrap_or_else(|| self.next.fetch_add(1, Relaxed));
        insert(place, site, Slot::new(data, order, cookie.times, Source::default()), limits, now, &mut tally);
        drop(table);
        self.settle(tally);
        self.evict_total(order, now, limits);
    }

    /// Of a host-only cookie and one for the whole domain, the host-only one goes first.
    pub(super) fn remove(&self, key: &str, domain: &str, path: &str, name: &[u8]) -> Option<Cookie> {
        let (key, mut removed) = (key.as_bytes(), None);
        self.change(self.hash(key), key, |bucket, tally| {
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
        let key = key.as_bytes();
        self.change(self.hash(key), key, |bucket, tally| bucket.retain(tally, |slot| slot.data.domain() != domain));
    }

    fn remove_expired_of(&self, hash: u64, key: &[u8], now: Millis) {
        self.change(hash, key, |bucket, tally| bucket.retain(tally, |slot| slot.expires() > now));
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

    fn change(&self, hash: u64, key: &[u8], change: impl FnOnce(&mut Bucket, &mut Tally)) {
        let mut tally = Tally::default();
        let mut table = self.shard(hash).write();
        if let Ok(mut entry) = table.find_entry(hash, |bucket| bucket.key() == key) {
            change(entry.get_mut(), &mut tally);
            if entry.get().is_empty() {
                entry.remove();
            }
        }
        drop(table);
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

    /// Counts a change.
    fn settle(&self, tally: Tally) {
        self.len.fetch_add(tally.len.cast_unsigned(), Relaxed);
        self.bytes.fetch_add(tally.bytes.cast_unsigned(), Relaxed);
        self.changes.fetch_add(1, Relaxed);
    }

    fn is_over(&self, limits: &CookieLimits) -> bool {
        self.len.load(Relaxed) > limits.total || self.bytes.load(Relaxed) > limits.bytes
    }

    /// The jar over its total gives up the expired, then the least recently used, of which first what was never sent.
    ///
    /// The older half is spared, so that no flood of newcomers reaches what was there before it, sent or not; of the
    /// newer half the newest goes last. A sixteenth goes at once: a flood does not pay for a search per cookie.
    fn evict_total(&self, newest: u64, now: Millis, limits: &CookieLimits) {
        if !self.is_over(limits) {
            return;
        }
        self.remove_expired(now);
        if !self.is_over(limits) {
            return;
        }
        let mut candidates: Vec<(u64, usize, bool, (Millis, u64))> = Vec::with_capacity(self.len());
        let (mut len, mut bytes) = (0, 0);
        for shard in &self.shards {
            for slot in shard.read().iter().flat_map(Bucket::slots) {
                len += 1;
                bytes += slot.data.text_len();
                if slot.order != newest {
                    candidates.push((slot.order, slot.data.text_len(), slot.was_sent(), slot.last_used()));
                }
            }
        }
        candidates.sort_unstable_by_key(|(order, ..)| *order);
        let (mut older, mut text) = (0, 0);
        for (_, length, ..) in &candidates {
            text += length;
            if older >= limits.total / 2 || text > limits.bytes / 2 {
                break;
            }
            older += 1;
        }
        let (spared, newer) = candidates.split_at_mut(older);
        let worth = |(_, _, was_sent, last_used): &(u64, usize, bool, (Millis, u64))| (*was_sent, *last_used);
        spared.sort_unstable_by_key(worth);
        newer.sort_unstable_by_key(worth);
        let (most, room) = (limits.total - limits.total / 16, limits.bytes - limits.bytes / 16);
        let mut doomed = HashSet::new();
        for (order, length, ..) in newer.iter().chain(spared.iter()) {
            if len <= most && bytes <= room {
                break;
            }
            len -= 1;
            bytes -= length;
            doomed.insert(*order);
        }
        self.retain(|slot| !doomed.contains(&slot.order));
    }
}

/// Puts a new cookie in its place; `false` where its site has no room for it.
fn insert(
    place: Entry<'_, Bucket>,
    site: Site<'_>,
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
            entry.insert(Bucket::new(site, slot));
            true
        }
        Entry::Occupied(mut entry) => {
            let bucket = entry.get_mut();
            tally.add(&slot);
            bucket.insert(slot);
            if bucket.slots().len() <= limits.per_domain {
                return true;
            }
            bucket.evict(limits.per_domain, order, now, tally);
            bucket.slots().iter().any(|slot| slot.order == order)
        }
    }
}

fn push(header: &mut Vec<u8>, data: &Data) {
    if !header.is_empty() {
        header.extend_from_slice(b"; ");
    }
    header.extend_from_slice(data.pair());
}

/// What the registrable domain of a host may be, most likely first, without a look at the public suffixes.
fn guesses(host: &[u8]) -> impl Iterator<Item = &[u8]> {
    let is_name = host.last().is_some_and(u8::is_ascii_alphabetic);
    let mut dots = host.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
    // The last dot parts a name from its top level domain: what follows it alone is no registrable domain.
    let last = dots.next().filter(|_| is_name);
    let parents = dots.take(if last.is_some() { 2 } else { 0 }).map(|at| &host[at + 1..]);
    parents.chain(std::iter::once(host))
}
