//! One session for many processes: the cookies of a tenant are one jar, whichever replica serves
//! the request.
//!
//! A proxy fleet, a gateway or a crawler serves one tenant from several processes. A login on one
//! of them must hold on all, a logout must not come back, and no tenant may see another's cookies.
//!
//! ```text
//!   FollowRedirectLayer           with RedirectPolicy, which keeps the SessionKey
//!   RoutingLayer > RetryLayer
//!   SessionLayer                  loads the session's jar, writes what the response changed
//!   CookieLayer::per_request()    sends and stores cookies, as with any jar
//!   hyper client
//! ```
//!
//! [`SessionLayer`] takes the request's [`SessionKey`] and gives it the jar of that session from a
//! [`SessionPool`]. If the pool has it in memory and up to date, nothing is awaited. Else it is
//! loaded from a [`SessionStore`]. What the response changes is written before the response is
//! returned. `CookieLayer` and its jar know nothing of this.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use http::{Request, Response, header::COOKIE};
//! use tower::{BoxError, ServiceBuilder, ServiceExt, service_fn};
//! use tower_outbound::{
//!     CookieLayer,
//!     session::{FileStore, SessionKey, SessionLayer, SessionPool},
//! };
//!
//! /// An upstream that logs everybody in, and says what it got.
//! async fn upstream(request: Request<()>) -> Result<Response<String>, Infallible> {
//!     let got = request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap()).to_owned();
//!     let mut response = Response::new(got);
//!     response.headers_mut().insert("set-cookie", "sid=42; Secure; Max-Age=3600".parse().unwrap());
//!     Ok(response)
//! }
//!
//! /// One replica serves one request of ann.
//! async fn replica(store: FileStore) -> Result<String, BoxError> {
//!     let (pool, driver) = SessionPool::builder(store).unsealed().build();
//!     tokio::spawn(driver);
//!     let client = ServiceBuilder::new()
//!         .layer(SessionLayer::new(pool))
//!         .layer(CookieLayer::per_request())
//!         .service(service_fn(upstream));
//!     let ann = SessionKey::new("ann".as_bytes());
//!     let request = Request::get("https://example.com/").extension(ann).body(())?;
//!     Ok(client.oneshot(request).await?.into_body())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path().join("sessions");
//! let store = FileStore::open(directory)?; // for several processes of one machine
//! assert_eq!(replica(store.clone()).await?, "");
//! assert_eq!(replica(store).await?, "sid=42");
//! # Ok(())
//! # }
//! ```
//!
//! # Which store
//!
//! | store | who shares it | what a request costs |
//! |---|---|---|
//! | [`MemoryStore`] | the pools of one process | |
//! | [`FileStore`] | the processes of one machine | a look at a small file; a change replaces it and waits for the disk |
//! | `RedisStore` (feature `redis`) | replicas anywhere | nothing while warm; a change is one command |
//! | your own [`SessionStore`] | | |
//!
//! Give each pool a store of its own: a clone, or for `RedisStore` one more connection. A store
//! does not tell of what it has changed itself, so two pools over one would not hear of each other.
//!
//! # Which cookies are one
//!
//! A key of the store is one site of one session: all cookies of a registrable domain, which are
//! what one request can send. Each cookie in it is a record of its own, with a stamp: the time of
//! its last change, in microseconds by the store's clock. The greater stamp wins, on every replica
//! and in the store, so the order in which writes arrive does not matter. A deletion is a record
//! too, for a day, so that a late write does not bring the cookie back.
//!
//! The jar of a session has the cookies of one site. A redirect that is followed below the layer
//! and ends at another site sets cookies there: they are written under their own site.
//!
//! # Settings
//!
//! | setting | default | what it costs and risks |
//! |---|---|---|
//! | [`max_sessions`](SessionPoolBuilder::max_sessions) | 10,000 | memory; below the sessions in use, a load for each request |
//! | [`idle`](SessionPoolBuilder::idle) | 1 h | memory |
//! | [`deadline`](SessionPoolBuilder::deadline) | 250 ms | how long a slow store holds a request up; below the store's own jitter, requests are refused |
//! | [`on_outage`](SessionPoolBuilder::on_outage) | `Refuse` | `LastKnown` serves while the store is down, perhaps with a session that has logged out elsewhere |
//! | [`consistency`](SessionPoolBuilder::consistency) | `Cached` | `Validated` costs a command a request |
//! | [`write`](SessionPoolBuilder::write) | `Through` | `Behind` answers sooner, and loses with the process what is not written; others see it late, and a [`SessionVersion`] cannot help |
//! | [`refresh`](SessionPoolBuilder::refresh) | 5 s | another replica may take a cookie for expired so much too early |
//! | [`replay`](SessionPoolBuilder::replay) | 30 s | memory of what was written in that time; below the fail-over of the store, the last writes are lost |
//! | [`session_cookies`](SessionPoolBuilder::session_cookies) | 30 days | how long a session without expiries is kept after its last change |
//! | [`seal`](SessionPoolBuilder::seal) or [`unsealed`](SessionPoolBuilder::unsealed) | | about 9,500 instructions to seal or open a cookie; without it the owner of the store owns the sessions |
//!
//! # Cached, validated, or a version
//!
//! With [`Consistency::Cached`] another replica's change is seen as soon as the store has told it:
//! some milliseconds. That is enough if a tenant's requests do not change replicas within them, or
//! if a request with the cookie of a moment ago does no harm.
//!
//! If a caller must see what its own last response has set, hand the response's [`SessionVersion`]
//! back with its next request. Only a request that comes to a replica which is behind costs a
//! command.
//!
//! If every request must see every change, use [`Consistency::Validated`]. That still does not make
//! a token that can be spent once safe: two replicas may read it before either has spent it. Hold a
//! [lease](SessionPool::lease) from before the request until its response.
//!
//! # When the store fails
//!
//! | fault | behaviour |
//! |---|---|
//! | it is slow or down, and the session must be loaded | [`SessionError::Unavailable`]; nothing is sent. Never an empty jar: the upstream would start a new session over the tenant's |
//! | the same with [`OnOutage::LastKnown`] | what was loaded serves; what never was is refused |
//! | it is slow or down, and a change must be written | the response goes on; the change keeps its stamp and is written later, for up to 23 hours |
//! | it comes back as another server | what was written within `replay` is written again |
//! | a request is dropped while its change is written | the change was queued before, and the driver writes it |
//! | something in it cannot be read | [`SessionError::Unreadable`]; nothing is sent |
//!
//! # What a site can fill
//!
//! A jar holds at most [`per_domain`](crate::cookie::CookieLimits::per_domain) cookies of a site.
//! What it evicts stays in the store, since the eviction is one replica's. The store gets at most
//! twice as many cookies of a site, above which the next write deletes the expired ones, then the
//! oldest; and at most six times as many with deletions, above which a cookie that the store does
//! not have is not written, and counted in [`SessionStats::dropped`]. A site fills its own key
//! alone.
//!
//! # Running Redis or Valkey for it
//!
//! Set `maxmemory-policy noeviction`: an evicted key is a logout. Switch the append-only file on
//! (`appendonly yes`): with `appendfsync everysec` a crash loses a second at most, which `replay`
//! covers. Sessions are short: a thousand tenants with four cookies each take about two megabytes.
//! A replica reads a session once and is told of changes, so commands are about as many as changes.
//!
//! A key is tracked by each replica that has it loaded, and each change of it is told to all of
//! them. Send a tenant to a few replicas, by a hash of its key say, rather than to a thousand: with
//! a thousand trackers a key takes about 150 changes a second.
//!
//! # Rotating keys
//!
//! Each body begins with the number of its key. Give all replicas the new key as one that opens,
//! then make it the first, then drop the old one once no session is older:
//! `SessionSeal::new(2, &new).also_open(1, &old)`. A replica that lacks a key answers
//! [`SessionError::Unreadable`], and nothing is lost. If a key is lost,
//! [forget](SessionPool::forget) the sessions that it sealed.
//!
//! # What is not promised
//!
//! - Two responses of one moment that set one cookie on two replicas: the later one holds, by
//!   clocks that agree to a few milliseconds.
//! - The cookie of a response whose write the store has not confirmed, if the process dies before
//!   it is tried again.
//! - What a store loses for good beyond `replay`.
//! - A lease, across the loss of a store's last writes; and that its [fence](Lease::fence) grows,
//!   once nobody has held it for a day.
//! - Names: the store sees the names of sessions, sites and cookies, and when they changed. Only
//!   values and attributes are sealed.
//! - That the owner of the store cannot delete, or put back an older state of a cookie or of a
//!   whole session.
//! - Eviction and last use: each replica has its own.

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
