//! The cookies of one registrable domain: which match, in which order they are sent, which goes
//! first.

use std::{
    cell::Cell,
    cmp::Reverse,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

use http::HeaderValue;
use once_cell::race::OnceBox;

use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Data, Flags, Millis, NEVER, Times},
    model::origin::{Origin, domain_match},
    model::path::path_match,
    model::rules::Admitted,
    model::same_site::Reach,
    model::suffix::PublicSuffixes,
};

/// A request or a response, as far as cookies go by it.
pub(in crate::cookie) struct Visit<'a> {
    pub(in crate::cookie) origin: &'a Origin<'a>,
    pub(in crate::cookie) suffixes: &'a PublicSuffixes,
    pub(in crate::cookie) reach: Reach,
    pub(in crate::cookie) now: Millis,
    /// See [`key`](Self::key).
    key: Cell<Option<&'a str>>,
}

impl<'a> Visit<'a> {
    pub(in crate::cookie) const fn new(
        origin: &'a Origin<'a>,
        suffixes: &'a PublicSuffixes,
        reach: Reach,
        now: Millis,
    ) -> Self {
        Self { origin, suffixes, reach, now, key: Cell::new(None) }
    }

    /// The registrable domain of the host, by which its cookies are filed; the public suffixes are
    /// asked once.
    pub(in crate::cookie) fn key(&self) -> &'a str {
        self.key.get().unwrap_or_else(|| {
            let key = self.suffixes.site(&self.origin.host).key;
            self.key.set(Some(key));
            key
        })
    }

    /// Takes it from a bucket that has the host's ending for a key, if that [knows](Bucket::knows)
    /// the host.
    pub(in crate::cookie) fn learn(&self, bucket: &Bucket) {
        let host = &*self.origin.host;
        if bucket.knows(host.as_bytes()) {
            self.key.set(
                host.len().checked_sub(usize::from(bucket.key)).and_then(|start| host.get(start..)),
            );
        }
    }
}

/// A stored cookie. What a look-up or an unchanged `Set-Cookie` moves is atomic, so that both share
/// the read lock.
pub(in crate::cookie) struct Slot {
    pub(in crate::cookie) data: Data,
    /// Numbers the cookies of a jar as they came.
    pub(in crate::cookie) order: u64,
    expires: AtomicU64,
    updated: AtomicU64,
    /// 0 until it is sent.
    sent: AtomicU64,
    pub(in crate::cookie) source: Source,
}

/// The `Set-Cookie` line that a cookie came by, so that the same line again need not be judged
/// again.
#[derive(Clone, Copy, Default)]
pub(in crate::cookie) struct Source {
    /// A keyed hash of the line; 0 where the same line could mean something else the next time.
    pub(in crate::cookie) fingerprint: u64,
    /// Seconds; 0 where the line has no positive `Max-Age`.
    pub(in crate::cookie) max_age: u32,
    /// Whether the request's path gave the cookie its own.
    pub(in crate::cookie) has_default_path: bool,
}

impl Slot {
    pub(in crate::cookie) const fn new(
        data: Data,
        order: u64,
        times: Times,
        source: Source,
    ) -> Self {
        Self {
            data,
            order,
            expires: AtomicU64::new(times.expires),
            updated: AtomicU64::new(times.updated),
            sent: AtomicU64::new(times.sent),
            source,
        }
    }

    pub(in crate::cookie) fn cookie(&self) -> Cookie {
        let times = Times {
            expires: self.expires(),
            updated: self.updated(),
            sent: self.sent.load(Relaxed),
        };
        Cookie { data: self.data.clone(), times, order: self.order }
    }

    pub(in crate::cookie) fn expires(&self) -> Millis {
        self.expires.load(Relaxed)
    }

    pub(in crate::cookie) fn updated(&self) -> Millis {
        self.updated.load(Relaxed)
    }

    pub(in crate::cookie) fn was_sent(&self) -> bool {
        self.sent.load(Relaxed) != 0
    }

