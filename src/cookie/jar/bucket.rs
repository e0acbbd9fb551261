//! The cookies of one registrable domain: which match, in which order they are sent, which goes
//! first.

use std::sync::OnceLock;

use http::HeaderValue;

use super::{
    line::{Line, Places, WORTH_KEEPING},
    slot::{Slot, Source, rank},
};
use crate::cookie::{model::data::Data, model::same_site::Reach, model::visit::Visit};

/// The cookies of one registrable domain, at least one, by their [`rank`].
pub(super) struct Bucket {
    slots: Vec<Slot>,
    /// How much of a cookie's domain is the registrable domain.
    key: u16,
    /// Every cookie is known to go to the same hosts, as they do where a server has one host name.
    has_one_scope: bool,
    /// And to the same paths.
    has_one_path: bool,
    /// Kept from a request. Boxed, since most sites that a jar knows are not asked again.
    line: OnceLock<Box<Line>>,
}

/// What of a bucket goes along with a request.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) count: usize,
    /// Of the pairs, each behind its separator.
    pub(super) length: usize,
    /// `None` where it is some of more cookies than there are bits.
    pub(super) places: Option<Places>,
    /// Some have expired.
    pub(super) is_stale: bool,
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
    pub(super) fn new(key: &str, slot: Slot) -> Self {
        Self {
            slots: vec![slot],
            key: u16::try_from(key.len()).unwrap_or(u16::MAX),
            has_one_scope: true,
            has_one_path: true,
            line: OnceLock::new(),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        let domain = self.slots.first().map_or(&b""[..], |slot| slot.data.domain_bytes());
        &domain[domain.len().saturating_sub(usize::from(self.key))..]
    }

    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The live cookies that go along with a request (RFC 6265bis section 5.8.3), each of which
    /// `found` is called with.
    pub(super) fn survey<'a>(
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
    pub(super) fn at(&self, places: Places) -> impl Iterator<Item = &Slot> {
        self.slots
            .iter()
            .enumerate()
            .filter(move |(place, _)| places.has(*place))
            .map(|(_, slot)| slot)
    }

    /// The header of these, if it was kept.
    pub(super) fn line(&self, places: Places) -> Option<&HeaderValue> {
        self.line.get().filter(|line| line.places == places).map(|line| &line.value)
    }

    /// Keeps the header of these, unless there is one; says how many bytes more there are.
    pub(super) fn keep_line(&self, value: &HeaderValue, places: Places, count: usize) -> usize {
        if count < WORTH_KEEPING || self.line.get().is_some() {
            return 0;
        }
        let line = Line { value: value.clone(), places };
        let more = line.len();
        // Another request may have been faster.
        self.line.set(Box::new(line)).map_or(0, |()| more)
    }

    pub(super) fn drop_line(&mut self, tally: &mut Tally) {
        if let Some(line) = self.line.take() {
            tally.bytes -= line.len().cast_signed();
        }
    }

    pub(super) fn replace(&mut self, at: usize, data: Data, source: Source, tally: &mut Tally) {
        self.drop_line(tally);
        let slot = &mut self.slots[at];
        tally.take(slot);
        slot.data = data;
        slot.source = source;
        tally.add(slot);
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

    pub(super) fn insert(&mut self, slot: Slot, tally: &mut Tally) {
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
}
