use std::{fmt, sync::Arc};

use http::{Request, Response, Uri};
use tower::{BoxError, util::BoxCloneSyncService};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    prefix::{Prefix, PrefixError, PrefixFault, Target, UriError},
    service::{Routes, RoutingService},
    table::Table,
};

/// A mounted service, whatever it is made of.
pub(super) type Mounted<B, RB> = BoxCloneSyncService<Request<B>, Response<RB>, BoxError>;
type Make<S, B, RB> = Arc<dyn Fn(S) -> Mounted<B, RB> + Send + Sync>;
/// A prefix as it was written, and what is mounted there.
type Entry<S, B, RB> = (Arc<str>, Make<S, B, RB>);

/// Sends each request to the layer or service mounted for its URL, or straight on.
///
/// A mounted *layer* wraps a clone of the service below, so that what stands below (a jar, a pool) serves every mount; it
/// is applied once per [`layer`](Layer::layer) call, so that its limits and budgets hold for all clones together. A
/// mounted *service* is complete in itself.
///
/// requests: `session.mount`.
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
    strict: bool,
    default_origin: Option<Uri>,
}

impl<S, B, RB> RoutingLayer<S, B, RB> {
    /// Starts a table without mounts.
    pub const fn builder() -> RoutingLayerBuilder<S, B, RB> {
        RoutingLayerBuilder { mounts: Vec::new(), strict: false, default_origin: None }
    }
}

impl<S: Clone, B, RB> Layer<S> for RoutingLayer<S, B, RB> {
    type Service = RoutingService<S, B, RB>;

    fn layer(&self, inner: S) -> Self::Service {
        let mounted = |(prefix, make): &Entry<S, B, RB>| (Arc::clone(prefix), make(inner.clone()));
        let routes = Routes {
            table: Arc::clone(&self.table),
            mounts: self.mounts.iter().map(mounted).collect(),
            strict: self.strict,
            default_origin: self.default_origin.clone(),
        };
        RoutingService { routes: Arc::new(routes), fallback: inner }
    }
}

impl<S, B, RB> Clone for RoutingLayer<S, B, RB> {
    fn clone(&self) -> Self {
        Self {
            table: Arc::clone(&self.table),
            mounts: Arc::clone(&self.mounts),
            strict: self.strict,
            default_origin: self.default_origin.clone(),
        }
    }
}

impl<S, B, RB> fmt::Debug for RoutingLayer<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes: Vec<_> = self.mounts.iter().map(|(prefix, _)| prefix).collect();
        f.debug_struct("RoutingLayer").field("mounts", &prefixes).field("strict", &self.strict).finish_non_exhaustive()
    }
}

/// Builds a [`RoutingLayer`]; the [module's docs](super) say what prefixes mean.
#[must_use]
pub struct RoutingLayerBuilder<S, B, RB> {
    mounts: Vec<Entry<S, B, RB>>,
    strict: bool,
    default_origin: Option<Uri>,
}

impl<S, B, RB> RoutingLayerBuilder<S, B, RB> {
    /// Mounts a layer around the service below. The same prefix again replaces what was mounted there.
    pub fn mount<L>(mut self, prefix: impl Into<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
        B: 'static,
        RB: 'static,
    {
        self.mounts.push((prefix.into(), Arc::new(move |inner| boxed(layer.layer(inner)))));
        self
    }

    /// Mounts a complete service; nothing of the service below is in it.
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        M::Error: Into<BoxError>,
        M::Future: Send + 'static,
        B: 'static,
        RB: 'static,
    {
        let service = boxed(service);
        self.mounts.push((prefix.into(), Arc::new(move |_| service.clone())));
        self
    }

    /// A request that no mount serves is a [`NoMount`](super::NoMount) error. Default: it goes to the service below.
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Scheme and authority of requests whose URI is relative, for clients that add them further in. The request itself
    /// is not changed. Default: none, and such a request is an error.
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(origin);
        self
    }

    /// Makes the layer.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first prefix that is wrong, and the fault; a default origin without scheme and host too.
    pub fn build(self) -> Result<RoutingLayer<S, B, RB>, PrefixError> {
        if let Some(origin) = &self.default_origin {
            Target::of(origin, None).map_err(|error| {
                let fault = match error {
                    UriError::Relative if origin.scheme().is_none() => PrefixFault::Scheme,
                    UriError::Relative => PrefixFault::EmptyHost,
                    UriError::Port => PrefixFault::Port,
                    UriError::NumericHost => PrefixFault::NumericHost,
                };
                PrefixError::new(&origin.to_string(), fault)
            })?;
        }
        let mut table = Table::default();
        let mut mounts: Vec<Entry<S, B, RB>> = Vec::with_capacity(self.mounts.len());
        for entry in self.mounts {
            let parsed = Prefix::parse(&entry.0).map_err(|fault| PrefixError::new(&entry.0, fault))?;
            let number = table.insert(parsed, mounts.len());
            match mounts.get_mut(number) {
                Some(replaced) => *replaced = entry,
                None => mounts.push(entry),
            }
        }
        Ok(RoutingLayer {
            table: Arc::new(table),
            mounts: mounts.into(),
            strict: self.strict,
            default_origin: self.default_origin,
        })
    }
}

fn boxed<M, B, RB>(service: M) -> Mounted<B, RB>
where
    M: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    M::Error: Into<BoxError>,
    M::Future: Send + 'static,
    B: 'static,
    RB: 'static,
{
    BoxCloneSyncService::new(tower::ServiceExt::map_err(service, Into::into as fn(M::Error) -> BoxError))
}

impl<S, B, RB> fmt::Debug for RoutingLayerBuilder<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingLayerBuilder").field("mounts", &self.mounts.len()).finish_non_exhaustive()
    }
}
