//! Jars on disk: saves that lose nothing, and paths that are no regular file.

use std::{fs, path::Path};

use tower_outbound::cookie::{CookieFile, CookieJar, FileError, Format};

use crate::{jars::header, rows};

fn set(file: &CookieFile, line: &str) {
    file.jar().set(&"https://example.com/".parse().unwrap(), line).unwrap();
}

fn open(path: &Path) -> CookieFile {
    CookieFile::open(path, Format::Netscape).unwrap()
}

#[test]
fn a_logout_is_not_undone_by_what_the_file_cannot_hold() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    for attributes in [
        "SameSite=Lax",
        "Partitioned; Secure",
        "HttpOnly",
        "Secure; SameSite=None; Max-Age=999999999",
    ] {
        let file = open(&path);
        set(&file, &format!("sid=1; Max-Age=3600; {attributes}"));
        file.save().unwrap();
        set(&file, "sid=; Max-Age=0");
        file.save().unwrap();
        assert_eq!(open(&path).jar().len(), 0, "{attributes}");
    }
    // An expiry above the cap differs each time it is read.
    fs::write(&path, "example.com\tFALSE\t/\tFALSE\t9999999999\tsid\t1\n").unwrap();
    let file = open(&path);
    let ahead = CookieFile::with_jar(&path, Format::Netscape, CookieJar::new());
    ahead.save().unwrap();
    set(&file, "sid=; Max-Age=0");
    file.save().unwrap();
    assert_eq!(open(&path).jar().len(), 0);
}

#[test]
fn a_save_takes_nothing_that_the_jar_had_no_room_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let lines: String =
        (0..300).map(|n| format!("example.com\tFALSE\t/\tFALSE\t0\tc{n}\t1\n")).collect();
    fs::write(&path, &lines).unwrap();
    let file = open(&path);
    assert_eq!(file.jar().len(), 180);
    file.save().unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with(&lines));
}

/// Another program may allow it, and a jar with other suffixes does.
#[test]
fn a_save_takes_nothing_that_the_rules_refuse() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let refused =
        "example.com\tFALSE\t/\tFALSE\t0\t__Host-a\t1\n.com\tTRUE\t/\tFALSE\t0\twide\t1\n";
    let allowed = "example.com\tFALSE\t/\tFALSE\t0\ta\t1\n";
    fs::write(&path, [allowed, refused].concat()).unwrap();
    for (line, last) in [("a=2", "a\t2\n"), ("b=1", "b\t1\n"), ("b=; Max-Age=0", "a\t2\n")] {
        let file = open(&path);
        set(&file, line);
        file.save().unwrap();
        file.save().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(refused) && text.contains(last), "{line}: {text}");
        assert!(!header(file.jar(), "https://example.com/").contains("__Host-a"));
    }
    let joined = CookieFile::with_jar(&path, Format::Netscape, CookieJar::new());
    joined.save().unwrap();
    assert!(fs::read_to_string(&path).unwrap().contains(refused));
    // When the cookie is in our jar, our jar may remove it.
    let file = open(&path);
    set(&file, "__Host-a=2; Secure; Path=/");
    file.save().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().matches("__Host-a\t").count(), 1);
    set(&file, "__Host-a=; Secure; Path=/; Max-Age=0");
    file.save().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap().matches("__Host-a\t").count(), 0);
}

#[test]
fn saves_of_two_sessions_are_merged_and_neither_loses_anything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let first = open(&path);
    for line in ["kept=1", "changed=1", "removed=1", "removed-by-first=1"] {
        set(&first, line);
    }
    first.save().unwrap();
    let second = open(&path);
    set(&first, "changed=first");
    set(&first, "new-of-first=1");
    set(&first, "removed-by-first=; Max-Age=0");
    set(&second, "removed=; Max-Age=0");
    set(&second, "new-of-second=1");
    second.save().unwrap();
    first.save().unwrap();
    let names = "kept=1; changed=first; new-of-second=1; new-of-first=1";
    let merged = open(&path);
    assert_eq!(header(merged.jar(), "https://example.com/"), names);
    // Saving again changes nothing, and undoes no change of the other.
    let text = fs::read(&path).unwrap();
    first.save().unwrap();
    second.save().unwrap();
    assert_eq!(fs::read(&path).unwrap(), text);
}

#[test]
fn a_jar_saved_into_another_file_joins_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let old = open(&path);
    set(&old, "old=1");
    set(&old, "both=old");
    old.save().unwrap();
    let jar = CookieJar::new();
    let new = CookieFile::with_jar(&path, Format::Netscape, jar);
    set(&new, "both=new");
    set(&new, "new=1");
    new.save().unwrap();
    assert_eq!(header(open(&path).jar(), "https://example.com/"), "old=1; both=new; new=1");
}

