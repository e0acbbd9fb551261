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

/// Sends each request to the layer or service mounted for its URL, or straight on.
///
/// A mounted *layer* wraps a clone of the service below, so a jar or a pool below serves every
/// mount. It is applied once per [`layer`](Layer::layer) call, so all clones share its limits and
/// budgets. A mounted *service* is complete in itself.
///
/// requests: `session.mount`.
///
/// If rustc says "implementation of `From` is not general enough" of a task that uses the service,
/// see [there](RoutingService#inside-a-spawned-task).
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, ServiceExt, layer::layer_fn, service_fn};
/// use tower_outbound::routing::{Mount, RoutingLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let everything_else = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new("the fallback")) });
/// let legacy = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new("the legacy client")) });
/// let client = RoutingLayer::builder()
///     .mount("https://api.example.com", layer_fn(|inner| inner))
///     .mount_service("https://legacy.example", legacy)
///     .build()?
///     .layer(everything_else);
///
/// let response = client.clone().oneshot(Request::get("https://legacy.example/x").body(())?).await?;
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
    /// Starts a table without mounts.
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

/// Builds a [`RoutingLayer`]; the [module's docs](super) say what prefixes mean.
#[must_use]
pub struct RoutingLayerBuilder<S, B, RB> {
    mounts: MountChanges<S, B, RB>,
    settings: Settings,
}

impl<S, B, RB> RoutingLayerBuilder<S, B, RB> {
    /// Mounts a layer around the service below. The same prefix again replaces what was mounted
    /// there.
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

    /// As [`mount`](Self::mount), with a key that says what is mounted: a later
    /// [`replace`](super::RoutingHandle::replace) keeps the service, with its permits and budgets,
    /// if prefix and key are equal. Default: no key, and `replace` mounts the layer anew.
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
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.mounts = self.mounts.mount_service(prefix, service);
        self
    }

    /// A request that no mount serves is a [`NoMount`](super::NoMount) error. Default: it goes to
    /// the service below.
    pub const fn strict(mut self) -> Self {
        self.settings.strict = true;
        self
    }

    /// An error of a mount is a [`MountError`](super::MountError), which names the mount. Default:
    /// it passes as it is, so that `downcast_ref` finds the client's own type.
    ///
    /// Errors of the service below, for requests that no mount serves, pass as they are.
    pub const fn mount_errors(mut self) -> Self {
        self.settings.mount_errors = true;
        self
    }

    /// A request whose path has dot segments is a [`UriError::DotSegments`]. Default: it is routed
    /// by the path that they lead to, and sent as it is.
    ///
    /// Use it if you mount a path to keep others off it. Some servers read `/x/..;/admin` and
    /// `/x/..%2Fadmin` as `/admin`, though RFC 3986 does not. So this check counts `%2e` as a dot,
    /// ignores what follows a `;`, and ends a segment at `%2F`, `%5C` and a backslash.
    pub const fn reject_dot_segments(mut self) -> Self {
        self.settings.strictness.dot_segments = true;
        self
    }

    /// A request whose path has `%2F`, `%5C` or a backslash is a [`UriError::EncodedSlash`].
    /// Default: none of them counts as a slash.
    ///
    /// Use it if you mount a path to keep others off it: a server may read `/a%2Fadmin` as
    /// `/a/admin`.
    pub const fn reject_encoded_slashes(mut self) -> Self {
        self.settings.strictness.encoded_slashes = true;
        self
    }

    /// Scheme and authority to route a relative URI by, for clients that add them further in. The
    /// request itself is not changed. Default: none, and a relative URI is a
    /// [`UriError::Relative`].
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.settings.default_origin = Some(origin);
        self
    }

    /// Builds the layer.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first prefix that is wrong, or a default origin that is, and the
    /// fault.
    pub fn build(self) -> Result<RoutingLayer<S, B, RB>, PrefixError> {
        if let Some(origin) = &self.settings.default_origin {
            // A relative URI goes where the origin says, so it fails if the origin is wrong.
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
        // A builder only mounts, so none is missing, and all keep their numbers.
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
