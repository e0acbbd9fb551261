//! A stored cookie, and one on its way into the store.

use std::{
    cmp::Reverse,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::eviction::Candidate;
use crate::cookie::{
    model::cookie::Cookie,
    model::data::{Data, Flags, Identity, Millis, NEVER, Times},
    model::id::CookieId,
    model::path::path_match,
    model::rules::{Admitted, Rejection},
    model::shield::shields,
    model::suffix::Site,
    model::visit::Visit,
};

/// What storing a cookie did. From [`CookieJar::set`](crate::cookie::CookieJar::set).
///
/// ```
/// use tower_outbound::cookie::{CookieJar, StoreAction};
///
/// let (jar, uri) = (CookieJar::new(), "https://example.com/".parse()?);
/// assert_eq!(jar.set(&uri, "id=1")?, StoreAction::Inserted);
/// assert_eq!(jar.set(&uri, "id=2")?, StoreAction::Updated);
/// assert_eq!(jar.set(&uri, "id=; Max-Age=0")?, StoreAction::Expired);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreAction {
    /// The jar had no such cookie.
    Inserted,
    /// It replaced the cookie with the same name, domain, host-only flag and path.
    Updated,
    /// The jar already had it with the same value and attributes. Its expiry may have moved.
    Unchanged,
    /// Its expiry is in the past, as at a logout. It removed the cookie that it would replace.
    Expired,
}

/// What became of a cookie on its way into the store, and `T`, which tells of it if it is there.
pub(super) type Stored<T> = Result<(StoreAction, Option<T>), Rejection>;

/// A stored cookie. What a look-up or an unchanged `Set-Cookie` moves is atomic, so that both share
/// the read lock.
pub(super) struct Slot {
    data: Data,
    /// Numbers the cookies of a jar as they came.
    order: u64,
    expires: AtomicU64,
    updated: AtomicU64,
    /// 0 until it is sent.
    sent: AtomicU64,
    source: Source,
}

/// The `Set-Cookie` line that a cookie came by. If the same line comes again, it need not be judged
/// again.
#[derive(Clone, Copy, Default)]
pub(super) struct Source {
    /// A keyed hash of the line; 0 if the same line could mean something else the next time.
    fingerprint: u64,
    // An `Option` would take 8 bytes more of each cookie.
    /// Seconds; 0 if the line has no positive `Max-Age`.
    max_age: u32,
    /// Whether the request's path gave the cookie its own.
    has_default_path: bool,
}

impl Slot {
    pub(super) const fn new(data: Data, order: u64, times: Times, source: Source) -> Self {
        Self {
            data,
            order,
            expires: AtomicU64::new(times.expires),
            updated: AtomicU64::new(times.updated),
            sent: AtomicU64::new(times.sent),
            source,
        }
    }

    /// The same cookie, created at another time.
    pub(super) fn created_at(&self, created: Millis) -> Self {
        let mut data = self.data.clone();
        data.created = created;
        Self::new(data, self.order, self.times(), self.source)
    }

    pub(super) fn cookie(&self) -> Cookie {
        Cookie { data: self.data.clone(), times: self.times(), order: self.order }
    }

    /// What eviction looks at.
    pub(super) fn candidate(&self) -> Candidate {
        let Times { expires, updated, sent } = self.times();
        Candidate {
            order: self.order,
            bytes: self.data.text_len(),
            is_secure: self.data.flags.secure,
            was_sent: sent != 0,
            last_used: sent.max(updated),
            expires,
            shares_before: 0,
        }
    }

    pub(super) const fn data(&self) -> &Data {
        &self.data
    }

    pub(super) const fn order(&self) -> u64 {
        self.order
    }

    pub(super) fn expires(&self) -> Millis {
        self.expires.load(Relaxed)
    }

    pub(super) fn updated(&self) -> Millis {
        self.updated.load(Relaxed)
    }

    fn times(&self) -> Times {
        Times { expires: self.expires(), updated: self.updated(), sent: self.sent.load(Relaxed) }
    }

    /// Whether it ends with the session.
    pub(super) fn is_session(&self) -> bool {
        self.expires() == NEVER
    }

    /// Its place among the cookies of a site: see [`rank`].
    pub(super) fn rank(&self) -> (Reverse<usize>, Millis, u64) {
        rank(&self.data, self.order)
    }
}

