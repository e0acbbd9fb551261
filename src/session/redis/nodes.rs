//! Chooses the server to ask: the connections of a store, and what is tried when one fails.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::Value;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;

use super::{
    address::Address,
    config::RedisConfig,
    error::RedisError,
    fault::{Next, next, tell},
    node::{Node, ask_sentinel},
    script::Request,
    stream,
    watch::Watch,
};

/// Pause between two failing attempts. A primary is promoted within seconds, and callers that wait
/// for it must not flood a server.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// All connections of a store. If one is lost, all are given up: it is not known what others
/// changed meanwhile.
pub(super) struct Nodes {
    pub(super) config: RedisConfig,
    tls: Option<TlsConnector>,
    pub(super) watch: Arc<Watch>,
    connections: Mutex<Connections>,
    /// Held by the request that connects. Holds the time of the last failed attempt.
    connecting: tokio::sync::Mutex<Option<Instant>>,
}

/// The connections of one epoch of the watch.
#[derive(Default)]
struct Connections {
    epoch: u64,
    /// The configured server, or the first node of a cluster that answered.
    home: Option<Arc<Node>>,
    others: HashMap<Address, Arc<Node>>,
    /// Slots that are on other nodes, as nodes have reported.
    slots: HashMap<u16, Address>,
}

