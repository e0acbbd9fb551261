//! The budget that the clones of a policy share, and the default one.

use std::{sync::Arc, time::Duration};

use tower::retry::budget::{Budget, TpsBudget};

/// The default budget in percent of the requests within the window.
///
/// A fifth, as Finagle and tower have it: if every request fails, the servers see 1.2 times the load
/// and not 4 times.
pub(super) const PERCENT: f32 = 20.0;

/// Retries a second that the default budget allows besides, so that a client with few requests has
/// retries at all.
pub(super) const PER_SECOND: u32 = 10;

/// How long the default budget remembers a request.
pub(super) const WINDOW: Duration = Duration::from_secs(10);

/// A handle to a budget. Two handles are equal if they draw on the same budget.
#[derive(Clone)]
pub(super) struct SharedBudget(Arc<dyn Budget + Send + Sync>);

impl SharedBudget {
    pub(super) fn new(budget: impl Budget + Send + Sync + 'static) -> Self {
        Self(Arc::new(budget))
    }

    /// One request was made.
    pub(super) fn deposit(&self) {
        self.0.deposit();
    }

    /// Takes one retry, if there is one left.
    pub(super) fn withdraw(&self) -> bool {
        self.0.withdraw()
    }
}

/// A new budget each time: two policies that were made apart share nothing.
impl Default for SharedBudget {
    fn default() -> Self {
        Self::new(TpsBudget::new(WINDOW, PER_SECOND, PERCENT / 100.0))
    }
}

impl PartialEq for SharedBudget {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
