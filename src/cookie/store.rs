//! The cookies themselves, indexed by registrable domain: matching, order, eviction. No lock and no clock.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    cookie::{Cookie, Data, Millis, NEVER},
    limits::CookieLimits,
    origin::{Origin, domain_match, path_match},
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

#[derive(Default)]
pub(super) struct Store {
    buckets: HashMap<Box<str>, Bucket, ahash::RandomState>,
    len: usize,
    bytes: usize,
    /// Numbers the slots in the order they came, for cookies of the same millisecond.
    next: u64,
    /// Creation times never run backward, whatever the clock does.
    last_created: Millis,
}

/// The cookies of one registrable domain, in the order in which a header names them: longest path first, then oldest.
#[derive(Default)]
struct Bucket {
    slots: Vec<Slot>,
}

struct Slot {
    data: Arc<Data>,
    order: u64,
    expires: Millis,
    /// Time of the last access, doubled, plus one once the cookie has been sent.
    access: AtomicU64,
}

impl Slot {
    fn cookie(&self) -> Cookie {
        Cookie {
            data: Arc::clone(&self.data),
            expires: self.expires,
            last_access: self.access.load(Ordering::Relaxed) >> 1,
        }
    }

    fn rank(&self) -> (std::cmp::Reverse<usize>, Millis, u64) {
        (std::cmp::Reverse(self.data.path_len()), self.data.created, self.order)
    }

    /// For two cookies of the same age the one that came first goes first.
    fn last_used(&self) -> (Millis, u64) {
        (self.access.load(Ordering::Relaxed) >> 1, self.order)
    }

    fn was_sent(&self) -> bool {
        self.access.load(Ordering::Relaxed) & 1 == 1
    }

    /// RFC 6265bis section 5.8.3. `site` is the host's: a suffix gets nothing but its own host-only cookies.
    fn matches(&self, origin: &Origin<'_>, site: Site<'_>) -> bool {
        let flags = self.data.flags;
        let domain = if flags.host_only {
            self.data.domain() == origin.host
        } else {
            !site.is_suffix && domain_match(&origin.host, self.data.domain())
        };
        domain && (!flags.secure || origin.secure) && path_match(origin.path, self.data.path())
    }
}

/// What a look-up found, besides the cookies.
pub(super) struct Found<'a> {
    slots: Vec<&'a Slot>,
    /// Whether expired cookies wait to be removed.
    pub(super) stale: bool,
}

impl Store {
    /// The cookies for a request, in the order they are sent.
    pub(super) fn matching(&self, origin: &Origin<'_>, site: Site<'_>, now: Millis) -> (Vec<Cookie>, bool) {
        let found = self.find(origin, site, now);
        (found.slots.iter().map(|slot| slot.cookie()).collect(), found.stale)
    }

