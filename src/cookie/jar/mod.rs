//! The jar: stored cookies behind locks.

mod bucket;
pub(in crate::cookie) mod builder;
pub(in crate::cookie) mod change;
pub(in crate::cookie) mod changes;
mod conflict;
mod eviction;
mod exchange;
pub(in crate::cookie) mod explain;
mod inspect;
pub(in crate::cookie) mod limits;
pub(in crate::cookie) mod line;
pub(in crate::cookie) mod log;
pub(in crate::cookie) mod policy;
mod removal;
pub(in crate::cookie) mod replay;
pub(in crate::cookie) mod response;
#[cfg(feature = "session")]
mod session;
mod settings;
mod shard;
pub(in crate::cookie) mod shares;
pub(in crate::cookie) mod slot;
pub(in crate::cookie) mod storage;
mod store;

use std::{collections::BTreeMap, fmt, sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri, header::SET_COOKIE};

pub use self::conflict::CookieConflict;
use self::{
    response::ResponseCookies,
    settings::Settings,
    slot::{Incoming, Keep, Slot, StoreAction, Stored},
    storage::{CookieContext, CookieStorage},
    store::Store,
};
use crate::cookie::{
    model::cookie::{Cookie, to_millis},
    model::data::{Millis, Times},
    model::origin::{Origin, spelt_domain},
    model::rules::{self, Rejection},
    model::same_site::Reach,
    model::visit::Visit,
};

/// A jar of cookies, which stores and matches them as a browser does (RFC 6265bis).
///
/// Clones share the cookies. A call holds a lock only while it runs, never across an await. A panic
/// elsewhere does not damage the jar. `Debug` shows the number of cookies, and no cookie.
///
/// Default: empty, with the embedded public suffix list and the default
/// [limits](crate::cookie::CookieLimits).
///
/// ```
/// use tower_outbound::cookie::CookieJar;
///
/// let jar = CookieJar::new();
/// jar.set(&"https://example.com/login".parse()?, "id=42; Path=/; Secure; HttpOnly")?;
///
/// let header = jar.header(&"https://example.com/account".parse()?);
/// assert_eq!(header.expect("the path and host match"), "id=42");
/// assert_eq!(jar.header(&"http://example.com/account".parse()?), None);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
pub struct CookieJar {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    store: Store,
    settings: Settings,
}

