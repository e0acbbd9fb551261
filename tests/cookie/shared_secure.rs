//! A jar has set a `Secure` cookie, and another jar of the same file or store does not know it. An
//! origin that is not secure cannot change it there either.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::Uri;
use tower_outbound::cookie::{Change, Cookie, CookieFile, CookieJar, CookieLimits, Format};

use crate::{files::formats, jars::header, pairs::pairs, rows};

const SECURE: &str = "https://www.example.com/login/en";
const CLEAR: &str = "http://www.example.com/login/en";

fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

fn set(jar: &CookieJar, uri_text: &str, line: &str) {
    jar.set(&uri(uri_text), line).unwrap();
}

/// What another jar sets over https, what a jar that has not read it sets over http, and what the
/// file or store then holds, in the order of a header.
const ROWS: [(&str, &str, &str, &str); 12] = [
    ("a replacement", "sid=1; Secure; Path=/", "sid=evil; Path=/", "sid=1"),
    ("a deletion", "sid=1; Secure; Path=/", "sid=; Path=/; Max-Age=0", "sid=1"),
    ("a deeper path", "sid=1; Secure; Path=/", "sid=evil; Path=/login", "sid=1"),
    ("the default path", "sid=1; Secure; Path=/", "sid=evil", "sid=1"),
    ("a wider domain", "sid=1; Secure; Path=/", "sid=evil; Path=/; Domain=example.com", "sid=1"),
    ("a narrower domain", "sid=1; Secure; Path=/; Domain=example.com", "sid=evil; Path=/", "sid=1"),
    ("a nameless one", "sid=1; Secure; Path=/", "=sid=evil; Path=/", "sid=1"),
    ("a path above", "sid=1; Secure; Path=/login", "sid=2; Path=/", "sid=1; sid=2"),
    ("another name", "sid=1; Secure; Path=/", "id=2; Path=/", "sid=1; id=2"),
    ("one that is not Secure", "sid=1; Path=/", "sid=2; Path=/", "sid=2"),
    ("a deletion of such a one", "sid=1; Path=/", "sid=; Path=/; Max-Age=0", ""),
    ("one that has gone", "sid=1; Secure; Path=/; Max-Age=0", "sid=2; Path=/", "sid=2"),
];

/// The pairs of a header, sorted: the order of creation is another test's.
fn sent(jar: &CookieJar) -> String {
    sorted(&header(jar, SECURE))
}

fn sorted(pairs: &str) -> String {
    let mut pairs: Vec<_> = pairs.split("; ").collect();
    pairs.sort_unstable();
    pairs.join("; ")
}

struct Shared {
    directory: tempfile::TempDir,
    format: Format,
}

impl Shared {
    fn new(format: Format) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), format }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("jar")
    }

    fn open(&self) -> CookieFile {
        CookieFile::open(self.path(), self.format).unwrap()
    }
}

/// Not every cookie can be in every format: `cookie_store` has no nameless ones.
fn can_hold(format: Format, line: &str) -> bool {
    !line.starts_with('=') || !format!("{format:?}").contains("Store")
}

#[test]
fn an_insecure_change_leaves_the_secure_cookies_of_a_file_alone() {
    let rows = pairs(formats(), ROWS).filter(|(format, row)| can_hold(*format, row.2));
    rows::hold(rows, |(format, (row, theirs, ours, want))| {
        let shared = Shared::new(format);
        let (first, stale) = (shared.open(), shared.open());
        set(first.jar(), SECURE, theirs);
        first.save().unwrap();
        set(stale.jar(), CLEAR, ours);
        stale.save().unwrap();
        let file = sent(shared.open().jar());
        // The refused change is undone in the jar.
        let is_refused = want == "sid=1";
        let jar = is_refused.then(|| sent(stale.jar()));
        // Saved again, also by another jar: the change does not return.
        stale.save().unwrap();
        shared.open().save().unwrap();
        let again = sent(shared.open().jar());
        let want = sorted(want);
        let want_of_jar = is_refused.then(|| want.clone());
        (format!("{format:?}, {row}"), (file, jar, again), (want.clone(), want_of_jar, want))
    });
}

