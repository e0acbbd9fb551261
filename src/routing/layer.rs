use std::{fmt, sync::Arc};

use http::{Request, Response, Uri};
use tower::{BoxError, ServiceExt};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    error::{Fault, PrefixError},
    future::BoxedService,
    prefix::Prefix,
    service::{Mounts, RoutingService},
    table::{Table, Target},
};

/// Sends each request through the mount whose URL prefix fits best, and all others straight on.
///
/// Made by a [`builder`](Self::builder); prefixes and priority are explained in the [module](super). Each
/// [`layer`](Layer::layer) call applies each mount's layer once, to a clone of the wrapped service; clones of the
/// service that comes out share the result, with its limits and budgets. Clones of the layer are cheap.
///
/// requests: `Session.mount` and `Session.get_adapter`.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, limit::ConcurrencyLimitLayer, service_fn};
/// use tower_outbound::RoutingLayer;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let client = service_fn(|_request: Request<()>| async { Ok::<_, std::io::Error>(Response::new("from the network")) });
/// let double = service_fn(|_request: Request<()>| async { Ok::<_, std::io::Error>(Response::new("from the double")) });
///
/// let client = RoutingLayer::builder()
///     .mount("https://api.example.com", ConcurrencyLimitLayer::new(4))
///     .mount_service("http://localhost:*", double)
///     .build()?
///     .layer(client);
///
/// let response = client.clone().oneshot(Request::get("https://api.example.com/users").body(())?).await?;
/// assert_eq!(response.body(), &"from the network");
/// let response = client.oneshot(Request::get("http://localhost:8080/").body(())?).await?;
/// assert_eq!(response.body(), &"from the double");
/// # Ok(())
/// # }
/// ```
pub struct RoutingLayer<S, B, RB> {
    shared: Arc<Shared<S, B, RB>>,
}

struct Shared<S, B, RB> {
    table: Arc<Table>,
    /// In the table's numbering.
    mounts: Vec<(Arc<str>, Source<S, B, RB>)>,
    strict: bool,
    default_origin: Option<Uri>,
}

/// Where a mount's service comes from.
enum Source<S, B, RB> {
    Layer(Arc<dyn Fn(S) -> BoxedService<B, RB> + Send + Sync>),
    Service(BoxedService<B, RB>),
}

impl<S, B, RB> RoutingLayer<S, B, RB> {
    /// No mounts yet, and the wrapped service as the fallback.
    #[must_use]
    pub const fn builder() -> RoutingLayerBuilder<S, B, RB> {
        RoutingLayerBuilder { mounts: Vec::new(), strict: false, default_origin: None }
    }
}

impl<S, B, RB> Clone for RoutingLayer<S, B, RB> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S: Clone, B, RB> Layer<S> for RoutingLayer<S, B, RB> {
    type Service = RoutingService<S, B, RB>;

    fn layer(&self, inner: S) -> Self::Service {
        let Shared { table, mounts, strict, default_origin } = &*self.shared;
        let mount = |(prefix, source): &(Arc<str>, Source<S, B, RB>)| {
            let service = match source {
                Source::Layer(layer) => layer(inner.clone()),
                Source::Service(service) => service.clone(),
            };
            (Arc::clone(prefix), service)
        };
        let mounts = Mounts {
            table: Arc::clone(table),
            services: mounts.iter().map(mount).collect(),
            default_origin: default_origin.clone(),
        };
        RoutingService::new((!strict).then_some(inner), mounts)
    }
}

impl<S, B, RB> fmt::Debug for RoutingLayer<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes: Vec<_> = self.shared.mounts.iter().map(|(prefix, _)| prefix).collect();
        f.debug_struct("RoutingLayer")
            .field("mounts", &prefixes)
            .field("strict", &self.shared.strict)
            .finish_non_exhaustive()
    }
}

