//! The look-up: a hash on the host, then one on each leading part of the path.

use std::collections::{BTreeMap, HashMap};

use super::prefix::{Host, Port, Prefix, Target, default_port};

/// Which mount serves which requests; a mount is a number here.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Paths>,
    under: HashMap<Box<str>, Paths>,
    /// Most labels of a domain among them: a longer one, of a host that a stranger made up, need not be tried.
    labels: usize,
    any: Paths,
}

/// The mounts of one host.
#[derive(Debug, Default)]
struct Paths {
    mounts: HashMap<Box<str>, Rules>,
    /// Most segments of a path among them: a longer path need not be tried.
    depth: usize,
}

/// The mounts of one host and path.
type Rules = BTreeMap<Rule, usize>;

/// What else a mount goes by: the least number of steps from here to its own number, since these are cache misses.
type Rule = (Port, Scheme);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scheme {
    Http,
    Https,
    Other(Box<str>),
    Any,
}

impl Scheme {
    fn of(scheme: &str) -> Self {
        match scheme {
            "http" => Self::Http,
            "https" => Self::Https,
            other => Self::Other(other.into()),
        }
    }
}

impl Table {
    /// Files a prefix under `mount`, or says which mount has the same prefix already.
    pub(super) fn insert(&mut self, prefix: Prefix, mount: usize) -> usize {
        let paths = match prefix.host {
            Host::Exact(host) => self.exact.entry(host).or_default(),
            Host::Under(domain) => {
                self.labels = self.labels.max(domain.split('.').count());
                self.under.entry(domain).or_default()
            }
            Host::Any => &mut self.any,
        };
        paths.depth = paths.depth.max(prefix.path.matches('/').count());
        let scheme = prefix.scheme.as_deref().map_or(Scheme::Any, Scheme::of);
        *paths.mounts.entry(prefix.path).or_default().entry((prefix.port, scheme)).or_insert(mount)
    }

    /// The most specific mount for a request.
    pub(super) fn find(&self, target: &Target<'_>) -> Option<usize> {
        let exact = self.exact.get(&*target.host).into_iter();
        let under = self.domains(&target.host).filter_map(|domain| self.under.get(domain));
        let rules = rules(target);
        exact.chain(under).chain([&self.any]).find_map(|paths| paths.find(&target.path, &rules))
    }

    /// The domains that a host lies under, the longest first.
    fn domains<'h>(&self, host: &'h str) -> impl Iterator<Item = &'h str> {
        let is_name = !host.starts_with(['[', '.']) && !host.contains("..");
        let labels = if is_name { self.labels } else { 0 };
        let first = host.rmatch_indices('.').take(labels).last().map(|(dot, _)| &host[dot + 1..]);
        std::iter::successors(first, |domain| domain.split_once('.').map(|(_, parent)| parent))
    }
}

