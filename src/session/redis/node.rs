//! One connection to one server.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use redis::{
    AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo, Value,
    aio::MultiplexedConnection, cmd,
};
use tokio::{task::AbortHandle, time::Instant};
use tokio_rustls::TlsConnector;

use super::{
    address::{Address, Login},
    error::RedisError,
    fault::tell,
    script::Request,
    stream,
    watch::Watch,
};

/// A connection that passes what the server pushes to the [watch](Watch).
pub(super) struct Node {
    pub(super) address: Address,
    /// The epoch of the watch when the connection was made.
    pub(super) epoch: u64,
    connection: MultiplexedConnection,
    /// Since when the server owes an answer, if it does.
    waiting: Mutex<Option<Instant>>,
    _task: Task,
}

/// The task that moves a connection's bytes. It ends with the connection.
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a server reports of itself.
pub(super) struct Greeting {
    /// Identifies the run of the server and the line of its data.
    pub(super) server: String,
    /// How far its clock is ahead, in microseconds.
    pub(super) offset: i64,
}

impl Node {
    /// Connects to a primary, which from then on reports changes by others.
    pub(super) async fn connect(
        address: &Address,
        login: &Login,
        tls: Option<&TlsConnector>,
        watch: &Arc<Watch>,
        epoch: u64,
    ) -> Result<(Self, Greeting), RedisError> {
        let pushes = Arc::clone(watch);
        let config = AsyncConnectionConfig::new().set_push_sender(move |push: redis::PushInfo| {
            pushes.pushed(epoch, &push.kind, &push.data);
            Ok::<(), redis::aio::SendError>(())
        });
        let (connection, task) = open(address, login, tls, config, ProtocolVersion::RESP3).await?;
        let node = Self {
            address: address.clone(),
            epoch,
            connection,
            waiting: Mutex::new(None),
            _task: task,
        };
        let greeting = node.greet().await?;
        Ok((node, greeting))
    }

    async fn greet(&self) -> Result<Greeting, RedisError> {
        let role = self.ask(cmd("ROLE")).await?;
        let not_primary = |role| RedisError::NotPrimary { server: self.address.to_string(), role };
        match first_text(&role) {
            Some("master") => {}
            Some("slave") => return Err(not_primary("replica")),
            Some("sentinel") => return Err(not_primary("Sentinel")),
            _ => return Err(self.garbage("an answer to ROLE")),
        }
        // Before any read. `NOLOOP` leaves out our own writes.
        self.ask(cmd("CLIENT").arg("TRACKING").arg("ON").arg("NOLOOP").take()).await?;
        let mut server = String::new();
        // A server that lost its data has another run id. A server that was a replica meanwhile may
        // have other data, and has another replication id.
        for (section, field) in [("server", "run_id:"), ("replication", "master_replid:")] {
            let info = self.ask(cmd("INFO").arg(section).take()).await?;
            let value = text(&info)
                .and_then(|info| info.lines().find_map(|line| line.strip_prefix(field)))
                .ok_or_else(|| self.garbage("an answer to INFO"))?;
            server.push_str(value.trim());
        }
        // The shortest round trip leaves the least doubt about when the server answered.
        let mut best: Option<(Duration, i64)> = None;
        for _ in 0..3 {
            let measured = self.compare_clocks().await?;
            if best.is_none_or(|best| measured.0 < best.0) {
                best = Some(measured);
            }
        }
        Ok(Greeting { server, offset: best.map_or(0, |(_, offset)| offset) })
    }

    /// Returns how long the answer took, and how far the server's clock is ahead in microseconds.
    pub(super) async fn compare_clocks(&self) -> Result<(Duration, i64), RedisError> {
        let (sent, sent_at) = (Instant::now(), SystemTime::now());
        let answer = self.ask(cmd("TIME")).await?;
        let took = sent.elapsed();
        let Value::Array(parts) = &answer else { return Err(self.garbage("an answer to TIME")) };
        let mut numbers = parts.iter().map(|part| text(part)?.parse::<i64>().ok());
        let (Some(Some(seconds)), Some(Some(micros)), None) =
            (numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(self.garbage("an answer to TIME"));
        };
        let theirs = seconds.saturating_mul(1_000_000).saturating_add(micros);
        let middle = sent_at + took / 2;
        let ours = middle.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros();
        let ours = i64::try_from(ours).unwrap_or(i64::MAX);
        Ok((took, theirs.saturating_sub(ours)))
    }

