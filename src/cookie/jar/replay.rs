//! Merges the changes of several jars: what one jar would hold if it had received all of them in
//! the order of their times. Pure: values in, values out.

use std::collections::HashMap;

use super::change::{Change, Stamp};
use crate::cookie::model::{
    id::CookieId, set_cookie::trim, shield::shields, suffix::PublicSuffixes,
};

/// The last change of a cookie that applies.
#[derive(Clone, Copy)]
pub(in crate::cookie) struct Last<'a> {
    pub(in crate::cookie) change: &'a Change,
    pub(in crate::cookie) is_ours: bool,
    /// If an origin that is not secure made it: when a secure one last changed the cookie before.
    pub(in crate::cookie) after_secure: Option<Stamp>,
}

#[derive(Default)]
pub(in crate::cookie) struct Outcome<'a> {
    pub(in crate::cookie) last: HashMap<&'a CookieId, Last<'a>>,
    /// Our changes that a `Secure` cookie of theirs forbids, each with that cookie.
    pub(in crate::cookie) refused: Vec<(&'a Change, &'a CookieId)>,
}

/// Replays changes. At equal times ours counts as the later one.
///
/// A change by a non-secure origin that a `Secure` cookie forbids is refused. If our jar still
/// `has` the `Secure` cookie, and it is ours, the jar has judged our change already. If our jar has
/// evicted it, the jar could not judge.
pub(in crate::cookie) fn replay<'a>(
    theirs: &'a [Change],
    ours: &'a [Change],
    has: impl Fn(&CookieId) -> bool,
    suffixes: &PublicSuffixes,
) -> Outcome<'a> {
    let whose = |is_ours| {
        move |change: &'a Change| {
            change.replaced().into_iter().chain([change]).map(move |change| (change, is_ours))
        }
    };
    let mut all: Vec<(&Change, bool)> =
        theirs.iter().flat_map(whose(false)).chain(ours.iter().flat_map(whose(true))).collect();
    all.sort_by_key(|(change, is_ours)| (change.at, *is_ours));
    let mut outcome = Outcome::default();
    // The `Secure` cookies of a site by name: a file may have a `sid` for each of 100,000 sites.
    let mut secure: HashMap<(&str, &[u8]), Vec<&CookieId>> = HashMap::new();
    for (change, is_ours) in all {
        let (id, site) = (&change.id, suffixes.site(change.id.domain()).key);
        if !change.from_secure {
            let names = names(change);
            let mut ids = names.iter().filter_map(|name| secure.get(&(site, *name))).flatten();
            let shield = ids.find(|id| {
                let last = outcome.last.get(**id);
                last.is_some_and(|last| {
                    let is_judged = is_ours && last.is_ours && has(id);
                    !is_judged && forbids(last.change, change)
                })
            });
            if let Some(&shield) = shield {
                if is_ours {
                    outcome.refused.push((change, shield));
                }
                continue;
            }
        }
        if change.cookie().is_some_and(|cookie| cookie.data.flags.secure) {
            secure.entry((site, id.identity().name)).or_default().push(id);
        }
        let before = outcome.last.get(id).filter(|_| !change.from_secure);
        let after_secure = before.and_then(|last| match last.change.from_secure {
            true => Some(last.change.at),
            false => last.after_secure,
        });
        outcome.last.insert(id, Last { change, is_ours, after_secure });
    }
    outcome
}

fn value(change: &Change) -> &[u8] {
    change.cookie().map_or(&[], |cookie| cookie.data.value())
}

/// The names that a server may read it as.
fn names(change: &Change) -> [&[u8]; 2] {
    let name = change.id.identity().name;
    let read = value(change).split(|&byte| byte == b'=').next().unwrap_or_default();
    // A repeated name does no harm.
    [name, if name.is_empty() { trim(read) } else { name }]
}

fn forbids(old: &Change, new: &Change) -> bool {
    old.cookie().is_some_and(|old| {
        // At the time of the change: a `Secure` cookie that had expired by then forbids nothing.
        old.times.expires > new.at / 1_000 && shields(&old.data, &new.id.identity(), value(new))
    })
}
