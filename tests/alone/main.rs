//! Tests that need their own process: they count allocations with a global allocator, kill
//! processes, or fill the disk.

#[cfg(feature = "retry")]
#[path = "../support/bodies.rs"]
mod bodies;
#[cfg(all(unix, feature = "cookie"))]
mod cookie_crash;
#[cfg(feature = "cookie")]
mod cookie_linear;
#[cfg(feature = "cookie")]
mod cookie_memory;
#[cfg(feature = "cookie")]
#[path = "../support/jars.rs"]
mod jars;
#[cfg(feature = "retry")]
#[path = "../support/pairs.rs"]
mod pairs;
#[cfg(feature = "retry")]
mod retry_memory;
#[cfg(any(feature = "cookie", feature = "retry"))]
#[path = "../support/rows.rs"]
mod rows;
