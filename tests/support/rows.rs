//! Tables of facts: every row is checked, and all failing rows are reported together.

use std::fmt::{Debug, Display};

/// Checks each row of a table, then panics with all failing rows.
///
/// A check returns the row's name, the value and the expected value. If the row is more than one
/// comparison, it returns a `Result`.
#[track_caller]
pub(crate) fn hold<R, V: Verdict>(rows: impl IntoIterator<Item = R>, check: impl FnMut(R) -> V) {
    let faults: Vec<_> = rows.into_iter().map(check).map(Verdict::fault).collect();
    // A table without rows would prove nothing, but pass.
    assert!(!faults.is_empty(), "the table has no rows");
    let checked = faults.len();
    let wrong: Vec<_> = faults.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{} of {checked} rows:\n{}", wrong.len(), wrong.join("\n"));
}

/// The result of a check.
pub(crate) trait Verdict {
    /// Why the row fails, or `None` if it holds.
    fn fault(self) -> Option<String>;
}

impl<N: Display, G: PartialEq<W> + Debug, W: Debug> Verdict for (N, G, W) {
    fn fault(self) -> Option<String> {
        let (name, got, want) = self;
        (got != want).then(|| format!("{name}: got {got:?}, expected {want:?}"))
    }
}

impl Verdict for Result<(), String> {
    fn fault(self) -> Option<String> {
        self.err()
    }
}
