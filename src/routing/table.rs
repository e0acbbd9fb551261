//! The look-up: a hash of the host, then, if the host has mounts with paths, a hash of each leading
//! part of the path.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use ahash::RandomState;

use super::{
    path::normalised,
    prefix::{Host, Port, Prefix},
    target::{self, Target, UriError},
};
use crate::authority::lower;

/// Which mount serves which requests. A mount is a number here.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Paths, RandomState>,
    under: HashMap<Box<str>, Paths, RandomState>,
    /// The most labels that a domain in `under` has. A longer domain is not looked up, however many
    /// labels the host of a request has.
    labels: usize,
    any: Paths,
    /// The numbers of the schemes other than http and https.
    schemes: HashMap<Box<str>, Scheme, RandomState>,
}

/// A scheme's number.
type Scheme = u32;
const HTTP: Scheme = 0;
const HTTPS: Scheme = 1;
const FIRST_OTHER: Scheme = 2;
/// After all others, so that a concrete scheme comes first.
const ANY: Scheme = Scheme::MAX;

/// What a mount compares in addition to host and path.
type Rule = (Port, Scheme);

/// The mounts of one host.
///
/// Small, and the most common mount needs no pointer: with many hosts, each pointer is a cache
/// miss.
#[derive(Clone, Debug, Default)]
struct Paths {
    /// The mounts without a path.
    root: Rules,
    deeper: Option<Box<Deeper>>,
}

/// The mounts of one host that have a path.
#[derive(Clone, Debug, Default)]
struct Deeper {
    mounts: HashMap<Arc<str>, Rules, RandomState>,
    /// The paths in order, for [`Table::nearest`]: a request without a mount must not cost a walk
    /// over all mounts of its host.
    sorted: BTreeSet<Arc<str>>,
    /// The most segments that a path in `mounts` has. A longer path is not looked up.
    depth: usize,
}

/// The mounts of one host and path.
#[derive(Clone, Debug, Default)]
enum Rules {
    #[default]
    None,
    One(Rule, u32),
    Many(BTreeMap<Rule, u32>),
}

impl Table {
    /// Files a prefix under `mount`. Returns the mount that has the same prefix already, or else
    /// `mount`.
    pub(super) fn insert(&mut self, prefix: &Prefix, mount: u32) -> u32 {
        let scheme = match prefix.scheme.as_deref() {
            None => ANY,
            Some("http") => HTTP,
            Some("https") => HTTPS,
            Some(other) => {
                // There are fewer schemes than mounts, and a mount is a `u32`.
                let next = FIRST_OTHER + self.schemes.len() as Scheme;
                *self.schemes.entry(other.into()).or_insert(next)
            }
        };
        let paths = match &prefix.host {
            Host::Exact(host) => self.exact.entry(host.clone()).or_default(),
            Host::Under(domain) => {
                self.labels = self.labels.max(domain.split('.').count());
                self.under.entry(domain.clone()).or_default()
            }
            Host::Any => &mut self.any,
        };
        let rules = if prefix.path.is_empty() {
            &mut paths.root
        } else {
            let deeper = paths.deeper.get_or_insert_default();
            deeper.depth = deeper.depth.max(prefix.path.matches('/').count());
            deeper.rules_of(&prefix.path)
        };
        rules.insert((prefix.port, scheme), mount)
    }

    /// Removes a prefix, and returns its mount.
    ///
    /// `labels` and `depth` stay as they are. A bound that is too high costs some look-ups; the
    /// exact one would cost a walk over all mounts.
    pub(super) fn remove(&mut self, prefix: &Prefix) -> Option<u32> {
        let rule = self.rule(prefix)?;
        let (hosts, host) = match &prefix.host {
            Host::Exact(host) => (&mut self.exact, host),
            Host::Under(domain) => (&mut self.under, domain),
            Host::Any => return self.any.remove(&prefix.path, rule),
        };
        let paths = hosts.get_mut(host)?;
        let removed = paths.remove(&prefix.path, rule);
        if paths.is_empty() {
            hosts.remove(host);
        }
        removed
    }

    /// The mount that has the same prefix.
    pub(super) fn number(&self, prefix: &Prefix) -> Option<u32> {
        let paths = match &prefix.host {
            Host::Exact(host) => self.exact.get(host)?,
            Host::Under(domain) => self.under.get(domain)?,
            Host::Any => &self.any,
        };
        let rules = if prefix.path.is_empty() {
            &paths.root
        } else {
            paths.deeper.as_ref()?.mounts.get(&*prefix.path)?
        };
        rules.number(self.rule(prefix)?)
    }

    /// `None` if no mount has the scheme.
    fn rule(&self, prefix: &Prefix) -> Option<Rule> {
        let scheme = match prefix.scheme.as_deref() {
            None => ANY,
            Some("http") => HTTP,
            Some("https") => HTTPS,
            Some(other) => *self.schemes.get(other)?,
        };
        Some((prefix.port, scheme))
    }

