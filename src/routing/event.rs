//! The event of this wing, under the feature `tracing`.

#[cfg(feature = "tracing")]
pub(super) use with_tracing::{is_heard, no_mount};
#[cfg(not(feature = "tracing"))]
pub(super) use without::{is_heard, no_mount};

#[cfg(feature = "tracing")]
mod with_tracing {
    use http::Uri;
    use tracing::Level;

    use crate::authority::Redacted;

    const TARGET: &str = "tower_outbound::routing";

    /// Whether a subscriber listens to [`no_mount`], whose argument costs a second look-up.
    pub(in super::super) fn is_heard() -> bool {
        tracing::enabled!(target: TARGET, Level::DEBUG)
    }

    /// Reports a request that no mount matches, though its host has one. Most often the scheme,
    /// port or path of a prefix is wrong by mistake.
    pub(in super::super) fn no_mount(uri: &Uri, nearest: &str) {
        tracing::debug!(target: TARGET, uri = %Redacted(uri), nearest, "no mount");
    }
}

#[cfg(not(feature = "tracing"))]
mod without {
    use http::Uri;

    pub(in super::super) const fn is_heard() -> bool {
        false
    }

    pub(in super::super) const fn no_mount(_uri: &Uri, _nearest: &str) {}
}