    /// Of two cookies of the same age the one that came first goes first.
    pub(in crate::cookie) fn last_used(&self) -> (Millis, u64) {
        (self.sent.load(Relaxed).max(self.updated()), self.order)
    }

    pub(in crate::cookie) fn touch(&self, now: Millis) {
        self.sent.store(now.max(1), Relaxed);
    }

    /// It was set again as it is; says whether its expiry moved.
    pub(in crate::cookie) fn set_again(&self, expires: Millis, now: Millis) -> bool {
        self.updated.store(now, Relaxed);
        self.expires.swap(expires, Relaxed) != expires
    }

    fn is_allowed(&self, visit: &Visit<'_>) -> bool {
        let Flags { secure, same_site, .. } = self.data.flags;
        (!secure || visit.origin.secure) && visit.reach.sends(same_site)
    }

    fn is_on_path(&self, path: &[u8]) -> bool {
        path_match(path, self.data.path_bytes())
    }

    /// The host lies in the bucket's registrable domain; where that is a suffix, every cookie in it
    /// is the host's own.
    pub(in crate::cookie) fn covers(&self, host: &[u8]) -> bool {
        let domain = self.data.domain_bytes();
        if host.len() == domain.len() {
            host == domain
        } else {
            !self.data.flags.host_only
                && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with(b"."))
        }
    }

    /// Leave secure cookies alone (RFC 6265bis section 5.7, step 12): whether this one forbids a
    /// non-secure origin `new`.
    pub(in crate::cookie) fn shields(&self, new: &Admitted<'_>, now: Millis) -> bool {
        let old = &self.data;
        old.flags.secure
            && self.expires() > now
            && new.passes_for(old.name())
            && (domain_match(&new.domain, old.domain()) || domain_match(old.domain(), &new.domain))
            && path_match(new.path.as_bytes(), old.path_bytes())
    }
}

impl Line {
    fn len(&self) -> usize {
        self.value.len() + self.host.as_ref().map_or(0, |host| host.len())
    }
}

/// Longest path first, then oldest.
pub(in crate::cookie) fn rank(data: &Data, order: u64) -> (Reverse<usize>, Millis, u64) {
    (Reverse(data.path_len()), data.created, order)
}

/// The cookies of one registrable domain, at least one, by their [`rank`].
pub(in crate::cookie) struct Bucket {
    slots: Vec<Slot>,
    /// How much of a cookie's domain is the registrable domain.
    key: u16,
    /// Every cookie is known to go to the same hosts, as they do where a server has one host name.
    has_one_scope: bool,
    /// And to the same paths.
    has_one_path: bool,
    /// Of a host that the public suffixes were asked about what stands before the registrable
    /// domain, if it is as short as `www`; 0 for none.
    subdomain: AtomicU32,
    /// Kept from a request. Boxed, since most sites that a jar knows are not asked again.
    line: OnceBox<Line>,
}

/// The header of a request.
struct Line {
    value: HeaderValue,
    /// Of the cookies that went into it.
    places: Places,
    /// The request's host, which is thereby known to belong to the bucket's site; `None` where a
    /// cookie tells that.
    host: Option<Box<[u8]>>,
}

/// Fewer cookies than these are joined faster than their header is worth in memory.
const WORTH_KEEPING: usize = 3;

/// Some cookies of a bucket: a bit for each by its place, and every bit where it is all of them,
/// however many.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::cookie) struct Places(u64);

impl Places {
    const ALL: Self = Self(u64::MAX);

    const fn has(self, place: usize) -> bool {
        self.0 >> (place % 64) & 1 == 1
    }
}

/// What of a bucket goes along with a request.
#[derive(Default)]
pub(in crate::cookie) struct Survey {
    pub(in crate::cookie) count: usize,
    /// Of the pairs, each behind its separator.
    pub(in crate::cookie) length: usize,
    /// `None` where it is some of more cookies than there are bits.
    pub(in crate::cookie) places: Option<Places>,
    /// Some have expired.
    pub(in crate::cookie) is_stale: bool,
}

