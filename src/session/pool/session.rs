//! One site of one session in this process: its jar, and what is known of it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    bound::Bound,
    queue::Queued,
    state::{Batch, State},
};
use crate::{
    cookie::{Cookie, CookieJar},
    session::{
        StoreKey, TOMBSTONES_KEPT, Version,
        record::{Entry, Offset},
    },
};

pub(super) struct Session {
    pub(super) key: StoreKey,
    pub(super) jar: CookieJar,
    /// Distinguishes sessions that are due at the same time.
    pub(super) number: u64,
    /// Number of the last use: the smallest one is the oldest use.
    pub(super) used: AtomicU64,
    /// Time of the last use, in milliseconds since the pool was built.
    pub(super) used_at: AtomicU64,
    state: Mutex<State>,
    /// Held while a command of this key is running. With one command at a time, an answer that was
    /// overtaken never replaces a later one. Tokio's mutex, since it is held across an await. A
    /// holder that is dropped wakes the next one.
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Changes of other sites, which a redirect inside the layer has put into this jar: see
/// [`Session::take_changes`].
pub(super) type Strangers = Vec<Queued>;

/// What applying an answer of the store did.
#[derive(Default)]
pub(super) struct PutAway {
    /// Changes of this replica that were older than the store's.
    pub(super) refused: usize,
    pub(super) dropped: usize,
    pub(super) strangers: Strangers,
}

impl Session {
    pub(super) fn new(key: StoreKey, jar: CookieJar, number: u64) -> Self {
        let (state, turn) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { key, jar, number, used: AtomicU64::new(0), used_at: AtomicU64::new(0), state, turn }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // The jar and the arithmetic on times run under this lock. Neither leaves the state half
        // changed if it panics.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store has all changes.
    pub(super) fn is_written(&self) -> bool {
        self.state().queue.is_empty() && !self.jar.has_changes()
    }

    /// Moves the jar's changes into the queue, in one step with respect to
    /// [`put_away`](Self::put_away). Otherwise a change in neither would be lost to the jar.
    pub(super) fn take_changes(&self, state: &mut State, bound: Bound) -> PutAway {
        let mut put_away = PutAway::default();
        let changes = self.jar.take_changes();
        // A change by an origin that is not secure may be refused elsewhere, and what it replaced
        // then applies. So both are sent.
        for change in
            changes.iter().flat_map(|change| change.replaced().into_iter().chain([change]))
        {
            let only_expiry = change.only_expiry();
            let queued = Queued { entry: Entry::of(change, state.offset), only_expiry };
            // Redirects that are followed inside this layer end at other sites.
            let site = self.jar.site_of_cookie(&queued.entry.id);
            if site != self.key.site() {
                self.jar.load_site(site, []);
                put_away.strangers.push(queued);
            } else if state.push(queued, bound).is_some() {
                put_away.dropped += 1;
            }
        }
        put_away
    }

    /// Makes the jar hold the store's contents and the changes that the store does not have yet.
    /// Also returns changes that the store has, although their write was not confirmed.
    pub(super) fn put_away(
        &self,
        state: &mut State,
        number: u64,
        version: Version,
        contents: Vec<Entry>,
        offset: Offset,
        bound: Bound,
    ) -> (PutAway, Vec<Entry>) {
        let mut put_away = self.take_changes(state, bound);
        state.offset = offset;
        let times = (Instant::now(), self.jar.clock_time());
        let mut overlaid = state.put_away(number, version, contents, times, bound);
        // A store has no order. Within a millisecond the jar keeps the order of insertion.
        overlaid.entries.sort_unstable_by_key(|entry| entry.stamp);
        put_away.refused = overlaid.refused;
        if let Some(newest) = overlaid.entries.last() {
            // First: a change of a cookie that was just loaded must come after it.
            self.jar.seen(offset.to_local(newest.stamp));
        }
        let changes = overlaid.entries.iter().map(|entry| entry.to_change(offset));
        self.jar.load_site(self.key.site(), changes);
        (put_away, overlaid.landed)
    }

    /// How long the store must keep the key: as long as the longest-lived cookie, of the jar and of
    /// what is written.
    pub(super) fn ttl(&self, batch: &Batch, session_cookies: Duration) -> Duration {
        let now = self.jar.clock_time();
        let left = |cookie: &Cookie| match cookie.expires() {
            Some(at) => at.duration_since(now).unwrap_or_default(),
            None => session_cookies,
        };
        // A key that was never loaded may have other cookies.
        let least = if self.state().known().is_some() { Duration::ZERO } else { session_cookies };
        let written = batch.entries.iter().filter_map(|entry| entry.cookie.as_ref());
        let longest = written.map(left).chain(self.jar.iter().map(|cookie| left(&cookie))).max();
        // A tombstone must outlive the cookies.
        longest.unwrap_or_default().max(least).max(TOMBSTONES_KEPT)
    }
}
