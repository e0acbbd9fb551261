//! The `cookie_store` crate's cookies and store: as a layer's storage behind the rules of this one,
//! and converted.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use cookie_store::{CookieDomain, CookieExpiration, CookieStore, RawCookie};
use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use time::OffsetDateTime;
use url::Url;

use super::{
    jar::CookieJar,
    jar::context::CookieContext,
    jar::limits::CookieLimits,
    jar::line::choose,
    jar::response::ResponseCookies,
    jar::storage::CookieStorage,
    model::cookie::{Cookie, InvalidCookie, check_pair, to_millis, to_time},
    model::data::{Data, Flags, Millis, NEVER, SameSite, Times},
    model::origin::{Origin, domain_match, stands_alone},
    model::path::path_match,
    model::rules::{self, Admitted, Rejection},
    model::set_cookie::is_path,
    model::suffix::PublicSuffixes,
    model::visit::Visit,
};

/// A `cookie_store` as the layer's storage, behind the rules of this crate: what they refuse is not
/// stored, and what is in the store all the same is not sent where they forbid it. The default
/// [`CookieLimits`] hold; since the store knows no times of creation or use, a full site takes no
/// new cookie rather than giving up an old one, and cookies of one path length are sent by domain
/// and name. Each look-up goes through the whole store: for large ones take a [`CookieJar`].
impl CookieStorage for Mutex<CookieStore> {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        header(&lock(self), context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        store_response(|| lock(self), context, headers)
    }
}

/// As for a `Mutex`; look-ups share the lock.
impl CookieStorage for RwLock<CookieStore> {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        header(&self.read().unwrap_or_else(PoisonError::into_inner), context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        store_response(|| self.write().unwrap_or_else(PoisonError::into_inner), context, headers)
    }
}

fn lock(store: &Mutex<CookieStore>) -> MutexGuard<'_, CookieStore> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now() -> Millis {
    to_millis(SystemTime::now())
}

fn visit<'a>(context: &CookieContext<'_>, origin: &'a Origin<'a>) -> Visit<'a> {
    let suffixes = &PublicSuffixes::Embedded;
    Visit::new(origin, suffixes, context.site(), context.method(), now())
}

fn header(store: &CookieStore, context: &CookieContext<'_>) -> Option<HeaderValue> {
    let origin = Origin::of(context.uri())?;
    let (visit, limits) = (visit(context, &origin), CookieLimits::default());
    let site = visit.site;
    let mut cookies: Vec<Cookie> = store
        .iter_unexpired()
        .filter(|cookie| domain_of(cookie).is_some_and(|domain| domain_match(&origin.host, domain)))
        .filter_map(|cookie| Cookie::try_from(cookie).ok())
        .filter(|cookie| {
            let Data { flags, .. } = cookie.data;
            (cookie.domain() == origin.host || !flags.host_only && !site.is_suffix)
                && visit.suffixes.site(cookie.domain()).key == site.key
                && (!flags.secure || origin.secure)
                && path_match(origin.path.as_bytes(), cookie.data.path_bytes())
                && visit.reach.sends(flags.same_site)
        })
        .collect();
    // The map they come from has another order each time.
    cookies.sort_by(|a, b| (a.domain(), a.data.name()).cmp(&(b.domain(), b.data.name())));
    for (order, cookie) in (0..).zip(&mut cookies) {
        (cookie.order, cookie.data.created, cookie.times.updated) = (order, 0, 0);
    }
    choose(
        &mut cookies,
        limits.header_cookies,
        limits.header_bytes.saturating_sub(context.reserved()),
    )
}

fn store_response<G>(
    lock: impl Fn() -> G,
    context: &CookieContext<'_>,
    headers: &HeaderMap,
) -> ResponseCookies
where
    G: DerefMut<Target = CookieStore>,
{
    let mut cookies = ResponseCookies::default();
    let origin = Origin::of(context.uri());
    let visit = origin.as_ref().map(|origin| visit(context, origin));
    for line in headers.get_all(SET_COOKIE) {
        let line = line.as_bytes();
        let outcome = match &visit {
            None => Err(Rejection::NoHost),
            Some(_) if cookies.accepted().len() >= CookieLimits::default().per_response => {
                Err(Rejection::TooMany)
            }
            Some(visit) => rules::admit(visit, line).and_then(|new| set(&mut lock(), visit, &new)),
        };
        match outcome {
            Ok(stored) => cookies.accept(stored),
            Err(reason) => cookies.reject(line, reason),
        }
    }
    cookies
}

