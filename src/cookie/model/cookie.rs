//! `Cookie` and its builder, and the one way to create a cookie that no server sent.

use std::{
    borrow::Cow,
    error, fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    data::{Data, Flags, Millis, NEVER, SameSite, Times},
    origin::{spelt_domain, stands_alone, written_domain},
    rules::{self, Admitted, Rejection},
    set_cookie::{MAX_ATTRIBUTE, MAX_PAIR, is_control, is_path, trim},
    suffix::PublicSuffixes,
};

pub(in crate::cookie) fn to_millis(time: SystemTime) -> Millis {
    // A clock before 1970 reads 0: an unset clock must not keep a client from starting. NEVER means
    // a session cookie, so a time stays below it.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        since
            .as_secs()
            .saturating_mul(1000)
            .saturating_add(since.subsec_millis().into())
            .min(NEVER - 1)
    })
}

pub(in crate::cookie) fn to_time(millis: Millis) -> SystemTime {
    // Only a platform whose time ends before ours can fail here.
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// A cookie, as a jar held it at one moment or as [`builder`](Self::builder) made it.
///
/// Clones share the text, so they are cheap. `Debug` shows name, domain and path, and
/// never the value.
///
/// ```
/// use tower_outbound::cookie::{Cookie, CookieJar};
///
/// let jar = CookieJar::new();
/// // A cookie of one host, as most servers set it: without a `Domain`.
/// let sid = Cookie::builder("sid", "42").domain("example.com").host_only(true).secure(true);
/// jar.insert(sid.build()?);
/// // A cookie of a host and its subdomains, as `Domain=example.com` sets it.
/// jar.insert(Cookie::builder("theme", "dark").domain("example.com").secure(true).build()?);
///
/// let header = jar.header(&"https://example.com/".parse()?);
/// assert_eq!(header.expect("both"), "sid=42; theme=dark");
/// let header = jar.header(&"https://www.example.com/".parse()?);
/// assert_eq!(header.expect("one"), "theme=dark");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cookie {
    pub(in crate::cookie) data: Data,
    pub(in crate::cookie) times: Times,
    /// Numbers the cookies of a jar: tells apart those of one millisecond.
    pub(in crate::cookie) order: u64,
}

impl Cookie {
    /// Starts a cookie that no server sent. A [`domain`](CookieBuilder::domain) is required.
    ///
    /// Default: the cookie is sent to the domain and its subdomains, for every path, over any
    /// scheme, and has no expiry.
    pub fn builder(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> CookieBuilder {
        CookieBuilder {
            name: name.as_ref().to_vec(),
            value: value.as_ref().to_vec(),
            domain: String::new(),
            path: "/".to_owned(),
            flags: Flags {
                host_only: false,
                secure: false,
                http_only: false,
                partitioned: false,
                same_site: None,
            },
            expires: NEVER,
        }
    }

    /// The name. Empty for a nameless cookie. Bytes that are not UTF-8 are shown as U+FFFD.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data.name())
    }

    /// The value as the server sent it, neither decoded nor unquoted. Bytes that are not UTF-8 are
    /// shown as U+FFFD.
    #[must_use]
    pub fn value(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data.value())
    }

    /// The value as bytes.
    #[must_use]
    pub fn value_bytes(&self) -> &[u8] {
        self.data.value()
    }

    /// The domain, in lower case and without a leading dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.data.domain()
    }

    /// Whether the cookie is sent only to [`domain`](Self::domain), not to its subdomains. The
    /// host-only-flag of RFC 6265bis.
    #[must_use]
    pub fn host_only(&self) -> bool {
        self.data.flags.host_only
    }

    /// The path. The cookie is sent to this path and the paths below it.
    #[must_use]
    pub fn path(&self) -> &str {
        self.data.path()
    }

    /// The `Secure` attribute: the cookie is sent only over secure connections.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.data.flags.secure
    }

    /// The `HttpOnly` attribute: scripts must not see the cookie. A client without scripts sends it
    /// like any other.
    #[must_use]
    pub fn http_only(&self) -> bool {
        self.data.flags.http_only
    }

    /// The `SameSite` attribute. `None` if it is absent or unknown.
    #[must_use]
    pub fn same_site(&self) -> Option<SameSite> {
        self.data.flags.same_site
    }

    /// The `Partitioned` attribute. It is stored and reported, but has no effect: this client has
    /// no partitions.
    #[must_use]
    pub fn partitioned(&self) -> bool {
        self.data.flags.partitioned
    }

    /// When the cookie expires. `None` for a session cookie.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        (self.times.expires != NEVER).then(|| to_time(self.times.expires))
    }

    /// When the cookie was first stored. A new value does not change it.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        to_time(self.data.created)
    }

    /// When the cookie was last sent or stored, at the time of this snapshot.
    #[must_use]
    pub fn last_access(&self) -> SystemTime {
        to_time(self.times.updated.max(self.times.sent))
    }
}

