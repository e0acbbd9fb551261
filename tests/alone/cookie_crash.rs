//! If the writer of a jar file is killed at any moment, or the disk is full, the file is whole, as
//! an earlier save left it.
//!
//! `COOKIE_KILLS` sets the number of kills for each format. Default: 100.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, ErrorKind},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use tower_outbound::cookie::{CookieFile, FileError, Format};

const CHILD: &str = "COOKIE_CRASH_FILE";
const HOSTS: usize = 4;

/// How many cookies the nth state has. From one state to the next some are added and some removed.
fn cookies_of(state: u64) -> usize {
    170 + usize::try_from(state * 37 % 60).unwrap()
}

fn value_of(state: u64) -> String {
    // Its length differs each time, so that a mixture of two states is noticed.
    format!("{state}-{}", "x".repeat(usize::try_from(state * 29 % 83).unwrap()))
}

/// Brings the jar into its nth state.
fn change(file: &CookieFile, state: u64) {
    let value = value_of(state);
    for nth in 0..cookies_of(state).max(230) {
        let uri = format!("https://site{}.example/", nth % HOSTS).parse().unwrap();
        let life = if nth >= cookies_of(state) { 0 } else { 86_400 };
        file.jar().set(&uri, format!("c{nth}={value}; Max-Age={life}; Secure")).unwrap();
    }
}

/// The format by its name, which the child gets too.
fn open(path: &Path) -> Result<CookieFile, FileError> {
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        #[cfg(feature = "json")]
        Some("json") => Format::Json,
        #[cfg(feature = "cookie_store")]
        Some("store") => Format::CookieStore,
        _ => Format::Netscape,
    };
    CookieFile::open(path, format)
}

/// Which state the file is in, or what is wrong with it.
fn state_of(path: &Path) -> Result<u64, String> {
    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode() & 0o7777;
    if mode != 0o600 {
        return Err(format!("its mode is {mode:o}"));
    }
    let file = open(path).map_err(|error| error.to_string())?;
    let cookies: Vec<_> = file.jar().iter().collect();
    let first = cookies.first().ok_or("it is empty")?.value().into_owned();
    let state =
        first.split('-').next().unwrap().parse().map_err(|_| format!("a value of {first:?}"))?;
    let of_another = cookies.iter().filter(|cookie| cookie.value() != value_of(state)).count();
    if of_another > 0 || cookies.len() != cookies_of(state) {
        return Err(format!(
            "{} cookies, {of_another} of which are not of state {state}",
            cookies.len()
        ));
    }
    Ok(state)
}

/// The other process. It saves one state after another, and prints which it has saved.
#[test]
fn the_child_saves_until_it_is_killed() {
    let Some(path) = env::var_os(CHILD) else { return };
    let started = Instant::now();
    let path = Path::new(&path);
    let mut state = state_of(path).unwrap();
    let file = open(path).unwrap();
    println!("\nsaved {state}");
    // Otherwise it would run for ever if its parent is killed.
    while started.elapsed() < Duration::from_secs(60) {
        state += 1;
        change(&file, state);
        file.save().unwrap();
        println!("saved {state}");
    }
}

/// Kills the child when it is dropped, even if the test failed.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills the child `delay` after its start, and returns the last state that it printed.
fn last_saved(path: &Path, delay: Duration) -> u64 {
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "cookie_crash::the_child_saves_until_it_is_killed", "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut child = Killed(child);
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let mut states =
        lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("saved ")?.parse().ok());
    let first = states.next().expect("the child reads what is there");
    // This does not wait for an event: it chooses the moment of the kill.
    thread::sleep(delay);
    child.0.kill().unwrap();
    states.last().unwrap_or(first)
}

#[test]
fn a_killed_save_leaves_the_whole_old_cookies_txt_or_the_whole_new_one() {
    kill_savers_of("cookies.txt");
}

#[cfg(feature = "json")]
#[test]
fn a_killed_save_leaves_the_whole_old_json_or_the_whole_new_one() {
    kill_savers_of("cookies.json");
}

