//! The changes of a key that the store may not have yet. Uses no clock and no lock.

use std::collections::{BTreeMap, HashSet};

use crate::session::record::{Entry, Field, Stamp};

/// At most one change for each field: its latest.
#[derive(Default)]
pub(super) struct Queue {
    by_field: BTreeMap<Field, Queued>,
}

#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) entry: Entry,
    /// Whether the store has the cookie with another expiry. It is then written less often.
    pub(super) only_expiry: bool,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.by_field.is_empty()
    }

    /// Whether something must be written at once.
    pub(super) fn is_urgent(&self) -> bool {
        self.by_field.values().any(|queued| !queued.only_expiry)
    }

    /// Whether writing something depends on the store having a cookie.
    pub(super) fn moves_expiries(&self) -> bool {
        self.by_field.values().any(|queued| queued.only_expiry)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.by_field.values().map(|queued| &queued.entry)
    }

    /// Adds a change, unless the queue has a later one of the same cookie. Returns the change
    /// without room: above the limit it is the new one, so that a flood does not push out older
    /// ones.
    pub(super) fn push(&mut self, mut new: Queued, limit: usize) -> Option<Queued> {
        let (field, has_room) = (new.entry.field(), self.by_field.len() < limit);
        match self.by_field.get_mut(&field) {
            Some(old) if old.entry.stamp >= new.entry.stamp => {
                // The store may lack what the later change has moved.
                old.only_expiry &= new.only_expiry;
            }
            Some(old) => {
                new.only_expiry &= old.only_expiry;
                *old = new;
            }
            None if has_room => {
                self.by_field.insert(field, new);
            }
            None => return Some(new),
        }
        None
    }

    /// The store has these now. A later change of the same cookie stays queued.
    pub(super) fn written(&mut self, written: &[Entry]) {
        for entry in written {
            let field = entry.field();
            if self.by_field.get(&field).is_some_and(|queued| queued.entry.stamp == entry.stamp) {
                self.by_field.remove(&field);
            }
        }
    }

    /// Drops the changes that have waited since before `oldest`.
    pub(super) fn give_up(&mut self, oldest: Stamp) -> usize {
        let before = self.by_field.len();
        self.by_field.retain(|_, queued| queued.entry.stamp >= oldest);
        before - self.by_field.len()
    }

    /// The contents of a jar that has the store's contents and these changes. A change leaves the
    /// queue if the store has a later one. So does a moved expiry of a cookie that the store lacks:
    /// its session was forgotten, and must not come back.
    pub(super) fn over(&mut self, contents: Vec<Entry>) -> Overlaid {
        let stored: HashSet<_> = contents.iter().map(Entry::field).collect();
        self.by_field.retain(|field, queued| !queued.only_expiry || stored.contains(field));
        let (mut refused, mut landed) = (0, Vec::new());
        let mut entries = Vec::with_capacity(contents.len() + self.by_field.len());
        for stored in contents {
            let field = stored.field();
            match self.by_field.get(&field).map(|queued| queued.entry.stamp) {
                Some(queued) if queued > stored.stamp => continue,
                Some(queued) => {
                    if queued == stored.stamp {
                        landed.push(stored.clone());
                    } else {
                        refused += 1;
                    }
                    self.by_field.remove(&field);
                }
                None => {}
            }
            entries.push(stored);
        }
        entries.extend(self.entries().cloned());
        Overlaid { entries, refused, landed }
    }

    pub(super) fn clear(&mut self) {
        self.by_field.clear();
    }
}

pub(super) struct Overlaid {
    pub(super) entries: Vec<Entry>,
    /// How many changes of this replica were older than the store's.
    pub(super) refused: usize,
    /// Changes that the store has, although their write was not confirmed.
    pub(super) landed: Vec<Entry>,
}
