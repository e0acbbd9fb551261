//! The retry wing through its public API.
#![cfg(feature = "retry")]

mod advisories;
mod compile_errors;
#[cfg(feature = "serde")]
mod configuration;
mod connections;
mod crowds;
mod defaults;
mod edges;
#[cfg(feature = "tracing")]
mod events;
#[path = "../support/pairs.rs"]
mod pairs;
mod policy;
mod replay;
#[path = "../support/rows.rs"]
mod rows;
#[path = "../support/rows_async.rs"]
mod rows_async;
mod service;
mod tower_runner;
#[cfg(feature = "http2")]
mod transport;
#[cfg(feature = "http2")]
mod transports;
#[cfg(feature = "http2")]
mod uploads;
