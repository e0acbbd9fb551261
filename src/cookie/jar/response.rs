//! What became of one response's cookies.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, header::SET_COOKIE};

use crate::cookie::{
    event,
    model::cookie::Cookie,
    model::rules::{self, Admitted, Rejection},
    model::set_cookie,
    model::visit::Visit,
};

/// The cookies that one response set, deleted or had rejected: a response extension. Present if the
/// response has a `Set-Cookie` header and its request had an absolute URI.
///
/// ```
/// use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
/// use tower_outbound::cookie::{CookieJar, Rejection};
///
/// let lines = ["id=42", "session=7; Domain=com"].map(HeaderValue::from_static);
/// let headers = HeaderMap::from_iter(lines.map(|line| (SET_COOKIE, line)));
/// let cookies = CookieJar::new().store_response(&"https://example.com/".parse()?, &headers);
/// assert_eq!(cookies.get("id").expect("it was accepted").value(), "42");
/// assert_eq!(cookies.rejected()[0].name(), "session");
/// assert_eq!(cookies.rejected()[0].reason(), Rejection::PublicSuffix);
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
///
/// requests: `response.cookies`.
#[derive(Clone, Debug, Default)]
pub struct ResponseCookies {
    accepted: Vec<Cookie>,
    rejected: Vec<RejectedCookie>,
    deleted: Vec<DeletedCookie>,
}

impl ResponseCookies {
    /// Handles each `Set-Cookie` line: `store` returns the cookie that it left, or the reason for
    /// none.
    pub(in crate::cookie) fn of(
        visit: Option<&Visit<'_>>,
        headers: &HeaderMap,
        per_response: usize,
        mut store: impl FnMut(&Visit<'_>, &[u8]) -> Result<Option<Cookie>, Rejection>,
    ) -> Self {
        let mut cookies = Self::default();
        let visit = visit.map(|visit| visit.answered(headers));
        for line in headers.get_all(SET_COOKIE) {
            let line = line.as_bytes();
            let outcome = match &visit {
                None => Err(Rejection::NoHost),
                // A rejected cookie or a deletion takes no room in the jar, so it is not counted
                // here. A deletion takes room in a jar's log, so deletions are counted separately.
                Some(_) if cookies.accepted.len() >= per_response => Err(Rejection::TooMany),
                Some(visit) if cookies.deleted.len() >= per_response && deletes(visit, line) => {
                    Err(Rejection::TooMany)
                }
                Some(visit) => store(visit, line),
            };
            match outcome {
                Ok(Some(stored)) => cookies.accept(stored),
                // Read again, since few responses delete.
                Ok(None) => {
                    let read = visit.as_ref().and_then(|visit| rules::admit(visit, line).ok());
                    cookies.delete(read.as_ref());
                }
                Err(reason) => cookies.reject(line, reason),
            }
        }
        cookies
    }

    /// The cookies that the rules accept, in the order in which they came. If a response sets a
    /// cookie twice, the last one is listed. A later deletion in the same response does not remove
    /// it. Deletions are [listed separately](Self::deleted).
    #[must_use]
    pub fn accepted(&self) -> &[Cookie] {
        &self.accepted
    }

    /// The cookies that were rejected, with the reason for each.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedCookie] {
        &self.rejected
    }

    /// The cookies that the response deleted, in the order in which they came, whether or not the
    /// jar had them. A cookie that the response deletes twice is listed twice. A server deletes a
    /// cookie with an expiry in the past, for example at a logout.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let logout = "sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    /// let headers = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static(logout))]);
    /// let uri = "https://example.com/logout".parse()?;
    /// let cookies = CookieJar::new().store_response(&uri, &headers);
    /// let sid = &cookies.deleted()[0];
    /// assert_eq!((sid.name(), sid.domain(), sid.path()), ("sid", "example.com", "/"));
    /// # Ok::<(), http::uri::InvalidUri>(())
    /// ```
    #[must_use]
    pub fn deleted(&self) -> &[DeletedCookie] {
        &self.deleted
    }

    /// Returns the accepted cookie of that name. If there are several, the last one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Cookie> {
        // Two cookies of one name differ in domain or path. The last one is what the server said
        // last.
        self.accepted.iter().rev().find(|cookie| cookie.data.name() == name.as_bytes())
    }

    /// Names and values of the accepted cookies. If several have one name, the value of the last
    /// one.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let pairs = self
            .accepted
            .iter()
            .map(|cookie| (cookie.name().into_owned(), cookie.value().into_owned()));
        pairs.collect()
    }

    fn accept(&mut self, cookie: Cookie) {
        // If a response sets a cookie twice, the last one is kept, as in the jar.
        self.accepted.retain(|other| !other.data.same_identity(&cookie.data));
        self.accepted.push(cookie);
    }

    /// Notes a deletion. It does not remove a cookie that the response set before.
    fn delete(&mut self, cookie: Option<&Admitted<'_>>) {
        let deleted = cookie.map(|cookie| DeletedCookie {
            name: String::from_utf8_lossy(cookie.name).into(),
            domain: cookie.domain.as_ref().into(),
            path: cookie.path.as_ref().into(),
        });
        self.deleted.extend(deleted);
    }

    fn reject(&mut self, line: &[u8], reason: Rejection) {
        let cookie = RejectedCookie::new(line, reason);
        // Here, so that every caller emits the event once.
        event::rejected(&cookie.name, reason);
        self.rejected.push(cookie);
    }
}

fn deletes(visit: &Visit<'_>, line: &[u8]) -> bool {
    rules::admit(visit, line).is_ok_and(|cookie| cookie.expires <= visit.now)
}

/// A cookie that a response deleted. From [`ResponseCookies::deleted`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedCookie {
    name: Box<str>,
    domain: Box<str>,
    path: Box<str>,
}

impl DeletedCookie {
    /// The name. Bytes that are not UTF-8 are shown as U+FFFD.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The domain: the `Domain` attribute, or the host that answered.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// A cookie that was rejected. From [`ResponseCookies::rejected`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedCookie {
    name: Box<str>,
    reason: Rejection,
}

impl RejectedCookie {
    fn new(line: &[u8], reason: Rejection) -> Self {
        // A rejected name can have any length and content, also a terminal's escape sequences. It
        // is only for people to read.
        let name = set_cookie::name_of(line);
        let name = String::from_utf8_lossy(&name[..name.len().min(256)]);
        let name = match name {
            name if name.contains(char::is_control) => Cow::Owned(name.escape_debug().to_string()),
            name => name,
        };
        Self { name: name.into(), reason }
    }

    /// The name: at most its first 256 bytes, with control characters escaped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The rule that the cookie broke.
    #[must_use]
    pub const fn reason(&self) -> Rejection {
        self.reason
    }
}
