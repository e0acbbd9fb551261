//! The built programs.

use std::{
    env,
    path::{Path, PathBuf},
};

/// Where `cargo test` has built this example.
pub(crate) fn program(name: &str) -> PathBuf {
    let test = env::current_exe().expect("this test's own path");
    let directory = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
    let program = directory.join("examples").join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        program.exists(),
        "{} is not there: `cargo test --all-features` builds it, `cargo test --test examples` does \
         not; run `cargo build --all-features --examples`",
        program.display()
    );
    program
}
