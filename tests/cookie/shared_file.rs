//! One file with several jars, like those of several processes: what each may remove, and whose
//! change is kept.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tower_outbound::cookie::{Cookie, CookieFile, CookieJar, CookieLimits, Format};

use crate::{files::formats, pairs::pairs, rows};

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

    /// What the file holds, in its order.
    fn text(&self) -> String {
        let cookies =
            self.open().jar().iter().map(|cookie| format!("{}={}", cookie.name(), cookie.value()));
        cookies.collect::<Vec<_>>().join(" ")
    }
}

fn set(file: &CookieFile, line: &str) {
    file.jar().set(&"https://example.com/".parse().unwrap(), line).unwrap();
}

fn saved(file: &CookieFile, line: &str) {
    set(file, line);
    file.save().unwrap();
}

#[test]
fn what_a_jar_evicts_stays_in_the_file() {
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        saved(&shared.open(), "sid=1; Max-Age=1000");
        let file = shared.open();
        for n in 0..400 {
            set(&file, &format!("c{n}=1; Secure; Max-Age=1000"));
        }
        let held = file.jar().get("sid").unwrap().is_some();
        file.save().unwrap();
        let limits = CookieLimits { per_domain: 1_000, ..CookieLimits::default() };
        let wide = CookieJar::builder().limits(limits).build();
        let wide = CookieFile::open_into(shared.path(), format, wide).unwrap();
        let sid = wide.jar().get("sid").unwrap().map(|cookie| cookie.value().into_owned());
        (format!("{format:?}"), (held, sid, wide.jar().len()), (false, Some("1".to_owned()), 401))
    });
}

/// Also a cookie that the jar has changed before, and one that is evicted by the jar's total.
#[test]
fn an_eviction_takes_back_no_change_and_no_other_site() {
    let shared = Shared::new(Format::Netscape);
    let first = shared.open();
    saved(&first, "sid=1; Max-Age=1000");
    let limits = CookieLimits { per_domain: 1, total: 8, ..CookieLimits::default() };
    let jar = CookieJar::builder().limits(limits).build();
    let small = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
    set(&small, "sid=2; Max-Age=1000");
    for n in 0..4 {
        small.jar().set(&format!("https://h{n}.example/").parse().unwrap(), "c=1").unwrap();
    }
    set(&small, "x=1; Secure");
    assert!(small.jar().get("sid").unwrap().is_none() && small.jar().len() == 5);
    small.save().unwrap();
    assert_eq!(shared.text(), "sid=2 c=1 c=1 c=1 c=1 x=1");
}

static SECONDS: AtomicU64 = AtomicU64::new(0);

#[test]
fn what_expires_in_a_jar_stays_in_the_file_if_another_has_renewed_it() {
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + SECONDS.load(SeqCst))
    }
    let shared = Shared::new(Format::Netscape);
    let open = || {
        let jar = CookieJar::builder().clock(clock).build();
        CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap()
    };
    saved(&open(), "sid=1; Max-Age=10");
    let (first, second) = (open(), open());
    SECONDS.fetch_add(5, SeqCst);
    saved(&second, "sid=1; Max-Age=1000");
    SECONDS.fetch_add(10, SeqCst);
    assert_eq!(first.jar().header(&"https://example.com/".parse().unwrap()), None);
    saved(&first, "other=1");
    let mut names: Vec<_> = open().jar().to_map().into_keys().collect();
    names.sort();
    assert_eq!(names, ["other", "sid"]);
}

/// Microseconds lie between the two: the finest that a file's times tell apart.
fn later() {
    let start = SystemTime::now();
    while start.elapsed().is_ok_and(|since| since < Duration::from_micros(5)) {}
}

#[test]
fn of_two_changes_the_one_that_was_set_later_is_kept_whoever_saves_first() {
    // What the earlier and the later one set, and what the file then holds.
    let changes = [
        ("sid=early", "sid=late", "sid=late"),
        ("sid=; Max-Age=0", "sid=late", "sid=late"),
        ("sid=early", "sid=; Max-Age=0", ""),
        ("sid=early; Max-Age=90", "sid=old; Max-Age=60", "sid=old"),
        ("new=early", "new=late", "sid=old new=late"),
        ("new=early", "new=; Max-Age=0", "sid=old"),
    ];
    let orders = [("the earlier", [0, 1]), ("the later", [1, 0])];
    let rows = pairs(formats(), pairs(changes, orders).collect::<Vec<_>>());
    rows::hold(rows, |(format, ((early, late, want), (first, order)))| {
        let shared = Shared::new(format);
        saved(&shared.open(), "sid=old");
        let files = [shared.open(), shared.open()];
        set(&files[0], early);
        later();
        set(&files[1], late);
        for saver in order {
            files[saver].save().unwrap();
        }
        // A third save changes nothing, and neither do those of the two.
        let third = shared.open();
        third.save().unwrap();
        files.iter().for_each(|file| file.save().unwrap());
        (
            format!("{format:?}, {early}, {late}, {first} saves first"),
            shared.text(),
            want.to_owned(),
        )
    });
}

