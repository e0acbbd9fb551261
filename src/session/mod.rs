//! One session for many processes: the cookies of a tenant are one jar, whichever replica serves
//! the request.

mod error;
mod file;
mod future;
mod key;
mod layer;
mod memory;
mod nonce;
mod pool;
mod record;
#[cfg(feature = "redis")]
mod redis;
mod seal;
mod service;
mod store;
mod version;

#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisError, RedisStore};
#[cfg(feature = "seal")]
pub use self::seal::SessionSeal;
pub use self::{
    error::SessionError,
    file::{FileStore, FileStoreError},
    future::ResponseFuture,
    key::{SessionKey, StoreKey},
    layer::SessionLayer,
    memory::MemoryStore,
    pool::{
        Consistency, Lease, OnOutage, Said, SessionPool, SessionPoolBuilder, SessionStats, Unsaid,
        Write,
    },
    seal::Seal,
    service::SessionService,
    store::{Applied, Contents, Event, Record, SessionStore, TOMBSTONES_KEPT, Version},
    version::SessionVersion,
};
