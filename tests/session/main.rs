//! Sessions through their public API, over stores of every kind.
#![cfg(feature = "session")]

mod contract;
#[cfg(all(feature = "redis", unix))]
mod redis;
#[path = "../support/rows.rs"]
mod rows;
#[cfg(all(feature = "redis", unix))]
mod server;
