//! One of the locks over which the buckets of a store are spread.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use super::bucket::Bucket;

/// One cache line each, so that two locks never share one.
#[derive(Default)]
#[repr(align(64))]
pub(super) struct Shard(RwLock<HashTable<Bucket>>);

impl Shard {
    // A panic under the lock leaves no partial change that a later call could meet, so poison is
    // ignored.
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
