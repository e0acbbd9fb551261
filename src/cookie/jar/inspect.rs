//! What a response's cookies would come to in an empty jar. Pure: nothing is stored, and no lock is
//! taken.

use http::HeaderMap;

use super::{bucket::Visit, limits::CookieLimits, response::ResponseCookies};
use crate::cookie::model::{
    cookie::Cookie,
    data::Data,
    rules::{self, Rejection},
};

/// Judges each `Set-Cookie` line as an empty jar with these limits would. `accepts` is the caller's
/// say on each cookie that the rules allow.
pub(super) fn judge(
    visit: Option<&Visit<'_>>,
    headers: &HeaderMap,
    limits: &CookieLimits,
    accepts: impl Fn(&Cookie) -> bool,
) -> ResponseCookies {
    let mut room = Room { limits, held: Vec::new() };
    ResponseCookies::of(visit, headers, limits.per_response, |visit, line| {
        let new = rules::admit(visit.origin, line, visit.suffixes, visit.reach, visit.now)?;
        let cookie = Cookie::admitted(&new, visit.now);
        // A deletion is nobody's to refuse: a policy that could would keep people logged in.
        if new.expires <= visit.now {
            room.held.retain(|old| !old.same_identity(&cookie.data));
            return Ok(None);
        }
        if !accepts(&cookie) {
            return Err(Rejection::Policy);
        }
        if room.takes(&cookie.data) { Ok(Some(cookie)) } else { Err(Rejection::NoRoom) }
    })
}

/// What one response has put into the jar that was empty. All of it belongs to one site, since a
/// cookie's domain covers the host that sets it.
struct Room<'a> {
    limits: &'a CookieLimits,
    /// Oldest first.
    held: Vec<Data>,
}

impl Room<'_> {
    /// Whether a cookie stays once it has been put in. Bytes count for each cookie alone: 50 of the
    /// longest cookies take 370 KB, a fortieth of what a jar holds by default.
    fn takes(&mut self, data: &Data) -> bool {
        let &CookieLimits { per_domain, total, bytes, .. } = self.limits;
        if data.text_len() > bytes || per_domain == 0 || total == 0 {
            return false;
        }
        if let Some(old) = self.held.iter_mut().find(|old| old.same_identity(data)) {
            // In its place: the order of creation is the older one's, as in the store.
            *old = data.clone();
            return true;
        }
        self.held.push(data.clone());
        // A total below the site's share keeps the site from ever filling it, and what goes over
        // the total never is the newest.
        if self.held.len() <= per_domain || total < per_domain {
            return true;
        }
        // As `Bucket::evict`, where all are of one age: the oldest that is not Secure, which may be
        // the newest of all, and else the oldest.
        let out = self.held.iter().position(|old| !old.flags.secure).unwrap_or(0);
        self.held.remove(out);
        out < self.held.len()
    }
}