impl Paths {
    fn find(&self, path: &str, rules: &[Option<Rule>]) -> Option<usize> {
        let path = path.strip_suffix('/').unwrap_or(path);
        // Up to the deepest segment that any mount has.
        let end = path.match_indices('/').nth(self.depth).map_or(path.len(), |(at, _)| at);
        let mut path = &path[..end];
        loop {
            if let Some(mounts) = self.mounts.get(path)
                && let found @ Some(_) = rules.iter().flatten().find_map(|rule| mounts.get(rule).copied())
            {
                return found;
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

/// The rules that serve a request, the most specific first.
fn rules(target: &Target<'_>) -> [Option<Rule>; 6] {
    let number = target.port.map(Port::Number);
    let default = (target.port == default_port(&target.scheme)).then_some(Port::Default);
    let rule = |port: Option<Port>, scheme| port.map(|port| (port, scheme));
    let scheme = || Scheme::of(&target.scheme);
    [
        rule(number, scheme()),
        rule(number, Scheme::Any),
        rule(default, scheme()),
        rule(default, Scheme::Any),
        rule(Some(Port::Any), scheme()),
        rule(Some(Port::Any), Scheme::Any),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row's name, its mounts, and what serves each request.
    type Row<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, &'a str)]);

    /// What serves each request, by its prefix; `F` for the fallback.
    fn check(rows: &[Row<'_>]) {
        let mut wrong = Vec::new();
        for (row, prefixes, requests) in rows {
            let (mut table, mut numbers) = (Table::default(), Vec::new());
            for (mount, prefix) in prefixes.iter().enumerate() {
                numbers.push(table.insert(Prefix::parse(prefix).unwrap(), mount));
            }
            for (uri, want) in *requests {
                let parsed = uri.parse().unwrap();
                let got = table.find(&Target::of(&parsed, None).unwrap()).map_or("F", |mount| {
                    // As in `build`, where the last of one prefix takes the place of the first.
                    prefixes[numbers.iter().rposition(|&number| number == mount).unwrap()]
                });
                if got != *want {
                    wrong.push(format!("row {row}: {uri} goes to {got}, not {want}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn requests_go_where_the_rows_say() {
        check(&[
            ("1", &["https://", "http://"], &[("https://x/y", "https://"), ("http://x:8080/", "http://")]),
            (
                "3",
                &["http://localhost"],
                &[
                    ("http://localhost.evil.com/", "F"),
                    ("http://localhost@evil.com/", "F"),
                    ("http://localhost:8080/", "F"),
                    ("http://localhost/", "http://localhost"),
                ],
            ),
            ("4", &["http://localhost:*"], &[("http://localhost:8080/", "http://localhost:*")]),
            ("5", &["http://h/"], &[("http://h:80/", "http://h/")]),
            ("5", &["https://h:443"], &[("https://h/", "https://h:443")]),
            ("6", &["http://h:80"], &[("http://h:8080/", "F")]),
            (
                "7",
                &["https://h/v1"],
                &[
                    ("https://h/v10/x", "F"),
                    ("https://h/v1", "https://h/v1"),
                    ("https://h/v1/x", "https://h/v1"),
                    ("https://h/v1?q", "https://h/v1"),
                    ("https://h/", "F"),
                ],
            ),
            ("8", &["https://h/Admin"], &[("https://h/admin", "F")]),
            ("9", &["HTTPS://API.Ex.com"], &[("https://api.EX.com/", "HTTPS://API.Ex.com")]),
            (
                "10",
                &["https://h/", "https://h/a", "https://h/a/b"],
                &[
                    ("https://h/a/b/c", "https://h/a/b"),
                    ("https://h/a/bc", "https://h/a"),
                    ("https://h/a/b/", "https://h/a/b"),
                    ("https://h/b", "https://h/"),
                ],
            ),
            (
                "11",
                &["https://h"],
                &[("https://u:p@h/", "https://h"), ("https://h./", "https://h"), ("https://h?q", "https://h")],
            ),
            ("12", &["http://[::1]"], &[("http://[0:0:0:0:0:0:0:1]:80/", "http://[::1]")]),
            (
                "14",
                &["https://*.ex.com"],
                &[("https://a.b.ex.com/", "https://*.ex.com"), ("https://ex.com/", "F"), ("https://notex.com/", "F")],
            ),
            ("15", &["https://*.ex.com/x", "https://a.ex.com"], &[("https://a.ex.com/x", "https://a.ex.com")]),
            ("16", &["any://h", "https://h"], &[("https://h/", "https://h"), ("http://h/", "any://h")]),
            (
                "17",
                &["https://h/admin"],
                &[
                    ("https://h/x/../admin/", "https://h/admin"),
                    ("https://h/pub/%2e%2E/admin", "https://h/admin"),
                    ("https://h/admin/../pub", "F"),
                ],
            ),
            ("18", &["https://h/a%7Eb"], &[("https://h/a~b", "https://h/a%7Eb")]),
            ("18", &["https://h/a/b"], &[("https://h/a%2Fb", "F")]),
        ]);
    }

    #[test]
    fn the_more_specific_mount_wins_whatever_the_order() {
        check(&[
            (
                "host over path, path over port, port over scheme",
                &[
                    "any://",
                    "https://",
                    "https://*.com",
                    "https://*.ex.com",
                    "any://a.ex.com:*",
                    "https://a.ex.com:8443",
                ],
                &[
                    ("https://a.ex.com:8443/", "https://a.ex.com:8443"),
                    ("https://a.ex.com/", "any://a.ex.com:*"),
                    ("https://b.ex.com/", "https://*.ex.com"),
                    ("https://c.com/", "https://*.com"),
                    ("https://d.net/", "https://"),
                    ("ftp://d.net/", "any://"),
                ],
            ),
            (
                "a host whose mounts do not match is looked for further out",
                &["https://a.ex.com/v1", "https://*.ex.com"],
                &[("https://a.ex.com/v2", "https://*.ex.com"), ("https://a.ex.com/v1", "https://a.ex.com/v1")],
            ),
            (
                "the same prefix twice: the last",
                &["https://h", "HTTPS://H.:443/"],
                &[("https://h/", "HTTPS://H.:443/")],
            ),
            (
                "Coraza CVE-2025-29914",
                &["https://h/api", "https://h/admin"],
                &[
                    ("https://h//admin", "F"),
                    ("https://h/a/../admin", "https://h/admin"),
                    ("https://h/%61dmin", "https://h/admin"),
                    ("https://h/apifoo", "F"),
                ],
            ),
            (
                "what stands before the @ is no host",
                &["https://example.com"],
                &[("https://example.com%5C@example.net/", "F")],
            ),
            (
                "a port that is written out",
                &["any://h", "any://h:443"],
                &[("https://h/", "any://h:443"), ("http://h/", "any://h")],
            ),
            (
                "a scheme over any, on the default port",
                &["any://h:443", "https://h"],
                &[("https://h/", "https://h"), ("wss://h/", "any://h:443")],
            ),
            (
                "no subdomain has an empty label",
                &["https://*.ex.com"],
                &[("https://.ex.com/", "F"), ("https://a..ex.com/", "F")],
            ),
            ("an empty segment", &["https://h/a//"], &[("https://h/a//b", "https://h/a//"), ("https://h/a/b", "F")]),
            ("a long path", &["https://h/a"], &[("https://h/a/b/c/d/e/f/g/h/i/j/k", "https://h/a")]),
        ]);
    }
}
