//! The example programs, as users run them, and the Markdown pages. `cargo test` builds the
//! programs. `cargo test --test examples` does not: run `cargo build --examples` first.

#[cfg(all(feature = "cookie", feature = "retry", feature = "routing"))]
mod adapters;
#[cfg(all(feature = "cookie", feature = "retry"))]
mod fetch;
#[cfg(all(unix, feature = "cookie", feature = "retry", feature = "routing", feature = "serde"))]
#[path = "../support/loopback.rs"]
mod loopback;
#[cfg(all(feature = "cookie", feature = "retry", feature = "routing"))]
mod minimal;
mod pages;
#[cfg(all(feature = "cookie", feature = "retry"))]
#[path = "../support/pairs.rs"]
mod pairs;
#[cfg(all(feature = "cookie", feature = "retry"))]
mod program;
#[cfg(all(unix, feature = "cookie", feature = "retry", feature = "routing", feature = "serde"))]
mod proxy;
#[path = "../support/rows.rs"]
mod rows;
#[cfg(all(unix, feature = "cookie", feature = "retry", feature = "routing", feature = "serde"))]
#[path = "../support/rows_async.rs"]
mod rows_async;
#[cfg(all(feature = "cookie", feature = "retry", feature = "routing"))]
mod session;
