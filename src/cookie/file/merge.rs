//! The merge of a save: the changes of a jar, and what its file holds by now. Pure: values in,
//! values out.

use std::collections::{HashMap, HashSet};

use super::times::Times;
use crate::cookie::{
    format::{Entry, Format},
    jar::log::{Change, Stamp},
    model::{cookie::Cookie, id::CookieId},
};

/// What a file holds by now, and when that was set.
pub(super) struct Theirs<'a> {
    pub(super) entries: Vec<Entry>,
    pub(super) times: &'a Times,
    /// What was kept beside the file, with the deletions.
    pub(super) kept: &'a Times,
}

/// Of two changes to one cookie the later one is kept: the jar's, or the one that the file holds.
/// Entries that are not cookies stay in their place, and new cookies come behind them. Returns what
/// to write, and when each of it was set.
///
/// `ours` is what the jar holds. It says when a cookie was last used and nothing else: what it
/// lacks was evicted or has expired, and others still have it.
pub(super) fn merge(
    format: Format,
    changes: &HashMap<CookieId, Change>,
    ours: &[Cookie],
    theirs: Theirs<'_>,
) -> (Vec<Entry>, Times) {
    let Theirs { entries, times: their_times, kept } = theirs;
    let own: HashMap<_, _> = ours.iter().map(|cookie| (cookie.id(), cookie)).collect();
    let used = |cookie: Cookie, id: &CookieId| match own.get(id) {
        Some(own) => used_as(cookie, own),
        None => cookie,
    };
    let (mut merged, mut times, mut seen) = (Vec::new(), Times::default(), HashSet::new());
    let mut keep = |merged: &mut Vec<Entry>, id: CookieId, cookie: Cookie, at: Stamp| {
        let cookie = used(cookie, &id);
        times.set(id, at, format.state(&cookie));
        merged.push(Entry::Cookie(cookie));
    };
    for entry in entries {
        let Entry::Cookie(cookie) = entry else {
            merged.push(entry);
            continue;
        };
        let id = cookie.id();
        let at = their_times.of(&id, format.state(&cookie)).unwrap_or_default();
        match changes.get(&id) {
            // Of two at the same time, ours is kept: it is the one being saved.
            Some(change) if change.stamp() >= at => {
                if let Some(new) = change.cookie() {
                    keep(&mut merged, id.clone(), used_as(new.clone(), &cookie), change.stamp());
                }
            }
            _ => keep(&mut merged, id.clone(), cookie, at),
        }
        seen.insert(id);
    }
    let is_new = |change: &&Change| {
        let deleted = kept.deleted(change.id());
        !seen.contains(change.id()) && deleted.is_none_or(|at| change.stamp() >= at)
    };
    let mut new: Vec<_> = changes
        .values()
        .filter(is_new)
        .filter_map(|change| Some((change.cookie()?, change.stamp())))
        .collect();
    new.sort_unstable_by_key(|(cookie, _)| (cookie.data.created, cookie.order));
    for (cookie, at) in new {
        keep(&mut merged, cookie.id(), cookie.clone(), at);
    }
    times.add_deletions(changes.values(), kept);
    (merged, times)
}

/// Keeps one of each cookie, as reading them into a jar would: the last that the jar's rules allow,
/// or else the last. The flag says whether they allow it.
pub(super) fn each_once(judged: Vec<(Entry, bool)>) -> Vec<(Entry, bool)> {
    let allowed = judged.iter().filter(|(_, allowed)| *allowed);
    let allowed: HashSet<CookieId> =
        allowed.filter_map(|(entry, _)| entry.cookie()).map(Cookie::id).collect();
    let mut seen = HashSet::new();
    let mut last_first: Vec<_> = judged
        .into_iter()
        .rev()
        .filter(|(entry, may_go)| {
            entry.cookie().is_none_or(|cookie| {
                let id = cookie.id();
                (*may_go || !allowed.contains(&id)) && seen.insert(id)
            })
        })
        .collect();
    last_first.reverse();
    last_first
}

