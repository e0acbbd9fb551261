//! Counts instructions, which are the same on a shared machine, unlike times. callgrind runs this
//! program again.

use std::{env, fs, process::Command};

/// The instructions in all, and those without malloc.
#[derive(Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) all: u64,
    pub(crate) outside_malloc: u64,
}

/// What callgrind counts while this program runs with these arguments, or `None` without valgrind.
///
/// # Panics
///
/// If the program fails.
pub(crate) fn collected(arguments: &[String]) -> Option<Counts> {
    let directory = tempfile::tempdir().expect("a directory");
    let profile = directory.path().join("profile");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(env::current_exe().ok()?)
        .args(arguments)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}");
    let all =
        text.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())?;
    Some(Counts { all, outside_malloc: all - of_malloc(&fs::read_to_string(profile).ok()?) })
}

/// The instructions of malloc. They depend on the state of the heap, by a thousand per request, and
/// no two programs have the same state.
fn of_malloc(profile: &str) -> u64 {
    let is_malloc = |name: &str| {
        let name = name.trim_start_matches('_');
        [
            "malloc",
            "int_malloc",
            "free",
            "int_free",
            "realloc",
            "int_realloc",
            "calloc",
            "sysmalloc",
            "systrim",
            "unlink_chunk",
        ]
        .iter()
        .any(|of_malloc| {
            name.strip_prefix(of_malloc).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
        })
    };
    let (mut inside, mut called, mut sum) = (false, false, 0);
    for line in profile.lines() {
        if let Some(name) = line.strip_prefix("fn=") {
            inside = is_malloc(name);
        } else if line.starts_with("calls=") {
            called = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            // The line of a source and its cost. After a call it is the cost of the called
            // function.
            let cost = line.split(' ').nth(1).and_then(|cost| cost.parse::<u64>().ok());
            sum += cost.filter(|_| inside && !called).unwrap_or(0);
            called = false;
        }
    }
    sum
}
