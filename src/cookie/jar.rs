//! `CookieJar`, the shared handle: the one place with a lock and a clock.

use std::{
    collections::BTreeMap,
    error, fmt,
    io::{self, Read, Write},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue, Uri, header::SET_COOKIE};

use super::{
    cookie::{Cookie, Millis, to_millis},
    format::{self, Format, ReadError},
    limits::CookieLimits,
    origin::{Origin, canonical},
    response::ResponseCookies,
    rules::{self, Rejection},
    store::{Store, StoreAction},
    suffix::PublicSuffixes,
};

/// A jar of cookies, kept and matched as a browser does (RFC 6265bis).
///
/// Clones share the cookies. Every call locks for no longer than it takes, never across an await, and a panic
/// elsewhere does not spoil the jar. `Debug` shows how many cookies there are, none of them.
///
/// Default: empty, with the embedded public suffix list and the default [`CookieLimits`].
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
    store: RwLock<Store>,
    rules: Rules,
}

/// What a jar goes by; fixed once it is built.
#[derive(Clone)]
struct Rules {
    suffixes: Arc<PublicSuffixes>,
    limits: CookieLimits,
    clock: fn() -> SystemTime,
}

impl Default for Rules {
    fn default() -> Self {
        Self { suffixes: Arc::default(), limits: CookieLimits::default(), clock: SystemTime::now }
    }
}

impl CookieJar {
    /// An empty jar with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a jar with another suffix list, other limits or another clock.
    pub fn builder() -> CookieJarBuilder {
        CookieJarBuilder::default()
    }

    /// An empty jar that goes by the same rules.
    pub(super) fn sibling(&self) -> Self {
        self.shared.rules.clone().into_jar()
    }

    /// Stores one `Set-Cookie` value as if a response from `uri` had carried it.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] says which rule the cookie breaks; the jar is as it was.
    pub fn set(&self, uri: &Uri, set_cookie: impl AsRef<[u8]>) -> Result<StoreAction, Rejection> {
        let origin = Origin::of(uri).ok_or(Rejection::NoHost)?;
        self.store_line(&origin, set_cookie.as_ref(), self.now()).map(|(action, _)| action)
    }

    /// Stores every `Set-Cookie` of a response from `uri`, and says what became of each.
    pub fn store_response(&self, uri: &Uri, headers: &HeaderMap) -> ResponseCookies {
        let mut cookies = ResponseCookies::default();
        if !headers.contains_key(SET_COOKIE) {
            return cookies;
        }
        let (origin, now) = (Origin::of(uri), self.now());
        for line in headers.get_all(SET_COOKIE) {
            let line = line.as_bytes();
            let outcome = match &origin {
                None => Err(Rejection::NoHost),
                Some(_) if cookies.accepted().len() >= self.shared.rules.limits.per_response => Err(Rejection::TooMany),
                Some(origin) => self.store_line(origin, line, now),
            };
            match outcome {
                Ok((_, stored)) => cookies.accept(stored),
                Err(reason) => cookies.reject(line, reason),
            }
        }
        cookies
    }

    fn store_line(
        &self,
        origin: &Origin<'_>,
        line: &[u8],
        now: Millis,
    ) -> Result<(StoreAction, Option<Cookie>), Rejection> {
        let Rules { suffixes, limits, .. } = &self.shared.rules;
        let new = rules::admit(origin, line, suffixes, now)?;
        self.write().set(origin, suffixes.site(&origin.host), &new, now, limits)
    }

    /// The `Cookie` header for a request to `uri`; `None` where no cookie goes. It is marked
    /// [sensitive](HeaderValue::set_sensitive), so that its `Debug` shows nothing.
    #[must_use]
    pub fn header(&self, uri: &Uri) -> Option<HeaderValue> {
        self.header_beside(uri, 0)
    }