fn kill_savers_of(name: &str) {
    let kills = env::var("COOKIE_KILLS")
        .map_or(100, |count| count.parse().expect("COOKIE_KILLS is a number"));
    let directory = tempfile::tempdir().unwrap();
    let path = &directory.path().join(name);
    let file = open(path).unwrap();
    change(&file, 0);
    file.save().unwrap();

    let litter = || {
        let entries = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap());
        let prefix = format!(".{name}.save-");
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .collect::<Vec<_>>()
    };
    // Another file is saved in the same directory. Its temporary file must not be touched.
    let other = directory.path().join(format!(".{name}.save-.save-abcdef"));
    fs::write(&other, "of another file").unwrap();
    let mut in_midst = 0;
    let (mut wrong, mut random, mut kill) = (Vec::new(), 1_u64, 0);
    // Continues until at least one kill happened during a save. Otherwise nothing would be proved.
    while wrong.len() < 10 && (kill < kills || (kill < kills + 1_000 && in_midst == 0)) {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // A state takes some milliseconds to make and save.
        let said = last_saved(path, Duration::from_micros((random >> 33) % 50_000));
        match state_of(path) {
            // It may have been killed between the save and the message.
            Ok(state) if state == said || state == said + 1 => {}
            outcome => {
                wrong.push(format!("kill {kill}, after state {said} was saved: {outcome:?}"));
            }
        }
        // The temporary file of a killed save contains cookies. The next save removes it, so there
        // is at most one, and the one of the other file.
        let left: Vec<_> = litter().into_iter().filter(|entry| entry.path() != other).collect();
        for entry in &left {
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            if mode != 0o600 || left.len() > 1 {
                wrong.push(format!("kill {kill}: {left:?}, mode {mode:o}"));
            }
        }
        in_midst += left.len();
        kill += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    println!(
        "{name}: {kill} kills up to state {}, {in_midst} in the midst of a save",
        state_of(path).unwrap(),
    );
    assert!(in_midst > 0, "no save was under way at any of {kill} kills");
    let last = open(path).unwrap();
    change(&last, 1_000_000);
    last.save().unwrap();
    assert_eq!(state_of(path), Ok(1_000_000));
    let left: Vec<_> = litter().iter().map(fs::DirEntry::path).collect();
    assert_eq!(left, [other]);
}

const FULL: &str = "COOKIE_FULL_DISK_FILE";

/// The other process. Its shell limits each file to 512 or 1,024 bytes.
#[test]
fn the_child_saves_where_there_is_no_room() {
    let Some(path) = env::var_os(FULL) else { return };
    let path = Path::new(&path);
    let file = open(path).unwrap();
    change(&file, 1);
    for save in [CookieFile::save, CookieFile::overwrite] {
        match save(&file) {
            Err(FileError::Write { path: named, source, .. })
                if named == path && source.kind() == ErrorKind::FileTooLarge => {}
            outcome => panic!("{outcome:?}"),
        }
    }
    println!("\nno room");
}

#[test]
fn a_full_disk_leaves_the_old_file_byte_for_byte() {
    for name in ["cookies.txt", "cookies.json", "cookies.store"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        let file = open(&path).unwrap();
        change(&file, 0);
        file.save().unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = (fs::read(&path).unwrap(), names());

        // Without the trap the signal for a file that is too large would kill the child.
        let child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""])
            .arg(env::current_exe().unwrap())
            .args([
                "--exact",
                "cookie_crash::the_child_saves_where_there_is_no_room",
                "--nocapture",
            ])
            .env(FULL, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("\nno room\n"), "{name}: {child:?}");
        assert!(
            (fs::read(&path).unwrap(), names()) == before,
            "{name}: {:?}, not {:?}",
            names(),
            before.1
        );

        // When there is room again, the save succeeds.
        change(&file, 2);
        file.save().unwrap();
        assert_eq!(state_of(&path), Ok(2), "{name}");
    }
}
