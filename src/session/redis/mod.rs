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

/// Sessions on Redis or Valkey, for replicas on any machine.
///
/// The cookies of one site in one session are a hash, `to1:{TENANT}:SITE`, and a change is one
/// script: one round trip, one atomic step. A set `to1:{TENANT}` lists the session's sites. The
/// braces keep a session on one node of a cluster. A server that does not know the script, that
/// has become a replica, or that has given the session to another node is no error: the request
/// is sent again where it belongs, for as long as [`RedisConfig::timeout`].
///
/// The server tells of changes by other replicas while a pool's future, which listens to the
/// [events](SessionStore::events), runs. It also makes the connection anew and pings the server.
/// Without it requests still connect and work. A connection has one tokio task, which moves its
/// bytes and ends with it, so the store must be used in a tokio runtime.
///
/// It needs Redis 6 or newer, or Valkey, and these commands: `HELLO`, `SELECT`, `ROLE`, `INFO`,
/// `TIME`, `CLIENT TRACKING`, `HGETALL`, `HGET`, `EVALSHA`, `SCRIPT LOAD`; in a cluster `ASKING`;
/// and in scripts `HSET`, `HDEL`, `PEXPIRE`, `PTTL`, `EXISTS`, `DEL`, `SADD`, `SREM`, `SCARD`,
/// `SISMEMBER` and `SMEMBERS`. Its keys begin with `to1:`. Set `maxmemory-policy noeviction`: an
/// evicted key is a session that is logged out. With `appendonly yes` a restart keeps the sessions.
///
/// It has no `Clone`: each pool needs a connection of its own, which is told what the others
/// change.
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
    /// The store that this configuration names. It connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if the certificates cannot be used.
    pub fn new(config: RedisConfig) -> Result<Self, RedisError> {
        Ok(Self { nodes: Nodes::new(config)? })
    }

    /// As [`new`](Self::new), and connects: what is wrong with a server shows at the start.
    ///
    /// # Errors
    ///
    /// Any but [`RedisError::TooManySites`]. It is one attempt, for at most
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