#[test]
fn many_savers_at_once_lose_no_cookie() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    std::thread::scope(|scope| {
        for saver in 0..8 {
            let path = &path;
            scope.spawn(move || {
                let file = open(path);
                for round in 0..5 {
                    set(&file, &format!("c{saver}-{round}=1"));
                    file.save().unwrap();
                }
            });
        }
    });
    assert_eq!(open(&path).jar().len(), 40);
}

#[test]
fn a_damaged_file_is_never_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = open(&path);
    set(&file, "a=1");
    fs::write(&path, "damaged").unwrap();
    let error = file.save().unwrap_err();
    assert_eq!((error.line(), error.path()), (Some(1), &*path));
    assert_eq!(CookieFile::open(&path, Format::Netscape).unwrap_err().line(), Some(1));
    assert_eq!(fs::read(&path).unwrap(), b"damaged");
}

#[cfg(unix)]
#[test]
fn damage_that_a_save_meets_behind_a_link_is_named_by_the_path_that_was_given() {
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("cookies.txt"), directory.path().join("link"));
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let file = open(&link);
    fs::write(&target, "damaged").unwrap();
    let error = file.save().unwrap_err();
    assert_eq!((error.path(), error.line()), (&*link, Some(1)));
    assert_eq!(fs::read_to_string(&target).unwrap(), "damaged");
}

#[cfg(unix)]
#[test]
fn a_save_that_fails_leaves_the_old_file_and_no_litter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = open(&path);
    set(&file, "a=1");
    file.save().unwrap();
    let text = fs::read(&path).unwrap();
    // A directory where the temporary file would be renamed to.
    let blocked = directory.path().join("blocked");
    fs::create_dir(&blocked).unwrap();
    let other = CookieFile::with_jar(&blocked, Format::Netscape, file.jar().clone());
    assert!(matches!(other.save(), Err(FileError::Write { .. })));
    let nowhere = CookieFile::with_jar(
        directory.path().join("none/cookies.txt"),
        Format::Netscape,
        file.jar().clone(),
    );
    assert!(matches!(nowhere.save(), Err(FileError::Write { .. })));
    assert_eq!(fs::read(&path).unwrap(), text);
    let mut names: Vec<_> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, [".cookies.txt.lock", "blocked", "cookies.txt"]);
}

/// These obstacles also stop root, which ignores the mode of a directory.
#[cfg(unix)]
#[test]
fn a_save_that_cannot_begin_leaves_the_file_that_is_there() {
    const OLD: &str = "# Netscape HTTP Cookie File\n\nexample.com\tFALSE\t/\tFALSE\t0\told\t1\n";
    // The name of the file, and what comes in between.
    let rows: &[(&str, &str, fn(&Path))] = &[
        ("no room for a longer name beside it", &"c".repeat(255), |_| ()),
        ("its lock cannot be opened", "cookies.txt", |path| {
            fs::create_dir(path.with_file_name(".cookies.txt.lock")).unwrap();
        }),
        ("another file stands where its directory was", "cookies.txt", |path| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
            fs::write(directory, "no directory").unwrap();
        }),
        ("its directory is gone", "cookies.txt", |path| {
            let directory = path.parent().unwrap();
            fs::rename(directory, directory.with_extension("moved")).unwrap();
        }),
    ];
    rows::hold(rows, |(row, name, obstruct)| {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("jars").join(name);
        fs::create_dir(path.parent().unwrap()).unwrap();
        fs::write(&path, OLD).unwrap();
        let file = open(&path);
        set(&file, "new=1");
        obstruct(&path);
        for save in [CookieFile::save, CookieFile::overwrite] {
            match save(&file) {
                Err(error @ FileError::Write { .. }) if error.path() == path => {}
                outcome => return Err(format!("{row}: {outcome:?}")),
            }
        }
        let moved = root.path().join("jars.moved").join(name);
        let left = if moved.exists() { moved } else { path };
        if fs::read(&left).unwrap() != OLD.as_bytes() {
            return Err(format!("{row}: the file has changed"));
        }
        let beside =
            fs::read_dir(left.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name());
        let beside: Vec<_> =
            beside.filter(|other| *other != **name && *other != *".cookies.txt.lock").collect();
        if beside.is_empty() { Ok(()) } else { Err(format!("{row}: {beside:?} is left")) }
    });
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone_and_a_link_is_followed() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let directory = tempfile::tempdir().unwrap();
    let (target, link) = (directory.path().join("real.txt"), directory.path().join("link.txt"));
    fs::write(&target, "").unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
    symlink(&target, &link).unwrap();
    let file = open(&link);
    set(&file, "a=1");
    file.save().unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(open(&target).jar().len(), 1);
}

