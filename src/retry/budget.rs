//! What this wing knows of retry budgets.

use std::time::Duration;

/// The default budget: retries for this part of the requests within the window, and this many a
/// second besides.
pub(super) const BUDGET_PERCENT: f32 = 20.0;
pub(super) const BUDGET_PER_SECOND: u32 = 10;
pub(super) const BUDGET_WINDOW: Duration = Duration::from_secs(10);
