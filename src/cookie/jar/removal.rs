//! How cookies leave a store: they are deleted, expire or are evicted.

use std::sync::atomic::Ordering::Relaxed;

use super::{
    bucket::{Bucket, Tally},
    eviction,
    limits::CookieLimits,
    shard::Shard,
    slot::Slot,
    store::Store,
};
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Identity, Millis},
    model::id::CookieId,
    model::suffix::Site,
};

impl Store {
    /// Removes a cookie. If both a host-only and a domain cookie match, the host-only one is
    /// removed: it is the one that the host itself set.
    pub(super) fn remove(
        &self,
        site: Site<'_>,
        domain: &str,
        path: &str,
        name: &[u8],
        now: Millis,
    ) -> Option<Cookie> {
        let mut removed = None;
        self.change(site, |bucket, tally| {
            let identity = |host_only| {
                let (domain, path) = (domain.as_bytes(), path.as_bytes());
                Identity { name, domain, path, host_only }
            };
            if let Some(bucket) = bucket {
                // An expired cookie that no look-up has met does not count.
                bucket.retain(tally, |slot| slot.expires() > now);
                let at = |host_only| {
                    bucket.position(|slot| slot.data().has_identity(&identity(host_only)))
                };
                removed = at(true).or_else(|| at(false)).map(|at| bucket.remove(at, tally));
            }
            // A file may have a cookie that this jar lacks. It is not known which of the two forms,
            // and the caller wants neither.
            let unknown = [true, false].map(identity);
            let gone = match &removed {
                Some(slot) => &[slot.data().identity()][..],
                None => &unknown,
            };
            let had = removed.is_some();
            gone.iter().for_each(|identity| self.note_deleted(identity, had));
        });
        removed.as_ref().map(Slot::cookie)
    }

    pub(super) fn remove_domain(&self, site: Site<'_>, domain: &str) {
        self.change(site, |bucket, tally| {
            let Some(bucket) = bucket else { return };
            bucket.retain(tally, |slot| self.keep_or_note(slot.data().domain() != domain, slot));
        });
    }

    pub(super) fn remove_expired_of(&self, site: Site<'_>, now: Millis) {
        self.change(site, |bucket, tally| {
            let Some(bucket) = bucket else { return };
            bucket.retain(tally, |slot| slot.expires() > now);
        });
    }

    pub(super) fn remove_expired(&self, now: Millis) -> usize {
        self.retain(|slot| slot.expires() > now)
    }

    pub(super) fn remove_session(&self) -> usize {
        self.retain(|slot| self.keep_or_note(!slot.is_session(), slot))
    }

    pub(super) fn clear(&self) {
        self.retain(|slot| self.keep_or_note(false, slot));
    }

    /// A caller deletes what is not kept. Expiry and eviction are no changes: see
    /// [`log`](super::log).
    fn keep_or_note(&self, keep: bool, slot: &Slot) -> bool {
        if !keep {
            self.note_deleted(&slot.data().identity(), true);
        }
        keep
    }

    fn note_deleted(&self, identity: &Identity<'_>, had: bool) {
        if let Some(log) = self.log() {
            log.deleted(|| CookieId::of(identity), had);
        }
    }

    /// Changes the cookies of a site, if it has any, under its lock.
    pub(super) fn change(
        &self,
        site: Site<'_>,
        change: impl FnOnce(Option<&mut Bucket>, &mut Tally),
    ) {
        let (key, mut tally) = (site.key.as_bytes(), Tally::default());
        let hash = self.hash(key);
        let mut table = self.shard(hash).write();
        if let Ok(mut entry) = table.find_entry(hash, |bucket| bucket.key() == key) {
            change(Some(entry.get_mut()), &mut tally);
            if entry.get().is_empty() {
                entry.remove();
            }
        } else {
            change(None, &mut tally);
        }
        self.settle(tally);
    }

    /// Keeps some cookies of all sites in one step. Returns how many were removed.
    fn retain(&self, keep: impl Fn(&Slot) -> bool) -> usize {
        let mut tally = Tally::default();
        let mut tables: Vec<_> = self.shards.iter().map(Shard::write).collect();
        for table in &mut tables {
            table.retain(|bucket| {
                bucket.retain(&mut tally, &keep);
                !bucket.is_empty()
            });
            // Memory that a flood filled is given back, below a quarter of the capacity. A table
            // that shrank at half would grow again with the next cookies.
            let room = table.len() * 2;
            if room < table.capacity() / 2 {
                table.shrink_to(room, |bucket| self.hash(bucket.key()));
            }
        }
        self.settle(tally);
        tally.len.unsigned_abs()
    }

    /// Drops the kept headers, which only save time.
    fn drop_lines(&self) {
        for shard in &*self.shards {
            let (mut table, mut tally) = (shard.write(), Tally::default());
            table.iter_mut().for_each(|bucket| bucket.drop_line(&mut tally));
            self.settle(tally);
        }
    }

    fn is_over(&self, limits: &CookieLimits) -> bool {
        self.len.load(Relaxed) > limits.total || self.bytes.load(Relaxed) > limits.bytes
    }

    /// Makes a jar over its totals evict what [`eviction`] chooses. `newest` is the cookie that was
    /// just stored.
    pub(super) fn evict_total(&self, newest: u64, now: Millis, limits: &CookieLimits) {
        if !self.is_over(limits) {
            return;
        }
        // The kept headers only save time, and may be all that is too much.
        self.drop_lines();
        if !self.is_over(limits) {
            return;
        }
        // One lock after another, and no lock while the choice is made: requests continue
        // meanwhile. Their changes make at most a small difference in what is evicted.
        let mut candidates = Vec::with_capacity(self.len());
        for shard in &*self.shards {
            for bucket in shard.read().iter() {
                let first = candidates.len();
                candidates.extend(bucket.slots().iter().map(Slot::candidate));
                eviction::share_out(&mut candidates[first..], limits, now);
            }
        }
        let doomed = eviction::of_jar(candidates, newest, limits, now);
        self.retain(|slot| !doomed.contains(&slot.order()));
    }
}