/// How many cookies and bytes of text a change has added, or taken out.
#[derive(Clone, Copy, Default)]
pub(in crate::cookie) struct Tally {
    pub(in crate::cookie) len: isize,
    pub(in crate::cookie) bytes: isize,
}

impl Tally {
    pub(in crate::cookie) fn add(&mut self, slot: &Slot) {
        self.len += 1;
        self.bytes += slot.data.text_len().cast_signed();
    }

    pub(in crate::cookie) fn take(&mut self, slot: &Slot) {
        self.len -= 1;
        self.bytes -= slot.data.text_len().cast_signed();
    }
}

impl Bucket {
    pub(in crate::cookie) fn new(key: &str, slot: Slot) -> Self {
        Self {
            slots: vec![slot],
            key: u16::try_from(key.len()).unwrap_or(u16::MAX),
            has_one_scope: true,
            has_one_path: true,
            subdomain: AtomicU32::new(0),
            line: OnceBox::new(),
        }
    }

    pub(in crate::cookie) fn key(&self) -> &[u8] {
        let domain = self.slots.first().map_or(&b""[..], |slot| slot.data.domain_bytes());
        &domain[domain.len().saturating_sub(usize::from(self.key))..]
    }

    pub(in crate::cookie) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The live cookies that go along with a request (RFC 6265bis section 5.8.3), each of which
    /// `found` is called with.
    pub(in crate::cookie) fn survey<'a>(
        &'a self,
        visit: &Visit<'_>,
        mut found: impl FnMut(&'a Slot),
    ) -> Survey {
        let (mut count, mut length, mut places, mut is_stale) = (0, 0, 0, false);
        let (host, path) = (visit.origin.host.as_bytes(), visit.origin.path.as_bytes());
        let allows_all = visit.origin.secure && visit.reach == Reach::SameSite;
        // Where they are alike, what the first tells need not be asked of each.
        let (one_scope, one_path) = (self.has_one_scope, self.has_one_path);
        let is_out =
            |first: &Slot| one_scope && !first.covers(host) || one_path && !first.is_on_path(path);
        let slots = if self.slots.first().is_some_and(is_out) { &[] } else { &*self.slots };
        for (place, slot) in slots.iter().enumerate() {
            let goes = (allows_all || slot.is_allowed(visit))
                && (one_scope || slot.covers(host))
                && (one_path || slot.is_on_path(path));
            if goes && slot.expires() > visit.now {
                count += 1;
                length += slot.data.separated_pair().len();
                places |= 1 << (place % 64);
                found(slot);
            } else {
                is_stale |= goes;
            }
        }
        let places = match self.slots.len() {
            all if count == all => Some(Places::ALL),
            ..=64 => Some(Places(places)),
            _ => None,
        };
        Survey { count, length, places, is_stale }
    }

