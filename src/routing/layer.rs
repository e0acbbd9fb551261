use std::{fmt, sync::Arc};

use http::{Method, Uri};
use tower_layer::Layer;

use super::{
    fault::{PrefixError, PrefixFault},
    mount_service::MountService,
    mounts::{Entry, MountChanges},
    routes::{Route, Settings, Shared, Slot},
    service::RoutingService,
    table::Table,
    target::UriError,
};

/// Sends each request to the layer or service that is mounted for its URL, or else to the service
/// below.
///
/// A mounted *layer* wraps a clone of the service below, so a jar or a pool below serves every
/// mount. Each call of [`layer`](Layer::layer) applies the mounted layers once, so all clones of
/// the service share the limits and budgets of the mounted layers. A mounted *service* is complete
/// in itself, and does not use the service below.
///
/// requests: `session.mount`.
///
/// If rustc reports "implementation of `From` is not general enough" for a task that uses the
/// service, see [`RoutingService`](RoutingService#inside-a-spawned-task).
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, layer::layer_fn, service_fn};
/// use tower_outbound::routing::{Mount, RoutingLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let everything_else =
///     service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new("the fallback")) });
/// let legacy =
///     service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new("the legacy client")) });
/// let client = RoutingLayer::builder()
///     .mount("https://api.example.com", layer_fn(|inner| inner))
///     .mount_service("https://legacy.example", legacy)
///     .build()?
///     .layer(everything_else);
///
/// let request = Request::get("https://legacy.example/x").body(())?;
/// let response = client.clone().oneshot(request).await?;
/// assert_eq!(*response.body(), "the legacy client");
/// assert_eq!(&*response.extensions().get::<Mount>().unwrap().0, "https://legacy.example");
///
/// let response = client.oneshot(Request::get("https://else.example/").body(())?).await?;
/// assert_eq!(*response.body(), "the fallback");
/// # Ok(())
/// # }
/// ```
pub struct RoutingLayer<S, B, RB> {
    table: Arc<Table>,
    mounts: Arc<[Entry<S, B, RB>]>,
    settings: Settings,
}

impl<S, B, RB> RoutingLayer<S, B, RB> {
    /// Starts to build a layer, without mounts.
    ///
    /// ```
    /// # use tower_outbound::RoutingLayer;
    /// // Sends everything to the service below, until a `RoutingHandle` adds mounts.
    /// let layer = RoutingLayer::<(), (), ()>::builder().build()?;
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
    pub const fn builder() -> RoutingLayerBuilder<S, B, RB> {
        RoutingLayerBuilder { mounts: MountChanges::new(), settings: Settings::new() }
    }
}

impl<S: Clone, B, RB> Layer<S> for RoutingLayer<S, B, RB> {
    type Service = RoutingService<S, B, RB>;

    fn layer(&self, inner: S) -> Self::Service {
        let mounted = |Entry { text, new, .. }: &Entry<S, B, RB>| Slot {
            route: Route { prefix: Arc::clone(text), service: new.service(inner.clone()) },
            key: new.key.clone(),
        };
        let shared = Shared::new(
            Arc::clone(&self.table),
            self.mounts.iter().map(mounted),
            self.settings.clone(),
        );
        RoutingService::new(Arc::new(shared), inner)
    }
}

impl<S, B, RB> Clone for RoutingLayer<S, B, RB> {
    fn clone(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            mounts: Arc::clone(&self.mounts),
            settings: self.settings.clone(),
        }
    }
}

impl<S, B, RB> fmt::Debug for RoutingLayer<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes: Vec<_> = self.mounts.iter().map(|entry| &entry.text).collect();
        f.debug_struct("RoutingLayer")
            .field("mounts", &prefixes)
            .field("strict", &self.settings.strict)
            .finish_non_exhaustive()
    }
}

/// Builds a [`RoutingLayer`]. The [module's docs](super) list the forms of a prefix.
///
/// A wrong prefix is reported by [`build`](Self::build).
#[must_use]
pub struct RoutingLayerBuilder<S, B, RB> {
    mounts: MountChanges<S, B, RB>,
    settings: Settings,
}

