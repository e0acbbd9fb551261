//! How a policy's word is settled. No clock, no future.

use std::time::Duration;

/// Tokio's timer is this coarse: it rounds up to a millisecond, and waits for it in whole
/// milliseconds.
const TIMER_STEP: Duration = Duration::from_millis(2);

/// Whether an attempt that begins after `delay` would begin past the deadline.
pub(super) fn too_late(elapsed: Duration, delay: Duration, deadline: Option<Duration>) -> bool {
    let step = if delay.is_zero() { Duration::ZERO } else { TIMER_STEP };
    deadline.is_some_and(|deadline| elapsed.saturating_add(delay).saturating_add(step) >= deadline)
}
