//! What a jar goes by, and how it is given.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{limits::CookieLimits, policy::CookiePolicy};
use crate::cookie::{jar::CookieJar, model::suffix::PublicSuffixes};

/// What a jar goes by; fixed once it is built.
#[derive(Clone)]
pub(in crate::cookie) struct Rules {
    pub(in crate::cookie) suffixes: Arc<PublicSuffixes>,
    pub(in crate::cookie) limits: CookieLimits,
    pub(in crate::cookie) policy: Option<Arc<dyn CookiePolicy>>,
    pub(in crate::cookie) clock: fn() -> SystemTime,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            suffixes: Arc::default(),
            limits: CookieLimits::default(),
            policy: None,
            clock: SystemTime::now,
        }
    }
}

/// Builds a [`CookieJar`].
#[derive(Clone, Default)]
#[must_use]
pub struct CookieJarBuilder {
    rules: Rules,
}

impl CookieJarBuilder {
    /// The public suffix list. Default: the embedded one.
    pub fn public_suffixes(mut self, suffixes: PublicSuffixes) -> Self {
        self.rules.suffixes = Arc::new(suffixes);
        self
    }

    /// How much the jar holds and sends. Default: [`CookieLimits::default`].
    pub const fn limits(mut self, limits: CookieLimits) -> Self {
        self.rules.limits = limits;
        self
    }

    /// Which cookies are stored and sent, of those that the rules allow. Default: all.
    pub fn policy(mut self, policy: impl CookiePolicy + 'static) -> Self {
        self.rules.policy = Some(Arc::new(policy));
        self
    }

    /// The clock, for tests. Default: [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.rules.clock = clock;
        self
    }

    /// The empty jar. A builder makes any number of them, which share no cookies.
    #[must_use]
    pub fn build(self) -> CookieJar {
        CookieJar::with_rules(self.rules)
    }
}

impl fmt::Debug for CookieJarBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJarBuilder")
            .field("public_suffixes", &self.rules.suffixes)
            .field("limits", &self.rules.limits)
            .field("policy", &self.rules.policy.is_some())
            .finish_non_exhaustive()
    }
}
