//! Sessions that several processes share: the pool, its layer and its stores.
#![cfg(feature = "session")]

#[cfg(feature = "seal")]
mod cache;
mod contract;
#[cfg(feature = "seal")]
mod failures;
mod files;
#[cfg(unix)]
mod fleet;
#[cfg(feature = "seal")]
mod leases;
#[cfg(feature = "seal")]
mod model;
#[cfg(all(feature = "redis", unix))]
mod redis;
#[cfg(feature = "seal")]
mod replicas;
#[cfg(feature = "seal")]
mod requests;
#[path = "../support/rows.rs"]
mod rows;
#[cfg(feature = "seal")]
#[path = "../support/rows_async.rs"]
mod rows_async;
#[cfg(feature = "seal")]
mod secrets;
#[cfg(all(feature = "redis", unix))]
mod server;
#[cfg(feature = "seal")]
mod support;
#[cfg(feature = "seal")]
mod writes;
