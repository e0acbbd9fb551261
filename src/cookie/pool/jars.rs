//! The jars of a pool, by key and by last use: which are evicted, and which keys have a running
//! callback. Calls no callback and takes no lock.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use hashbrown::HashTable;

use crate::cookie::jar::CookieJar;

pub(super) struct Jars<K> {
    by_key: HashTable<Entry<K>>,
    /// The hash of each key by the number of its use, oldest first. The numbers are unique.
    by_use: BTreeMap<u64, u64>,
    running: Vec<Running>,
    /// How many jars that requests hold may be passed over: see [`LOOKS`].
    looks: usize,
    /// Numbers uses and evictions.
    next: u64,
    /// How many are being evicted.
    leaving: usize,
}

/// A key, hashed once and outside the lock. Its `Hash` and `Eq` may panic, so both are called only
/// for a caller who gives a key, and before anything is changed. The pool itself finds a jar by
/// numbers.
pub(super) struct Keyed<T> {
    pub(super) hash: u64,
    pub(super) key: T,
}

impl<T> Keyed<T> {
    /// Keyed anew for each pool: strangers may choose the keys, and could make them collide.
    pub(super) fn new(hasher: &RandomState, key: T) -> Self
    where
        T: Hash,
    {
        Self { hash: hasher.hash_one(&key), key }
    }
}

impl<K> Clone for Keyed<Arc<K>> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, key: Arc::clone(&self.key) }
    }
}

struct Entry<K> {
    key: Keyed<Arc<K>>,
    jar: CookieJar,
    used: u64,
    at: Instant,
    /// The number of its eviction. The jar leaves when the callback returns, unless someone has
    /// asked for it.
    leaving: Option<u64>,
}

/// A jar that is being evicted.
pub(super) struct Leaving<K> {
    pub(super) key: Keyed<Arc<K>>,
    pub(super) jar: CookieJar,
    eviction: u64,
}

/// A running callback. A thread has at most one, since a callback must not use the pool. A key has
/// at most one: otherwise a jar could be saved over a later one, or be read from a half-written
/// file.
///
/// Only the key's hash is compared: of two keys with one hash, the second merely waits.
struct Running {
    thread: ThreadId,
    hash: u64,
    /// Whether the key was removed meanwhile, so that a jar that is being created is out of date.
    is_outdated: bool,
}