impl Cookie {
    /// A cookie that the rules admitted, as it would be stored.
    pub(in crate::cookie) fn admitted(new: &Admitted<'_>, now: Millis) -> Self {
        Self {
            data: new.to_data(now),
            times: Times { expires: new.expires, updated: now, sent: 0 },
            // Only a store assigns numbers, and it may still reject this one.
            order: 0,
        }
    }

    /// Creates a cookie that no server sent. All such cookies are created here. [`Door`] lists the
    /// differences.
    pub(in crate::cookie) fn from_parts(
        parts: Parts<'_>,
        door: Door,
    ) -> Result<Self, InvalidCookie> {
        let Parts { name, value, path, mut flags, created, times, .. } = parts;
        check_pair(name, value)?;
        let domain = match door {
            Door::Caller => written_domain(parts.domain),
            Door::Store | Door::File => spelt_domain(parts.domain),
        };
        let domain = domain.ok_or(InvalidCookie::Domain)?;
        // A caller gives only what a `Path` attribute can say (RFC 6265bis section 5.6.4).
        let is_short = || path.len() <= MAX_ATTRIBUTE && !path.contains(';');
        if !is_path(path) || door == Door::Caller && !is_short() {
            return Err(InvalidCookie::Path);
        }
        // An address has no subdomains, whatever the parts say (RFC 6265bis section 5.1.3).
        flags.host_only |= stands_alone(&domain);
        let data = Data::new(name, value, &domain, path, flags, created);
        let cookie = Self { data, times, order: 0 };
        // Last: a rule is about a whole cookie.
        match door {
            Door::Caller | Door::Store => cookie.promises().map_err(InvalidCookie::Rule)?,
            Door::File => {}
        }
        Ok(cookie)
    }

    /// Whether another state of the same cookie has its value, flags and expiry.
    pub(in crate::cookie) fn is_same_state(&self, other: &Self) -> bool {
        self.data.value() == other.data.value()
            && self.data.flags == other.data.flags
            && self.times.expires == other.times.expires
    }

    /// Whether it meets the conditions of its name's prefix.
    fn promises(&self) -> Result<(), Rejection> {
        // The host that set it is not known, so `__Host-` is reduced to host-only and the path `/`.
        let data = &self.data;
        rules::prefixes(data.name(), data.value(), data.flags, data.path() == "/")
    }

    /// Whether a server of its domain could have set it. A file or another store does not say which
    /// host did.
    pub(in crate::cookie) fn judge(&self, suffixes: &PublicSuffixes) -> Result<(), Rejection> {
        // A host-only cookie reaches no stranger, even on the host of a public suffix.
        if !self.data.flags.host_only && suffixes.site(self.domain()).is_suffix {
            return Err(Rejection::PublicSuffix);
        }
        self.promises()
    }
}

/// The parts of a cookie that no server sent, none of them checked.
pub(in crate::cookie) struct Parts<'a> {
    pub(in crate::cookie) name: &'a [u8],
    pub(in crate::cookie) value: &'a [u8],
    /// As it is spelt outside of URIs: with a leading dot, in capitals, or an IPv6 address without
    /// its brackets.
    pub(in crate::cookie) domain: &'a str,
    pub(in crate::cookie) path: &'a str,
    pub(in crate::cookie) flags: Flags,
    pub(in crate::cookie) created: Millis,
    pub(in crate::cookie) times: Times,
}

/// Where the parts of a cookie come from. Pair, domain, path and host-only flag are checked for
/// all. The differences are:
///
/// | | `Caller` | `Store` | `File` |
/// |---|---|---|---|
/// | longest path, in bytes | 1,024 | 3,072 | 3,072 |
/// | `;` in the path | no | yes | yes |
/// | `*`, `,` and `;` in the domain | no | yes | yes |
/// | a broken rule is | an error | an error | left to the jar |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) enum Door {
    /// A person, who writes what a `Path` attribute can say. A `*` or `,` in a domain means a
    /// pattern or a list.
    Caller,
    /// Another crate's store. Its paths and domains may come from a request, so they can hold `;`
    /// and `,`. Such a path may be three times as long, with each byte replaced by U+FFFD.
    #[cfg_attr(not(feature = "cookie_store"), expect(dead_code, reason = "it has no store"))]
    Store,
    /// A file. As for a store, but a cookie that a rule rejects is read too, so that a save keeps
    /// it for programs with other rules. See [`Cookie::judge`].
    File,
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookie")
            .field("name", &self.name())
            .field("domain", &self.domain())
            .field("path", &self.path())
            .field("flags", &self.data.flags)
            .field("expires", &self.expires())
            .finish_non_exhaustive()
    }
}

