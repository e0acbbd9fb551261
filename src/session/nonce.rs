//! A number that no other process draws.

use std::hash::{BuildHasher, RandomState};

/// What tells a version from another with the same count. Not a secret.
pub(super) fn nonce() -> u64 {
    // Each state has keys of its own, from the system's random numbers and a counter.
    RandomState::new().hash_one(())
}