/// What a [`RoutingLayer`] is made of; nothing is checked before [`build`](Self::build).
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, layer::util::Identity, service_fn};
/// use tower_outbound::routing::{NoMount, RoutingLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower::BoxError> {
/// let client = service_fn(|_request: Request<()>| async { Ok::<_, std::io::Error>(Response::new(())) });
///
/// // A client that talks to one API and to nothing else.
/// let client = RoutingLayer::builder()
///     .mount("https://api.example.com/v1", Identity::new())
///     .strict()
///     .build()?
///     .layer(client);
///
/// assert!(client.clone().oneshot(Request::get("https://api.example.com/v1/users").body(())?).await.is_ok());
/// let error = client.oneshot(Request::get("https://api.example.com/v10").body(())?).await.unwrap_err();
/// assert!(error.is::<NoMount>());
/// # Ok(())
/// # }
/// ```
#[must_use = "a builder does nothing until it is built"]
pub struct RoutingLayerBuilder<S, B, RB> {
    mounts: Vec<(Arc<str>, Source<S, B, RB>)>,
    strict: bool,
    default_origin: Option<Uri>,
}

impl<S, B, RB> RoutingLayerBuilder<S, B, RB> {
    /// Sends requests below `prefix` through `layer` around the wrapped service, which all such mounts share.
    ///
    /// The same prefix again replaces the mount, however it is spelt: `https://h` is `HTTPS://H:443/`.
    ///
    /// requests: `Session.mount`.
    pub fn mount<L>(mut self, prefix: impl AsRef<str>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request<B>>>::Error: Into<BoxError>,
        <L::Service as Service<Request<B>>>::Future: Send + 'static,
    {
        let source = Source::Layer(Arc::new(move |inner| boxed(layer.layer(inner))));
        self.mounts.push((prefix.as_ref().into(), source));
        self
    }

    /// Sends requests below `prefix` to `service`, which is complete in itself: other TLS settings, a proxy, a mock.
    ///
    /// The wrapped service and the layers around it further in have no part in it. The same prefix again replaces the
    /// mount, as with [`mount`](Self::mount).
    ///
    /// requests: `Session.mount`.
    pub fn mount_service<T>(mut self, prefix: impl AsRef<str>, service: T) -> Self
    where
        T: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
        T::Error: Into<BoxError>,
        T::Future: Send + 'static,
    {
        self.mounts.push((prefix.as_ref().into(), Source::Service(boxed(service))));
        self
    }

    /// Fails a request that no mount serves with [`NoMount`](super::NoMount).
    ///
    /// Default: it goes straight on to the wrapped service.
    ///
    /// requests: `InvalidSchema`, "no connection adapters were found".
    pub const fn strict(mut self) -> Self {
        self.strict = true;
        self
    }

    /// Scheme and authority of requests whose URI is relative, for clients that add them further in. The request
    /// itself is not changed, and the origin's own path counts for nothing.
    ///
    /// Default: none, and such requests fail with [`UriError`](super::UriError). A URI of an authority alone, such as
    /// a `CONNECT` request's, fails in any case: it names a host, and not this one.
    pub fn default_origin(mut self, origin: Uri) -> Self {
        self.default_origin = Some(origin);
        self
    }

    /// Parses the prefixes.
    ///
    /// # Errors
    ///
    /// For the first prefix that is malformed, or for a default origin without a scheme, a host or a valid port.
    pub fn build(self) -> Result<RoutingLayer<S, B, RB>, PrefixError> {
        let Self { mounts: written, strict, default_origin } = self;
        if let Some(origin) = &default_origin {
            Target::of(origin, None).map_err(|fault| PrefixError::new(&origin.to_string(), Fault::Origin(fault)))?;
        }
        let mut table = Table::default();
        let mut mounts = Vec::with_capacity(written.len());
        for mount in written {
            let prefix = Prefix::parse(&mount.0).map_err(|fault| PrefixError::new(&mount.0, fault))?;
            let number = table.insert(prefix, mounts.len());
            match mounts.get_mut(number) {
                Some(same) => *same = mount,
                None => mounts.push(mount),
            }
        }
        Ok(RoutingLayer { shared: Arc::new(Shared { table: Arc::new(table), mounts, strict, default_origin }) })
    }
}

impl<S, B, RB> fmt::Debug for RoutingLayerBuilder<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the prefixes: they may still have userinfo.
        f.debug_struct("RoutingLayerBuilder")
            .field("mounts", &self.mounts.len())
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

fn boxed<T, B, RB>(service: T) -> BoxedService<B, RB>
where
    T: Service<Request<B>, Response = Response<RB>> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::Future: Send + 'static,
{
    BoxedService::new(service.map_err(Into::into))
}