/// One of two states of a cookie, created as early as the older and used as late as the other.
fn used_as(mut cookie: Cookie, other: &Cookie) -> Cookie {
    // The order of a header goes by creation (RFC 6265bis section 5.8.3), and eviction by use: both
    // must not depend on which process saved last.
    cookie.data.created = cookie.data.created.min(other.data.created);
    cookie.times.sent = cookie.times.sent.max(other.times.sent);
    cookie
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn cookie(name: &str, value: &str) -> Cookie {
        Cookie::builder(name, value).domain("h.example").build().unwrap()
    }

    /// `a=1@5 b@6`: `a` was set to 1 at 5, and `b` deleted at 6. A word without `@` is an entry
    /// that is not a cookie.
    enum Word<'a> {
        Set(Cookie, u64),
        Deleted(CookieId, u64),
        Other(&'a str),
    }

    fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
        text.split_whitespace().map(|word| {
            let Some((what, at)) = word.split_once('@') else { return Word::Other(word) };
            let at = at.parse().unwrap();
            match what.split_once('=') {
                Some((name, value)) => Word::Set(cookie(name, value), at),
                None => Word::Deleted(cookie(what, "").id(), at),
            }
        })
    }

    fn changes(text: &str) -> HashMap<CookieId, Change> {
        let time = |at| UNIX_EPOCH + Duration::from_micros(at);
        let change = |word| match word {
            Word::Set(cookie, at) => Change::set(cookie, time(at)),
            Word::Deleted(id, at) => Change::deleted(id, time(at)),
            Word::Other(word) => panic!("{word}"),
        };
        words(text).map(change).map(|change| (change.id().clone(), change)).collect()
    }

    /// What a file holds, and the times that were kept beside it.
    fn file(text: &str) -> (Vec<Entry>, Times) {
        let (mut entries, mut times) = (Vec::new(), Times::default());
        for word in words(text) {
            match word {
                Word::Set(cookie, at) => {
                    times.set(cookie.id(), at, Format::Netscape.state(&cookie));
                    entries.push(Entry::Cookie(cookie));
                }
                Word::Other(word) => entries.push(Entry::Kept(word.into())),
                Word::Deleted(..) => {}
            }
        }
        let deleted = changes(
            &text
                .split_whitespace()
                .filter(|word| word.contains('@'))
                .collect::<Vec<_>>()
                .join(" "),
        );
        times.add_deletions(deleted.values(), &Times::default());
        (entries, times)
    }

    fn text(entries: &[Entry], times: &Times) -> String {
        let word = |entry: &Entry| match entry {
            Entry::Cookie(cookie) => {
                let at = times.of(&cookie.id(), Format::Netscape.state(cookie)).unwrap();
                format!("{}={}@{at}", cookie.name(), cookie.value())
            }
            Entry::Kept(word) => String::from_utf8(word.clone()).unwrap(),
        };
        entries.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn of_two_changes_the_later_one_is_kept() {
        // The jar's changes, what the file holds, what is written; the cookie whose deletion is
        // kept.
        let rows = [
            ("we add", "a=1@5", "", "a=1@5", None),
            ("they add", "", "a=1@5", "a=1@5", None),
            ("ours is later", "a=1@6", "a=2@5", "a=1@6", None),
            ("theirs is later", "a=1@5", "a=2@6", "a=2@6", None),
            ("at the same time", "a=1@5", "a=2@5", "a=1@5", None),
            ("we delete", "a@6", "a=0@5", "", Some(6)),
            ("we delete what they set later", "a@5", "a=0@6", "a=0@6", None),
            ("they delete, and we set it later", "a=1@6", "a@5", "a=1@6", None),
            ("they delete what we set before", "a=1@5", "a@6", "", Some(6)),
            ("both delete", "a@5", "a@6", "", Some(6)),
            ("their deletion stays known", "", "a@6", "", Some(6)),
            ("what we say nothing of stays", "b=1@9", "a=0@5", "a=0@5 b=1@9", None),
            ("their order, then ours", "d=1@7 b=1@8", "c=2@5 b=2@5", "c=2@5 b=1@8 d=1@7", None),
            (
                "no cookie: in its place",
                "a@9 b=1@9",
                "x a=0@5 y c=1@5 z",
                "x y c=1@5 z b=1@9",
                Some(9),
            ),
        ];
        let mut wrong = Vec::new();
        for (fact, ours, theirs, want, want_deleted) in rows {
            let (entries, kept) = file(theirs);
            let theirs = Theirs { entries, times: &kept, kept: &kept };
            let (merged, times) = merge(Format::Netscape, &changes(ours), &[], theirs);
            let (got, deleted) = (text(&merged, &times), times.deleted(&cookie("a", "").id()));
            if got != want || deleted != want_deleted {
                wrong.push(format!("{fact}: {got:?}, deleted {deleted:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_merged_cookie_is_as_old_as_the_older_and_as_used_as_the_other() {
        let at = |created, sent| {
            let mut cookie = cookie("a", "0");
            (cookie.data.created, cookie.times.sent) = (created, sent);
            cookie
        };
        for (ours, theirs) in [(at(1, 9), at(5, 3)), (at(5, 3), at(1, 9))] {
            let none = Times::default();
            let theirs = Theirs { entries: vec![Entry::Cookie(theirs)], times: &none, kept: &none };
            let (merged, _) = merge(Format::Netscape, &HashMap::new(), &[ours], theirs);
            let merged = merged[0].cookie().unwrap();
            assert_eq!((merged.data.created, merged.times.sent), (1, 9));
        }
    }

    #[test]
    fn of_a_cookie_that_is_there_twice_the_last_counts() {
        // A `!` marks what the rules refuse.
        let judged = |text: &str| {
            let allowed = text.split_whitespace().map(|word| !word.contains('!'));
            file(text).0.into_iter().zip(allowed).collect::<Vec<_>>()
        };
        let rows = [
            ("a=1@0 b=1@0 a=2@0", "b=1 a=2"),
            ("a=1!@0 x a=2!@0 x", "x a=2! x"),
            ("a=1@0 x a=2!@0", "a=1 x"),
            ("a=1!@0 a=2@0", "a=2"),
        ];
        let word = |(entry, _): &(Entry, bool)| match entry {
            Entry::Cookie(cookie) => format!("{}={}", cookie.name(), cookie.value()),
            Entry::Kept(word) => String::from_utf8(word.clone()).unwrap(),
        };
        let wrong: Vec<_> = rows
            .iter()
            .map(|(all, want)| {
                (all, each_once(judged(all)).iter().map(word).collect::<Vec<_>>().join(" "), want)
            })
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
