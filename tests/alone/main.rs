//! What needs a process of its own: tests that count allocations, by a global allocator, and tests
//! that are killed or find the disk full.

#[cfg(all(unix, feature = "cookie"))]
mod cookie_crash;
#[cfg(feature = "cookie")]
mod cookie_linear;
#[cfg(feature = "cookie")]
mod cookie_memory;
#[cfg(feature = "retry")]
mod retry_memory;