    /// The most specific mount for a request.
    pub(super) fn find(&self, target: &Target<'_>) -> Result<Option<u32>, UriError> {
        let scheme = match target.scheme {
            target::Scheme::Http => HTTP,
            target::Scheme::Https => HTTPS,
            // A scheme that no mount names matches the mounts with `any`.
            target::Scheme::Other(other) => {
                self.schemes.get(&*lower(other)).copied().unwrap_or(ANY)
            }
            target::Scheme::None => ANY,
        };
        let wanted = Wanted { port: target.default_port, scheme };
        // Hosts in the table have no port. So an authority that is in the table has no port either,
        // and is spelt canonically: it need not be taken apart. An authority that ends with a digit
        // most likely has a port. Its look-up would find nothing, for 110
        // instructions.
        let is_whole = !target.authority.ends_with(|last: char| last.is_ascii_digit());
        let paths = if is_whole { self.exact.get(target.authority) } else { None };
        let Some(paths) = paths else {
            return self.find_spelt(target, wanted, is_whole);
        };
        match paths.find(target, wanted) {
            None => Ok(self.find_around(target.authority, target, wanted)),
            found => Ok(found),
        }
    }

    /// For a request that no mount matches: the nearest mount of its host, or else of the longest
    /// wildcard that matches the host.
    pub(super) fn nearest(&self, target: &Target<'_>) -> Option<u32> {
        let (host, port) = target.host_and_port().ok()?;
        let mut domains = self.domains(&host);
        let paths = self.exact.get(&*host);
        let paths = paths.or_else(|| domains.find_map(|domain| self.under.get(domain)))?;
        paths.nearest(target.path(), port.or(target.default_port))
    }

    /// The look-up for an authority that must be taken apart. `is_known` says that no mount's host
    /// equals the whole authority.
    fn find_spelt(
        &self,
        target: &Target<'_>,
        mut wanted: Wanted,
        is_known: bool,
    ) -> Result<Option<u32>, UriError> {
        let (host, port) = target.host_and_port()?;
        wanted.port = port.or(wanted.port);
        let is_all = matches!(host, Cow::Borrowed(host) if host.len() == target.authority.len());
        let exact = if is_all && is_known { None } else { self.exact.get(&*host) };
        let found = match exact {
            Some(paths) => paths.find(target, wanted),
            None => {
                // The host of a mount was checked when the mount was built.
                target::check_numeric(&host)?;
                None
            }
        };
        Ok(found.or_else(|| self.find_around(&host, target, wanted)))
    }

    /// The look-up after the exact host: wildcards, then the mounts for every host.
    fn find_around(&self, host: &str, target: &Target<'_>, wanted: Wanted) -> Option<u32> {
        let under =
            if self.under.is_empty() { None } else { self.find_under(host, target, wanted) };
        under.or_else(|| self.any.find(target, wanted))
    }

    fn find_under(&self, host: &str, target: &Target<'_>, wanted: Wanted) -> Option<u32> {
        let mut under = self.domains(host).filter_map(|domain| self.under.get(domain));
        under.find_map(|paths| paths.find(target, wanted))
    }

    /// The domains that a host is a subdomain of, the longest first.
    fn domains<'h>(&self, host: &'h str) -> impl Iterator<Item = &'h str> {
        // An address has no domains. A text that names no host has none either.
        let is_name = !host.starts_with(['[', '.']) && !host.contains("..");
        let labels = if is_name { self.labels } else { 0 };
        // Byte by byte: for so few bytes the searches of `str` cost 300 instructions more.
        let dots = host.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'.');
        let first = dots.take(labels).last().map(|(dot, _)| &host[dot + 1..]);
        std::iter::successors(first, |domain| {
            let dot = domain.bytes().position(|byte| byte == b'.')?;
            Some(&domain[dot + 1..])
        })
    }
}

/// The port and scheme that a request needs of a mount's rule.
#[derive(Clone, Copy)]
struct Wanted {
    /// The port that is written, or implied by the scheme. `None` if there is neither.
    port: Option<u16>,
    scheme: Scheme,
}

impl Paths {
    fn find(&self, target: &Target<'_>, wanted: Wanted) -> Option<u32> {
        let deeper = self.deeper.as_ref().and_then(|deeper| deeper.find(target.path(), wanted));
        deeper.or_else(|| self.root.find(wanted))
    }

    /// The mount whose path has the longest beginning in common with `path`.
    fn nearest(&self, path: &str, port: Option<u16>) -> Option<u32> {
        let path = normalised(path);
        let path = format!("{}/", path.strip_suffix('/').unwrap_or(&path));
        // Every path begins with a slash. If nothing else is in common, the root is as near.
        let deeper = self.deeper.as_ref().and_then(|deeper| deeper.nearest(&path));
        let rules = deeper.filter(|(common, _)| *common > 1 || self.root.is_empty());
        rules.map_or(&self.root, |(_, rules)| rules).nearest(port)
    }

