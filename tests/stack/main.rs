//! The wings together.

#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
mod compatibility;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
mod credentials;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
#[path = "../support/listen.rs"]
mod listen;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
mod orders;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
#[path = "../support/pairs.rs"]
mod pairs;
#[cfg(all(
    feature = "cookie_store",
    feature = "follow-redirect",
    feature = "retry",
    feature = "routing"
))]
mod public_names;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
mod redirects;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
#[path = "../support/rows.rs"]
mod rows;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
#[path = "../support/rows_async.rs"]
mod rows_async;
#[cfg(all(feature = "cookie", feature = "retry", feature = "routing", feature = "http2"))]
mod simulation;
#[cfg(all(feature = "follow-redirect", feature = "retry", feature = "routing"))]
mod whole;