/// Each knows of the other's change, since it opened the file after it or saved since.
#[test]
fn a_change_is_later_than_what_its_jar_has_read_though_the_clock_jumps_back() {
    static NOW: AtomicU64 = AtomicU64::new(1_800_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(SeqCst))
    }
    for format in formats() {
        let shared = Shared::new(format);
        let open = || {
            let jar = CookieJar::builder().clock(clock).build();
            CookieFile::open_into(shared.path(), format, jar).unwrap()
        };
        NOW.store(1_800_000_100, SeqCst);
        saved(&open(), "sid=1; Max-Age=1000");
        NOW.store(1_800_000_000, SeqCst);
        saved(&open(), "sid=2; Max-Age=1000");
        let sid = open().jar().get("sid").unwrap().map(|cookie| cookie.value().into_owned());
        assert_eq!(sid.as_deref(), Some("2"), "{format:?}");
    }
}

/// The file has no record of the logout. The lock file beside it has.
#[test]
fn a_login_is_later_than_a_logout_of_a_clock_that_was_ahead() {
    static NOW: AtomicU64 = AtomicU64::new(1_800_000_000);
    fn clock() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW.load(SeqCst))
    }
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        let open = || {
            let jar = CookieJar::builder().clock(clock).build();
            CookieFile::open_into(shared.path(), format, jar).unwrap()
        };
        NOW.store(1_831_536_000, SeqCst);
        saved(&open(), "sid=; Max-Age=0");
        NOW.store(1_800_000_000, SeqCst);
        saved(&open(), "sid=2; Max-Age=1000");
        let sid = open().jar().get("sid").unwrap().map(|cookie| cookie.value().into_owned());
        (format!("{format:?}"), sid, Some("2".to_owned()))
    });
}

#[test]
fn a_deletion_takes_out_what_its_jar_never_had() {
    type Delete = fn(&CookieJar);
    let deletions: [(&str, Delete); 3] = [
        ("by a response", |jar| {
            jar.set(&"https://example.com/".parse().unwrap(), "sid=; Max-Age=0").unwrap();
        }),
        ("by a caller", |jar| drop(jar.remove("example.com", "/", "sid"))),
        ("by an expired cookie", |jar| {
            let cookie = Cookie::builder("sid", "").domain("example.com").host_only(true);
            jar.insert(cookie.expires(UNIX_EPOCH + Duration::from_secs(1)).build().unwrap());
        }),
    ];
    rows::hold(pairs(formats(), deletions), |(format, (row, delete))| {
        let shared = Shared::new(format);
        let file = shared.open();
        saved(&shared.open(), "sid=1");
        delete(file.jar());
        let had = file.save_if_changed().unwrap();
        (format!("{format:?}, {row}"), (had, shared.text()), (true, String::new()))
    });
}