#[test]
fn a_file_that_was_taken_away_is_written_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = open(&path);
    set(&file, "a=1; Max-Age=1000");
    file.save().unwrap();
    std::fs::remove_file(&path).unwrap();
    file.save().unwrap();
    assert_eq!(open(&path).jar().len(), 1);
}

#[test]
fn overwriting_takes_what_others_saved_and_what_was_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = open(&path);
    set(&file, "a=1; Max-Age=1000");
    for old in ["damaged", "example.com\tFALSE\t/\tFALSE\t0\tb\t1\n"] {
        std::fs::write(&path, old).unwrap();
        file.overwrite().unwrap();
        assert_eq!(open(&path).jar().to_map().into_keys().collect::<Vec<_>>(), ["a"]);
        assert!(!file.save_if_changed().unwrap());
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_points_nowhere_is_an_error_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    std::os::unix::fs::symlink(directory.path().join("nowhere"), &path).unwrap();
    let error = CookieFile::open(&path, Format::Netscape).unwrap_err();
    assert!(error.to_string().ends_with("a symbolic link that points nowhere"), "{error}");
}

#[test]
fn an_error_and_what_it_comes_from_say_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let damaged = directory.path().join("damaged");
    fs::write(&damaged, "damaged").unwrap();
    let jar = |path| CookieFile::with_jar(path, Format::Netscape, CookieJar::new());
    let errors = [
        CookieFile::open(&damaged, Format::Netscape).unwrap_err(),
        CookieFile::open(directory.path(), Format::Netscape).unwrap_err(),
        jar(directory.path().join("none/cookies.txt")).save().unwrap_err(),
        jar(directory.path().to_owned()).save().unwrap_err(),
    ];
    for error in &errors {
        let said = error.to_string();
        let chain = std::iter::successors(std::error::Error::source(error), |error| error.source());
        let again: Vec<_> =
            chain.map(ToString::to_string).filter(|words| said.contains(words)).collect();
        assert!(again.is_empty(), "{said}: {again:?}");
    }
}

#[cfg(unix)]
fn fifo(path: &Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Otherwise the save would wait for one of them, and read the other until memory is full.
#[cfg(unix)]
#[test]
fn only_a_regular_file_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let named = |name: &str| directory.path().join(name);
    fifo(&named("fifo"));
    std::os::unix::fs::symlink("/dev/zero", named("link")).unwrap();
    // The harmless first: without the check it is read at once.
    for path in [Path::new("/dev/null"), directory.path(), &named("fifo"), &named("link")] {
        match CookieFile::open(path, Format::Netscape) {
            Err(error @ FileError::Read { .. })
                if error.to_string().ends_with(": not a regular file") => {}
            outcome => panic!("{}: {outcome:?}", path.display()),
        }
    }
}

#[cfg(unix)]
#[test]
fn only_a_regular_file_is_a_lock() {
    let rows: &[(&str, fn(&Path))] = &[
        ("a link", |lock| {
            std::os::unix::fs::symlink(lock.with_file_name("elsewhere"), lock).unwrap();
        }),
        ("a directory", |lock| fs::create_dir(lock).unwrap()),
        ("a pipe", fifo),
    ];
    for (row, make) in rows {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cookies.txt");
        let lock = path.with_file_name(".cookies.txt.lock");
        make(&lock);
        let file = open(&path);
        set(&file, "a=1");
        for save in [CookieFile::save, CookieFile::overwrite] {
            match save(&file) {
                Err(error)
                    if error.to_string().ends_with(": cannot lock it: not a regular file") => {}
                outcome => panic!("{row}: {outcome:?}"),
            }
        }
        let left: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [lock], "{row}");
    }
}

#[test]
fn a_file_that_comes_and_goes_is_there_or_not_and_no_error() {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    let directory = tempfile::tempdir().unwrap();
    let (path, away) = (directory.path().join("cookies.txt"), directory.path().join("away"));
    fs::write(&path, "example.com\tFALSE\t/\tFALSE\t0\ta\t1\n").unwrap();
    let done = AtomicBool::new(false);
    let errors = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                fs::rename(&path, &away).unwrap();
                fs::rename(&away, &path).unwrap();
            }
        });
        let opened = (0..20_000).map(|_| CookieFile::open(&path, Format::Netscape));
        let errors: Vec<_> = opened.filter_map(Result::err).collect();
        done.store(true, Relaxed);
        errors
    });
    assert!(errors.is_empty(), "{} errors, {}", errors.len(), errors[0]);
}
