//! The trait of a session store: records by store key, each with a stamp. The greater stamp wins.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_core::Stream;

use super::{SessionKey, StoreKey};

/// A boxed error, as in tower.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One cookie, or the tombstone of a deleted one, as a store keeps it.
///
/// A store compares fields and stamps, and does not look into the body. If the pool has a
/// [seal](super::SessionPoolBuilder::seal), the body is encrypted, so the owner of the store can
/// neither read a cookie's value nor give the cookie to another session.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which cookie it is: its name, domain and path, never encrypted. A store key has at most one
    /// record with this field.
    pub field: Box<[u8]>,
    /// When the cookie was set or deleted, in microseconds since 1970 by the store's clock. The
    /// greater stamp wins.
    ///
    /// It is below 2^53, so a store may keep it as a double. A pool refuses a store key with a
    /// greater one.
    pub stamp: u64,
    /// The cookie, sealed if the pool has a seal. `None` for a tombstone, which keeps a late write
    /// from bringing a deleted cookie back.
    pub body: Option<Box<[u8]>>,
}

/// Shows sizes and the stamp: a field holds a cookie's name, and a body may hold its value.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("field_len", &self.field.len())
            .field("stamp", &self.stamp)
            .field("body_len", &self.body.as_ref().map(|body| body.len()))
            .finish()
    }
}

/// Identifies one state of a store key. The store chooses it. It is compared only with versions of
/// the same key.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Version(Arc<[u8]>);

impl Version {
    /// Creates a version from a store's bytes. No bytes mean that the key was never written.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes of the version.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version(\"{}\")", self.0.escape_ascii())
    }
}

/// Everything that is stored under one store key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Contents {
    /// The state of the key.
    pub version: Version,
    /// Cookies and tombstones, in any order.
    pub records: Vec<Record>,
}

/// What an [`apply`](SessionStore::apply) found in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The key was in the state that the caller knew. It now has this version.
    Clean(Version),
    /// Others had changed the key. These are its contents, including the records just applied.
    Merged(Contents),
}

/// What a store reports to its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another process has changed this key, or the store has dropped it.
    Changed(StoreKey),
    /// Any key may have changed.
    AllChanged,
    /// The connection is lost. No change is reported until [`Back`](Self::Back).
    Lost,
    /// The store is connected, for the first time or again. Earlier changes were not reported.
    Back {
        /// Whether it is the same server as before. If false, it may lack the last writes. True for
        /// the first connection.
        same_server: bool,
        /// How far the store's clock is ahead of this process's clock, in microseconds. Negative if
        /// it is behind.
        offset: i64,
    },
}

/// Keeps sessions for all processes that share them.
///
/// Under each [`StoreKey`] it keeps [`Record`]s. A record has a field, which names a cookie, a
/// stamp, the time of the cookie's last change, and a body, the cookie itself. The store sees the
/// names of sessions and sites, and the field. With a seal, the body is encrypted.
///
/// It need not be `Clone`: a pool shares its store.
pub trait SessionStore: Send + Sync + 'static {
    /// The error of the store. It is shown, so it must not hold secrets.
    type Error: Into<BoxError> + Send;

    /// Loads everything that is stored under a key. A key that was never written has no records and
    /// the default version.
    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Contents, Self::Error>> + Send;

    /// Stores each record whose field has no stored record, or one with a smaller stamp. A record
    /// with an equal or smaller stamp than the stored one changes nothing.
    ///
    /// The call is one atomic step for the key. Applying the same records twice has the effect of
    /// applying them once, and the order of two calls does not matter. `known` is the version that
    /// the caller has. It only decides which [`Applied`] is returned. The version changes with each
    /// call that stores a record.
    ///
    /// After each call of `apply`, the store keeps the key for at least `ttl`. It keeps a tombstone
    /// for at least [`TOMBSTONES_KEPT`] after its stamp, and may then remove it.
    fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> impl Future<Output = Result<Applied, Self::Error>> + Send;

    /// Loads only the version of a key. Default: loads the whole key.
    fn version(&self, key: &StoreKey) -> impl Future<Output = Result<Version, Self::Error>> + Send {
        async { Ok(self.load(key).await?.version) }
    }

    /// Removes everything that is stored of a session, for all sites.
    fn forget(&self, tenant: &SessionKey) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Reports what happens to the store from now on: changes by others, and a lost or new
    /// connection. One caller listens at a time. A store without events returns an empty stream: if
    /// the stream ends, a pool asks for the version at each request.
    fn events(&self) -> impl Stream<Item = Event> + Send;
}

/// Shortest time for which a store keeps the tombstone of a deleted cookie: a day.
///
/// No replica may keep a cookie, or an unwritten change, for longer than this without asking the
/// store.
pub const TOMBSTONES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A store that its owner can still use while a pool uses it.
///
/// Two pools must not share one store: it does not report to one pool what the other has changed,
/// and only one pool receives its [events](SessionStore::events). Their sessions would be outdated.
impl<S: SessionStore> SessionStore for Arc<S> {
    type Error = S::Error;

    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Contents, Self::Error>> + Send {
        S::load(self, key)
    }

    fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> impl Future<Output = Result<Applied, Self::Error>> + Send {
        S::apply(self, key, known, records, ttl)
    }

    fn version(&self, key: &StoreKey) -> impl Future<Output = Result<Version, Self::Error>> + Send {
        S::version(self, key)
    }

    fn forget(&self, tenant: &SessionKey) -> impl Future<Output = Result<(), Self::Error>> + Send {
        S::forget(self, tenant)
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        S::events(self)
    }
}
