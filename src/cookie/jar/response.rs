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

/// Response extension: the cookies of this one response. Present if it has a `Set-Cookie` header
/// and its request had an absolute URI.
///
/// requests: `response.cookies`.
#[derive(Clone, Debug, Default)]
pub struct ResponseCookies {
    accepted: Vec<Cookie>,
    rejected: Vec<RejectedCookie>,
    deleted: Vec<DeletedCookie>,
}

impl ResponseCookies {
    /// What became of each `Set-Cookie` line: `store` says which cookie it left, or why none.
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
                // What is refused or only deletes takes no room in a jar, so it is not counted. In
                // the log of a jar a deletion does, so that they are counted for themselves.
                Some(_) if cookies.accepted.len() >= per_response => Err(Rejection::TooMany),
                Some(visit) if cookies.deleted.len() >= per_response && deletes(visit, line) => {
                    Err(Rejection::TooMany)
                }
                Some(visit) => store(visit, line),
            };
            match outcome {
                Ok(Some(stored)) => cookies.accept(stored),
                // Read once more, since responses that delete are few.
                Ok(None) => {
                    let read = visit.as_ref().and_then(|visit| rules::admit(visit, line).ok());
                    cookies.delete(read.as_ref());
                }
                Err(reason) => cookies.reject(line, reason),
            }
        }
        cookies
    }

    /// The cookies that the rules accept, in the order they came. A deletion is not among them, but
    /// among the [deleted](Self::deleted).
    #[must_use]
    pub fn accepted(&self) -> &[Cookie] {
        &self.accepted
    }

    /// The cookies that were not stored, with the reason for each.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedCookie] {
        &self.rejected
    }

    /// The cookies that the response deleted, in the order they came, whether or not the jar had
    /// them; one that the response deletes twice is listed twice. A server deletes a cookie by an
    /// expiry that is past, as a logout does.
    ///
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let logout = HeaderValue::from_static("sid=; Path=/; Expires=Thu, 01 Jan 1970 00:00:00 GMT");
    /// let headers = HeaderMap::from_iter([(SET_COOKIE, logout)]);
    /// let cookies = CookieJar::new().store_response(&"https://example.com/logout".parse()?, &headers);
    /// let sid = &cookies.deleted()[0];
    /// assert_eq!((sid.name(), sid.domain(), sid.path()), ("sid", "example.com", "/"));
    /// # Ok::<(), http::uri::InvalidUri>(())
    /// ```
    #[must_use]
    pub fn deleted(&self) -> &[DeletedCookie] {
        &self.deleted
    }

    /// The accepted cookie of that name. If there are several, the last one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Cookie> {
        // Two of one name differ in domain or path. The last one is what the server said last.
        self.accepted.iter().rev().find(|cookie| cookie.data.name() == name.as_bytes())
    }

    /// Names and values of the accepted cookies. If several have one name, the last one's value.
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

    /// Notes a deletion. It does not take back what was set before it.
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
        // Here, so that each way in has the event, and once.
        event::rejected(&cookie.name, reason);
        self.rejected.push(cookie);
    }
}

fn deletes(visit: &Visit<'_>, line: &[u8]) -> bool {
    rules::admit(visit, line).is_ok_and(|cookie| cookie.expires <= visit.now)
}

/// A cookie that a response deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedCookie {
    name: Box<str>,
    domain: Box<str>,
    path: Box<str>,
}

impl DeletedCookie {
    /// Its name. Bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its domain: the `Domain` attribute, or else the host that answered.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }
}

/// A cookie that was not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectedCookie {
    name: Box<str>,
    reason: Rejection,
}

impl RejectedCookie {
    fn new(line: &[u8], reason: Rejection) -> Self {
        // A refused name can be of any length and hold anything, escape sequences of terminals too.
        // It is only there to be read by a person.
        let name = set_cookie::name_of(line);
        let name = String::from_utf8_lossy(&name[..name.len().min(256)]);
        let name = match name {
            name if name.contains(char::is_control) => Cow::Owned(name.escape_debug().to_string()),
            name => name,
        };
        Self { name: name.into(), reason }
    }

    /// Its name: at most the first 256 bytes, control characters escaped.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which rule it broke.
    #[must_use]
    pub const fn reason(&self) -> Rejection {
        self.reason
    }
}