    fn find(&self, origin: &Origin<'_>, site: Site<'_>, now: Millis) -> Found<'_> {
        let mut found = Found { slots: Vec::new(), stale: false };
        if let Some(bucket) = self.buckets.get(site.key) {
            for slot in &bucket.slots {
                if slot.expires <= now {
                    found.stale = true;
                } else if slot.matches(origin, site) {
                    found.slots.push(slot);
                }
            }
        }
        found
    }

    /// The `Cookie` header for a request, of which `reserved` bytes are taken already; whether expired cookies were met.
    pub(super) fn header(
        &self,
        origin: &Origin<'_>,
        site: Site<'_>,
        now: Millis,
        limits: &CookieLimits,
        reserved: usize,
    ) -> (Option<Vec<u8>>, bool) {
        let Some(bucket) = self.buckets.get(site.key) else {
            return (None, false);
        };
        let (mut stale, mut count, mut length) = (false, 0_usize, 0_usize);
        for slot in &bucket.slots {
            if slot.expires <= now {
                stale = true;
            } else if slot.matches(origin, site) {
                count += 1;
                length += slot.data.pair().len() + 2;
            }
        }
        if count == 0 {
            return (None, stale);
        }
        let room = limits.header_bytes.saturating_sub(reserved);
        if count <= limits.header_cookies && length - 2 <= room {
            let mut header = Vec::with_capacity(length - 2);
            for slot in &bucket.slots {
                if slot.expires > now && slot.matches(origin, site) {
                    push(&mut header, slot, now);
                }
            }
            return (Some(header), stale);
        }
        (self.crowded_header(origin, site, now, limits.header_cookies, room), stale)
    }

    /// More match than a header may carry: those used last are sent, still in their order.
    fn crowded_header(
        &self,
        origin: &Origin<'_>,
        site: Site<'_>,
        now: Millis,
        most: usize,
        room: usize,
    ) -> Option<Vec<u8>> {
        let mut slots = self.find(origin, site, now).slots;
        // Cached: others that share the read lock move the times while this sorts.
        slots.sort_by_cached_key(|slot| std::cmp::Reverse(slot.last_used()));
        let mut length = 0;
        slots.truncate(most);
        slots.retain(|slot| {
            let longer = length + slot.data.pair().len() + if length > 0 { 2 } else { 0 };
            let fits = longer <= room;
            if fits {
                length = longer;
            }
            fits
        });
        slots.sort_by_key(|slot| slot.rank());
        let mut header = Vec::with_capacity(length);
        for slot in &slots {
            push(&mut header, slot, now);
        }
        (!slots.is_empty()).then_some(header)
    }

    /// Stores what `rules` admitted, unless a `Secure` cookie stands in its way.
    pub(super) fn set(
        &mut self,
        origin: &Origin<'_>,
        site: Site<'_>,
        new: &Admitted<'_>,
        now: Millis,
        limits: &CookieLimits,
    ) -> Result<(StoreAction, Option<Cookie>), Rejection> {
        let same = |slot: &Slot| {
            let old = &slot.data;
            old.flags.host_only == new.flags.host_only
                && old.name() == new.name
                && old.path() == new.path
                && old.domain() == new.domain
        };
        if let Some(bucket) = self.buckets.get_mut(site.key) {
            if !origin.secure && bucket.slots.iter().any(|slot| slot.shields(new, now)) {
                return Err(Rejection::ShadowsSecure);
            }
            if let Some(at) = bucket.slots.iter().position(same) {
                let slot = &mut bucket.slots[at];
                if new.expires > now && slot.expires > now {
                    let action = if slot.data.flags == new.flags && slot.data.value() == new.value {
                        StoreAction::Unchanged
                    } else {
                        self.bytes -= slot.data.text_len();
                        slot.data = Arc::new(new.to_data(slot.data.created));
                        self.bytes += slot.data.text_len();
                        StoreAction::Updated
                    };
                    slot.expires = new.expires;
                    slot.access.store(now << 1 | u64::from(slot.was_sent()), Ordering::Relaxed);
                    let (cookie, order) = (slot.cookie(), slot.order);
                    self.evict_total(order, now, limits);
                    return Ok((action, Some(cookie)));
                }
                // A deletion; or the old one expired unseen, and what replaces it is a new cookie.
                self.take(site.key, same);
            }
        }
        if new.expires <= now {
            return Ok((StoreAction::Expired, None));
        }
        self.last_created = self.last_created.max(now);
        let data = Arc::new(new.to_data(self.last_created));
        let cookie = Cookie { data, expires: new.expires, last_access: now };
        if self.insert(site.key, &cookie, None, now, limits) {
            Ok((StoreAction::Inserted, Some(cookie)))
        } else {
            Err(Rejection::NoRoom)
        }
    }

    /// Puts a cookie in whatever its origin; one of the same identity makes room, and the older creation time stays.
    pub(super) fn put(&mut self, site: Site<'_>, cookie: &Cookie, now: Millis, limits: &CookieLimits) {
        let mut data = Arc::clone(&cookie.data);
        if site.is_suffix && !data.flags.host_only {
            data = Arc::new(data.as_host_only());
        }
        let old = self.take(site.key, |slot| slot.data.same_identity(&data));
        let order = old.as_ref().map(|old| old.order);
        if let Some(old) = old
            && old.data.created < data.created
        {
            data = Arc::new(data.with_created(old.data.created));
        }
        if cookie.expires > now {
            self.insert(site.key, &Cookie { data, ..*cookie }, order, now, limits);
        }
    }

    /// Puts a cookie in its place among the others, the place of the one before it if it had one; `false` where the
    /// limits leave no room for it.
    fn insert(&mut self, key: &str, cookie: &Cookie, order: Option<u64>, now: Millis, limits: &CookieLimits) -> bool {
        let data = Arc::clone(&cookie.data);
        if data.text_len() > limits.bytes {
            return false;
        }
        let order = order.unwrap_or(self.next);
        self.next = self.next.max(order + 1);
        self.len += 1;
        self.bytes += data.text_len();
        let slot = Slot { data, order, expires: cookie.expires, access: AtomicU64::new(cookie.last_access << 1) };
        let bucket = match self.buckets.get_mut(key) {
            Some(bucket) => bucket,
            None => self.buckets.entry(key.into()).or_default(),
        };
        let at = bucket.slots.partition_point(|other| other.rank() < slot.rank());
        bucket.slots.insert(at, slot);
        let is_full = bucket.slots.len() > limits.per_domain;
        if !is_full && self.len <= limits.total && self.bytes <= limits.bytes {
            return true;
        }
        if is_full {
            self.evict_domain(key, order, now, limits.per_domain);
        }
        self.evict_total(order, now, limits);
        self.buckets.get(key).is_some_and(|bucket| bucket.slots.iter().any(|slot| slot.order == order))
    }

    /// A site over its share gives up its own: expired, then not `Secure`, then the least recently used. The newest goes
    /// last among its equals, but before what is `Secure` if it is not.
    fn evict_domain(&mut self, key: &str, newest: u64, now: Millis, most: usize) {
        self.remove_expired_of(key, now);
        while let Some(bucket) = self.buckets.get(key)
            && bucket.slots.len() > most
        {
            let worth = |slot: &&Slot| (slot.data.flags.secure, slot.order == newest, slot.last_used());
            let victim = bucket.slots.iter().min_by_key(worth).map(|slot| slot.order);
            self.take(key, |slot| Some(slot.order) == victim);
        }
    }

    /// The jar over its total gives up the expired, then what was never sent (a flood), then the least recently used. A
    /// sixteenth goes at once, so that a flood does not pay for a search per cookie.
    fn evict_total(&mut self, newest: u64, now: Millis, limits: &CookieLimits) {
        if self.len <= limits.total && self.bytes <= limits.bytes {
            return;
        }
        self.remove_expired(now);
        if self.len <= limits.total && self.bytes <= limits.bytes {
            return;
        }
        let (most, room) = (limits.total - limits.total / 16, limits.bytes - limits.bytes / 16);
        let mut slots: Vec<_> = self.buckets.values().flat_map(|bucket| &bucket.slots).collect();
        slots.sort_unstable_by_key(|slot| (slot.order == newest, slot.was_sent(), slot.last_used()));
        let (mut len, mut bytes) = (self.len, self.bytes);
        let mut doomed = std::collections::HashSet::new();
        for slot in slots {
            if len <= most && bytes <= room {
                break;
            }
            len -= 1;
            bytes -= slot.data.text_len();
            doomed.insert(slot.order);
        }
        self.retain(|slot| !doomed.contains(&slot.order));
    }

    pub(super) fn remove_expired(&mut self, now: Millis) -> usize {
        self.retain(|slot| slot.expires > now)
    }

    pub(super) fn remove_session(&mut self) -> usize {
        self.retain(|slot| slot.expires != NEVER)
    }

    pub(super) fn remove_domain(&mut self, domain: &str) {
        self.retain(|slot| slot.data.domain() != domain);
    }

    pub(super) fn remove_expired_of(&mut self, key: &str, now: Millis) {
        let Some(bucket) = self.buckets.get_mut(key) else { return };
        let (len, bytes) = (&mut self.len, &mut self.bytes);
        bucket.slots.retain(|slot| {
            let live = slot.expires > now;
            if !live {
                *len -= 1;
                *bytes -= slot.data.text_len();
            }
            live
        });
        if bucket.slots.is_empty() {
            self.buckets.remove(key);
        }
    }

    /// Of a host-only cookie and one for the whole domain, the host-only one goes first.
    pub(super) fn remove(&mut self, key: &str, domain: &str, path: &str, name: &[u8]) -> Option<Cookie> {
        let matches = |slot: &Slot, host_only| {
            let data = &slot.data;
            data.flags.host_only == host_only && data.name() == name && data.domain() == domain && data.path() == path
        };
        let host_only = self.take(key, |slot| matches(slot, true));
        host_only.or_else(|| self.take(key, |slot| matches(slot, false))).map(|slot| slot.cookie())
    }

    pub(super) fn clear(&mut self) {
        self.retain(|_| false);
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Every live cookie, oldest first; whether expired cookies wait to be removed.
    pub(super) fn snapshot(&self, now: Millis) -> (Vec<Cookie>, bool) {
        let mut slots: Vec<_> = self.slots().filter(|slot| slot.expires > now).collect();
        slots.sort_unstable_by_key(|slot| (slot.data.created, slot.order));
        let stale = slots.len() < self.len;
        (slots.into_iter().map(Slot::cookie).collect(), stale)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.buckets.values().flat_map(|bucket| &bucket.slots)
    }

    /// Takes out the first cookie of that site that is wanted.
    fn take(&mut self, key: &str, wanted: impl Fn(&Slot) -> bool) -> Option<Slot> {
        let bucket = self.buckets.get_mut(key)?;
        let at = bucket.slots.iter().position(wanted)?;
        let slot = bucket.slots.remove(at);
        if bucket.slots.is_empty() {
            self.buckets.remove(key);
        }
        self.len -= 1;
        self.bytes -= slot.data.text_len();
        Some(slot)
    }

    fn retain(&mut self, keep: impl Fn(&Slot) -> bool) -> usize {
        let before = self.len;
        let (mut len, mut bytes) = (0, 0);
        self.buckets.retain(|_, bucket| {
            bucket.slots.retain(&keep);
            len += bucket.slots.len();
            bytes += bucket.slots.iter().map(|slot| slot.data.text_len()).sum::<usize>();
            !bucket.slots.is_empty()
        });
        (self.len, self.bytes) = (len, bytes);
        before - len
    }
}

impl Slot {
    /// Leave secure cookies alone (RFC 6265bis section 5.7, step 12): whether this one forbids a non-secure origin `new`.
    fn shields(&self, new: &Admitted<'_>, now: Millis) -> bool {
        let old = &self.data;
        old.flags.secure
            && self.expires > now
            && old.name() == new.name
            && (domain_match(&new.domain, old.domain()) || domain_match(old.domain(), &new.domain))
            && path_match(&new.path, old.path())
    }
}

fn push(header: &mut Vec<u8>, slot: &Slot, now: Millis) {
    if !header.is_empty() {
        header.extend_from_slice(b"; ");
    }
    header.extend_from_slice(slot.data.pair());
    slot.access.store(now << 1 | 1, Ordering::Relaxed);
}
