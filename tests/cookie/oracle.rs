//! The jar against a plain, slow one, over many short stories that are told by seed.
//!
//! `COOKIE_SEQUENCES` says how many stories, `COOKIE_SEED` runs the one story of that seed and
//! prints its steps.

use std::{
    cell::Cell,
    collections::BTreeSet,
    env,
    net::{Ipv4Addr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, Uri, header::SET_COOKIE};
use tower_outbound::cookie::{CookieJar, CookieLimits, Format, Rejection, StoreAction};

const STEPS: usize = 30;

/// Milliseconds: what the jar counts in, so that both compare the same.
type Millis = u64;
const START: Millis = 1_750_000_000_000;
const DAY: Millis = 86_400_000;

thread_local! {
    /// Each thread tells its own stories, at its own time.
    static NOW: Cell<Millis> = const { Cell::new(START) };
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW.get())
}

// ---- The oracle: RFC 6265bis section 5, read aloud. ----

/// Every public suffix that the hosts below meet; a single label is one too.
const SUFFIXES: &[&str] = &["com", "org", "uk", "co.uk", "io", "github.io", "s3.amazonaws.com"];

fn is_address(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap();
    let is_hex = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    host.starts_with('[')
        || (!last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        || last.strip_prefix("0x").is_some_and(is_hex)
}

fn is_public_suffix(host: &str) -> bool {
    is_address(host) || !host.contains('.') || SUFFIXES.contains(&host)
}

/// The registrable domain: a label more than the longest public suffix.
fn site(host: &str) -> &str {
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

fn domain_match(host: &str, domain: &str) -> bool {
    host == domain || (!is_address(host) && host.ends_with(&format!(".{domain}")))
}

/// As browsers do, and beyond the RFC: no cookie reaches across a public suffix that lies between
/// two names.
fn share_cookies(host: &str, domain: &str) -> bool {
    domain_match(host, domain) && site(host) == site(domain)
}

fn path_match(request: &str, cookie: &str) -> bool {
    request == cookie
        || (request.starts_with(cookie)
            && (cookie.ends_with('/') || request[cookie.len()..].starts_with('/')))
}

fn canonical(host: &str) -> Option<String> {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if host.split('.').any(str::is_empty) {
        return None;
    }
    let address =
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')?.parse::<Ipv6Addr>().ok());
    Some(address.map_or(host, |address| format!("[{address}]")))
}

/// A domain as a caller names it, not a URI.
fn spelt(domain: &str) -> Option<String> {
    let domain = domain.strip_prefix('.').unwrap_or(domain);
    domain
        .parse::<Ipv6Addr>()
        .map_or_else(|_| canonical(domain), |address| Some(format!("[{address}]")))
}

/// Where a request goes, taken apart by hand.
struct Place {
    uri: Uri,
    /// `None`: no cookies in or out.
    host: Option<String>,
    rooted: bool,
    path: String,
    secure: bool,
}

impl Place {
    fn new(scheme: &str, authority: &str, path: &str) -> Self {
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
                host == "localhost"
                    || host.ends_with(".localhost")
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

    fn default_path(&self) -> &str {
        match self.path.rfind('/') {
            None | Some(0) => "/",
            Some(end) => &self.path[..end],
        }
    }
}

#[derive(Clone, PartialEq, Debug)]
struct Flags {
    secure: bool,
    http_only: bool,
    partitioned: bool,
    same_site: Option<&'static str>,
}

#[derive(Clone, Debug)]
struct Stored {
    name: String,
    value: String,
    domain: String,
    host_only: bool,
    path: String,
    flags: Flags,
    expires: Option<Millis>,
    created: Millis,
    /// Breaks ties of one millisecond.
    order: u64,
    last_used: Millis,
    was_sent: bool,
}

impl Stored {
    fn pair(&self) -> String {
        let equals = if self.name.is_empty() { "" } else { "=" };
        format!("{}{equals}{}", self.name, self.value)
    }

    /// What counts towards `CookieLimits::bytes`: a pair counts with its separator.
    fn bytes(&self) -> usize {
        "; ".len() + self.pair().len() + self.domain.len() + self.path.len()
    }
}

struct Oracle {
    cookies: Vec<Stored>,
    order: u64,
    limits: CookieLimits,
}

impl Oracle {
    /// `Err`: the rules that the line breaks, of which any may be named.
    fn set(&mut self, place: &Place, line: &Line) -> Result<StoreAction, BTreeSet<String>> {
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
        if line.value.contains('\x01') {
            breaks(Rejection::ControlCharacter);
        }
        let (mut domain_attribute, mut path, mut max_age, mut expires) = ("", None, None, None);
        let mut flags =
            Flags { secure: false, http_only: false, partitioned: false, same_site: None };
        for attribute in &line.attributes {
            match *attribute {
                Attribute::Domain(domain) => {
                    domain_attribute = domain.strip_prefix('.').unwrap_or(domain)
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
        // A Domain that repeats an address takes nothing from the promise.
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

    /// The jar over its total: as `CookieLimits::total` tells, one by one, the newest aside.
    fn evict(&mut self, newest: u64) {
        let CookieLimits { total, bytes, .. } = self.limits;
        let size =
            |cookies: &[Stored]| (cookies.len(), cookies.iter().map(Stored::bytes).sum::<usize>());
        let (len, text) = size(&self.cookies);
        if len <= total && text <= bytes {
            return;
        }
        // Those that came first, as far as they fill half of the jar.
        let mut spared = Vec::new();
        let mut by_age: Vec<_> =
            self.cookies.iter().filter(|cookie| cookie.order != newest).collect();
        by_age.sort_by_key(|cookie| cookie.order);
        let mut half = 0;
        for cookie in by_age {
            half += cookie.bytes();
            if spared.len() == total / 2 || half > bytes / 2 {
                break;
            }
            spared.push(cookie.order);
        }
        loop {
            let (len, text) = size(&self.cookies);
            if len == 1 || (len <= total - total / 16 && text <= bytes - bytes / 16) {
                return;
            }
            let worth = |cookie: &&Stored| {
                let order = cookie.order;
                (order == newest, spared.contains(&order), cookie.was_sent, cookie.last_used, order)
            };
            let out = self.cookies.iter().min_by_key(worth).unwrap().order;
            self.cookies.retain(|cookie| cookie.order != out);
        }
    }

    fn header(&mut self, place: &Place) -> Option<String> {
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

    fn remove(&mut self, domain: &str, path: &str, name: &str) -> Option<Stored> {
        self.expire();
        let domain = spelt(domain)?;
        let named =
            |cookie: &Stored| cookie.domain == domain && cookie.path == path && cookie.name == name;
        let at = self.cookies.iter().position(|cookie| named(cookie) && cookie.host_only);
        let at = at.or_else(|| self.cookies.iter().position(named))?;
        Some(self.cookies.remove(at))
    }

    fn expire(&mut self) {
        self.cookies.retain(|cookie| cookie.expires.is_none_or(|at| at > NOW.get()));
    }

    /// Everything there is, in the order of creation.
    fn listed(&mut self) -> Vec<String> {
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

fn listed(jar: &CookieJar) -> Vec<String> {
    let millis = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis;
    jar.iter()
        .map(|c| {
            let same_site = c
                .same_site()
                .map_or("unset".to_owned(), |value| format!("{value:?}").to_lowercase());
            let flags = (c.host_only(), c.secure(), c.http_only(), c.partitioned(), &*same_site);
            let (expires, created) = (c.expires().map(millis), millis(c.created()));
            format!(
                "{}={} {} {} {flags:?} {expires:?} {created}",
                c.name(),
                c.value(),
                c.domain(),
                c.path()
            )
        })
        .collect()
}

// ---- The stories. ----

#[derive(Clone)]
enum Attribute {
    Domain(&'static str),
    Path(&'static str),
    MaxAge(&'static str, Option<i64>),
    /// Seconds since 1970.
    Expires(Millis),
    Secure,
    HttpOnly,
    Partitioned,
    SameSite(&'static str),
    /// What is to be ignored.
    Noise(&'static str),
}

/// A `Set-Cookie` line: what it means, and how it is written.
struct Line {
    name: &'static str,
    value: &'static str,
    attributes: Vec<Attribute>,
    text: String,
}

/// Hosts that are likely to meet one another's cookies, and domains that their servers may claim.
const FAMILIES: &[(&[&str], &[&str])] = &[
    (
        &[
            "example.com",
            "www.example.com",
            "a.www.example.com",
            "shop.example.com",
            "example.com.",
            "WWW.Example.com.",
            "www.example.com:8443",
            "user:pw@www.example.com",
            "notexample.com",
            "example.org",
        ],
        &[
            "example.com",
            "example.com",
            ".example.com",
            "www.example.com",
            "EXAMPLE.com",
            "shop.example.com",
            "com",
            "com.",
            "example.com.",
            "..example.com",
            "ample.com",
            "example.org",
            "b\u{fc}cher.example",
            ".",
            "",
        ],
    ),
    (
        &["x.co.uk", "y.x.co.uk", "z.co.uk", "co.uk", "uk", "x.co.uk.", "X.CO.UK"],
        &["x.co.uk", ".x.co.uk", "y.x.co.uk", "co.uk", "co.UK", "uk", "z.co.uk", "co.uk."],
    ),
    (
        &["github.io", "foo.github.io", "bar.github.io", "a.foo.github.io", "io", "github.io."],
        &["github.io", ".github.io", "foo.github.io", "a.foo.github.io", "io"],
    ),
    (
        &[
            "amazonaws.com",
            "x.amazonaws.com",
            "s3.amazonaws.com",
            "b.s3.amazonaws.com",
            "c.b.s3.amazonaws.com",
        ],
        &["amazonaws.com", "s3.amazonaws.com", "b.s3.amazonaws.com", "x.amazonaws.com", "com"],
    ),
    (
        &[
            "10.0.0.1",
            "127.0.0.1",
            "127.1",
            "[::1]",
            "[0:0::1]:80",
            "5.127.1",
            "10.0.0.1:80",
            "10.0.0.1.",
            "0x7f.1",
        ],
        &["10.0.0.1", "0.0.1", "127.1", "[::1]", "::1", "127.0.0.1", "1", ".10.0.0.1", "0x7f.1"],
    ),
    (
        &[
            "localhost",
            "LOCALHOST:3000",
            "app.localhost",
            "a.app.localhost",
            "intranet",
            "a.intranet",
            "com",
        ],
        &["localhost", ".localhost", "app.localhost", "intranet", "a.intranet", "com"],
    ),
];
/// Requests that no cookie belongs to.
const NOWHERE: &[(&str, &str, &str)] = &[
    ("", "", "/a"),
    ("", "example.com", ""),
    ("", "www.example.com:443", ""),
    ("https", "example.com..", "/"),
];
const PATHS: &[&str] = &["/", "/", "/a", "/a/", "/a/b", "/ab", "//a", "/a/b?q=/c", ""];
const NAMES: &[&str] = &[
    "a",
    "a",
    "a",
    "b",
    "c",
    "",
    "__Secure-a",
    "__Host-a",
    "__host-b",
    "__Http-a",
    "__Host-Http-a",
];
const VALUES: &[&str] =
    &["1", "1", "2", "", "x=y", "a=1", "b", "x y", "\"q\"", "__Host-a=1", "\x01"];

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn line(&mut self, domains: &[&'static str]) -> Line {
        let (name, mut value) = (self.pick(NAMES), self.pick(VALUES));
        if value == "\x01" && !self.one_in(4) {
            value = "3";
        }
        let mut attributes = Vec::new();
        for _ in 0..self.below(5) {
            let attribute = match self.below(12) {
                0..3 => Attribute::Domain(self.pick(domains)),
                3..5 => Attribute::Path(self.pick(&["/", "/", "/a", "/a/", "/a/b", "//", "a", ""])),
                5 => {
                    let (text, age) = self.pick(&[
                        ("5", Some(5)),
                        ("5", Some(5)),
                        ("3600", Some(3600)),
                        ("0", Some(0)),
                        ("-1", Some(-1)),
                        ("99999999999999999999", Some(i64::MAX)),
                        ("", None),
                        ("-", None),
                        ("+5", None),
                        ("1e3", None),
                    ]);
                    Attribute::MaxAge(text, age)
                }
                6 => Attribute::Expires(
                    START / 1000 - 10 + self.pick(&[0, 20, 20, 4_000, 86_400, 43_200_000]),
                ),
                7..9 => Attribute::Secure,
                9 => Attribute::HttpOnly,
                10 => Attribute::SameSite(self.pick(&["Lax", "strict", "None", "what", ""])),
                _ if self.one_in(2) => Attribute::Partitioned,
                _ => Attribute::Noise(self.pick(&[
                    "Priority=High",
                    "Expires=soon",
                    "",
                    "Max-Age",
                    "=",
                    "Secure-ish",
                ])),
            };
            attributes.push(attribute);
        }
        // What a prefix asks for is seldom met by chance.
        if name.starts_with("__") && !self.one_in(3) {
            attributes.extend([Attribute::Secure, Attribute::HttpOnly, Attribute::Path("/")]);
        }
        let mut text = match name {
            "" if !value.contains('=') && self.one_in(2) => value.to_owned(),
            _ if self.one_in(4) => format!(" {name}\t= {value} "),
            _ => format!("{name}={value}"),
        };
        for attribute in &attributes {
            let attribute = match attribute {
                Attribute::Domain(domain) => format!("Domain={domain}"),
                Attribute::Path(path) => format!("Path={path}"),
                Attribute::MaxAge(age, _) => format!("Max-Age={age}"),
                Attribute::Expires(at) => {
                    format!(
                        "Expires={}",
                        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(*at))
                    )
                }
                Attribute::Secure => "Secure".to_owned(),
                Attribute::HttpOnly => "HttpOnly".to_owned(),
                Attribute::Partitioned => "Partitioned".to_owned(),
                Attribute::SameSite(value) => format!("SameSite={value}"),
                Attribute::Noise(text) => (*text).to_owned(),
            };
            let (name, value) =
                attribute.split_once('=').map_or((&*attribute, None), |(n, v)| (n, Some(v)));
            let name = if self.one_in(4) { name.to_ascii_uppercase() } else { name.to_owned() };
            text += self.pick(&["; ", "; ", ";", " ;\t"]);
            text += &name;
            if let Some(value) = value {
                text += self.pick(&["=", "=", " = "]);
                text += value;
            }
        }
        Line { name, value, attributes, text }
    }
}

/// Tells one story to both; `Err` says where they part.
fn story(seed: u64, mut steps: Option<&mut Vec<String>>) -> Result<(), String> {
    let random = &mut Random(seed);
    let (hosts, domains) = random.pick(FAMILIES);
    let mut own: Vec<_> = (0..4).map(|_| random.pick(hosts)).collect();
    let stranger = random.pick(FAMILIES).0;
    own.push(random.pick(stranger));
    let place = |random: &mut Random, host: &str| {
        let scheme = random.pick(&["https", "https", "https", "http", "http", "wss", "ws"]);
        Place::new(scheme, host, random.pick(PATHS))
    };
    // Few lines, so that each comes again, from the same host and from others.
    let lines: Vec<_> = (0..2 + random.below(8)).map(|_| random.line(domains)).collect();
    let mut limits = CookieLimits::default();
    if random.one_in(3) {
        limits.per_domain = 1 + random.below(4);
    }
    if random.one_in(4) {
        limits.header_cookies = 1 + random.below(3);
    }
    if random.one_in(4) {
        limits.header_bytes = random.below(20);
    }
    if random.one_in(3) {
        // From 16 on more than one goes at once.
        limits.total = random.pick(&[1, 2, 3, 5, 8, 16, 17]);
    }
    if random.one_in(4) {
        limits.bytes = 16 + random.below(200);
    }
    NOW.set(START);
    let builder = CookieJar::builder().limits(limits).clock(clock);
    let mut jar = builder.clone().build();
    let mut oracle = Oracle { cookies: Vec::new(), order: 0, limits };
    let tick = || NOW.set(NOW.get() + 1);
    let mut tell = |step: &dyn Fn() -> String| {
        if let Some(steps) = &mut steps {
            steps.push(step());
        }
    };
    tell(&|| format!("{limits:?}"));

    for _ in 0..STEPS {
        tick();
        match random.below(17) {
            0..9 => {
                let host = random.pick(&own);
                let place = if random.one_in(40) {
                    let (scheme, authority, path) = random.pick(NOWHERE);
                    Place::new(scheme, authority, path)
                } else {
                    place(random, host)
                };
                let line = &lines[random.below(lines.len())];
                let (got, want) = (jar.set(&place.uri, &line.text), oracle.set(&place, line));
                tell(&|| format!("{} sets {:?}: {got:?}", place.uri, line.text));
                let agree = match (&got, &want) {
                    (Ok(got), Ok(want)) => got == want,
                    (Err(got), Err(broken)) => broken.contains(&format!("{got:?}")),
                    _ => false,
                };
                if !agree {
                    return Err(format!(
                        "{} sets {:?}: {got:?} instead of {want:?}",
                        place.uri, line.text
                    ));
                }
            }
            9 | 10 => {
                let host = random.pick(&own);
                let place = place(random, host);
                let some: Vec<_> =
                    (0..2 + random.below(2)).map(|_| &lines[random.below(lines.len())]).collect();
                let values = some.iter().map(|line| HeaderValue::from_bytes(line.text.as_bytes()));
                // No header value holds a control character, so no response does.
                let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { continue };
                let headers: HeaderMap =
                    values.into_iter().map(|value| (SET_COOKIE, value)).collect();
                let got = jar.store_response(&place.uri, &headers);
                let want: Vec<_> =
                    some.iter().filter_map(|line| oracle.set(&place, line).err()).collect();
                let got: Vec<_> =
                    got.rejected().iter().map(|cookie| format!("{:?}", cookie.reason())).collect();
                let response = || some.iter().map(|line| &*line.text).collect::<Vec<_>>();
                tell(&|| format!("{} responds {:?}: refused {got:?}", place.uri, response()));
                if got.len() != want.len()
                    || got.iter().zip(&want).any(|(got, want)| !want.contains(got))
                {
                    return Err(format!(
                        "{} responds {:?}: {got:?} instead of {want:?}",
                        place.uri,
                        response()
                    ));
                }
            }
            11 | 12 => {
                let time =
                    random.pick(&[1, 1_000, 4_999, 10_000, 3_600_000, DAY, 399 * DAY, 401 * DAY]);
                tell(&|| format!("{time} ms pass"));
                NOW.set(NOW.get() + time);
            }
            13 => {
                tell(&|| "clear_expired".to_owned());
                jar.clear_expired();
                oracle.expire();
                if jar.len() != oracle.cookies.len() {
                    return Err(format!(
                        "{} cookies instead of {}",
                        jar.len(),
                        oracle.cookies.len()
                    ));
                }
            }
            14 => {
                let known = oracle.cookies.get(random.below(8)).cloned();
                let (domain, path, name) = match &known {
                    Some(cookie) => (&*cookie.domain, &*cookie.path, &*cookie.name),
                    None => (random.pick(domains), "/", random.pick(NAMES)),
                };
                let domain = if random.one_in(3) {
                    format!(".{}", domain.to_uppercase())
                } else {
                    domain.to_owned()
                };
                let got = jar
                    .remove(&domain, path, name)
                    .map(|c| (c.value().into_owned(), c.host_only()));
                let want = oracle.remove(&domain, path, name).map(|c| (c.value, c.host_only));
                tell(&|| format!("remove {domain} {path} {name:?}: {got:?}"));
                if got != want {
                    return Err(format!(
                        "remove {domain} {path} {name:?}: {got:?} instead of {want:?}"
                    ));
                }
            }
            15 => {
                tell(&|| "the jar is written and read again".to_owned());
                let (mut text, again) = (Vec::new(), builder.clone().build());
                jar.write_to(&mut text, Format::Json).unwrap();
                again.read_from(&*text, Format::Json).map_err(|error| error.to_string())?;
                jar = again;
            }
            _ if random.one_in(2) => {
                tell(&|| "clear_session_cookies".to_owned());
                jar.clear_session_cookies();
                oracle.cookies.retain(|cookie| cookie.expires.is_some());
            }
            _ => {
                let domain = random.pick(domains);
                tell(&|| format!("clear_domain {domain}"));
                jar.clear_domain(domain);
                let domain = spelt(domain);
                oracle.cookies.retain(|cookie| Some(&cookie.domain) != domain.as_ref());
            }
        }
        for host in &own {
            tick();
            compare(&jar, &mut oracle, &place(random, host), &mut tell)?;
        }
    }
    for host in &own {
        for path in PATHS {
            for scheme in ["https", "http"] {
                tick();
                compare(&jar, &mut oracle, &Place::new(scheme, host, path), &mut tell)?;
            }
        }
    }
    let (got, want) = (listed(&jar), oracle.listed());
    if got != want {
        return Err(format!("holds {got:#?} instead of {want:#?}"));
    }
    Ok(())
}

fn compare(
    jar: &CookieJar,
    oracle: &mut Oracle,
    place: &Place,
    tell: &mut dyn FnMut(&dyn Fn() -> String),
) -> Result<(), String> {
    let got = jar.header(&place.uri);
    let got = got.as_ref().map(|value| value.to_str().unwrap());
    let want = oracle.header(place);
    tell(&|| format!("to {}: {got:?}", place.uri));
    if got == want.as_deref() {
        Ok(())
    } else {
        Err(format!("to {}: {got:?} instead of {want:?}", place.uri))
    }
}

#[test]
fn a_request_without_a_scheme_changes_nothing_even_by_a_line_that_is_there() {
    NOW.set(START);
    let jar = CookieJar::builder().clock(clock).build();
    let line = "a=1; Max-Age=100";
    jar.set(&"http://example.com/".parse().unwrap(), line).unwrap();
    let before = listed(&jar);
    NOW.set(START + 50_000);
    for bare in ["example.com", "example.com:80", "/"] {
        assert_eq!(jar.set(&bare.parse().unwrap(), line), Err(Rejection::NoHost), "{bare}");
    }
    assert_eq!(listed(&jar), before);
}

#[test]
fn what_has_expired_unseen_is_not_there_to_be_removed() {
    NOW.set(START);
    let jar = CookieJar::builder().clock(clock).build();
    let uri = "https://example.com/".parse().unwrap();
    jar.set(&uri, "a=old; Max-Age=10").unwrap();
    jar.set(&uri, "a=new; Domain=example.com").unwrap();
    NOW.set(START + 20_000);
    // The host-only one would go first, if it lived.
    let removed = jar.remove("example.com", "/", "a").map(|cookie| cookie.value().into_owned());
    assert_eq!((removed.as_deref(), jar.header(&uri)), (Some("new"), None));
}

#[test]
fn the_jar_does_as_a_plain_one_that_follows_the_rules() {
    let number =
        |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(seed) = number("COOKIE_SEED") {
        let mut steps = Vec::new();
        let outcome = story(seed, Some(&mut steps));
        println!("{}", steps.join("\n"));
        outcome.unwrap();
        return;
    }
    let count = number("COOKIE_SEQUENCES").unwrap_or(20_000);
    let next = &AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let failed: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Relaxed);
                        if seed >= count || failed.len() >= 10 {
                            return failed;
                        }
                        failed.extend(
                            story(seed, None).err().map(|why| format!("COOKIE_SEED={seed}: {why}")),
                        );
                    }
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
