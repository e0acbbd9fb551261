//! Why a request does not carry a cookie.

use std::{collections::HashSet, error, fmt};

use super::{CookieJar, line::choose, settings::Settings, storage::CookieContext};
use crate::cookie::model::{
    cookie::Cookie, data::Flags, origin::domain_match, path::path_match, visit::Visit,
};

/// Why a request does not carry a cookie of its site. If there are several reasons, the first of
/// this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// The cookie is another host's.
    Host,
    /// The cookie is another path's.
    Path,
    /// It is `Secure`, but the [origin is not](crate::cookie#what-may-be-stored-and-sent).
    Secure,
    /// Its `SameSite` keeps it from a request on behalf of another site: see
    /// [`SiteForCookies`](crate::cookie::SiteForCookies).
    SameSite,
    /// It has expired, and no look-up has removed it yet.
    Expired,
    /// The jar's [`CookiePolicy`](crate::cookie::CookiePolicy) does not send it.
    Policy,
    /// The header has no room for it: see
    /// [`CookieLimits::header_bytes`](crate::cookie::CookieLimits::header_bytes) and
    /// [`header_cookies`](crate::cookie::CookieLimits::header_cookies).
    Limit,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "it is another host's",
            Self::Path => "it is another path's",
            Self::Secure => "it is Secure, but the request's origin is not",
            Self::SameSite => "the request is made on behalf of another site",
            Self::Expired => "it has expired",
            Self::Policy => "the jar's policy does not send it",
            Self::Limit => "the jar's limits leave no room for it in the header",
        })
    }
}

impl error::Error for Withheld {}

impl CookieJar {
    /// Every cookie of the request's site, in the order of a header, and why the request does not
    /// carry it; `None` if it does.
    ///
    /// It changes nothing: no cookie counts as used, and what has expired stays. Empty for a URI
    /// without a host.
    ///
    /// ```
    /// use http::Method;
    /// use tower_outbound::cookie::{CookieContext, CookieJar, Withheld};
    ///
    /// let (jar, uri) = (CookieJar::new(), "https://example.com/".parse()?);
    /// jar.set(&uri, "id=42; Secure")?;
    /// jar.set(&uri, "cart=7; Path=/shop")?;
    ///
    /// let uri = "http://example.com/".parse()?;
    /// let explained = jar.explain(&CookieContext::new(&uri, &Method::GET));
    /// let names: Vec<_> = explained.iter().map(|(cookie, why)| (cookie.name(), *why)).collect();
    /// assert_eq!(names, [("cart".into(), Some(Withheld::Path)), ("id".into(), Some(Withheld::Secure))]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn explain(&self, context: &CookieContext<'_>) -> Vec<(Cookie, Option<Withheld>)> {
        let Some(origin) = self.origin(context.uri()) else { return Vec::new() };
        let visit = self.visit(context, &origin);
        let Settings { limits, policy, .. } = &self.shared.settings;
        let mut explained: Vec<_> = self
            .shared
            .store
            .of_site(&visit)
            .into_iter()
            .map(|cookie| {
                // Asked under no lock, as for a header.
                let refused =
                    || policy.as_ref().is_some_and(|policy| !policy.send(context, &cookie));
                let why =
                    withheld(&cookie, &visit).or_else(|| refused().then_some(Withheld::Policy));
                (cookie, why)
            })
            .collect();
        let going = explained.iter().filter(|(_, why)| why.is_none());
        let mut going: Vec<_> = going.map(|(cookie, _)| cookie.clone()).collect();
        let room = limits.header_bytes.saturating_sub(context.reserved());
        choose(&mut going, limits.header_cookies, room);
        let going: HashSet<_> = going.iter().map(|cookie| cookie.order).collect();
        for (cookie, why) in &mut explained {
            if why.is_none() && !going.contains(&cookie.order) {
                *why = Some(Withheld::Limit);
            }
        }
        explained
    }
}

/// Which rule of RFC 6265bis section 5.8.3 keeps a cookie of the site from a request.
fn withheld(cookie: &Cookie, visit: &Visit<'_>) -> Option<Withheld> {
    let (origin, Flags { host_only, secure, same_site, .. }) = (visit.origin, cookie.data.flags);
    let covers = match host_only {
        true => origin.host == cookie.domain(),
        false => domain_match(&origin.host, cookie.domain()),
    };
    let reasons = [
        (!covers, Withheld::Host),
        (!path_match(origin.path.as_bytes(), cookie.data.path_bytes()), Withheld::Path),
        (secure && !origin.secure, Withheld::Secure),
        (!visit.reach.sends(same_site), Withheld::SameSite),
        (cookie.times.expires <= visit.now, Withheld::Expired),
    ];
    reasons.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}
