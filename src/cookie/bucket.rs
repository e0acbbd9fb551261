//! The cookies of one registrable domain: which match, in which order they are sent, which goes first.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    cookie::{Cookie, Times},
    data::{Data, Millis, NEVER},
    origin::{Origin, domain_match, path_match},
    rules::Admitted,
    same_site::Reach,
    suffix::Site,
};

/// A request or a response, as far as cookies go by it.
#[derive(Clone, Copy)]
pub(super) struct Visit<'a> {
    pub(super) origin: &'a Origin<'a>,
    /// That of the origin's host.
    pub(super) site: Site<'a>,
    pub(super) reach: Reach,
    pub(super) now: Millis,
}

/// A stored cookie. What a look-up or an unchanged `Set-Cookie` moves is atomic, so that both share the read lock.
pub(super) struct Slot {
    pub(super) data: Data,
    /// Numbers the cookies of a jar as they came.
    pub(super) order: u64,
    expires: AtomicU64,
    updated: AtomicU64,
    /// 0 until it is sent.
    sent: AtomicU64,
    pub(super) source: Source,
}

/// The `Set-Cookie` line that a cookie came by, so that the same line again need not be judged again.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    /// A keyed hash of line and origin; 0 where the same line could mean something else the next time.
    pub(super) fingerprint: u64,
    /// Seconds; 0 where the line has no positive `Max-Age`.
    pub(super) max_age: u32,
}

impl Slot {
    pub(super) const fn new(data: Data, order: u64, times: Times, source: Source) -> Self {
        Self {
            data,
            order,
            expires: AtomicU64::new(times.expires),
            updated: AtomicU64::new(times.updated),
            sent: AtomicU64::new(times.sent),
            source,
        }
    }

    pub(super) fn cookie(&self) -> Cookie {
        let times = Times { expires: self.expires(), updated: self.updated(), sent: self.sent.load(Relaxed) };
        Cookie { data: self.data.clone(), times, order: self.order }
    }

    pub(super) fn expires(&self) -> Millis {
        self.expires.load(Relaxed)
    }

    pub(super) fn updated(&self) -> Millis {
        self.updated.load(Relaxed)
    }

    pub(super) fn was_sent(&self) -> bool {
        self.sent.load(Relaxed) != 0
    }

    /// Of two cookies of the same age the one that came first goes first.
    pub(super) fn last_used(&self) -> (Millis, u64) {
        (self.sent.load(Relaxed).max(self.updated()), self.order)
    }

    pub(super) fn touch(&self, now: Millis) {
        self.sent.store(now.max(1), Relaxed);
    }

    /// It was set again as it is; says whether its expiry moved.
    pub(super) fn set_again(&self, expires: Millis, now: Millis) -> bool {
        self.updated.store(now, Relaxed);
        self.expires.swap(expires, Relaxed) != expires
    }

    /// The cookie takes another's data, which has its creation time: its place among its equals stays.
    pub(super) fn replace(&mut self, data: Data, source: Source) {
        self.data = data;
        self.source = source;
    }

    /// RFC 6265bis section 5.8.3.
    pub(super) fn matches(&self, visit: &Visit<'_>) -> bool {
        let Data { flags, .. } = self.data;
        (!flags.secure || visit.origin.secure)
            && self.covers(visit)
            && path_match(visit.origin.path.as_bytes(), self.data.path_bytes())
            && visit.reach.sends(flags.same_site)
    }

    /// A suffix gets nothing but its own host-only cookies.
    fn covers(&self, visit: &Visit<'_>) -> bool {
        let (host, domain) = (visit.origin.host.as_bytes(), self.data.domain_bytes());
        let shared = !self.data.flags.host_only && !visit.site.is_suffix;
        if host.len() == domain.len() {
            (self.data.flags.host_only || shared) && host == domain
        } else {
            shared && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with(b"."))
        }
    }

    /// Leave secure cookies alone (RFC 6265bis section 5.7, step 12): whether this one forbids a non-secure origin `new`.
    pub(super) fn shields(&self, new: &Admitted<'_>, now: Millis) -> bool {
        let old = &self.data;
        old.flags.secure
            && self.expires() > now
            && old.name() == new.name
            && (domain_match(&new.domain, old.domain()) || domain_match(old.domain(), &new.domain))
            && path_match(new.path.as_bytes(), old.path_bytes())
    }
}

/// Longest path first, then oldest.
pub(super) fn rank(data: &Data, order: u64) -> (Reverse<usize>, Millis, u64) {
    (Reverse(data.path_len()), data.created, order)
}

/// The cookies of one registrable domain, at least one, by their [`rank`].
pub(super) struct Bucket {
    slots: Vec<Slot>,
    /// How much of a cookie's domain is the registrable domain.
    key: u16,
}

/// How many cookies and bytes of text a change has added, or taken out.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) len: isize,
    pub(super) bytes: isize,
}

impl Tally {
    pub(super) fn add(&mut self, slot: &Slot) {
        self.len += 1;
        self.bytes += slot.data.text_len().cast_signed();
    }

    pub(super) fn take(&mut self, slot: &Slot) {
        self.len -= 1;
        self.bytes -= slot.data.text_len().cast_signed();
    }
}

impl Bucket {
    pub(super) fn new(site: Site<'_>, slot: Slot) -> Self {
        let mut slots = Vec::with_capacity(1);
        slots.push(slot);
        Self { slots, key: u16::try_from(site.key.len()).unwrap_or(u16::MAX) }
    }

    pub(super) fn key(&self) -> &[u8] {
        let domain = self.slots.first().map_or(&b""[..], |slot| slot.data.domain_bytes());
        &domain[domain.len().saturating_sub(usize::from(self.key))..]
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn slot_mut(&mut self, at: usize) -> &mut Slot {
        &mut self.slots[at]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn position(&self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }

    pub(super) fn insert(&mut self, slot: Slot) {
        // Most sites have few cookies: doubling would leave half of the memory unused.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 2 + 1);
        }
        let rank_of = |slot: &Slot| rank(&slot.data, slot.order);
        let at = self.slots.partition_point(|other| rank_of(other) < rank_of(&slot));
        self.slots.insert(at, slot);
    }

    pub(super) fn remove(&mut self, at: usize, tally: &mut Tally) -> Slot {
        let slot = self.slots.remove(at);
        tally.take(&slot);
        slot
    }

    pub(super) fn retain(&mut self, tally: &mut Tally, keep: impl Fn(&Slot) -> bool) {
        self.slots.retain(|slot| {
            let kept = keep(slot);
            if !kept {
                tally.take(slot);
            }
            kept
        });
    }

    /// A site over its share gives up its own: expired, then not `Secure`, then the least recently used. The newest goes
    /// last among its equals, but before what is `Secure` if it is not.
    pub(super) fn evict(&mut self, most: usize, newest: u64, now: Millis, tally: &mut Tally) {
        self.retain(tally, |slot| slot.expires() > now);
        while self.slots.len() > most {
            let worth = |(_, slot): &(usize, &Slot)| (slot.data.flags.secure, slot.order == newest, slot.last_used());
            let Some((at, _)) = self.slots.iter().enumerate().min_by_key(worth) else { break };
            self.remove(at, tally);
        }
    }
}

/// Whether a cookie without an expiry ends with the session.
pub(super) fn is_session(slot: &Slot) -> bool {
    slot.expires() == NEVER
}
