//! Why a request does not carry a cookie.

use std::{collections::HashSet, error, fmt};

use super::{CookieJar, line::choose, settings::Settings, storage::CookieContext};
use crate::cookie::model::{
    cookie::Cookie, data::Flags, origin::domain_match, path::path_match, visit::Visit,
};

/// Why a request does not carry a cookie of its site. If several reasons apply, it is the first in
/// the order of this list.
///
/// From [`CookieJar::explain`].
///
/// ```
/// use http::Method;
/// use tower_outbound::cookie::{CookieContext, CookieJar, Withheld};
///
/// let jar = CookieJar::new();
/// jar.set(&"https://example.com/".parse()?, "id=42; Path=/shop")?;
/// let uri = "https://example.com/".parse()?;
/// let (cookie, why) = &jar.explain(&CookieContext::new(&uri, &Method::GET))[0];
/// assert_eq!((&*cookie.name(), *why), ("id", Some(Withheld::Path)));
/// assert_eq!(Withheld::Path.to_string(), "it belongs to another path");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Withheld {
    /// The cookie belongs to another host.
    Host,
    /// The cookie belongs to another path.
    Path,
    /// The cookie is `Secure`, but the [origin is not](crate::cookie#what-may-be-stored-and-sent).
    Secure,
    /// The cookie's `SameSite` forbids it, since the request is made on behalf of another site: see
    /// [`SiteForCookies`](crate::cookie::SiteForCookies).
    SameSite,
    /// The cookie has expired, and no look-up has removed it yet.
    Expired,
    /// The jar's [`CookiePolicy`](crate::cookie::CookiePolicy) withholds the cookie.
    Policy,
    /// The header has no room for the cookie: see
    /// [`CookieLimits::header_bytes`](crate::cookie::CookieLimits::header_bytes) and
    /// [`header_cookies`](crate::cookie::CookieLimits::header_cookies).
    Limit,
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "it belongs to another host",
            Self::Path => "it belongs to another path",
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
    /// Lists every cookie of the request's site, with the reason why the request does not carry it.
    /// The reason is `None` if the request carries the cookie.
    ///
    /// The order is that of a header. Nothing changes: no cookie counts as used, and expired ones
    /// stay. Empty for a URI without a host.
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
    /// let (path, secure) = (Some(Withheld::Path), Some(Withheld::Secure));
    /// assert_eq!(names, [("cart".into(), path), ("id".into(), secure)]);
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
                // Called under no lock, as for a header.
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

/// The rule of RFC 6265bis section 5.8.3 that keeps a cookie of the site from a request.
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