/// As a program that keeps a jar, and opens the file when it saves.
#[test]
fn a_jar_that_is_handed_in_replaces_no_secure_cookie_of_the_file() {
    type Save = fn(&Shared, CookieJar);
    let saves: [(&str, Save); 2] = [
        ("with_jar", |shared, jar| {
            CookieFile::with_jar(shared.path(), shared.format, jar).save().unwrap();
        }),
        ("open_into", |shared, jar| {
            CookieFile::open_into(shared.path(), shared.format, jar).unwrap().save().unwrap();
        }),
    ];
    let sets =
        ["sid=evil; Path=/", "sid=evil; Path=/login", "sid=evil; Path=/; Domain=example.com"];
    rows::hold(
        pairs(formats(), pairs(saves, sets).collect::<Vec<_>>()),
        |(format, ((how, save), line))| {
            let shared = Shared::new(format);
            let first = shared.open();
            set(first.jar(), SECURE, "sid=1; Secure; Path=/");
            first.save().unwrap();
            let jar = CookieJar::new();
            set(&jar, CLEAR, line);
            save(&shared, jar.clone());
            let got = (sent(shared.open().jar()), header(&jar, SECURE));
            (format!("{format:?}, {how}, {line}"), got, ("sid=1".to_owned(), "sid=1".to_owned()))
        },
    );
}

/// In the reverse order: the change of an insecure origin is in the file first. The `Secure`
/// cookie, which was set earlier, is saved after it.
#[test]
fn a_secure_cookie_that_is_saved_later_is_not_lost_to_an_insecure_change() {
    let rows = pairs(formats(), ROWS).filter(|(format, row)| can_hold(*format, row.2));
    rows::hold(rows, |(format, (row, theirs, ours, want))| {
        let shared = Shared::new(format);
        let (first, stale) = (shared.open(), shared.open());
        set(first.jar(), SECURE, theirs);
        set(stale.jar(), CLEAR, ours);
        stale.save().unwrap();
        first.save().unwrap();
        (format!("{format:?}, {row}"), sent(shared.open().jar()), sorted(want))
    });
}

/// The jar has evicted its own `Secure` cookie, so an insecure origin can set it there. The file
/// still has it.
#[test]
fn a_secure_cookie_that_its_jar_has_evicted_is_not_lost_to_an_insecure_change() {
    let limits = CookieLimits { per_domain: 2, ..CookieLimits::default() };
    let evicts = |jar: &CookieJar| {
        set(jar, SECURE, "sid=1; Secure; Path=/");
        (0..3).for_each(|n| set(jar, SECURE, &format!("c{n}=1; Secure; Path=/elsewhere")));
        // Room for one that is not Secure.
        set(jar, SECURE, "c2=; Max-Age=0; Path=/elsewhere");
        assert!(jar.get("sid").unwrap().is_none());
    };
    let insecure = ROWS.into_iter().filter(|(_, _, line, _)| line.contains("sid="));
    let insecure = insecure.filter(|(.., want)| *want == "sid=1").map(|(_, _, line, _)| line);
    let rows: Vec<_> = insecure.collect();
    assert!(rows.len() > 5);
    let files = pairs(formats(), rows.clone()).filter(|(format, line)| can_hold(*format, line));
    rows::hold(files, |(format, line)| {
        let shared = Shared::new(format);
        let jar = CookieJar::builder().limits(limits).build();
        let file = CookieFile::open_into(shared.path(), format, jar).unwrap();
        evicts(file.jar());
        set(file.jar(), CLEAR, line);
        file.save().unwrap();
        let got = (sent(shared.open().jar()), sent(file.jar()));
        (format!("{format:?}, {line}"), got, ("sid=1".to_owned(), "sid=1".to_owned()))
    });
    // And in a jar that loads a store before its changes are told.
    rows::hold(rows, |line| {
        let jar = CookieJar::builder().limits(limits).log_changes().build();
        evicts(&jar);
        set(&jar, CLEAR, line);
        jar.load_site("example.com", []);
        let told = jar.take_changes().into_iter().filter_map(|change| change.cookie().cloned());
        let told: Vec<_> = told.filter(|cookie| cookie.path() != "/elsewhere").collect();
        let told: Vec<_> = told.iter().map(|cookie| cookie.value().into_owned()).collect();
        (line, told, vec!["1".to_owned()])
    });
}

#[test]
fn a_logout_over_https_holds_though_http_sets_the_cookie_again_before_the_save() {
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        let file = shared.open();
        set(file.jar(), SECURE, "sid=1; Secure; Path=/");
        file.save().unwrap();
        let file = shared.open();
        set(file.jar(), SECURE, "sid=; Secure; Path=/; Max-Age=0");
        set(file.jar(), CLEAR, "sid=anonymous; Path=/");
        file.save().unwrap();
        let got = sent(shared.open().jar());
        (format!("{format:?}"), got, "sid=anonymous".to_owned())
    });
}

