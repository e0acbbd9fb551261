//! A store of the `cookie_store` crate as the layer's storage, checked by the rules of this crate,
//! and the conversions of its cookies and stores.

use std::{
    convert::Infallible,
    ops::DerefMut,
    sync::{Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

use cookie_store::CookieStore;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::{
    event,
    format::cookie_store::{domain_of, from_theirs, to_theirs},
    jar::CookieJar,
    jar::limits::CookieLimits,
    jar::line::choose,
    jar::response::ResponseCookies,
    jar::storage::{CookieContext, CookieStorage},
    model::cookie::{Cookie, Door, InvalidCookie, to_millis},
    model::data::Data,
    model::origin::{Origin, domain_match},
    model::path::path_match,
    model::rules::{self, Admitted, Rejection},
    model::shield::passes_for,
    model::suffix::PublicSuffixes,
    model::visit::Visit,
};

/// Makes a store of the `cookie_store` crate the layer's storage, checked by the rules of this
/// crate.
///
/// A cookie that the rules reject is not stored. If the store holds such a cookie anyway, it is not
/// sent. The default [`CookieLimits`] apply.
///
/// The store knows no times of creation or use. So a full site rejects new cookies and keeps the
/// old ones, and cookies with paths of equal length are sent in the order of domain and name. Each
/// look-up reads the whole store. For a large store use a [`CookieJar`].
///
/// ```
/// use std::sync::Mutex;
/// use cookie_store::CookieStore;
/// use tower_outbound::CookieLayer;
///
/// let layer = CookieLayer::with_storage(Mutex::new(CookieStore::default()));
/// # let _ = layer;
/// ```
impl CookieStorage for Mutex<CookieStore> {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        header(&lock(self), context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        store_response(|| lock(self), context, headers)
    }
}

/// As the implementation for `Mutex`. Look-ups share the lock.
impl CookieStorage for RwLock<CookieStore> {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        header(&self.read().unwrap_or_else(PoisonError::into_inner), context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        store_response(|| self.write().unwrap_or_else(PoisonError::into_inner), context, headers)
    }
}

fn lock(store: &Mutex<CookieStore>) -> MutexGuard<'_, CookieStore> {
    // Poison is ignored: a panic elsewhere must not stop the client's cookies.
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store has no settings, so the defaults apply.
fn visit<'a>(context: &CookieContext<'_>, origin: &'a Origin<'a>) -> Visit<'a> {
    context.visit(origin, &PublicSuffixes::Embedded, to_millis(SystemTime::now()))
}

fn header(store: &CookieStore, context: &CookieContext<'_>) -> Option<HeaderValue> {
    let origin = Origin::of(context.uri())?;
    // The store admitted its cookies by its own, laxer rules, so all of our rules are checked
    // again.
    let (visit, limits) = (visit(context, &origin), CookieLimits::default());
    let site = visit.site();
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
    // The store's map has a different order each time, and its cookies have no age to sort by.
    cookies.sort_by(|a, b| (a.domain(), a.data.name()).cmp(&(b.domain(), b.data.name())));
    for (order, cookie) in (0..).zip(&mut cookies) {
        (cookie.order, cookie.data.created, cookie.times.updated) = (order, 0, 0);
    }
    let match_all = cookies.len();
    let room = limits.header_bytes.saturating_sub(context.reserved());
    let header = choose(&mut cookies, limits.header_cookies, room);
    event::over_limit(&origin.host, match_all - cookies.len());
    header
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
        rules::admit(visit, line).and_then(|new| set(&mut lock(), visit, &new))
    })
}

fn set(
    store: &mut CookieStore,
    visit: &Visit<'_>,
    new: &Admitted<'_>,
) -> Result<Option<Cookie>, Rejection> {
    // RFC 6265bis section 5.7, step 12: leave secure cookies alone.
    if !visit.origin.secure && store.iter_unexpired().any(|old| shields(old, new)) {
        return Err(Rejection::ShadowsSecure);
    }
    let cookie = Cookie::admitted(new, visit.now);
    let name = str::from_utf8(new.name).map_err(|_| Rejection::Unstorable)?;
    if new.expires <= visit.now {
        store.remove(&new.domain, &new.path, name);
        return Ok(None);
    }
    // Checked before the room: this reason lasts, but a lack of room may pass.
    let theirs = to_theirs(&cookie).map_err(|_| Rejection::Unstorable)?;
    if !store.contains(&new.domain, &new.path, name) {
        make_room(store, visit)?;
    }
    // Any URL of the domain will do: the store only checks that the cookie's domain covers it.
    let url = Url::parse(&format!("https://{}/", new.domain)).map_err(|_| Rejection::Unstorable)?;
    store.insert(theirs, &url).map_err(|_| Rejection::Unstorable)?;
    Ok(Some(cookie))
}

/// Removes expired cookies. An error if the site or the store is still full.
fn make_room(store: &mut CookieStore, visit: &Visit<'_>) -> Result<(), Rejection> {
    let (limits, key) = (CookieLimits::default(), visit.site().key);
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
    // The store itself keeps expired cookies. Without this it would only grow.
    for (domain, path, name) in dead {
        store.remove(&domain, &path, &name);
    }
    if of_site >= limits.per_domain || all >= limits.total {
        Err(Rejection::NoRoom)
    } else {
        Ok(())
    }
}

