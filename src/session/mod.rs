//! One session for many processes: the cookies of a tenant are one jar, whichever replica serves
//! the request.

mod file;
mod key;
mod nonce;
mod store;

pub use self::{
    file::{FileStore, FileStoreError},
    key::{SessionKey, StoreKey},
    store::{Applied, Contents, Event, Record, SessionStore, TOMBSTONES_KEPT, Version},
};
