//! `[sessions]` of the table: the tenants' jars are in a store that several proxies share.

use std::{
    env,
    error::Error,
    fmt::{self, Write},
    fs::File,
    io::Read,
    iter,
    sync::Arc,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use http::{Extensions, StatusCode};
use tower::{BoxError, Layer, util::Either};
use tower_outbound::{
    cookie::{CookieJar, CookieLimits},
    retry::{Failure, Policy, RetryPolicy},
    session::{
        Applied, Contents, Event, FileStore, MemoryStore, OnOutage, Record, RedisConfig,
        RedisStore, SessionError, SessionKey, SessionLayer, SessionPool, SessionSeal,
        SessionService, SessionStore, StoreKey, Version,
    },
};

use crate::{
    metrics,
    table::{self, KeySource, Place},
};

pub(crate) struct Sessions(SessionPool<Store>);

/// A client, with or without the layer for sessions.
pub(crate) type Shared<C> = Either<SessionService<C, Store>, C>;

pub(crate) fn over<C>(client: C, sessions: Option<&Sessions>) -> Shared<C> {
    match sessions {
        Some(Sessions(pool)) => Either::Left(SessionLayer::new(pool.clone()).layer(client)),
        None => Either::Right(client),
    }
}

/// The policy, changed so that it does not retry if the session could not be loaded. The deadline
/// of the store has passed then.
pub(crate) fn not_retried(policy: RetryPolicy) -> RetryPolicy {
    let usual = policy.clone();
    policy.classify(move |outcome| match outcome {
        Err(error) if refusal(error).is_some() => Some(Failure::Never),
        outcome => Policy::classify(&usual, outcome),
    })
}

/// What a client is told if its tenant's jar could not be loaded.
pub(crate) fn refusal(error: &(dyn Error + 'static)) -> Option<StatusCode> {
    let mut causes = iter::successors(Some(error), |&error| error.source());
    causes.find_map(|error| error.downcast_ref()).map(|error| match error {
        SessionError::Unreadable => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    })
}

impl Sessions {
    /// Connects, and runs the driver of the sessions in this runtime. An error names the key of the
    /// section that has to change.
    pub(crate) async fn open(
        written: &table::Sessions,
        cookies: CookieLimits,
    ) -> Result<Self, String> {
        let deadline = written.deadline.0;
        let on_outage = written.on_outage.0.map_or(OnOutage::Refuse, OnOutage::LastKnown);
        let keys = written.keys.iter().map(|written| Ok((written.number, key(written)?)));
        let keys = keys.collect::<Result<Vec<_>, String>>()?;
        let pool = SessionPool::builder(Store::open(&written.place, deadline).await?)
            .jar(CookieJar::builder().limits(cookies))
            .deadline(deadline)
            .on_outage(on_outage);
        let pool = match &keys[..] {
            [(number, key), others @ ..] => {
                let first = SessionSeal::new(*number, key);
                let seal =
                    others.iter().fold(first, |seal, (number, key)| seal.also_open(*number, key));
                pool.seal(seal)
            }
            // The table has `unsealed = true`.
            [] => pool.unsealed(),
        };
        let (pool, driver) = pool.build();
        tokio::spawn(driver);
        Ok(Self(pool))
    }

    /// Tells the layer whose request it is.
    pub(crate) fn name(&self, tenant: &Arc<str>, extensions: &mut Extensions) {
        extensions.insert(SessionKey::new(tenant.as_bytes()));
    }

    /// Writes the changes that the store has not accepted yet, because it was down.
    pub(crate) async fn flush(&self) -> Result<(), BoxError> {
        let lost = |error| format!("the last changes of some tenants are lost: {error}").into();
        self.0.flush().await.map_err(lost)
    }

    /// How many jars are in memory.
    pub(crate) fn len(&self) -> usize {
        self.0.stats().sessions
    }

    /// The counters of the pool, for the page of metrics.
    pub(crate) fn count(&self, page: &mut String) {
        let stats = self.0.stats();
        let seconds = stats.apply_time.as_secs_f64();
        let rows: [(&str, &str, &dyn fmt::Display); 9] = [
            ("loads", "Times that a tenant's jar was loaded.", &stats.loads),
            ("checks", "Times that the version of a jar was asked for.", &stats.checks),
            ("applies", "Times that changes were written.", &stats.applies),
            ("apply_seconds", "Time that all applies took.", &seconds),
            ("merges", "Applies of a jar that another proxy had changed.", &stats.merges),
            ("stale_refusals", "Changes older than what the store had.", &stats.stale_refusals),
            ("unreadable", "Loads of a jar that could not be read.", &stats.unreadable),
            ("failures", "Commands that failed or took too long.", &stats.failures),
            ("dropped", "Changes that were dropped.", &stats.dropped),
        ];
        for (name, help, value) in rows {
            let name = format!("proxy_session_{name}_total");
            metrics::head(page, &name, help, "counter");
            let _ = writeln!(page, "{name} {value}");
        }
        if let Some(failure) = stats.last_failure {
            let _ = writeln!(page, "# the last failure of the store: {}", failure.escape_debug());
        }
    }
}

/// The largest file of a key, in bytes.
const LONGEST_KEY: u64 = 4_096;

/// An error does not show the name of the file or variable, which may be a key by mistake.
fn key(written: &table::Key) -> Result<[u8; 32], String> {
    let wrong = |what: &dyn fmt::Display| format!("`keys`: number {}: {what}", written.number);
    let mut text = String::new();
    match &written.source {
        KeySource::File(path) => {
            let read =
                File::open(path).and_then(|file| file.take(LONGEST_KEY).read_to_string(&mut text));
            read.map_err(|error| wrong(&format!("cannot read its file: {error}")))?;
        }
        KeySource::Variable(name) => {
            text = env::var(name).map_err(|_| wrong(&"its variable is not set, or is no text"))?;
        }
    }
    let key = hex(text.trim().as_bytes());
    key.ok_or_else(|| wrong(&"not 64 hexadecimal digits, as `openssl rand -hex 32` gives them"))
}

fn hex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16)?).ok();
    let (pairs, []) = text.as_chunks() else { return None };
    let bytes = pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?));
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// The store that the table names.
pub(crate) enum Store {
    Redis(Box<RedisStore>),
    Directory(FileStore),
    Memory(MemoryStore),
}

