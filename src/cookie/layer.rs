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
/// The URI decides which cookies match, not the `Host` header, unless the request has the extension
/// [`HostDecides`](super::HostDecides). A request with a relative URI has no cookies, unless
/// [`default_origin`](Self::default_origin) names its origin.
///
/// Place it inside the layers that send a request again: redirects and retries. Each attempt and
/// each hop then sends the cookies that the previous response set.
///
/// If the redirects are inside this layer, the cookies of the intermediate responses are lost. The
/// cookies of the last response are then filed under the host that answered, if the redirects are
/// tower-http's `FollowRedirect` 0.7 (feature `follow-redirect`, on by default). Otherwise they are
/// filed under the first host.
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
    // Shared by all services of the layer, so that the storage need not be `Clone`.
    storage: Arc<J>,
    // Shared too: each request may clone its service, and a `Uri` is 88 bytes.
    default_origin: Option<Arc<Uri>>,
    caller_cookies: CallerCookies,
    expect_restrictions: bool,
}

impl CookieLayer<CookieJar> {
    /// Uses `jar`. All services of this layer share it.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, CookieLayer};
    ///
    /// let jar = CookieJar::new();
    /// let layer = CookieLayer::new(jar.clone()); // `jar` still shows what the client stores
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn new(jar: CookieJar) -> Self {
        Self::with_storage(jar)
    }
}

impl CookieLayer<PerRequest> {
    /// Uses the jar that each request carries as an extension. A request without a jar sends and
    /// stores no cookies.
    ///
    /// For one client that serves many tenants: give each request the jar of its tenant, for
    /// example from a [`JarPool`](super::JarPool). A layer that drops extensions also drops the
    /// jar. Redirect layers without our [policy](super#redirects) do so when a hop
    /// leaves the origin. The request then has no cookies. It never gets another tenant's.
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
    /// Uses any [`CookieStorage`], such as a store of your own.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tower_outbound::cookie::{CookieJar, CookieLayer};
    ///
    /// let layer = CookieLayer::with_storage(Arc::new(CookieJar::new()));
    /// # let _ = layer;
    /// ```
    ///
    /// A type that is not a storage is a compile error here, which names the type:
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
    /// Names the origin whose cookies a request with a relative URI gets: scheme, host and port.
    /// The URI stays relative; an inner service must make it absolute.
    ///
    /// Default: none. A request with a relative URI then has no cookies.
    ///
    /// ```
    /// use tower_outbound::CookieLayer;
    ///
    /// let layer = CookieLayer::default().default_origin("https://example.com".parse()?);
    /// # let _ = layer;
    /// # Ok::<(), http::uri::InvalidUri>(())
    /// ```
    #[must_use]
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(Arc::new(origin));
        self
    }

    /// Sets what happens to a `Cookie` header that the caller set.
    ///
    /// Default: [`CallerCookies::Merge`].
    ///
    /// ```
    /// use tower_outbound::{CookieLayer, cookie::CallerCookies};
    ///
    /// let layer = CookieLayer::default().caller_cookies(CallerCookies::Replace);
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn caller_cookies(mut self, caller_cookies: CallerCookies) -> Self {
        self.caller_cookies = caller_cookies;
        self
    }

    /// A request without restrictions sends and stores no cookies.
    ///
    /// - A request with neither [`CookieControl`](super::CookieControl) nor
    ///   [`SiteForCookies`](super::SiteForCookies) sends and stores no cookies of the jar.
    /// - A request with only `CookieControl` sends and stores what that allows, and only cookies
    ///   with `SameSite=None`: its site is [opaque](super::SiteForCookies::opaque).
    ///
    /// Default: a request without these extensions has no restrictions.
    ///
    /// For stacks in which a layer outside this one may drop extensions, as redirect layers without
    /// our [policy](super#redirects) do. A dropped restriction then forbids instead of
    /// allowing. A program's own requests name their own site:
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
    ///         let has_cookies = request.headers().contains_key(COOKIE);
    ///         Ok::<_, std::convert::Infallible>(Response::new(has_cookies))
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
    #[must_use]
    pub fn expect_restrictions(mut self) -> Self {
        self.expect_restrictions = true;
        self
    }
}

// Only for `CookieJar`: no other storage has an obvious default.
/// Uses a new, empty jar.
impl Default for CookieLayer<CookieJar> {
    fn default() -> Self {
        Self::new(CookieJar::new())
    }
}

// The default origin is left out: a URI may contain a password.
impl<J: fmt::Debug> fmt::Debug for CookieLayer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieLayer")
            .field("storage", &self.storage)
            .field("caller_cookies", &self.caller_cookies)
            .field("expect_restrictions", &self.expect_restrictions)
            .finish_non_exhaustive()
    }
}

// Not derived: a derived `Clone` would need `J: Clone`.
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