fn set(
    store: &mut CookieStore,
    visit: &Visit<'_>,
    new: &Admitted<'_>,
) -> Result<Option<Cookie>, Rejection> {
    if !visit.origin.secure && store.iter_unexpired().any(|old| shields(old, new)) {
        return Err(Rejection::ShadowsSecure);
    }
    let cookie = Cookie::admitted(new, visit.now);
    let name = str::from_utf8(new.name).map_err(|_| Rejection::Unstorable)?;
    if new.expires <= visit.now {
        store.remove(&new.domain, &new.path, name);
        return Ok(None);
    }
    let theirs = cookie_store::Cookie::try_from(&cookie).map_err(|_| Rejection::Unstorable)?;
    if !store.contains(&new.domain, &new.path, name) {
        make_room(store, visit)?;
    }
    let url = Url::parse(&format!("https://{}/", new.domain)).map_err(|_| Rejection::Unstorable)?;
    store.insert(theirs, &url).map_err(|_| Rejection::Unstorable)?;
    Ok(Some(cookie))
}

/// Takes out what has expired, and refuses where that leaves no room.
fn make_room(store: &mut CookieStore, visit: &Visit<'_>) -> Result<(), Rejection> {
    let (limits, key) = (CookieLimits::default(), visit.site.key);
    let (mut all, mut of_site) = (0, 0);
    let mut dead = Vec::new();
    for cookie in store.iter_any() {
        let domain = domain_of(cookie).unwrap_or_default();
        if cookie.is_expired() {
            dead.push((domain.to_owned(), String::from(&cookie.path), cookie.name().to_owned()));
        } else {
            all += 1;
            of_site += usize::from(domain_match(domain, key));
        }
    }
    for (domain, path, name) in dead {
        store.remove(&domain, &path, &name);
    }
    if of_site >= limits.per_domain || all >= limits.total {
        Err(Rejection::NoRoom)
    } else {
        Ok(())
    }
}

/// Leave secure cookies alone, as in a jar.
fn shields(old: &cookie_store::Cookie<'_>, new: &Admitted<'_>) -> bool {
    let domain = domain_of(old).unwrap_or_default();
    old.secure() == Some(true)
        && new.passes_for(old.name().as_bytes())
        && (domain_match(&new.domain, domain) || domain_match(domain, &new.domain))
        && path_match(new.path.as_bytes(), String::from(&old.path).as_bytes())
}

fn domain_of<'a>(cookie: &'a cookie_store::Cookie<'_>) -> Option<&'a str> {
    match &cookie.domain {
        CookieDomain::HostOnly(domain) | CookieDomain::Suffix(domain) => Some(domain),
        CookieDomain::NotPresent | CookieDomain::Empty => None,
    }
}

/// Keeps all that a `cookie_store` cookie knows. Its creation counts as now.
impl TryFrom<&cookie_store::Cookie<'_>> for Cookie {
    type Error = InvalidCookie;

    fn try_from(theirs: &cookie_store::Cookie<'_>) -> Result<Self, InvalidCookie> {
        let cookie = unjudged(theirs)?;
        let data = &cookie.data;
        rules::prefixes(data.name(), data.value(), data.flags, data.path() == "/")
            .map_err(InvalidCookie::Rule)?;
        Ok(cookie)
    }
}

/// What a jar could hold, whether its rules allow it or not.
pub(super) fn unjudged(theirs: &cookie_store::Cookie<'_>) -> Result<Cookie, InvalidCookie> {
    let raw: &RawCookie<'_> = theirs.deref();
    let (name, value) = (raw.name().as_bytes(), raw.value().as_bytes());
    check_pair(name, value)?;
    let domain =
        domain_of(theirs).and_then(crate::authority::canonical).ok_or(InvalidCookie::Domain)?;
    let path = String::from(&theirs.path);
    if !is_path(&path) {
        return Err(InvalidCookie::Path);
    }
    let flags = Flags {
        host_only: matches!(theirs.domain, CookieDomain::HostOnly(_)) || stands_alone(&domain),
        secure: raw.secure().unwrap_or(false),
        http_only: raw.http_only().unwrap_or(false),
        partitioned: raw.partitioned().unwrap_or(false),
        same_site: raw.same_site().map(|same_site| {
            if same_site.is_strict() {
                SameSite::Strict
            } else if same_site.is_lax() {
                SameSite::Lax
            } else {
                SameSite::None
            }
        }),
    };
    let expires = match &theirs.expires {
        CookieExpiration::SessionEnd => NEVER,
        CookieExpiration::AtUtc(at) => {
            let millis = at.unix_timestamp_nanos() / 1_000_000;
            Millis::try_from(millis.max(0)).unwrap_or(NEVER).min(NEVER - 1)
        }
    };
    let now = now();
    Ok(Cookie {
        data: Data::new(name, value, &domain, &path, flags, now),
        times: Times { expires, updated: now, sent: 0 },
        order: 0,
    })
}

