//! The `cookie_store` crate's cookies and store: as a layer's storage behind the rules of this one,
//! and converted.

use std::{
    ops::DerefMut,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

use cookie_store::CookieStore;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::{
    format::cookie_store::{domain_of, from_theirs, to_theirs},
    header::choose,
    jar::CookieJar,
    jar::bucket::Visit,
    jar::limits::CookieLimits,
    jar::response::ResponseCookies,
    jar::storage::{CookieContext, CookieStorage},
    model::cookie::{Cookie, Door, InvalidCookie, to_millis},
    model::data::Data,
    model::origin::{Origin, domain_match, path_match},
    model::rules::{self, Admitted, Rejection},
    model::suffix::PublicSuffixes,
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

/// The store keeps no settings of its own, so the defaults hold.
fn visit<'a>(context: &CookieContext<'_>, origin: &'a Origin<'a>) -> Visit<'a> {
    context.visit(origin, &PublicSuffixes::Embedded, to_millis(SystemTime::now()))
}

fn header(store: &CookieStore, context: &CookieContext<'_>) -> Option<HeaderValue> {
    let origin = Origin::of(context.uri())?;
    let (visit, limits) = (visit(context, &origin), CookieLimits::default());
    let site = visit.suffixes.site(&origin.host);
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
    let origin = Origin::of(context.uri());
    let visit = origin.as_ref().map(|origin| visit(context, origin));
    let per_response = CookieLimits::default().per_response;
    ResponseCookies::of(visit.as_ref(), headers, per_response, |visit, line| {
        let new = rules::admit(visit.origin, line, visit.suffixes, visit.reach, visit.now)?;
        set(&mut lock(), visit, &new)
    })
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
    let (limits, key) = (CookieLimits::default(), visit.key());
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

/// Keeps all that a `cookie_store` cookie knows. Its creation counts as now.
impl TryFrom<&cookie_store::Cookie<'_>> for Cookie {
    type Error = InvalidCookie;

    fn try_from(theirs: &cookie_store::Cookie<'_>) -> Result<Self, InvalidCookie> {
        from_theirs(theirs, Door::Store)
    }
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
        to_theirs(cookie)
    }
}

/// Every live cookie that the rules allow; the others are left out.
impl From<&CookieStore> for CookieJar {
    fn from(store: &CookieStore) -> Self {
        let jar = Self::new();
        let cookies: Vec<Cookie> =
            store.iter_unexpired().filter_map(|cookie| Cookie::try_from(cookie).ok()).collect();
        jar.extend(&jar.judge(cookies));
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
