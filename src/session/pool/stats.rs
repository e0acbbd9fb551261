//! The counters of a pool, for metrics.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

/// What a pool has done since it was built, and what it holds. From
/// [`SessionPool::stats`](crate::session::SessionPool::stats).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStats {
    /// Sessions in memory. Each site of a session counts.
    pub sessions: usize,
    /// Whether the store reports changes now, so that sessions in memory are trusted.
    pub is_listening: bool,
    /// How often a session was loaded.
    pub loads: u64,
    /// How often the version of a session was asked for.
    pub checks: u64,
    /// How often changes were written.
    pub applies: u64,
    /// How many of these writes found that others had changed the session.
    pub merges: u64,
    /// Changes of this replica that were older than those in the store.
    pub stale_refusals: u64,
    /// Loads of a session that could not be read.
    pub unreadable: u64,
    /// Commands that failed or took too long.
    pub failures: u64,
    /// Changes that were not written, because the store had [no
    /// room](crate::session#what-a-site-can-fill) or did not answer for most of a day.
    pub dropped: u64,
    /// Total time of all writes, including those that failed.
    pub apply_time: Duration,
    /// Time of the slowest write.
    pub slowest_apply: Duration,
    /// The store's error at the last failure. It names no session.
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
