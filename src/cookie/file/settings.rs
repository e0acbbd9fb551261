//! How a file is read and saved.

use std::time::Duration;

use crate::cookie::jar::{limits::CookieLimits, shares::Bounds};

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) strict: bool,
    pub(super) lock_timeout: Duration,
    pub(super) max_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            strict: false,
            lock_timeout: Duration::from_secs(10),
            // Four times what a jar holds at its default limits: a file also has what limits and
            // rules keep out of the jar.
            max_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Most cookies and bytes that a save leaves in a file. More than a jar holds, since a file also
/// has cookies of other jars and those that this one has evicted. The default limits count as a
/// minimum: a jar with small limits must not cut down the file of others.
pub(super) fn bounds(limits: &CookieLimits) -> Bounds {
    let most = |of: fn(&CookieLimits) -> usize| of(limits).max(of(&CookieLimits::default()));
    Bounds {
        per_site: most(|limits| limits.per_domain).saturating_mul(4),
        // Chosen so that `max_bytes` is not reached: each cookie has a line around its text.
        total: most(|limits| limits.total).saturating_mul(2),
        bytes: most(|limits| limits.bytes).saturating_mul(2),
        spares_older: true,
    }
}
