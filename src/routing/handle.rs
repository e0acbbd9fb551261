use std::{fmt, sync::Arc};

use super::{
    fault::PrefixError,
    mounts::MountChanges,
    routes::{Route, Shared},
};

/// Changes the mounts of a [`RoutingService`](super::RoutingService) and of all its clones while
/// they serve.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, layer::util::Identity, service_fn};
/// use tower_outbound::routing::RoutingLayer;
///
/// # fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let client = RoutingLayer::builder().mount("https://old.example", Identity::new()).build()?.layer(client);
/// let handle = client.handle();
/// handle.update(|mounts| mounts.unmount("https://old.example").mount("https://new.example", Identity::new()))?;
/// assert_eq!(handle.prefixes(), ["https://new.example".into()]);
///
/// // All or nothing.
/// let error = handle.update(|mounts| mounts.unmount("https://new.example").mount("new.example", Identity::new()));
/// assert!(error.is_err());
/// assert_eq!(handle.prefixes().len(), 1);
/// # Ok(())
/// # }
/// ```
pub struct RoutingHandle<S, B, RB> {
    shared: Arc<Shared<B, RB>>,
    inner: S,
}

impl<S, B, RB> RoutingHandle<S, B, RB> {
    pub(super) const fn new(shared: Arc<Shared<B, RB>>, inner: S) -> Self {
        Self { shared, inner }
    }
}

impl<S: Clone, B, RB> RoutingHandle<S, B, RB> {
    /// Changes the whole table at once. If a prefix is wrong, nothing changes.
    ///
    /// A request selects its mount when it is called, and ends on the service that it began with.
    /// A mount that is not named keeps its service, with its permits and budgets. A mount that is
    /// named again starts anew. Each layer is applied once, to the service below.
    ///
    /// An update copies the table, so it takes time in proportion to the number of all mounts: put
    /// changes that belong together into one update. Updates from several threads are made one
    /// after the other, each on the table that the one before it left.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first prefix that is wrong, and the fault.
    pub fn update<F>(&self, change: F) -> Result<(), PrefixError>
    where
        F: FnOnce(MountChanges<S, B, RB>) -> MountChanges<S, B, RB>,
    {
        let changes = change(MountChanges::new()).parsed()?;
        // Layers are foreign code: they run here, before the table is locked.
        let made = changes.into_iter().map(|(key, (prefix, make))| {
            (key, make.map(|make| Route { prefix, service: make(self.inner.clone()) }))
        });
        self.shared.update(made.collect());
        Ok(())
    }

    /// The prefixes in the table at this moment, as they were written.
    #[must_use]
    pub fn prefixes(&self) -> Vec<Arc<str>> {
        self.shared.prefixes()
    }
}

impl<S: Clone, B, RB> Clone for RoutingHandle<S, B, RB> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), inner: self.inner.clone() }
    }
}

impl<S, B, RB> fmt::Debug for RoutingHandle<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoutingHandle")
            .field("mounts", &self.shared.prefixes())
            .finish_non_exhaustive()
    }
}
