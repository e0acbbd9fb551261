//! The sessions that a pool has in memory, and which of them are removed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use ahash::RandomState;
use hashbrown::{HashTable, hash_table::Entry};
use tokio::time::Instant;

use super::session::Session;
use crate::{
    cookie::CookieJar,
    session::{SessionKey, StoreKey},
};

pub(super) struct Sessions {
    table: HashTable<Arc<Session>>,
    hasher: RandomState,
    /// Next number of a session or a use.
    next: u64,
    built: Instant,
    /// When idle sessions were last looked for.
    swept: Instant,
    /// If nearly all sessions are held, it is useless to look at all of them for each new one.
    look_at: usize,
}

/// A session, and those that should be removed but cannot be yet, because of unwritten changes.
pub(super) struct Found {
    pub(super) session: Arc<Session>,
    pub(super) unwritten: Vec<Arc<Session>>,
}

/// Largest part of all sessions that is removed at once. Each time costs a look at all of them.
const PART: usize = 16;

impl Sessions {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            table: HashTable::new(),
            hasher: RandomState::new(),
            next: 0,
            built: now,
            swept: now,
            look_at: 0,
        }
    }

    fn hash(&self, tenant: &SessionKey, site: &str) -> u64 {
        self.hasher.hash_one((tenant.as_bytes(), site))
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.table.iter()
    }

    /// Does not count as use.
    pub(super) fn get(&self, key: &StoreKey) -> Option<&Arc<Session>> {
        let hash = self.hash(key.tenant(), key.site());
        self.table.find(hash, |session| session.key == *key)
    }

    /// The session of a site. It is created if necessary, but not loaded.
    pub(super) fn find(
        &mut self,
        tenant: &SessionKey,
        site: &str,
        max: usize,
        idle: Duration,
        now: Instant,
        new_jar: impl FnOnce() -> CookieJar,
    ) -> Found {
        let hash = self.hash(tenant, site);
        self.next += 1;
        let number = self.next;
        let is_it =
            |session: &Arc<Session>| session.key.tenant() == tenant && session.key.site() == site;
        let hasher = &self.hasher;
        let hash_of = |session: &Arc<Session>| {
            hasher.hash_one((session.key.tenant().as_bytes(), session.key.site()))
        };
        let (session, is_new) = match self.table.entry(hash, is_it, hash_of) {
            Entry::Occupied(entry) => (Arc::clone(entry.get()), false),
            Entry::Vacant(entry) => {
                let key = StoreKey::new(tenant.clone(), site);
                let session = Arc::new(Session::new(key, new_jar(), number));
                entry.insert(Arc::clone(&session));
                (session, true)
            }
        };
        session.used.store(number, Relaxed);
        session.used_at.store(millis(now.saturating_duration_since(self.built)), Relaxed);
        let mut unwritten = Vec::new();
        if is_new {
            // At most an eighth late, for one look at all sessions in that time.
            if now.saturating_duration_since(self.swept) > idle / 8 {
                unwritten = self.leave_idle(idle, now);
            }
            if self.len() > self.look_at {
                unwritten.extend(self.make_room(max));
            }
        }
        Found { session, unwritten }
    }

    /// Removes sessions that were not used for that long.
    pub(super) fn leave_idle(&mut self, idle: Duration, now: Instant) -> Vec<Arc<Session>> {
        self.swept = now;
        let since = now.saturating_duration_since(self.built).saturating_sub(idle);
        let mut unwritten = Vec::new();
        self.table.retain(|session| {
            let is_idle = session.used_at.load(Relaxed) < millis(since);
            !(is_idle && is_free(session)) || stays_unwritten(session, &mut unwritten)
        });
        unwritten
    }

    /// Removes the least recently used sessions if there are too many. A session that someone holds
    /// stays: the holder's changes would be written to the store, but never be seen here. A session
    /// with unwritten changes stays for now, and another one is removed instead.
    pub(super) fn make_room(&mut self, max: usize) -> Vec<Arc<Session>> {
        let mut unwritten = Vec::new();
        if self.len() <= max {
            return unwritten;
        }
        let mut free: Vec<_> = self.table.iter().filter(|session| is_free(session)).collect();
        free.sort_unstable_by_key(|session| session.used.load(Relaxed));
        let (mut over, mut last) = (self.len() - (max - max / PART), None);
        for session in free {
            if over == 0 {
                break;
            }
            if !stays_unwritten(session, &mut unwritten) {
                (over, last) = (over - 1, Some(session.used.load(Relaxed)));
            }
        }
        self.table.retain(|session| {
            let is_old = last.is_some_and(|last| session.used.load(Relaxed) <= last);
            !(is_old && is_free(session) && session.is_written())
        });
        self.look_at = if self.len() > max { self.len() + max / PART } else { 0 };
        unwritten
    }

    /// Removes all sites of a tenant.
    pub(super) fn take(&mut self, tenant: &SessionKey) -> Vec<Arc<Session>> {
        self.table.extract_if(|session| session.key.tenant() == tenant).collect()
    }
}

/// Whether only the pool has it.
fn is_free(session: &Arc<Session>) -> bool {
    Arc::strong_count(session) == 1 && !session.jar.is_shared()
}

fn stays_unwritten(session: &Arc<Session>, unwritten: &mut Vec<Arc<Session>>) -> bool {
    let is_written = session.is_written();
    if !is_written {
        unwritten.push(Arc::clone(session));
    }
    !is_written
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