impl Nodes {
    pub(super) fn new(config: RedisConfig) -> Result<Self, RedisError> {
        let secure = |address: &Address| matches!(address, Address::Tcp { tls: true, .. });
        let tls = if config.addresses.iter().any(secure) {
            Some(stream::tls(config.ca_certificates.as_deref())?)
        } else {
            None
        };
        Ok(Self {
            config,
            tls,
            watch: Arc::default(),
            connections: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Asks the node that has the session, for up to the configured time.
    pub(super) async fn ask(&self, request: &Request) -> Result<(Value, Arc<Node>), RedisError> {
        let mut last = None;
        let waited = self.config.timeout;
        match timeout(waited, self.ask_until_answered(request, &mut last)).await {
            Ok(answer) => answer,
            Err(_) => Err(last.unwrap_or(RedisError::Timeout { waited })),
        }
    }

    /// `last`: why there is no answer yet.
    async fn ask_until_answered(
        &self,
        request: &Request,
        last: &mut Option<RedisError>,
    ) -> Result<(Value, Arc<Node>), RedisError> {
        // The node to ask this one time.
        let mut asking = None;
        let mut is_loaded = false;
        loop {
            let node = match &asking {
                Some(address) => self.at(address).await,
                None => self.of_slot(request.slot).await,
            };
            let node = match node {
                Ok(node) => node,
                Err(error) if error.may_pass() => {
                    (*last, asking) = (Some(error), None);
                    sleep(PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let answer = match asking.take() {
                Some(_) => node.send_asking(request).await,
                None => node.send(&request.command).await,
            };
            let error = match answer {
                Ok(answer) => return Ok((answer, node)),
                Err(error) => error,
            };
            match (next(&error), request.script) {
                (Next::Load, Some(script)) => {
                    *last = Some(tell(&error, &node.address));
                    if is_loaded {
                        // It no longer has the slot, or another server answers now.
                        sleep(PAUSE).await;
                    }
                    is_loaded = true;
                    // If this fails for a passing reason, the next attempt fails too, and handles
                    // it.
                    if let Err(error) = node.load(script).await
                        && next(&error) == Next::Fail
                    {
                        return Err(tell(&error, &node.address));
                    }
                }
                (Next::Wait, _) => {
                    *last = Some(tell(&error, &node.address));
                    sleep(PAUSE).await;
                }
                (Next::Reconnect, _) => {
                    *last = Some(tell(&error, &node.address));
                    self.watch.lost(node.epoch);
                }
                (Next::Moved(to), _) => {
                    *last = Some(tell(&error, &node.address));
                    let Some(to) = node.address.redirected(&to) else {
                        return Err(node.garbage("an address of a node"));
                    };
                    if to == node.address {
                        sleep(PAUSE).await;
                    }
                    self.connections().slots.insert(request.slot, to);
                }
                (Next::Ask(to), _) => {
                    *last = Some(tell(&error, &node.address));
                    asking = node.address.redirected(&to);
                }
                (Next::Fail | Next::Load, _) => return Err(tell(&error, &node.address)),
            }
        }
    }

    /// All connections. They are given up if one was lost.
    fn connections(&self) -> MutexGuard<'_, Connections> {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = self.watch.epoch();
        if connections.epoch != epoch {
            *connections = Connections { epoch, ..Connections::default() };
        }
        connections
    }

    /// The connections to which a new one belongs. `None` if they were given up while it was made.
    fn connections_of(&self, node: &Node) -> Option<MutexGuard<'_, Connections>> {
        Some(self.connections()).filter(|connections| connections.epoch == node.epoch)
    }

    async fn of_slot(&self, slot: u16) -> Result<Arc<Node>, RedisError> {
        let elsewhere = self.connections().slots.get(&slot).cloned();
        match elsewhere {
            None => self.home().await,
            Some(address) => {
                let node = self.at(&address).await;
                if node.is_err() {
                    // The home node knows who has the slot now.
                    self.connections().slots.retain(|_, at| *at != address);
                }
                node
            }
        }
    }

    async fn home(&self) -> Result<Arc<Node>, RedisError> {
        self.connected(
            |connections| connections.home.clone(),
            async |epoch| self.connect_any(epoch).await,
        )
        .await
    }

    /// Like [`home`](Self::home), for the listener. It does not wait for a request that connects,
    /// and no request waits for it: either of them may not be polled for a while.
    pub(super) async fn keep_home(&self) -> Result<Arc<Node>, RedisError> {
        match self.existing(|connections| connections.home.clone()) {
            Some(node) => Ok(node),
            None => self.connect_any(self.watch.epoch()).await,
        }
    }

    async fn connect_any(&self, epoch: u64) -> Result<Arc<Node>, RedisError> {
        let mut failed = None;
        for address in &self.config.addresses {
            // A server that does not answer must leave time for the next one.
            let waited = self.config.timeout
                / u32::try_from(self.config.addresses.len()).unwrap_or(u32::MAX);
            let connected = timeout(waited, self.connect_home(address, epoch)).await;
            match connected.unwrap_or(Err(RedisError::Timeout { waited })) {
                Ok(node) => {
                    return Ok(match self.connections_of(&node) {
                        // If two were made at once, the first stays: the server reports over it
                        // what was loaded over it.
                        Some(mut connections) => Arc::clone(connections.home.get_or_insert(node)),
                        None => node,
                    });
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.unwrap_or(RedisError::Config { reason: "no URL was given" }))
    }

    async fn connect_home(&self, address: &Address, epoch: u64) -> Result<Arc<Node>, RedisError> {
        match &self.config.primary {
            None => self.connect(address, epoch).await,
            Some(name) => {
                let login = &self.config.sentinel_login;
                let primary = ask_sentinel(address, login, self.tls.as_ref(), name).await?;
                self.connect(&primary, epoch).await
            }
        }
    }

    async fn at(&self, address: &Address) -> Result<Arc<Node>, RedisError> {
        self.connected(
            |connections| {
                let home = connections.home.as_ref().filter(|home| home.address == *address);
                home.or_else(|| connections.others.get(address)).cloned()
            },
            async |epoch| {
                let node = self.connect(address, epoch).await?;
                Ok(match self.connections_of(&node) {
                    Some(mut connections) => {
                        Arc::clone(connections.others.entry(address.clone()).or_insert(node))
                    }
                    None => node,
                })
            },
        )
        .await
    }

    async fn connect(&self, address: &Address, epoch: u64) -> Result<Arc<Node>, RedisError> {
        let Self { config, tls, watch, .. } = self;
        let (node, greeting) =
            Node::connect(address, &config.login, tls.as_ref(), watch, epoch).await?;
        if watch.connected(epoch, &greeting.server, greeting.offset) {
            return Ok(Arc::new(node));
        }
        Err(RedisError::Unreachable {
            server: address.to_string(),
            source: std::io::ErrorKind::ConnectionAborted.into(),
        })
    }

    /// Makes a connection. One request at a time connects, and the others wait for it.
    async fn connected(
        &self,
        existing: impl Fn(&Connections) -> Option<Arc<Node>>,
        connect: impl AsyncFnOnce(u64) -> Result<Arc<Node>, RedisError>,
    ) -> Result<Arc<Node>, RedisError> {
        if let Some(node) = self.existing(&existing) {
            return Ok(node);
        }
        let mut failed = self.connecting.lock().await;
        if let Some(node) = self.existing(&existing) {
            return Ok(node);
        }
        if let Some(at) = *failed {
            sleep_until(at + PAUSE).await;
        }
        let node = connect(self.watch.epoch()).await;
        *failed = node.is_err().then(Instant::now);
        node
    }

    fn existing(&self, existing: impl Fn(&Connections) -> Option<Arc<Node>>) -> Option<Arc<Node>> {
        let node = existing(&self.connections())?;
        if node.is_silent(self.config.timeout) {
            self.watch.lost(node.epoch);
            return None;
        }
        Some(node)
    }

    /// Pings each server, and gives all up if one does not answer in time.
    pub(super) async fn ping(&self, within: Duration) {
        let nodes: Vec<_> = {
            let connections = self.connections();
            connections.home.iter().chain(connections.others.values()).cloned().collect()
        };
        for node in nodes {
            match timeout(within, node.compare_clocks()).await {
                // A long round trip leaves too much doubt.
                Ok(Ok((took, offset))) if took < CLOSE => self.watch.compared(node.epoch, offset),
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return self.watch.lost(node.epoch),
            }
        }
    }
}

/// Longest round trip of a comparison of clocks that is trusted.
const CLOSE: Duration = Duration::from_millis(20);
