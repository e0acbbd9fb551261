//! What was written recently: a server that replaces another may lack it.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::session::{SessionKey, StoreKey, record::Entry};

/// Oldest first.
#[derive(Default)]
pub(super) struct Replay {
    written: VecDeque<(Instant, StoreKey, Entry)>,
    /// How many times another server has replaced the one before.
    server: u64,
}

/// Most changes that are kept, whatever the time. A store accepts fewer in half a minute.
const MOST: usize = 1 << 18;

impl Replay {
    /// The number of the server that answers. An answer of an earlier server proves nothing.
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

    /// Another server has replaced the one before. Returns what it may lack.
    pub(super) fn another_server(&mut self) -> impl Iterator<Item = (StoreKey, Entry)> + use<> {
        self.server += 1;
        std::mem::take(&mut self.written).into_iter().map(|(_, key, entry)| (key, entry))
    }
}
