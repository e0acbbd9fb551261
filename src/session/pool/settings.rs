//! The settings of a pool.

use std::{sync::Arc, time::Duration};

use crate::session::{Seal, TOMBSTONES_KEPT};

/// Whether a pool uses a loaded session without asking the store. Set by
/// [`SessionPoolBuilder::consistency`](crate::session::SessionPoolBuilder::consistency).
///
/// Default: [`Cached`](Self::Cached).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Consistency {
    /// A loaded session is used until the store reports a change. A request costs no command, and
    /// another replica's change is seen some milliseconds later. A request with a
    /// [`SessionVersion`](crate::session::SessionVersion) sees at least that version.
    #[default]
    Cached,
    /// Each request first asks the store for the version. A request costs one short command, and
    /// never sees an outdated session.
    Validated,
}

/// What happens to a request if its session cannot be loaded or checked in time. Set by
/// [`SessionPoolBuilder::on_outage`](crate::session::SessionPoolBuilder::on_outage).
///
/// Default: [`Refuse`](Self::Refuse).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOutage {
    /// The request fails with
    /// [`SessionError::Unavailable`](crate::session::SessionError::Unavailable), and nothing is
    /// sent.
    #[default]
    Refuse,
    /// The request is sent with the cookies that this replica has, if they were up to date at most
    /// this long ago. More than 6 hours counts as 6 hours. A session that was never loaded is still
    /// refused: with an empty jar the upstream would start a new session in place of the tenant's.
    LastKnown(Duration),
}

/// When the changes of a response are written. Set by
/// [`SessionPoolBuilder::write`](crate::session::SessionPoolBuilder::write).
///
/// Default: [`Through`](Self::Through).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Write {
    /// Before the response is returned, if the store answers within the deadline.
    #[default]
    Through,
    /// By the pool's driver, at most this long after the change. The response does not wait. An
    /// unwritten change is lost with the process, and no other replica sees it. Without the driver
    /// it acts as `Through`.
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

/// Upper bounds of `idle`, `replay` and `LastKnown`. Their sum is shorter than the time for which a
/// store remembers a deletion. A replica that held a cookie for longer could bring it back.
pub(super) const MOST_IDLE: Duration = Duration::from_secs(12 * 60 * 60);
pub(super) const MOST_REPLAY: Duration = Duration::from_secs(60 * 60);
pub(super) const MOST_LAST_KNOWN: Duration = Duration::from_secs(6 * 60 * 60);

/// A change that has waited longer than this is dropped. The store may have forgotten a later
/// deletion of the cookie.
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
