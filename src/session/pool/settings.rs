//! How a pool is set up.

use std::{sync::Arc, time::Duration};

use crate::session::{Seal, TOMBSTONES_KEPT};

/// Whether a pool trusts what it has loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// A session that is loaded is used until the store tells of a change. No command for a
    /// request; another replica's change is seen some milliseconds later. A request with a
    /// [`SessionVersion`](crate::session::SessionVersion) sees what that names.
    #[default]
    Cached,
    /// Each request asks the store for the version first: one short command a request, and nothing
    /// is stale.
    Validated,
}

/// What a request does if its session cannot be loaded, or not be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// It fails with [`SessionError::Unavailable`](crate::session::SessionError::Unavailable), and
    /// nothing is sent.
    #[default]
    Refuse,
    /// It is sent with the cookies that this replica has, if they were right at most this long ago.
    /// A session that was never loaded is refused all the same: an empty jar would make the
    /// upstream start a new session over the tenant's own. At most six hours.
    LastKnown(Duration),
}

/// When a response's changes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Before the response is returned, if the store answers within the deadline.
    #[default]
    Through,
    /// By the pool's driver, at most this long after the change. The response does not wait. What
    /// is not written yet is lost with the process, and no other replica sees it. Without the
    /// driver it is `Through`.
    Behind(Duration),
}

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) max_sessions: usize,
    pub(super) idle: Duration,
    pub(super) deadline: Duration,
    pub(super) on_outage: OnOutage,
    pub(super) consistency: Consistency,
    pub(super) write: Write,
    pub(super) refresh: Duration,
    pub(super) replay: Duration,
    pub(super) session_cookies: Duration,
    pub(super) seal: Option<Arc<dyn Seal>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_sessions: 10_000,
            idle: Duration::from_secs(60 * 60),
            deadline: Duration::from_millis(250),
            on_outage: OnOutage::default(),
            consistency: Consistency::default(),
            write: Write::default(),
            refresh: Duration::from_secs(5),
            replay: Duration::from_secs(30),
            session_cookies: Duration::from_secs(30 * 24 * 60 * 60),
            seal: None,
        }
    }
}

/// Bounds of `idle`, of `replay` and of `LastKnown`: together they stay below the time for which a
/// store remembers that a cookie was deleted. A replica that held one for longer could bring it
/// back.
pub(super) const MOST_IDLE: Duration = Duration::from_secs(12 * 60 * 60);
pub(super) const MOST_REPLAY: Duration = Duration::from_secs(60 * 60);
pub(super) const MOST_LAST_KNOWN: Duration = Duration::from_secs(6 * 60 * 60);

/// A change that has waited for longer is given up. The store may have forgotten by now that the
/// cookie was deleted after it.
pub(super) const MOST_WAIT: Duration = Duration::from_secs(TOMBSTONES_KEPT.as_secs() - 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_holds_is_younger_than_a_tombstone() {
        assert!(MOST_IDLE + MOST_REPLAY + MOST_LAST_KNOWN < TOMBSTONES_KEPT);
        assert!(MOST_WAIT < TOMBSTONES_KEPT);
    }
}
