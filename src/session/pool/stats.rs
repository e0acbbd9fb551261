//! What a pool has done, for a page of metrics.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a pool has done since it was built, and what it has. From
/// [`SessionPool::stats`](crate::session::SessionPool::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Sites of sessions in memory.
    pub sessions: usize,
    /// Whether the store tells of changes now, so that the cache is trusted.
    pub is_listening: bool,
    /// Times that a session was loaded whole.
    pub loads: u64,
    /// Times that a version was asked for.
    pub checks: u64,
    /// Times that changes were written.
    pub applies: u64,
    /// Of those, times that others had changed the session meanwhile.
    pub merges: u64,
    /// Changes of this replica that were older than what the store had.
    pub stale_refusals: u64,
    /// Loads of a session that could not be read.
    pub unreadable: u64,
    /// Commands that failed or took too long.
    pub failures: u64,
    /// Changes that were not written: the store had [no
    /// room](crate::session#what-a-site-can-fill) or did not answer for most of a day.
    pub dropped: u64,
    /// The time that all applies took, those that failed included.
    pub apply_time: Duration,
    /// The time that the slowest took.
    pub slowest_apply: Duration,
    /// What the store said last when it failed. It names no session.
    pub last_failure: Option<String>,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) loads: AtomicU64,
    pub(super) checks: AtomicU64,
    pub(super) applies: AtomicU64,
    pub(super) merges: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) refused: AtomicUsize,
    pub(super) dropped: AtomicUsize,
    failures: AtomicU64,
    apply_micros: AtomicU64,
    slowest_micros: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Counters {
    pub(super) fn failed(&self, what: String) {
        self.failures.fetch_add(1, Relaxed);
        #[cfg(feature = "tracing")]
        tracing::debug!(error = %what, "a store of sessions has failed");
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(super) fn took(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.apply_micros.fetch_add(micros, Relaxed);
        self.slowest_micros.fetch_max(micros, Relaxed);
    }

    pub(super) fn read(&self, sessions: usize, is_listening: bool) -> SessionStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let number = |counter: &AtomicUsize| counter.load(Relaxed) as u64;
        SessionStats {
            sessions,
            is_listening,
            loads: read(&self.loads),
            checks: read(&self.checks),
            applies: read(&self.applies),
            merges: read(&self.merges),
            stale_refusals: number(&self.refused),
            unreadable: read(&self.unreadable),
            failures: read(&self.failures),
            dropped: number(&self.dropped),
            apply_time: Duration::from_micros(read(&self.apply_micros)),
            slowest_apply: Duration::from_micros(read(&self.slowest_micros)),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
