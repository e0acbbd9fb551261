//! Which mount serves a request: by host, then path, then port, then scheme.
//!
//! A lookup hashes the host, each of its suffixes that could be a wildcard's, and each ancestor of the path down to the
//! depth that the host's mounts have; how many mounts there are does not matter.

use std::{
    borrow::Cow,
    cell::OnceCell,
    collections::{BTreeMap, HashMap},
    iter,
};

use http::{Uri, uri::Scheme};

use super::{
    normal::{self, Host, HostFault, HostKind},
    prefix::{HostRule, PortRule, Prefix},
};

/// Where a request's URI points to.
#[derive(Debug)]
pub(super) struct Target<'u> {
    scheme: &'u Scheme,
    host: Host<'u>,
    /// The one in the URI, else the scheme's default; `None` if there is neither.
    port: Option<u16>,
    is_default_port: bool,
    /// As it was sent.
    path: &'u str,
}

/// Why a URI has no [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UriFault {
    Relative,
    Port,
    NumericHost,
}

impl<'u> Target<'u> {
    /// A URI with neither scheme nor authority is taken to be one of `default_origin`'s.
    pub(super) fn of(uri: &'u Uri, default_origin: Option<&'u Uri>) -> Result<Self, UriFault> {
        let origin = match default_origin {
            Some(origin) if uri.scheme().is_none() && uri.authority().is_none() => origin,
            _ => uri,
        };
        let (Some(scheme), Some(authority)) = (origin.scheme(), origin.authority()) else {
            return Err(UriFault::Relative);
        };
        // Not `authority.port()`, which has no answer for `a:99999`: the same one as for `a`.
        let authority_host = authority.host();
        let host_port = authority.as_str().rsplit('@').next().unwrap_or_default();
        let explicit = match host_port.get(authority_host.len()..).map(str::as_bytes) {
            // RFC 3986 section 6.2.3: an empty port is the default.
            Some([] | [b':']) => None,
            Some([b':', port @ ..]) => Some(decimal(port).ok_or(UriFault::Port)?),
            _ => return Err(UriFault::Port),
        };
        let host = normal::host(authority_host).map_err(|fault| match fault {
            HostFault::Empty => UriFault::Relative,
            HostFault::Numeric => UriFault::NumericHost,
        })?;
        let default = normal::default_port(scheme.as_str());
        Ok(Self {
            scheme,
            host,
            port: explicit.or(default),
            is_default_port: explicit.is_none() || explicit == default,
            path: uri.path(),
        })
    }
}

fn decimal(digits: &[u8]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u16::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The mounts, by number.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<String, Paths>,
    below: HashMap<String, Paths>,
    any: Paths,
    /// The most labels that a key of `below` has: a longer suffix of a host is not worth a look.
    labels: usize,
    /// Numbers for the schemes beyond http and https.
    schemes: HashMap<String, SchemeId>,
}

/// The mounts of one host.
#[derive(Debug, Default)]
struct Paths {
    root: Rules,
    below: HashMap<String, Rules>,
    /// The most segments that a key of `below` has.
    depth: usize,
}

/// The mounts of one path.
type Rules = BTreeMap<(PortRule, SchemeId), usize>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct SchemeId(usize);

impl SchemeId {
    const ANY: Self = Self(0);
    const HTTP: Self = Self(1);
    const HTTPS: Self = Self(2);
    const FIRST_OTHER: usize = 3;
}

impl Table {
    /// Files `prefix` under `mount`, or says under which number the same prefix stands already.
    pub(super) fn insert(&mut self, prefix: Prefix, mount: usize) -> usize {
        let scheme = self.scheme_id(prefix.scheme);
        let paths = match prefix.host {
            HostRule::Exact(host) => self.exact.entry(host).or_default(),
            HostRule::Below(domain) => {
                self.labels = self.labels.max(domain.split('.').count());
                self.below.entry(domain).or_default()
            }
            HostRule::Any => &mut self.any,
        };
        *paths.rules(prefix.path).entry((prefix.port, scheme)).or_insert(mount)
    }

    fn scheme_id(&mut self, scheme: Option<String>) -> SchemeId {
        let Some(scheme) = scheme else { return SchemeId::ANY };
        let next = SchemeId(SchemeId::FIRST_OTHER + self.schemes.len());
        match scheme.as_str() {
            "http" => SchemeId::HTTP,
            "https" => SchemeId::HTTPS,
            _ => *self.schemes.entry(scheme).or_insert(next),
        }
    }

    /// The number of the mount that serves `target`.
    pub(super) fn find(&self, target: &Target<'_>) -> Option<usize> {
        let host: &str = &target.host.text;
        let labels = if target.host.kind == HostKind::Name { self.labels } else { 0 };
        let below = parents(host, labels).filter_map(|domain| self.below.get(domain));
        let places = self.exact.get(host).into_iter().chain(below).chain(iter::once(&self.any));

        let keys = self.keys(target);
        let path = OnceCell::new();
        places
            .filter(|paths| !paths.is_empty())
            .find_map(|paths| paths.find(&keys, || path.get_or_init(|| normal::path(target.path))))
    }

