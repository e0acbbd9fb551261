//! The compiler's message for a request body that cannot be sent again. Runs `rustc` with the
//! library that this test is linked with.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};

use crate::rows;

struct Compiler {
    directory: tempfile::TempDir,
    libraries: PathBuf,
}

impl Compiler {
    fn new() -> Self {
        let this = env::current_exe().unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            libraries: this.parent().unwrap().to_owned(),
        }
    }

    /// Compiles a source. The error is the compiler's message.
    fn run(&self, library: &Path, source: &str) -> Result<(), String> {
        let file = self.directory.path().join("main.rs");
        fs::write(&file, source).unwrap();
        let beside = || {
            Path::new(env!("CARGO"))
                .with_file_name(format!("rustc{}", env::consts::EXE_SUFFIX))
                .into()
        };
        let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(beside));
        rustc
            .args(["--edition=2024", "--emit=metadata", "--color=never", "--out-dir"])
            .arg(self.directory.path());
        rustc.arg("-L").arg(format!("dependency={}", self.libraries.display()));
        rustc.arg("--extern").arg(format!("tower_outbound={}", library.display())).arg(&file);
        let output = rustc.output().expect("a compiler");
        let said = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    /// The newest library that can be used. Libraries of other features or compilers may be there
    /// too.
    fn library(&self) -> PathBuf {
        let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(&self.libraries)
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| {
                let name = entry.file_name().into_string().unwrap_or_default();
                name.starts_with("libtower_outbound-") && name.ends_with(".rlib")
            })
            .map(|entry| (entry.metadata().unwrap().modified().unwrap(), entry.path()))
            .collect();
        found.sort();
        let mut refused = Vec::new();
        for (_, library) in found.into_iter().rev() {
            match self.run(&library, "use tower_outbound::retry as _; fn main() {}") {
                Ok(()) => return library,
                Err(said) => refused.push(format!("{}: {said}", library.display())),
            }
        }
        panic!(
            "no library in {} that can be used: {}",
            self.libraries.display(),
            refused.join("\n")
        );
    }
}

/// The end of both of the library's messages.
const WAYS_OUT: [&str; 2] = [
    "for a streamed body put `tower_outbound::retry::ReplayBodyLayer` outside this layer; for bytes use \
     `http_body_util::Full` or `Empty`",
    "for a body of your own implement `tower_outbound::retry::ReplayableBody`; for a foreign one say how to copy it: \
     `RetryLayer::new(policy).replay_with(|body: &Body| body.try_clone())`",
];

/// Each row: code that is refused, the first line of the message, and code that follows its advice.
#[test]
fn a_body_that_cannot_be_sent_again_is_refused_with_words_that_say_what_to_do() {
    let source = |bound: &str, given: &str| {
        format!(
            "use tower_outbound::retry::{{*, replay::*}}; fn f<{bound}>() {{}} fn main() {{ f::<{given}>() }}"
        )
    };
    let (body, replay) = ("B: ReplayableBody", "B, R: Replay<B>");
    let cannot =
        "error[E0277]: `Vec<u8>` cannot be sent a second time, so `RetryLayer` cannot retry it";
    let does_not_know =
        "error[E0277]: `RetryLayer` does not know how to send a `Vec<u8>` a second time";
    let rows = [
        (body, "Vec<u8>", cannot, "ReplayBody<Vec<u8>>"),
        (replay, "Vec<u8>, ReplayByTrait", cannot, "ReplayBody<Vec<u8>>, ReplayByTrait"),
        (
            replay,
            "Vec<u8>, ()",
            does_not_know,
            "Vec<u8>, ReplayWith<fn(&Vec<u8>) -> Option<Vec<u8>>>",
        ),
    ];
    let compiler = Compiler::new();
    let library = compiler.library();
    rows::hold(rows, |(bound, given, first_line, twin)| {
        let Err(said) = compiler.run(&library, &source(bound, given)) else {
            return Err(format!("{given} compiles for {bound}"));
        };
        for text in [first_line, WAYS_OUT[0], WAYS_OUT[1]] {
            if !said.contains(text) {
                return Err(format!("no word of {text:?} in {said}"));
            }
        }
        compiler
            .run(&library, &source(bound, twin))
            .map_err(|said| format!("{twin} for {bound}: {said}"))
    });
}
