//! Counts the memory that calls and floods take.

use std::{
    env,
    hint::black_box,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use allocation_counter::measure;
use tower_outbound::cookie::{CookieJar, CookieLimits, StoreAction};

use crate::{
    jars::{self, header, uri},
    rows,
};

fn set(jar: &CookieJar, from: &str, line: impl AsRef<[u8]>) {
    jars::set(jar, from, line).unwrap();
}

/// Bytes that stay allocated.
fn kept(call: impl FnOnce()) -> i64 {
    measure(call).bytes_current
}

#[test]
fn an_unchanged_cookie_allocates_nothing_and_a_second_look_up_nothing_but_a_short_header() {
    // A site's lines, where to look them up, and how often each look-up after the first may
    // allocate: a header of one or two cookies is joined again rather than kept.
    let rows: &[(&str, &[&str], &str, u64)] = &[
        ("one session cookie", &["a=1"], "https://www.example.com/", 1),
        ("Max-Age, whose expiry moves", &["a=1; Max-Age=3600"], "https://www.example.com/", 1),
        ("Expires", &["a=1; Expires=Thu, 01 Jan 2026 00:00:00 GMT"], "https://www.example.com/", 1),
        (
            "Expires past the cap of 400 days",
            &["a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT"],
            "https://www.example.com/",
            1,
        ),
        ("no name", &["alone"], "https://www.example.com/", 1),
        (
            "flags",
            &["__Host-a=1; Secure; HttpOnly; SameSite=None; Path=/; Partitioned"],
            "https://www.example.com/",
            1,
        ),
        (
            "three for the whole domain",
            &["a=1; Domain=example.com", "b=2; Domain=example.com", "c=3; Domain=example.com"],
            "https://shop.example.com/",
            0,
        ),
        (
            "three of two paths, deep",
            &["a=1; Path=/x", "b=2; Path=/", "c=3; Path=/"],
            "https://www.example.com/x/y",
            0,
        ),
        (
            "three of four go along",
            &["a=1; Path=/x", "b=2; Path=/", "c=3; Path=/", "d=4; Path=/"],
            "https://www.example.com/",
            0,
        ),
        (
            "five of one host",
            &["a=1", "b=2", "c=3", "d=4", "e=5; Path=/"],
            "https://www.example.com/",
            0,
        ),
        (
            "for the whole domain",
            &["a=1; Domain=example.com", "b=2; Domain=example.com"],
            "https://www.example.com/",
            1,
        ),
        (
            "for the host and for the domain",
            &["a=1; Domain=example.com", "b=2"],
            "https://www.example.com/",
            1,
        ),
        ("asked by a sister", &["a=1; Domain=example.com"], "https://shop.example.com/", 1),
        ("asked with a port", &["a=1"], "https://www.example.com:8443/", 1),
        ("of two paths, deep", &["a=1; Path=/x", "b=2; Path=/"], "https://www.example.com/x/y", 1),
        (
            "of two paths, one of which goes along",
            &["a=1; Path=/x", "b=2; Path=/"],
            "https://www.example.com/",
            1,
        ),
        (
            "one Secure, looked up without TLS",
            &["a=1; Secure", "b=2"],
            "http://www.example.com/",
            1,
        ),
        ("nothing goes along", &["a=1; Secure"], "http://www.example.com/", 0),
        ("an unknown site", &["a=1"], "https://www.example.net/", 0),
    ];
    let from = uri("https://www.example.com/");
    rows::hold(rows, |(row, lines, to, most)| {
        let (jar, to) = (CookieJar::builder().clock(clock_of_2025).build(), uri(to));
        lines.iter().for_each(|line| set(&jar, "https://www.example.com/", line));
        for line in *lines {
            let mut action = None;
            let count = measure(|| action = Some(jar.set(&from, line).unwrap())).count_total;
            if (action, count) != (Some(StoreAction::Unchanged), 0) {
                return Err(format!("{row}: {line}: {action:?}, {count} allocations"));
            }
        }
        drop(jar.header(&to));
        let again = measure(|| drop(black_box(jar.header(&to)))).count_total;
        if again > *most {
            return Err(format!("{row}: a second look-up makes {again} allocations"));
        }
        Ok(())
    });
}

fn clock_of_2025() -> SystemTime {
    // 2025-06-01
    UNIX_EPOCH + Duration::from_secs(1_748_736_000)
}

#[test]
fn the_first_look_up_of_a_site_allocates_the_header_and_what_keeps_it() {
    let jar = CookieJar::new();
    (0..5).for_each(|n| set(&jar, "https://www.example.com/", format!("c{n}=1")));
    let to = uri("https://www.example.com/");
    // The line, its shared owner, and the box that keeps it for the next look-up.
    assert_eq!(measure(|| drop(black_box(jar.header(&to)))).count_total, 3);
    // A change drops the kept line completely.
    let line = "c0=2";
    let bytes = kept(|| {
        jar.set(&to, line).unwrap();
        drop(jar.header(&to));
    });
    assert_eq!(bytes, 0);
}

/// The effect of a flood on a jar with default limits, in which two sites have cookies.
struct Flood {
    jar: CookieJar,
    growth: u64,
}

const VICTIM: &str = "https://www.victim.example/account";
const SEEN: &str = "https://www.seen.example/account";
const OWN: [&str; 3] = [
    "sid=1; Path=/; Secure; HttpOnly",
    "theme=dark; Path=/; Max-Age=2592000",
    "all=1; Path=/; Domain=",
];

impl Flood {
    fn of(count: usize, value: &str) -> Self {
        let jar = CookieJar::new();
        for (at, domain) in [(VICTIM, "victim.example"), (SEEN, "seen.example")] {
            OWN.iter().for_each(|line| {
                set(&jar, at, line.replace("Domain=", &format!("Domain={domain}")));
            });
        }
        assert_eq!(header(&jar, SEEN), "sid=1; theme=dark; all=1");
        let evil = uri("https://www.evil.example/");
        let growth = measure(|| {
            for n in 0..count {
                jar.set(&evil, format!("c{n}={value}")).unwrap();
            }
            for n in 0..count {
                jar.set(&uri(format!("https://evil{n}.example/")), format!("c={value}")).unwrap();
            }
        });
        Self { jar, growth: growth.bytes_max }
    }

    #[track_caller]
    fn check(&self) {
        let mut wrong = Vec::new();
        if self.growth > 32 * 1024 * 1024 {
            wrong.push(format!("the jar grew by {} bytes", self.growth));
        }
        for (who, at) in
            [("the victim that was never asked", VICTIM), ("the victim that was", SEEN)]
        {
            let line = header(&self.jar, at);
            if line != "sid=1; theme=dark; all=1" {
                wrong.push(format!("{who} is left with {line:?}"));
            }
        }
        let line = header(&self.jar, "https://www.evil.example/");
        if line.len() > 8_190 || line.split("; ").count() > 150 {
            wrong.push(format!("a header of {} bytes", line.len()));
        }
        if self.jar.len() > 50_000 {
            wrong.push(format!("{} cookies", self.jar.len()));
        }
        println!(
            "grew by {:.1} MiB at most, {} cookies",
            self.growth as f64 / 1_048_576.0,
            self.jar.len()
        );
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// The number of cookies in a flood. The full proof needs 1,000,000, which is too slow in a debug
/// build.
fn flood_size() -> usize {
    env::var("COOKIE_FLOOD")
        .map_or(250_000, |count| count.parse().expect("COOKIE_FLOOD is a number"))
}

#[test]
fn a_flood_from_one_host_then_from_as_many_hosts_stays_in_bounds() {
    Flood::of(flood_size(), "x").check();
}

#[test]
fn a_flood_of_long_cookies_stays_in_bounds() {
    Flood::of(20_000, &"x".repeat(4_000)).check();
}

#[test]
fn a_site_in_use_that_came_amid_a_flood_keeps_its_cookies() {
    let limits = CookieLimits { total: 1_000, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let flood = |from: usize| {
        (from..from + 3_000).for_each(|n| set(&jar, &format!("https://evil{n}.example/"), "c=1"));
    };
    flood(0);
    set(&jar, VICTIM, "sid=1; Path=/");
    assert_eq!(header(&jar, VICTIM), "sid=1");
    flood(3_000);
    assert_eq!(header(&jar, VICTIM), "sid=1");
}

#[test]
fn cookies_set_and_deleted_leave_nothing() {
    let jar = CookieJar::new();
    let uris: Vec<_> = (0..100).map(|n| uri(format!("https://www.site{n}.example/"))).collect();
    let round = |from: usize| {
        for n in from..from + 50_000 {
            jar.set(&uris[n % 100], format!("c{n}=1; Max-Age=3600")).unwrap();
            assert_eq!(
                jar.set(&uris[n % 100], format!("c{n}=; Max-Age=0")).unwrap(),
                StoreAction::Expired
            );
        }
    };
    // The first half fills buffers that the second half uses again.
    let (first, second) = (kept(|| round(0)), kept(|| round(50_000)));
    assert_eq!((jar.len(), second), (0, 0));
    assert!(first < 16_384, "{first} bytes stay");
}

#[test]
fn what_has_expired_is_freed_once_it_is_met_or_cleared() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Relaxed))
    }
    let site = |n: usize| format!("https://www.site{n}.example/");
    // What reaches expired cookies, and how many of the two hundred it frees.
    let rows: &[(&str, &dyn Fn(&CookieJar), usize)] = &[
        ("a look-up of one site", &|jar| drop(jar.header(&uri(site(0)))), 2),
        ("a list for one site", &|jar| drop(jar.matching(&uri(site(0)))), 2),
        (
            "a look-up of each site",
            &|jar| (0..100).for_each(|n| drop(jar.header(&uri(site(n))))),
            200,
        ),
        ("clear_expired", &|jar| assert_eq!(jar.clear_expired(), 200), 200),
        ("a walk through all", &|jar| drop(jar.iter()), 200),
        ("get", &|jar| assert!(jar.get("a").unwrap().is_none()), 200),
    ];
    rows::hold(rows, |(row, meet, gone)| {
        NOW.store(1_000_000, Relaxed);
        let jar = CookieJar::builder().clock(clock).build();
        for n in 0..100 {
            let value = "x".repeat(1_000);
            set(&jar, &site(n), format!("a={value}; Max-Age=10"));
            set(&jar, &site(n), format!("b={value}; Max-Age=10; Path=/; Secure"));
            set(&jar, &site(n), "stays=1; Max-Age=1000");
        }
        NOW.store(1_000_020, Relaxed);
        let (before, bytes) = (jar.len(), kept(|| meet(&jar)));
        let freed = bytes <= -1_000 * *gone as i64;
        let got = (before - jar.len(), freed, header(&jar, &site(0)));
        (format!("{row}: {bytes} bytes"), got, (*gone, true, "stays=1".to_owned()))
    });
}
