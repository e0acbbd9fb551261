//! The table with its mounted services. All clones of a service share one, and it is replaced as a
//! whole.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use http::{Method, Request, Uri};

use super::{
    event,
    mount_service::Mounted,
    prefix::Prefix,
    table::Table,
    target::{Strictness, Target, UriError},
};

pub(super) struct Shared<B, RB> {
    settings: Settings,
    routes: ArcSwap<Routes<B, RB>>,
    /// Held while a table is read and replaced, so that no update is lost. Never held while foreign
    /// code runs, since that could update the table.
    updating: Mutex<()>,
}

/// The settings of a layer's builder, without the mounts.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// No fallback.
    pub(super) strict: bool,
    /// Errors of mounts name the mount.
    pub(super) mount_errors: bool,
    pub(super) strictness: Strictness,
    pub(super) default_origin: Option<Uri>,
}

pub(super) struct Routes<B, RB> {
    table: Arc<Table>,
    /// The mounts, by their numbers in the table. `None` if a mount was removed; the next new mount
    /// gets its number.
    mounts: Vec<Option<Slot<B, RB>>>,
}

/// A mount in the table.
pub(super) struct Slot<B, RB> {
    pub(super) route: Route<B, RB>,
    /// Not in the route, which is cloned for each request.
    pub(super) key: Option<Arc<str>>,
}

/// A prefix as it was written, and what serves it.
pub(super) struct Route<B, RB> {
    pub(super) prefix: Arc<str>,
    pub(super) service: Mounted<B, RB>,
}

impl Settings {
    pub(super) const fn new() -> Self {
        let strictness = Strictness { dot_segments: false, encoded_slashes: false };
        Self { strict: false, mount_errors: false, strictness, default_origin: None }
    }

    /// The whole look-up: the number of the mount for a request.
    ///
    /// Separate from [`Shared::find`], since nothing in it depends on the types of a service. So it
    /// is compiled once, with this crate, and not again for every stack.
    pub(super) fn find(
        &self,
        table: &Table,
        method: &Method,
        uri: &Uri,
    ) -> Result<Option<u32>, UriError> {
        let target = Target::of(method, uri, self.default_origin.as_ref())?;
        self.strictness.check(&target)?;
        table.find(&target)
    }

    /// The nearest mount of a request that no mount matches, if its host has mounts.
    #[cold]
    fn nearest(&self, table: &Table, method: &Method, uri: &Uri) -> Option<u32> {
        let target = Target::of(method, uri, self.default_origin.as_ref()).ok()?;
        table.nearest(&target)
    }
}

impl<B, RB> Clone for Slot<B, RB> {
    fn clone(&self) -> Self {
        Self { route: self.route.clone(), key: self.key.clone() }
    }
}

impl<B, RB> Clone for Route<B, RB> {
    fn clone(&self) -> Self {
        Self { prefix: Arc::clone(&self.prefix), service: Arc::clone(&self.service) }
    }
}

impl<B, RB> Shared<B, RB> {
    pub(super) fn new(
        table: Arc<Table>,
        mounts: impl Iterator<Item = Slot<B, RB>>,
        settings: Settings,
    ) -> Self {
        let routes = Routes::new(table, mounts.map(Some).collect());
        Self { settings, routes: ArcSwap::from_pointee(routes), updating: Mutex::new(()) }
    }

    pub(super) const fn is_strict(&self) -> bool {
        self.settings.strict
    }

    pub(super) const fn names_mounts_in_errors(&self) -> bool {
        self.settings.mount_errors
    }

    /// The present table. Holding it delays no update.
    pub(super) fn routes(&self) -> impl Deref<Target = Arc<Routes<B, RB>>> {
        self.routes.load()
    }

