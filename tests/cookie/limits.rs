//! The limits of a jar, what it evicts first, and the jar under many threads.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Method;
use tower_outbound::cookie::{
    Cookie, CookieContext, CookieJar, CookieLimits, CookiePolicy, CookieStorage, Rejection,
    SiteForCookies, Withheld,
};

use crate::{
    jars::{header, set, uri},
    rows,
};

#[test]
fn row_22_a_site_keeps_180_and_gives_up_the_least_recently_used_and_secure_last() {
    let jar = CookieJar::new();
    set(&jar, "https://a.example.com/", "secure=1; Secure; Domain=example.com").unwrap();
    for n in 0..200 {
        set(&jar, "http://example.com/", format!("c{n}=1")).unwrap();
    }
    assert_eq!(jar.len(), 180);
    let names: Vec<_> = jar.iter().map(|cookie| cookie.name().into_owned()).collect();
    assert_eq!(
        (names[0].as_str(), names[1].as_str(), names[179].as_str()),
        ("secure", "c21", "c199")
    );
}

#[test]
fn a_non_secure_origin_pushes_no_secure_cookie_out() {
    let jar = CookieJar::new();
    for n in 0..180 {
        set(&jar, "https://example.com/", format!("s{n}=1; Secure")).unwrap();
    }
    assert_eq!(set(&jar, "http://example.com/", "evil=1"), Err(Rejection::NoRoom));
    assert_eq!((jar.len(), jar.get("s0").unwrap().is_some()), (180, true));
}

#[test]
fn a_header_stays_within_its_limits_and_cuts_no_pair() {
    let jar = CookieJar::new();
    for n in 0..180 {
        set(&jar, "https://example.com/", format!("c{n}={}", "v".repeat(n * 5))).unwrap();
    }
    let line = header(&jar, "https://example.com/");
    assert!(line.len() <= 8190 && line.split("; ").count() <= 150, "{} bytes", line.len());
    for pair in line.split("; ") {
        let (name, value) = pair.split_once('=').unwrap();
        assert_eq!(value.len(), name[1..].parse::<usize>().unwrap() * 5);
    }
}

#[test]
fn a_response_stores_50_cookies_at_most() {
    let jar = CookieJar::new();
    let lines =
        (0..10_000).map(|n| ("set-cookie".parse().unwrap(), format!("c{n}=1").parse().unwrap()));
    let cookies = jar.store_response(&"https://example.com/".parse().unwrap(), &lines.collect());
    assert_eq!((cookies.accepted().len(), cookies.rejected().len(), jar.len()), (50, 9950, 50));
    assert_eq!(cookies.rejected()[0].reason(), Rejection::TooMany);
}

/// Tests the effect of each default, so that neither a default nor its effect can change alone.
#[test]
fn the_default_limits_are_those_of_their_docs() {
    const H: &str = "https://example.com/";
    /// The most cookies that the jar ever has, if more than that are set.
    fn most(count: usize, cookie: impl Fn(usize) -> (String, String)) -> usize {
        let jar = CookieJar::new();
        (0..count)
            .map(|n| {
                let (uri, line) = cookie(n);
                set(&jar, &uri, line).unwrap();
                jar.len()
            })
            .max()
            .unwrap()
    }
    let CookieLimits { per_domain, total, bytes, per_response, header_bytes, header_cookies } =
        CookieLimits::default();
    let rows: &[(&str, usize, usize, &dyn Fn() -> usize)] = &[
        ("per_domain", per_domain, 180, &|| most(200, |n| (H.to_owned(), format!("c{n}=1")))),
        ("total", total, 50_000, &|| {
            most(50_010, |n| (format!("https://h{n}.example/"), "a=1".to_owned()))
        }),
        ("bytes", bytes, 16 * 1024 * 1024, &|| {
            // 4,096 bytes each: two for the separator, then the pair, the domain and the path.
            let value = "v".repeat(4_096 - "; a=h1000.example/".len());
            4_096
                * most(4_100, |n| {
                    (format!("https://h{}.example/", 1_000 + n), format!("a={value}"))
                })
        }),
        ("per_response", per_response, 50, &|| {
            let lines = (0..60)
                .map(|n| ("set-cookie".parse().unwrap(), format!("c{n}=1").parse().unwrap()));
            CookieJar::new().store_response(&H.parse().unwrap(), &lines.collect()).accepted().len()
        }),
        ("header_cookies", header_cookies, 150, &|| {
            let jar = CookieJar::new();
            for n in 0..160 {
                set(&jar, H, format!("c{n}=1")).unwrap();
            }
            header(&jar, H).split("; ").count()
        }),
        ("header_bytes", header_bytes, 8_190, &|| {
            // The longest header of three cookies that is sent whole.
            let whole = (8_000..8_300).filter(|length| {
                let jar = CookieJar::new();
                let value = |length: usize| "v".repeat(length - "a=; ".len());
                set(&jar, H, format!("a={}", value(4_000))).unwrap();
                set(&jar, H, format!("b={}", value(3_900))).unwrap();
                set(&jar, H, format!("c={}", value(length + "; ".len() - 7_900))).unwrap();
                header(&jar, H).len() == *length
            });
            whole.max().unwrap()
        }),
    ];
    rows::hold(rows, |(row, default, documented, found)| {
        let found = found();
        (row, [*default, found], [*documented; 2])
    });
}

