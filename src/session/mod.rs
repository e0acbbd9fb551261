//! Sessions shared by many processes: a tenant has one jar for each site, and all replicas see the
//! same cookies in it.
//!
//! ```text
//!            request                                       response
//!              | SessionKey (extension)                       ^ SessionVersion (extension)
//!    +---------v----------------------------------------------|----------+
//!    |                          SessionLayer                  |          |
//!    |  finds the           <----  SessionPool  <----  writes what       |
//!    |  session's jar               ^    |             the response set  |
//!    +---------|--------------------|----|--------------------^----------+
//!              |               load |    | apply              |
//!              |                 SessionStore                 |
//!              | CookieJar       (files, Redis,               |
//!              | (extension)      memory, your own)           |
//!    +---------v----------------------------------------------|----------+
//!    |                   CookieLayer::per_request()           |          |
//!    +---------|----------------------------------------------^----------+
//!              v                                              |
//!            Cookie: id=42                                Set-Cookie: id=43; Secure
//!                       inner service, such as a hyper client
//! ```
//!
//! A proxy fleet, a gateway or a crawler serves one tenant from several processes. A login on one
//! process must hold on all. A late write must not undo a logout. No tenant may see another's
//! cookies.
//!
//! A tenant is named by a [`SessionKey`]; its cookies are the session.
//!
//! The whole stack, from the outside:
//!
//! ```text
//!   FollowRedirectLayer           with RedirectPolicy, which keeps the SessionKey
//!   RoutingLayer > RetryLayer
//!   SessionLayer                  loads the session's jar, writes what the response changed
//!   CookieLayer::per_request()    sends and stores cookies, as with any jar
//!   hyper client
//! ```
//!
//! [`SessionLayer`] reads the request's session key and site, and gets their jar from a
//! [`SessionPool`]. If the session is in memory and up to date, nothing is awaited. Otherwise it is
//! loaded from a [`SessionStore`]. With [`Write::Through`], the default, what the response changes
//! is written before the response is returned, if the store answers within the deadline.
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
//!     let sid = "sid=42; Secure; Max-Age=3600".parse().unwrap();
//!     response.headers_mut().insert("set-cookie", sid);
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
//! | [`MemoryStore`] | the pools of one process | nothing |
//! | [`FileStore`] | the processes of one machine | reading a small file; a change replaces a file and waits for the disk |
//! | `RedisStore` (feature `redis`) | replicas on any machine | nothing if the session is in memory; a change is one command |
//! | your own [`SessionStore`] | | |
//!
//! Give each pool its own store: a clone of [`MemoryStore`] or [`FileStore`]. `RedisStore` is not
//! `Clone`, so connect again. A store does not report its own changes, so two pools with one store
//! would not learn of each other's changes.
//!
//! # What is stored together
//!
//! A store key ([`StoreKey`]) names one site of one session: all cookies of a registrable domain,
//! which are all that one request can send. Each cookie is a record with a field, which names the
//! cookie, and a stamp: the time of its last change, in microseconds by the store's clock. Each
//! replica estimates that clock. The greater stamp wins, in every replica and in the store. So the
//! order in which writes arrive does not matter. A deletion is a record too, a tombstone. It is
//! kept for at least a day, so that a late write does not bring the cookie back.
//!
//! A jar has the cookies of one site of a session. If a redirect is followed inside the layer and
//! ends at another site, the cookies of that site are written under that site.
//!
//! # Settings
//!
//! | setting | default | cost and risk |
//! |---|---|---|
//! | [`max_sessions`](SessionPoolBuilder::max_sessions) | 10,000 | memory; if it is smaller than the number of sessions in use, each request loads its session again |
//! | [`idle`](SessionPoolBuilder::idle) | 1 h | memory |
//! | [`deadline`](SessionPoolBuilder::deadline) | 250 ms | how long a slow store delays a request; if it is shorter than the store's jitter, requests fail |
//! | [`on_outage`](SessionPoolBuilder::on_outage) | `Refuse` | `LastKnown` serves while the store is down, perhaps with a session that was logged out elsewhere |
//! | [`consistency`](SessionPoolBuilder::consistency) | `Cached` | `Validated` costs one command per request |
//! | [`write`](SessionPoolBuilder::write) | `Through` | `Behind` answers sooner; unwritten changes are lost with the process, others see changes late, and a [`SessionVersion`] does not help |
//! | [`refresh`](SessionPoolBuilder::refresh) | 5 s | another replica may see a cookie expire up to this much too early |
//! | [`replay`](SessionPoolBuilder::replay) | 30 s | memory for the changes of that time; if it is shorter than the store's fail-over, the last writes are lost |
//! | [`session_cookies`](SessionPoolBuilder::session_cookies) | 30 days | how long the store keeps a session that has cookies without an expiry, counted from its last change |
//! | [`seal`](SessionPoolBuilder::seal) or [`unsealed`](SessionPoolBuilder::unsealed) | none | sealed: about 9,500 instructions to seal or open a cookie; unsealed: the owner of the store can use the sessions |
//!
//! # Cached, validated, or a version
//!
//! With [`Consistency::Cached`] a replica sees another one's change when the store has reported it:
//! after some milliseconds. That is enough if a tenant's requests do not switch replicas within
//! that time, or if a request with a slightly older cookie does no harm.
//!
//! If a caller must see what its own last response has set, pass the [`SessionVersion`] of that
//! response to its next request. A request then costs a command only if its replica is behind.
//!
//! If every request must see every change, use [`Consistency::Validated`]. That is still not enough
//! for a token that may be spent once: two replicas may read it before either has spent it. Take a
//! [lease](SessionPool::lease) before the request, and release it after the response.
//!
//! # When the store fails
//!
//! | fault | behaviour |
//! |---|---|
//! | the store is slow or down, and the session must be loaded or checked | [`SessionError::Unavailable`]; nothing is sent. An empty jar is never used instead: the upstream would start a new session in place of the tenant's |
//! | the same with [`OnOutage::LastKnown`] | a loaded session is used; one that was never loaded is refused |
//! | the store is slow or down, and a change must be written | the response is returned; the change keeps its stamp and is written later, for up to 23 hours |
//! | the store comes back as another server | what was written within `replay` is written again |
//! | a request is dropped while its change is written | the change was queued before, and the driver writes it |
//! | a record in the store cannot be read | [`SessionError::Unreadable`]; nothing is sent |
//!
//! Retries outside the layer repeat a GET that is refused, unless their policy is [told not
//! to](SessionLayer#inside-retries).
//!
//! # What a site can fill
//!
//! A jar holds at most [`per_domain`](crate::cookie::CookieLimits::per_domain) cookies of a site.
//! Cookies that it evicts stay in the store, since the eviction concerns one replica.
//!
//! The store gets at most twice as many cookies of a site. Above that, the next write deletes
//! expired cookies first, then non-`Secure`, then `Secure`; the oldest first within each group.
//! With deletions, the store gets at most six times as many records. Above that, a cookie that the
//! store does not have is not written, and is counted in [`SessionStats::dropped`].
//!
//! A site fills only its own store key.
//!
//! # Running Redis or Valkey
//!
//! Set `maxmemory-policy noeviction`: an evicted Redis key is a logout. Enable the append-only file
//! (`appendonly yes`). With `appendfsync everysec` a crash loses at most the last second, which
//! `replay` covers. Sessions are small: a thousand tenants with four cookies each take about two
//! megabytes. A replica reads a session once and is told of changes, so there are about as many
//! commands as changes.
//!
//! The server remembers each replica that has loaded a Redis key, and reports each change of the
//! key to all of them. Send a tenant to a few replicas, for example by a hash of its session key.
//! If a thousand replicas have loaded a Redis key, it takes about 150 changes a second.
//!
//! # Rotating seal keys
//!
//! Each sealed cookie begins with the number of its seal key. To rotate, give all replicas the new
//! key as one that opens. Then make it the first key. Drop the old key when no session is older:
//! `SessionSeal::new(2, &new).also_open(1, &old)`.
//!
//! A replica that lacks a seal key fails with [`SessionError::Unreadable`], and nothing is lost. If
//! a seal key is lost, [forget](SessionPool::forget) the sessions that it sealed.
//!
//! # What is not guaranteed
//!
//! - Order within milliseconds: if two replicas set one cookie within a few milliseconds, the order
//!   of the two changes is not certain, because each replica only estimates the store's clock.
//! - Unconfirmed writes: a change may be lost if the process dies before the store confirms it.
//! - Writes that the store loses, if they are older than `replay`.
//! - A lease, if the store loses its last writes. Its [fence](Lease::fence) starts again after
//!   nobody has held it for a day.
//! - Names: the store sees the names of sessions and sites, the names, domains and paths of
//!   cookies, and when they changed. If the pool has a seal, the rest is encrypted.
//! - Deletion and replay: the owner of the store can delete a cookie or session, or put back an
//!   older state.
//! - Eviction and times of last use: each replica has its own.

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
