use std::{fmt, sync::Arc};

use http::Uri;
use tower_layer::Layer;

use super::{
    control::CallerCookies,
    jar::CookieJar,
    jar::storage::{CookieStorage, PerRequest},
    service::CookieService,
};

/// Sends a jar's cookies with each request, and stores those of each response.
///
/// The URI decides whose cookies they are, never a `Host` header. A request without an absolute URI
/// has no cookies, unless [`default_origin`](Self::default_origin) says where it goes.
///
/// Stands inside whatever sends a request again: redirects and retries each then send what the
/// answer before set. Outside of redirects it loses what the hops in between set; whose the last
/// answer's cookies are it knows from tower-http's `FollowRedirect` 0.7 (feature `follow-redirect`,
/// on by default). Other redirects must stand outside: a client that follows redirects by itself
/// has its hops' cookies filed under the first host.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_outbound::cookie::{CookieJar, CookieLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jar = CookieJar::new();
/// let client = CookieLayer::new(jar.clone()).layer(service_fn(|_request: Request<()>| async {
///     Response::builder().header("set-cookie", "id=42; Path=/").body(())
/// }));
/// client.oneshot(Request::get("https://example.com/login").body(())?).await?;
/// assert_eq!(jar.header(&"https://example.com/".parse()?).unwrap(), "id=42");
/// # Ok(())
/// # }
/// ```
pub struct CookieLayer<J = CookieJar> {
    storage: Arc<J>,
    default_origin: Option<Uri>,
    caller_cookies: CallerCookies,
}

impl CookieLayer<CookieJar> {
    /// Works with `jar`; every service it makes shares it.
    #[must_use]
    pub fn new(jar: CookieJar) -> Self {
        Self::with_storage(jar)
    }
}

impl CookieLayer<PerRequest> {
    /// Works with the jar that each request brings as its extension; a request without one sends
    /// and stores no cookies.
    ///
    /// For one client that serves many: give each tenant's requests the tenant's jar, from a
    /// [`JarPool`](super::JarPool) say. Layers that drop extensions (redirects to another origin,
    /// unless [told to keep it](super#for-its-redirects-too)) drop the jar as well: such a
    /// request has no cookies rather than another's.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_outbound::cookie::{CookieJar, CookieLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = CookieLayer::per_request().layer(service_fn(|_request: Request<()>| async {
    ///     Response::builder().header("set-cookie", "id=42").body(())
    /// }));
    /// let (ann, bob) = (CookieJar::new(), CookieJar::new());
    /// let request = Request::get("https://example.com/").extension(ann.clone()).body(())?;
    /// client.oneshot(request).await?;
    /// assert_eq!((ann.len(), bob.len()), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn per_request() -> Self {
        Self::with_storage(PerRequest::new())
    }
}

impl<J: CookieStorage> CookieLayer<J> {
    /// Uses cookies that are kept elsewhere: any [`CookieStorage`].
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tower_outbound::cookie::{CookieJar, CookieLayer};
    ///
    /// let layer = CookieLayer::with_storage(Arc::new(CookieJar::new()));
    /// # let _ = layer;
    /// ```
    ///
    /// What is no storage is refused here, by its name:
    ///
    /// ```compile_fail,E0277
    /// use std::sync::Arc;
    /// use tower_outbound::cookie::CookieLayer;
    ///
    /// let layer = CookieLayer::with_storage(Arc::new(vec!["id=42"]));
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn with_storage(storage: J) -> Self {
        Self {
            storage: Arc::new(storage),
            default_origin: None,
            caller_cookies: CallerCookies::default(),
        }
    }
}

impl<J> CookieLayer<J> {
    /// Scheme and authority of requests whose URI is relative, for clients that add them further
    /// in. The request itself is not changed.
    ///
    /// Default: none, and such requests have no cookies.
    #[must_use]
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(origin);
        self
    }

    /// What becomes of a `Cookie` header that the caller set. Default: [`CallerCookies::Merge`].
    #[must_use]
    pub fn caller_cookies(mut self, caller_cookies: CallerCookies) -> Self {
        self.caller_cookies = caller_cookies;
        self
    }
}

/// A new, empty jar.
impl Default for CookieLayer<CookieJar> {
    fn default() -> Self {
        Self::new(CookieJar::new())
    }
}

// The default origin is left out: a URI may hold a password.
impl<J: fmt::Debug> fmt::Debug for CookieLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieLayer")
            .field("storage", &self.storage)
            .field("caller_cookies", &self.caller_cookies)
            .finish_non_exhaustive()
    }
}

impl<J> Clone for CookieLayer<J> {
    fn clone(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            default_origin: self.default_origin.clone(),
            caller_cookies: self.caller_cookies,
        }
    }
}

impl<S, J> Layer<S> for CookieLayer<J> {
    type Service = CookieService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        CookieService {
            inner,
            storage: Arc::clone(&self.storage),
            default_origin: self.default_origin.clone(),
            caller_cookies: self.caller_cookies,
        }
    }
}
