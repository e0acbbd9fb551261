//! The log of a jar's changes, and a jar that is loaded from a store.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Uri;
use tower_outbound::cookie::{
    Change, Cookie, CookieId, CookieJar, CookieJarBuilder, CookieLimits, InvalidCookie, SameSite,
};

use crate::{jars::header, rows};

const H: &str = "https://example.com/";

fn logged() -> CookieJar {
    CookieJar::builder().log_changes().build()
}

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn cookie(name: &str, value: &str) -> Cookie {
    Cookie::builder(name, value).domain("example.com").build().unwrap()
}

/// `name=value`, `-name` for a deletion; a `~` behind it if only the expiry moved.
fn text(changes: &[Change]) -> String {
    let word = |change: &Change| {
        let name = change.id().as_bytes().rsplit(|&byte| byte == 0).next().unwrap();
        let name = String::from_utf8(name.to_vec()).unwrap();
        let moved = if change.only_expiry() { "~" } else { "" };
        match change.cookie() {
            Some(cookie) => format!("{name}={}{moved}", cookie.value()),
            None => format!("-{name}{moved}"),
        }
    };
    changes.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_log_holds_what_was_set_and_deleted_and_nothing_else() {
    type Do = fn(&CookieJar);
    let set = |jar: &CookieJar, line: &str| _ = jar.set(&uri(H), line);
    // A change to a jar with `a=1` and `b=1`, and the log after it.
    let rows: &[(&str, Do, &str)] = &[
        ("nothing", |_| (), ""),
        ("a new cookie", |jar| _ = jar.set(&uri(H), "c=1"), "c=1"),
        ("another value", |jar| _ = jar.set(&uri(H), "a=2"), "a=2"),
        ("the same line", |jar| _ = jar.set(&uri(H), "a=1"), ""),
        ("another expiry", |jar| _ = jar.set(&uri(H), "a=1; Max-Age=60"), "a=1~"),
        (
            "another expiry, then another value",
            |jar| {
                for line in ["a=1; Max-Age=60", "a=2; Max-Age=60", "a=2; Max-Age=90"] {
                    jar.set(&uri(H), line).unwrap();
                }
            },
            "a=2",
        ),
        ("another flag", |jar| _ = jar.set(&uri(H), "a=1; Secure"), "a=1"),
        ("a deletion", |jar| _ = jar.set(&uri(H), "a=; Max-Age=0"), "-a"),
        ("a deletion of what it lacks", |jar| _ = jar.set(&uri(H), "x=; Max-Age=0"), "-x"),
        (
            "a deletion at a site that it does not know",
            |jar| _ = jar.set(&uri("https://other.example/"), "x=; Max-Age=0"),
            "-x",
        ),
        (
            "the latest of each, in the jar's order",
            |jar| {
                for line in ["a=2", "b=2", "c=1", "a=3", "c=; Max-Age=0"] {
                    jar.set(&uri(H), line).unwrap();
                }
            },
            "b=2 a=3 -c",
        ),
        ("a refusal", |jar| _ = jar.set(&uri(H), "c=1; Domain=com"), ""),
        ("a look-up", |jar| _ = jar.header(&uri(H)), ""),
        ("an insertion", |jar| jar.insert(cookie("c", "1")), "c=1"),
        (
            "a merge",
            |jar| {
                let other = CookieJar::new();
                other.insert(cookie("c", "1"));
                jar.merge(&other);
            },
            "c=1",
        ),
        ("a removal", |jar| _ = jar.remove("example.com", "/", "a"), "-a"),
        // Whether it is host-only is not known.
        ("a removal of what it lacks", |jar| _ = jar.remove("example.com", "/", "x"), "-x -x"),
        ("a removal elsewhere", |jar| _ = jar.remove("other.example", "/", "x"), "-x -x"),
        ("all of a domain", |jar| jar.clear_domain("example.com"), "-a -b"),
        ("all", CookieJar::clear, "-a -b"),
        ("the session's", |jar| _ = jar.clear_session_cookies(), "-a -b"),
        ("the expired", |jar| _ = jar.clear_expired(), ""),
    ];
    rows::hold(rows, |(row, change, want)| {
        let jar = logged();
        set(&jar, "a=1");
        set(&jar, "b=1");
        assert_eq!(text(&jar.take_changes()), "a=1 b=1");
        change(&jar);
        let got = text(&jar.take_changes());
        (row, (got, jar.take_changes().len()), ((*want).to_owned(), 0))
    });
    let unlogged = CookieJar::new();
    set(&unlogged, "a=1");
    assert!(unlogged.take_changes().is_empty());
}

static SECONDS: AtomicU64 = AtomicU64::new(0);

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn with_clock(builder: CookieJarBuilder) -> CookieJar {
    builder.clock(|| at(SECONDS.load(SeqCst))).log_changes().build()
}

/// One test, since the clock is one.
#[test]
fn neither_expiries_nor_evictions_are_changes_and_times_never_run_backward() {
    SECONDS.store(1_000_000, SeqCst);
    let jar = with_clock(CookieJar::builder());
    jar.set(&uri(H), "a=1; Max-Age=10").unwrap();
    jar.set(&uri(H), "b=1; Max-Age=10").unwrap();
    assert_eq!(jar.take_changes()[0].at(), at(1_000_000));
    SECONDS.store(1_000_020, SeqCst);
    assert_eq!(jar.header(&uri(H)), None, "a look-up removes them");
    assert_eq!((jar.len(), jar.clear_expired()), (0, 0));
    jar.set(&uri(H), "c=1").unwrap();
    assert_eq!(text(&jar.take_changes()), "c=1");

    // The clock jumps back, then a later time was seen elsewhere.
    SECONDS.store(1_000_000, SeqCst);
    jar.set(&uri(H), "d=1").unwrap();
    assert_eq!(jar.take_changes()[0].at(), at(1_000_020));
    jar.seen(at(2_000_000));
    jar.set(&uri(H), "d=2").unwrap();
    assert!(jar.take_changes()[0].at() > at(2_000_000));

    let limits = CookieLimits { per_domain: 5, total: 20, ..CookieLimits::default() };
    let jar = with_clock(CookieJar::builder().limits(limits));
    jar.set(&uri(H), "victim=1").unwrap();
    drop(jar.take_changes());
    for n in 0..10 {
        jar.set(&uri(H), format!("c{n}=1; Secure")).unwrap();
    }
    for n in 0..5 {
        jar.set(&uri(&format!("https://h{n}.example/")), "c=1").unwrap();
    }
    let changes = jar.take_changes();
    assert_eq!(changes.len(), 15);
    assert!(changes.iter().all(|change| change.cookie().is_some()));
}

#[test]
fn a_log_that_nobody_reads_is_bounded_and_a_flood_reaches_nothing_before_it() {
    let limits = CookieLimits { total: 64, ..CookieLimits::default() };
    for line in ["c=1", "c=; Max-Age=0"] {
        let jar = CookieJar::builder().limits(limits).log_changes().build();
        jar.set(&uri(H), "victim=; Max-Age=0").unwrap();
        for n in 0..10_000 {
            jar.set(&uri(&format!("https://h{n}.example/")), line).unwrap();
        }
        let changes = jar.take_changes();
        assert!(changes.len() <= 64, "{line}: {}", changes.len());
        assert!(text(&changes).starts_with("-victim "), "{line}");
    }
}

#[test]
fn the_log_ends_as_the_jar_does_whoever_writes_at_once() {
    let jar = logged();
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let jar = &jar;
            scope.spawn(move || {
                for n in 0..500 {
                    let line = match (n + writer) % 3 {
                        0 => "a=; Max-Age=0".to_owned(),
                        1 => "a=same; Max-Age=60".to_owned(),
                        _ => format!("a={writer}-{n}; Max-Age=60"),
                    };
                    jar.set(&uri(H), line).unwrap();
                }
            });
        }
    });
    let changes = jar.take_changes();
    let value = |cookie: &Cookie| (cookie.value().into_owned(), cookie.expires());
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].cookie().map(value), jar.iter().next().as_ref().map(value));
}

