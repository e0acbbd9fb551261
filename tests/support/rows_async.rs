//! [`rows::hold`](crate::rows::hold) for checks that await.

use crate::rows::{self, Verdict};

/// Checks one row after another, then panics with all failing rows.
pub(crate) async fn hold<R, V: Verdict>(
    table: impl IntoIterator<Item = R>,
    mut check: impl AsyncFnMut(R) -> V,
) {
    let mut verdicts = Vec::new();
    for row in table {
        verdicts.push(check(row).await.fault().map_or(Ok(()), Err));
    }
    rows::hold(verdicts, |verdict| verdict);
}
