//! The cookies of one site: which match a request, in which order they are sent, and what becomes
//! of them when another comes.

use std::sync::OnceLock;

use http::HeaderValue;

use super::{
    eviction,
    line::{Line, Places},
    slot::{Incoming, Numbers, Sender, Slot, Source, StoreAction, Stored},
};
use crate::cookie::{
    model::data::{Millis, SEPARATOR},
    model::rules::{Admitted, Rejection},
    model::same_site::Reach,
    model::suffix::Site,
    model::visit::Visit,
};

/// The cookies of one registrable domain, by their [`rank`](super::slot::rank). A bucket in the
/// store has at least one.
pub(super) struct Bucket {
    slots: Vec<Slot>,
    /// How much of a cookie's domain is the registrable domain. Every domain ends in it, so that
    /// none needs to be stored twice.
    key: u16,
    /// Whether every cookie is known to go to the same hosts, as if a server has one host name.
    has_one_scope: bool,
    /// Whether every cookie is known to go to the same paths.
    has_one_path: bool,
    /// Whether every host that ends in the key is of this site.
    is_undivided: bool,
    /// The header of an earlier request. Boxed, since most sites that a jar knows are not asked
    /// again, and empty boxes are small.
    line: OnceLock<Box<Line>>,
}

/// Which cookies of a bucket go along with a request.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) count: usize,
    /// How long their pairs are together, each with a separator before it.
    pub(super) length: usize,
    /// `None` for some of more cookies than there are bits.
    pub(super) places: Option<Places>,
    /// Whether some would go along but have expired.
    pub(super) is_stale: bool,
}

impl Survey {
    /// Whether a header may carry them all.
    pub(super) fn fits(&self, most: usize, room: usize) -> bool {
        // The first pair's separator is counted, but not sent.
        self.count <= most && self.length <= room.saturating_add(SEPARATOR.len())
    }
}

/// What a change adds to the figures of a store.
#[derive(Clone, Copy, Default)]
pub(super) struct Tally {
    pub(super) len: isize,
    /// Text of cookies, and kept headers.
    pub(super) bytes: isize,
    /// Whether a file would tell of it. That a kept header goes is no such change.
    pub(super) has_changed: bool,
}

impl Tally {
    fn add(&mut self, slot: &Slot) {
        self.len += 1;
        self.bytes += slot.data().text_len().cast_signed();
        self.has_changed = true;
    }

    fn take(&mut self, slot: &Slot) {
        self.len -= 1;
        self.bytes -= slot.data().text_len().cast_signed();
        self.has_changed = true;
    }
}

/// Look-ups.
impl Bucket {
    pub(super) fn key(&self) -> &[u8] {
        let domain = self.slots.first().map_or(&b""[..], |slot| slot.data().domain_bytes());
        &domain[domain.len().saturating_sub(usize::from(self.key))..]
    }

    /// Whether the cookies of a host are here. `host` ends in the key.
    pub(super) fn is_site_of(&self, host: &str) -> bool {
        // The registrable domain is of the site that it names, if there is one.
        self.is_undivided || host.len() == usize::from(self.key)
    }

