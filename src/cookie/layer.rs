use std::{fmt, sync::Arc};

use http::Uri;
use tower_layer::Layer;

use super::{
    control::CallerCookies,
    jar::CookieJar,
    jar::storage::{CookieStorage, PerRequest},
    service::CookieService,
};

/// Sends a jar's cookies with each request, and stores the cookies of each response.
///
/// The URI decides whose cookies they are, not a `Host` header, unless the request says
/// [`HostDecides`](super::HostDecides). A request without an absolute URI
/// has no cookies, unless [`default_origin`](Self::default_origin) names its origin.
///
/// Place it inside the layers that send a request again: redirects and retries. Each attempt and
/// each hop then sends what the response before it set. If the redirects are inside, the cookies
/// that the hops in between set are lost. The cookies of the last response are then filed under the
/// host that answered if the redirects are tower-http's `FollowRedirect` 0.7 (feature
/// `follow-redirect`, on by default), and else under the first host.
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
    // Shared by every service, whether the storage itself can be cloned or not.
    storage: Arc<J>,
    // Shared too: each request may clone its service, and a `Uri` is 88 bytes.
    default_origin: Option<Arc<Uri>>,
    caller_cookies: CallerCookies,
    expect_restrictions: bool,
}

impl CookieLayer<CookieJar> {
    /// Uses `jar`. Every service that the layer makes shares it.
    #[must_use]
    pub fn new(jar: CookieJar) -> Self {
        Self::with_storage(jar)
    }
}

impl CookieLayer<PerRequest> {
    /// Uses the jar that each request brings as its extension. A request without a jar sends and
    /// stores no cookies.
    ///
    /// For one client that serves many tenants: give each request the jar of its tenant, for
    /// example from a [`JarPool`](super::JarPool). Layers that drop extensions drop the jar too:
    /// redirect layers without our [policy](super#for-its-redirects-too) do, when a hop leaves the
    /// origin. Such a request has no cookies; it never gets another tenant's.
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
        Self::with_storage(PerRequest)
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
            expect_restrictions: false,
        }
    }
}

impl<J> CookieLayer<J> {
    /// Scheme and authority of requests whose URI is relative, for clients that add them in an
    /// inner service. The request itself is not changed.
    ///
    /// Default: none. Such requests then have no cookies.
    #[must_use]
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(Arc::new(origin));
        self
    }

    /// What is done with a `Cookie` header that the caller set. Default: [`CallerCookies::Merge`].
    #[must_use]
    pub fn caller_cookies(mut self, caller_cookies: CallerCookies) -> Self {
        self.caller_cookies = caller_cookies;
        self
    }

    /// Every request is expected to say what it may do, and what it does not say is forbidden.
    ///
    /// - A request with neither [`CookieControl`](super::CookieControl) nor
    ///   [`SiteForCookies`](super::SiteForCookies) sends and stores nothing of the jar.
    /// - A request without `SiteForCookies` is made on behalf of an
    ///   [opaque](super::SiteForCookies::opaque) site: it sends and stores only `SameSite=None`
    ///   cookies, and only if its `CookieControl` says so.
    ///
    /// For stacks in which something outside this layer may drop extensions, as redirect layers
    /// without our [policy](super#for-its-redirects-too) do. A dropped restriction is then no
    /// permission. A program's own requests say so with their own site:
    ///
    /// ```
    /// use http::{Request, Response, header::COOKIE};
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use tower_outbound::cookie::{CookieJar, CookieLayer, SiteForCookies};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (jar, uri) = (CookieJar::new(), "https://example.com/".parse()?);
    /// jar.set(&uri, "id=42")?;
    /// let client = CookieLayer::new(jar).expect_restrictions().layer(service_fn(
    ///     |request: Request<()>| async move {
    ///         Ok::<_, std::convert::Infallible>(Response::new(request.headers().contains_key(COOKIE)))
    ///     },
    /// ));
    /// let request = Request::get(&uri).body(())?;
    /// assert!(!client.clone().oneshot(request).await?.body(), "it does not say what it may do");
    ///
    /// let request = Request::get(&uri).extension(SiteForCookies::new(&uri)).body(())?;
    /// assert!(client.oneshot(request).await?.body());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Default: a request without these extensions may do everything.
    #[must_use]
    pub fn expect_restrictions(mut self) -> Self {
        self.expect_restrictions = true;
        self
    }
}

// Of this layer alone: another storage has no default that could be meant.
/// Uses a new, empty jar.
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
            .field("expect_restrictions", &self.expect_restrictions)
            .finish_non_exhaustive()
    }
}

// Not derived: that would ask for `J: Clone`.
impl<J> Clone for CookieLayer<J> {
    fn clone(&self) -> Self {
        Self {
            storage: Arc::clone(&self.storage),
            default_origin: self.default_origin.clone(),
            caller_cookies: self.caller_cookies,
            expect_restrictions: self.expect_restrictions,
        }
    }
}

impl<S, J> Layer<S> for CookieLayer<J> {
    type Service = CookieService<S, J>;

    fn layer(&self, inner: S) -> Self::Service {
        CookieService::new(
            inner,
            Arc::clone(&self.storage),
            self.default_origin.clone(),
            self.caller_cookies,
            self.expect_restrictions,
        )
    }
}