    /// As [`header`](Self::header), with `reserved` bytes of it taken by the caller's own pairs.
    pub(super) fn header_beside(&self, uri: &Uri, reserved: usize) -> Option<HeaderValue> {
        let (origin, now) = (Origin::of(uri)?, self.now());
        let Rules { suffixes, limits, .. } = &self.shared.rules;
        let site = suffixes.site(&origin.host);
        let (header, stale) = self.read().header(&origin, site, now, limits, reserved);
        if stale {
            self.write().remove_expired_of(site.key, now);
        }
        let mut header = HeaderValue::try_from(header?).ok()?;
        header.set_sensitive(true);
        Some(header)
    }

    /// The cookies that a request to `uri` would carry, in the order of the header; the limits of a header apart.
    #[must_use]
    pub fn matching(&self, uri: &Uri) -> Vec<Cookie> {
        let Some(origin) = Origin::of(uri) else {
            return Vec::new();
        };
        let now = self.now();
        let site = self.shared.rules.suffixes.site(&origin.host);
        let (cookies, stale) = self.read().matching(&origin, site, now);
        if stale {
            self.write().remove_expired_of(site.key, now);
        }
        cookies
    }

    /// Every cookie in the order of creation, as of now: later changes do not show.
    pub fn iter(&self) -> impl Iterator<Item = Cookie> + use<> {
        self.snapshot().into_iter()
    }

    fn snapshot(&self) -> Vec<Cookie> {
        let now = self.now();
        let (cookies, stale) = self.read().snapshot(now);
        if stale {
            self.write().remove_expired(now);
        }
        cookies
    }

    /// The one cookie of that name.
    ///
    /// # Errors
    ///
    /// [`CookieConflict`] where several domains or paths have a cookie of that name; [`matching`](Self::matching) and
    /// [`iter`](Self::iter) tell them apart.
    ///
    /// requests: `jar[name]`, which raises `CookieConflictError`.
    pub fn get(&self, name: &str) -> Result<Option<Cookie>, CookieConflict> {
        let mut named = self.iter().filter(|cookie| cookie.data.name() == name.as_bytes());
        let first = named.next();
        match named.count() {
            0 => Ok(first),
            others => Err(CookieConflict { name: name.to_owned(), count: others + 1 }),
        }
    }

