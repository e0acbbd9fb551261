use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{
    fault::PrefixError,
    mount_service::{MountService, Mounted},
    prefix::Prefix,
    table::Table,
};

/// A list of mounts to add and to remove, in the order of the calls.
///
/// [`RoutingHandle::update`](super::RoutingHandle::update) gives an empty list to its closure, and
/// applies the list to the present table. [`replace`](super::RoutingHandle::replace) makes a new
/// table from it.
///
/// ```
/// use tower::layer::util::Identity;
/// use tower_outbound::routing::{MountChanges, RoutingHandle};
///
/// # use tower_outbound::routing::{MountService, PrefixError};
/// # fn example<S>(handle: RoutingHandle<S, (), ()>) -> Result<(), PrefixError>
/// # where S: MountService<(), ()> {
/// handle.update(|mounts: MountChanges<_, _, _>| {
///     mounts.unmount("https://old.example").mount("https://new.example", Identity::new())
/// })?;
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct MountChanges<S, B, RB> {
    changes: Vec<Change<S, B, RB>>,
}

/// A prefix as it was written, and what to mount there; `None` unmounts.
type Change<S, B, RB> = (Arc<str>, Option<New<S, B, RB>>);

/// A mount of a whole table, before its service is made.
pub(super) struct Entry<S, B, RB> {
    pub(super) prefix: Prefix,
    /// As it was written.
    pub(super) text: Arc<str>,
    pub(super) new: New<S, B, RB>,
}

/// What to mount.
pub(super) struct New<S, B, RB> {
    /// [`replace`](super::RoutingHandle::replace) compares it with the key of the present mount.
    pub(super) key: Option<Arc<str>>,
    /// Makes the service from the one below.
    make: Arc<dyn Fn(S) -> Mounted<B, RB> + Send + Sync>,
}

impl<S, B, RB> New<S, B, RB> {
    /// Runs foreign code.
    pub(super) fn service(&self, below: S) -> Mounted<B, RB> {
        (self.make)(below)
    }
}

impl<S, B, RB> MountChanges<S, B, RB> {
    pub(super) const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Mounts a layer, which wraps a clone of the service below. If something is mounted at the
    /// prefix already, it is replaced.
    ///
    /// ```
    /// # use tower::layer::util::Identity;
    /// # use tower_outbound::routing::{MountService, PrefixError, RoutingHandle};
    /// # fn example<S>(handle: RoutingHandle<S, (), ()>) -> Result<(), PrefixError>
    /// # where S: MountService<(), ()> {
    /// handle.update(|mounts| mounts.mount("https://api.example.com", Identity::new()))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mount<L>(self, prefix: impl Into<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.add(prefix.into(), None, layer)
    }

    /// Mounts a layer with a key, so that a later [`replace`](super::RoutingHandle::replace) can
    /// keep it.
    ///
    /// If the new table has the same prefix with the same key, the service of the mount stays, with
    /// its state: the permits of a concurrency limit, the budget of retries. A good key is what the
    /// layer is made from, such as the text of its configuration.
    /// [`replace`](super::RoutingHandle::replace) has an example.
    ///
    /// ```
    /// # use tower::limit::ConcurrencyLimitLayer;
    /// # use tower_outbound::routing::{MountService, PrefixError, RoutingHandle};
    /// # fn example<S>(handle: RoutingHandle<S, (), ()>) -> Result<(), PrefixError>
    /// # where S: MountService<(), ()> {
    /// let limit = ConcurrencyLimitLayer::new(10);
    /// handle.update(|mounts| mounts.mount_keyed("https://api.example.com", "10 permits", limit))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mount_keyed<L>(
        self,
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
        self.add(prefix.into(), Some(key.into()), layer)
    }

    fn add<L>(mut self, prefix: Arc<str>, key: Option<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        let make = Arc::new(move |below| Arc::new(layer.layer(below)) as Mounted<B, RB>);
        self.changes.push((prefix, Some(New { key, make })));
        self
    }

    /// Mounts a complete service, which does not use the service below. If something is mounted at
    /// the prefix already, it is replaced.
    ///
    /// ```
    /// # use tower_outbound::routing::{MountService, PrefixError, RoutingHandle};
    /// # fn example<S, M>(handle: RoutingHandle<S, (), ()>, legacy: M) -> Result<(), PrefixError>
    /// # where S: Clone, M: MountService<(), ()> {
    /// handle.update(|mounts| mounts.mount_service("https://legacy.example", legacy))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        let service: Mounted<B, RB> = Arc::new(service);
        let make = Arc::new(move |_| Arc::clone(&service));
        self.changes.push((prefix.into(), Some(New { key: None, make })));
        self
    }

    /// Removes what is mounted at a prefix, whatever the spelling of the prefix. If nothing is
    /// mounted there, nothing happens.
    ///
    /// ```
    /// # use tower_outbound::routing::{PrefixError, RoutingHandle};
    /// # fn example<S: Clone>(handle: RoutingHandle<S, (), ()>) -> Result<(), PrefixError> {
    /// // As it was mounted, or as "https://old.example".
    /// handle.update(|mounts| mounts.unmount("HTTPS://old.example:*/"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn unmount(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.changes.push((prefix.into(), None));
        self
    }

    pub(super) const fn len(&self) -> usize {
        self.changes.len()
    }

    /// Every change with its prefix parsed, or the error of the first wrong prefix.
    pub(super) fn parsed(self) -> Result<Vec<(Prefix, Change<S, B, RB>)>, PrefixError> {
        let parse = |change: Change<S, B, RB>| match Prefix::parse(&change.0) {
            Ok(prefix) => Ok((prefix, change)),
            Err(fault) => Err(PrefixError::new(&change.0, fault)),
        };
        self.changes.into_iter().map(parse).collect()
    }

    /// A whole table, and its mounts by their numbers. `None` if a mount was unmounted again.
    ///
    /// # Errors
    ///
    /// The error of the first wrong prefix.
    pub(super) fn table(self) -> Result<(Table, Vec<Option<Entry<S, B, RB>>>), PrefixError> {
        let changes = self.parsed()?;
        let (mut table, mut mounts) = (Table::default(), Vec::with_capacity(changes.len()));
        for (prefix, (text, new)) in changes {
            let number = match new {
                Some(_) => table.insert(&prefix, mounts.len() as u32),
                None => match table.remove(&prefix) {
                    Some(number) => number,
                    None => continue,
                },
            };
            let entry = new.map(|new| Entry { prefix, text, new });
            match mounts.get_mut(number as usize) {
                Some(place) => *place = entry,
                None => mounts.push(entry),
            }
        }
        Ok((table, mounts))
    }
}

impl<S, B, RB> fmt::Debug for MountChanges<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the prefixes: they are not parsed yet, and could contain a password.
        f.debug_struct("MountChanges").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}