#[test]
fn a_site_is_loaded_but_for_what_the_log_says_is_newer() {
    let now = SystemTime::now();
    let (before, after) = (now - Duration::from_secs(60), now + Duration::from_secs(60));
    let deleted = |name: &str, at| Change::deleted(cookie(name, "").id(), at);
    // What the jar does, what the store has, the jar's header after that, and the changes that it
    // has not reported yet.
    type Row<'a> = (&'a str, &'a [&'a str], Vec<Change>, &'a str, &'a str);
    let rows: Vec<Row<'_>> = vec![
        ("all of the store", &[], vec![Change::set(cookie("s", "1"), before)], "s=1", ""),
        ("nothing in the store", &["a=1"], vec![], "a=1", "a=1"),
        ("ours is newer", &["a=2"], vec![Change::set(cookie("a", "1"), before)], "a=2", "a=2"),
        ("theirs is newer", &["a=2"], vec![Change::set(cookie("a", "1"), after)], "a=1", ""),
        (
            "our deletion is newer",
            &["a=; Max-Age=0"],
            vec![Change::set(cookie("a", "1"), before)],
            "",
            "-a",
        ),
        (
            "our deletion is older",
            &["a=; Max-Age=0"],
            vec![Change::set(cookie("a", "1"), after)],
            "a=1",
            "",
        ),
        ("their deletion is newer", &["a=2"], vec![deleted("a", after)], "", ""),
        ("their deletion is older", &["a=2"], vec![deleted("a", before)], "a=2", "a=2"),
        (
            "another site's",
            &[],
            vec![Change::set(
                Cookie::builder("o", "1").domain("other.example").build().unwrap(),
                now,
            )],
            "",
            "",
        ),
        (
            "what a rule refuses",
            &[],
            vec![Change::set(Cookie::builder("o", "1").domain("com").build().unwrap(), now)],
            "",
            "",
        ),
    ];
    rows::hold(rows, |(row, lines, contents, want, want_told)| {
        let jar = logged();
        jar.set(&uri(H), "gone=1; Domain=example.com").unwrap();
        jar.set(&uri("https://other.example/"), "stays=1").unwrap();
        drop(jar.take_changes());
        for line in lines {
            jar.set(&uri(H), format!("{line}; Domain=example.com")).unwrap();
        }
        jar.load_site("example.com", contents);
        let got = jar.header(&uri(H)).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(&jar, "https://other.example/"), "stays=1");
        let told = text(&jar.take_changes());
        (row, (got.unwrap_or_default(), told), (want.to_owned(), want_told.to_owned()))
    });
}