    /// In the order of a header.
    pub(in crate::cookie) fn at(&self, places: Places) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .enumerate()
            .filter(move |(place, _)| places.has(*place))
            .map(|(_, slot)| slot)
    }

    /// The header of these, if it was kept.
    pub(in crate::cookie) fn line(&self, places: Places) -> Option<&HeaderValue> {
        self.line.get().filter(|line| line.places == places).map(|line| &line.value)
    }

    /// Whether it is known, without a look at the public suffixes, that a host that ends in the key
    /// belongs to this bucket's site.
    pub(in crate::cookie) fn knows(&self, host: &[u8]) -> bool {
        self.subdomain_of(host).is_some_and(|subdomain| subdomain == self.subdomain.load(Relaxed))
            || self.has(host)
            || self.line.get().is_some_and(|line| line.host.as_deref() == Some(host))
    }

    /// Keeps in mind that a host belongs to this bucket's site.
    pub(in crate::cookie) fn meet(&self, host: &[u8]) {
        if let Some(subdomain) = self.subdomain_of(host) {
            self.subdomain.store(subdomain, Relaxed);
        }
    }

    /// `None` where it is too long, or there is none.
    fn subdomain_of(&self, host: &[u8]) -> Option<u32> {
        let subdomain = match host[..host.len().checked_sub(usize::from(self.key) + 1)?] {
            [a] => [a, 0, 0, 0],
            [a, b] => [a, b, 0, 0],
            [a, b, c] => [a, b, c, 0],
            [a, b, c, d] => [a, b, c, d],
            _ => return None,
        };
        Some(u32::from_le_bytes(subdomain))
    }

    fn has(&self, host: &[u8]) -> bool {
        self.slots.iter().any(|slot| slot.data.domain_bytes() == host)
    }

    /// Keeps the header of these, unless there is one; says how many bytes more there are.
    pub(in crate::cookie) fn keep_line(
        &self,
        value: &HeaderValue,
        places: Places,
        count: usize,
        host: &[u8],
    ) -> usize {
        if count < WORTH_KEEPING || self.line.get().is_some() {
            return 0;
        }
        let line =
            Line { value: value.clone(), places, host: (!self.knows(host)).then(|| host.into()) };
        let more = line.len();
        // Another request may have been faster.
        self.line.set(Box::new(line)).map_or(0, |()| more)
    }

    pub(in crate::cookie) fn drop_line(&mut self, tally: &mut Tally) {
        if let Some(line) = self.line.get() {
            tally.bytes -= line.len().cast_signed();
            self.line = OnceBox::new();
        }
    }

    pub(in crate::cookie) fn replace(
        &mut self,
        at: usize,
        data: Data,
        source: Source,
        tally: &mut Tally,
    ) {
        self.drop_line(tally);
        let slot = &mut self.slots[at];
        tally.take(slot);
        slot.data = data;
        slot.source = source;
        tally.add(slot);
    }

    pub(in crate::cookie) fn slot_mut(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    pub(in crate::cookie) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(in crate::cookie) fn position(&self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }

    pub(in crate::cookie) fn insert(&mut self, slot: Slot, tally: &mut Tally) {
        self.drop_line(tally);
        tally.add(&slot);
        // Most sites have few cookies: doubling would leave half of the memory unused.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 2 + 1);
        }
        if let Some(Slot { data: first, .. }) = self.slots.first() {
            self.has_one_scope &= first.same_hosts(&slot.data);
            self.has_one_path &= first.path_bytes() == slot.data.path_bytes();
        }
        let rank_of = |slot: &Slot| rank(&slot.data, slot.order);
        // From the end: where paths are alike, the newest goes last.
        let before = self.slots.iter().rposition(|other| rank_of(other) < rank_of(&slot));
        self.slots.insert(before.map_or(0, |at| at + 1), slot);
    }

    pub(in crate::cookie) fn remove(&mut self, at: usize, tally: &mut Tally) -> Slot {
        self.drop_line(tally);
        let slot = self.slots.remove(at);
        tally.take(&slot);
        slot
    }

    pub(in crate::cookie) fn retain(&mut self, tally: &mut Tally, keep: impl Fn(&Slot) -> bool) {
        let before = self.slots.len();
        self.slots.retain(|slot| {
            let kept = keep(slot);
            if !kept {
                tally.take(slot);
            }
            kept
        });
        if self.slots.len() < before {
            self.drop_line(tally);
        }
    }

    /// A site over its share gives up its own: expired, then not `Secure`, then the least recently
    /// used. The newest goes last among its equals, but before what is `Secure` if it is not.
    pub(in crate::cookie) fn evict(
        &mut self,
        most: usize,
        newest: u64,
        now: Millis,
        tally: &mut Tally,
    ) {
        self.retain(tally, |slot| slot.expires() > now);
        while self.slots.len() > most {
            let worth = |(_, slot): &(usize, &Slot)| {
                (slot.data.flags.secure, slot.order == newest, slot.last_used())
            };
            let Some((at, _)) = self.slots.iter().enumerate().min_by_key(worth) else { break };
            self.remove(at, tally);
        }
    }
}

/// Whether a cookie without an expiry ends with the session.
pub(in crate::cookie) fn is_session(slot: &Slot) -> bool {
    slot.expires() == NEVER
}