impl Store {
    async fn open(place: &Place, deadline: Duration) -> Result<Self, String> {
        // The pool's deadline ends the wait, not the store's own time-out.
        let most = deadline.max(Duration::from_secs(2));
        match place {
            Place::Url(url) => {
                let open =
                    async { RedisStore::connect(RedisConfig::new(&url.0)?.timeout(most)).await };
                open.await
                    .map(|store| Self::Redis(Box::new(store)))
                    .map_err(|error| format!("`url`: {error}"))
            }
            Place::Directory(path) => {
                let open = FileStore::open(path);
                let store = open.map_err(|error| format!("`directory`: {error}"))?;
                Ok(Self::Directory(store.lock_timeout(most)))
            }
            Place::Memory => Ok(Self::Memory(MemoryStore::new())),
        }
    }
}

impl SessionStore for Store {
    type Error = BoxError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, BoxError> {
        Ok(match self {
            Self::Redis(store) => store.load(key).await?,
            Self::Directory(store) => store.load(key).await?,
            Self::Memory(store) => store.load(key).await?,
        })
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, BoxError> {
        Ok(match self {
            Self::Redis(store) => store.apply(key, known, records, ttl).await?,
            Self::Directory(store) => store.apply(key, known, records, ttl).await?,
            Self::Memory(store) => store.apply(key, known, records, ttl).await?,
        })
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, BoxError> {
        Ok(match self {
            Self::Redis(store) => store.version(key).await?,
            Self::Directory(store) => store.version(key).await?,
            Self::Memory(store) => store.version(key).await?,
        })
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), BoxError> {
        match self {
            Self::Redis(store) => store.forget(tenant).await?,
            Self::Directory(store) => store.forget(tenant).await?,
            Self::Memory(store) => store.forget(tenant).await?,
        }
        Ok(())
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        match self {
            Self::Redis(store) => store.events().boxed(),
            Self::Directory(store) => store.events().boxed(),
            Self::Memory(store) => store.events().boxed(),
        }
    }
}
