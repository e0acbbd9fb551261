//! The merge of a save: what jar and file held when they last met, what the jar holds now, and what
//! the file holds by now. Pure: values in, values out.

use std::{
    collections::{HashMap, HashSet},
    hash::{Hash, Hasher},
};

use crate::cookie::{
    format::{Entry, Format},
    model::{cookie::Cookie, data::Data},
};

/// Jar and file as they were when they last met: tells our changes from those of others. They are
/// two, since a jar caps lifetimes and has limits, and a file's format does not know all that a jar
/// does.
pub(super) struct Base {
    jar: HashMap<Identity, Cookie>,
    /// `None` if the jar has never been in the file: then nobody took out what the file lacks.
    file: Option<HashSet<Identity>>,
}

impl Base {
    /// The jar has never been in the file.
    pub(super) fn unmet(jar: impl IntoIterator<Item = Cookie>) -> Self {
        Self { jar: by_identity(jar), file: None }
    }

    /// The jar was read from the file, or written into it.
    pub(super) fn met<'a>(
        jar: impl IntoIterator<Item = Cookie>,
        file: impl IntoIterator<Item = &'a Cookie>,
    ) -> Self {
        let file = file.into_iter().map(|cookie| Identity(cookie.data.clone())).collect();
        Self { jar: by_identity(jar), file: Some(file) }
    }

    /// The same, but what the jar held before it read the file is as new as what comes later.
    pub(super) fn read<'a>(
        jar: impl IntoIterator<Item = Cookie>,
        file: impl IntoIterator<Item = &'a Cookie>,
    ) -> Self {
        let mut base = Self::met(jar, file);
        let Self { jar, file } = &mut base;
        jar.retain(|identity, _| file.as_ref().is_some_and(|file| file.contains(identity)));
        base
    }

    /// The file is no longer there. It was taken away, not emptied: the jar is all there is.
    pub(super) fn file_is_gone(&mut self) {
        self.file = None;
    }

    /// A merge of three: `theirs` is what the file holds by now, in its order. What only the jar
    /// has comes behind it. Entries that are not cookies stay in their place.
    pub(super) fn merge(
        &self,
        format: Format,
        ours: &[Cookie],
        theirs: impl IntoIterator<Item = Entry>,
    ) -> Vec<Entry> {
        let own = by_identity(ours.iter().cloned());
        let mut merged = Vec::new();
        let mut seen = HashSet::new();
        for entry in theirs {
            let cookie = match entry {
                Entry::Cookie(cookie) => cookie,
                Entry::Kept(_) => {
                    merged.push(entry);
                    continue;
                }
            };
            let identity = Identity(cookie.data.clone());
            let left = match own.get(&identity) {
                // Of two changes to one cookie ours counts: it is the one being saved.
                Some(own) if self.is_ours(format, &identity, own) => {
                    Some(used_as(own.clone(), &cookie))
                }
                Some(own) => Some(used_as(cookie, own)),
                // We have taken out what we once had.
                None if self.jar.contains_key(&identity)
                    && !self.is_renewed(&identity, &cookie) =>
                {
                    None
                }
                None => Some(cookie),
            };
            merged.extend(left.map(Entry::Cookie));
            seen.insert(identity);
        }
        for cookie in ours {
            let identity = Identity(cookie.data.clone());
            // What we have not changed and the file lacks was taken out by another: a logout there
            // must not be undone here.
            if !seen.contains(&identity) && self.is_ours(format, &identity, cookie) {
                merged.push(Entry::Cookie(cookie.clone()));
            }
        }
        merged
    }

    /// Whether the jar has changed a cookie since, as far as the format can tell.
    fn is_ours(&self, format: Format, identity: &Identity, cookie: &Cookie) -> bool {
        self.file.is_none()
            || self.jar.get(identity).is_none_or(|old| format.tells_apart(old, cookie))
    }

    /// Whether another has given a cookie a new value that the jar never held.
    fn is_renewed(&self, identity: &Identity, cookie: &Cookie) -> bool {
        // Compared with what our jar held, not with what the file did: a value that another set
        // before our last save is as unknown to the jar.
        let held =
            self.jar.get(identity).is_some_and(|old| old.data.value() == cookie.data.value());
        self.file.as_ref().is_some_and(|file| !held || !file.contains(identity))
    }
}