#[test]
fn a_flood_of_hosts_takes_what_was_never_sent_first() {
    let limits = CookieLimits { total: 1000, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    set(&jar, "https://victim.example/", "sid=1").unwrap();
    assert_eq!(header(&jar, "https://victim.example/"), "sid=1");
    for n in 0..5000 {
        set(&jar, &format!("https://evil{n}.example/"), "x=1").unwrap();
        assert!(jar.len() <= 1000);
    }
    assert_eq!(header(&jar, "https://victim.example/"), "sid=1");
}

#[test]
fn a_full_jar_gives_up_the_expired_first_then_what_was_never_sent_then_the_least_recently_used() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }
    // A jar of four has the cookies a to d, each from another site, in this order: how long they
    // live, which are sent in which order, and which are left when a fifth is set. The older half,
    // a and b, is spared.
    let rows: &[(&str, [u32; 4], &str, &str)] = &[
        (
            "one that has expired, though it was sent last and came first",
            [5, 99, 99, 99],
            "dcba",
            "bcde",
        ),
        ("two that have expired, and no other", [99, 5, 99, 5], "", "ace"),
        ("every one that has expired", [5, 5, 5, 5], "abcd", "e"),
        ("never sent, and least recently set", [99, 99, 99, 99], "", "abde"),
        ("never sent, though others were sent before", [99, 99, 99, 99], "c", "abce"),
        ("sent, and least recently", [99, 99, 99, 99], "dc", "abce"),
        ("sent, and least recently but for the older half", [99, 99, 99, 99], "abcd", "abde"),
    ];
    rows::hold(rows, |(row, lives, sent, want)| {
        NOW.store(1_000_000, Ordering::Relaxed);
        let limits = CookieLimits { total: 4, ..CookieLimits::default() };
        let jar = CookieJar::builder().clock(clock).limits(limits).build();
        for (name, life) in ["a", "b", "c", "d"].iter().zip(lives) {
            set(&jar, &format!("https://{name}.example/"), format!("{name}=1; Max-Age={life}"))
                .unwrap();
        }
        for name in sent.chars() {
            NOW.fetch_add(1, Ordering::Relaxed);
            assert_eq!(
                header(&jar, &format!("https://{name}.example/")),
                format!("{name}=1"),
                "{row}"
            );
        }
        NOW.store(1_000_006, Ordering::Relaxed);
        set(&jar, "https://e.example/", "e=1; Max-Age=99").unwrap();
        let len = jar.len();
        let got: String = jar.iter().map(|cookie| cookie.name().into_owned()).collect();
        (row, (got, len), ((*want).to_owned(), want.len()))
    });
}