    /// The mount for a request.
    pub(super) fn find<'r>(
        &self,
        routes: &'r Routes<B, RB>,
        request: &Request<B>,
    ) -> Result<Option<&'r Route<B, RB>>, UriError> {
        let mount = self.settings.find(&routes.table, request.method(), request.uri())?;
        Ok(mount.and_then(|mount| routes.route(mount)))
    }

    /// The nearest mount of a request that no mount matches, for the error and the event. `None`
    /// without a look-up if the request is sent to the fallback and no one listens to events.
    pub(super) fn missed(&self, routes: &Routes<B, RB>, request: &Request<B>) -> Option<Arc<str>> {
        let is_asked = self.settings.strict || event::is_heard();
        if is_asked { self.nearest(routes, request) } else { None }
    }

    #[cold]
    fn nearest(&self, routes: &Routes<B, RB>, request: &Request<B>) -> Option<Arc<str>> {
        let mount = self.settings.nearest(&routes.table, request.method(), request.uri())?;
        let nearest = Arc::clone(&routes.route(mount)?.prefix);
        event::no_mount(request.uri(), &nearest);
        Some(nearest)
    }

    /// Makes the changes, all at once. `None` unmounts.
    pub(super) fn update(&self, changes: Vec<(Prefix, Option<Slot<B, RB>>)>) {
        let lock = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = self.routes.load_full();
        let (mut table, mut mounts) = (Table::clone(&routes.table), routes.mounts.clone());
        let mut free: Vec<_> =
            (0..mounts.len()).filter(|&number| mounts[number].is_none()).collect();
        for (prefix, slot) in changes {
            let Some(slot) = slot else {
                if let Some(number) = table.remove(&prefix) {
                    mounts[number as usize] = None;
                    free.push(number as usize);
                }
                continue;
            };
            let next = free.last().copied().unwrap_or(mounts.len());
            let number = table.insert(&prefix, next as u32) as usize;
            match mounts.get_mut(number) {
                Some(place) => *place = Some(slot),
                None => mounts.push(Some(slot)),
            }
            if free.last() == Some(&number) {
                free.pop();
            }
        }
        let replaced = self.routes.swap(Arc::new(Routes::new(Arc::new(table), mounts)));
        drop(lock);
        // Not under the lock: mounted services are dropped with it, and their code is foreign.
        drop((routes, replaced));
    }

    /// Replaces the table by the result of `make`.
    ///
    /// `make` runs foreign code, so the table is not locked meanwhile. If another update came
    /// first, `make` is called again, with the table of that update.
    pub(super) fn replace(&self, mut make: impl FnMut(&Routes<B, RB>) -> Routes<B, RB>) {
        loop {
            // Declared before the lock, so that mounted services are dropped after it is released:
            // their code is foreign.
            let present = self.routes.load_full();
            let made = Arc::new(make(&present));
            let _lock = self.updating.lock().unwrap_or_else(PoisonError::into_inner);
            if Arc::ptr_eq(&self.routes.load(), &present) {
                self.routes.store(made);
                return;
            }
        }
    }

    /// The prefixes as they were written.
    pub(super) fn prefixes(&self) -> Vec<Arc<str>> {
        let routes = self.routes.load();
        routes.mounts.iter().flatten().map(|slot| Arc::clone(&slot.route.prefix)).collect()
    }
}

impl<B, RB> Routes<B, RB> {
    pub(super) const fn new(table: Arc<Table>, mounts: Vec<Option<Slot<B, RB>>>) -> Self {
        Self { table, mounts }
    }

    fn route(&self, mount: u32) -> Option<&Route<B, RB>> {
        Some(&self.mounts.get(mount as usize)?.as_ref()?.route)
    }

    /// The service that is mounted at an equal prefix with an equal key.
    pub(super) fn kept(&self, prefix: &Prefix, key: &str) -> Option<Mounted<B, RB>> {
        let slot = self.mounts.get(self.table.number(prefix)? as usize)?.as_ref()?;
        (slot.key.as_deref() == Some(key)).then(|| Arc::clone(&slot.route.service))
    }
}