/// A look-up sees one whole state, old or new.
#[test]
fn a_site_is_loaded_at_one_moment() {
    let jar = logged();
    let state = |value: &str| {
        let cookies = ["a", "b", "c"].map(|name| cookie(name, value));
        cookies.map(|cookie| Change::set(cookie, SystemTime::now()))
    };
    jar.load_site("example.com", state("0"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..2_000 {
                jar.load_site("example.com", state(if n % 2 == 0 { "1" } else { "0" }));
            }
        });
        for _ in 0..2_000 {
            let got = header(&jar, H);
            assert!(["a=0; b=0; c=0", "a=1; b=1; c=1"].contains(&&*got), "{got}");
        }
    });
    assert!(jar.take_changes().is_empty());
}

#[test]
fn a_uri_has_the_site_whose_cookies_it_is_sent() {
    let rows = [
        ("https://www.example.co.uk/x", Some("example.co.uk")),
        ("http://10.0.0.1:81/", Some("10.0.0.1")),
        ("https://localhost/", Some("localhost")),
        ("https://A.Example.COM./", Some("example.com")),
        ("/relative", None),
    ];
    rows::hold(rows, |(text, want)| {
        (text, CookieJar::new().site_of(&uri(text)), want.map(str::to_owned))
    });
}

#[test]
fn a_cookie_comes_back_from_its_bytes_as_it_was() {
    let jar = CookieJar::new();
    for line in [
        &b"a=1"[..],
        b"=nameless",
        b"e=",
        b"n\xe9=v\xff; Path=/x; Domain=example.com",
        b"__Host-s=1; Secure; Path=/; HttpOnly; SameSite=Strict; Max-Age=60",
        b"l=1; SameSite=Lax",
        b"p=1; Secure; SameSite=None; Partitioned",
    ] {
        jar.set(&uri("https://www.example.com/x/y"), line).unwrap();
    }
    let shown = |cookie: &Cookie| {
        let times = (cookie.created(), cookie.expires());
        (
            format!("{cookie:?}"),
            cookie.value_bytes().to_vec(),
            cookie.id(),
            times,
            cookie.partitioned(),
        )
    };
    rows::hold(jar.iter(), |cookie| {
        let bytes = cookie.to_bytes();
        assert!(bytes.len() < 100, "{cookie:?} takes {}", bytes.len());
        // Cut anywhere: an error or a shorter path, and no panic.
        (0..bytes.len()).for_each(|len| drop(Cookie::from_bytes(&bytes[..len])));
        (format!("{cookie:?}"), shown(&Cookie::from_bytes(&bytes).unwrap()), shown(&cookie))
    });
    let bytes = cookie("a", "1").to_bytes();
    for damaged in [&[][..], &bytes[..20], &[&[9], &bytes[1..]].concat()] {
        assert_eq!(Cookie::from_bytes(damaged).err(), Some(InvalidCookie::Bytes));
    }
    assert_eq!(
        Cookie::builder("a", "1")
            .domain("h.example")
            .same_site(SameSite::Lax)
            .build()
            .unwrap()
            .id()
            .as_bytes(),
        b"-h.example\0/\0a"
    );
    for wrong in [&b""[..], b"-", b"-a\0b", b"x\0/\0a", b"-a\0/\0b\0c", b"-\xff\0/\0a"] {
        assert_eq!(CookieId::from_bytes(wrong), None, "{wrong:?}");
    }
}

#[test]
fn no_value_is_in_what_a_change_shows() {
    let jar = logged();
    jar.set(&uri(H), "id=secret").unwrap();
    let shown = format!("{:?}", jar.take_changes());
    assert!(shown.contains("id") && !shown.contains("secret"), "{shown}");
}
