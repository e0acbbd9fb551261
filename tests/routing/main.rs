//! The routing wing through its public API.
#![cfg(feature = "routing")]

mod advisories;
#[cfg(feature = "serde")]
mod configuration;
mod corpus;
mod handle;
mod mounts;