impl<K> Jars<K> {
    pub(super) const fn new() -> Self {
        Self {
            by_key: HashTable::new(),
            by_use: BTreeMap::new(),
            running: Vec::new(),
            looks: 0,
            next: 0,
            leaving: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether the thread that asks is inside a callback.
    pub(super) fn is_in_callback(&self) -> bool {
        !self.running.is_empty() && self.running.iter().any(Running::is_own)
    }

    /// A callback for that key begins on this thread.
    pub(super) fn begin(&mut self, hash: u64) {
        let thread = thread::current().id();
        self.running.push(Running { thread, hash, is_outdated: false });
    }

    /// Whether one runs for that key.
    pub(super) fn has_callback(&self, hash: u64) -> bool {
        self.running.iter().any(|running| running.hash == hash)
    }

    /// Ends the callback of this thread. Returns whether its key was removed meanwhile.
    pub(super) fn end(&mut self) -> bool {
        let own = self.running.iter().position(Running::is_own);
        own.is_some_and(|at| self.running.swap_remove(at).is_outdated)
    }
}

impl Running {
    fn is_own(&self) -> bool {
        self.thread == thread::current().id()
    }
}

/// How many held jars each call adds to those that may be passed over, up to all jars. If nearly
/// all jars are held, each new key would otherwise look at all of them, under the lock that every
/// tenant waits for.
const LOOKS: usize = 16;

/// On behalf of a caller who gives a key.
impl<K: Eq> Jars<K> {
    pub(super) fn peek(&self, key: &Keyed<&K>) -> Option<&CookieJar> {
        let entry = self.by_key.find(key.hash, |entry| *entry.key.key == *key.key);
        entry.map(|entry| &entry.jar)
    }

    /// Counts as use, and cancels an eviction that has begun.
    pub(super) fn touch(&mut self, key: &Keyed<&K>, now: Instant) -> Option<CookieJar> {
        let entry = self.by_key.find(key.hash, |entry| *entry.key.key == *key.key)?;
        let used = entry.used;
        self.touch_used(key.hash, used, now)
    }

    /// Removes a jar. One that is being created for the key becomes out of date.
    pub(super) fn take(&mut self, key: &Keyed<&K>) -> Option<CookieJar> {
        let found = self.by_key.find(key.hash, |entry| *entry.key.key == *key.key);
        let used = found.map(|entry| entry.used);
        for running in &mut self.running {
            running.is_outdated |= running.hash == key.hash;
        }
        self.take_used(key.hash, used?)
    }
}

/// By numbers alone, so that no code of the key's runs.
impl<K> Jars<K> {
    /// Puts a jar in whose key has none.
    pub(super) fn insert(&mut self, key: Keyed<Arc<K>>, jar: CookieJar, now: Instant) {
        let (used, hash) = (self.next, key.hash);
        self.next += 1;
        self.by_use.insert(used, hash);
        let entry = Entry { key, jar, used, at: now, leaving: None };
        self.by_key.insert_unique(hash, entry, |entry| entry.key.hash);
    }

    fn touch_used(&mut self, hash: u64, used: u64, now: Instant) -> Option<CookieJar> {
        let entry = self.by_key.find_mut(hash, |entry| entry.used == used)?;
        self.by_use.remove(&used);
        self.by_use.insert(self.next, hash);
        (entry.used, entry.at) = (self.next, now);
        self.next += 1;
        self.leaving -= usize::from(entry.leaving.take().is_some());
        Some(entry.jar.clone())
    }

    fn take_used(&mut self, hash: u64, used: u64) -> Option<CookieJar> {
        let entry = self.by_key.find_entry(hash, |entry| entry.used == used).ok()?;
        let (entry, _) = entry.remove();
        self.by_use.remove(&used);
        self.leaving -= usize::from(entry.leaving.is_some());
        Some(entry.jar)
    }

    /// The number of the use that came last.
    pub(super) const fn last_use(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Marks the jars to evict: idle ones, then the least recently used ones above the limit. The
    /// jar with the use `spared` stays.
    pub(super) fn leaving(
        &mut self,
        now: Instant,
        idle: Duration,
        max_jars: usize,
        spared: Option<u64>,
    ) -> Vec<Leaving<K>> {
        self.looks = (self.looks + LOOKS).min(self.by_key.len());
        let mut leaving = Vec::new();
        let mut staying = self.by_key.len() - self.leaving;
        // Jars in use are evicted only if the others do not suffice: what a request stores in an
        // evicted jar is lost, but an unbounded pool would fill the memory.
        for spares_held in [true, false] {
            let mut held = Vec::new();
            for (&used, &hash) in &self.by_use {
                // The caller does not have it yet.
                if spared == Some(used) {
                    continue;
                }
                let entry = self.by_key.find_mut(hash, |entry| entry.used == used);
                let Some(entry) = entry else { continue };
                let is_idle = spares_held && now.saturating_duration_since(entry.at) >= idle;
                let is_over = staying > max_jars;
                if !is_idle && !is_over {
                    break;
                }
                // Another call hands it over already, and has subtracted it.
                if entry.leaving.is_some() {
                    continue;
                }
                if spares_held && entry.jar.is_held() {
                    let Some(looks) = self.looks.checked_sub(1) else { break };
                    self.looks = looks;
                    held.push((hash, used));
                    continue;
                }
                staying -= 1;
                leaving.push(entry.mark(&mut self.next));
            }
            // They move to the end of the queue. Otherwise each new key would look at all of them
            // again.
            for (hash, used) in held {
                self.touch_used(hash, used, now);
            }
            if staying <= max_jars {
                break;
            }
        }
        self.leaving += leaving.len();
        leaving
    }

    /// Marks every jar, also those that another call hands over: what was stored in them since then
    /// must be saved too.
    pub(super) fn all(&mut self) -> Vec<Leaving<K>> {
        self.leaving = self.by_key.len();
        self.by_key.iter_mut().map(|entry| entry.mark(&mut self.next)).collect()
    }

    /// Whether this eviction still applies to the jar. If not, someone has asked for the jar, has
    /// removed it, or hands it over.
    pub(super) fn is_leaving(&self, leaving: &Leaving<K>) -> bool {
        self.leaving_use(leaving).is_some()
    }

    /// Removes a jar, if this eviction still applies to it.
    pub(super) fn finish(&mut self, leaving: &Leaving<K>) -> bool {
        let used = self.leaving_use(leaving);
        used.and_then(|used| self.take_used(leaving.key.hash, used)).is_some()
    }

    fn leaving_use(&self, leaving: &Leaving<K>) -> Option<u64> {
        let eviction = Some(leaving.eviction);
        let entry = self.by_key.find(leaving.key.hash, |entry| entry.leaving == eviction)?;
        Some(entry.used)
    }
}

impl<K> Entry<K> {
    fn mark(&mut self, next: &mut u64) -> Leaving<K> {
        let eviction = *next;
        *next += 1;
        self.leaving = Some(eviction);
        Leaving { key: self.key.clone(), jar: self.jar.clone(), eviction }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool of this many jars, all of them held.
    fn held(count: usize, now: Instant) -> (Jars<usize>, Vec<CookieJar>) {
        let (hasher, mut jars) = (RandomState::new(), Jars::new());
        let held: Vec<_> = (0..count).map(|_| CookieJar::new()).collect();
        for (key, jar) in held.iter().enumerate() {
            jars.insert(Keyed::new(&hasher, Arc::new(key)), jar.clone(), now);
        }
        (jars, held)
    }

    #[test]
    fn a_call_looks_at_few_jars_however_many_are_held() {
        let now = Instant::now();
        let (mut jars, _held) = held(1_000, now);
        let ahead = |jars: &Jars<_>| jars.by_use.range(..1_000).count();
        for call in 1..=50 {
            // One too many, so that one leaves though it is held. It keeps its place meanwhile.
            assert_eq!(jars.leaving(now, Duration::MAX, 1_000 - call, None).len(), 1);
            assert_eq!(ahead(&jars), 1_000 - call * LOOKS, "call {call}");
        }
    }

    #[test]
    fn the_jar_that_is_being_returned_never_leaves() {
        let now = Instant::now();
        for (count, most) in [(1, 1), (2, 1), (20, 1), (20, 19), (100, 1), (100, 50)] {
            let (mut jars, _held) = held(count, now);
            let spared = jars.last_use();
            let left = jars.leaving(now, Duration::ZERO, most, spared);
            assert!(left.iter().all(|left| *left.key.key != count - 1), "{count} {most}");
            assert_eq!(left.len(), count - most, "{count} {most}");
        }
    }
}