    fn remove(&mut self, path: &str, rule: Rule) -> Option<u32> {
        if path.is_empty() {
            return self.root.remove(rule);
        }
        let deeper = self.deeper.as_mut()?;
        let rules = deeper.mounts.get_mut(path)?;
        let removed = rules.remove(rule);
        if rules.is_empty() {
            deeper.mounts.remove(path);
            deeper.sorted.remove(path);
        }
        if deeper.mounts.is_empty() {
            self.deeper = None;
        }
        removed
    }

    const fn is_empty(&self) -> bool {
        self.root.is_empty() && self.deeper.is_none()
    }
}

impl Deeper {
    fn rules_of(&mut self, path: &str) -> &mut Rules {
        let path: Arc<str> = path.into();
        self.sorted.insert(Arc::clone(&path));
        self.mounts.entry(path).or_default()
    }

    fn find(&self, path: &str, wanted: Wanted) -> Option<u32> {
        let path = normalised(path);
        let path = path.strip_suffix('/').unwrap_or(&path);
        // No mount has a deeper path than this.
        let mut slashes = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/');
        let end = slashes.nth(self.depth).map_or(path.len(), |(at, _)| at);
        let mut path = &path[..end];
        while !path.is_empty() {
            if let found @ Some(_) = self.mounts.get(path).and_then(|rules| rules.find(wanted)) {
                return found;
            }
            path = &path[..path.rfind('/')?];
        }
        None
    }
}

impl Deeper {
    /// The mounts of the path that has the most in common with `path`, and how many bytes that is.
    /// `path` ends in a slash.
    fn nearest(&self, path: &str) -> Option<(usize, &Rules)> {
        // In byte order the path with the most in common is a neighbour. A parent path is not
        // always a neighbour: `/a-` is between `/a` and `/a/b`.
        let before = self.sorted.range::<str, _>((Unbounded, Excluded(path))).next_back();
        let after = self.sorted.range::<str, _>((Included(path), Unbounded)).next();
        let ends = path.match_indices('/').skip(1).take(self.depth);
        let above = ends.filter_map(|(end, _)| self.sorted.get(&path[..end])).last();
        // With a slash after both, so that `/a` has more in common with `/a/b` than `/a-` has.
        let common = |has: &str| {
            let bytes = has.bytes().chain([b'/']).zip(path.bytes());
            bytes.take_while(|(one, other)| one == other).count()
        };
        let near = [before, after, above].into_iter().flatten();
        let (common, nearest) =
            near.map(|has| (common(has), has)).max_by_key(|(common, _)| *common)?;
        Some((common, self.mounts.get(nearest)?))
    }
}

impl Rules {
    /// Returns the mount that has the rule already, or else `mount`.
    fn insert(&mut self, rule: Rule, mount: u32) -> u32 {
        match self {
            Self::None => {
                *self = Self::One(rule, mount);
                mount
            }
            Self::One(has, number) if *has == rule => *number,
            Self::One(has, number) => {
                *self = Self::Many(BTreeMap::from([(*has, *number), (rule, mount)]));
                mount
            }
            Self::Many(rules) => *rules.entry(rule).or_insert(mount),
        }
    }

    fn number(&self, rule: Rule) -> Option<u32> {
        match self {
            Self::One(has, number) => (*has == rule).then_some(*number),
            Self::Many(rules) => rules.get(&rule).copied(),
            Self::None => None,
        }
    }

    fn remove(&mut self, rule: Rule) -> Option<u32> {
        let (removed, is_empty) = match self {
            Self::One(has, number) if *has == rule => (Some(*number), true),
            Self::Many(rules) => (rules.remove(&rule), rules.is_empty()),
            _ => (None, false),
        };
        if is_empty {
            *self = Self::None;
        }
        removed
    }

    const fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// A mount with the same port and another scheme, or else a mount with another port.
    fn nearest(&self, port: Option<u16>) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One(_, mount) => Some(*mount),
            Self::Many(rules) => {
                let port = port.map_or(Port::Any, Port::Number);
                let next = rules.range((port, HTTP)..).next();
                next.or_else(|| rules.first_key_value()).map(|(_, mount)| *mount)
            }
        }
    }

    fn find(&self, wanted: Wanted) -> Option<u32> {
        match self {
            Self::None => None,
            Self::One((port, scheme), mount) => {
                let port = match port {
                    Port::Any => true,
                    Port::Number(number) => wanted.port == Some(*number),
                };
                (port && (*scheme == wanted.scheme || *scheme == ANY)).then_some(*mount)
            }
            Self::Many(rules) => find_among(rules, wanted),
        }
    }
}

fn find_among(rules: &BTreeMap<Rule, u32>, wanted: Wanted) -> Option<u32> {
    // The most specific first: a port before no port, then a scheme before `any`.
    let ports = [wanted.port.map(Port::Number), Some(Port::Any)];
    let rule = |port| [(port, wanted.scheme), (port, ANY)];
    ports.into_iter().flatten().flat_map(rule).find_map(|rule| rules.get(&rule).copied())
}