    /// The rules that would match, the most specific first.
    fn keys(&self, target: &Target<'_>) -> [Option<(PortRule, SchemeId)>; 6] {
        let scheme = match target.scheme {
            scheme if *scheme == Scheme::HTTPS => Some(SchemeId::HTTPS),
            scheme if *scheme == Scheme::HTTP => Some(SchemeId::HTTP),
            scheme => self.schemes.get(&*normal::lower(scheme.as_str())).copied(),
        };
        let number = target.port.map(PortRule::Number);
        let default = target.is_default_port.then_some(PortRule::Default);
        let any = Some(PortRule::Any);
        let key = |port: Option<PortRule>, scheme: Option<SchemeId>| port.zip(scheme);
        [
            key(number, scheme),
            key(number, Some(SchemeId::ANY)),
            key(default, scheme),
            key(default, Some(SchemeId::ANY)),
            key(any, scheme),
            key(any, Some(SchemeId::ANY)),
        ]
    }
}

impl Paths {
    fn is_empty(&self) -> bool {
        self.root.is_empty() && self.below.is_empty()
    }

    fn rules(&mut self, path: String) -> &mut Rules {
        if path.is_empty() {
            return &mut self.root;
        }
        self.depth = self.depth.max(path.matches('/').count());
        self.below.entry(path).or_default()
    }

    fn find<'p>(
        &self,
        keys: &[Option<(PortRule, SchemeId)>],
        path: impl FnOnce() -> &'p Cow<'p, str>,
    ) -> Option<usize> {
        let find = |rules: &Rules| keys.iter().flatten().find_map(|key| rules.get(key).copied());
        if !self.below.is_empty()
            && let found @ Some(_) =
                ancestors(path(), self.depth).filter_map(|path| self.below.get(path)).find_map(find)
        {
            return found;
        }
        find(&self.root)
    }
}

/// The domains that `host` is below, the longest first, of at most `labels` labels.
fn parents(host: &str, labels: usize) -> impl Iterator<Item = &str> {
    let first = host.rmatch_indices('.').take(labels).last().map(|(dot, _)| &host[dot + 1..]);
    iter::successors(first, |domain| domain.split_once('.').map(|(_, parent)| parent))
}

