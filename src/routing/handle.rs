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
    pub(super) shared: Arc<Shared<B, RB>>,
    pub(super) inner: S,
}

impl<S: Clone, B, RB> RoutingHandle<S, B, RB> {
    /// Changes the whole table at once, or, if a prefix is wrong, not at all.
    ///
    /// A call selects its mount when it is made: what is in flight ends on the service that it
    /// began with. Mounts that are not named keep their service, with its permits and budgets;
    /// one that is mounted again, under the same prefix, starts anew. Layers are applied once
    /// each, to the service below.
    ///
    /// Costs a copy of the table, so time in proportion to all its mounts: put what belongs
    /// together into one update. Updates from several threads are made one after the other,
    /// each on what the one before it left.
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
