use std::{fmt, sync::Arc};

use tower_layer::Layer;

use super::{
    fault::PrefixError,
    mount_service::{MountService, Mounted},
    prefix::Prefix,
};

/// Mounts to add to a table and to take out of it, as
/// [`RoutingHandle::update`](super::RoutingHandle::update) lends them.
///
/// They take effect in the order of the calls.
#[must_use]
pub struct MountChanges<S, B, RB> {
    changes: Vec<Change<S, B, RB>>,
}

/// A prefix as it was written, and what is to be mounted there; `None` unmounts.
type Change<S, B, RB> = (Arc<str>, Option<Make<S, B, RB>>);
pub(super) type Make<S, B, RB> = Arc<dyn Fn(S) -> Mounted<B, RB> + Send + Sync>;

impl<S, B, RB> MountChanges<S, B, RB> {
    pub(super) const fn new() -> Self {
        Self { changes: Vec::new() }
    }

    /// Mounts a layer around the service below. The same prefix again replaces what was mounted
    /// there.
    pub fn mount<L>(mut self, prefix: impl Into<Arc<str>>, layer: L) -> Self
    where
        L: Layer<S> + Send + Sync + 'static,
        L::Service: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        self.changes
            .push((prefix.into(), Some(Arc::new(move |inner| Arc::new(layer.layer(inner))))));
        self
    }

    /// Mounts a complete service, which does not use the service below.
    pub fn mount_service<M>(mut self, prefix: impl Into<Arc<str>>, service: M) -> Self
    where
        M: MountService<B, RB>,
        B: Send + 'static,
        RB: 'static,
    {
        let service: Mounted<B, RB> = Arc::new(service);
        self.changes.push((prefix.into(), Some(Arc::new(move |_| Arc::clone(&service)))));
        self
    }

    /// Takes out what is mounted at a prefix, however the prefix is spelt. If nothing is mounted
    /// there, nothing happens.
    pub fn unmount(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.changes.push((prefix.into(), None));
        self
    }

    pub(super) const fn len(&self) -> usize {
        self.changes.len()
    }

    /// Every change with its prefix parsed, or the error of the first prefix that is wrong.
    pub(super) fn parsed(self) -> Result<Vec<(Prefix, Change<S, B, RB>)>, PrefixError> {
        let parse = |change: Change<S, B, RB>| match Prefix::parse(&change.0) {
            Ok(prefix) => Ok((prefix, change)),
            Err(fault) => Err(PrefixError::new(&change.0, fault)),
        };
        self.changes.into_iter().map(parse).collect()
    }
}

impl<S, B, RB> fmt::Debug for MountChanges<S, B, RB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the prefixes: these are not parsed yet, and could hold a password.
        f.debug_struct("MountChanges").field("changes", &self.changes.len()).finish_non_exhaustive()
    }
}
