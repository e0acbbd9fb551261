//! The one event of this wing.

use super::rules::Rejection;

/// One debug event per rejected cookie: its name and the reason, never its value.
#[cfg(feature = "tracing")]
pub(super) fn rejected(name: &str, reason: Rejection) {
    tracing::debug!(target: "tower_outbound::cookie", name, %reason, "cookie rejected");
}

#[cfg(not(feature = "tracing"))]
pub(super) const fn rejected(_name: &str, _reason: Rejection) {}