/// The order in which cookies are sent: longest path first, then oldest (RFC 6265bis section
/// 5.8.3).
pub(super) fn rank(data: &Data, order: u64) -> (Reverse<usize>, Millis, u64) {
    (Reverse(data.path_len()), data.created, order)
}

/// As a request finds it.
impl Slot {
    pub(super) fn touch(&self, now: Millis) {
        // A clock before 1970 reads 0, which stands for never.
        self.sent.store(now.max(1), Relaxed);
    }

    pub(super) fn is_allowed(&self, visit: &Visit<'_>) -> bool {
        let Flags { secure, same_site, .. } = self.data.flags;
        // Who can read the line would read the cookie (RFC 6265bis section 5.8.3).
        (!secure || visit.origin.secure) && visit.reach.sends(same_site)
    }

    pub(super) fn is_on_path(&self, path: &[u8]) -> bool {
        path_match(path, self.data.path_bytes())
    }

    /// Whether a host of the site is one that the cookie is for (RFC 6265bis section 5.1.3).
    #[inline]
    pub(super) fn covers(&self, host: &[u8]) -> bool {
        let domain = self.data.domain_bytes();
        // An address is a site of its own, so that none of its cookies has a parent's domain. This
        // is why `domain_match`'s look at the host's form is not needed.
        if host.len() == domain.len() {
            host == domain
        } else {
            !self.data.flags.host_only
                && host.strip_suffix(domain).is_some_and(|rest| rest.ends_with(b"."))
        }
    }
}

/// As a response finds it.
impl Slot {
    pub(super) const fn is_from(&self, fingerprint: u64) -> bool {
        self.source.fingerprint == fingerprint
    }

    /// Whether a line with its fingerprint means this cookie again.
    ///
    /// What the line says was judged when it came first. What the request says has to be looked at:
    /// its host and its path. So has the response's `Date`.
    #[inline]
    pub(super) fn is_meant_by(&self, line: &[u8], visit: &Visit<'_>) -> bool {
        let Self { data, source, .. } = self;
        // Two lines may have the same hash. The pair tells them apart as far as a server can see.
        let same_text = line
            .strip_prefix(data.pair())
            .is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b';'));
        let same_path =
            !source.has_default_path || visit.origin.default_path().as_bytes() == data.path_bytes();
        // An `Expires` means another moment with each `Date`.
        let same_expiry = visit.date.is_none() || source.max_age != 0 || self.is_session();
        same_text && same_path && same_expiry && self.covers(visit.origin.host.as_bytes())
    }

    /// When it expires if the line that it came by comes again.
    pub(super) fn expires_if_renewed(&self, now: Millis) -> Millis {
        match self.source.max_age {
            0 => self.expires(),
            age => now.saturating_add(u64::from(age) * 1000).min(NEVER - 1),
        }
    }

    /// It was set again; says whether its expiry moved.
    pub(super) fn renew(&self, expires: Millis, now: Millis) -> bool {
        // Relaxed, here and elsewhere: each is read for itself, and the text is under the lock.
        self.updated.store(now, Relaxed);
        self.expires.swap(expires, Relaxed) != expires
    }

    /// It was set again by another line, with other text or flags if `data` is given.
    pub(super) fn rewrite(&mut self, data: Option<Data>, source: Source) {
        if let Some(data) = data {
            self.data = data;
        }
        self.source = source;
    }

    /// Whether it forbids `new` to a non-secure origin: leave secure cookies alone (RFC 6265bis
    /// section 5.7).
    fn shields(&self, new: &Admitted<'_>, now: Millis) -> bool {
        self.expires() > now && shields(&self.data, &new.identity(), new.value)
    }
}

/// A cookie on its way into the store: what, and by whose word.
pub(super) struct Incoming<'a> {
    /// The site whose cookies it joins.
    site: Site<'a>,
    identity: Identity<'a>,
    expires: Millis,
    now: Millis,
    text_len: usize,
    sender: Sender<'a>,
}

/// By whose word a cookie is stored, and so what becomes of one with the same identity.
#[derive(Clone, Copy)]
pub(super) enum Sender<'a> {
    /// A response, whose line the rules admitted. The cookie that is there keeps its creation time
    /// and when it was last sent; one that has expired counts as none.
    Response { new: &'a Admitted<'a>, source: Source, is_secure: bool },
    /// A caller, a file or another jar, whatever the origin. The older creation time is kept.
    Caller { cookie: &'a Cookie, keep: Keep },
}

