//! The merge of a save: the changes of a jar, and what its file holds now. Pure: values in, values
//! out.

use std::collections::{HashMap, HashSet};

use super::times::{Mark, Times, last_set};
use crate::cookie::{
    format::{Entry, Format},
    jar::{
        change::{Change, Stamp},
        replay::{Last, Outcome, replay},
        shares::{self, Bounds, Item},
    },
    model::{cookie::Cookie, id::CookieId, suffix::PublicSuffixes},
};

/// What a file holds now, and when it was set.
pub(super) struct Theirs<'a> {
    pub(super) entries: Vec<Entry>,
    pub(super) times: &'a Times,
    /// Of cookies that are not among the entries.
    pub(super) deletions: Vec<Change>,
}

/// What the merge goes by.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) format: Format,
    pub(super) suffixes: &'a PublicSuffixes,
    pub(super) bounds: Bounds,
}

#[derive(Default)]
pub(super) struct Merged {
    /// What to write.
    pub(super) entries: Vec<Entry>,
    /// When each of it was set, and the deletions.
    pub(super) times: Times,
    /// What the jar must take back, since a `Secure` cookie of the file forbids it, with the time
    /// of what it takes back.
    pub(super) corrections: Vec<(Change, Stamp)>,
}

/// A cookie to write, or an entry that is none.
struct Row {
    entry: Entry,
    mark: Mark,
    is_there: bool,
}

/// The file as one jar would hold it after all changes in the order of their times: see [`replay`].
/// Entries that are not cookies keep their place, and new cookies come after them.
///
/// `jar` is what the jar holds. It only says when a cookie was last used. A cookie that the jar
/// lacks was evicted or has expired, and others still have it.
pub(super) fn merge(
    terms: Terms<'_>,
    ours: &[Change],
    jar: &[Cookie],
    theirs: Theirs<'_>,
) -> Merged {
    let Terms { format, suffixes, bounds } = terms;
    let Theirs { entries, times: their_times, deletions: mut their_changes } = theirs;
    their_changes.extend(entries.iter().filter_map(Entry::cookie).map(|cookie| {
        let mark = their_times.of(&cookie.id(), format.state(cookie));
        mark.unwrap_or(Mark::secure(0)).set(cookie.clone())
    }));
    let held: HashMap<_, _> = jar.iter().map(|cookie| (cookie.id(), cookie)).collect();
    let has = |id: &CookieId| held.get(id).is_some_and(|cookie| cookie.data.flags.secure);
    let outcome = replay(&their_changes, ours, has, suffixes);
    let row = |last: &Last<'_>, old: Option<&Cookie>| {
        let mut cookie = last.change.cookie()?.clone();
        for other in old.into_iter().chain(held.get(last.change.id()).copied()) {
            cookie = used_as(cookie, other);
        }
        Some(Row { entry: Entry::Cookie(cookie), mark: Mark::of(last), is_there: old.is_some() })
    };
    let (mut rows, mut seen) = (Vec::new(), HashSet::new());
    for entry in entries {
        if let Entry::Cookie(old) = &entry {
            let id = old.id();
            rows.extend(outcome.last.get(&id).and_then(|last| row(last, Some(old))));
            seen.insert(id);
        } else {
            rows.push(Row { entry, mark: Mark::secure(0), is_there: true });
        }
    }
    let new = outcome.last.values().filter(|last| !seen.contains(last.change.id()));
    let mut new: Vec<_> = new.filter(|last| last.change.cookie().is_some()).collect();
    new.sort_unstable_by_key(|last| {
        last.change.cookie().map(|cookie| (cookie.data.created, cookie.order))
    });
    rows.extend(new.into_iter().filter_map(|last| row(last, None)));

    let is_held = |cookie: &Cookie| held.contains_key(&cookie.id());
    let rows = within(rows, is_held, suffixes, bounds);
    let mut merged = Merged { corrections: corrections(&outcome, ours), ..Merged::default() };
    for Row { entry, mark, .. } in rows {
        if let Entry::Cookie(cookie) = &entry {
            merged.times.set(cookie.id(), mark, format.state(cookie));
        }
        merged.entries.push(entry);
    }
    let deleted = outcome.last.values().filter(|last| last.change.cookie().is_none());
    let deleted = deleted.map(|last| (last.change.id(), Mark::of(last)));
    merged.times.add_deletions(deleted, suffixes);
    merged
}

