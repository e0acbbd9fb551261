//! What a pool of sessions needs from a jar.

use std::time::SystemTime;

use http::Uri;

use super::{CookieJar, log::Reader};
use crate::cookie::model::{id::CookieId, origin::Origin};

impl CookieJar {
    /// Like [`site_of`](Self::site_of), without a copy.
    pub(crate) fn with_site<T>(&self, uri: &Uri, use_site: impl FnOnce(&str) -> T) -> Option<T> {
        let origin = Origin::of(uri)?;
        Some(use_site(self.shared.settings.suffixes.site(&origin.host).key))
    }

    /// The site of a cookie.
    pub(crate) fn site_of_cookie<'a>(&self, id: &'a CookieId) -> &'a str {
        self.shared.settings.suffixes.site(id.domain()).key
    }

    /// Whether [`take_changes`](Self::take_changes) would return any.
    pub(crate) fn has_changes(&self) -> bool {
        self.shared.store.log().is_some_and(|log| log.is_pending(Reader::Own))
    }

    /// Whether someone other than the caller has this jar. Only a hint: it may change at any time.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_held()
    }

    /// The time by the jar's clock.
    pub(crate) fn clock_time(&self) -> SystemTime {
        self.time()
    }

    /// Most cookies of one site.
    pub(crate) fn most_per_site(&self) -> usize {
        self.shared.settings.limits.per_domain
    }
}
