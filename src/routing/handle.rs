use std::{fmt, sync::Arc};

use super::{
    fault::PrefixError,
    mounts::{Entry, MountChanges},
    routes::{Route, Routes, Shared, Slot},
};

/// Changes the mounts of a [`RoutingService`](super::RoutingService) and of all its clones while
/// they serve requests.
///
/// [`RoutingService::handle`](super::RoutingService::handle) makes one.
///
/// ```
/// use http::{Request, Response};
/// use tower::{BoxError, Layer, layer::util::Identity, service_fn};
/// use tower_outbound::routing::RoutingLayer;
///
/// # fn main() -> Result<(), BoxError> {
/// # let client = service_fn(|_: Request<()>| async { Ok::<_, BoxError>(Response::new(())) });
/// let layer = RoutingLayer::builder().mount("https://old.example", Identity::new()).build()?;
/// let handle = layer.layer(client).handle();
/// handle.update(|mounts| {
///     mounts.unmount("https://old.example").mount("https://new.example", Identity::new())
/// })?;
/// assert_eq!(&*handle.prefixes()[0], "https://new.example");
///
/// // All changes are made, or none.
/// let result = handle.update(|mounts| {
///     mounts.unmount("https://new.example").mount("new.example", Identity::new())
/// });
/// assert!(result.is_err());
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
    /// Makes changes to the table, all at once. If a prefix is wrong, nothing changes.
    ///
    /// A mount that is not named keeps its service, with the permits and budgets of its layers. A
    /// mount that is named again gets a new service, whatever its key. Each layer is applied once,
    /// to the service below. Requests in flight stay with the service that was selected when they
    /// were called.
    ///
    /// An update copies the table, so its time grows with the number of all mounts. Put changes
    /// that belong together into one update. Concurrent updates are made one after the other, and
    /// none is lost.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first wrong prefix, and the fault.
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

    /// Replaces the whole table at once, for example after a configuration was read again. If a
    /// prefix is wrong, nothing changes.
    ///
    /// `table` gets no mounts, and adds all mounts of the new table. A mount that is not added is
    /// removed. If a mount has the prefix and the [key](MountChanges::mount_keyed) of a present
    /// mount, the present service stays, with the permits and budgets of its layers, and the new
    /// layer is not applied. Every other layer is applied once, to the service below.
    ///
    /// Requests in flight stay with the service that was selected when they were called. Concurrent
    /// calls are made one after the other.
    ///
    /// # Errors
    ///
    /// [`PrefixError`] names the first wrong prefix, and the fault.
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
        // Kept if the closure below is called again, so that no layer is applied twice.
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

    /// The prefixes of the present mounts, as they were written.
    ///
    /// ```
    /// # use {http::{Request, Response}, tower::{Layer, layer::util::Identity, service_fn}};
    /// # use tower_outbound::RoutingLayer;
    /// # let client = service_fn(|_: Request<()>| async { Ok::<_, http::Error>(Response::new(())) });
    /// let layer = RoutingLayer::builder().mount("HTTPS://H.example", Identity::new()).build()?;
    /// assert_eq!(&*layer.layer(client).handle().prefixes()[0], "HTTPS://H.example");
    /// # Ok::<(), tower_outbound::routing::PrefixError>(())
    /// ```
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
