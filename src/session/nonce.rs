//! A number that no other process draws.

use std::hash::{BuildHasher, RandomState};

/// Distinguishes a version from another with the same count. It is not a secret.
pub(super) fn nonce() -> u64 {
    // Each state has its own keys, from the system's random numbers and a counter.
    RandomState::new().hash_one(())
}
