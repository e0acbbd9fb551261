//! The merge of a save: what the jar held when it last met the file, what it holds, and what the
//! file holds by now. Pure: values in, values out.

use std::collections::{HashMap, HashSet};

use crate::cookie::{
    format::{Entry, Format},
    model::cookie::Cookie,
    model::data::Data,
};

/// Jar and file as they were when they last met: what tells our changes from those of others. They
/// are two, since a jar caps lifetimes and has limits, and a file's format does not know all that a
/// jar does.
pub(super) struct Base {
    /// What [`CookieJar::changes`](crate::cookie::CookieJar::changes) said then; `None` before the first time.
    pub(super) changes: Option<u64>,
    pub(super) jar: Cookies,
    /// `None` where the jar has never been in the file: what the file lacks was then not taken out
    /// by another.
    pub(super) file: Option<HashSet<Identity>>,
}

pub(super) type Cookies = HashMap<Identity, Cookie>;

pub(super) fn by_identity(cookies: impl IntoIterator<Item = Cookie>) -> Cookies {
    cookies.into_iter().map(|cookie| (Identity(cookie.data.clone()), cookie)).collect()
}

pub(super) fn identities<'a>(cookies: impl IntoIterator<Item = &'a Cookie>) -> HashSet<Identity> {
    cookies.into_iter().map(|cookie| Identity(cookie.data.clone())).collect()
}

/// A cookie by its name, domain, host-only flag and path.
#[derive(Clone)]
pub(super) struct Identity(pub(super) Data);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_identity(&other.0)
    }
}

impl Eq for Identity {}

impl std::hash::Hash for Identity {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.0.name(), self.0.domain(), self.0.path(), self.0.flags.host_only).hash(state);
    }
}

/// A merge of three: `theirs` is what the file holds by now, in its order; what only we have comes
/// after. What is no cookie stays in its place.
pub(super) fn merge(
    format: Format,
    base: &Base,
    ours: &[Cookie],
    theirs: impl IntoIterator<Item = Entry>,
) -> Vec<Entry> {
    let by_us = |identity: &Identity, cookie: &Cookie| {
        base.file.is_none()
            || base.jar.get(identity).is_none_or(|old| format.tells_apart(old, cookie))
    };
    let renewed = |identity: &Identity, cookie: &Cookie| {
        // What our jar held, not what the file did: a value that another set before our last save
        // is as unknown to the jar.
        let held =
            base.jar.get(identity).is_some_and(|old| old.data.value() == cookie.data.value());
        base.file.as_ref().is_some_and(|file| !held || !file.contains(identity))
    };
    let own = by_identity(ours.iter().cloned());
    let mut merged = Vec::new();
    let mut seen = HashSet::new();
    for entry in theirs {
        let cookie = match entry {
            Entry::Cookie(cookie) => cookie,
            kept @ Entry::Kept(_) => {
                merged.push(kept);
                continue;
            }
        };
        let identity = Identity(cookie.data.clone());
        let left = match own.get(&identity) {
            Some(own) if by_us(&identity, own) => Some(used_as(own.clone(), &cookie)),
            Some(own) => Some(used_as(cookie, own)),
            // We have taken out what we once had, unless another has given it a new value since.
            None if base.jar.contains_key(&identity) && !renewed(&identity, &cookie) => None,
            None => Some(cookie),
        };
        merged.extend(left.map(Entry::Cookie));
        seen.insert(identity);
    }
    for cookie in ours {
        let identity = Identity(cookie.data.clone());
        if !seen.contains(&identity) && by_us(&identity, cookie) {
            merged.push(Entry::Cookie(cookie.clone()));
        }
    }
    merged
}

/// One of two states of a cookie, made as early as the older and used as late as the other.
fn used_as(mut cookie: Cookie, other: &Cookie) -> Cookie {
    cookie.data.created = cookie.data.created.min(other.data.created);
    cookie.times.sent = cookie.times.sent.max(other.times.sent);
    cookie
}
