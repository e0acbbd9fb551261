//! A plain, slow jar, written like RFC 6265bis section 5.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::Uri;
use tower_outbound::cookie::{CookieLimits, Rejection, StoreAction};

use super::{DAY, Millis, NOW};

#[derive(Clone)]
pub(super) enum Attribute<'a> {
    Domain(&'a str),
    Path(&'a str),
    MaxAge(&'a str, Option<i64>),
    /// Seconds since 1970.
    Expires(Millis),
    Secure,
    HttpOnly,
    Partitioned,
    SameSite(&'a str),
    /// What is to be ignored.
    Noise(&'a str),
}

/// A `Set-Cookie` line: what it means, and how it is written.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
    pub(super) attributes: Vec<Attribute<'a>>,
    pub(super) text: String,
}

/// Every public suffix that the hosts below meet; a single label is one too.
pub(super) const SUFFIXES: &[&str] =
    &["com", "org", "uk", "co.uk", "io", "github.io", "s3.amazonaws.com"];

pub(super) fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap();
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    host.starts_with('[')
        || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        || last.strip_prefix("0x").is_some_and(is_hex)
}

pub(super) fn is_public_suffix(host: &str) -> bool {
    is_address(host) || !host.contains('.') || SUFFIXES.contains(&host)
}

/// The registrable domain: a label more than the longest public suffix.
pub(super) fn site(host: &str) -> &str {
    let mut domain = host;
    while !is_public_suffix(domain) {
        let (_, parent) = domain.split_once('.').unwrap();
        if is_public_suffix(parent) {
            return domain;
        }
        domain = parent;
    }
    host
}

pub(super) fn domain_match(host: &str, domain: &str) -> bool {
    host == domain || (!is_address(host) && host.ends_with(&format!(".{domain}")))
}

/// As browsers do, beyond the RFC: no cookie is sent across a public suffix between two names.
pub(super) fn share_cookies(host: &str, domain: &str) -> bool {
    domain_match(host, domain) && site(host) == site(domain)
}

pub(super) fn path_match(request: &str, cookie: &str) -> bool {
    request == cookie
        || (request.starts_with(cookie)
            && (cookie.ends_with('/') || request[cookie.len()..].starts_with('/')))
}

pub(super) fn canonical(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.split('.').any(str::is_empty) {
        return None;
    }
    let address =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    Some(address.map_or(host, |address| format!("[{address}]")))
}

/// A domain as a caller names it, not a URI.
pub(super) fn spelt(domain: &str) -> Option<String> {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    domain
        .parse::<Ipv6Addr>()
        .map_or_else(|_| canonical(domain), |address| Some(format!("[{address}]")))
}

/// The parts of a request's URI, split by hand.
pub(super) struct Place {
    pub(super) uri: Uri,
    /// `None`: no cookies in or out.
    pub(super) host: Option<String>,
    pub(super) rooted: bool,
    pub(super) path: String,
    pub(super) secure: bool,
}

impl Place {
    pub(super) fn new(scheme: &str, authority: &str, path: &str) -> Self {
        if scheme.is_empty() {
            let uri = format!("{authority}{path}").parse().unwrap();
            return Self { uri, host: None, rooted: false, path: String::new(), secure: false };
        }
        let spelt = authority.rsplit('@').next().unwrap();
        let spelt = match spelt.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => spelt,
        };
        let host = canonical(spelt);
        let secure = matches!(scheme, "https" | "wss")
            || host.as_deref().is_some_and(|host| {
                spelt == "localhost"
                    || host == "[::1]"
                    || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
            });
        let bare = path.split('?').next().unwrap();
        Self {
            uri: format!("{scheme}://{authority}{path}").parse().unwrap(),
            host,
            rooted: spelt.ends_with('.'),
            path: if bare.is_empty() { "/".to_owned() } else { bare.to_owned() },
            secure,
        }
    }

    pub(super) fn default_path(&self) -> &str {
        match self.path.rfind('/') {
            None | Some(0) => "/",
            Some(end) => &self.path[..end],
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Flags {
    pub(super) secure: bool,
    pub(super) http_only: bool,
    pub(super) partitioned: bool,
    pub(super) same_site: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) domain: String,
    pub(super) host_only: bool,
    pub(super) path: String,
    pub(super) flags: Flags,
    pub(super) expires: Option<Millis>,
    pub(super) created: Millis,
    /// Breaks ties of one millisecond.
    pub(super) order: u64,
    pub(super) last_used: Millis,
    pub(super) was_sent: bool,
}

impl Stored {
    pub(super) fn pair(&self) -> String {
        let equals = if self.name.is_empty() { "" } else { "=" };
        format!("{}{equals}{}", self.name, self.value)
    }

    /// What counts towards `CookieLimits::bytes`: a pair counts with its separator.
    pub(super) fn bytes(&self) -> usize {
        "; ".len() + self.pair().len() + self.domain.len() + self.path.len()
    }
}

pub(super) struct Oracle {
    pub(super) cookies: Vec<Stored>,
    pub(super) order: u64,
    pub(super) limits: CookieLimits,
}

impl Oracle {
    /// `Err`: the rules that the line breaks, of which any may be named.
    pub(super) fn set(
        &mut self,
        place: &Place,
        line: &Line<'_>,
    ) -> Result<StoreAction, BTreeSet<String>> {
        let now = NOW.get();
        self.expire();
        let mut broken = BTreeSet::new();
        let mut breaks = |rule: Rejection| {
            broken.insert(format!("{rule:?}"));
        };
        let Some(host) = place.host.clone() else {
            return Err([format!("{:?}", Rejection::NoHost)].into());
        };

        if line.name.is_empty() && line.value.is_empty() {
            breaks(Rejection::Empty);
        }
        if line.text.chars().any(|letter| letter.is_ascii_control() && letter != '\t') {
            breaks(Rejection::ControlCharacter);
        }
        let (mut domain_attribute, mut path, mut max_age, mut expires) = ("", None, None, None);
        let mut flags =
            Flags { secure: false, http_only: false, partitioned: false, same_site: None };
        for attribute in &line.attributes {
            match *attribute {
                Attribute::Domain(domain) => {
                    domain_attribute = domain.strip_prefix('.').unwrap_or(domain);
                }
                Attribute::Path(text) => path = text.starts_with('/').then_some(text),
                Attribute::MaxAge(_, age) => max_age = age.or(max_age),
                Attribute::Expires(at) => expires = Some(at),
                Attribute::Secure => flags.secure = true,
                Attribute::HttpOnly => flags.http_only = true,
                Attribute::Partitioned => flags.partitioned = true,
                Attribute::SameSite(value) => {
                    flags.same_site = ["strict", "lax", "none"]
                        .into_iter()
                        .find(|known| value.eq_ignore_ascii_case(known));
                }
                Attribute::Noise(_) => {}
            }
        }

        let (mut domain, mut host_only) = (host.clone(), true);
        if !domain_attribute.is_empty() {
            let wanted = canonical(domain_attribute);
            if !domain_attribute.is_ascii() {
                breaks(Rejection::NonAsciiDomain);
            } else if domain_attribute.ends_with('.') && !place.rooted {
                // Browsers and curl, against the letter of the RFC: only a host that is spelt so
                // may say so.
                breaks(Rejection::DomainMismatch);
            } else if let Some(wanted) = wanted {
                if is_public_suffix(&wanted) {
                    if wanted != host {
                        breaks(Rejection::PublicSuffix);
                        if !domain_match(&host, &wanted) {
                            breaks(Rejection::DomainMismatch);
                        }
                    }
                } else if !share_cookies(&host, &wanted) {
                    breaks(Rejection::DomainMismatch);
                } else {
                    (domain, host_only) = (wanted, false);
                }
            } else {
                breaks(Rejection::DomainMismatch);
            }
        }

        if flags.secure && !place.secure {
            breaks(Rejection::InsecureOrigin);
        }
        if flags.same_site == Some("none") && !flags.secure {
            breaks(Rejection::SameSiteNone);
        }
        let name = line.name.to_ascii_lowercase();
        if name.starts_with("__secure-") && !flags.secure {
            breaks(Rejection::SecurePrefix);
        }
        // A Domain that repeats an address does not break the promise of the prefix.
        let no_domain = domain_attribute.is_empty() || is_address(&host);
        if name.starts_with("__host-")
            && !(flags.secure && host_only && no_domain && path == Some("/"))
        {
            breaks(Rejection::HostPrefix);
        }
        if (name.starts_with("__http-") || name.starts_with("__host-http-"))
            && !(flags.secure && flags.http_only)
        {
            breaks(Rejection::HttpPrefix);
        }
        let value = line.value.to_ascii_lowercase();
        if name.is_empty()
            && ["__secure-", "__host-", "__http-"].iter().any(|prefix| value.starts_with(prefix))
        {
            breaks(Rejection::NamelessPrefix);
        }

        let path = path.unwrap_or_else(|| place.default_path()).to_owned();
        let shields = |old: &Stored| {
            old.flags.secure
                && (old.name == line.name
                    || line.name.is_empty()
                        && old.name == line.value.split('=').next().unwrap().trim())
                && (share_cookies(&old.domain, &domain) || share_cookies(&domain, &old.domain))
                && path_match(&path, &old.path)
        };
        if !place.secure && self.cookies.iter().any(shields) {
            breaks(Rejection::ShadowsSecure);
        }
        let latest = now + 400 * DAY;
        let expires = match (max_age, expires) {
            (Some(age), _) if age <= 0 => Some(0),
            (Some(age), _) => {
                Some(latest.min(now.saturating_add((age as Millis).saturating_mul(1000))))
            }
            (None, Some(at)) => Some(latest.min(at * 1000)),
            (None, None) => None,
        };
        let lives = expires.is_none_or(|at| at > now);
        let new = Stored {
            name: line.name.to_owned(),
            value: line.value.to_owned(),
            domain,
            host_only,
            path,
            flags,
            expires,
            created: now,
            order: self.order + 1,
            last_used: now,
            was_sent: false,
        };
        if lives && new.bytes() > self.limits.bytes {
            broken.insert(format!("{:?}", Rejection::NoRoom));
        }
        if !broken.is_empty() {
            return Err(broken);
        }

        let same = |old: &Stored| {
            old.name == new.name
                && old.domain == new.domain
                && old.host_only == new.host_only
                && old.path == new.path
        };
        let old = self.cookies.iter().position(same);
        if !lives {
            if let Some(at) = old {
                self.cookies.remove(at);
            }
            return Ok(StoreAction::Expired);
        }
        if let Some(at) = old {
            let old = &mut self.cookies[at];
            let unchanged = old.value == new.value && old.flags == new.flags;
            (old.value, old.flags) = (new.value, new.flags);
            (old.expires, old.last_used) = (new.expires, now);
            let order = old.order;
            self.evict(order);
            return Ok(if unchanged { StoreAction::Unchanged } else { StoreAction::Updated });
        }
        self.order += 1;
        let order = self.order;
        self.cookies.push(new);
        let of_site = |cookie: &&Stored| site(&cookie.domain) == site(&host);
        if self.cookies.iter().filter(of_site).count() > self.limits.per_domain {
            let worth = |cookie: &&Stored| (cookie.flags.secure, cookie.last_used, cookie.order);
            let out = self.cookies.iter().filter(of_site).min_by_key(worth).unwrap().order;
            self.cookies.retain(|cookie| cookie.order != out);
            if out == order {
                return Err([format!("{:?}", Rejection::NoRoom)].into());
            }
        }
        self.evict(order);
        Ok(StoreAction::Inserted)
    }

    /// How many shares of the jar the better cookies of its site fill.
    fn shares_before(&self, cookie: &Stored) -> usize {
        let CookieLimits { total, bytes, .. } = self.limits;
        let worth = |cookie: &Stored| (cookie.flags.secure, cookie.last_used, cookie.order);
        let better = self.cookies.iter().filter(|other| {
            site(&other.domain) == site(&cookie.domain) && worth(other) > worth(cookie)
        });
        let (len, text) = better.fold((0, 0), |(len, text), other| (len + 1, text + other.bytes()));
        (len / (total / 1_024).max(8)).max(text / (bytes / 1_024).max(4_096))
    }

    /// Evicts from a jar over its total as `CookieLimits::total` says, one by one, but never the
    /// newest.
    pub(super) fn evict(&mut self, newest: u64) {
        let CookieLimits { total, bytes, .. } = self.limits;
        let size =
            |cookies: &[Stored]| (cookies.len(), cookies.iter().map(Stored::bytes).sum::<usize>());
        let (len, text) = size(&self.cookies);
        if len <= total && text <= bytes {
            return;
        }
        let mut by_age: Vec<_> =
            self.cookies.iter().filter(|cookie| cookie.order != newest).collect();
        by_age.sort_by_key(|cookie| cookie.order);
        // Those that come first, as far as they fill a part of the jar.
        let fill = |cookies: &[&Stored], nth: usize| {
            let mut orders = Vec::new();
            let mut text = 0;
            for cookie in cookies {
                text += cookie.bytes();
                if orders.len() == total / nth || text > bytes / nth {
                    break;
                }
                orders.push(cookie.order);
            }
            orders
        };
        let first = fill(&by_age, 2);
        by_age.retain(|cookie| !first.contains(&cookie.order));
        by_age.reverse();
        let last = fill(&by_age, 8);
        let mut worth: Vec<_> = self
            .cookies
            .iter()
            .map(|cookie| {
                let order = cookie.order;
                let is_newest = order == newest;
                let share = usize::MAX - self.shares_before(cookie);
                let age = (first.contains(&order), share, last.contains(&order));
                (is_newest, age, cookie.was_sent, cookie.last_used, order)
            })
            .collect();
        worth.sort_unstable();
        for (.., out) in worth {
            let (len, text) = size(&self.cookies);
            if len == 1 || (len <= total - total / 16 && text <= bytes - bytes / 16) {
                return;
            }
            self.cookies.retain(|cookie| cookie.order != out);
        }
    }

    pub(super) fn header(&mut self, place: &Place) -> Option<String> {
        self.expire();
        let host = place.host.as_deref()?;
        let goes = |cookie: &Stored| {
            let is_for_host = if cookie.host_only {
                cookie.domain == host
            } else {
                share_cookies(host, &cookie.domain) && !is_public_suffix(&cookie.domain)
            };
            is_for_host
                && path_match(&place.path, &cookie.path)
                && (place.secure || !cookie.flags.secure)
        };
        let mut sent: Vec<_> = self.cookies.iter_mut().filter(|cookie| goes(cookie)).collect();
        sent.sort_by_key(|cookie| (cookie.flags.secure, cookie.last_used, cookie.order));
        let mut sent = sent.split_off(sent.len().saturating_sub(self.limits.header_cookies));
        // Of those the Secure ones, then the ones used last, that fit; one that is too long is left
        // out alone.
        let mut room = self.limits.header_bytes + "; ".len();
        sent.reverse();
        sent.retain(|cookie| {
            let left = room.checked_sub("; ".len() + cookie.pair().len());
            room = left.unwrap_or(room);
            left.is_some()
        });
        sent.sort_by_key(|cookie| (usize::MAX - cookie.path.len(), cookie.created, cookie.order));
        for cookie in &mut sent {
            (cookie.last_used, cookie.was_sent) = (NOW.get(), true);
        }
        let pairs: Vec<_> = sent.iter().map(|cookie| cookie.pair()).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }

    pub(super) fn remove(&mut self, domain: &str, path: &str, name: &str) -> Option<Stored> {
        self.expire();
        let domain = spelt(domain)?;
        let named =
            |cookie: &Stored| cookie.domain == domain && cookie.path == path && cookie.name == name;
        let at = self.cookies.iter().position(|cookie| named(cookie) && cookie.host_only);
        let at = at.or_else(|| self.cookies.iter().position(named))?;
        Some(self.cookies.remove(at))
    }

    pub(super) fn expire(&mut self) {
        self.cookies.retain(|cookie| cookie.expires.is_none_or(|at| at > NOW.get()));
    }

    /// Everything there is, in the order of creation.
    pub(super) fn listed(&mut self) -> Vec<String> {
        self.expire();
        let mut cookies: Vec<_> = self.cookies.iter().collect();
        cookies.sort_by_key(|cookie| (cookie.created, cookie.order));
        cookies
            .iter()
            .map(|c| {
                let Flags { secure, http_only, partitioned, same_site } = c.flags;
                let flags =
                    (c.host_only, secure, http_only, partitioned, same_site.unwrap_or("unset"));
                format!(
                    "{}={} {} {} {flags:?} {:?} {}",
                    c.name, c.value, c.domain, c.path, c.expires, c.created
                )
            })
            .collect()
    }
}
