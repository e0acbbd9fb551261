//! The look-up: a hash on the host, then one on each leading part of the path.

use std::collections::HashMap;

use super::prefix::{Host, Port, Prefix, Target, default_port};

/// Which mount serves which requests; a mount is a number here.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Paths>,
    under: HashMap<Box<str>, Paths>,
    any: Paths,
}

/// The mounts of one host.
#[derive(Debug, Default)]
struct Paths {
    mounts: HashMap<Box<str>, Vec<Entry>>,
    /// Most segments of a path among them: a longer path need not be tried.
    depth: usize,
}

/// A mount of one host and path; the more specific ones stand first.
#[derive(Debug)]
struct Entry {
    scheme: Option<Box<str>>,
    port: Port,
    mount: usize,
}

impl Table {
    /// The same prefix again takes the place of the first.
    pub(super) fn insert(&mut self, prefix: Prefix, mount: usize) {
        let paths = match prefix.host {
            Host::Exact(host) => self.exact.entry(host).or_default(),
            Host::Under(domain) => self.under.entry(domain).or_default(),
            Host::Any => &mut self.any,
        };
        paths.depth = paths.depth.max(prefix.path.matches('/').count());
        let entries = paths.mounts.entry(prefix.path).or_default();
        match entries.iter_mut().find(|entry| entry.scheme == prefix.scheme && entry.port == prefix.port) {
            Some(entry) => entry.mount = mount,
            None => {
                entries.push(Entry { scheme: prefix.scheme, port: prefix.port, mount });
                entries.sort_by_key(|entry| (entry.port == Port::Any, entry.scheme.is_none()));
            }
        }
    }

    /// The most specific mount for a request.
    pub(super) fn find(&self, target: &Target<'_>) -> Option<usize> {
        if let Some(mount) = self.exact.get(&*target.host).and_then(|paths| paths.find(target)) {
            return Some(mount);
        }
        if !self.under.is_empty() && !target.host.starts_with('[') {
            let mut rest = &*target.host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(mount) = self.under.get(parent).and_then(|paths| paths.find(target)) {
                    return Some(mount);
                }
                rest = parent;
            }
        }
        self.any.find(target)
    }
}

impl Paths {
    fn find(&self, target: &Target<'_>) -> Option<usize> {
        let path = &*target.path;
        // Up to the slash behind the deepest segment that any mount has.
        let end = path.match_indices('/').nth(self.depth).map_or(path.len(), |(at, _)| at);
        let mut path = path[..end].strip_suffix('/').unwrap_or(&path[..end]);
        loop {
            let entries = self.mounts.get(path).into_iter().flatten();
            if let Some(entry) = entries.into_iter().find(|entry| entry.matches(target)) {
                return Some(entry.mount);
            }
            path = &path[..path.rfind('/')?];
        }
    }
}

impl Entry {
    fn matches(&self, target: &Target<'_>) -> bool {
        let port = match self.port {
            Port::Any => true,
            Port::Number(number) => target.port == Some(number),
            Port::Default => target.port == default_port(&target.scheme),
        };
        port && self.scheme.as_deref().is_none_or(|scheme| scheme == target.scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What serves each request, by its prefix; `F` for the fallback.
    fn check(rows: &[(&str, &[&str], &[(&str, &str)])]) {
        let mut wrong = Vec::new();
        for (row, prefixes, requests) in rows {
            let mut table = Table::default();
            for (mount, prefix) in prefixes.iter().enumerate() {
                table.insert(Prefix::parse(prefix).unwrap(), mount);
            }
            for (uri, want) in *requests {
                let parsed = uri.parse().unwrap();
                let got = table.find(&Target::of(&parsed, None).unwrap()).map_or("F", |mount| prefixes[mount]);
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
            ("a long path", &["https://h/a"], &[("https://h/a/b/c/d/e/f/g/h/i/j/k", "https://h/a")]),
        ]);
    }
}
