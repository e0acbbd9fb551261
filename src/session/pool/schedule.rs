//! Which sessions the driver has to write, and when.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{sync::Notify, time::Instant};

use super::{session::Session, state::State};

/// Each session has at most one place, which its state stores. This lock is taken after the
/// state's.
#[derive(Default)]
pub(super) struct Schedule {
    by_time: Mutex<BTreeMap<(Instant, u64), Weak<Session>>>,
    pub(super) is_earlier: Notify,
}

pub(super) enum Next {
    Write(std::sync::Arc<Session>),
    Wait(Option<Instant>),
}

impl Schedule {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Instant, u64), Weak<Session>>> {
        self.by_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Schedules the write of a session. `None`: there is nothing to write.
    pub(super) fn set(
        &self,
        session: &std::sync::Arc<Session>,
        state: &mut State,
        due: Option<Instant>,
    ) {
        if state.due == due {
            return;
        }
        let mut by_time = self.lock();
        if let Some(old) = state.due {
            by_time.remove(&(old, session.number));
        }
        state.due = due;
        let Some(due) = due else { return };
        let is_earliest = by_time.first_key_value().is_none_or(|(first, _)| due < first.0);
        by_time.insert((due, session.number), std::sync::Arc::downgrade(session));
        drop(by_time);
        if is_earliest {
            self.is_earlier.notify_one();
        }
    }

    /// What to do now.
    pub(super) fn next(&self, now: Instant) -> Next {
        let mut by_time = self.lock();
        loop {
            let Some(first) = by_time.first_entry() else { return Next::Wait(None) };
            let due = first.key().0;
            if due > now {
                return Next::Wait(Some(due));
            }
            let session = first.remove();
            // A session that is gone had nothing to write.
            let Some(session) = session.upgrade() else { continue };
            // Others may be due too, and this write takes time.
            if !by_time.is_empty() {
                self.is_earlier.notify_one();
            }
            drop(by_time);
            let mut state = session.state();
            if state.due == Some(due) {
                state.due = None;
            }
            drop(state);
            return Next::Write(session);
        }
    }
}