/// Which of two cookies with the same identity a caller wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// The one that the caller gives.
    Given,
    /// The one that was set later.
    Newer,
}

impl<'a> Incoming<'a> {
    pub(super) fn from_response<'v: 'a>(
        visit: &Visit<'v>,
        new: &'a Admitted<'a>,
        fingerprint: u64,
    ) -> Self {
        let source = Source {
            // 0 is no line's, so that such a cookie takes the long way each time.
            fingerprint: if new.lasts { fingerprint } else { 0 },
            max_age: new.max_age,
            has_default_path: new.has_default_path,
        };
        Self {
            site: visit.site(),
            identity: new.identity(),
            expires: new.expires,
            now: visit.now,
            text_len: new.text_len(),
            sender: Sender::Response { new, source, is_secure: visit.origin.secure },
        }
    }

    /// `site` is that of the cookie's domain.
    pub(super) fn from_caller(site: Site<'a>, cookie: &'a Cookie, keep: Keep, now: Millis) -> Self {
        // A cookie for a public suffix would go to every site below it. It is kept for the one
        // host, as a response's is (RFC 6265bis section 5.7).
        let host_only = cookie.data.flags.host_only || site.is_suffix;
        Self {
            site,
            identity: Identity { host_only, ..cookie.data.identity() },
            expires: cookie.times.expires,
            now,
            text_len: cookie.data.text_len(),
            sender: Sender::Caller { cookie, keep },
        }
    }

    pub(super) const fn site(&self) -> Site<'a> {
        self.site
    }

    pub(super) fn id(&self) -> CookieId {
        CookieId::of(&self.identity)
    }

    pub(super) const fn now(&self) -> Millis {
        self.now
    }

    pub(super) const fn text_len(&self) -> usize {
        self.text_len
    }

    pub(super) const fn sender(&self) -> Sender<'a> {
        self.sender
    }

    /// If not, all it does is to delete.
    pub(super) const fn lives(&self) -> bool {
        self.expires > self.now
    }

    pub(super) fn is_same_as(&self, slot: &Slot) -> bool {
        slot.data.has_identity(&self.identity)
    }

    pub(super) fn is_barred_by(&self, slot: &Slot) -> bool {
        match self.sender {
            Sender::Response { new, is_secure: false, .. } => slot.shields(new, self.now),
            _ => false,
        }
    }

    /// Whether the cookie that is there is kept, since it lives and was set later.
    pub(super) fn yields_to(&self, old: &Slot) -> bool {
        match self.sender {
            Sender::Caller { cookie, keep: Keep::Newer } => {
                old.expires() > self.now && old.updated() > cookie.times.updated
            }
            _ => false,
        }
    }

    /// The cookie as it is stored.
    pub(super) fn to_slot(&self, created: Millis, order: u64) -> Slot {
        match self.sender {
            Sender::Response { new, source, .. } => {
                let times = Times { expires: self.expires, updated: self.now, sent: 0 };
                Slot::new(new.to_data(created), order, times, source)
            }
            Sender::Caller { cookie, .. } => {
                let mut data = cookie.data.clone();
                data.created = created;
                data.flags.host_only = self.identity.host_only;
                // No line came, so that no line can be the same again.
                Slot::new(data, order, cookie.times, Source::default())
            }
        }
    }
}

/// Numbers a jar's cookies as they come.
#[derive(Default)]
pub(super) struct Numbers {
    /// Tells the cookies of one millisecond apart.
    next: AtomicU64,
    last_created: AtomicU64,
}

impl Numbers {
    /// The next cookie of the jar.
    pub(super) fn slot(&self, new: &Incoming<'_>) -> Slot {
        let created = match new.sender() {
            // Creation times never run backward, whatever the clock does: they are the order in
            // which cookies are sent.
            Sender::Response { .. } => {
                self.last_created.fetch_max(new.now(), Relaxed).max(new.now())
            }
            // A file's cookies keep their order from one run to the next.
            Sender::Caller { cookie, .. } => cookie.data.created,
        };
        new.to_slot(created, self.next.fetch_add(1, Relaxed))
    }
}
