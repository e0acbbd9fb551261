//! How much of one key is given to a store. A site can invent names without end, and what a jar
//! evicts because of them is not written. Uses no clock and no lock.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use crate::{
    cookie::Cookie,
    session::record::{Entry, Field, STAMP_LIMIT},
};

/// Most records of one key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound {
    /// Most cookies. Above it the next write deletes some.
    pub(super) cookies: usize,
    /// Most cookies and tombstones. Above it a cookie that the store lacks is not written.
    pub(super) all: usize,
}

/// Clocks of replicas differ. A replica that is ahead must not delete a cookie that is alive for
/// the others.
const SURELY_EXPIRED: Duration = Duration::from_secs(24 * 60 * 60);

impl Bound {
    /// Above the limit of a jar: an eviction concerns one replica, and removes nothing from the
    /// store until the store has twice as much as a jar holds.
    pub(super) const fn of_jar(per_site: usize) -> Self {
        Self { cookies: per_site.saturating_mul(2), all: per_site.saturating_mul(6) }
    }

    /// What the next write deletes: cookies that expired more than a day ago, and a record by one
    /// kind of origin that the other kind has replaced. Above the limit also: expired cookies
    /// first, then those that are not `Secure`, then the others, each the oldest first.
    ///
    /// A deletion has the stamp right after the cookie's, so that anyone who sets the cookie
    /// meanwhile wins.
    ///
    /// A cookie with the last possible stamp stays.
    pub(super) fn surplus(self, contents: &[Entry], now: SystemTime) -> Vec<Entry> {
        let mut cookies: Vec<_> = contents
            .iter()
            .filter_map(|entry| {
                let cookie = entry.cookie.as_ref()?;
                let expired = cookie.expires().and_then(|at| now.duration_since(at).ok());
                Some((expired, cookie.secure(), entry))
            })
            .collect();
        cookies.sort_unstable_by_key(|(expired, is_secure, entry)| {
            (expired.is_none(), *is_secure, entry.stamp)
        });
        let stamps: HashMap<_, _> =
            contents.iter().map(|entry| ((entry.from_secure, &entry.id), entry.stamp)).collect();
        let guarded: HashSet<_> = cookies
            .iter()
            .filter(|(_, is_secure, _)| *is_secure)
            .filter_map(|(.., entry)| entry.cookie.as_ref().map(Cookie::name))
            .collect();
        // The cookie has another, later record, so the older one is no longer needed. A change by
        // an origin that is not secure counts only if no `Secure` cookie can refuse it. If the
        // older record stayed, it would apply again after the tombstone of the later one is
        // removed.
        let is_superseded = |entry: &Entry| {
            let may_refuse = |cookie: &Cookie| guarded.contains(&cookie.name());
            let is_guarded = entry.from_secure && entry.cookie.as_ref().is_some_and(may_refuse);
            let other = stamps.get(&(!entry.from_secure, &entry.id));
            // Not if it is the next stamp: the deletion would have the stamp of the other record.
            !is_guarded && other.is_some_and(|other| *other > entry.stamp + 1)
        };
        let over = cookies.len().saturating_sub(self.cookies);
        let is_surplus =
            |(place, (expired, _, entry)): &(usize, &(Option<Duration>, bool, &Entry))| {
                let is_expired = expired.is_some_and(|since| since > SURELY_EXPIRED);
                let has_next = entry.stamp < STAMP_LIMIT - 1;
                has_next && (*place < over || is_expired || is_superseded(entry))
            };
        let surplus = cookies.iter().enumerate().filter(is_surplus);
        surplus.map(|(_, (.., entry))| entry.deleted()).collect()
    }

