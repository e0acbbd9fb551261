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

/// What a save makes of a file at most. It is more than a jar holds, since a file also has what
/// other jars hold and what this one has evicted. A jar with small limits cuts down no file of
/// others, so the defaults count for it too.
pub(super) fn bounds(limits: &CookieLimits) -> Bounds {
    let most = |of: fn(&CookieLimits) -> usize| of(limits).max(of(&CookieLimits::default()));
    Bounds {
        per_site: most(|limits| limits.per_domain).saturating_mul(4),
        // Without `max_bytes` being reached: each cookie has a line around its text.
        total: most(|limits| limits.total).saturating_mul(2),
        bytes: most(|limits| limits.bytes).saturating_mul(2),
        spares_older: true,
    }
}
