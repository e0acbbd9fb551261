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

    /// Whether [`no_mount`] is heard by anyone. What it is told costs a second look-up.
    pub(in super::super) fn is_heard() -> bool {
        tracing::enabled!(target: TARGET, Level::DEBUG)
    }

    /// A request that no mount serves, though its host has one: most often a prefix with a slip in
    /// its scheme, port or path.
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