impl<S, B, RB> RoutingLayerBuilder<S, B, RB> {
    /// Mounts a layer, which wraps a clone of the service below.
    ///
    /// If the same prefix is mounted again, the last mount is kept.
    ///
    /// To mount several layers, make one of them with tower's `ServiceBuilder`. The first layer is
    /// the outermost:
    ///
    /// ```
    /// # use {http::{Request, Response}, std::time::Duration, tower::timeout::TimeoutLayer};
    /// # use tower::{BoxError, ServiceBuilder, limit::ConcurrencyLimitLayer, util::BoxCloneSyncService};
    /// # use tower_outbound::RoutingLayer;
    /// # type Client = BoxCloneSyncService<Request<()>, Response<()>, BoxError>;
    /// let layers = ServiceBuilder::new()
    ///     .layer(TimeoutLayer::new(Duration::from_secs(1)))
    ///     .layer(ConcurrencyLimitLayer::new(10))
    ///     .into_inner();
    /// let layer = RoutingLayer::builder().mount("https://api.example.com", layers).build()?;
    /// # let _: RoutingLayer<Client, (), ()> = layer;
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
    ///
    /// ```
    /// # use {http::{Request, Response}, std::time::Duration, tower::timeout::TimeoutLayer};
    /// # use tower_outbound::RoutingLayer;
    /// # use tower::{BoxError, util::BoxCloneSyncService};
    /// # type Client = BoxCloneSyncService<Request<()>, Response<()>, BoxError>;
    /// let timeout = TimeoutLayer::new(Duration::from_secs(1));
    /// let layer = RoutingLayer::builder().mount("https://api.example.com", timeout).build()?;
    /// # let _: RoutingLayer<Client, (), ()> = layer;
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
    pub fn mount<L>(mut self, prefix: impl Into<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.mounts = self.mounts.mount(prefix, layer);
        self
    }