    pub(super) fn is_undivided(&self) -> bool {
        self.is_undivided
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn position(&self, wanted: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.slots.iter().position(wanted)
    }

    /// Finds the live cookies that go along with a request (RFC 6265bis section 5.8.3), and calls
    /// `found` with each.
    pub(super) fn survey<'a>(
        &'a self,
        visit: &Visit<'_>,
        mut found: impl FnMut(&'a Slot),
    ) -> Survey {
        let (mut count, mut length, mut places, mut is_stale) = (0, 0, 0, false);
        let (host, path) = (visit.origin.host.as_bytes(), visit.origin.path.as_bytes());
        let allows_all = visit.origin.secure && visit.reach == Reach::SameSite;
        // If all cookies are alike in this, the first answers for all: most sites set theirs for
        // one host and `/`. Five cookies, one of them with another path, take 90
        // instructions more.
        let (one_scope, one_path) = (self.has_one_scope, self.has_one_path);
        let is_out =
            |first: &Slot| one_scope && !first.covers(host) || one_path && !first.is_on_path(path);
        if self.slots.first().is_some_and(is_out) {
            return Survey::default();
        }
        // If all go along as when the header was kept, its figures are theirs: that saves 100
        // instructions of five cookies.
        if let Some(line) = self.line(Places::ALL)
            && one_scope
            && one_path
            && self
                .slots
                .iter()
                .all(|slot| (allows_all || slot.is_allowed(visit)) && slot.expires() > visit.now)
        {
            self.slots.iter().for_each(found);
            let length = line.len() + SEPARATOR.len();
            let (count, places) = (self.slots.len(), Some(Places::ALL));
            return Survey { count, length, places, is_stale: false };
        }
        for (place, slot) in self.slots.iter().enumerate() {
            let goes = (allows_all || slot.is_allowed(visit))
                && (one_scope || slot.covers(host))
                && (one_path || slot.is_on_path(path));
            if goes && slot.expires() > visit.now {
                count += 1;
                length += slot.data().separated_pair().len();
                places |= Places::bit(place);
                found(slot);
            } else {
                is_stale |= goes;
            }
        }
        let places = Places::of(places, count, self.slots.len());
        Survey { count, length, places, is_stale }
    }

    /// The cookies at some places, in the order of a header.
    pub(super) fn at(&self, places: Places) -> impl Iterator<Item = &Slot> {
        let slots = self.slots.iter().enumerate();
        slots.filter(move |(place, _)| places.has(*place)).map(|(_, slot)| slot)
    }

    /// The header of the cookies at some places, if it was kept.
    pub(super) fn line(&self, places: Places) -> Option<&HeaderValue> {
        self.line.get().and_then(|line| line.of(places))
    }

    /// Keeps the header of `count` cookies if that is worth it; says how many bytes more there are.
    pub(super) fn keep_line(&self, value: &HeaderValue, places: Places, count: usize) -> usize {
        if !Line::is_worth_keeping(count) || self.line.get().is_some() {
            return 0;
        }
        let line = Line::new(value.clone(), places);
        let more = line.len();
        // Look-ups share the lock, so that another request may have been faster.
        self.line.set(Box::new(line)).map_or(0, |()| more)
    }
}

/// Changes. Each adds to a tally what it changes, since the store's figures have to follow while
/// the lock is held.
impl Bucket {
    pub(super) fn new(site: Site<'_>, slot: Slot, tally: &mut Tally) -> Self {
        tally.add(&slot);
        Self {
            // Of one cookie, since most sites have few.
            slots: vec![slot],
            key: u16::try_from(site.key.len()).unwrap_or(u16::MAX),
            has_one_scope: true,
            has_one_path: true,
            is_undivided: site.is_undivided,
            line: OnceLock::new(),
        }
    }

    /// Stores a cookie if it lives, and says which number it has; else deletes the one with its
    /// identity. `most` is how many cookies a site may have.
    pub(super) fn store(
        &mut self,
        new: &Incoming<'_>,
        most: usize,
        numbers: &Numbers,
        tally: &mut Tally,
    ) -> Stored<u64> {
        // Before anything else: a deletion is barred too.
        if self.slots.iter().any(|slot| new.is_barred_by(slot)) {
            return Err(Rejection::ShadowsSecure);
        }
        let old = self.slots.iter().position(|slot| new.is_same_as(slot));
        match old {
            Some(at) if new.lives() || new.yields_to(&self.slots[at]) => {
                let (action, number) = self.store_over(at, new, numbers, tally);
                Ok((action, Some(number)))
            }
            Some(at) => {
                self.remove(at, tally);
                Ok((StoreAction::Expired, None))
            }
            None if new.lives() => self.store_new(numbers.slot(new), most, new.now(), tally),
            None => Ok((StoreAction::Expired, None)),
        }
    }