/// The rows that a file has room for. A site with too many drops those that are not `Secure` first,
/// then those that the jar itself has evicted, then those that were set first.
fn within(
    rows: Vec<Row>,
    is_held: impl Fn(&Cookie) -> bool,
    suffixes: &PublicSuffixes,
    bounds: Bounds,
) -> Vec<Row> {
    let cookies = rows.iter().enumerate();
    let cookies = cookies.filter_map(|(place, row)| Some((place, row, row.entry.cookie()?)));
    let (places, items): (Vec<usize>, Vec<_>) = cookies
        .map(|(place, row, cookie)| {
            let item = Item {
                site: suffixes.site(cookie.domain()).key,
                bytes: cookie.data.text_len(),
                rank: (cookie.data.flags.secure, is_held(cookie), row.mark.at()),
                is_there: row.is_there,
            };
            (place, item)
        })
        .unzip();
    let gone: HashSet<usize> =
        shares::over(&items, bounds).into_iter().map(|item| places[item]).collect();
    let rows = rows.into_iter().enumerate();
    rows.filter(|(place, _)| !gone.contains(place)).map(|(_, row)| row).collect()
}

/// The jar then has what the file has.
fn corrections(outcome: &Outcome<'_>, ours: &[Change]) -> Vec<(Change, Stamp)> {
    let mut corrections = HashMap::new();
    for &(change, shield) in &outcome.refused {
        // Of what it has replaced, the jar holds nothing any more.
        if !ours.iter().any(|latest| std::ptr::eq(latest, change)) {
            continue;
        }
        let last = |id| outcome.last.get(id).map(|last| last.change.clone());
        let deleted = || Change::deleted_at(change.id().clone(), change.stamp(), false);
        let now = last(change.id()).unwrap_or_else(deleted);
        for correction in [Some(now), last(shield)].into_iter().flatten() {
            corrections.insert(correction.id().clone(), (correction, change.stamp()));
        }
    }
    corrections.into_values().collect()
}

