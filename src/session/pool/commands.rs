//! The commands of a pool to its store: one at a time per key.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{
    join::{self, BoxFuture},
    queue::Queued,
    session::Session,
    settings::MOST_WAIT,
    shared::Shared,
    state::{Batch, Need, State},
};
use crate::session::{Applied, Contents, SessionError, SessionStore, StoreKey, record};

/// Most commands of different keys that run at once.
pub(super) const AT_ONCE: usize = 8;

impl<S: SessionStore> Shared<S> {
    /// Brings a session into the state that a request needs, within that time.
    pub(super) async fn bring_up(
        &self,
        session: &Arc<Session>,
        need: Need,
        time: Duration,
    ) -> Result<(), SessionError> {
        let on_outage = self.settings.on_outage;
        let may_serve = |is_again: bool| {
            let (state, now) = (session.state(), Instant::now());
            state.may_serve(on_outage, now) && (!is_again || state.has_just_failed(now))
        };
        if may_serve(true) {
            return Ok(());
        }
        match timeout(time, self.refresh(session, need)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(SessionError::Unreadable)) => return Err(SessionError::Unreadable),
            Ok(Err(_)) => {}
            Err(_) => self.counters.failed("it did not answer a load in time".to_owned()),
        }
        session.state().fail(Instant::now());
        if may_serve(false) { Ok(()) } else { Err(SessionError::Unavailable) }
    }

    async fn refresh(&self, session: &Session, need: Need) -> Result<(), SessionError> {
        let _turn = session.turn.lock().await;
        let (number, known) = {
            let mut state = session.state();
            if state.has(need) {
                return Ok(());
            }
            (state.begin(), state.known().filter(|_| !need.is_old).cloned())
        };
        if let Some(known) = known {
            self.counters.checks.fetch_add(1, Relaxed);
            let version = self.store.version(&session.key).await.map_err(|e| self.failed(e))?;
            if version == known {
                session.state().confirm(number, Instant::now());
                return Ok(());
            }
        }
        loop {
            let (number, server) = (session.state().begin(), self.replay().server());
            self.counters.loads.fetch_add(1, Relaxed);
            let contents = self.store.load(&session.key).await.map_err(|e| self.failed(e))?;
            if let Some(read) = self.put_away(session, (number, server), &[], contents) {
                return read;
            }
        }
    }

    /// Makes the jar hold the store's contents and these changes. `None` if another server has
    /// replaced the store's server since the command began. The answer then proves nothing.
    fn put_away(
        &self,
        session: &Session,
        (number, server): (u64, u64),
        written: &[record::Entry],
        contents: Contents,
    ) -> Option<Result<(), SessionError>> {
        let Contents { version, records } = contents;
        let seal = self.settings.seal.as_deref();
        let read = record::read(&records, &session.key, seal);
        let mut state = session.state();
        self.has_written(&session.key, &mut state, server, written)?;
        let Ok(entries) = read else {
            self.counters.unreadable.fetch_add(1, Relaxed);
            state.unload();
            return Some(Err(SessionError::Unreadable));
        };
        let offset = self.offset();
        let (put_away, landed) =
            session.put_away(&mut state, number, version, entries, offset, self.bound);
        // If another server has come since, these are lost with the old one.
        if self.has_written(&session.key, &mut state, server, &landed).is_none() {
            for entry in landed {
                state.push(Queued { entry, only_expiry: false }, self.bound);
            }
        }
        drop(state);
        self.settle(&session.key, put_away);
        Some(Ok(()))
    }

    /// Removes from the queue what that server has, and keeps it for a server that may lack it.
    /// `None` if such a server has come already.
    fn has_written(
        &self,
        key: &StoreKey,
        state: &mut State,
        server: u64,
        written: &[record::Entry],
    ) -> Option<()> {
        let (now, keep) = (Instant::now(), self.settings.replay);
        let mut replay = self.replay();
        if replay.server() != server {
            return None;
        }
        // Only the driver would learn of another server.
        if !written.is_empty() && self.is_driven.load(Relaxed) {
            replay.push(key, written, now, keep);
        }
        state.queue.written(written);
        Some(())
    }

    /// Writes the changes of a session, within that time. What is not written stays queued.
    pub(super) async fn write(
        &self,
        session: &Arc<Session>,
        time: Duration,
    ) -> Result<(), SessionError> {
        let written = match timeout(time, self.apply(session)).await {
            Ok(written) => written,
            Err(_) => {
                self.counters.failed("it did not answer an apply in time".to_owned());
                Err(SessionError::Unavailable)
            }
        };
        let mut state = session.state();
        let now = Instant::now();
        let due = if written.is_ok() {
            self.due(&state)
        } else {
            state.fail(now);
            now.checked_add(RETRY)
        };
        let due = due.filter(|_| !state.queue.is_empty());
        self.schedule.set(session, &mut state, due);
        written
    }

    async fn apply(&self, session: &Arc<Session>) -> Result<(), SessionError> {
        let need = session.state().need_to_write(self.is_listening.load(Relaxed));
        if let Some(need) = need {
            self.refresh(session, need).await?;
        }
        let _turn = session.turn.lock().await;
        let server = self.replay().server();
        let Some(batch) = self.batch(session) else { return Ok(()) };
        let seal = self.settings.seal.as_deref();
        let records: Vec<_> = batch
            .entries
            .iter()
            .chain(&batch.surplus)
            .map(|entry| entry.to_record(&session.key, seal))
            .collect();
        let ttl = session.ttl(&batch, self.settings.session_cookies);
        self.counters.applies.fetch_add(1, Relaxed);
        let applied = {
            let _took = Took { shared: self, began: Instant::now() };
            self.store.apply(&session.key, &batch.known, &records, ttl).await
        };
        let written = match applied.map_err(|error| self.failed(error))? {
            Applied::Clean(version) => {
                let (mut state, now) = (session.state(), Instant::now());
                self.has_written(&session.key, &mut state, server, &batch.entries).map(|()| {
                    state.written(now);
                    state.written_alone(&batch, version, now);
                })
            }
            Applied::Merged(contents) => {
                self.counters.merges.fetch_add(1, Relaxed);
                let is_refused = |entry: &record::Entry| {
                    let (field, mut stored) = (entry.field(), contents.records.iter());
                    let stored = stored.find(|stored| stored.field == field);
                    stored.is_some_and(|stored| stored.stamp > entry.stamp)
                };
                let refused = batch.entries.iter().filter(|entry| is_refused(entry)).count();
                self.counters.refused.fetch_add(refused, Relaxed);
                session.state().written(Instant::now());
                let command = (batch.number, server);
                // Whether or not all of it can be read: the changes are written.
                self.put_away(session, command, &batch.entries, contents).map(drop)
            }
        };
        written.ok_or(SessionError::Unavailable)
    }

    fn batch(&self, session: &Session) -> Option<Batch> {
        let mut state = session.state();
        let mut put_away = session.take_changes(&mut state, self.bound);
        let now = state.offset.to_store(session.jar.clock_time());
        let wait = u64::try_from(MOST_WAIT.as_micros()).unwrap_or(u64::MAX);
        put_away.dropped += state.queue.give_up(now.saturating_sub(wait));
        let (batch, dropped) = state.batch(self.bound);
        put_away.dropped += dropped;
        drop(state);
        self.settle(&session.key, put_away);
        batch
    }

    pub(super) fn failed(&self, error: S::Error) -> SessionError {
        self.counters.failed(error.into().to_string());
        SessionError::Unavailable
    }

    /// Writes everything that is not written.
    pub(super) async fn flush(&self) -> Result<(), SessionError> {
        let changed: Vec<_> = {
            let sessions = self.sessions();
            sessions.iter().filter(|session| session.jar.has_changes()).map(Arc::clone).collect()
        };
        // First: a jar may have changes of other sites, which belong to other sessions.
        for session in changed {
            self.collect(&session);
        }
        let sessions: Vec<_> = self.sessions().iter().map(Arc::clone).collect();
        let left = std::sync::Mutex::new(
            sessions.into_iter().filter(|session| !session.is_written()).collect::<Vec<_>>(),
        );
        let has_failed = std::sync::atomic::AtomicBool::new(false);
        let next = || left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop();
        let worker = || -> BoxFuture<'_> {
            Box::pin(async {
                while let Some(session) = next() {
                    if self.write(&session, self.settings.deadline).await.is_err() {
                        has_failed.store(true, Relaxed);
                    }
                }
            })
        };
        join::all((0..AT_ONCE).map(|_| worker()).collect()).await;
        if has_failed.into_inner() { Err(SessionError::Unavailable) } else { Ok(()) }
    }
}

/// When a write that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Notes how long an apply took, also if it is cancelled.
struct Took<'a, S> {
    shared: &'a Shared<S>,
    began: Instant,
}

impl<S> Drop for Took<'_, S> {
    fn drop(&mut self) {
        self.shared.counters.took(self.began.elapsed());
    }
}
