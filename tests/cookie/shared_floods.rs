//! Floods of one site, in a log and in a file that several jars share: no other site loses
//! anything, and a file stays bounded.

use std::{fs, path::PathBuf};

use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use tower_outbound::cookie::{Change, CookieFile, CookieJar, CookieLimits, Format, Rejection};

use crate::{files::formats, rows};

const FLOOD: &str = "https://flood.example/";

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

fn set(jar: &CookieJar, uri: &str, line: impl AsRef<[u8]>) {
    jar.set(&uri.parse().unwrap(), line).unwrap();
}

fn host(n: usize) -> String {
    format!("https://h{n}.example/")
}

/// 100 sites log in, 100 others log out, and meanwhile one floods the log.
#[test]
fn a_flood_of_one_site_loses_no_login_and_no_logout_of_others() {
    type Flood = fn(&CookieJar, usize);
    let floods: [(&str, Flood); 4] = [
        ("sets", |jar, n| set(jar, FLOOD, format!("c{n}=1"))),
        ("sets and deletes", |jar, n| {
            set(jar, FLOOD, format!("c{n}=1"));
            set(jar, FLOOD, format!("c{n}=; Max-Age=0"));
        }),
        ("deletes", |jar, n| set(jar, FLOOD, format!("c{n}=; Max-Age=0"))),
        ("long deletes", |jar, n| set(jar, FLOOD, format!("{n:01000}=; Max-Age=0"))),
    ];
    let limits = CookieLimits { total: 1_000, bytes: 400_000, ..CookieLimits::default() };
    rows::hold(floods, |(row, flood)| {
        let shared = Shared::new(Format::Netscape);
        let first = shared.open();
        (100..200).for_each(|n| set(first.jar(), &host(n), "sid=1"));
        first.save().unwrap();
        let jar = CookieJar::builder().limits(limits).build();
        let file = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
        for n in 0..3_000 {
            flood(file.jar(), n);
            if n % 30 == 0 {
                set(file.jar(), &host(n / 30), "sid=1");
                set(file.jar(), &host(100 + n / 30), "sid=; Max-Age=0");
            }
        }
        file.save().unwrap();
        let again = shared.open();
        let has = |n: usize| again.jar().header(&host(n).parse().unwrap()).is_some();
        let logins = (0..100).filter(|n| has(*n)).count();
        let logouts = (100..200).filter(|n| !has(*n)).count();
        (row, (logins, logouts), (100, 100))
    });
}

/// Within the flooding site, cookies from https, and logouts of cookies that were in the file, are
/// dropped last.
#[test]
fn a_flood_over_http_pushes_no_change_of_https_out_of_a_log() {
    let limits = CookieLimits { total: 100, ..CookieLimits::default() };
    for line in ["c{n}=1", "c{n}=; Max-Age=0"] {
        let jar = CookieJar::builder().limits(limits).log_changes().build();
        set(&jar, FLOOD, "sid=1; Secure");
        for n in 0..1_000 {
            set(&jar, "http://flood.example/", line.replace("{n}", &n.to_string()));
        }
        let changes = jar.take_changes();
        assert!(changes.len() <= 100, "{line}: {}", changes.len());
        assert!(changes.iter().any(Change::from_secure), "{line}");
    }
}

/// The logout comes after the change over http.
#[test]
fn a_flood_over_http_undoes_no_logout_of_https_that_http_has_replaced() {
    let clear = "http://flood.example/";
    let shared = Shared::new(Format::Netscape);
    let first = shared.open();
    set(first.jar(), FLOOD, "sid=1; Secure");
    first.save().unwrap();
    let limits = CookieLimits { total: 100, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let file = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
    let flood = |name: &str| (0..400).for_each(|n| set(file.jar(), clear, format!("{name}{n}=1")));
    // Beyond the older half of the log, which is spared.
    flood("a");
    set(file.jar(), FLOOD, "sid=; Secure; Max-Age=0");
    set(file.jar(), clear, "sid=anonymous");
    flood("b");
    file.save().unwrap();
    let text = fs::read_to_string(shared.path()).unwrap();
    assert!(!text.contains("sid\t1"), "{text}");
}

#[test]
fn a_response_deletes_no_more_cookies_than_it_may_set() {
    let lines = |range: std::ops::Range<usize>, attributes: &str| {
        range
            .map(|n| format!("c{n}=1{attributes}"))
            .map(|line| (SET_COOKIE, HeaderValue::try_from(line).unwrap()))
            .collect::<Vec<_>>()
    };
    let deletes = |range| lines(range, "; Max-Age=0");
    // Deletions and cookies of one response; deleted, accepted and refused.
    let rows = [
        ("as many as it may", vec![deletes(0..50)], [50, 0, 0]),
        ("too many", vec![deletes(0..60)], [50, 0, 10]),
        ("and then a login", vec![deletes(0..60), lines(90..91, "")], [50, 1, 10]),
        ("beside cookies", vec![lines(0..49, ""), deletes(50..90)], [40, 49, 0]),
    ];
    rows::hold(rows, |(row, lines, want)| {
        let headers: HeaderMap = lines.into_iter().flatten().collect();
        let jar = CookieJar::builder().log_changes().build();
        let cookies = jar.store_response(&FLOOD.parse().unwrap(), &headers);
        let is_bound = cookies.rejected().iter().all(|one| one.reason() == Rejection::TooMany);
        let counts = [cookies.deleted().len(), cookies.accepted().len(), cookies.rejected().len()];
        let logged = jar.take_changes().len();
        (row, (counts, is_bound, logged), (want, true, want[0] + want[1]))
    });
}

/// As a tracker does. Before, the file grew by 180 cookies with each save, until no save succeeded.
#[test]
fn a_site_that_invents_names_fills_no_file() {
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        let first = shared.open();
        set(first.jar(), FLOOD, "sid=first; Max-Age=9000");
        (0..100).for_each(|n| set(first.jar(), &host(n), "sid=1; Max-Age=9000"));
        first.save().unwrap();
        let file = shared.open();
        for save in 0..6 {
            (0..200).for_each(|n| set(file.jar(), FLOOD, format!("c{save}-{n}=1; Max-Age=9000")));
            file.save().unwrap();
        }
        set(file.jar(), FLOOD, "new=1; Max-Age=9000");
        file.save().unwrap();
        let limits = CookieLimits { per_domain: 10_000, ..CookieLimits::default() };
        let wide = CookieJar::builder().limits(limits).build();
        CookieFile::open_into(shared.path(), format, wide.clone()).unwrap();
        let of_flood = wide.iter().filter(|cookie| cookie.domain() == "flood.example").count();
        let has = |name: &str| wide.get(name).unwrap().is_some();
        let got = (of_flood, wide.len() - of_flood, has("new"));
        // Four times the jar's limit per site.
        (format!("{format:?}"), got, (720, 100, true))
    });
}

