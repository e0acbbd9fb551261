//! `Cookie`, the value a user sees, and its builder.

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
    // NEVER is taken, and no calendar reaches it.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        since
            .as_secs()
            .saturating_mul(1000)
            .saturating_add(since.subsec_millis().into())
            .min(NEVER - 1)
    })
}

pub(in crate::cookie) fn to_time(millis: Millis) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// A cookie as a jar holds it: a snapshot, cheap to clone.
///
/// Its `Debug` names the cookie and where it belongs, never its value.
///
/// ```
/// use tower_outbound::cookie::{Cookie, CookieJar};
///
/// let jar = CookieJar::new();
/// jar.insert(Cookie::builder("theme", "dark").domain("example.com").secure(true).build()?);
///
/// let cookie = jar.get("theme")?.expect("it was just inserted");
/// assert_eq!((cookie.value(), cookie.domain(), cookie.path()), ("dark".into(), "example.com", "/"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Cookie {
    pub(in crate::cookie) data: Data,
    pub(in crate::cookie) times: Times,
    /// Its place among the jar's cookies of the same millisecond.
    pub(in crate::cookie) order: u64,
}

impl Cookie {
    /// Starts a cookie that no server sent. It must be given a [`domain`](CookieBuilder::domain).
    ///
    /// Default: sent to the domain and its subdomains, for every path, over any scheme, until the
    /// session ends.
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

    /// The name; empty for a nameless cookie. Bytes that are not UTF-8 are shown as U+FFFD.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data.name())
    }

    /// The value as it was sent, neither decoded nor unquoted. Bytes that are not UTF-8 are shown
    /// as U+FFFD.
    #[must_use]
    pub fn value(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.data.value())
    }

    /// The value, byte for byte.
    #[must_use]
    pub fn value_bytes(&self) -> &[u8] {
        self.data.value()
    }

    /// The domain, lower case and without a leading dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.data.domain()
    }

    /// Whether it goes to [`domain`](Self::domain) alone, not to its subdomains (RFC 6265bis:
    /// host-only-flag).
    #[must_use]
    pub fn host_only(&self) -> bool {
        self.data.flags.host_only
    }

    /// The path below which it is sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.data.path()
    }

    /// Whether it is sent over secure connections alone.
    #[must_use]
    pub fn secure(&self) -> bool {
        self.data.flags.secure
    }

    /// Whether the server asked that scripts do not see it. A client without scripts sends it like
    /// any other.
    #[must_use]
    pub fn http_only(&self) -> bool {
        self.data.flags.http_only
    }

    /// The `SameSite` attribute; `None` where there was none that is known.
    #[must_use]
    pub fn same_site(&self) -> Option<SameSite> {
        self.data.flags.same_site
    }

    /// Whether the server asked for a partitioned cookie. Stored and reported: this client has no
    /// partitions.
    #[must_use]
    pub fn partitioned(&self) -> bool {
        self.data.flags.partitioned
    }

    /// When it expires; `None` for a session cookie.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        (self.times.expires != NEVER).then(|| to_time(self.times.expires))
    }

    /// When it was first stored. A new value does not change it.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        to_time(self.data.created)
    }

    /// When it was last sent or stored, as of this snapshot.
    #[must_use]
    pub fn last_access(&self) -> SystemTime {
        to_time(self.times.updated.max(self.times.sent))
    }
}

impl Cookie {
    /// What `rules` admitted, as it would be stored: for a policy to look at.
    pub(in crate::cookie) fn admitted(new: &Admitted<'_>, now: Millis) -> Self {
        Self {
            data: new.to_data(now),
            times: Times { expires: new.expires, updated: now, sent: 0 },
            order: 0,
        }
    }