#[test]
fn limits_of_zero_and_cookies_that_never_fit_are_refused_and_clear_nothing() {
    for limits in [
        CookieLimits { per_domain: 0, ..CookieLimits::default() },
        CookieLimits { total: 0, ..CookieLimits::default() },
        CookieLimits { bytes: 0, ..CookieLimits::default() },
    ] {
        let jar = CookieJar::builder().limits(limits).build();
        assert_eq!(
            (set(&jar, "https://h.example/", "a=1"), jar.len()),
            (Err(Rejection::NoRoom), 0),
            "{limits:?}"
        );
    }
    let limits = CookieLimits { bytes: 1000, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    set(&jar, "https://small.example/", "a=1").unwrap();
    assert_eq!(
        set(&jar, "https://big.example/", format!("b={}", "x".repeat(2000))),
        Err(Rejection::NoRoom)
    );
    assert_eq!(jar.len(), 1);
    // At every length around the limit it is either rejected or fits, and then evicts no more than
    // needed.
    for length in 900..1100 {
        let jar = CookieJar::builder().limits(limits).build();
        let stored = set(&jar, "https://big.example/", format!("b={}", "x".repeat(length))).is_ok();
        set(&jar, "https://a.example/", "a=1").unwrap();
        set(&jar, "https://b.example/", "b=1").unwrap();
        assert_eq!(jar.len(), if stored && length <= 954 { 3 } else { 2 }, "{length} {stored}");
    }
    let none = CookieLimits { header_bytes: 0, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(none).build();
    set(&jar, "https://h.example/", "a=1").unwrap();
    assert_eq!(header(&jar, "https://h.example/"), "");
}

#[test]
fn a_path_that_the_server_made_endless_is_refused() {
    let jar = CookieJar::new();
    let uri = format!("https://h.example/{}/x", "a".repeat(33_000));
    assert_eq!(set(&jar, &uri, "l=1"), Err(Rejection::LongPath));
    set(&jar, &uri, "l=1; Path=/").unwrap();
}

#[test]
fn an_inserted_cookie_keeps_the_place_of_the_one_before_it() {
    let jar = CookieJar::new();
    for (name, value) in [("a", "1"), ("b", "1"), ("a", "2")] {
        jar.insert(Cookie::builder(name, value).domain("example.com").build().unwrap());
    }
    assert_eq!(header(&jar, "https://example.com/"), "a=2; b=1");
}

#[test]
fn what_has_expired_stays_expired_when_the_clock_goes_back() {
    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }
    for look in [
        |jar: &CookieJar| jar.iter().count(),
        |jar: &CookieJar| header(jar, "https://h.example/").len(),
    ] {
        NOW.store(1_000_000, Ordering::Relaxed);
        let jar = CookieJar::builder().clock(clock).build();
        set(&jar, "https://h.example/", "a=1; Max-Age=10").unwrap();
        NOW.store(1_000_011, Ordering::Relaxed);
        assert_eq!((look(&jar), jar.len()), (0, 0));
        NOW.store(1_000_005, Ordering::Relaxed);
        assert_eq!(look(&jar), 0);
    }
}

/// A cookie that is sent counts as used. If only use decided, a cookie that was left out once would
/// never be sent again.
#[test]
fn no_flood_over_http_keeps_a_secure_cookie_out_of_the_header() {
    let bank = "https://www.bank.com/";
    let rows: &[(&str, usize, usize)] =
        &[("many", 150, 0), ("long", 6, 4_000), ("many and long", 150, 50)];
    rows::hold(rows, |(row, count, length)| {
        let jar = CookieJar::new();
        set(&jar, bank, "sid=v; Path=/; Secure; HttpOnly").unwrap();
        for n in 0..*count {
            let line =
                format!("e{n}={}; Domain=bank.com; Path=/; Max-Age=99999999", "x".repeat(*length));
            set(&jar, "http://x.bank.com/", line).unwrap();
        }
        let without = (0..100)
            .filter(|_| !header(&jar, bank).split("; ").any(|pair| pair == "sid=v"))
            .count();
        let others = header(&jar, bank).split("; ").count() - 1;
        (format!("{row}: beside {others} others"), (without, others > 0), (0, true))
    });
}

/// Times of access change while they are sorted. A sort that read them twice would panic.
#[test]
fn a_crowded_jar_is_read_by_many_threads_at_once() {
    static TICKS: AtomicU64 = AtomicU64::new(0);
    // Each reading of this clock is another time of one day, in no order.
    fn restless() -> SystemTime {
        let tick = TICKS.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        UNIX_EPOCH + Duration::from_millis(1_000_000 + tick % 86_400_000)
    }
    // Short headers, so that each reader uses other cookies than the one before it.
    let limits = CookieLimits { header_cookies: 30, ..CookieLimits::default() };
    let jar = CookieJar::builder().clock(restless).limits(limits).build();
    for n in 0..180 {
        set(&jar, "http://example.com/", format!("n{n}=1")).unwrap();
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..2000 {
                    assert_eq!(header(&jar, "http://example.com/").split("; ").count(), 30);
                }
            });
        }
    });
}

