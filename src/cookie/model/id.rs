//! The identity of a cookie in another jar, a file or a store, and a cookie as bytes.

use std::fmt;

use super::{
    cookie::{Cookie, Door, InvalidCookie, Parts},
    data::{Flags, Identity, SameSite, Times},
};

/// The identity of a cookie: host-only flag, domain, path and name, but not the value.
///
/// Two cookies with one id are the same cookie: in a jar, the later one replaces the earlier one.
/// From [`Cookie::id`] or [`Change::id`](crate::cookie::Change::id).
///
/// ```
/// use tower_outbound::cookie::{Cookie, CookieId};
///
/// // As most servers set it: without a `Domain`.
/// let old = Cookie::builder("id", "1").domain("example.com").host_only(true).build()?;
/// let new = Cookie::builder("id", "2").domain("example.com").host_only(true).build()?;
/// assert_eq!(old.id(), new.id());
/// assert_eq!(old.id().as_bytes(), b"=example.com\0/\0id");
/// assert_eq!(old.id().domain(), "example.com");
/// assert_eq!(CookieId::from_bytes(b"=example.com\0/\0id"), Some(old.id()));
///
/// // The one that `Domain=example.com` sets is another cookie.
/// let wide = Cookie::builder("id", "3").domain("example.com").build()?;
/// assert_eq!(wide.id().as_bytes(), b"-example.com\0/\0id");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: RFC 6265bis section 5.7, step 23.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CookieId(Box<[u8]>);

/// The first byte of the id of a host-only cookie.
const HOST_ONLY: u8 = b'=';
/// The first byte of any other id.
const SUBDOMAINS: u8 = b'-';

impl CookieId {
    pub(in crate::cookie) fn of(identity: &Identity<'_>) -> Self {
        let Identity { name, domain, path, host_only } = *identity;
        let first = if host_only { HOST_ONLY } else { SUBDOMAINS };
        // No part can hold a NUL, so that two cookies never come to the same bytes.
        Self([&[first], domain, b"\0", path, b"\0", name].concat().into())
    }

    /// Returns the id as bytes, for a key in a store: `=` if the cookie is host-only, otherwise
    /// `-`; then domain, path and name with a NUL byte between them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads an id from bytes. `None` if they are not those of an id.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = bytes.split_first()?;
        let mut parts = rest.split(|&byte| byte == 0);
        let is_text = parts.next().is_some_and(|domain| str::from_utf8(domain).is_ok());
        let is_id = matches!(*first, HOST_ONLY | SUBDOMAINS) && is_text && parts.count() == 2;
        is_id.then(|| Self(bytes.into()))
    }

    pub(in crate::cookie) fn identity(&self) -> Identity<'_> {
        let host_only = self.0.first() == Some(&HOST_ONLY);
        let mut parts = self.0.get(1..).unwrap_or_default().split(|&byte| byte == 0);
        let mut part = || parts.next().unwrap_or_default();
        let (domain, path, name) = (part(), part(), part());
        Identity { name, domain, path, host_only }
    }

    /// The domain of the cookie, in lower case and without a leading dot.
    #[must_use]
    pub fn domain(&self) -> &str {
        let domain = self.0.get(1..).and_then(|rest| rest.split(|&byte| byte == 0).next());
        str::from_utf8(domain.unwrap_or_default()).unwrap_or_default()
    }
}

// As `Cookie`: the name and where it belongs.
impl fmt::Debug for CookieId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieId(\"{}\")", self.0.escape_ascii())
    }
}

/// The first byte of a cookie's bytes. Another one would be another layout.
const LAYOUT: u8 = 1;
/// The layout, the flags, three times, and the lengths of name, value and domain.
const HEAD: usize = 2 + 3 * 8 + 3 * 2;

impl Cookie {
    /// Returns the identity of the cookie: host-only flag, domain, path and name.
    #[must_use]
    pub fn id(&self) -> CookieId {
        CookieId::of(&self.data.identity())
    }

    /// Returns the whole cookie as bytes: 32 and its text. For a store that keeps each cookie by
    /// itself.
    ///
    /// The bytes hold the value: seal them if others can read the store. They also hold the times
    /// of creation and of the last `Set-Cookie`, but not of the last use.
    ///
    /// ```
    /// use tower_outbound::cookie::Cookie;
    ///
    /// let cookie = Cookie::builder("id", "42").domain("example.com").host_only(true).build()?;
    /// let again = Cookie::from_bytes(&cookie.to_bytes())?;
    /// assert_eq!((again.id(), again.value()), (cookie.id(), "42".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let Flags { host_only, secure, http_only, partitioned, same_site } = self.data.flags;
        let same_site = match same_site {
            None => 0,
            Some(SameSite::Strict) => 1,
            Some(SameSite::Lax) => 2,
            Some(SameSite::None) => 3,
        };
        let flags = [host_only, secure, http_only, partitioned];
        let flags = flags.iter().rev().fold(same_site, |bits, &flag| bits << 1 | u8::from(flag));
        let mut bytes = vec![LAYOUT, flags];
        for time in [self.data.created, self.times.updated, self.times.expires] {
            bytes.extend(time.to_le_bytes());
        }
        let (name, value) = (self.data.name(), self.data.value());
        let (domain, path) = (self.data.domain_bytes(), self.data.path_bytes());
        for part in [name, value, domain] {
            // The rules bound each of them: see `Data::new`.
            bytes.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        bytes.extend([name, value, domain, path].concat());
        bytes
    }

    /// Reads a cookie from the bytes that [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    ///
    /// [`InvalidCookie::Bytes`] if the bytes are incomplete, or `to_bytes` did not write them.
    /// Another [`InvalidCookie`] if no cookie can have these parts. The rules of a jar are not
    /// checked here.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidCookie> {
        let (head, text) = bytes.split_first_chunk::<HEAD>().ok_or(InvalidCookie::Bytes)?;
        let [LAYOUT, flags, rest @ ..] = head else { return Err(InvalidCookie::Bytes) };
        let (times, lengths) = rest.split_at(3 * 8);
        let time = |nth: usize| {
            let bytes = times.chunks_exact(8).nth(nth).and_then(|chunk| chunk.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let mut lengths =
            lengths.chunks_exact(2).map(|pair| usize::from(pair[0]) | usize::from(pair[1]) << 8);
        let mut rest = text;
        let mut part = || {
            let (part, after) = rest.split_at_checked(lengths.next()?)?;
            rest = after;
            Some(part)
        };
        let (name, value, domain) = (part(), part(), part());
        let [Some(name), Some(value), Some(domain)] = [name, value, domain] else {
            return Err(InvalidCookie::Bytes);
        };
        let same_site = match flags >> 4 {
            0 => None,
            1 => Some(SameSite::Strict),
            2 => Some(SameSite::Lax),
            3 => Some(SameSite::None),
            _ => return Err(InvalidCookie::Bytes),
        };
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let parts = Parts {
            name,
            value,
            domain: str::from_utf8(domain).map_err(|_| InvalidCookie::Domain)?,
            path: str::from_utf8(rest).map_err(|_| InvalidCookie::Path)?,
            flags: Flags {
                host_only: flag(0),
                secure: flag(1),
                http_only: flag(2),
                partitioned: flag(3),
                same_site,
            },
            created: time(0),
            times: Times { updated: time(1), expires: time(2), sent: 0 },
        };
        Self::from_parts(parts, Door::File)
    }
}
