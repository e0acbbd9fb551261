//! `Change`: which cookie was set or deleted, when, and by which kind of origin.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::cookie::model::{cookie::Cookie, id::CookieId};

/// Microseconds since 1970. Finer than a cookie's times: if two processes set one cookie within a
/// millisecond, it is still known which was later.
pub(in crate::cookie) type Stamp = u64;

pub(in crate::cookie) fn to_stamp(time: SystemTime) -> Stamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::try_from(since.as_micros()).unwrap_or(Stamp::MAX)
}

/// One change of a jar, or of a store that a jar is loaded from: a cookie was set or deleted.
///
/// [`CookieJar::take_changes`](crate::cookie::CookieJar::take_changes) returns changes, and
/// [`CookieJar::load_site`](crate::cookie::CookieJar::load_site) takes them.
///
/// ```
/// use std::time::SystemTime;
/// use tower_outbound::cookie::{Change, Cookie};
///
/// let cookie = Cookie::builder("id", "42").domain("example.com").build()?;
/// let set = Change::set(cookie.clone(), SystemTime::UNIX_EPOCH);
/// let deleted = Change::deleted(cookie.id(), SystemTime::now());
/// assert_eq!(set.id(), deleted.id());
/// assert!(set.cookie().is_some() && deleted.cookie().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Change {
    pub(super) id: CookieId,
    pub(super) at: Stamp,
    /// Its place among the changes of its jar. 0 if it comes from no jar.
    pub(super) order: u64,
    pub(super) cookie: Option<Cookie>,
    pub(super) only_expiry: bool,
    pub(super) from_secure: bool,
    /// Whether the jar did not have the cookie before.
    pub(super) is_new_here: bool,
    // Boxed: few changes have one.
    pub(super) replaced: Option<Box<Change>>,
}

impl Change {
    /// A change that set a cookie at that time, by a secure origin or by the caller.
    #[must_use]
    pub fn set(cookie: Cookie, at: SystemTime) -> Self {
        Self::set_at(cookie, to_stamp(at), true)
    }

    /// A change that deleted a cookie at that time, by a secure origin or by the caller.
    #[must_use]
    pub fn deleted(id: CookieId, at: SystemTime) -> Self {
        Self::deleted_at(id, to_stamp(at), true)
    }

    /// Marks the change as made by an origin that is not secure.
    ///
    /// Such a change yields to `Secure` cookies: see [`from_secure`](Self::from_secure). A store
    /// that keeps changes must keep this mark, and set it again when it loads them.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.from_secure = false;
        self
    }

    pub(in crate::cookie) fn set_at(cookie: Cookie, at: Stamp, from_secure: bool) -> Self {
        let id = cookie.id();
        Self { cookie: Some(cookie), ..Self::deleted_at(id, at, from_secure) }
    }

    pub(in crate::cookie) const fn deleted_at(id: CookieId, at: Stamp, from_secure: bool) -> Self {
        Self {
            id,
            at,
            order: 0,
            cookie: None,
            only_expiry: false,
            from_secure,
            is_new_here: false,
            replaced: None,
        }
    }

    /// The cookie that changed.
    #[must_use]
    pub const fn id(&self) -> &CookieId {
        &self.id
    }

    /// When it changed, in whole microseconds.
    ///
    /// The times of a jar's own changes never run backward, whatever its clock does. A change that
    /// a [file](crate::cookie::CookieFile) brings into the jar has the time at which it was made.
    #[must_use]
    pub fn at(&self) -> SystemTime {
        // Only a platform whose time ends before ours can fail here.
        UNIX_EPOCH.checked_add(Duration::from_micros(self.at)).unwrap_or(UNIX_EPOCH)
    }

    /// The cookie as it was set. `None` if it was deleted.
    #[must_use]
    pub const fn cookie(&self) -> Option<&Cookie> {
        self.cookie.as_ref()
    }

    /// Whether only the expiry of the cookie moved, as far as this jar knows. Many servers move it
    /// with every response, so a store may write such changes less often.
    #[must_use]
    pub const fn only_expiry(&self) -> bool {
        self.only_expiry
    }

    /// Whether the change was made by a secure origin, or by the caller, who may do everything.
    ///
    /// Any other origin must not set, replace, shadow or delete a cookie that a `Secure` one
    /// matches. The jar that recorded the change held no such `Secure` cookie. Another jar, a file
    /// or a store may hold one, and must then refuse the change.
    /// [`CookieJar::load_site`](crate::cookie::CookieJar::load_site) and
    /// [`CookieFile`](crate::cookie::CookieFile) do so.
    ///
    /// ```
    /// use std::time::SystemTime;
    /// use tower_outbound::cookie::{Change, Cookie, CookieJar};
    ///
    /// let jar = CookieJar::builder().log_changes().build();
    /// jar.set(&"http://example.com/".parse()?, "sid=evil; Domain=example.com; Path=/")?;
    ///
    /// // Another jar has logged in, over https.
    /// let sid = Cookie::builder("sid", "42").domain("example.com").secure(true).build()?;
    /// jar.load_site("example.com", [Change::set(sid, SystemTime::UNIX_EPOCH)]);
    /// assert_eq!(jar.header(&"https://example.com/".parse()?).expect("it is kept"), "sid=42");
    /// assert!(jar.take_changes().is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: RFC 6265bis section 5.7, step 12.
    #[must_use]
    pub const fn from_secure(&self) -> bool {
        self.from_secure
    }

    /// The change by a secure origin that this change replaced before anyone took it. This change
    /// is by an origin that is not secure. If it is refused, the replaced change applies.
    #[must_use]
    pub fn replaced(&self) -> Option<&Self> {
        self.replaced.as_deref()
    }

    /// The same change, after a change by a secure origin at that time. A `Secure` cookie that was
    /// set before then does not come back.
    pub(in crate::cookie) fn after_secure(mut self, at: Option<Stamp>) -> Self {
        self.replaced = at.map(|at| Box::new(Self::deleted_at(self.id.clone(), at, true)));
        self
    }

    pub(in crate::cookie) const fn stamp(&self) -> Stamp {
        self.at
    }

    /// Takes the place of an older change of the same cookie.
    pub(super) fn follow(&mut self, mut old: Self) {
        self.only_expiry &= old.only_expiry;
        // For others, a cookie that came and went in between was never there.
        self.is_new_here = old.is_new_here;
        if !self.from_secure {
            let before = old.replaced.take();
            self.replaced = if old.from_secure { Some(Box::new(old)) } else { before };
        }
    }

    /// Memory of its text, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let cookie = self.cookie.as_ref().map_or(0, |cookie| cookie.data.text_len());
        let replaced = self.replaced.as_ref().map_or(0, |replaced| replaced.bytes());
        self.id.as_bytes().len() + cookie + replaced
    }
}

// A cookie's own `Debug` shows no value.
impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Change")
            .field("id", &self.id)
            .field("at", &self.at())
            .field("deleted", &self.cookie.is_none())
            .field("only_expiry", &self.only_expiry)
            .field("from_secure", &self.from_secure)
            .finish()
    }
}