    /// Adds a cookie. The site may have to give up another for it, or this one.
    fn store_new(
        &mut self,
        slot: Slot,
        most: usize,
        now: Millis,
        tally: &mut Tally,
    ) -> Stored<u64> {
        let number = slot.order();
        self.insert(slot, tally);
        if self.slots.len() > most {
            // It is among the candidates: a site full of `Secure` cookies has no room for one that
            // is not.
            let candidates = self.slots.iter().map(Slot::candidate);
            let doomed = eviction::of_site(candidates, most, number, now);
            self.retain(tally, |slot| !doomed.contains(&slot.order()));
            if doomed.contains(&number) {
                return Err(Rejection::NoRoom);
            }
        }
        Ok((StoreAction::Inserted, Some(number)))
    }

    /// Settles what becomes of a cookie and of the one with its identity, which is at `at`.
    fn store_over(
        &mut self,
        at: usize,
        new: &Incoming<'_>,
        numbers: &Numbers,
        tally: &mut Tally,
    ) -> (StoreAction, u64) {
        let old = &self.slots[at];
        let (created, is_live) = (old.data().created, old.expires() > new.now());
        let (action, slot) = match new.sender() {
            Sender::Response { new: admitted, source, .. } if is_live => {
                let is_other = self.set_again(at, admitted, source, new.now(), tally);
                let action = if is_other { StoreAction::Updated } else { StoreAction::Unchanged };
                return (action, self.slots[at].order());
            }
            // The old one is only still there because no look-up has met it since it expired.
            Sender::Response { .. } => (StoreAction::Inserted, numbers.slot(new)),
            Sender::Caller { cookie, .. } if new.yields_to(old) => {
                // The older creation time counts, whichever cookie is kept. It is the place in a
                // header, which should not depend on which jar is merged into which.
                if created <= cookie.data.created {
                    return (StoreAction::Unchanged, old.order());
                }
                (StoreAction::Unchanged, old.created_at(cookie.data.created))
            }
            Sender::Caller { cookie, .. } => {
                let created = created.min(cookie.data.created);
                (StoreAction::Updated, new.to_slot(created, old.order()))
            }
        };
        let number = slot.order();
        // Another creation time is another place in the order.
        self.remove(at, tally);
        self.insert(slot, tally);
        (action, number)
    }

    /// Puts a cookie in its place by its rank.
    fn insert(&mut self, slot: Slot, tally: &mut Tally) {
        self.drop_line(tally);
        tally.add(&slot);
        // Most sites have few cookies: doubling would leave half of the memory unused.
        if self.slots.len() == self.slots.capacity() {
            self.slots.reserve_exact(self.slots.len() / 2 + 1);
        }
        if let Some(first) = self.slots.first() {
            let (first, new) = (first.data(), slot.data());
            self.has_one_scope &= first.same_hosts(new);
            self.has_one_path &= first.path_bytes() == new.path_bytes();
        }
        // From the end: if paths are alike, the newest is last.
        let before = self.slots.iter().rposition(|other| other.rank() < slot.rank());
        self.slots.insert(before.map_or(0, |at| at + 1), slot);
    }

    /// A response sets a live cookie again. Says whether its text or flags are others.
    ///
    /// It stays where it is: it keeps its creation time (RFC 6265bis section 5.7, step 23) and its
    /// path, so that its rank is what it was.
    fn set_again(
        &mut self,
        at: usize,
        new: &Admitted<'_>,
        source: Source,
        now: Millis,
        tally: &mut Tally,
    ) -> bool {
        let slot = &mut self.slots[at];
        tally.has_changed |= slot.renew(new.expires, now);
        let old = slot.data();
        if old.flags == new.flags && old.value() == new.value {
            slot.rewrite(None, source);
            return false;
        }
        tally.take(slot);
        let created = old.created;
        slot.rewrite(Some(new.to_data(created)), source);
        tally.add(slot);
        self.drop_line(tally);
        true
    }