impl CookieJar {
    /// Creates an empty jar with the default settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether someone other than the caller has this jar. Only a hint: it may change at any time.
    pub(in crate::cookie) fn is_held(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Stores one `Set-Cookie` value, as if a response to `GET uri` had carried it.
    ///
    /// Its `Expires` is compared with the jar's clock, since there is no `Date`.
    ///
    /// # Errors
    ///
    /// [`Rejection`] says which rule the cookie breaks. The jar is then unchanged.
    pub fn set(&self, uri: &Uri, set_cookie: impl AsRef<[u8]>) -> Result<StoreAction, Rejection> {
        let context = CookieContext::new(uri, &Method::GET);
        let origin = self.origin(uri).ok_or(Rejection::NoHost)?;
        let visit = self.visit(&context, &origin);
        self.store_line(&context, &visit, set_cookie.as_ref(), |_| ()).map(|(action, _)| action)
    }

    /// Stores every `Set-Cookie` of a response to `GET uri`, and returns what became of each.
    ///
    /// `Expires` counts from the response's own `Date` if there is one, as in Chrome and Firefox.
    /// So a wrong clock on either side changes no lifetime.
    pub fn store_response(&self, uri: &Uri, headers: &HeaderMap) -> ResponseCookies {
        self.store_for(&CookieContext::new(uri, &Method::GET), headers)
    }

    fn store_for(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        // Most responses set no cookie, so neither the URI nor the clock is read.
        if !headers.contains_key(SET_COOKIE) {
            return ResponseCookies::default();
        }
        let origin = self.origin(context.uri());
        let visit = origin.as_ref().map(|origin| self.visit(context, origin));
        let per_response = self.shared.settings.limits.per_response;
        ResponseCookies::of(visit.as_ref(), headers, per_response, |visit, line| {
            self.store_line(context, visit, line, Slot::cookie).map(|(_, stored)| stored)
        })
    }

    /// `tell` returns what the caller wants to know of the stored cookie.
    fn store_line<T>(
        &self,
        context: &CookieContext<'_>,
        visit: &Visit<'_>,
        line: &[u8],
        tell: impl Fn(&Slot) -> T,
    ) -> Stored<T> {
        let Shared { store, settings: Settings { limits, policy, .. } } = &*self.shared;
        // Many servers repeat a line with every response. A repeated line is not judged again.
        let fingerprint = store.fingerprint(line);
        // The short way asks neither the policy nor `SameSite`: their answers depend on the
        // request.
        if policy.is_none()
            && visit.reach == Reach::SameSite
            && let Some(cookie) = store.set_again(visit, fingerprint, line, &tell)
        {
            return Ok((StoreAction::Unchanged, Some(cookie)));
        }
        let new = rules::admit(visit, line)?;
        // A policy may not refuse a deletion: that would keep people logged in.
        if let Some(policy) = policy
            && new.expires > visit.now
            && !policy.accept(context, &Cookie::admitted(&new, visit.now))
        {
            return Err(Rejection::Policy);
        }
        store.store(&Incoming::from_response(visit, &new, fingerprint), limits, tell)
    }

    #[inline]
    fn origin<'a>(&self, uri: &'a Uri) -> Option<Origin<'a>> {
        Origin::trusting(uri, &self.shared.settings.secure_hosts)
    }

    /// What the rules need to know of a request at this moment.
    #[inline]
    fn visit<'a>(&'a self, context: &CookieContext<'_>, origin: &'a Origin<'a>) -> Visit<'a> {
        context.visit(origin, &self.shared.settings.suffixes, self.now())
    }

    /// Returns the `Cookie` header for `GET uri`. `None` if no cookie matches.
    ///
    /// The value is marked [sensitive](HeaderValue::set_sensitive), so its `Debug` shows nothing.
    #[must_use]
    pub fn header(&self, uri: &Uri) -> Option<HeaderValue> {
        self.header_for(&CookieContext::new(uri, &Method::GET))
    }

    fn header_for(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        let origin = self.origin(context.uri())?;
        let visit = self.visit(context, &origin);
        let Settings { limits, policy, .. } = &self.shared.settings;
        // On this frame: boxing the closure would cost an allocation per request.
        let ask;
        let may_send: Option<&dyn Fn(&Cookie) -> bool> = match policy {
            Some(policy) => {
                ask = |cookie: &Cookie| policy.send(context, cookie);
                Some(&ask)
            }
            None => None,
        };
        self.shared.store.header(&visit, limits, context.reserved(), may_send)
    }

    /// Returns the cookies that match `GET uri`, in the order of the header. The limits of a header
    /// and the jar's policy are not applied.
    #[must_use]
    pub fn matching(&self, uri: &Uri) -> Vec<Cookie> {
        let Some(origin) = self.origin(uri) else {
            return Vec::new();
        };
        let context = CookieContext::new(uri, &Method::GET);
        self.shared.store.matching(&self.visit(&context, &origin))
    }

    /// Iterates over all live cookies in the order of creation. It is a snapshot: later changes do
    /// not show.
    pub fn iter(&self) -> impl Iterator<Item = Cookie> + use<> {
        self.snapshot().into_iter()
    }

    fn snapshot(&self) -> Vec<Cookie> {
        self.shared.store.snapshot(self.now())
    }

    /// Returns the cookie with that name, if exactly one has it. `None` if none has it.
    ///
    /// # Errors
    ///
    /// [`CookieConflict`] if several domains or paths have a cookie of that name. Use
    /// [`matching`](Self::matching) or [`iter`](Self::iter) to tell them apart.
    ///
    /// requests: `jar[name]`, which raises `CookieConflictError`.
    pub fn get(&self, name: &str) -> Result<Option<Cookie>, CookieConflict> {
        // By bytes: a name that is not UTF-8 is not equal to the text that `name` shows.
        let mut named = self.iter().filter(|cookie| cookie.data.name() == name.as_bytes());
        let first = named.next();
        match named.count() {
            0 => Ok(first),
            others => Err(CookieConflict { name: name.to_owned(), count: others + 1 }),
        }
    }

    /// Returns names and values. If two cookies have one name, the value of the newer one is
    /// returned.
    ///
    /// requests: `jar.get_dict()`.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        // In the order of creation, so that the newer one replaces the older one.
        self.iter()
            .map(|cookie| (cookie.name().into_owned(), cookie.value().into_owned()))
            .collect()
    }

    /// Inserts a cookie. It replaces the one with the same name, domain, host-only flag and path,
    /// and the older creation time is kept.
    ///
    /// A cookie for a public suffix becomes host-only. An expired cookie is not inserted, but
    /// removes the one that it would replace.
    ///
    /// If the server will replace the cookie, such as a session id at the next login, insert the
    /// form that the server sets. Usually it is the host-only one:
    ///
    /// ```
    /// use tower_outbound::cookie::{Cookie, CookieJar};
    ///
    /// let (jar, uri) = (CookieJar::new(), "https://example.com/".parse()?);
    /// jar.insert(Cookie::builder("sid", "old").domain("example.com").host_only(true).build()?);
    /// jar.set(&uri, "sid=new; Path=/; Secure")?; // the login's
    /// assert_eq!(jar.header(&uri).expect("it has one"), "sid=new");
    ///
    /// // The form for the whole domain is another cookie, and two are sent.
    /// jar.insert(Cookie::builder("sid", "old").domain("example.com").build()?);
    /// assert_eq!(jar.header(&uri).expect("it has two"), "sid=new; sid=old");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, cookie: Cookie) {
        self.put(&cookie, self.now(), Keep::Given);
    }

    /// Inserts the cookies of another jar. If both have a cookie with the same name, domain,
    /// host-only flag and path, the one that was set later is kept, with the older creation time.
    /// Other cookies of this jar stay.
    pub fn merge(&self, other: &Self) {
        // Merging with itself changes nothing, but would store every cookie again.
        if Arc::ptr_eq(&self.shared, &other.shared) {
            return;
        }
        // A snapshot, so that the locks of two jars are never held together: two threads that merge
        // in opposite directions would wait for each other.
        let now = self.now();
        for cookie in other.snapshot() {
            self.put(&cookie, now, Keep::Newer);
        }
    }

    fn put(&self, cookie: &Cookie, now: Millis, keep: Keep) {
        let Settings { suffixes, limits, .. } = &self.shared.settings;
        // A file may hold any date. Each jar applies the limit of 400 days itself.
        let times = Times { expires: rules::capped(cookie.times.expires, now), ..cookie.times };
        let cookie = Cookie { times, ..cookie.clone() };
        let site = suffixes.site(cookie.domain());
        let new = Incoming::from_caller(site, &cookie, keep, now);
        // A cookie that the jar has no room for is left out, like one that is evicted later.
        let _ = self.shared.store.store(&new, limits, |_| ());
    }

    /// Removes the cookie with that domain, path and name, and returns it. If both a host-only and
    /// a domain cookie match, the host-only one is removed.
    pub fn remove(&self, domain: &str, path: &str, name: &str) -> Option<Cookie> {
        // As people spell domains: with a leading dot, in capitals, an address without brackets.
        let domain = spelt_domain(domain)?;
        let site = self.shared.settings.suffixes.site(&domain);
        self.shared.store.remove(site, &domain, path, name.as_bytes(), self.now())
    }

    /// Removes all cookies of this jar. If the jar is kept in a
    /// [`CookieFile`](crate::cookie::CookieFile), the next save also removes them from the file.
    /// Cookies in the file that this jar has never read, or has evicted, stay.
    pub fn clear(&self) {
        self.shared.store.clear();
    }

    /// Removes the cookies of exactly that domain. Cookies of its subdomains stay. For a file see
    /// [`clear`](Self::clear).
    ///
    /// http.cookiejar: `clear(domain)`.
    pub fn clear_domain(&self, domain: &str) {
        if let Some(domain) = spelt_domain(domain) {
            let site = self.shared.settings.suffixes.site(&domain);
            self.shared.store.remove_domain(site, &domain);
        }
    }

    /// Removes all expired cookies, and returns their number. A look-up removes those of its own
    /// site.
    pub fn clear_expired(&self) -> usize {
        self.shared.store.remove_expired(self.now())
    }

    /// Removes the cookies without an expiry, as a browser does at its end, and returns their
    /// number. For a file see [`clear`](Self::clear): session cookies of other processes stay
    /// there.
    pub fn clear_session_cookies(&self) -> usize {
        self.shared.store.remove_session()
    }

    /// Returns the number of cookies. An expired cookie counts until a look-up or
    /// [`clear_expired`](Self::clear_expired) removes it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether the jar has no cookies.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns a number that grows with every change of the jar's cookies: one is stored, replaced,
    /// removed or evicted, or its expiry moves. Sending a cookie is not a change.
    ///
    /// Compare two numbers to see whether the jar has changed in between. The
    /// [log](crate::cookie::CookieJarBuilder::log_changes) says what changed.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.store.changes()
    }

    pub(in crate::cookie) fn now(&self) -> Millis {
        to_millis(self.time())
    }

    pub(in crate::cookie) fn time(&self) -> SystemTime {
        (self.shared.settings.clock)()
    }
}

impl CookieStorage for CookieJar {
    fn header(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        self.header_for(context)
    }

    fn store_response(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        self.store_for(context, headers)
    }

    fn inspect_response(
        &self,
        context: &CookieContext<'_>,
        headers: &HeaderMap,
    ) -> ResponseCookies {
        let Settings { limits, policy, .. } = &self.shared.settings;
        let origin = self.origin(context.uri());
        let visit = origin.as_ref().map(|origin| self.visit(context, origin));
        inspect::judge(visit.as_ref(), headers, limits, |cookie| {
            policy.as_ref().is_none_or(|policy| policy.accept(context, cookie))
        })
    }
}

// A panic under a lock leaves the store intact (see `Shard`), so code that catches the panic may
// keep using the jar. Without these the policy, a trait object, would forbid it.
impl std::panic::UnwindSafe for CookieJar {}
impl std::panic::RefUnwindSafe for CookieJar {}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("len", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
