//! The settings of a jar: its suffix list, limits, policy, secure hosts and clock.

use std::{sync::Arc, time::SystemTime};

use super::{limits::CookieLimits, policy::CookiePolicy};
use crate::cookie::model::{origin::SecureHosts, suffix::PublicSuffixes};

/// Fixed once the jar is built, so that reading them takes no lock.
#[derive(Clone)]
pub(super) struct Settings {
    // Shared: a caller's own list can hold megabytes, and each clone of a builder one of them.
    pub(super) suffixes: Arc<PublicSuffixes>,
    pub(super) limits: CookieLimits,
    pub(super) policy: Option<Arc<dyn CookiePolicy>>,
    pub(super) secure_hosts: SecureHosts,
    // A function, not a closure: a test's clock is a static, and a jar stays as small as without.
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