/// curl and an editor keep no times. What they wrote was set before the file was written.
#[test]
fn what_another_program_writes_is_as_old_as_the_file() {
    let line = |value: &str| format!("example.com\tFALSE\t/\tFALSE\t0\tsid\t{value}\n");
    let touch = |path: &Path, at| {
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    let rows = [("before our change", -60, "ours"), ("after our change", 60, "theirs")];
    rows::hold(rows, |(row, seconds, want)| {
        let shared = Shared::new(Format::Netscape);
        saved(&shared.open(), "sid=old");
        let file = shared.open();
        let now = SystemTime::now();
        set(&file, "sid=ours");
        fs::write(shared.path(), line("theirs")).unwrap();
        let age = Duration::from_secs(60);
        // It has a time of its own by then, so that the test waits for none.
        touch(&shared.path(), if seconds < 0 { now - age } else { now });
        if seconds > 0 {
            // As if it was set a minute ago.
            touch(&shared.path(), now + age);
            later();
        }
        file.save().unwrap();
        let got = shared.text();
        (row, got, format!("sid={want}"))
    });
}

#[test]
fn times_that_are_lost_or_damaged_cost_no_cookie() {
    let rows: [(&str, fn(&Path)); 3] = [
        ("lost", |lock| fs::remove_file(lock).unwrap()),
        ("cut", |lock| fs::write(lock, &fs::read(lock).unwrap()[..40]).unwrap()),
        ("not ours", |lock| fs::write(lock, "what is this").unwrap()),
    ];
    rows::hold(rows, |(row, damage)| {
        let shared = Shared::new(Format::Netscape);
        let (first, second) = (shared.open(), shared.open());
        saved(&first, "a=1");
        damage(&shared.directory.path().join(".jar.lock"));
        saved(&second, "b=1");
        saved(&first, "c=1");
        (row, shared.text(), "a=1 b=1 c=1".to_owned())
    });
}

/// A lock of another program, or a name that somebody has given to another file.
#[cfg(unix)]
#[test]
fn a_save_writes_nothing_into_a_lock_file_that_is_not_its_own() {
    let rows: [(&str, fn(&Path)); 2] = [
        ("of another program", |lock| fs::write(lock, "PID 4711\n").unwrap()),
        ("a hard link", |lock| {
            let precious = lock.with_file_name("precious");
            fs::write(&precious, "").unwrap();
            fs::hard_link(precious, lock).unwrap();
        }),
    ];
    rows::hold(rows, |(row, make)| {
        let shared = Shared::new(Format::Netscape);
        let lock = shared.directory.path().join(".jar.lock");
        make(&lock);
        let before = fs::read(&lock).unwrap();
        let file = shared.open();
        saved(&file, "a=1");
        saved(&file, "b=1");
        file.overwrite().unwrap();
        let got = (fs::read(&lock).unwrap() == before, shared.text());
        (row, got, (true, "a=1 b=1".to_owned()))
    });
}

/// A cookie keeps its time, in whatever jar and file it is read again.
#[test]
fn reading_a_cookie_again_makes_it_no_newer() {
    type Read = fn(&Shared, &CookieFile);
    let rows: [(&str, Read); 4] = [
        ("into another jar", |shared, _| shared.open().save().unwrap()),
        ("into the jar that has it", |shared, file| {
            let jar = file.jar().clone();
            CookieFile::open_into(shared.path(), shared.format, jar).unwrap().save().unwrap();
            file.save().unwrap();
        }),
        ("into another jar that is in a file", |shared, _| {
            let other = Shared::new(shared.format);
            let kept = other.open();
            let jar = kept.jar().clone();
            let again = CookieFile::open_into(shared.path(), shared.format, jar.clone()).unwrap();
            let twice = CookieFile::open_into(shared.path(), shared.format, jar).unwrap();
            [&again, &twice, &kept].iter().for_each(|file| file.save().unwrap());
            CookieFile::with_jar(shared.path(), shared.format, kept.jar().clone()).save().unwrap();
        }),
        ("as the jar of a new file", |shared, file| {
            let jar = file.jar().clone();
            CookieFile::with_jar(shared.path(), shared.format, jar).save().unwrap();
        }),
    ];
    // What another process sets before the reading, and saves after it.
    let changes = [("sid=2", "sid=2"), ("sid=; Max-Age=0", "")];
    rows::hold(
        pairs(formats(), pairs(rows, changes).collect::<Vec<_>>()),
        |(format, ((row, read), (line, want)))| {
            let shared = Shared::new(format);
            let (file, other) = (shared.open(), shared.open());
            saved(&file, "sid=1");
            // A cookie's own times have whole milliseconds.
            let start = SystemTime::now();
            while start.elapsed().is_ok_and(|since| since < Duration::from_millis(2)) {}
            set(&other, line);
            later();
            read(&shared, &file);
            other.save().unwrap();
            (format!("{format:?}, {row}, {line}"), shared.text(), want.to_owned())
        },
    );
}

/// Two `CookieFile`s of one path, as in a program that opens the file again.
#[test]
fn opening_a_file_again_takes_no_change_that_its_jar_has_not_saved() {
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        saved(&shared.open(), "sid=1");
        let file = shared.open();
        set(&file, "sid=2");
        set(&file, "new=1");
        let again = CookieFile::open_into(shared.path(), format, file.jar().clone()).unwrap();
        again.save().unwrap();
        (format!("{format:?}"), shared.text(), "sid=2 new=1".to_owned())
    });
}

#[test]
fn a_clock_that_is_ahead_takes_no_live_cookie_out_of_a_file() {
    fn ahead() -> SystemTime {
        SystemTime::now() + Duration::from_secs(12 * 60 * 60)
    }
    rows::hold(formats(), |format| {
        let shared = Shared::new(format);
        saved(&shared.open(), "sid=1; Max-Age=3600");
        let jar = CookieJar::builder().clock(ahead).build();
        let file = CookieFile::open_into(shared.path(), format, jar).unwrap();
        let sent = file.jar().len();
        saved(&file, "other=1; Max-Age=99999");
        file.save().unwrap();
        let mut names: Vec<_> = shared.open().jar().to_map().into_keys().collect();
        names.sort();
        (format!("{format:?}"), (sent, names.join(" ")), (0, "other sid".to_owned()))
    });
}

