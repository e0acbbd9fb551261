//! What a request asks of the rules.

use std::cell::Cell;

use super::{data::Millis, origin::Origin, same_site::Reach, suffix::PublicSuffixes};

/// A request or a response, as far as cookies go by it.
pub(in crate::cookie) struct Visit<'a> {
    pub(in crate::cookie) origin: &'a Origin<'a>,
    pub(in crate::cookie) suffixes: &'a PublicSuffixes,
    pub(in crate::cookie) reach: Reach,
    pub(in crate::cookie) now: Millis,
    /// See [`key`](Self::key).
    pub(in crate::cookie) key: Cell<Option<&'a str>>,
}

impl<'a> Visit<'a> {
    pub(in crate::cookie) const fn new(
        origin: &'a Origin<'a>,
        suffixes: &'a PublicSuffixes,
        reach: Reach,
        now: Millis,
    ) -> Self {
        Self { origin, suffixes, reach, now, key: Cell::new(None) }
    }

    /// The registrable domain of the host, by which its cookies are filed; the public suffixes are
    /// asked once.
    pub(in crate::cookie) fn key(&self) -> &'a str {
        self.key.get().unwrap_or_else(|| {
            let key = self.suffixes.site(&self.origin.host).key;
            self.key.set(Some(key));
            key
        })
    }
}