/// Whether `old` keeps a non-secure origin from setting `new`, as in a jar.
fn shields(old: &cookie_store::Cookie<'_>, new: &Admitted<'_>) -> bool {
    let domain = domain_of(old).unwrap_or_default();
    old.secure() == Some(true)
        && passes_for(new.name, new.value, old.name().as_bytes())
        && (domain_match(&new.domain, domain) || domain_match(domain, &new.domain))
        && path_match(new.path.as_bytes(), String::from(&old.path).as_bytes())
}

/// Converts a `cookie_store` cookie without loss. Its creation time is now.
///
/// # Errors
///
/// [`InvalidCookie`] if a jar cannot hold the cookie, or if its name has a prefix such as `__Host-`
/// whose conditions it does not meet.
impl TryFrom<&cookie_store::Cookie<'_>> for Cookie {
    type Error = InvalidCookie;

    fn try_from(theirs: &cookie_store::Cookie<'_>) -> Result<Self, InvalidCookie> {
        from_theirs(theirs, Door::Store)
    }
}

/// Converts a cookie to one of `cookie_store`, which keeps everything except the times of creation
/// and use.
///
/// # Errors
///
/// [`InvalidCookie`] if that crate cannot hold the cookie: the name is empty, name or value are not
/// UTF-8, or that crate would read name, value or domain as something else.
impl TryFrom<&Cookie> for cookie_store::Cookie<'static> {
    type Error = InvalidCookie;

    fn try_from(cookie: &Cookie) -> Result<Self, InvalidCookie> {
        to_theirs(cookie)
    }
}

impl CookieJar {
    /// Makes a jar of the store's live cookies, and returns how many of them were left out.
    ///
    /// A cookie is left out if the rules reject it, or if the default [`CookieLimits`] have no room
    /// for it.
    ///
    /// ```
    /// use cookie_store::CookieStore;
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let mut store = CookieStore::default();
    /// store.parse("id=42", &"https://example.com/".parse()?)?;
    /// store.parse("__Host-id=42", &"https://example.com/".parse()?)?; // it is not Secure
    ///
    /// let (jar, left_out) = CookieJar::from_cookie_store(&store);
    /// assert_eq!((jar.len(), left_out), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn from_cookie_store(store: &CookieStore) -> (Self, usize) {
        let jar = Self::new();
        let live: Vec<_> = store.iter_unexpired().collect();
        let read = live.iter().filter_map(|theirs| from_theirs(theirs, Door::File).ok()).collect();
        jar.extend(&jar.judge(read));
        // Counted by the result, so that cookies which a limit evicted count too.
        let left_out = live.len().saturating_sub(jar.len());
        (jar, left_out)
    }

    /// Makes a store of the jar's cookies, and returns how many of them were left out.
    ///
    /// `cookie_store` cannot hold a cookie without a name, or one whose name, value or domain it
    /// would read as something else, such as text that is not UTF-8. It cannot hold a host-only
    /// cookie together with a domain cookie of the same domain, path and name: the newer one is
    /// kept. It does not keep the times of creation and use.
    ///
    /// ```
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let jar = CookieJar::new();
    /// jar.set(&"https://example.com/".parse()?, "id=42")?;
    /// jar.set(&"https://example.com/".parse()?, "nameless")?;
    ///
    /// let (store, left_out) = jar.to_cookie_store();
    /// assert_eq!((store.iter_any().count(), left_out), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_cookie_store(&self) -> (CookieStore, usize) {
        let ours: Vec<Cookie> = self.iter().collect();
        // In the order of creation, so that the newer of two cookies for one place in the store is
        // kept.
        let theirs = ours.iter().filter_map(|cookie| to_theirs(cookie).ok());
        let store = match CookieStore::from_cookies(theirs.map(Ok::<_, Infallible>), false) {
            Ok(store) => store,
            Err(never) => match never {},
        };
        let left_out = ours.len().saturating_sub(store.iter_any().count());
        (store, left_out)
    }
}

/// Like [`CookieJar::from_cookie_store`], without the number of cookies that were left out.
impl From<&CookieStore> for CookieJar {
    fn from(store: &CookieStore) -> Self {
        Self::from_cookie_store(store).0
    }
}

/// Like [`CookieJar::from_cookie_store`], without the number of cookies that were left out.
impl From<CookieStore> for CookieJar {
    fn from(store: CookieStore) -> Self {
        Self::from(&store)
    }
}

/// Like [`CookieJar::to_cookie_store`], without the number of cookies that were left out.
impl From<&CookieJar> for CookieStore {
    fn from(jar: &CookieJar) -> Self {
        jar.to_cookie_store().0
    }
}

/// Like [`CookieJar::to_cookie_store`], without the number of cookies that were left out.
impl From<CookieJar> for CookieStore {
    fn from(jar: CookieJar) -> Self {
        Self::from(&jar)
    }
}