#[test]
fn a_flood_of_deletions_keeps_every_save_and_the_logouts_of_others() {
    let shared = Shared::new(Format::Netscape);
    let old = shared.open();
    // Set before the logout, and saved after it.
    set(old.jar(), &host(1), "sid=1");
    let file =
        CookieFile::builder(shared.path(), Format::Netscape).max_bytes(2_000).open().unwrap();
    set(file.jar(), &host(1), "sid=; Max-Age=0");
    for n in 0..5_000 {
        set(file.jar(), FLOOD, format!("{n:01000}=; Max-Age=0"));
    }
    file.save().unwrap();
    let lock = fs::metadata(shared.directory.path().join(".jar.lock")).unwrap().len();
    assert!(lock < 1_500_000, "{lock}");
    old.save().unwrap();
    assert_eq!(shared.open().jar().len(), 0);
}

/// A jar with small limits, or one that opens what another program has written.
#[test]
fn a_save_cuts_down_no_file_that_is_there() {
    let line = |n| format!("flood.example\tFALSE\t/\tFALSE\t0\tc{n}\t1\n");
    let lines: String = (0..1_000).map(line).collect();
    let shared = Shared::new(Format::Netscape);
    fs::write(shared.path(), &lines).unwrap();
    let limits = CookieLimits { per_domain: 1, total: 1, bytes: 100, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let file = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
    set(file.jar(), &host(1), "sid=1");
    file.save().unwrap();
    let text = fs::read_to_string(shared.path()).unwrap();
    assert!(text.contains(&lines) && text.contains("h1.example"), "{} bytes", text.len());
}

/// Without a bound a full disk would also fill the memory.
#[test]
fn what_failing_saves_leave_is_bounded_and_is_saved_by_the_next() {
    let shared = Shared::new(Format::Netscape);
    let limits = CookieLimits { total: 200, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let file = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
    set(file.jar(), &host(1), "sid=1");
    fs::create_dir(shared.path()).unwrap();
    for save in 0..50 {
        (0..100).for_each(|n| set(file.jar(), FLOOD, format!("c{save}-{n}=1")));
        file.save().unwrap_err();
    }
    fs::remove_dir(shared.path()).unwrap();
    assert!(file.save_if_changed().unwrap());
    let text = fs::read_to_string(shared.path()).unwrap();
    let count = text.lines().filter(|line| line.contains('\t')).count();
    assert!(text.contains("h1.example") && count <= 200, "{count}");
    assert!(text.contains("c49-99"));
}

/// After all was read and merged, so that the changes were taken from the log by then.
#[test]
fn a_save_that_cannot_be_written_gives_its_changes_back() {
    let shared = Shared::new(Format::Netscape);
    fs::write(shared.path(), "not a cookie\nh1.example\tFALSE\t/\tFALSE\t0\tsid\t1\n").unwrap();
    let builder = CookieFile::builder(shared.path(), Format::Netscape);
    let file = builder.max_bytes(400).open().unwrap();
    let long = |n: usize| format!("sid={}", "x".repeat(n));
    set(file.jar(), &host(2), long(1_000));
    set(file.jar(), &host(3), "sid=1");
    set(file.jar(), &host(1), "sid=; Max-Age=0");
    file.save().unwrap_err();
    // What changes meanwhile is later.
    set(file.jar(), &host(2), long(10));
    file.save().unwrap();
    let opened = shared.open();
    let hosts: Vec<_> = opened.jar().iter().map(|cookie| cookie.domain().to_owned()).collect();
    assert_eq!(hosts, ["h2.example", "h3.example"]);
}
