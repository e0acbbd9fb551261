//! The jar: what is stored, behind its locks.

pub(in crate::cookie) mod bucket;
mod inspect;
pub(in crate::cookie) mod limits;
pub(in crate::cookie) mod policy;
pub(in crate::cookie) mod response;
pub(in crate::cookie) mod settings;
pub(in crate::cookie) mod storage;
pub(in crate::cookie) mod store;

use std::{
    collections::BTreeMap,
    error, fmt,
    io::{self, Read, Write},
    sync::Arc,
    time::SystemTime,
};

use http::{HeaderMap, HeaderValue, Method, Uri, header::SET_COOKIE};

use self::{
    bucket::{Slot, Visit},
    limits::CookieLimits,
    policy::CookiePolicy,
    response::ResponseCookies,
    settings::Settings,
    storage::{CookieContext, CookieStorage},
    store::{Store, StoreAction},
};
use crate::cookie::{
    event,
    format::{self, Entry, Format, ReadError, ReadSummary, SkippedLine},
    model::cookie::{Cookie, to_millis},
    model::data::{Millis, Times},
    model::origin::{Origin, spelt_domain},
    model::rules::{self, Rejection},
    model::same_site::Reach,
    model::suffix::PublicSuffixes,
};

/// A jar of cookies, kept and matched as a browser does (RFC 6265bis).
///
/// Clones share the cookies. Every call locks for no longer than it takes, never across an await,
/// and a panic elsewhere does not spoil the jar. `Debug` shows how many cookies there are, none of
/// them.
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
    /// An empty jar with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a jar with another suffix list, other limits, a policy or another clock.
    pub fn builder() -> CookieJarBuilder {
        CookieJarBuilder::default()
    }

    pub(in crate::cookie) fn with_settings(settings: Settings) -> Self {
        Self { shared: Arc::new(Shared { store: Store::default(), settings }) }
    }

    /// Whether someone besides the one who asks has this jar.
    pub(in crate::cookie) fn is_held(&self) -> bool {
        Arc::strong_count(&self.shared) > 1
    }

    /// Stores one `Set-Cookie` value as if a response from `uri` to a GET had carried it.
    ///
    /// # Errors
    ///
    /// The [`Rejection`] says which rule the cookie breaks; the jar is as it was.
    pub fn set(&self, uri: &Uri, set_cookie: impl AsRef<[u8]>) -> Result<StoreAction, Rejection> {
        let context = CookieContext::new(uri, &Method::GET);
        let origin = Origin::of(uri).ok_or(Rejection::NoHost)?;
        let visit = self.visit(&context, &origin);
        self.store_line(&context, &visit, set_cookie.as_ref(), |_| ()).map(|(action, _)| action)
    }

    /// Stores every `Set-Cookie` of a response from `uri` to a GET, and says what became of each.
    pub fn store_response(&self, uri: &Uri, headers: &HeaderMap) -> ResponseCookies {
        self.store_for(&CookieContext::new(uri, &Method::GET), headers)
    }

    fn store_for(&self, context: &CookieContext<'_>, headers: &HeaderMap) -> ResponseCookies {
        // Most responses set none: they need not be looked at.
        if !headers.contains_key(SET_COOKIE) {
            return ResponseCookies::default();
        }
        let origin = Origin::of(context.uri());
        let visit = origin.as_ref().map(|origin| self.visit(context, origin));
        let per_response = self.shared.settings.limits.per_response;
        ResponseCookies::of(visit.as_ref(), headers, per_response, |visit, line| {
            self.store_line(context, visit, line, Slot::cookie).map(|(_, stored)| stored)
        })
    }

    /// `stored` makes of the cookie what the caller wants of it.
    fn store_line<T>(
        &self,
        context: &CookieContext<'_>,
        visit: &Visit<'_>,
        line: &[u8],
        stored: impl Fn(&Slot) -> T,
    ) -> Result<(StoreAction, Option<T>), Rejection> {
        let Shared { store, settings: Settings { suffixes, limits, policy, .. } } = &*self.shared;
        let fingerprint = store.fingerprint(line);
        if policy.is_none()
            && visit.reach == Reach::SameSite
            && let Some(cookie) = store.set_again(visit, fingerprint, line, &stored)
        {
            return Ok((StoreAction::Unchanged, Some(cookie)));
        }
        let new = rules::admit(visit.origin, line, suffixes, visit.reach, visit.now)?;
        if let Some(policy) = policy
            && new.expires > visit.now
            && !policy.accept(context, &Cookie::admitted(&new, visit.now))
        {
            return Err(Rejection::Policy);
        }
        store.set(visit, &new, fingerprint, limits, stored)
    }

    fn visit<'a>(&'a self, context: &CookieContext<'_>, origin: &'a Origin<'a>) -> Visit<'a> {
        context.visit(origin, &self.shared.settings.suffixes, self.now())
    }

    /// The `Cookie` header for a GET request to `uri`; `None` where no cookie goes. It is marked
    /// [sensitive](HeaderValue::set_sensitive), so that its `Debug` shows nothing.
    #[must_use]
    pub fn header(&self, uri: &Uri) -> Option<HeaderValue> {
        self.header_for(&CookieContext::new(uri, &Method::GET))
    }

    fn header_for(&self, context: &CookieContext<'_>) -> Option<HeaderValue> {
        let origin = Origin::of(context.uri())?;
        let visit = self.visit(context, &origin);
        let Settings { limits, policy, .. } = &self.shared.settings;
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

    /// The cookies that a GET request to `uri` would carry, in the order of the header; the limits
    /// of a header and the jar's policy apart.
    #[must_use]
    pub fn matching(&self, uri: &Uri) -> Vec<Cookie> {
        let Some(origin) = Origin::of(uri) else {
            return Vec::new();
        };
        let context = CookieContext::new(uri, &Method::GET);
        self.shared.store.matching(&self.visit(&context, &origin))
    }

    /// Every cookie in the order of creation, as of now: later changes do not show.
    pub fn iter(&self) -> impl Iterator<Item = Cookie> + use<> {
        self.snapshot().into_iter()
    }

    fn snapshot(&self) -> Vec<Cookie> {
        self.shared.store.snapshot(self.now())
    }

    /// The one cookie of that name.
    ///
    /// # Errors
    ///
    /// [`CookieConflict`] where several domains or paths have a cookie of that name;
    /// [`matching`](Self::matching) and [`iter`](Self::iter) tell them apart.
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
        self.iter()
            .map(|cookie| (cookie.name().into_owned(), cookie.value().into_owned()))
            .collect()
    }

    /// Puts a cookie in, in place of one with the same name, domain, host-only flag and path; the
    /// older creation time stays. A cookie for a public suffix becomes host-only; one that has
    /// expired only deletes.
    pub fn insert(&self, cookie: Cookie) {
        self.put(&cookie, self.now(), false);
    }

    /// Puts the cookies of another jar in. Of two with the same name, domain, host-only flag and
    /// path the one that was set later wins, and the older creation time stays. What the other
    /// jar lacks is not taken out of this one.
    pub fn merge(&self, other: &Self) {
        if Arc::ptr_eq(&self.shared, &other.shared) {
            return;
        }
        let now = self.now();
        for cookie in other.snapshot() {
            self.put(&cookie, now, true);
        }
    }

    fn put(&self, cookie: &Cookie, now: Millis, unless_newer: bool) {
        let Settings { suffixes, limits, .. } = &self.shared.settings;
        let times = Times { expires: rules::capped(cookie.times.expires, now), ..cookie.times };
        let cookie = Cookie { times, ..cookie.clone() };
        self.shared.store.put(suffixes.site(cookie.domain()), &cookie, now, limits, unless_newer);
    }

    /// Takes out the cookie of that domain, path and name; of two, the host-only one first.
    pub fn remove(&self, domain: &str, path: &str, name: &str) -> Option<Cookie> {
        let domain = spelt_domain(domain)?;
        let key = self.shared.settings.suffixes.site(&domain).key;
        self.shared.store.remove(key, &domain, path, name.as_bytes(), self.now())
    }

    /// Removes every cookie.
    pub fn clear(&self) {
        self.shared.store.clear();
    }

    /// Removes the cookies of that very domain; those of its subdomains stay.
    ///
    /// http.cookiejar: `clear(domain)`.
    pub fn clear_domain(&self, domain: &str) {
        if let Some(domain) = spelt_domain(domain) {
            self.shared
                .store
                .remove_domain(self.shared.settings.suffixes.site(&domain).key, &domain);
        }
    }

    /// Removes what has expired, and says how many. Look-ups do so for the site they meet; this
    /// does it for all.
    pub fn clear_expired(&self) -> usize {
        self.shared.store.remove_expired(self.now())
    }

    /// Removes the cookies without an expiry, as the end of a browser's session does, and says how
    /// many.
    pub fn clear_session_cookies(&self) -> usize {
        self.shared.store.remove_session()
    }

    /// How many cookies there are. Ones that have expired count until a look-up or
    /// [`clear_expired`](Self::clear_expired) meets them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with every change that a file would tell of: a cookie that is stored,
    /// replaced, removed or evicted, or whose expiry moves. That a cookie is sent is no change.
    ///
    /// For saving when there is something to save; see
    /// [`CookieFile::save_if_changed`](crate::cookie::CookieFile::save_if_changed).
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.store.changes()
    }

    /// Reads a file's cookies into this jar, under its rules. Cookies that have expired or that the
    /// rules refuse are left out and not counted. The jar's limits may evict some of the others.
    ///
    /// A line of cookies.txt that cannot be read is skipped and listed; see
    /// [`Format::Netscape`](Format). The whole source is read: bound one that is not yours with
    /// [`Read::take`].
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, Format};
    ///
    /// let text = "example.com\tFALSE\t/\tTRUE\t0\tid\t42\nexported by hand\n";
    /// let summary = CookieJar::new().read_from(text.as_bytes(), Format::Netscape)?;
    /// assert_eq!(summary.cookies, 1);
    /// assert_eq!(summary.skipped[0].to_string(), "line 2: expected seven fields between tabs");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ReadError`] if the source cannot be read, if no line of a cookies.txt is a cookie although
    /// it has lines, or if any part of another format is damaged. The jar is then as it was.
    pub fn read_from(
        &self,
        mut source: impl Read,
        format: Format,
    ) -> Result<ReadSummary, ReadError> {
        let mut text = Vec::new();
        source.read_to_end(&mut text)?;
        let contents = format::read(format, &text, self.now())?;
        let skipped = contents.skipped.clone();
        skipped.iter().for_each(SkippedLine::report);
        let cookies = self.judge(contents.into_cookies());
        self.extend(&cookies);
        Ok(ReadSummary { cookies: cookies.len(), skipped })
    }

    /// The cookies that have not expired and that the rules allow, as they are: with no limit and
    /// no cap applied.
    pub(in crate::cookie) fn judge(&self, mut cookies: Vec<Cookie>) -> Vec<Cookie> {
        let now = self.now();
        cookies.retain(|cookie| cookie.times.expires > now && self.allows(cookie));
        cookies
    }

    /// Whether the rules allow a cookie that no server sent.
    pub(in crate::cookie) fn allows(&self, cookie: &Cookie) -> bool {
        match cookie.judge(&self.shared.settings.suffixes) {
            Ok(()) => true,
            Err(reason) => {
                event::rejected(&cookie.name(), reason);
                false
            }
        }
    }

    pub(in crate::cookie) fn extend(&self, cookies: &[Cookie]) {
        let now = self.now();
        for cookie in cookies {
            self.put(cookie, now, false);
        }
    }

    /// Writes every live cookie, in the order of creation.
    ///
    /// # Errors
    ///
    /// Those of `sink`.
    pub fn write_to(&self, sink: impl Write, format: Format) -> io::Result<()> {
        let entries: Vec<Entry> = self.snapshot().into_iter().map(Entry::Cookie).collect();
        format::write(format, sink, &entries)
    }

    pub(in crate::cookie) fn now(&self) -> Millis {
        to_millis((self.shared.settings.clock)())
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
        let origin = Origin::of(context.uri());
        let visit = origin.as_ref().map(|origin| self.visit(context, origin));
        inspect::judge(visit.as_ref(), headers, limits, |cookie| {
            policy.as_ref().is_none_or(|policy| policy.accept(context, cookie))
        })
    }
}