/// The login was before the logout, and is saved last.
#[test]
fn a_login_that_is_saved_late_does_not_undo_a_logout_that_http_has_hidden() {
    let http = [
        ("set", "sid=anonymous; Path=/", "sid=anonymous"),
        ("deleted", "sid=; Path=/; Max-Age=0", ""),
    ];
    rows::hold(pairs(formats(), http), |(format, (row, line, want))| {
        let shared = Shared::new(format);
        let (login, logout, clear) = (shared.open(), shared.open(), shared.open());
        set(login.jar(), SECURE, "sid=1; Secure; Path=/");
        set(logout.jar(), SECURE, "sid=; Secure; Path=/; Max-Age=0");
        logout.save().unwrap();
        set(clear.jar(), CLEAR, line);
        clear.save().unwrap();
        login.save().unwrap();
        (format!("{format:?}, {row}"), sent(shared.open().jar()), want.to_owned())
    });
}

#[test]
fn an_insecure_change_leaves_the_secure_cookies_of_a_store_alone() {
    let site = "example.com";
    // A replica that loads what another one has stored, and the reverse.
    rows::hold(pairs(ROWS, [false, true]), |((row, theirs, ours, want), is_later)| {
        let logged = || CookieJar::builder().log_changes().build();
        let (first, stale) = (logged(), logged());
        set(&first, SECURE, theirs);
        set(&stale, CLEAR, ours);
        let (stored, loads) =
            if is_later { (stale.take_changes(), &first) } else { (first.take_changes(), &stale) };
        // As a store keeps it: the bytes, the time, and by whose word.
        let again = stored.iter().map(|change| {
            let again = match change.cookie() {
                Some(cookie) => {
                    Change::set(Cookie::from_bytes(&cookie.to_bytes()).unwrap(), change.at())
                }
                None => Change::deleted(change.id().clone(), change.at()),
            };
            if change.from_secure() { again } else { again.insecure() }
        });
        loads.load_site(site, again.collect::<Vec<_>>());
        let got = sent(loads);
        // The remaining changes are those of what the jar has.
        let is_told = loads.take_changes().iter().all(|change| {
            change.cookie().is_none_or(|told| loads.iter().any(|cookie| cookie.id() == told.id()))
        });
        (format!("{row}, {is_later}"), (got, is_told), (sorted(want), true))
    });
}

/// A store that keeps one record for each kind of origin, so that none is lost.
#[test]
fn a_store_may_hold_two_changes_of_one_cookie() {
    let at = |micros| UNIX_EPOCH + Duration::from_micros(micros);
    let cookie = |value: &str, secure| {
        Cookie::builder("sid", value).domain("example.com").secure(secure).build().unwrap()
    };
    let deleted = |micros| Change::deleted(cookie("", true).id(), at(micros));
    let rows = [
        (
            "refused",
            Change::set(cookie("1", true), at(5)),
            Change::set(cookie("evil", false), at(6)),
            "sid=1",
        ),
        (
            "replaced before",
            Change::set(cookie("1", true), at(6)),
            Change::set(cookie("2", false), at(5)),
            "sid=1",
        ),
        ("after a logout", deleted(5), Change::set(cookie("2", false), at(6)), "sid=2"),
        ("before a logout", deleted(6), Change::set(cookie("2", false), at(5)), ""),
        ("deleted in clear", Change::set(cookie("1", true), at(5)), deleted(6), "sid=1"),
    ];
    rows::hold(rows, |(row, secure, clear, want)| {
        let jar = CookieJar::builder().log_changes().build();
        jar.load_site("example.com", [clear.insecure(), secure]);
        (row, header(&jar, SECURE), want.to_owned())
    });
}

#[test]
fn a_change_says_whether_its_origin_was_secure() {
    static MILLIS: AtomicU64 = AtomicU64::new(1_800_000_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(MILLIS.fetch_add(1, SeqCst))
    }
    type Do = fn(&CookieJar);
    let rows: [(&str, Do, bool); 8] = [
        ("https", |jar| set(jar, SECURE, "b=1"), true),
        ("http", |jar| set(jar, CLEAR, "b=1"), false),
        ("http that deletes", |jar| set(jar, CLEAR, "a=; Max-Age=0"), false),
        ("http that moves the expiry", |jar| set(jar, CLEAR, "a=1; Max-Age=90"), false),
        ("http with the same line", |jar| set(jar, CLEAR, "a=1; Max-Age=60"), false),
        ("this machine", |jar| set(jar, "http://127.0.0.1/", "b=1"), true),
        (
            "an insertion",
            |jar| jar.insert(Cookie::builder("b", "1").domain("example.com").build().unwrap()),
            true,
        ),
        ("a removal", |jar| drop(jar.remove("www.example.com", "/login", "a")), true),
    ];
    rows::hold(rows, |(row, change, want)| {
        let jar = CookieJar::builder().clock(clock).log_changes().build();
        set(&jar, SECURE, "a=1; Max-Age=60");
        drop(jar.take_changes());
        change(&jar);
        let changes = jar.take_changes();
        (row, changes.iter().map(Change::from_secure).collect::<Vec<_>>(), vec![want])
    });
}
