//! The cookie wing.
