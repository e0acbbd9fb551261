//! The cookie wing through its public API.
#![cfg(feature = "cookie")]

mod advisories;
#[cfg(feature = "json")]
mod browser;
mod changes;
#[cfg(feature = "serde")]
mod configuration;
mod cookies_txt;
mod dates;
#[cfg(feature = "tracing")]
mod events;
mod file;
mod files;
#[path = "../support/gated.rs"]
mod gated;
mod hostile_bytes;
mod interchange;
#[cfg(feature = "cookie_store")]
mod interop;
#[path = "../support/jars.rs"]
mod jars;
#[cfg(feature = "json")]
mod json;
mod layer;
mod limits;
#[cfg(feature = "tracing")]
#[path = "../support/listen.rs"]
mod listen;
#[cfg(feature = "json")]
mod oracle;
#[path = "../support/pairs.rs"]
mod pairs;
mod panics;
mod policies;
mod pool;
#[cfg(feature = "follow-redirect")]
mod restrictions;
#[path = "../support/rows.rs"]
mod rows;
#[path = "../support/rows_async.rs"]
mod rows_async;
mod rules;
mod shapes;
mod shared_file;
mod shared_floods;
mod shared_secure;
mod suites;
mod tenants;