/// The cookies of a jar that have not changed since the last save, as changes at the time when they
/// were last set. `known` has the times of those that were in the file then.
pub(super) fn brought<'a>(
    format: Format,
    jar: &'a [Cookie],
    taken: &[Change],
    known: &'a Times,
    now: Stamp,
) -> impl Iterator<Item = Change> + use<'a> {
    let changed: HashSet<_> = taken.iter().map(|change| change.id().clone()).collect();
    jar.iter().filter(move |cookie| !changed.contains(&cookie.id())).map(move |cookie| {
        let mark = known.of(&cookie.id(), format.state(cookie));
        // Only a secure origin sets a Secure cookie. Who set another one, a jar does not know.
        let unknown = || Mark::by(last_set(cookie).min(now), cookie.data.flags.secure);
        mark.unwrap_or_else(unknown).set(cookie.clone())
    })
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

    /// A `+` behind the name is for `Secure`. A path may follow the name.
    fn cookie(name: &str, value: &str) -> Cookie {
        let (name, path) = name.split_at(name.find('/').unwrap_or(name.len()));
        let (name, secure) = match name.strip_suffix('+') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let path = if path.is_empty() { "/" } else { path };
        let cookie = Cookie::builder(name, value).domain("h.example").path(path).secure(secure);
        cookie.build().unwrap()
    }

    /// `a=1@5 b@6`: `a` was set to 1 at 5, and `b` deleted at 6. A `!` before it is for an origin
    /// that is not secure.
    fn changes(text: &str) -> Vec<Change> {
        text.split_whitespace().map(change).collect()
    }

    fn change(text: &str) -> Change {
        let time = |at| UNIX_EPOCH + Duration::from_micros(at);
        let (word, is_secure) = match text.strip_prefix('!') {
            Some(word) => (word, false),
            None => (text, true),
        };
        let (what, at) = word.split_once('@').unwrap();
        let at = time(at.parse().unwrap());
        let change = match what.split_once('=') {
            Some((name, value)) => Change::set(cookie(name, value), at),
            None => Change::deleted(cookie(what, "").id(), at),
        };
        if is_secure { change } else { change.insecure() }
    }

    /// What a file holds, and what was kept beside it. A word without `@` is an entry that is not a
    /// cookie.
    fn file(text: &str) -> (Vec<Entry>, Times, Vec<Change>) {
        let (mut entries, mut times, mut deletions) = (Vec::new(), Times::default(), Vec::new());
        for word in text.split_whitespace() {
            if !word.contains('@') {
                entries.push(Entry::Kept(word.into()));
                continue;
            }
            let change = change(word);
            let Some(cookie) = change.cookie() else {
                deletions.push(change);
                continue;
            };
            let mark = Mark::by(change.stamp(), change.from_secure());
            times.set(cookie.id(), mark, Format::Netscape.state(cookie));
            entries.push(Entry::Cookie(cookie.clone()));
        }
        (entries, times, deletions)
    }

    const TERMS: Terms<'_> = Terms {
        format: Format::Netscape,
        suffixes: &PublicSuffixes::Embedded,
        bounds: Bounds { per_site: 9, total: 9, bytes: 999, spares_older: true },
    };

    fn merged(ours: &str, theirs: &str) -> Merged {
        let (entries, times, deletions) = file(theirs);
        let theirs = Theirs { entries, times: &times, deletions };
        merge(TERMS, &changes(ours), &[], theirs)
    }

    fn text(entries: &[Entry], times: &Times) -> String {
        let word = |entry: &Entry| match entry {
            Entry::Cookie(cookie) => {
                let mark = times.of(&cookie.id(), Format::Netscape.state(cookie)).unwrap();
                format!("{}={}@{}", cookie.name(), cookie.value(), mark.at())
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
            let Merged { entries, times, .. } = merged(ours, theirs);
            let deleted = times.deletions(&HashSet::new());
            let deleted = deleted.iter().find(|change| *change.id() == cookie("a", "").id());
            let (got, deleted) = (text(&entries, &times), deleted.map(Change::stamp));
            if got != want || deleted != want_deleted {
                wrong.push(format!("{fact}: {got:?}, deleted {deleted:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// As one jar would: no `Secure` cookie is set, shadowed or deleted by another origin.
    #[test]
    fn a_change_of_an_insecure_origin_leaves_secure_cookies_alone() {
        // The jar's changes, what the file holds, what is written, what the jar takes back.
        let rows = [
            ("it may change others", "!a=1@6", "a=0@5", "a=1@6", ""),
            ("and delete them", "!a@6", "a=0@5", "", ""),
            ("it replaces", "!a=evil@6", "a+=1@5", "a=1@5", "a=1"),
            ("it deletes", "!a@6", "a+=1@5", "a=1@5", "a=1"),
            ("it shadows", "!a/x=evil@6", "a+=1@5", "a=1@5", "-a a=1"),
            ("another name", "!b=1@6", "a+=1@5", "a=1@5 b=1@6", ""),
            ("a path above", "!a=1@6", "a+/x=1@5", "a=1@5 a=1@6", ""),
            ("a secure origin may", "a=1@6", "a+=1@5", "a=1@6", ""),
            ("a secure origin may delete", "a@6", "a+=1@5", "", ""),
            ("theirs is later, and replaces", "!a=1@4", "a+=1@5", "a=1@5", ""),
            ("theirs is later, beside it", "!a/x=1@4", "a+=1@5", "a=1@5 a=1@4", ""),
            ("at the same time", "!a=evil@5", "a+=1@5", "a=1@5", "a=1"),
            // The other way round: they saved before they could know of ours.
            ("they replaced", "a+=1@5", "!a=evil@6", "a=1@5", ""),
            ("they deleted", "a+=1@5", "!a@6", "a=1@5", ""),
            ("they shadowed", "a+=1@5", "!a/x=evil@6", "a=1@5", ""),
            ("they shadowed before", "a+=1@5", "!a/x=1@4", "a=1@4 a=1@5", ""),
        ];
        let mut wrong = Vec::new();
        for (fact, ours, theirs, want, want_back) in rows {
            let Merged { entries, times, mut corrections } = merged(ours, theirs);
            corrections.sort_by_key(|(change, _)| change.cookie().is_some());
            let back = corrections.iter().map(|(change, _)| match change.cookie() {
                Some(cookie) => format!("{}={}", cookie.name(), cookie.value()),
                None => "-a".to_owned(),
            });
            let (got, back) = (text(&entries, &times), back.collect::<Vec<_>>().join(" "));
            if got != want || back != want_back {
                wrong.push(format!("{fact}: {got:?}, taken back {back:?}"));
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
            let entries = vec![Entry::Cookie(theirs)];
            let theirs = Theirs { entries, times: &none, deletions: Vec::new() };
            let merged = merge(TERMS, &[], &[ours], theirs);
            let merged = merged.entries[0].cookie().unwrap();
            assert_eq!((merged.data.created, merged.times.sent), (1, 9));
        }
    }

    #[test]
    fn of_a_cookie_that_is_there_twice_the_last_counts() {
        // A `?` marks what the rules refuse.
        let judged = |text: &str| {
            let allowed = text.split_whitespace().map(|word| !word.contains('?'));
            file(text).0.into_iter().zip(allowed).collect::<Vec<_>>()
        };
        let rows = [
            ("a=1@0 b=1@0 a=2@0", "b=1 a=2"),
            ("a=1?@0 x a=2?@0 x", "x a=2? x"),
            ("a=1@0 x a=2?@0", "a=1 x"),
            ("a=1?@0 a=2@0", "a=2"),
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