    /// Makes a cookie that no server sent. Every such cookie comes in here; [`Door`] says what the
    /// doors differ in.
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
        let is_short = || path.len() <= MAX_ATTRIBUTE && !path.contains(';');
        if !is_path(path) || door == Door::Caller && !is_short() {
            return Err(InvalidCookie::Path);
        }
        // An address has no subdomains, whatever the giver says (RFC 6265bis section 5.1.3).
        flags.host_only |= stands_alone(&domain);
        let data = Data::new(name, value, &domain, path, flags, created);
        let cookie = Self { data, times, order: 0 };
        match door {
            Door::Caller | Door::Store => cookie.promises().map_err(InvalidCookie::Rule)?,
            Door::File => {}
        }
        Ok(cookie)
    }

    /// Whether it keeps what its name promises.
    fn promises(&self) -> Result<(), Rejection> {
        let data = &self.data;
        rules::prefixes(data.name(), data.value(), data.flags, data.path() == "/")
    }

    /// Whether a server of its domain could have set it. Nothing else tells, since a file or
    /// another store does not say which host did.
    pub(in crate::cookie) fn judge(&self, suffixes: &PublicSuffixes) -> Result<(), Rejection> {
        // A host-only cookie reaches no stranger, even on a public suffix's own host.
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

/// Who gives the parts of a cookie. Pair, domain, path and host-only flag are checked alike for
/// all; the differences are these.
///
/// | | `Caller` | `Store` | `File` |
/// |---|---|---|---|
/// | longest path, in bytes | 1,024 | 3,072 | 3,072 |
/// | `;` in the path | no | yes | yes |
/// | `*`, `,` and `;` in the domain | no | yes | yes |
/// | a broken rule is | an error | an error | left to the jar |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cookie) enum Door {
    /// A person, who writes what a `Path` attribute can say, and by a `*` or `,` means a pattern or
    /// a list.
    Caller,
    /// Another crate's store. Its paths and domains may be a request's own, which can hold `;` and
    /// `,`, and whose path is up to three times as long once its bytes are replaced by U+FFFD.
    #[cfg_attr(not(feature = "cookie_store"), expect(dead_code, reason = "it has no store"))]
    Store,
    /// A file: as a store, but what a rule refuses is read all the same, so that a save keeps it
    /// for programs that know another rule. See [`Cookie::judge`].
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

/// Builds a [`Cookie`] that no server sent.
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

impl CookieBuilder {
    /// The domain it belongs to, as the `Domain` attribute: with its subdomains, unless
    /// [`host_only`](Self::host_only) is set. Required. One leading dot is dropped.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = domain.into();
        self
    }

    /// Whether subdomains are left out. Default: false. Addresses and single labels are host-only
    /// whatever this says.
    pub const fn host_only(mut self, host_only: bool) -> Self {
        self.flags.host_only = host_only;
        self
    }

    /// The path below which it is sent. Default: `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Whether it is for secure connections alone. Default: false.
    pub const fn secure(mut self, secure: bool) -> Self {
        self.flags.secure = secure;
        self
    }

    /// The `HttpOnly` attribute. Default: false.
    pub const fn http_only(mut self, http_only: bool) -> Self {
        self.flags.http_only = http_only;
        self
    }

    /// The `SameSite` attribute. Default: none.
    pub const fn same_site(mut self, same_site: SameSite) -> Self {
        self.flags.same_site = Some(same_site);
        self
    }

    /// The `Partitioned` attribute. Default: false.
    pub const fn partitioned(mut self, partitioned: bool) -> Self {
        self.flags.partitioned = partitioned;
        self
    }

    /// When it expires; a jar keeps no cookie for more than 400 days. Default: a session cookie.
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = to_millis(at);
        self
    }

    /// Checks what was given and makes the cookie.
    ///
    /// # Errors
    ///
    /// [`InvalidCookie`] says which part a server could not have set or a `Cookie` header could not
    /// carry.
    pub fn build(self) -> Result<Cookie, InvalidCookie> {
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

/// Why a name and value, or a built cookie, can be no cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidCookie {
    /// No name and no value, or no pair at all.
    Empty,
    /// The name holds a control character, `=` or `;`, or begins or ends with white space.
    Name,
    /// The value holds a control character or `;`, or begins or ends with white space.
    Value,
    /// Name and value are longer than 4,096 bytes together.
    TooLong,
    /// No domain, or one that no host can have.
    Domain,
    /// The path does not begin with a slash, holds a control character or `;`, or is too long: over
    /// 1,024 bytes where a caller builds the cookie, over 3,072 from the `cookie_store` crate,
    /// whose paths may hold a `;`, as a URI's may.
    Path,
    /// A rule forbids it.
    Rule(Rejection),
}

impl InvalidCookie {
    /// The part that is wrong, or that a rule is.
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
                "a cookie's path begins with `/`, has no control character (a caller's no `;`) and is not too long"
            }
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

/// What a `Cookie` header can carry so that the server reads the same name and value again.
pub(in crate::cookie) fn check_pair(name: &[u8], value: &[u8]) -> Result<(), InvalidCookie> {
    let plain = |text: &[u8]| {
        trim(text) == text && !text.iter().any(|&byte| is_control(byte) || byte == b';')
    };
    if name.is_empty() && value.is_empty() {
        Err(InvalidCookie::Empty)
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
