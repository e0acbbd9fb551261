//! The jars of a pool, by key and by use: which of them leave. No callback and no lock.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::Arc,
    thread::ThreadId,
    time::{Duration, Instant},
};

use crate::cookie::jar::CookieJar;

pub(super) struct Jars<K> {
    pub(super) by_key: HashMap<Arc<K>, Entry>,
    /// Oldest first; the numbers are unique.
    by_use: BTreeMap<u64, Arc<K>>,
    /// The keys whose jar is being made, and whether it is out of date already: its key was taken
    /// out meanwhile.
    pub(super) making: HashMap<Arc<K>, bool>,
    /// How many jars that requests hold may be passed over: see [`LOOKS`].
    looks: usize,
    /// Numbers uses and evictions.
    next: u64,
    /// How many are being evicted.
    leaving: usize,
    /// The threads that are inside a callback, and so may not come back in.
    pub(super) in_callback: Vec<ThreadId>,
}

pub(super) struct Entry {
    pub(super) jar: CookieJar,
    used: u64,
    at: Instant,
    /// The number of its eviction. The jar goes when the callback returns, unless somebody has
    /// asked for it.
    leaving: Option<u64>,
}

/// A jar on its way out, and the number of its eviction.
pub(super) type Leaving<K> = (Arc<K>, CookieJar, u64);

impl<K> Jars<K> {
    pub(super) fn new() -> Self {
        Self {
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            making: HashMap::new(),
            looks: 0,
            next: 0,
            leaving: 0,
            in_callback: Vec::new(),
        }
    }
}

/// How many held jars each call adds to those that may be passed over, up to all of the pool. If
/// nearly all are held, each new key would otherwise look at all of them, under the lock that every
/// tenant waits for.
const LOOKS: usize = 16;

impl<K: Hash + Eq> Jars<K> {
    /// Counts as use, and calls an eviction off that has begun.
    pub(super) fn touch(&mut self, key: &K, now: Instant) -> Option<CookieJar> {
        let (next, entry) = (self.next, self.by_key.get_mut(key)?);
        self.next += 1;
        if let Some(key) = self.by_use.remove(&entry.used) {
            self.by_use.insert(next, key);
        }
        (entry.used, entry.at) = (next, now);
        if entry.leaving.take().is_some() {
            self.leaving -= 1;
        }
        Some(entry.jar.clone())
    }

    pub(super) fn take(&mut self, key: &K) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.by_use.remove(&entry.used);
        self.leaving -= usize::from(entry.leaving.is_some());
        Some(entry)
    }

    /// Puts a jar in whose key has none.
    pub(super) fn insert(&mut self, key: Arc<K>, jar: CookieJar, now: Instant) {
        let used = self.next;
        self.next += 1;
        // First by key, whose hash may panic.
        let entry = Entry { jar, used, at: now, leaving: None };
        self.by_key.insert(Arc::clone(&key), entry);
        self.by_use.insert(used, key);
    }

    /// Marks what has been idle, then what there is too much of, oldest first.
    pub(super) fn leaving(
        &mut self,
        now: Instant,
        idle: Duration,
        max_jars: usize,
    ) -> Vec<Leaving<K>> {
        self.looks = (self.looks + LOOKS).min(self.by_key.len());
        let mut leaving = Vec::new();
        let mut staying = self.by_key.len() - self.leaving;
        // Jars in use leave only if the others do not suffice: what a request stores in a jar that
        // has left is lost, yet a pool without a bound would fill the memory.
        for spares_held in [true, false] {
            let mut held = Vec::new();
            for key in self.by_use.values() {
                let Some(entry) = self.by_key.get_mut(key) else { continue };
                let is_idle = spares_held && now.saturating_duration_since(entry.at) >= idle;
                let is_over = staying > max_jars;
                if !is_idle && !is_over {
                    break;
                }
                // Another call hands it over already, and has counted it out.
                if entry.leaving.is_some() {
                    continue;
                }
                if spares_held && entry.jar.is_held() {
                    let Some(looks) = self.looks.checked_sub(1) else { break };
                    self.looks = looks;
                    held.push(Arc::clone(key));
                    continue;
                }
                staying -= 1;
                leaving.push(entry.mark(key, &mut self.next));
            }
            // They move to the end of the line. Else each new key would look at all of them again.
            for key in held {
                self.touch(&key, now);
            }
            if staying <= max_jars {
                break;
            }
        }
        self.leaving += leaving.len();
        leaving
    }

    pub(super) fn all(&mut self) -> Vec<Leaving<K>> {
        let staying = self.by_key.iter_mut().filter(|(_, entry)| entry.leaving.is_none());
        let leaving: Vec<_> = staying.map(|(key, entry)| entry.mark(key, &mut self.next)).collect();
        self.leaving += leaving.len();
        leaving
    }

    /// Takes a jar out, unless somebody has asked for it since it was marked.
    pub(super) fn finish(&mut self, key: &K, eviction: u64) -> bool {
        // By number: it may have been rescued and be on its way out once more, for another call to
        // finish.
        let is_leaving = self.by_key.get(key).is_some_and(|entry| entry.leaving == Some(eviction));
        is_leaving && self.take(key).is_some()
    }
}

impl Entry {
    fn mark<K>(&mut self, key: &Arc<K>, next: &mut u64) -> Leaving<K> {
        let eviction = *next;
        *next += 1;
        self.leaving = Some(eviction);
        (Arc::clone(key), self.jar.clone(), eviction)
    }
}