/// Builds a [`Cookie`] that no server sent. Created by [`Cookie::builder`].
///
/// `Debug` does not show the value.
///
/// ```
/// use tower_outbound::cookie::{Cookie, SameSite};
///
/// let cookie = Cookie::builder("theme", "dark")
///     .domain("example.com")
///     .path("/shop")
///     .secure(true)
///     .same_site(SameSite::Lax)
///     .build()?;
/// assert_eq!(cookie.path(), "/shop");
/// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct CookieBuilder {
    name: Vec<u8>,
    value: Vec<u8>,
    domain: String,
    path: String,
    flags: Flags,
    expires: Millis,
}

// Nothing is checked before `build`, so no setter can fail.
impl CookieBuilder {
    /// Sets the domain of the cookie, like the `Domain` attribute. Required. It includes its
    /// subdomains, unless [`host_only`](Self::host_only) is set. One leading dot is dropped.
    ///
    /// ```
    /// use tower_outbound::cookie::Cookie;
    ///
    /// let cookie = Cookie::builder("id", "42").domain(".Example.com").build()?;
    /// assert_eq!(cookie.domain(), "example.com");
    /// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
    /// ```
    ///
    /// If the server sets the cookie without `Domain`, like most session ids, call
    /// `host_only(true)`. The host-only form and the domain form are two cookies (RFC 6265bis
    /// section 5.7). Neither replaces the other, so both would be sent.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// Whether the cookie is sent only to its domain, not to subdomains. Default: false.
    ///
    /// The cookie of an IP address is always host-only. A jar also makes a cookie host-only if its
    /// domain is a single label or a public suffix.
    ///
    /// ```
    /// use tower_outbound::cookie::{Cookie, CookieJar};
    ///
    /// let jar = CookieJar::new();
    /// jar.insert(Cookie::builder("id", "42").domain("example.com").host_only(true).build()?);
    /// assert_eq!(jar.header(&"https://www.example.com/".parse()?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn host_only(mut self, host_only: bool) -> Self {
        self.flags.host_only = host_only;
        self
    }

    /// Sets the path. The cookie is sent to this path and the paths below it. Default: `/`.
    ///
    /// ```
    /// use tower_outbound::cookie::{Cookie, CookieJar};
    ///
    /// let jar = CookieJar::new();
    /// jar.insert(Cookie::builder("id", "42").domain("example.com").path("/shop").build()?);
    /// assert_eq!(jar.header(&"https://example.com/".parse()?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets the `Secure` attribute: the cookie is sent only over secure connections. Default:
    /// false.
    ///
    /// ```
    /// use tower_outbound::cookie::{Cookie, CookieJar};
    ///
    /// let jar = CookieJar::new();
    /// jar.insert(Cookie::builder("id", "42").domain("example.com").secure(true).build()?);
    /// assert_eq!(jar.header(&"http://example.com/".parse()?), None);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn secure(mut self, secure: bool) -> Self {
        self.flags.secure = secure;
        self
    }

    /// Sets the `HttpOnly` attribute. Default: false.
    ///
    /// ```
    /// use tower_outbound::cookie::Cookie;
    ///
    /// let cookie = Cookie::builder("id", "42").domain("example.com").http_only(true).build()?;
    /// assert!(cookie.http_only());
    /// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
    /// ```
    pub const fn http_only(mut self, http_only: bool) -> Self {
        self.flags.http_only = http_only;
        self
    }

    /// Sets the `SameSite` attribute. Default: no attribute.
    ///
    /// ```
    /// use tower_outbound::cookie::{Cookie, SameSite};
    ///
    /// let builder = Cookie::builder("id", "42").domain("example.com").same_site(SameSite::Lax);
    /// assert_eq!(builder.build()?.same_site(), Some(SameSite::Lax));
    /// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
    /// ```
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.flags.same_site = Some(same_site);
        self
    }

    /// Sets the `Partitioned` attribute, which has no effect here. Default: false.
    ///
    /// ```
    /// use tower_outbound::cookie::Cookie;
    ///
    /// let cookie = Cookie::builder("id", "42").domain("example.com").partitioned(true).build()?;
    /// assert!(cookie.partitioned());
    /// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
    /// ```
    pub const fn partitioned(mut self, partitioned: bool) -> Self {
        self.flags.partitioned = partitioned;
        self
    }

    /// Sets when the cookie expires. Default: a session cookie. A jar keeps no cookie longer than
    /// 400 days.
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tower_outbound::cookie::Cookie;
    ///
    /// let in_an_hour = SystemTime::now() + Duration::from_secs(3600);
    /// let cookie = Cookie::builder("id", "42").domain("example.com").expires(in_an_hour).build()?;
    /// assert!(cookie.expires().is_some());
    /// # Ok::<(), tower_outbound::cookie::InvalidCookie>(())
    /// ```
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = to_millis(at);
        self
    }

    /// Checks the parts and builds the cookie.
    ///
    /// # Errors
    ///
    /// [`InvalidCookie`] names the part that no server could set, or that no `Cookie` header could
    /// carry.
    pub fn build(self) -> Result<Cookie, InvalidCookie> {
        // The clock of this machine: the jar that will hold the cookie is not known yet.
        let now = to_millis(SystemTime::now());
        let parts = Parts {
            name: &self.name,
            value: &self.value,
            domain: &self.domain,
            path: &self.path,
            flags: self.flags,
            created: now,
            times: Times { expires: self.expires, updated: now, sent: 0 },
        };
        Cookie::from_parts(parts, Door::Caller)
    }
}

