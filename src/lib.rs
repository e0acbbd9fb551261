//! Tower layers for HTTP *clients*: cookies, retries and mounts.

#[cfg(feature = "cookie")]
pub mod cookie;
#[cfg(feature = "retry")]
pub mod retry;
#[cfg(feature = "routing")]
pub mod routing;

#[cfg(feature = "cookie")]
#[doc(inline)]
pub use cookie::CookieLayer;
#[cfg(feature = "retry")]
#[doc(inline)]
pub use retry::RetryLayer;
#[cfg(feature = "routing")]
#[doc(inline)]
pub use routing::RoutingLayer;