/// If several threads set and delete cookies, the jar still counts them correctly, and never
/// believes that it is full.
#[test]
fn cookies_that_come_and_go_under_threads_are_counted() {
    let jar = CookieJar::new();
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let jar = &jar;
            scope.spawn(move || {
                for round in 0..3_000 {
                    let uri = format!("https://h{}.example/", (thread + round) % 4);
                    set(jar, &uri, if round % 2 == 0 { "a=1" } else { "a=; Max-Age=0" }).unwrap();
                    header(jar, &uri);
                    if round % 50 == 0 {
                        jar.clear();
                    }
                    assert!(jar.len() <= 8, "{}", jar.len());
                }
            });
        }
    });
    assert_eq!(jar.len(), jar.iter().count());
}

/// ASP.NET Core signs in with several cookies of 3,980 bytes, as many as it needs.
#[test]
fn a_login_in_chunks_goes_out_whole_if_its_server_takes_it_and_is_explained_if_not() {
    let rows = [(CookieLimits::default().header_bytes, 1), (16 * 1024, 0)];
    rows::hold(rows, |(header_bytes, left_out)| {
        let limits = CookieLimits { header_bytes, ..CookieLimits::default() };
        let jar = CookieJar::builder().limits(limits).build();
        let to = uri("https://app.example/");
        jar.set(&to, ".AspNetCore.Cookies=chunks-3; Path=/; Secure").unwrap();
        for chunk in 1..=3 {
            let head = format!(".AspNetCore.CookiesC{chunk}=");
            let value = "x".repeat(3980 - head.len());
            jar.set(&to, format!("{head}{value}; Path=/; Secure")).unwrap();
        }
        let explained = jar.explain(&CookieContext::new(&to, &Method::GET));
        let over = explained.iter().filter(|(_, why)| *why == Some(Withheld::Limit)).count();
        assert_eq!(explained.len(), 4);
        let sent = jar.header(&to).unwrap();
        let sent = sent.to_str().unwrap().split("; ").count();
        (header_bytes, (over, sent), (left_out, 4 - left_out))
    });
}

#[test]
fn each_cookie_of_the_site_is_explained_by_its_first_reason_and_nothing_changes() {
    use Ordering::Relaxed;
    use Withheld::*;

    static NOW: AtomicU64 = AtomicU64::new(1_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(Relaxed))
    }
    struct NotBanned;
    impl CookiePolicy for NotBanned {
        fn send(&self, _: &CookieContext<'_>, cookie: &Cookie) -> bool {
            cookie.name() != "banned"
        }
    }
    let limits = CookieLimits { header_cookies: 3, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).policy(NotBanned).clock(clock).build();
    let lines = [
        ("https://other.example.com/", "host=1"),
        ("https://www.example.com/", "host-only=1; SameSite=None; Secure"),
        ("https://example.com/", "path=1; Path=/deep; Secure; SameSite=Strict"),
        ("https://example.com/", "secure=1; Secure; SameSite=Strict"),
        ("https://example.com/", "site=1; SameSite=Strict; Max-Age=10"),
        ("https://example.com/", "expired=1; Max-Age=10"),
        ("https://example.com/", "banned=1"),
        ("https://example.com/", "oldest=1"),
        ("https://example.com/", "a=1"),
        ("https://example.com/", "b=1"),
        ("https://example.com/", "c=1; Domain=example.com"),
        ("https://elsewhere.example/", "elsewhere=1"),
    ];
    for (from, line) in lines {
        NOW.fetch_add(1, Relaxed);
        set(&jar, from, line).unwrap();
    }
    NOW.fetch_add(60, Relaxed);
    // A navigation from another site, by a safe method: `Strict` is not sent.
    let page = SiteForCookies::new(&uri("http://page.example/")).top_level_navigation(true);
    let to = uri("http://example.com/");
    let context = CookieContext::new(&to, &Method::GET).on_behalf_of(Some(&page));
    let (len, changes) = (jar.len(), jar.changes());
    let explained = jar.explain(&context);
    let got: Vec<_> = explained.iter().map(|(cookie, why)| (cookie.name(), *why)).collect();
    let want = [
        ("path", Some(Path)),
        ("host", Some(Host)),
        ("host-only", Some(Host)),
        ("secure", Some(Secure)),
        ("site", Some(SameSite)),
        ("expired", Some(Expired)),
        ("banned", Some(Policy)),
        ("oldest", Some(Limit)),
        ("a", None),
        ("b", None),
        ("c", None),
    ];
    assert_eq!(got, want.map(|(name, why)| (name.into(), why)));
    assert_eq!((jar.len(), jar.changes()), (len, changes));
    let sent = CookieStorage::header(&jar, &context).unwrap();
    assert_eq!(sent, "a=1; b=1; c=1", "as it was explained");
    assert!(jar.explain(&CookieContext::new(&uri("/relative"), &Method::GET)).is_empty());
}

