//! Sessions that several processes share: the pool, its layer and its stores.
#![cfg(all(feature = "session", feature = "seal"))]

mod cache;
mod failures;
mod leases;
mod model;
mod replicas;
mod requests;
#[path = "../support/rows.rs"]
mod rows;
#[path = "../support/rows_async.rs"]
mod rows_async;
mod secrets;
mod support;
mod writes;