    pub(super) fn remove(&mut self, at: usize, tally: &mut Tally) -> Slot {
        self.drop_line(tally);
        let slot = self.slots.remove(at);
        tally.take(&slot);
        slot
    }

    pub(super) fn retain(&mut self, tally: &mut Tally, keep: impl Fn(&Slot) -> bool) {
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

    /// A kept header holds pairs and places, and each change of the cookies may move either.
    pub(super) fn drop_line(&mut self, tally: &mut Tally) {
        if let Some(line) = self.line.take() {
            tally.bytes -= line.len().cast_signed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::{
        jar::slot::Keep,
        model::{cookie::Cookie, suffix::PublicSuffixes},
    };

    /// A cookie of one identity, as a caller or another jar has it.
    fn cookie(value: &str, [created, updated, expires]: [Millis; 3]) -> Cookie {
        let mut cookie = Cookie::builder("a", value).domain("example.com").build().unwrap();
        cookie.data.created = created;
        cookie.times.updated = updated;
        cookie.times.expires = expires;
        cookie
    }

    #[test]
    fn of_two_cookies_with_one_identity_the_right_one_is_kept() {
        use Keep::{Given, Newer};
        use StoreAction::{Expired, Unchanged, Updated};
        // What is there (created, last set, expires), what comes, and which is wanted; what becomes
        // of it, and what is there then (its value and when it was created). It is 100.
        let rows = [
            ([10, 20, 200], [30, 40, 200], Given, Updated, Some(("new", 10))),
            ([30, 40, 200], [10, 20, 200], Given, Updated, Some(("new", 10))),
            ([10, 20, 200], [30, 40, 200], Newer, Updated, Some(("new", 10))),
            ([10, 40, 200], [30, 20, 200], Newer, Unchanged, Some(("old", 10))),
            // The older creation time counts even so.
            ([30, 40, 200], [10, 20, 200], Newer, Unchanged, Some(("old", 10))),
            // Of two that were set at the same time, the one that comes is kept.
            ([10, 20, 200], [10, 20, 200], Newer, Updated, Some(("new", 10))),
            // A cookie that has expired deletes, unless the other one is newer.
            ([10, 20, 200], [30, 40, 50], Given, Expired, None),
            ([10, 20, 200], [30, 40, 50], Newer, Expired, None),
            ([10, 40, 200], [30, 20, 50], Newer, Unchanged, Some(("old", 10))),
            // One that expired unseen leaves nothing but its creation time.
            ([10, 40, 50], [30, 20, 200], Newer, Updated, Some(("new", 10))),
        ];
        let suffixes = PublicSuffixes::Embedded;
        let site = suffixes.site("example.com");
        let wrong: Vec<_> = rows
            .iter()
            .map(|row @ (old, new, keep, ..)| {
                let (numbers, mut tally) = (Numbers::default(), Tally::default());
                let (old, new) = (cookie("old", *old), cookie("new", *new));
                let old = numbers.slot(&Incoming::from_caller(site, &old, Keep::Given, 1));
                let mut bucket = Bucket::new(site, old, &mut tally);
                let new = Incoming::from_caller(site, &new, *keep, 100);
                let (action, _) = bucket.store(&new, 180, &numbers, &mut tally).unwrap();
                let left = bucket.slots().first().map(Slot::cookie);
                let left = left.map(|left| (left.value().into_owned(), left.data.created));
                (action, left, tally.len, row)
            })
            .filter(|(action, left, len, (.., want, stays))| {
                let left = left.as_ref().map(|(value, created)| (value.as_str(), *created));
                action != want || left != *stays || *len != isize::from(stays.is_some())
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
