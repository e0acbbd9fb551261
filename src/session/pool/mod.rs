//! Sessions in memory, over a store that several processes share.

mod bound;
mod builder;
mod claim;
mod commands;
mod driver;
mod join;
mod lease;
mod queue;
mod replay;
mod schedule;
mod session;
mod sessions;
mod settings;
mod shared;
mod state;
mod stats;
mod visit;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use http::Uri;
use tokio::time::timeout;

use self::shared::Shared;
pub use self::{
    builder::{Said, SessionPoolBuilder, Unsaid},
    lease::Lease,
    settings::{Consistency, OnOutage, Write},
    stats::SessionStats,
};
pub(super) use self::{join::BoxFuture, visit::Visit};
use super::{SessionError, SessionKey, SessionStore};
use crate::cookie::CookieJar;

/// The sessions of a process: loaded from a [`SessionStore`] when a request needs them, and written
/// to it when a response changes them.
///
/// [`builder`](Self::builder) makes it, together with its driver. Clones share the sessions.
/// [`SessionLayer`](super::SessionLayer) gives each request its jar; [`jar`](Self::jar) gives one
/// to code of your own.
///
/// `Debug` shows the number of sessions, and no key.
pub struct SessionPool<S> {
    handle: Arc<Handle<S>>,
}

/// What the handles of a pool hold and its driver does not.
struct Handle<S>(Arc<Shared<S>>);

impl<S> Drop for Handle<S> {
    fn drop(&mut self) {
        self.0.closed.notify_one();
    }
}

impl<S: SessionStore> SessionPool<S> {
    /// Starts a pool over a store.
    pub fn builder(store: S) -> SessionPoolBuilder<S> {
        SessionPoolBuilder::new(store)
    }

    /// The jar of a session with the cookies of the URI's site, up to date. It has no cookies of
    /// other sites.
    ///
    /// What is changed in it is written by the driver within a second or two, by the session's next
    /// request, or by [`flush`](Self::flush). The session stays in memory as long as you hold the
    /// jar; do not keep it for later, since only requests and this call bring it up to date.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`], [`SessionError::Unreadable`]; [`SessionError::NoHost`] if the
    /// URI names no host.
    pub async fn jar(&self, key: &SessionKey, uri: &Uri) -> Result<CookieJar, SessionError> {
        let visit = self.visit(key, uri, None).ok_or(SessionError::NoHost)?;
        if visit.needs_load() {
            visit.load().await?;
        }
        Ok(visit.jar().clone())
    }

    /// Writes all that is not written yet, moved expiries too.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if some of it could not be written within the deadline. It
    /// stays queued.
    pub async fn flush(&self) -> Result<(), SessionError> {
        self.shared().flush().await
    }

    /// Removes a session with all its sites and leases: from the store, and from memory.
    ///
    /// The next request of that session starts with an empty jar, on this replica and, as soon as
    /// the store has told them, on others. A jar that someone holds is not written any more. A
    /// response that is on its way on another replica may
    /// still write its own cookies.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if the store did not answer within the deadline. It may have
    /// removed the session all the same.
    pub async fn forget(&self, key: &SessionKey) -> Result<(), SessionError> {
        let shared = self.shared();
        let gone = shared.sessions().take(key);
        for session in &gone {
            let mut state = session.state();
            state.forget();
            shared.schedule.set(session, &mut state, None);
        }
        shared.replay().forget(key);
        let forget = async {
            let mut turns = Vec::new();
            for session in &gone {
                // A write that is on its way comes first.
                turns.push(session.turn.lock().await);
            }
            shared.store.forget(key).await.map_err(|error| shared.failed(error))
        };
        let forgotten = timeout(shared.settings.deadline, forget).await;
        // Whoever has loaded it meanwhile looks again.
        let now = tokio::time::Instant::now();
        for session in shared.sessions().iter().filter(|session| session.key.tenant() == key) {
            session.state().invalidate(now);
        }
        forgotten.unwrap_or(Err(SessionError::Unavailable))
    }
}

impl<S> SessionPool<S> {
    fn new(shared: Arc<Shared<S>>) -> Self {
        Self { handle: Arc::new(Handle(shared)) }
    }

    fn shared(&self) -> &Shared<S> {
        &self.handle.0
    }

    /// What the pool has done, and what it has now.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let shared = self.shared();
        let sessions = shared.sessions().len();
        shared.counters.read(sessions, shared.is_listening.load(SeqCst))
    }
}

impl<S> Clone for SessionPool<S> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle) }
    }
}

impl<S> fmt::Debug for SessionPool<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.shared().sessions().len();
        f.debug_struct("SessionPool").field("sessions", &sessions).finish_non_exhaustive()
    }
}
