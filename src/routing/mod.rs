//! The routing wing.
