//! `RedisStore`: sessions on a server that all replicas share.

mod address;
mod config;
mod error;
mod events;
mod fault;
mod name;
mod node;
mod nodes;
mod record;
mod script;
mod stream;
mod watch;

use std::{fmt, time::Duration};

use futures_core::Stream;

pub use self::{config::RedisConfig, error::RedisError};
use self::{events::Events, nodes::Nodes, record::Outcome};
use super::{Applied, Contents, Event, Record, SessionKey, SessionStore, StoreKey, Version};

/// Sessions on Redis or Valkey, shared by replicas on any machine.
///
/// The cookies of one site in one session are a hash, `to1:{TENANT}:SITE`. A change is one script:
/// one round trip, one atomic step. A set `to1:{TENANT}` lists the session's sites. The braces keep
/// a session on one node of a cluster.
///
/// If a server does not know the script, has become a replica, or has given the session to another
/// node, the request is sent again to the right place, for up to [`RedisConfig::timeout`].
///
/// While a pool's driver runs, it listens to the [events](SessionStore::events): the server reports
/// changes by other replicas, a lost connection is made again, and the server is pinged. Without
/// the driver, requests still connect and work. Each connection has a tokio task that moves its
/// bytes, so the store must be used in a tokio runtime.
///
/// It needs Redis 6 or newer, or Valkey, and these commands: `HELLO`, `SELECT`, `ROLE`, `INFO`,
/// `TIME`, `CLIENT TRACKING`, `HGETALL`, `HGET`, `EVALSHA`, `SCRIPT LOAD`; in a cluster `ASKING`;
/// and in scripts `HSET`, `HDEL`, `PEXPIRE`, `PTTL`, `EXISTS`, `DEL`, `SADD`, `SREM`, `SCARD`,
/// `SISMEMBER` and `SMEMBERS`. Its Redis keys begin with `to1:`. Set `maxmemory-policy noeviction`:
/// an evicted Redis key is a session that is logged out. With `appendonly yes` a restart keeps the
/// sessions.
///
/// It is not `Clone`: each pool needs its own connection, over which the server reports what the
/// other pools change.
///
/// ```no_run
/// # async fn sessions() -> Result<(), tower_outbound::session::RedisError> {
/// use tower_outbound::session::{RedisConfig, RedisStore};
///
/// let store = RedisStore::connect(RedisConfig::new("redis://127.0.0.1/")?).await?;
/// # Ok(())
/// # }
/// ```
pub struct RedisStore {
    nodes: Nodes,
}

impl RedisStore {
    /// Creates a store that connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if the certificates cannot be used.
    pub fn new(config: RedisConfig) -> Result<Self, RedisError> {
        Ok(Self { nodes: Nodes::new(config)? })
    }

    /// Creates a store and connects, so that a wrong configuration shows at the start.
    ///
    /// # Errors
    ///
    /// Any [`RedisError`] except [`RedisError::TooManySites`]. There is one attempt, for at most
    /// [`RedisConfig::timeout`].
    pub async fn connect(config: RedisConfig) -> Result<Self, RedisError> {
        let store = Self::new(config)?;
        store.nodes.keep_home().await?;
        Ok(store)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("config", &self.nodes.config).finish_non_exhaustive()
    }
}

impl SessionStore for RedisStore {
    type Error = RedisError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, RedisError> {
        let (answer, node) = self.nodes.ask(&script::load(key)).await?;
        record::contents(answer).ok_or_else(|| node.garbage("a session's cookies"))
    }

    /// The server may make the change even if the future is dropped.
    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, RedisError> {
        let max_sites = self.nodes.config.max_sites;
        let request = script::apply(key, known, records, ttl, max_sites);
        let (answer, node) = self.nodes.ask(&request).await?;
        match record::outcome(answer) {
            Some(Outcome::Applied(applied)) => Ok(applied),
            Some(Outcome::TooManySites) => Err(RedisError::TooManySites { max_sites }),
            Some(Outcome::Garbage) | None => Err(node.garbage("a session's cookies")),
        }
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, RedisError> {
        let (answer, node) = self.nodes.ask(&script::version(key)).await?;
        record::version(answer).ok_or_else(|| node.garbage("a session's version"))
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), RedisError> {
        self.nodes.ask(&script::forget(tenant)).await?;
        Ok(())
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        Events::new(&self.nodes)
    }
}
