//! If another process keeps the lock, for example because it was stopped during a save, a save
//! returns an error within its bound, and blocks no runtime.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tower_outbound::cookie::{CookieFile, FileError, Format};

fn open(path: &Path) -> Result<CookieFile, FileError> {
    CookieFile::open(path, Format::Netscape)
}

/// Keeps the lock like a process that is stopped while it saves.
fn hold_lock(path: &Path) -> fs::File {
    let name = format!(".{}.lock", path.file_name().unwrap().to_str().unwrap());
    let lock = fs::File::create(path.with_file_name(name)).unwrap();
    lock.lock().unwrap();
    lock
}

#[test]
fn a_save_gives_up_in_time_if_another_keeps_the_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let bound = Duration::from_millis(200);
    let file = CookieFile::builder(&path, Format::Netscape).lock_timeout(bound).open().unwrap();
    file.jar().set(&"https://h.example/".parse().unwrap(), "a=1").unwrap();
    let lock = hold_lock(&path);
    let took = |save: &(dyn Fn() -> Result<(), FileError> + Sync)| {
        let start = Instant::now();
        let error = save().unwrap_err();
        assert!(matches!(&error, FileError::Locked { path: of, .. } if *of == path), "{error}");
        start.elapsed()
    };
    // Far below the default of 10 s, and with room for a busy machine.
    let soon = Duration::from_secs(5);
    assert!(took(&|| file.try_save()) < soon);
    let saves: [&(dyn Fn() -> Result<(), FileError> + Sync); 3] =
        [&|| file.save(), &|| file.save_if_changed().map(drop), &|| file.overwrite()];
    for save in saves {
        let took = took(save);
        assert!(took >= bound && took < soon, "{took:?}");
    }
    // A thread that waits for another of our own has the same bound, not one for each before it.
    thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| took(&|| file.save()))).collect();
        let all: Vec<_> = all.into_iter().map(|thread| thread.join().unwrap()).collect();
        // One after the other they would need eight bounds.
        assert!(all.iter().max() < Some(&(bound * 6)), "{all:?}");
    });
    let said = format!(
        "cannot save cookies to {}: another process or thread is saving it",
        path.display()
    );
    assert_eq!(file.try_save().unwrap_err().to_string(), said);
    assert!(!path.exists());
    drop(lock);
    assert!(file.save_if_changed().unwrap());
    assert_eq!(open(&path).unwrap().jar().len(), 1);
}

#[test]
fn a_save_goes_on_once_another_lets_the_lock_go() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file =
        CookieFile::builder(&path, Format::Netscape).lock_timeout(Duration::MAX).open().unwrap();
    let lock = hold_lock(&path);
    let (begins, begun) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let saved = scope.spawn(|| {
            begins.send(()).unwrap();
            file.save()
        });
        // It cannot end before the lock is released, however long that takes.
        begun.recv().unwrap();
        assert!(!saved.is_finished());
        drop(lock);
        saved.join().unwrap().unwrap();
    });
}

/// The documentation says to save where a thread may block.
#[tokio::test(flavor = "current_thread")]
async fn no_timer_waits_for_a_save_that_waits_for_a_lock() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let file = Arc::new(open(&path).unwrap());
    let lock = hold_lock(&path);
    let save = tokio::task::spawn_blocking(move || file.save());
    let mut timer = tokio::time::interval(Duration::from_millis(5));
    for _ in 0..20 {
        timer.tick().await;
    }
    assert!(!save.is_finished());
    drop(lock);
    save.await.unwrap().unwrap();
}

const HOLDER: &str = "COOKIE_LOCK_HOLDER";

/// Not a fact: the process that is stopped in the test below.
#[test]
fn child_that_keeps_the_lock() {
    let Some(path) = std::env::var_os(HOLDER) else { return };
    let _lock = hold_lock(Path::new(&path));
    println!("\nlocked");
    // Until its parent ends it, or is gone.
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Another process, which the system stops. It neither saves nor releases the lock.
#[cfg(unix)]
#[test]
fn a_save_gives_up_in_time_if_a_stopped_process_keeps_the_lock() {
    use std::io::{BufRead as _, BufReader};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child_that_keeps_the_lock", "--nocapture"])
        .env(HOLDER, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.any(|line| line == "locked"));
    let signal = |name: &str| {
        let kill = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    };
    signal("-STOP");
    let bound = Duration::from_millis(100);
    let file = CookieFile::builder(&path, Format::Netscape).lock_timeout(bound).open().unwrap();
    file.jar().set(&"https://h.example/".parse().unwrap(), "a=1").unwrap();
    let start = Instant::now();
    let saved = [file.save(), file.try_save()];
    let took = start.elapsed();
    signal("-CONT");
    // Its end of the pipe goes, and the child with it.
    drop(child.stdin.take());
    said.for_each(drop);
    assert!(child.wait().unwrap().success());
    let is_locked = saved.iter().all(|saved| matches!(saved, Err(FileError::Locked { .. })));
    assert!(is_locked && took >= bound && took < Duration::from_secs(5), "{saved:?} in {took:?}");
    file.save().unwrap();
    assert_eq!(open(&path).unwrap().jar().len(), 1);
}
