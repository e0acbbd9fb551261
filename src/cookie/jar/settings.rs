//! The settings of a jar: its suffix list, limits, policy, secure hosts and clock.

use std::{sync::Arc, time::SystemTime};

use super::{limits::CookieLimits, policy::CookiePolicy};
use crate::cookie::model::{origin::SecureHosts, suffix::PublicSuffixes};

/// Fixed after the jar is built, so reading them takes no lock.
#[derive(Clone)]
pub(super) struct Settings {
    // Shared: a custom list may take megabytes, and clones of a builder use the same one.
    pub(super) suffixes: Arc<PublicSuffixes>,
    pub(super) limits: CookieLimits,
    pub(super) policy: Option<Arc<dyn CookiePolicy>>,
    pub(super) secure_hosts: SecureHosts,
    // A function, not a closure: a test keeps its time in a static, and the jar stays small.
    pub(super) clock: fn() -> SystemTime,
    pub(super) logs_changes: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            suffixes: Arc::default(),
            limits: CookieLimits::default(),
            policy: None,
            secure_hosts: SecureHosts::default(),
            clock: SystemTime::now,
            logs_changes: false,
        }
    }
}
