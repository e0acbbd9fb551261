//! A stored cookie, and the line that it came by.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::eviction::Candidate;
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Data, Flags, Millis, NEVER, Times},
    model::origin::domain_match,
    model::path::path_match,
    model::rules::Admitted,
    model::visit::Visit,
};

/// A stored cookie. What a look-up or an unchanged `Set-Cookie` moves is atomic, so that both share
/// the read lock.
pub(super) struct Slot {
    pub(super) data: Data,
    /// Numbers the cookies of a jar as they came.
    pub(super) order: u64,
    expires: AtomicU64,
    updated: AtomicU64,
    /// 0 until it is sent.
    sent: AtomicU64,
    pub(super) source: Source,
}

/// The `Set-Cookie` line that a cookie came by, so that the same line again need not be judged
/// again.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    /// A keyed hash of the line; 0 where the same line could mean something else the next time.
    pub(super) fingerprint: u64,
    /// Seconds; 0 where the line has no positive `Max-Age`.
    pub(super) max_age: u32,
    /// Whether the request's path gave the cookie its own.
    pub(super) has_default_path: bool,
}

impl Slot {
    pub(super) const fn new(data: Data, order: u64, times: Times, source: Source) -> Self {
        Self {
            data,
            order,
            expires: AtomicU64::new(times.expires),
            updated: AtomicU64::new(times.updated),
            sent: AtomicU64::new(times.sent),
            source,
        }
    }

    pub(super) fn cookie(&self) -> Cookie {
        let times = Times {
            expires: self.expires(),
            updated: self.updated(),
            sent: self.sent.load(Relaxed),
        };
        Cookie { data: self.data.clone(), times, order: self.order }
    }

    pub(super) fn expires(&self) -> Millis {
        self.expires.load(Relaxed)
    }

    pub(super) fn updated(&self) -> Millis {
        self.updated.load(Relaxed)
    }

    /// What eviction looks at.
    pub(super) fn candidate(&self) -> Candidate {
        let sent = self.sent.load(Relaxed);
        Candidate {
            order: self.order,
            bytes: self.data.text_len(),
            is_secure: self.data.flags.secure,
            was_sent: sent != 0,
            last_used: sent.max(self.updated()),
            expires: self.expires(),
        }
    }

    pub(super) fn touch(&self, now: Millis) {
        self.sent.store(now.max(1), Relaxed);
    }

    /// It was set again as it is; says whether its expiry moved.
    pub(super) fn set_again(&self, expires: Millis, now: Millis) -> bool {
        self.updated.store(now, Relaxed);
        self.expires.swap(expires, Relaxed) != expires
    }

    pub(super) fn is_allowed(&self, visit: &Visit<'_>) -> bool {
        let Flags { secure, same_site, .. } = self.data.flags;
        (!secure || visit.origin.secure) && visit.reach.sends(same_site)
    }

    pub(super) fn is_on_path(&self, path: &[u8]) -> bool {
        path_match(path, self.data.path_bytes())
    }

    /// The host lies in the bucket's registrable domain; where that is a suffix, every cookie in it
    /// is the host's own.
    pub(super) fn covers(&self, host: &[u8]) -> bool {
        let domain = self.data.domain_bytes();
        if host.len() == domain.len() {
            host == domain
        } else {
            !self.data.flags.host_only
                && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with(b"."))
        }
    }

    /// Leave secure cookies alone (RFC 6265bis section 5.7, step 12): whether this one forbids a
    /// non-secure origin `new`.
    pub(super) fn shields(&self, new: &Admitted<'_>, now: Millis) -> bool {
        let old = &self.data;
        old.flags.secure
            && self.expires() > now
            && new.passes_for(old.name())
            && (domain_match(&new.domain, old.domain()) || domain_match(old.domain(), &new.domain))
            && path_match(new.path.as_bytes(), old.path_bytes())
    }
}

/// Longest path first, then oldest.
pub(super) fn rank(data: &Data, order: u64) -> (Reverse<usize>, Millis, u64) {
    (Reverse(data.path_len()), data.created, order)
}

/// Whether a cookie without an expiry ends with the session.
pub(super) fn is_session(slot: &Slot) -> bool {
    slot.expires() == NEVER
}
