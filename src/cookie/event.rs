//! The `tracing` events of the cookie module.

use super::model::rules::Rejection;

/// One debug event per rejected cookie: its name and the reason.
#[cfg(feature = "tracing")]
pub(super) fn rejected(name: &str, reason: Rejection) {
    // Never the value: more people may read logs than may log in.
    tracing::debug!(target: "tower_outbound::cookie", name, %reason, "cookie rejected");
}

#[cfg(not(feature = "tracing"))]
pub(super) const fn rejected(_name: &str, _reason: Rejection) {}

/// One debug event per redirect of a restricted request to another origin. A redirect layer without
/// our policy drops the restrictions there.
#[cfg(feature = "tracing")]
pub(super) fn restricted_redirect(from: &http::Uri, to: &str) {
    // Only the host: a URI may contain a password or a token.
    let from = from.host().unwrap_or_default();
    tracing::debug!(
        target: "tower_outbound::cookie",
        from,
        to,
        "a restricted request is redirected to another origin"
    );
}

/// One debug event per header that leaves out cookies because of a limit: the host, and how many.
#[cfg(feature = "tracing")]
pub(super) fn over_limit(host: &str, left_out: usize) {
    if left_out > 0 {
        tracing::debug!(
            target: "tower_outbound::cookie",
            host,
            left_out,
            "cookies left out of a header over its limit"
        );
    }
}

#[cfg(not(feature = "tracing"))]
pub(super) const fn over_limit(_host: &str, _left_out: usize) {}

/// One debug event per line of a file that could not be read: the line number and the reason, and
/// no text of the line.
#[cfg(feature = "tracing")]
pub(super) fn skipped(line: usize, reason: &'static str) {
    tracing::debug!(target: "tower_outbound::cookie", line, reason, "line of a cookie file skipped");
}

#[cfg(not(feature = "tracing"))]
pub(super) const fn skipped(_line: usize, _reason: &'static str) {}

/// One debug event per cookie that a file or another crate's store cannot hold.
#[cfg(all(feature = "tracing", feature = "json"))]
pub(super) fn left_out(name: &str) {
    tracing::debug!(target: "tower_outbound::cookie", name, "cookie left out");
}

#[cfg(all(not(feature = "tracing"), feature = "json"))]
pub(super) const fn left_out(_name: &str) {}