/// Anybody can write the file, or a program with another clock.
#[cfg(feature = "json")]
#[test]
fn times_of_the_far_future_keep_no_cookie_from_being_changed() {
    let shared = Shared::new(Format::Json);
    let far = u64::MAX - 1;
    let text = format!(
        r#"{{"version": 1, "cookies": [{{"name": "sid", "value": "old", "domain": "example.com",
        "path": "/", "host_only": true, "created": {far}, "updated": {far}, "sent": {far}}}]}}"#
    );
    fs::write(shared.path(), text).unwrap();
    later();
    saved(&shared.open(), "sid=new");
    assert_eq!(shared.text(), "sid=new");
    let old = shared.open().jar().iter().next().unwrap();
    let soon = SystemTime::now() + Duration::from_secs(25 * 60 * 60);
    assert!(old.created() < soon && old.last_access() < soon, "{old:?}");
}

/// Whoever may read only the lock file learns no value.
#[test]
fn the_times_beside_a_file_hold_no_value() {
    let shared = Shared::new(Format::Netscape);
    saved(&shared.open(), "sid=geheim");
    let lock = fs::read(shared.directory.path().join(".jar.lock")).unwrap();
    let holds = |text: &[u8]| lock.windows(text.len()).any(|window| window == text);
    assert_eq!((holds(b"sid"), holds(b"geheim")), (true, false));
}

/// Their logs are separate.
#[test]
fn a_jar_can_be_kept_in_two_files_and_be_read_by_its_owner() {
    let (one, two) = (Shared::new(Format::Netscape), Shared::new(Format::Netscape));
    let jar = CookieJar::builder().log_changes().build();
    let first = CookieFile::open_into(one.path(), Format::Netscape, jar.clone()).unwrap();
    let second = CookieFile::with_jar(two.path(), Format::Netscape, jar.clone());
    set(&first, "a=1");
    first.save().unwrap();
    assert_eq!(jar.take_changes().len(), 1);
    second.save().unwrap();
    assert_eq!((one.text(), two.text()), ("a=1".to_owned(), "a=1".to_owned()));
    assert_eq!(
        (first.save_if_changed().unwrap(), second.save_if_changed().unwrap()),
        (false, false)
    );
}

/// The cookies that it had before, those of the file, and those in both.
#[test]
fn a_jar_that_is_handed_in_brings_what_it_has() {
    let shared = Shared::new(Format::Netscape);
    let first = shared.open();
    saved(&first, "both=file");
    saved(&first, "file=1");
    let jar = CookieJar::new();
    for line in ["both=jar", "jar=1"] {
        jar.set(&"https://example.com/".parse().unwrap(), line).unwrap();
    }
    let file = CookieFile::open_into(shared.path(), Format::Netscape, jar).unwrap();
    assert!(file.save_if_changed().unwrap());
    assert!(!file.save_if_changed().unwrap());
    assert_eq!(shared.text(), "both=file file=1 jar=1");
}

/// Only temporary files of this file are removed. One of another file, a directory and another name
/// stay.
#[test]
fn a_save_sweeps_the_temporary_files_of_its_own_file_alone() {
    let saves: [(&str, fn(&CookieFile)); 3] = [
        ("save", |file| file.save().unwrap()),
        ("try_save", |file| file.try_save().unwrap()),
        ("overwrite", |file| file.overwrite().unwrap()),
    ];
    rows::hold(saves, |(row, save)| {
        let shared = Shared::new(Format::Netscape);
        let named = |name: &str| shared.directory.path().join(name);
        let file = shared.open();
        set(&file, "a=1");
        for name in [".jar.save-aB3dEf0123456789", ".jar.save-0000000000000000"] {
            fs::write(named(name), "half a jar").unwrap();
        }
        let others = [
            ".cookies-abcdef",
            ".jar.save-",
            ".jar.save-backup",
            ".jar.save-2026-11-26-17-00",
            ".jar.save-abcdefghijklmno",
            ".jar.save-abcdefghijklmnopq",
            ".jar.save-x.save-abcdefghijklmnop",
            ".jar.txt.save-abcdefghijklmnop",
            "jar.save-abcdefghijklmnop",
        ];
        others.iter().for_each(|name| fs::write(named(name), "of another").unwrap());
        fs::create_dir(named(".jar.save-folder")).unwrap();
        save(&file);
        let mut left: Vec<_> = fs::read_dir(&shared.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut want: Vec<_> = others.iter().map(|name| (*name).to_owned()).collect();
        want.extend([".jar.lock", ".jar.save-folder", "jar"].map(str::to_owned));
        want.sort();
        (row, left, want)
    });
}
