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

/// The sessions of this process: loaded from a [`SessionStore`] when a request needs them, and
/// written to it when a response changes them.
///
/// [`builder`](Self::builder) creates a pool and its driver. Clones share the sessions.
/// [`SessionLayer`](super::SessionLayer) gives each request its jar. [`jar`](Self::jar) gives one
/// to your own code.
///
/// `Debug` shows the number of sessions, and no key.
///
/// ```
/// use tower_outbound::session::{MemoryStore, SessionKey, SessionPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
/// tokio::spawn(driver);
///
/// let (ann, uri) = (SessionKey::new("ann".as_bytes()), "https://example.com/".parse()?);
/// pool.jar(&ann, &uri).await?.set(&uri, "id=42; Secure")?;
/// pool.flush().await?; // the store has the cookie now
/// pool.forget(&ann).await?; // and now it has nothing of ann
/// assert!(pool.jar(&ann, &uri).await?.is_empty());
/// # Ok(())
/// # }
/// ```
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
    /// Starts a pool with this store.
    pub fn builder(store: S) -> SessionPoolBuilder<S> {
        SessionPoolBuilder::new(store)
    }

    /// Returns the jar of a session, up to date, with the cookies of the URI's site and no others.
    ///
    /// The driver writes a change in the jar within a second or two. [`flush`](Self::flush) and the
    /// session's next request also write it. The session stays in memory as long as you hold the
    /// jar. Do not keep the jar for later: only requests and this call bring it up to date.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] or [`SessionError::Unreadable`] if the session cannot be
    /// loaded. [`SessionError::NoHost`] if the URI names no host.
    pub async fn jar(&self, key: &SessionKey, uri: &Uri) -> Result<CookieJar, SessionError> {
        let visit = self.visit(key, uri, None).ok_or(SessionError::NoHost)?;
        if visit.needs_load() {
            visit.load().await?;
        }
        Ok(visit.jar().clone())
    }

    /// Writes all changes that are not written yet, also those that only move an expiry.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if a change could not be written within the deadline. It stays
    /// queued.
    pub async fn flush(&self) -> Result<(), SessionError> {
        self.shared().flush().await
    }

    /// Removes a session with all its sites and leases, from the store and from memory.
    ///
    /// The next request of that session starts with an empty jar. Other replicas do so as soon as
    /// the store has told them. A jar that someone still holds is no longer written. A response
    /// that another replica is receiving may still write its own cookies.
    ///
    /// So does a request that another replica begins before the store has told it: it sends the old
    /// cookies, and if its response sets cookies, the session is back. To prevent that, add
    /// `SessionVersion::from_bytes(b"forgotten")` to the caller's next request. No store has such a
    /// [version](super::SessionVersion), so any replica asks the store. Or use
    /// [`Consistency::Validated`](super::Consistency::Validated).
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if the store fails, or does not answer within the deadline. It
    /// may have removed the session nevertheless.
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

    /// Returns what the pool has done, and what it holds now.
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
