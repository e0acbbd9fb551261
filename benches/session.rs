//! What sessions cost.
//!
//! `cargo bench --bench session` prints the tables; without `--bench` each part runs once, as a
//! check.
#![allow(clippy::print_stdout)]

#[path = "session/changes.rs"]
mod changes;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["changes", directory, sync, changes] => {
            changes::run(directory, sync, changes.parse().expect("a number"));
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => changes::report(1_000),
        _ => changes::report(10),
    }
}
