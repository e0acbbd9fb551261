//! What was written lately: a server that takes the place of another may lack it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::session::{SessionKey, StoreKey, record::Entry};

/// Oldest first.
#[derive(Default)]
pub(super) struct Replay {
    written: VecDeque<(Instant, StoreKey, Entry)>,
    /// How many servers took the place of another.
    server: u64,
}

/// Most changes that are kept, whatever the time. A store takes fewer in half a minute.
const MOST: usize = 1 << 18;

impl Replay {
    /// Which server answers. An answer of the one before it proves nothing any more.
    pub(super) const fn server(&self) -> u64 {
        self.server
    }

    pub(super) fn push(&mut self, key: &StoreKey, written: &[Entry], now: Instant, keep: Duration) {
        self.forget_old(now, keep);
        if keep.is_zero() {
            return;
        }
        self.written.extend(written.iter().map(|entry| (now, key.clone(), entry.clone())));
        let over = self.written.len().saturating_sub(MOST);
        self.written.drain(..over);
    }

    pub(super) fn forget_old(&mut self, now: Instant, keep: Duration) {
        let is_old = |at: Instant| now.saturating_duration_since(at) > keep;
        while self.written.front().is_some_and(|(at, ..)| is_old(*at)) {
            self.written.pop_front();
        }
        if self.written.is_empty() {
            self.written.shrink_to_fit();
        }
    }

    pub(super) fn forget(&mut self, tenant: &SessionKey) {
        self.written.retain(|(_, key, _)| key.tenant() != tenant);
    }

    /// Another server has taken the place. Returns what it may lack.
    pub(super) fn another_server(&mut self) -> impl Iterator<Item = (StoreKey, Entry)> + use<> {
        self.server += 1;
        std::mem::take(&mut self.written).into_iter().map(|(_, key, entry)| (key, entry))
    }
}