/// Keeps all that a `cookie_store` cookie can hold: everything but the times of creation and use.
///
/// # Errors
///
/// [`InvalidCookie`] where it cannot hold the cookie: it has no name, or one or a value that is not
/// UTF-8.
impl TryFrom<&Cookie> for cookie_store::Cookie<'static> {
    type Error = InvalidCookie;

    fn try_from(cookie: &Cookie) -> Result<Self, InvalidCookie> {
        let (data, flags) = (&cookie.data, cookie.data.flags);
        let name = str::from_utf8(data.name())
            .ok()
            .filter(|name| !name.is_empty())
            .ok_or(InvalidCookie::Name)?;
        let value = str::from_utf8(data.value()).map_err(|_| InvalidCookie::Value)?;
        // Its own setter wants a type of yet another crate.
        let same_site = match flags.same_site {
            Some(same_site) => format!("; SameSite={}", same_site.name()),
            None => String::new(),
        };
        let mut raw = RawCookie::parse(format!("{name}={value}{same_site}"))
            .map_err(|_| InvalidCookie::Value)?;
        if (raw.name(), raw.value()) != (name, value) {
            return Err(InvalidCookie::Value);
        }
        raw.set_path(data.path().to_owned());
        if !flags.host_only {
            raw.set_domain(data.domain().to_owned());
        }
        for (set, put) in [
            (flags.secure, RawCookie::set_secure as fn(&mut RawCookie<'static>, bool)),
            (flags.http_only, RawCookie::set_http_only),
            (flags.partitioned, RawCookie::set_partitioned),
        ] {
            if set {
                put(&mut raw, true);
            }
        }
        let expires = cookie.expires().map(to_offset);
        raw.set_expires(expires);
        let url = Url::parse(&format!("https://{}/", data.domain()))
            .map_err(|_| InvalidCookie::Domain)?;
        let mut theirs =
            Self::try_from_raw_cookie(&raw, &url).map_err(|_| InvalidCookie::Domain)?;
        let domain = data.domain().to_owned();
        theirs.domain = if flags.host_only {
            CookieDomain::HostOnly(domain)
        } else {
            CookieDomain::Suffix(domain)
        };
        theirs.expires = expires.map_or(CookieExpiration::SessionEnd, CookieExpiration::AtUtc);
        Ok(theirs)
    }
}

/// No later than its calendar reaches.
fn to_offset(at: SystemTime) -> OffsetDateTime {
    let last = Duration::from_secs(253_402_300_799);
    let since = at.duration_since(to_time(0)).unwrap_or_default().min(last);
    OffsetDateTime::UNIX_EPOCH + time::Duration::try_from(since).unwrap_or_default()
}

/// Every live cookie that the rules allow; the others are left out.
impl From<&CookieStore> for CookieJar {
    fn from(store: &CookieStore) -> Self {
        let jar = Self::new();
        let cookies: Vec<Cookie> =
            store.iter_unexpired().filter_map(|cookie| Cookie::try_from(cookie).ok()).collect();
        jar.extend(&jar.judge(cookies).0);
        jar
    }
}

/// As from a reference.
impl From<CookieStore> for CookieJar {
    fn from(store: CookieStore) -> Self {
        Self::from(&store)
    }
}

/// Every live cookie that the store can hold; the others are left out. It has no place for both a
/// host-only cookie and one for the whole domain of the same domain, path and name: of two, the
/// newer stays.
impl From<&CookieJar> for CookieStore {
    fn from(jar: &CookieJar) -> Self {
        let cookies = jar.iter().filter_map(|cookie| cookie_store::Cookie::try_from(&cookie).ok());
        match Self::from_cookies(cookies.map(Ok::<_, std::convert::Infallible>), false) {
            Ok(store) => store,
            Err(never) => match never {},
        }
    }
}

/// As from a reference.
impl From<CookieJar> for CookieStore {
    fn from(jar: CookieJar) -> Self {
        Self::from(&jar)
    }
}