impl fmt::Debug for CookieBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieBuilder")
            .field("name", &String::from_utf8_lossy(&self.name))
            .field("domain", &self.domain)
            .field("path", &self.path)
            .field("flags", &self.flags)
            .finish_non_exhaustive()
    }
}

/// Why a name and value, or the parts of a cookie, are not valid.
///
/// ```
/// use tower_outbound::cookie::{Cookie, InvalidCookie};
///
/// let cookie = Cookie::builder("id", "4;2").domain("example.com").build();
/// assert_eq!(cookie.expect_err("servers end a pair at `;`"), InvalidCookie::Value);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// There is neither a name nor a value, or no pair at all.
    Empty,
    /// The name holds `=`, `;` or a control character other than a tab, or begins or ends with
    /// white space.
    Name,
    /// The value holds `;` or a control character other than a tab, or begins or ends with white
    /// space.
    Value,
    /// Name and value together are longer than 4,096 bytes.
    TooLong,
    /// There is no domain, or no host can have it.
    Domain,
    /// The path does not begin with `/`, holds a control character other than a tab, or is too
    /// long.
    ///
    /// A caller may give at most 1,024 bytes without `;`, as in a `Path` attribute. From the
    /// `cookie_store` crate and from files, at most 3,072 bytes are allowed, and `;` is too, since
    /// the path may come from a URI.
    Path,
    /// The bytes are incomplete, or [`Cookie::to_bytes`] did not write them.
    Bytes,
    /// A rule rejects the cookie, such as the one for names that begin with `__Host-`.
    Rule(Rejection),
}

impl InvalidCookie {
    /// The part that is wrong. Never text of the cookie, which may be a secret.
    pub(in crate::cookie) const fn reason(self) -> &'static str {
        match self {
            Self::Empty => "a cookie needs a name or a value",
            Self::Name => {
                "a cookie's name cannot hold control characters, `=`, `;` or outer white space"
            }
            Self::Value => {
                "a cookie's value cannot hold control characters, `;` or outer white space"
            }
            Self::TooLong => "a cookie's name and value are at most 4096 bytes together",
            Self::Domain => "a cookie needs the domain of a host, such as `example.com`",
            Self::Path => {
                "a cookie's path begins with `/`, is not too long and has no control character; a \
                 caller's has no `;`"
            }
            Self::Bytes => "the bytes are not those of a whole cookie",
            Self::Rule(_) => "a rule forbids the cookie",
        }
    }
}

impl fmt::Display for InvalidCookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule(rejection) => rejection.fmt(f),
            _ => f.write_str(self.reason()),
        }
    }
}

impl error::Error for InvalidCookie {}

/// Whether a server would read the same name and value from a `Cookie` header.
pub(in crate::cookie) fn check_pair(name: &[u8], value: &[u8]) -> Result<(), InvalidCookie> {
    // Servers split pairs at `;` and trim them. A control character can end the header itself, so
    // that a value could add headers of its own.
    let plain = |text: &[u8]| {
        trim(text) == text && !text.iter().any(|&byte| is_control(byte) || byte == b';')
    };
    if name.is_empty() && value.is_empty() {
        Err(InvalidCookie::Empty)
    // The first `=` separates name and value, so only a value may hold one.
    } else if !plain(name) || name.contains(&b'=') {
        Err(InvalidCookie::Name)
    } else if !plain(value) {
        Err(InvalidCookie::Value)
    } else if name.len() + value.len() > MAX_PAIR {
        Err(InvalidCookie::TooLong)
    } else {
        Ok(())
    }
}
