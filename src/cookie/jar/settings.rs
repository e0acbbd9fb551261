//! What a jar goes by.

use std::{sync::Arc, time::SystemTime};

use super::{limits::CookieLimits, policy::CookiePolicy};
use crate::cookie::model::suffix::PublicSuffixes;

/// What a jar goes by; fixed once it is built.
#[derive(Clone)]
pub(in crate::cookie) struct Settings {
    pub(in crate::cookie) suffixes: Arc<PublicSuffixes>,
    pub(in crate::cookie) limits: CookieLimits,
    pub(in crate::cookie) policy: Option<Arc<dyn CookiePolicy>>,
    pub(in crate::cookie) clock: fn() -> SystemTime,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            suffixes: Arc::default(),
            limits: CookieLimits::default(),
            policy: None,
            clock: SystemTime::now,
        }
    }
}
