//! The routing wing through its public API.
#![cfg(feature = "routing")]

mod advisories;
#[cfg(feature = "serde")]
mod configuration;
mod corpus;
mod errors;
mod handle;
#[cfg(feature = "tracing")]
#[path = "../support/listen.rs"]
mod listen;
#[path = "../support/loopback.rs"]
mod loopback;
mod mounts;
mod numbers;
#[path = "../support/pairs.rs"]
mod pairs;
mod replace;
#[path = "../support/rows.rs"]
mod rows;
#[path = "../support/rows_async.rs"]
mod rows_async;
#[path = "../support/strict.rs"]
mod strict;