// A panic in between leaves the jar whole: see `Shard`.
impl std::panic::UnwindSafe for CookieJar {}
impl std::panic::RefUnwindSafe for CookieJar {}

impl fmt::Debug for CookieJar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJar").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Builds a [`CookieJar`].
#[derive(Clone, Default)]
#[must_use]
pub struct CookieJarBuilder {
    settings: Settings,
}

impl CookieJarBuilder {
    /// The public suffix list. Default: the embedded one.
    pub fn public_suffixes(mut self, suffixes: PublicSuffixes) -> Self {
        self.settings.suffixes = Arc::new(suffixes);
        self
    }

    /// How much the jar holds and sends. Default: [`CookieLimits::default`].
    pub const fn limits(mut self, limits: CookieLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Which cookies are stored and sent, of those that the rules allow. Default: all.
    pub fn policy(mut self, policy: impl CookiePolicy + 'static) -> Self {
        self.settings.policy = Some(Arc::new(policy));
        self
    }

    /// The clock, for tests. Default: [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.settings.clock = clock;
        self
    }

    /// The empty jar. A builder makes any number of them, which share no cookies.
    #[must_use]
    pub fn build(self) -> CookieJar {
        CookieJar::with_settings(self.settings)
    }
}

impl fmt::Debug for CookieJarBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJarBuilder")
            .field("public_suffixes", &self.settings.suffixes)
            .field("limits", &self.settings.limits)
            .field("policy", &self.settings.policy.is_some())
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Nothing that a caller gives runs under the locks, so that only from in here one can be
    /// poisoned.
    #[test]
    fn a_panic_under_a_lock_spoils_nothing() {
        let (jar, uri) = (CookieJar::new(), "https://example.com/".parse().unwrap());
        let context = CookieContext::new(&uri, &Method::GET);
        let origin = Origin::of(&uri).unwrap();
        jar.set(&uri, "kept=1").unwrap();
        let visit = jar.visit(&context, &origin);
        let panics = |_: &Slot| -> () { panic!("on purpose") };
        let store = || _ = jar.store_line(&context, &visit, b"new=1", panics);
        assert!(catch_unwind(AssertUnwindSafe(store)).is_err());

        assert_eq!(jar.header(&uri).unwrap(), "kept=1");
        assert_eq!(jar.set(&uri, "new=2"), Ok(StoreAction::Inserted));
        assert_eq!(jar.header(&uri).unwrap(), "kept=1; new=2");
        assert_eq!((jar.len(), jar.iter().count()), (2, 2));
        jar.clear();
        assert!(jar.is_empty());
    }

    /// Every line of a small alphabet in some order, from a fixed seed, against small limits.
    #[test]
    fn a_response_that_is_inspected_comes_to_what_an_empty_jar_would_store() {
        let mut seed = 7_u64;
        let mut next = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let said = |cookies: &ResponseCookies| {
            let of = |c: &Cookie| (format!("{c:?}={}", c.value()), c.created(), c.last_access());
            let accepted: Vec<_> = cookies.accepted().iter().map(of).collect();
            (accepted, cookies.rejected().to_vec())
        };
        fn clock() -> SystemTime {
            SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000)
        }
        let mut wrong = Vec::new();
        for _ in 0..2_000 {
            let per_response = next(9) as usize;
            let limits = if next(4) == 0 {
                CookieLimits { bytes: 24, per_response, ..CookieLimits::default() }
            } else {
                let (per_domain, total) = (next(5) as usize, next(7) as usize);
                CookieLimits { per_domain, total, per_response, ..CookieLimits::default() }
            };
            let jar = CookieJar::builder().limits(limits).clock(clock).build();
            let uri = ["http://h.example/", "https://h.example/", "/relative"][next(3) as usize];
            let uri = uri.parse().unwrap();
            let attributes = ["", "; Secure", "; Max-Age=0", "; Domain=h.example", "; Path=/x"];
            let line = |_| {
                let attribute = attributes[next(5) as usize];
                format!(
                    "{}={}{attribute}",
                    ["a", "b", "c", "__Host-d", "e"][next(5) as usize],
                    next(2)
                )
            };
            let lines: Vec<_> = (0..12).map(line).collect();
            let headers = lines.iter().map(|line| (SET_COOKIE, line.parse().unwrap())).collect();
            let context = CookieContext::new(&uri, &Method::GET);
            let inspected = jar.inspect_response(&context, &headers);
            let is_empty = jar.is_empty();
            let stored = CookieStorage::store_response(&jar, &context, &headers);
            if !is_empty || said(&inspected) != said(&stored) {
                wrong.push(format!("{uri} {limits:?} {lines:?}: {inspected:?}, not {stored:?}"));
            }
        }
        assert!(wrong.is_empty(), "{} wrong, of which {}", wrong.len(), wrong[0]);
    }
}
