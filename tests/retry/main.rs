//! The retry wing through its public API.
#![cfg(feature = "retry")]

mod advisories;
#[path = "../support/bodies.rs"]
mod bodies;
mod classes;
mod compile_errors;
#[cfg(feature = "serde")]
mod configuration;
mod connections;
mod crowds;
mod defaults;
mod drain;
#[cfg(feature = "tracing")]
mod events;
mod fakes;
#[path = "../support/gated.rs"]
mod gated;
mod hooks;
#[cfg(feature = "tracing")]
#[path = "../support/listen.rs"]
mod listen;
#[path = "../support/loopback.rs"]
mod loopback;
#[cfg(feature = "serde")]
mod mesh;
#[cfg(all(feature = "http2", feature = "cookie", feature = "routing"))]
mod never_sent;
#[path = "../support/pairs.rs"]
mod pairs;
mod policy;
mod replay;
#[path = "../support/rows.rs"]
mod rows;
#[path = "../support/rows_async.rs"]
mod rows_async;
mod service;
mod stop_reasons;
#[path = "../support/strict.rs"]
mod strict;
mod time_limits;
mod tower_runner;
#[cfg(feature = "http2")]
mod transport;
#[cfg(feature = "http2")]
mod transports;
#[cfg(feature = "http2")]
mod uploads;
mod waits;