    async fn ask(&self, command: Cmd) -> Result<Value, RedisError> {
        self.send(&command).await.map_err(|error| tell(&error, &self.address))
    }

    pub(super) async fn send(&self, command: &Cmd) -> redis::RedisResult<Value> {
        self.waiting().get_or_insert_with(Instant::now);
        let answer = command.query_async(&mut self.connection.clone()).await;
        *self.waiting() = None;
        answer
    }

    /// Sends a command for a slot that is moving to this node.
    pub(super) async fn send_asking(&self, request: &Request) -> redis::RedisResult<Value> {
        let mut pipeline = redis::pipe();
        pipeline.cmd("ASKING").ignore().add_command(request.command.clone());
        let answers: Vec<Value> = pipeline.query_async(&mut self.connection.clone()).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Nil))
    }

    pub(super) async fn load(&self, script: &str) -> redis::RedisResult<Value> {
        self.send(cmd("SCRIPT").arg("LOAD").arg(script)).await
    }

    /// Whether the server has owed an answer for this long. The caller who asked may have given up,
    /// so the next one learns of it here.
    pub(super) fn is_silent(&self, for_this_long: Duration) -> bool {
        self.waiting().is_some_and(|since| since.elapsed() >= for_this_long)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn garbage(&self, expected: &'static str) -> RedisError {
        RedisError::Garbage { server: self.address.to_string(), expected }
    }
}

/// The primary that a Sentinel names.
pub(super) async fn ask_sentinel(
    sentinel: &Address,
    login: &Login,
    tls: Option<&TlsConnector>,
    primary: &str,
) -> Result<Address, RedisError> {
    let config = AsyncConnectionConfig::new();
    let (mut connection, _task) =
        open(sentinel, login, tls, config, ProtocolVersion::RESP2).await?;
    let answer = cmd("SENTINEL")
        .arg("get-master-addr-by-name")
        .arg(primary)
        .query_async::<Value>(&mut connection)
        .await
        .map_err(|error| tell(&error, sentinel))?;
    if answer == Value::Nil {
        return Err(RedisError::Config { reason: "a Sentinel knows no primary of that name" });
    }
    let Value::Array(parts) = &answer else { return Err(not_an_address(sentinel)) };
    let [host, port] = parts.as_slice() else { return Err(not_an_address(sentinel)) };
    let port = text(port).and_then(|port| port.parse().ok());
    let address = text(host).zip(port).and_then(|(host, port)| sentinel.sibling(host, port));
    address.ok_or_else(|| not_an_address(sentinel))
}

fn not_an_address(sentinel: &Address) -> RedisError {
    RedisError::Garbage { server: sentinel.to_string(), expected: "an address of a primary" }
}

async fn open(
    address: &Address,
    login: &Login,
    tls: Option<&TlsConnector>,
    config: AsyncConnectionConfig,
    protocol: ProtocolVersion,
) -> Result<(MultiplexedConnection, Task), RedisError> {
    let mut info = RedisConnectionInfo::default()
        .set_protocol(protocol)
        .set_db(i64::from(login.database))
        .set_skip_set_lib_name();
    if let Some(username) = &login.username {
        info = info.set_username(username);
    }
    if let Some(password) = &login.password {
        info = info.set_password(password);
    }
    let unreachable = |error: io::Error| RedisError::Unreachable {
        server: address.to_string(),
        source: match error.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            // The reason why a certificate is not valid. It holds nothing of ours.
            None => error,
        },
    };
    let stream = stream::open(address, tls).await.map_err(unreachable)?;
    // No time-out of the connection: each request has its own.
    let config = config.set_response_timeout(None).set_connection_timeout(None);
    let (connection, driver) = MultiplexedConnection::new_with_config(&info, stream, config)
        .await
        .map_err(|error| tell(&error, address))?;
    let task = Task(tokio::spawn(driver).abort_handle());
    Ok((connection, task))
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        _ => None,
    }
}

fn first_text(value: &Value) -> Option<&str> {
    match value {
        Value::Array(parts) => text(parts.first()?),
        _ => None,
    }
}