    /// Names and values; of two cookies of one name the newer counts.
    ///
    /// requests: `jar.get_dict()`.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.iter().map(|cookie| (cookie.name().into_owned(), cookie.value().into_owned())).collect()
    }

    /// Puts a cookie in, in place of one with the same name, domain, host-only flag and path; the older creation time
    /// stays. A cookie for a public suffix becomes host-only; one that has expired only deletes.
    pub fn insert(&self, cookie: Cookie) {
        let now = self.now();
        self.insert_at(&cookie, now);
    }

    fn insert_at(&self, cookie: &Cookie, now: Millis) {
        let Rules { suffixes, limits, .. } = &self.shared.rules;
        let cookie = Cookie { expires: rules::capped(cookie.expires, now), ..cookie.clone() };
        self.write().put(suffixes.site(cookie.domain()), &cookie, now, limits);
    }

    /// Takes out the cookie of that domain, path and name; of two, the host-only one first.
    pub fn remove(&self, domain: &str, path: &str, name: &str) -> Option<Cookie> {
        let domain = canonical(domain.strip_prefix('.').unwrap_or(domain))?;
        let key = self.shared.rules.suffixes.site(&domain).key;
        self.write().remove(key, &domain, path, name.as_bytes())
    }

    /// Removes every cookie.
    pub fn clear(&self) {
        self.write().clear();
    }

    /// Removes the cookies of that very domain; those of its subdomains stay.
    ///
    /// http.cookiejar: `clear(domain)`.
    pub fn clear_domain(&self, domain: &str) {
        if let Some(domain) = canonical(domain.strip_prefix('.').unwrap_or(domain)) {
            self.write().remove_domain(&domain);
        }
    }

    /// Removes what has expired, and says how many. Look-ups do so for the site they meet; this does it for all.
    pub fn clear_expired(&self) -> usize {
        let now = self.now();
        self.write().remove_expired(now)
    }

    /// Removes the cookies without an expiry, as the end of a browser's session does, and says how many.
    pub fn clear_session_cookies(&self) -> usize {
        self.write().remove_session()
    }

    /// How many cookies there are. Ones that have expired count until a look-up or
    /// [`clear_expired`](Self::clear_expired) meets them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads a file's cookies into this jar, under its rules, and says how many it took: those that have expired or
    /// belong to a public suffix are left out.
    ///
    /// # Errors
    ///
    /// [`ReadError`] names the line; the jar is then as it was.
    pub fn read_from(&self, mut source: impl Read, format: Format) -> Result<usize, ReadError> {
        let mut text = Vec::new();
        source.read_to_end(&mut text)?;
        let cookies = self.read_allowed(&text, format)?;
        self.extend(&cookies);
        Ok(cookies.len())
    }

    /// The cookies of a file that are alive and that the rules allow, as they stand there: no limit and no cap applied.
    pub(super) fn read_allowed(&self, text: &[u8], format: Format) -> Result<Vec<Cookie>, ReadError> {
        let now = self.now();
        let mut cookies = format::read(format, text, now)?;
        cookies.retain(|cookie| cookie.expires > now && self.may_keep(cookie));
        Ok(cookies)
    }

    pub(super) fn extend(&self, cookies: &[Cookie]) {
        let now = self.now();
        for cookie in cookies {
            self.insert_at(cookie, now);
        }
    }

    /// Whether a cookie from a file is one that its domain could have set.
    fn may_keep(&self, cookie: &Cookie) -> bool {
        let data = &cookie.data;
        let site = self.shared.rules.suffixes.site(data.domain());
        let verdict = if site.is_suffix && !data.flags.host_only {
            Err(Rejection::PublicSuffix)
        } else {
            rules::prefixes(data.name(), data.value(), data.flags, data.path() == "/")
        };
        match verdict {
            Ok(()) => true,
            Err(reason) => {
                super::event::rejected(&cookie.name(), reason);
                false
            }
        }
    }

    /// Writes every live cookie, in the order of creation.
    ///
    /// # Errors
    ///
    /// Those of `sink`.
    pub fn write_to(&self, sink: impl Write, format: Format) -> io::Result<()> {
        format::write(format, sink, &self.snapshot())
    }

    fn now(&self) -> Millis {
        to_millis((self.shared.rules.clock)())
    }

    // A panic under the lock leaves no half-done change behind that a later call could trip over, so poison is ignored.
    fn read(&self) -> RwLockReadGuard<'_, Store> {
        self.shared.store.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Store> {
        self.shared.store.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Builds a [`CookieJar`].
#[derive(Default)]
#[must_use]
pub struct CookieJarBuilder {
    rules: Rules,
}

impl CookieJarBuilder {
    /// The public suffix list. Default: the embedded one.
    pub fn public_suffixes(mut self, suffixes: PublicSuffixes) -> Self {
        self.rules.suffixes = Arc::new(suffixes);
        self
    }

    /// How much the jar holds and sends. Default: [`CookieLimits::default`].
    pub const fn limits(mut self, limits: CookieLimits) -> Self {
        self.rules.limits = limits;
        self
    }

    /// The clock, for tests. Default: [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.rules.clock = clock;
        self
    }

    /// The empty jar.
    #[must_use]
    pub fn build(self) -> CookieJar {
        self.rules.into_jar()
    }
}

impl Rules {
    fn into_jar(self) -> CookieJar {
        let store = RwLock::default();
        CookieJar { shared: Arc::new(Shared { store, rules: self }) }
    }
}

impl fmt::Debug for CookieJarBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJarBuilder")
            .field("public_suffixes", &self.rules.suffixes)
            .field("limits", &self.rules.limits)
            .finish_non_exhaustive()
    }
}

/// Several cookies have the name that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CookieConflict {
    /// The name.
    pub name: String,
    /// How many cookies have it.
    pub count: usize,
}

impl fmt::Display for CookieConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, count } = self;
        write!(f, "{count} cookies are named {name:?}: ask for those of a URI, or go through all")
    }
}

impl error::Error for CookieConflict {}
