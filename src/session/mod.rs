//! One session for many processes: the cookies of a tenant are one jar, whichever replica serves
//! the request.

mod file;
mod key;
mod nonce;
#[cfg(feature = "redis")]
mod redis;
mod store;

#[cfg(feature = "redis")]
pub use self::redis::{RedisConfig, RedisError, RedisStore};
pub use self::{
    file::{FileStore, FileStoreError},
    key::{SessionKey, StoreKey},
    store::{Applied, Contents, Event, Record, SessionStore, TOMBSTONES_KEPT, Version},
};
