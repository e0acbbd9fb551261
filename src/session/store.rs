//! What a store of sessions is: opaque bytes by key, each with a stamp, of which the greater wins.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_core::Stream;

use super::{SessionKey, StoreKey};

/// A boxed error, as tower has it.
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// One cookie, or the mark of a deleted one, as a store keeps it.
///
/// A store reads the stamp alone. The body is sealed, so a store can neither read a cookie nor give
/// it to another session.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// Which cookie it is. At most one record of a key has this field.
    pub field: Box<[u8]>,
    /// When it was set or deleted: microseconds since 1970 by the store's clock. The greater stamp
    /// wins.
    ///
    /// It is below 2^53, so that a store may keep it as a double. A pool refuses a key that has a
    /// greater one.
    pub stamp: u64,
    /// The sealed cookie. `None` for a deleted one: a tombstone, which keeps a write that comes
    /// late from bringing the cookie back.
    pub body: Option<Box<[u8]>>,
}

/// Shows sizes and the stamp: a field holds a cookie's name, a body may hold its value.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("field_len", &self.field.len())
            .field("stamp", &self.stamp)
            .field("body_len", &self.body.as_ref().map(|body| body.len()))
            .finish()
    }
}

/// Which state of a key it is. A store makes it, and it is compared only with those of the same
/// key.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Version(Arc<[u8]>);

impl Version {
    /// The version that a store writes as these bytes. No bytes: the key has never been written.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes that a store made it from.
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

/// All that a store has of one key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Contents {
    /// Which state it is.
    pub version: Version,
    /// Cookies and tombstones, in any order.
    pub records: Vec<Record>,
}

/// What an [`apply`](SessionStore::apply) has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The key was as the caller knew it. It now has this version.
    Clean(Version),
    /// Others had changed the key meanwhile. This is all of it, with the records just applied.
    Merged(Contents),
}

/// What happened to a store that its caller has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Another process has changed this key, or the store has dropped it.
    Changed(StoreKey),
    /// Any key may have changed.
    AllChanged,
    /// The connection is lost. Until [`Back`](Self::Back) no change is told.
    Lost,
    /// The store answers, for the first time or again. What changed before was not told.
    Back {
        /// Whether it is the server that answered before. If it is not, it may lack the last
        /// writes. `true` the first time.
        same_server: bool,
        /// How far the store's clock is ahead of this process's, in microseconds. Negative if it
        /// is behind.
        offset: i64,
    },
}

/// Where sessions are kept, for all processes that share them.
///
/// It sees opaque bytes. Cloning is not needed: a pool shares its store.
pub trait SessionStore: Send + Sync + 'static {
    /// What can go wrong. It must hold no secret, since it is shown.
    type Error: Into<BoxError> + Send;

    /// All that is stored of a key. A key that was never written has no records and the default
    /// version.
    fn load(&self, key: &StoreKey) -> impl Future<Output = Result<Contents, Self::Error>> + Send;

    /// Stores each record whose stamp is greater than that of the stored record with the same
    /// field. One of an equal or smaller stamp changes nothing.
    ///
    /// It is one atomic step for the key. To apply the same records twice is to apply them once,
    /// and the order of two calls does not matter. `known` is the version that the caller has; it
    /// decides nothing but the answer. The version changes with each call that stores a record.
    ///
    /// A store keeps the key for at least `ttl` after the last call. It keeps a tombstone for at
    /// least [`TOMBSTONES_KEPT`] after its stamp, and may then remove it.
    fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> impl Future<Output = Result<Applied, Self::Error>> + Send;

    /// The version of a key. Provided: loads it all.
    fn version(&self, key: &StoreKey) -> impl Future<Output = Result<Version, Self::Error>> + Send {
        async { Ok(self.load(key).await?.version) }
    }

    /// Removes all that is stored of a session, every site.
    fn forget(&self, tenant: &SessionKey) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// What happens to the store from now on. One caller listens at a time. It ends if the store
    /// has nothing more to tell, and a pool then asks for the version at each request.
    fn events(&self) -> impl Stream<Item = Event> + Send;
}

/// How long a store keeps the mark of a deleted cookie at least: a day.
///
/// No replica may hold a cookie, or a write that waits, for longer than this without looking.
pub const TOMBSTONES_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// A store that a pool shares with its owner, who asks it too.
///
/// Two pools must not share one: it tells neither what the other has changed, and only one of them
/// hears its [events](SessionStore::events). Their sessions would be stale.
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