/// An attacker's cookies fill the jar. Then 1,000 victims log in, while the attacker continues.
#[test]
fn an_attacker_who_came_first_pushes_no_login_out() {
    thread_local! {
        static NOW: Cell<u64> = const { Cell::new(0) };
    }
    fn clock() -> SystemTime {
        NOW.set(NOW.get() + 1);
        UNIX_EPOCH + Duration::from_millis(NOW.get())
    }
    const VICTIMS: usize = 1_000;
    struct Attack {
        /// How many cookies its sites have, in turn.
        per_site: &'static [usize],
        length: usize,
        /// Whether it sends each of its cookies.
        sends: bool,
        /// How many cookies it sets after each login, and after the last.
        goes_on: [usize; 2],
        /// Whether the victims use their logins: at once, and after every hundredth login.
        uses: [bool; 2],
    }
    let few_sites = Attack {
        per_site: &[180],
        length: 10,
        sends: true,
        goes_on: [10, 5_000],
        uses: [true, false],
    };
    let many_sites = Attack { per_site: &[1], goes_on: [10, 0], uses: [true; 2], ..few_sites };
    let rows = [
        ("many cookies on few sites", Attack { ..few_sites }),
        ("long cookies on few sites", Attack { length: 4_000, ..few_sites }),
        ("never sent, on few sites", Attack { sends: false, ..few_sites }),
        ("the logins are not used yet", Attack { uses: [false; 2], ..few_sites }),
        ("one cookie on each of many sites", Attack { ..many_sites }),
        ("long cookies on many sites", Attack { length: 4_000, goes_on: [1, 0], ..many_sites }),
        (
            "on many sites, and the logins are not used yet",
            Attack { goes_on: [0, 200], uses: [false; 2], ..many_sites },
        ),
        ("both", Attack { per_site: &[180, 1, 1, 1], ..many_sites }),
    ];
    // A fifth of the defaults.
    let limits = CookieLimits { total: 10_000, bytes: 3_200_000, ..CookieLimits::default() };
    rows::hold(rows, |(row, attack)| {
        NOW.set(1_000_000);
        let jar = CookieJar::builder().clock(clock).limits(limits).build();
        let (mut site, mut left) = (0, 0);
        let mut set_more = |count| {
            for _ in 0..count {
                if left == 0 {
                    site += 1;
                    left = attack.per_site[site % attack.per_site.len()];
                }
                left -= 1;
                // A path for each, so that a header has but one.
                let at = format!("https://evil{site}.example/{left}");
                set(&jar, &at, format!("e={}; Path=/{left}", "x".repeat(attack.length))).unwrap();
                if attack.sends {
                    header(&jar, &at);
                }
            }
        };
        set_more(limits.total);
        let host = |victim: usize| format!("https://victim{victim}.example/");
        for victim in 0..VICTIMS {
            set(&jar, &host(victim), format!("sid={victim}; Secure; HttpOnly")).unwrap();
            if attack.uses[0] {
                header(&jar, &host(victim));
            }
            set_more(attack.goes_on[0]);
            if attack.uses[1] && victim % 100 == 99 {
                (0..=victim).for_each(|victim| drop(header(&jar, &host(victim))));
            }
        }
        set_more(attack.goes_on[1]);
        let lost = (0..VICTIMS).filter(|&victim| header(&jar, &host(victim)).is_empty()).count();
        (row, lost, 0)
    });
}
