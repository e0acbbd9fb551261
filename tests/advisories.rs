//! What has gone wrong in other clients, as facts that hold here. Each test names the advisory it comes from.

#[cfg(feature = "cookie")]
#[path = "advisories/cookie.rs"]
mod cookie;
#[cfg(feature = "routing")]
#[path = "advisories/routing.rs"]
mod routing;
