use std::{fmt, sync::Arc};

use super::{
    fault::PrefixError,
    mounts::{Entry, MountChanges},
    routes::{Route, Routes, Shared, Slot},
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
/// assert_eq!(&*handle.prefixes()[0], "https://new.example");
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
    /// named again starts anew, whatever its key. Each layer is applied once, to the service below.
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
        let made = changes.into_iter().map(|(parsed, (prefix, new))| {
            let slot = new.map(|new| Slot {
                route: Route { prefix, service: new.service(self.inner.clone()) },
                key: new.key,
            });
            (parsed, slot)
        });
        self.shared.update(made.collect());
        Ok(())
    }

    /// Puts a whole new table in the place of the present one, at once, as when a configuration is
    /// read again. If a prefix is wrong, nothing changes.
    ///
    /// `table` starts without mounts and adds all of the new ones. A mount with the prefix and the
    /// [key](MountChanges::mount_keyed) of a present one keeps that one's service, with its permits
    /// and budgets; the new layer is not applied. A mount without a key starts anew, and a mount
    /// that is not named is taken out. Each other layer is applied once, to the service below.
    ///
    /// Requests in flight end on the service that they began with. If several threads replace and
    /// update, each works on the table that the one before it left.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first prefix that is wrong, and the fault.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use tower::{BoxError, Layer, limit::ConcurrencyLimitLayer, service_fn};
    /// use tower_outbound::routing::RoutingLayer;
    ///
    /// # fn main() -> Result<(), BoxError> {
    /// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
    /// let client = RoutingLayer::builder().build()?.layer(client);
    /// let handle = client.handle();
    /// for configuration in [
    ///     [("http://a.example", 10), ("http://b.example", 10)],
    ///     [("http://a.example", 10), ("http://b.example", 20)], // a's permits are kept
    /// ] {
    ///     handle.replace(|table| {
    ///         configuration.iter().fold(table, |table, &(prefix, permits)| {
    ///             table.mount_keyed(prefix, format!("{permits}"), ConcurrencyLimitLayer::new(permits))
    ///         })
    ///     })?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn replace<F>(&self, table: F) -> Result<(), PrefixError>
    where
        F: FnOnce(MountChanges<S, B, RB>) -> MountChanges<S, B, RB>,
    {
        let (table, mounts) = table(MountChanges::new()).table()?;
        let table = Arc::new(table);
        // Kept from one turn to the next, so that no layer is applied twice.
        let mut made: Vec<_> = mounts.iter().map(|_| None).collect();
        self.shared.replace(|present| {
            let entries = mounts.iter().zip(&mut made);
            let slots = entries.map(|(entry, made)| {
                let Entry { prefix, text, new } = entry.as_ref()?;
                let kept = new.key.as_ref().and_then(|key| present.kept(prefix, key));
                let make = || new.service(self.inner.clone());
                let service = kept.unwrap_or_else(|| Arc::clone(made.get_or_insert_with(make)));
                let route = Route { prefix: Arc::clone(text), service };
                Some(Slot { route, key: new.key.clone() })
            });
            Routes::new(Arc::clone(&table), slots.collect())
        });
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
