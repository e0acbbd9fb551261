//! One request's use of its session.

use std::{sync::Arc, time::Duration};

use http::Uri;
use tokio::time::Instant;

use super::{SessionPool, session::Session, sessions::Found, state::Need};
use crate::{
    cookie::CookieJar,
    session::{SessionError, SessionKey, SessionStore, SessionVersion},
};

/// While it exists, its session stays in memory. When it is dropped, at any moment, the changes of
/// the request are queued.
pub(in crate::session) struct Visit<S> {
    pool: SessionPool<S>,
    session: Arc<Session>,
    need: Option<Need>,
    /// A session that must be written before it can be removed.
    in_the_way: Option<Arc<Session>>,
}

impl<S> SessionPool<S> {
    /// `None` if the URI names no host.
    pub(in crate::session) fn visit(
        &self,
        tenant: &SessionKey,
        uri: &Uri,
        at_least: Option<&SessionVersion>,
    ) -> Option<Visit<S>> {
        let shared = self.shared();
        let found = shared.rules.with_site(uri, |site| shared.find(tenant, site))?;
        let Found { session, unwritten } = found;
        let in_the_way = if unwritten.is_empty() { None } else { shared.see_off(unwritten) };
        let need = session.state().need(shared.terms(at_least));
        Some(Visit { pool: self.clone(), session, need, in_the_way })
    }
}

impl<S> Visit<S> {
    pub(in crate::session) const fn needs_load(&self) -> bool {
        self.need.is_some()
    }

    pub(in crate::session) fn jar(&self) -> &CookieJar {
        &self.session.jar
    }

    /// Queues the changes. Returns whether the response must wait until they are written.
    pub(in crate::session) fn must_write(&self) -> bool {
        let shared = self.pool.shared();
        if self.jar().has_changes() {
            shared.collect(&self.session);
        }
        shared.must_write(&self.session)
    }

    pub(in crate::session) fn version(&self) -> SessionVersion {
        self.session.state().seen()
    }
}

impl<S: SessionStore> Visit<S> {
    /// Brings the session up to date. Returns how long that took.
    pub(in crate::session) async fn load(&self) -> Result<Duration, SessionError> {
        let Some(need) = self.need else { return Ok(Duration::ZERO) };
        let shared = self.pool.shared();
        let (began, deadline) = (Instant::now(), shared.settings.deadline);
        shared.bring_up(&self.session, need, deadline).await?;
        if let Some(session) = &self.in_the_way {
            // If it fails it stays, and is handled with the next new session.
            let _ = shared.write(session, deadline.saturating_sub(began.elapsed())).await;
        }
        Ok(began.elapsed())
    }

    /// Writes the changes, in the time that a load of duration `spent` has left of the deadline.
    pub(in crate::session) async fn write(&self, spent: Duration) {
        let shared = self.pool.shared();
        let left = shared.settings.deadline.saturating_sub(spent);
        // What is not written stays queued.
        let _ = shared.write(&self.session, left).await;
    }
}

impl<S> Drop for Visit<S> {
    fn drop(&mut self) {
        if self.jar().has_changes() {
            self.pool.shared().collect(&self.session);
        }
    }
}
