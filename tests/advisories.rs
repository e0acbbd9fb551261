//! What has gone wrong in other clients, as facts that hold here. Each test names the advisory it
//! comes from.

#[cfg(feature = "cookie")]
#[path = "advisories/cookie.rs"]
mod cookie;
#[cfg(feature = "retry")]
#[path = "advisories/retry.rs"]
mod retry;
#[cfg(feature = "routing")]
#[path = "advisories/routing.rs"]
mod routing;
