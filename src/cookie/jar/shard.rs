//! One of the locks that the buckets of a store are spread over.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use super::bucket::Bucket;

/// A cache line each, so that two locks do not share one.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shard(RwLock<HashTable<Bucket>>);

impl Shard {
    // A panic under the lock leaves no half-done change behind that a later call could trip over,
    // so poison is ignored.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, HashTable<Bucket>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, HashTable<Bucket>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_poisoned(&self) -> bool {
        self.0.is_poisoned()
    }
}
