//! What an empty jar would do with a response's cookies. Pure: nothing is stored, and no lock is
//! taken.

use http::HeaderMap;

use super::{limits::CookieLimits, response::ResponseCookies};
use crate::cookie::model::{
    cookie::Cookie,
    data::Data,
    rules::{self, Rejection},
    visit::Visit,
};

/// Judges each `Set-Cookie` line as an empty jar with these limits would. `accepts` is the caller's
/// policy for each cookie that the rules allow.
pub(super) fn judge(
    visit: Option<&Visit<'_>>,
    headers: &HeaderMap,
    limits: &CookieLimits,
    accepts: impl Fn(&Cookie) -> bool,
) -> ResponseCookies {
    let mut room = Room { limits, held: Vec::new() };
    ResponseCookies::of(visit, headers, limits.per_response, |visit, line| {
        let new = rules::admit(visit, line)?;
        let cookie = Cookie::admitted(&new, visit.now);
        // A policy may not refuse a deletion: that would keep people logged in.
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

/// What one response has put into the empty jar. All of it belongs to one site: a cookie's domain
/// covers the host that sets it.
struct Room<'a> {
    limits: &'a CookieLimits,
    /// Oldest first.
    held: Vec<Data>,
}

impl Room<'_> {
    /// Whether a cookie stays after it was put in. Bytes are checked for each cookie alone: 50 of
    /// the longest cookies take 370 KB, a fortieth of the default limit.
    fn takes(&mut self, data: &Data) -> bool {
        let &CookieLimits { per_domain, total, bytes, .. } = self.limits;
        if data.text_len() > bytes || per_domain == 0 || total == 0 {
            return false;
        }
        if let Some(old) = self.held.iter_mut().find(|old| old.same_identity(data)) {
            // In its place: the older creation time decides the order, as in the store.
            *old = data.clone();
            return true;
        }
        self.held.push(data.clone());
        // If the total is below the site's limit, the site never reaches its limit, and the total
        // never evicts the newest.
        if self.held.len() <= per_domain || total < per_domain {
            return true;
        }
        // As `eviction::of_site` for cookies of one age: the oldest that is not `Secure`, which may
        // be the new one, or else the oldest.
        let out = self.held.iter().position(|old| !old.flags.secure).unwrap_or(0);
        self.held.remove(out);
        out < self.held.len()
    }
}
