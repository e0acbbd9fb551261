//! What became of one response's cookies.

use std::{borrow::Cow, collections::BTreeMap};

use http::{HeaderMap, header::SET_COOKIE};

use super::bucket::Visit;
use crate::cookie::{event, model::cookie::Cookie, model::rules::Rejection, model::set_cookie};

/// Response extension: the cookies of this one response, present where it carried a `Set-Cookie`
/// and its request had an absolute URI.
///
/// requests: `response.cookies`.
#[derive(Clone, Debug, Default)]
pub struct ResponseCookies {
    accepted: Vec<Cookie>,
    rejected: Vec<RejectedCookie>,
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
        for line in headers.get_all(SET_COOKIE) {
            let line = line.as_bytes();
            let outcome = match visit {
                None => Err(Rejection::NoHost),
                // What is refused or only deletes takes no room, so it is not counted.
                Some(_) if cookies.accepted.len() >= per_response => Err(Rejection::TooMany),
                Some(visit) => store(visit, line),
            };
            match outcome {
                Ok(stored) => cookies.accept(stored),
                Err(reason) => cookies.reject(line, reason),
            }
        }
        cookies
    }

    /// The cookies that the rules accept, in the order they came; those that only deleted one are
    /// not among them.
    #[must_use]
    pub fn accepted(&self) -> &[Cookie] {
        &self.accepted
    }

    /// The others, and why.
    #[must_use]
    pub fn rejected(&self) -> &[RejectedCookie] {
        &self.rejected
    }

    /// The accepted cookie of that name; of several, the last.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Cookie> {
        self.accepted.iter().rev().find(|cookie| cookie.data.name() == name.as_bytes())
    }

    /// Names and values of those accepted; of several of one name, the last.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let pairs = self
            .accepted
            .iter()
            .map(|cookie| (cookie.name().into_owned(), cookie.value().into_owned()));
        pairs.collect()
    }

    /// Of a cookie that is set twice the last one stands; a deletion takes nothing back, since it
    /// is no cookie.
    fn accept(&mut self, cookie: Option<Cookie>) {
        if let Some(cookie) = cookie {
            self.accepted.retain(|other| !other.data.same_identity(&cookie.data));
            self.accepted.push(cookie);
        }
    }

    fn reject(&mut self, line: &[u8], reason: Rejection) {
        let cookie = RejectedCookie::new(line, reason);
        event::rejected(&cookie.name, reason);
        self.rejected.push(cookie);
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
        // A refused name can be of any length and hold anything; it is only there to be read by a
        // person.
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
