//! How a file is read and saved.

use std::time::Duration;

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
