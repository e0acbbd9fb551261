//! `examples/minimal`: it ends by itself, and is short.

use std::process::Command;

use crate::program::program;

#[test]
fn the_first_look_logs_in_and_comes_back_in_25_lines() {
    let output = Command::new(program("minimal")).output().expect("the program runs");
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    // The first request was answered by a 503, and retried.
    let printed = String::from_utf8(output.stdout).unwrap();
    let want = "/login: hello, jar: {\"user_id\": \"1\"}\n\
                /account: it is you again, jar: {\"user_id\": \"1\"}\n";
    assert_eq!(printed, want);
    assert!(include_str!("../../examples/minimal.rs").lines().count() <= 25);
}
