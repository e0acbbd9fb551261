use std::fmt;

use http::Uri;
use tower_layer::Layer;

use super::{SessionPool, service::SessionService};

/// Gives each request the jar of its session, and stores what the response changes.
///
/// Place it directly outside [`CookieLayer::per_request`](crate::CookieLayer::per_request), and
/// inside redirects and retries. Each hop and each attempt then has the cookies of its own site,
/// including those that the previous response set.
///
/// The request's [`SessionKey`](super::SessionKey) names the session. A request without a key, or
/// without a host, passes unchanged.
///
/// The service's error is a `BoxError`: a [`SessionError`](super::SessionError) if the request was
/// not sent, otherwise the client's own error.
///
/// Bodies are not touched. A response waits until its changes are stored. Loading and storing
/// together take no longer than the pool's [deadline](super::SessionPoolBuilder::deadline). If a
/// request is dropped while it waits, its changes are stored later.
///
/// # Inside retries
///
/// A retry layer outside this one retries a GET after a `SessionError`, as after any unknown error.
/// Each attempt asks the failing store again, and may wait for the pool's deadline. The retries
/// withdraw from the budget. The caller gets a [`RetryError`](crate::retry::RetryError) whose
/// `source()` is the `SessionError`. The same happens with
/// [`SessionError::Unreadable`](super::SessionError::Unreadable), for example because of a wrong
/// seal. A POST is not retried, and its caller gets the `SessionError` itself.
///
/// To get the `SessionError` at once for all requests, let the policy's
/// [`classify`](crate::retry::RetryPolicy::classify) return `Failure::Never` for it:
///
/// ```
/// # #[cfg(feature = "retry")]
/// # fn example() {
/// use tower_outbound::{
///     retry::{Failure, Policy, RetryPolicy},
///     session::SessionError,
/// };
///
/// let usual = RetryPolicy::new(); // your settings
/// let policy = usual.clone().classify(move |outcome| match outcome {
///     Err(error) if error.is::<SessionError>() => Some(Failure::Never),
///     outcome => Policy::classify(&usual, outcome),
/// });
/// # let _ = policy;
/// # }
/// ```
///
/// # Example
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_outbound::{
///     CookieLayer,
///     session::{MemoryStore, SessionKey, SessionLayer, SessionPool},
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
/// tokio::spawn(driver);
/// let client = ServiceBuilder::new()
///     .layer(SessionLayer::new(pool.clone()))
///     .layer(CookieLayer::per_request())
///     .service(service_fn(|_request: Request<()>| async {
///         Response::builder().header("set-cookie", "id=42; Secure").body(())
///     }));
///
/// let ann = SessionKey::new("ann".as_bytes());
/// let request = Request::get("https://example.com/").extension(ann.clone()).body(())?;
/// client.oneshot(request).await?;
/// let jar = pool.jar(&ann, &"https://example.com/".parse()?).await?;
/// assert_eq!(jar.to_map()["id"], "42");
/// # Ok(())
/// # }
/// ```
pub struct SessionLayer<S> {
    pool: SessionPool<S>,
    default_origin: Option<Uri>,
}

impl<S> SessionLayer<S> {
    /// Uses the sessions of this pool.
    #[must_use]
    pub const fn new(pool: SessionPool<S>) -> Self {
        Self { pool, default_origin: None }
    }

    /// Names the origin whose session a request with a relative URI gets: scheme, host and port.
    /// Set [`CookieLayer::default_origin`](crate::CookieLayer::default_origin) to the same.
    ///
    /// Default: none. A request with a relative URI then has no session.
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, SessionLayer, SessionPool};
    ///
    /// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
    /// let layer = SessionLayer::new(pool).default_origin("https://example.com".parse()?);
    /// # let _ = (layer, driver);
    /// # Ok::<(), http::uri::InvalidUri>(())
    /// ```
    #[must_use]
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(origin);
        self
    }
}

// The default origin is left out: a URI may contain a password.
impl<S> fmt::Debug for SessionLayer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionLayer").field("pool", &self.pool).finish_non_exhaustive()
    }
}

impl<S> Clone for SessionLayer<S> {
    fn clone(&self) -> Self {
        Self { pool: self.pool.clone(), default_origin: self.default_origin.clone() }
    }
}

impl<C, S> Layer<C> for SessionLayer<S> {
    type Service = SessionService<C, S>;

    fn layer(&self, inner: C) -> Self::Service {
        SessionService::new(inner, self.pool.clone(), self.default_origin.clone())
    }
}
