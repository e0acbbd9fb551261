//! Who holds a lease, and what a caller who wants it must do. Uses no clock and no store.

use std::time::Duration;

use tokio::time::Instant;

use crate::session::{
    Contents, Record, Seal, StoreKey, Version,
    record::{STAMP_LIMIT, Stamp, aad},
};

/// Where a lease is kept: under its own key, next to the sites.
pub(super) fn site(name: &str) -> String {
    // No host begins with a dot.
    format!(".lease/{name}")
}

const FIELD: &[u8] = b"lease";

/// The state of a lease. The stamp of its record counts them. If two replicas write the same
/// number, the first wins, since an equal stamp changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// Random. `None` if the lease is free.
    pub(super) holder: Option<[u8; 16]>,
    /// Until when, by the store's clock.
    pub(super) until: Stamp,
    /// For how long it was taken, in microseconds.
    pub(super) micros: u64,
}

const LEN: usize = 33;

impl Claim {
    pub(super) fn to_record(self, key: &StoreKey, stamp: Stamp, seal: Option<&dyn Seal>) -> Record {
        let Self { holder, until, micros } = self;
        let mut plain = vec![u8::from(holder.is_some())];
        plain.extend(holder.unwrap_or_default());
        plain.extend(until.to_le_bytes());
        plain.extend(micros.to_le_bytes());
        let body = match seal {
            Some(seal) => seal.seal(&aad(key, FIELD, stamp), plain),
            None => plain,
        };
        Record { field: FIELD.into(), stamp, body: Some(body.into()) }
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let holder: [u8; 16] = bytes[1..17].try_into().ok()?;
        Some(Self {
            holder: (bytes[0] == 1).then_some(holder),
            until: u64::from_le_bytes(bytes[17..25].try_into().ok()?),
            micros: u64::from_le_bytes(bytes[25..].try_into().ok()?),
        })
    }
}

/// A lease as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) version: Version,
    /// 0 for a lease that was never taken.
    pub(super) stamp: Stamp,
    pub(super) claim: Option<Claim>,
}

/// `None` if it cannot be read.
pub(super) fn read(contents: Contents, key: &StoreKey, seal: Option<&dyn Seal>) -> Option<Stored> {
    let Contents { version, records } = contents;
    let Some(record) = records.first() else {
        return Some(Stored { version, stamp: 0, claim: None });
    };
    let Record { field, stamp, body } = record;
    let body = body.as_deref()?;
    let is_it = records.len() == 1 && **field == *FIELD && *stamp < STAMP_LIMIT - 2;
    let claim = match seal {
        Some(seal) => Claim::from_bytes(&seal.open(&aad(key, FIELD, *stamp), body)?),
        None => Claim::from_bytes(body),
    };
    let claim = claim.filter(|_| is_it)?;
    Some(Stored { version, stamp: *stamp, claim: Some(claim) })
}

/// Since when a claim has been seen unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch(Option<(Stamp, Instant)>);

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take it with this stamp.
    Take(Stamp),
    /// Another holds it, for at most this long as far as this process knows.
    Wait(Duration),
}

impl Watch {
    /// `store_now` is the store's time, if it is known. Otherwise a lease has ended once it was
    /// seen unchanged for its whole time by this process's own clock. So clocks that differ take no
    /// lease from a living holder.
    ///
    /// In both cases an eighth is added: the store's time is known only to a few milliseconds.
    pub(super) fn step(&mut self, stored: &Stored, now: Instant, store_now: Option<Stamp>) -> Step {
        let take = Step::Take(stored.stamp + 1);
        let Some(Claim { holder: Some(_), until, micros }) = stored.claim else { return take };
        let since = match self.0 {
            Some((stamp, since)) if stamp == stored.stamp => since,
            _ => now,
        };
        self.0 = Some((stored.stamp, since));
        let grace = micros / 8;
        let watched = Duration::from_micros(micros.saturating_add(grace));
        let left = watched.saturating_sub(now.saturating_duration_since(since));
        let left_there = store_now
            .map(|now| Duration::from_micros(until.saturating_add(grace).saturating_sub(now)));
        let left = left_there.map_or(left, |there| there.min(left));
        if left.is_zero() { take } else { Step::Wait(left) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionKey;

    const HOLDER: [u8; 16] = [7; 16];

    fn stored(stamp: Stamp, claim: Option<Claim>) -> Stored {
        Stored { version: Version::default(), stamp, claim }
    }

    #[test]
    fn a_lease_is_free_after_its_time_and_an_eighth() {
        let start = Instant::now();
        let held = Claim { holder: Some(HOLDER), until: 9_000, micros: 8_000 };
        let free = Claim { holder: None, ..held };
        let (wait, take) = (|micros| Step::Wait(Duration::from_micros(micros)), Step::Take(6));
        // The claim, the store's time, how long it was seen, and what to do.
        let rows = [
            (None, None, 0, Step::Take(1)),
            (Some(free), None, 0, take),
            (Some(held), None, 0, wait(9_000)),
            (Some(held), None, 8_999, wait(1)),
            (Some(held), None, 9_000, take),
            (Some(held), Some(0), 0, wait(9_000)),
            (Some(held), Some(9_999), 0, wait(1)),
            (Some(held), Some(10_000), 0, take),
            // The store's time is far behind: what was seen decides.
            (Some(held), Some(0), 9_000, take),
            (Some(Claim { until: u64::MAX, micros: u64::MAX, ..held }), Some(0), 0, {
                wait(u64::MAX)
            }),
        ];
        for (claim, store_now, seen, want) in rows {
            let mut watch = Watch::default();
            let stored = stored(if claim.is_some() { 5 } else { 0 }, claim);
            watch.step(&stored, start, store_now);
            let got = watch.step(&stored, start + Duration::from_micros(seen), store_now);
            assert_eq!(got, want, "{claim:?} {store_now:?} {seen}");
        }
    }

    #[test]
    fn a_holder_that_follows_another_has_its_whole_time() {
        let start = Instant::now();
        let held = Claim { holder: Some(HOLDER), until: 0, micros: 8_000 };
        let mut watch = Watch::default();
        watch.step(&stored(5, Some(held)), start, None);
        let later = start + Duration::from_micros(9_000);
        let step = watch.step(&stored(6, Some(held)), later, None);
        assert_eq!(step, Step::Wait(Duration::from_micros(9_000)));
    }

    #[test]
    fn what_is_no_lease_cannot_be_read() {
        let key = StoreKey::new(SessionKey::new("ann".as_bytes()), site("x"));
        let held = Claim { holder: Some(HOLDER), until: 9, micros: 8 };
        let good = held.to_record(&key, 5, None);
        let contents =
            |records: &[Record]| Contents { version: Version::default(), records: records.into() };
        let is = |records: &[Record]| read(contents(records), &key, None);
        assert_eq!(is(&[]), Some(stored(0, None)));
        assert_eq!(is(std::slice::from_ref(&good)), Some(stored(5, Some(held))));
        let rows = [
            vec![good.clone(), good.clone()],
            vec![Record { field: b"x"[..].into(), ..good.clone() }],
            vec![Record { stamp: u64::MAX, ..good.clone() }],
            vec![Record { body: None, ..good.clone() }],
            vec![Record { body: Some(b"x"[..].into()), ..good }],
        ];
        for records in rows {
            assert_eq!(is(&records), None, "{records:?}");
        }
    }
}
