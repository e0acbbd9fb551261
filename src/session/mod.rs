//! One session for many processes: the cookies of a tenant are one jar, whichever replica serves
//! the request.

mod key;
mod store;

pub use self::{
    key::{SessionKey, StoreKey},
    store::{Applied, Contents, Event, Record, SessionStore, TOMBSTONES_KEPT, Version},
};