/// `path` and those it is below, the longest first, of at most `depth` segments and without the root.
fn ancestors(path: &str, depth: usize) -> impl Iterator<Item = &str> {
    let end = path.match_indices('/').nth(depth).map_or(path.len(), |(slash, _)| slash);
    iter::successors(Some(&path[..end]), |path| path.rfind('/').map(|slash| &path[..slash]))
        .take_while(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(prefixes: &[&str]) -> Table {
        let mut table = Table::default();
        for (mount, prefix) in prefixes.iter().enumerate() {
            table.insert(Prefix::parse(prefix).unwrap(), mount);
        }
        table
    }

    #[test]
    fn the_most_specific_mount_serves_whatever_the_order_they_were_mounted_in() {
        // Each mount outranks those behind it for the request.
        let rows: [(&str, &[&str]); 6] = [
            (
                "https://a.b.ex.com/x/y",
                &[
                    "https://a.b.ex.com/x/y",
                    "any://a.b.ex.com/x/y",
                    "https://a.b.ex.com:*/x/y",
                    "any://a.b.ex.com:*/x/y",
                    "https://a.b.ex.com/x",
                    "any://a.b.ex.com:*/",
                    "https://*.b.ex.com/x/y",
                    "https://*.b.ex.com",
                    "https://*.ex.com/x/y",
                    "any://*.com:*/x/y",
                    "https://",
                    "any://",
                ],
            ),
            ("https://h:8443/", &["any://h:8443", "https://h:*", "any://h:*", "https://", "any://"]),
            ("https://h/", &["https://h", "any://h:443", "any://h", "https://h:*"]),
            ("grpc://h/", &["grpc://h", "any://h", "grpc://h:*", "any://h:*", "grpc://", "any://"]),
            ("GRPC://h:1/", &["grpc://h:1", "any://h:1", "grpc://h:*", "any://h:*"]),
            ("http://[::1]/a//b/", &["http://[::1]/a//b", "http://[::1]/a//", "http://[::1]/a", "http://[::1]"]),
        ];
        let mut failures = Vec::new();
        for (uri, prefixes) in rows {
            let uri: Uri = uri.parse().unwrap();
            let target = Target::of(&uri, None).unwrap();
            for rank in 0..prefixes.len() {
                let rest = &prefixes[rank..];
                let backwards: Vec<_> = rest.iter().rev().copied().collect();
                if table(rest).find(&target) != Some(0) || table(&backwards).find(&target) != Some(rest.len() - 1) {
                    failures.push(format!("{uri}: {} does not outrank {:?}", rest[0], &rest[1..]));
                }
            }
        }
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn a_host_without_a_mount_for_the_rest_is_no_match_and_leaves_it_to_the_next() {
        let rows: [(&[&str], &str, Option<usize>); 11] = [
            (&["https://a.ex.com/x", "https://*.ex.com"], "https://a.ex.com/y", Some(1)),
            (&["https://a.ex.com:1", "https://*.ex.com:*", "https://"], "https://a.ex.com:2/", Some(1)),
            (&["http://a.ex.com", "http://*.ex.com", "https://"], "https://a.ex.com/", Some(2)),
            (&["https://h/a/b:c", "any://h/a"], "http://h/a/b:c", Some(1)),
            (&["https://*.ex.com"], "https://.ex.com/", None),
            (&["https://*.ex.com"], "https://a..ex.com/", None),
            (&["any://h"], "https://h:80/", None),
            (&["any://h"], "foo://h:80/", None),
            (&["any://h"], "foo://h/", Some(0)),
            (&["foo://h"], "bar://h/", None),
            (&[], "https://h/", None),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(prefixes, uri, want)| {
                let parsed: Uri = uri.parse().unwrap();
                let got = table(prefixes).find(&Target::of(&parsed, None).unwrap());
                (got != want).then(|| format!("{prefixes:?} {uri}: {got:?}, want {want:?}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn one_prefix_has_one_number_however_it_is_spelt() {
        let mut table = Table::default();
        let rows = [
            ("https://h", 0),
            ("https://H./", 0),
            ("HTTPS://h:443/x/..", 0),
            ("https://h:*", 3),
            ("any://h", 4),
            ("https://h/%61", 5),
            ("https://h/a/", 5),
            ("foo://h", 7),
            ("Foo://h", 7),
            ("bar://h", 9),
        ];
        for (mount, (prefix, want)) in rows.into_iter().enumerate() {
            assert_eq!(table.insert(Prefix::parse(prefix).unwrap(), mount), want, "{prefix}");
        }
    }

    #[test]
    fn a_uri_that_says_not_clearly_where_it_goes_has_no_target() {
        let rows = [
            ("/rel", Some(UriFault::Relative)),
            ("*", Some(UriFault::Relative)),
            ("h", Some(UriFault::Relative)),
            ("h:443", Some(UriFault::Relative)),
            ("http://:80/", Some(UriFault::Relative)),
            ("http://./", Some(UriFault::Relative)),
            ("http://u@:80/", Some(UriFault::Relative)),
            ("http://a:99999/", Some(UriFault::Port)),
            ("http://a:65536/", Some(UriFault::Port)),
            ("http://a:65535/", None),
            ("http://a:x/", Some(UriFault::Port)),
            ("http://a:+80/", Some(UriFault::Port)),
            ("http://u:1@a:x/", Some(UriFault::Port)),
            ("http://a:000080/", None),
            ("http://a:/", None),
            ("http://[::1]x:80/", Some(UriFault::Port)),
            ("http://[::1]80/", Some(UriFault::Port)),
            ("http://x[a:b]/", Some(UriFault::Port)),
            ("http://127.1/", Some(UriFault::NumericHost)),
            ("http://127.1./", Some(UriFault::NumericHost)),
            ("http://u@0x7f.1:80/", Some(UriFault::NumericHost)),
            ("http://127.0.0.1/", None),
        ];
        let failures: Vec<_> = rows
            .into_iter()
            .filter_map(|(uri, want)| {
                let parsed: Uri = uri.parse().unwrap();
                let got = Target::of(&parsed, None).err();
                (got != want).then(|| format!("{uri}: {got:?}, want {want:?}"))
            })
            .collect();
        assert!(failures.is_empty(), "{failures:#?}");
    }

    #[test]
    fn domains_and_paths_are_tried_from_the_longest_within_bounds() {
        assert_eq!(parents("a.b.ex.com", 9).collect::<Vec<_>>(), ["b.ex.com", "ex.com", "com"]);
        assert_eq!(parents("a.b.ex.com", 2).collect::<Vec<_>>(), ["ex.com", "com"]);
        assert_eq!(parents("a.b.ex.com", 0).count(), 0);
        assert_eq!(parents("localhost", 3).count(), 0);
        assert_eq!(ancestors("/a/b/c", 9).collect::<Vec<_>>(), ["/a/b/c", "/a/b", "/a"]);
        assert_eq!(ancestors("/a/b/c", 2).collect::<Vec<_>>(), ["/a/b", "/a"]);
        assert_eq!(ancestors("//a", 2).collect::<Vec<_>>(), ["//a", "/"]);
        assert_eq!(ancestors("", 2).count(), 0);
    }
}