    /// Mounts a layer with a key, so that a later [`replace`](super::RoutingHandle::replace) can
    /// keep it.
    ///
    /// If the new table has the same prefix with the same key, the service of the mount stays, with
    /// its state: the permits of a concurrency limit, the budget of retries. A good key is what the
    /// layer is made from, such as the text of its configuration. Without a key, `replace` applies
    /// the new layer.
    ///
    /// ```
    /// # use {http::{Request, Response}, tower::limit::ConcurrencyLimitLayer};
    /// # use tower_outbound::RoutingLayer;
    /// # use tower::{BoxError, util::BoxCloneSyncService};
    /// # type Client = BoxCloneSyncService<Request<()>, Response<()>, BoxError>;
    /// let layer = RoutingLayer::builder()
    ///     .mount_keyed("https://api.example.com", "permits = 10", ConcurrencyLimitLayer::new(10))
    ///     .build()?;
    /// # let _: RoutingLayer<Client, (), ()> = layer;
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
    pub fn mount_keyed<L>(
        mut self,
        prefix: impl Into<Arc<str>>,
        key: impl Into<Arc<str>>,
        layer: L,
    ) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.mounts = self.mounts.mount_keyed(prefix, key, layer);
        self
    }

    /// Mounts a complete service, which does not use the service below.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{BoxError, Layer, ServiceExt, service_fn};
    /// use tower_outbound::RoutingLayer;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let client = service_fn(|_: Request<()>| async { Err::<Response<&str>, BoxError>("no".into()) });
    /// // A mock for a test.
    /// let mock = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new("mocked")) });
    /// let layer = RoutingLayer::builder().mount_service("https://api.example.com", mock).build()?;
    /// let request = Request::get("https://api.example.com/users").body(())?;
    /// assert_eq!(*layer.layer(client).oneshot(request).await?.body(), "mocked");
    /// # Ok(())
    /// # }
    /// ```
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.mounts = self.mounts.mount_service(prefix, service);
        self
    }

    /// Returns a [`NoMount`](super::NoMount) error for a request that no mount matches.
    ///
    /// Default: a request without a mount is sent to the service below. `NoMount` has an example.
    ///
    /// ```
    /// # use tower_outbound::RoutingLayer;
    /// let nothing_but_mounts = RoutingLayer::<(), (), ()>::builder().strict();
    /// ```
    pub const fn strict(mut self) -> Self {
        self.settings.strict = true;
        self
    }

    /// Wraps each error of a mount's service in a [`MountError`](super::MountError), which names
    /// the mount.
    ///
    /// It makes no difference whether a layer or a service was mounted. An error of the service
    /// below, for a request that no mount matches, is returned as it is.
    ///
    /// Default: every error is returned as it is, so that `downcast_ref` finds the client's own
    /// type. `MountError` has an example.
    ///
    /// ```
    /// # use tower_outbound::RoutingLayer;
    /// let named_errors = RoutingLayer::<(), (), ()>::builder().mount_errors();
    /// ```
    pub const fn mount_errors(mut self) -> Self {
        self.settings.mount_errors = true;
        self
    }

    /// Returns [`UriError::DotSegments`] for a request whose path has `.` or `..` as a segment.
    ///
    /// Use it if you mount a path to keep others away from it. Some servers read `/x/..;/admin` and
    /// `/x/..%2Fadmin` as `/admin`, though RFC 3986 does not. So this check counts `%2e` as a dot,
    /// ignores what follows a `;`, and ends a segment at `%2F`, `%5C` and a backslash.
    ///
    /// Default: the request is routed by the path without dot segments, and sent unchanged.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{BoxError, Layer, ServiceExt, service_fn};
    /// use tower_outbound::routing::{RoutingLayer, UriError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    /// let client = RoutingLayer::builder().reject_dot_segments().build()?.layer(client);
    /// let request = Request::get("https://h.example/x/..;/admin").body(())?;
    /// let error = client.oneshot(request).await.expect_err("rejected");
    /// assert_eq!(error.downcast_ref(), Some(&UriError::DotSegments));
    /// # Ok(())
    /// # }
    /// ```
    pub const fn reject_dot_segments(mut self) -> Self {
        self.settings.strictness.dot_segments = true;
        self
    }

    /// Returns [`UriError::EncodedSlash`] for a request whose path has `%2F`, `%5C` or a backslash.
    ///
    /// Use it if you mount a path to keep others away from it: a server may read `/a%2Fadmin` as
    /// `/a/admin`.
    ///
    /// Default: the request is routed, and none of these counts as a slash.
    ///
    /// ```
    /// # use tower_outbound::RoutingLayer;
    /// // For mounts that guard a path.
    /// let builder = RoutingLayer::<(), (), ()>::builder()
    ///     .reject_dot_segments()
    ///     .reject_encoded_slashes();
    /// ```
    pub const fn reject_encoded_slashes(mut self) -> Self {
        self.settings.strictness.encoded_slashes = true;
        self
    }

    /// Sets the scheme, host and port that a relative URI is routed by.
    ///
    /// Use it for a client that adds the origin itself, such as tonic's channel. The request is not
    /// changed. A path in `origin` is ignored: requests are matched by their own path.
    ///
    /// Default: no origin, so a relative URI is a [`UriError::Relative`].
    ///
    /// ```
    /// use http::{Request, Response, Uri};
    /// use tower::{BoxError, Layer, ServiceExt, layer::util::Identity, service_fn};
    /// use tower_outbound::routing::{Mount, RoutingLayer};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    /// let layer = RoutingLayer::builder()
    ///     .mount("https://api.example.com/v1", Identity::new())
    ///     .default_origin(Uri::from_static("https://api.example.com"))
    ///     .build()?;
    /// let response = layer.layer(client).oneshot(Request::get("/v1/users").body(())?).await?;
    /// assert!(response.extensions().get::<Mount>().is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.settings.default_origin = Some(origin);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first wrong prefix, or a wrong default origin, and the fault.
    pub fn build(self) -> Result<RoutingLayer<S, B, RB>, PrefixError> {
        if let Some(origin) = &self.settings.default_origin {
            // A relative URI is routed by the origin, so it fails if the origin is wrong.
            let relative = Uri::from_static("/");
            self.settings.find(&Table::default(), &Method::GET, &relative).map_err(|error| {
                let fault = match error {
                    UriError::Relative if origin.scheme().is_none() => PrefixFault::Scheme,
                    UriError::Relative => PrefixFault::EmptyHost,
                    UriError::Port => PrefixFault::Port,
                    UriError::NumericHost => PrefixFault::NumericHost,
                    UriError::DotSegments | UriError::EncodedSlash => PrefixFault::Path,
                };
                PrefixError::new(&origin.to_string(), fault)
            })?;
        }
        let (table, mounts) = self.mounts.table()?;
        // A builder does not unmount, so no mount is missing, and all keep their numbers.
        let mounts = mounts.into_iter().flatten().collect();
        Ok(RoutingLayer { table: Arc::new(table), mounts, settings: self.settings })
    }
}

impl<S, B, RB> fmt::Debug for RoutingLayerBuilder<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingLayerBuilder")
            .field("mounts", &self.mounts.len())
            .finish_non_exhaustive()
    }
}