/// Keeps one of each cookie, as reading them into a jar would: the last that the jar's rules allow,
/// or else the last. The flag says whether they allow it.
pub(super) fn each_once(judged: Vec<(Entry, bool)>) -> Vec<(Entry, bool)> {
    let identity = |cookie: &Cookie| Identity(cookie.data.clone());
    let allowed = judged.iter().filter(|(_, allowed)| *allowed);
    let allowed: HashSet<Identity> =
        allowed.filter_map(|(entry, _)| entry.cookie()).map(identity).collect();
    let mut seen = HashSet::new();
    let mut last_first: Vec<_> = judged
        .into_iter()
        .rev()
        .filter(|(entry, may_go)| {
            entry.cookie().is_none_or(|cookie| {
                let identity = identity(cookie);
                (*may_go || !allowed.contains(&identity)) && seen.insert(identity)
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

fn by_identity(cookies: impl IntoIterator<Item = Cookie>) -> HashMap<Identity, Cookie> {
    cookies.into_iter().map(|cookie| (Identity(cookie.data.clone()), cookie)).collect()
}

/// A cookie by its name, domain, host-only flag and path (RFC 6265bis section 5.7, step 23).
struct Identity(Data);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_identity(&other.0)
    }
}

impl Eq for Identity {}

impl Hash for Identity {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0.name(), self.0.domain(), self.0.path(), self.0.flags.host_only).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a=1 b=2` as cookies.
    fn cookies(text: &str) -> Vec<Cookie> {
        let cookie = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some(Cookie::builder(name, value).domain("h.example").build().unwrap())
        };
        text.split_whitespace().filter_map(cookie).collect()
    }

    /// As `cookies`, with a word without `=` as an entry that is not a cookie.
    fn entries(text: &str) -> Vec<Entry> {
        let entry = |word: &str| match cookies(word).pop() {
            Some(cookie) => Entry::Cookie(cookie),
            None => Entry::Kept(word.into()),
        };
        text.split_whitespace().map(entry).collect()
    }

    fn text(entries: &[Entry]) -> String {
        let word = |entry: &Entry| match entry {
            Entry::Cookie(cookie) => format!("{}={}", cookie.name(), cookie.value()),
            Entry::Kept(word) => String::from_utf8(word.clone()).unwrap(),
        };
        entries.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_merge_keeps_every_change_of_both_sides() {
        // Jar and file when they last met; the jar now, the file by now, and what is written.
        let rows = [
            ("we add", "", Some(""), "a=1", "", "a=1"),
            ("they add", "", Some(""), "", "a=1", "a=1"),
            ("both add", "", Some(""), "a=1", "a=2", "a=1"),
            ("we change", "a=0", Some("a=0"), "a=1", "a=0", "a=1"),
            ("they change", "a=0", Some("a=0"), "a=0", "a=2", "a=2"),
            ("both change", "a=0", Some("a=0"), "a=1", "a=2", "a=1"),
            ("we take out", "a=0", Some("a=0"), "", "a=0", ""),
            ("they take out", "a=0", Some("a=0"), "a=0", "", ""),
            ("we take out, they change", "a=0", Some("a=0"), "", "a=2", "a=2"),
            ("they take out, we change", "a=0", Some("a=0"), "a=1", "", "a=1"),
            ("we take out what they changed before", "a=0", Some("a=2"), "", "a=2", "a=2"),
            ("they put back what they took out", "a=0", Some(""), "", "a=0", "a=0"),
            ("we still have what they took out before", "a=0", Some(""), "a=0", "", ""),
            ("the file's order, then ours", "", Some(""), "d=1 b=1", "c=2 b=2", "c=2 b=1 d=1"),
            ("never met: all is ours", "a=0", None, "a=0", "", "a=0"),
            ("never met: ours counts", "a=0", None, "a=0", "a=2 b=2", "a=0 b=2"),
            ("never met: what we took out goes", "a=0", None, "", "a=2", ""),
            (
                "no cookie: in its place",
                "a=0",
                Some("a=0"),
                "b=1",
                "x a=0 y c=1 z",
                "x y c=1 z b=1",
            ),
        ];
        let mut wrong = Vec::new();
        for (fact, jar, file, ours, theirs, want) in rows {
            let base = match file {
                Some(file) => Base::met(cookies(jar), &cookies(file)),
                None => Base::unmet(cookies(jar)),
            };
            let got = text(&base.merge(Format::Netscape, &cookies(ours), entries(theirs)));
            if got != want {
                wrong.push(format!("{fact}: {got:?}, not {want:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn what_a_jar_held_before_it_read_the_file_is_new_to_the_file() {
        let base = Base::read(cookies("a=0 b=0"), &cookies("a=0"));
        let merged = base.merge(Format::Netscape, &cookies("a=0 b=0"), entries(""));
        assert_eq!(text(&merged), "b=0");
    }

    #[test]
    fn a_merged_cookie_is_as_old_as_the_older_and_as_used_as_the_other() {
        let at = |created, sent| {
            let mut cookie = cookies("a=0").remove(0);
            (cookie.data.created, cookie.times.sent) = (created, sent);
            cookie
        };
        let base = Base::met([at(1, 0)], &[at(1, 0)]);
        for (ours, theirs) in [(at(1, 9), at(5, 3)), (at(5, 3), at(1, 9))] {
            let merged = base.merge(Format::Netscape, &[ours], [Entry::Cookie(theirs)]);
            let merged = merged[0].cookie().unwrap();
            assert_eq!((merged.data.created, merged.times.sent), (1, 9));
        }
    }

    #[test]
    fn of_a_cookie_that_is_there_twice_the_last_counts() {
        // A `!` marks what the rules refuse.
        let judged = |text: &str| {
            let allowed = text.split_whitespace().map(|word| !word.ends_with('!'));
            entries(text).into_iter().zip(allowed).collect::<Vec<_>>()
        };
        let rows = [
            ("a=1 b=1 a=2", "b=1 a=2"),
            ("a=1! x a=2! x", "x a=2! x"),
            ("a=1 x a=2!", "a=1 x"),
            ("a=1! a=2", "a=2"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(all, want)| (all, each_once(judged(all)), want))
            .map(|(all, got, want)| {
                let got: Vec<Entry> = got.into_iter().map(|(entry, _)| entry).collect();
                (all, text(&got), want)
            })
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
