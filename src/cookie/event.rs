//! The events of this wing.

use super::model::rules::Rejection;

/// One debug event per rejected cookie: its name and the reason.
#[cfg(feature = "tracing")]
pub(super) fn rejected(name: &str, reason: Rejection) {
    // Never the value: more people read logs than may log in.
    tracing::debug!(target: "tower_outbound::cookie", name, %reason, "cookie rejected");
}

#[cfg(not(feature = "tracing"))]
pub(super) const fn rejected(_name: &str, _reason: Rejection) {}

/// One debug event per cookie that a file or another store cannot hold.
#[cfg(all(feature = "tracing", feature = "cookie_store"))]
pub(super) fn left_out(name: &str) {
    tracing::debug!(target: "tower_outbound::cookie", name, "cookie left out");
}

#[cfg(all(not(feature = "tracing"), feature = "cookie_store"))]
pub(super) const fn left_out(_name: &str) {}