    /// Separates what may be written from what the store has no room for.
    pub(super) fn fitting(
        self,
        stored: &HashSet<Field>,
        entries: impl Iterator<Item = Entry>,
    ) -> (Vec<Entry>, Vec<Entry>) {
        let mut room = self.all.saturating_sub(stored.len());
        entries.partition(|entry| {
            let is_known = stored.contains(&entry.field());
            let fits = is_known || room > 0;
            room -= usize::from(fits && !is_known);
            fits
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Its name, its stamp, whether it is `Secure`, and when it expires.
    fn entry(&(name, stamp, is_secure, expires): &(&str, u64, bool, Option<u64>)) -> Entry {
        let cookie = Cookie::builder(name, "1").domain("example.com").secure(is_secure);
        let cookie = match expires {
            Some(seconds) => cookie.expires(at(seconds)),
            None => cookie,
        };
        let cookie = cookie.build().unwrap();
        Entry { id: cookie.id(), from_secure: true, stamp, cookie: Some(cookie) }
    }

    #[test]
    fn expired_cookies_are_deleted_first_and_secure_ones_last() {
        const DAY: u64 = 24 * 60 * 60;
        let now = at(10 * DAY);
        let rows: &[(&[(&str, u64, bool, Option<u64>)], &[&str])] = &[
            (&[("a", 1, true, None), ("b", 2, false, None)], &[]),
            (&[("a", 1, true, None), ("b", 2, false, None), ("c", 3, false, None)], &["b"]),
            (&[("a", 3, true, None), ("b", 2, true, None), ("c", 1, true, None)], &["c"]),
            (&[("a", 1, false, None), ("b", 2, true, Some(9 * DAY)), ("c", 3, true, None)], &["b"]),
            // Below the limit what has just expired stays, and what has long expired does not.
            (&[("a", 1, false, Some(9 * DAY + 1))], &[]),
            (&[("a", 1, false, Some(9 * DAY - 1))], &["a"]),
        ];
        let bound = Bound { cookies: 2, all: 9 };
        for (cookies, want) in rows {
            let contents: Vec<_> = cookies.iter().map(entry).collect();
            let surplus = bound.surplus(&contents, now);
            let names: Vec<_> = surplus
                .iter()
                .map(|gone| {
                    let old = contents.iter().find(|old| old.id == gone.id).unwrap();
                    assert_eq!(gone.stamp, old.stamp + 1);
                    old.cookie.as_ref().unwrap().name().into_owned()
                })
                .collect();
            assert_eq!(names, *want, "{cookies:?}");
        }
    }

    #[test]
    fn what_a_secure_origin_has_replaced_is_deleted() {
        let secure = entry(&("a", 5, false, None));
        // The stamp of what an origin that is not secure has set, and whether it is deleted.
        for (stamp, is_deleted) in [(3, true), (4, false), (5, false), (6, false)] {
            let insecure = Entry { from_secure: false, stamp, ..secure.clone() };
            let surplus = Bound { cookies: 9, all: 9 }.surplus(&[secure.clone(), insecure], at(0));
            let stamps: Vec<_> =
                surplus.iter().map(|gone| (gone.from_secure, gone.stamp)).collect();
            let want = if is_deleted { vec![(false, stamp + 1)] } else { vec![] };
            assert_eq!(stamps, want, "{stamp}");
        }
    }

    #[test]
    fn what_an_origin_that_is_not_secure_has_replaced_is_deleted() {
        let old = entry(&("a", 3, false, None));
        let secure = Entry { stamp: 3, ..entry(&("a", 3, true, None)) };
        let path = Cookie::builder("a", "1").domain("example.com").path("/x").secure(true);
        let shadow = path.build().unwrap();
        let shadow = Entry { id: shadow.id(), cookie: Some(shadow), ..old.clone() };
        // The stamp of the later deletion, what else there is, and whether the old one is deleted.
        let rows = [
            (5, vec![old.clone()], true),
            (4, vec![old.clone()], false),
            (2, vec![old.clone()], false),
            (5, vec![secure], false),
            // It may have refused the deletion.
            (5, vec![old.clone(), shadow], false),
        ];
        for (stamp, mut contents, is_deleted) in rows {
            contents.push(Entry { from_secure: false, stamp, cookie: None, ..old.clone() });
            let surplus = Bound { cookies: 9, all: 9 }.surplus(&contents, at(0));
            let stamps: Vec<_> =
                surplus.iter().map(|gone| (gone.from_secure, gone.stamp)).collect();
            assert_eq!(stamps, if is_deleted { vec![(true, 4)] } else { vec![] }, "{stamp}");
        }
    }

    #[test]
    fn what_has_the_last_stamp_is_not_deleted() {
        for (stamp, is_deleted) in [(STAMP_LIMIT - 2, true), (STAMP_LIMIT - 1, false)] {
            let contents = [entry(&("a", stamp, false, None))];
            let surplus = Bound { cookies: 0, all: 9 }.surplus(&contents, at(0));
            assert_eq!(surplus.len(), usize::from(is_deleted), "{stamp}");
        }
    }

    #[test]
    fn a_full_store_takes_changes_of_what_it_has_and_nothing_new() {
        let bound = Bound { cookies: 2, all: 3 };
        let entries = ["a", "new", "b", "newer"].map(|name| entry(&(name, 9, true, None)));
        let stored = |names: &[&str]| {
            names.iter().map(|name| entry(&(name, 1, true, None)).id.as_bytes().into()).collect()
        };
        let rows: &[(&[&str], &[&str])] = &[
            (&["a", "b", "c"], &["a", "b"]),
            (&["a", "b"], &["a", "new", "b"]),
            (&["a"], &["a", "new", "b"]),
            (&[], &["a", "new", "b"]),
        ];
        for (has, want) in rows {
            let (fitting, left) = bound.fitting(&stored(has), entries.iter().cloned());
            let names: Vec<_> =
                fitting.iter().map(|entry| entry.cookie.as_ref().unwrap().name()).collect();
            assert_eq!(names, *want, "{has:?}");
            assert_eq!(fitting.len() + left.len(), entries.len());
        }
    }
}
