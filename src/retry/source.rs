//! Where the service for a second attempt comes from.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// A service that is never called, and cloned for a request whose first attempt has failed.
///
/// Most requests need no second attempt, and a clone of a client costs hundreds of instructions. It
/// is behind a lock, since a service need not be `Sync`.
pub(super) struct Source<S>(Arc<Mutex<S>>);

impl<S: Clone> Source<S> {
    pub(super) fn of(service: &S) -> Self {
        Self(Arc::new(Mutex::new(service.clone())))
    }

    pub(super) fn get(&self) -> S {
        // A clone that panicked has changed nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<S> Clone for Source<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Source<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}
