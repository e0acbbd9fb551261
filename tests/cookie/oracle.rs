//! Compares the jar with a plain, slow one, over many short stories. A seed decides each story.
//!
//! `COOKIE_SEQUENCES` sets the number of stories. `COOKIE_SEED` runs the story of one seed and
//! prints its steps.

use std::{
    cell::Cell,
    env,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use tower_outbound::cookie::{CookieJar, CookieLimits, Format, Rejection};

mod plain;

use plain::*;

const STEPS: usize = 30;

/// Milliseconds, the unit of the jar, so that both compare the same.
type Millis = u64;
const START: Millis = 1_750_000_000_000;
const DAY: Millis = 86_400_000;

thread_local! {
    /// Each thread runs its own stories, with its own time.
    static NOW: Cell<Millis> = const { Cell::new(START) };
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW.get())
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

    fn line(&mut self, domains: &[&'static str]) -> Line<'static> {
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
        // A random line rarely has what a prefix requires.
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

/// Runs one story on both. `Err` says where they differ.
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
    // Few lines, so that each is repeated, from the same host and from others.
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
        // From 16 on more than one is evicted at once.
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
    // The host-only one would be sent first, if it were alive.
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
