//! The retry wing.
