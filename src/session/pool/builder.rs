//! The builder of a pool.

use std::{fmt, future::Future, marker::PhantomData, sync::Arc, time::Duration};

use super::{
    SessionPool, driver,
    settings::{Consistency, MOST_IDLE, MOST_REPLAY, OnOutage, Settings, Write},
    shared::Shared,
};
use crate::{
    cookie::{CookieJar, CookieJarBuilder},
    session::{Seal, SessionStore},
};

/// A [`SessionPoolBuilder`] on which neither `seal` nor `unsealed` was called yet.
#[derive(Clone, Copy, Debug)]
pub enum Unsaid {}

/// A [`SessionPoolBuilder`] on which `seal` or `unsealed` was called.
#[derive(Clone, Copy, Debug)]
pub enum Said {}

/// Builds a [`SessionPool`]. [The table](crate::session#settings) says what each setting costs and
/// risks.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::session::{MemoryStore, SessionPool};
///
/// let (pool, driver) = SessionPool::builder(MemoryStore::new())
///     .deadline(Duration::from_millis(100))
///     .unsealed()
///     .build();
/// # let _ = (pool, driver);
/// ```
///
/// [`seal`](Self::seal) or [`unsealed`](Self::unsealed) must be called. Without them there is no
/// `build`:
///
/// ```compile_fail,E0599
/// use tower_outbound::session::{MemoryStore, SessionPool};
///
/// let (pool, driver) = SessionPool::builder(MemoryStore::new()).build();
/// ```
#[must_use]
pub struct SessionPoolBuilder<S, Sealing = Unsaid> {
    store: S,
    settings: Settings,
    jars: CookieJarBuilder,
    sealing: PhantomData<Sealing>,
}

impl<S> SessionPoolBuilder<S> {
    pub(super) fn new(store: S) -> Self {
        let (settings, jars) = (Settings::default(), CookieJar::builder());
        Self { store, settings, jars, sealing: PhantomData }
    }

    /// Seals each cookie: encrypts all of it, except that its name, domain and path stay readable.
    /// The owner of the store then cannot read the value, or give the cookie to another session.
    ///
    /// The feature `seal` has an implementation, `SessionSeal`.
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, Seal, SessionPool};
    ///
    /// fn pool(seal: impl Seal) -> SessionPool<MemoryStore> {
    ///     let (pool, _driver) = SessionPool::builder(MemoryStore::new()).seal(seal).build();
    ///     pool
    /// }
    /// ```
    pub fn seal(mut self, seal: impl Seal) -> SessionPoolBuilder<S, Said> {
        self.settings.seal = Some(Arc::new(seal));
        self.said()
    }

    /// Stores cookies in clear. Whoever can read the store can then use every session in it.
    /// Whoever can write to it can give one tenant another's cookies.
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
    /// # let _ = (pool, driver);
    /// ```
    pub fn unsealed(self) -> SessionPoolBuilder<S, Said> {
        self.said()
    }

    fn said(self) -> SessionPoolBuilder<S, Said> {
        let Self { store, settings, jars, .. } = self;
        SessionPoolBuilder { store, settings, jars, sealing: PhantomData }
    }
}

impl<S, Sealing> SessionPoolBuilder<S, Sealing> {
    /// The maximum number of sessions in memory. Each site of a session counts as one.
    ///
    /// Default: 10,000. 0 counts as 1. If there are more, the least recently used sessions are
    /// removed from memory, up to a sixteenth at once. A session stays while a request uses it, or
    /// while a caller holds its [jar](SessionPool::jar). A session with unwritten changes is
    /// written first. A removed session is loaded again when it is used.
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).max_sessions(100_000);
    /// # let _ = builder;
    /// ```
    pub fn max_sessions(mut self, max_sessions: usize) -> Self {
        self.settings.max_sessions = max_sessions.max(1);
        self
    }

    /// How long a session stays in memory after its last use.
    ///
    /// Default: 1 hour. More than 12 hours counts as 12 hours.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).idle(Duration::from_secs(600));
    /// # let _ = builder;
    /// ```
    pub fn idle(mut self, idle: Duration) -> Self {
        self.settings.idle = idle.min(MOST_IDLE);
        self
    }

    /// How long a request may wait for the store, for loading and writing together.
    ///
    /// Default: 250 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).deadline(Duration::from_millis(100));
    /// # let _ = builder;
    /// ```
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// What happens to a request if its session cannot be loaded or checked in time.
    ///
    /// Default: [`OnOutage::Refuse`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, OnOutage, SessionPool};
    ///
    /// let known = OnOutage::LastKnown(Duration::from_secs(60));
    /// let builder = SessionPool::builder(MemoryStore::new()).on_outage(known);
    /// # let _ = builder;
    /// ```
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.settings.on_outage = on_outage;
        self
    }

    /// Whether a loaded session is used without asking the store.
    ///
    /// Default: [`Consistency::Cached`]. While the driver does not run, or the store does not
    /// report changes, the pool acts as with [`Consistency::Validated`].
    ///
    /// ```
    /// use tower_outbound::session::{Consistency, MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).consistency(Consistency::Validated);
    /// # let _ = builder;
    /// ```
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.settings.consistency = consistency;
        self
    }

    /// When the changes of a response are written.
    ///
    /// Default: [`Write::Through`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool, Write};
    ///
    /// let write = Write::Behind(Duration::from_millis(50));
    /// let builder = SessionPool::builder(MemoryStore::new()).write(write);
    /// # let _ = builder;
    /// ```
    pub fn write(mut self, write: Write) -> Self {
        self.settings.write = write;
        self
    }

    /// Shortest time between two writes that only move the expiry of a cookie, as many servers do
    /// with each response.
    ///
    /// Default: 5 s. Another replica may see the cookie expire up to this much too early.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).refresh(Duration::from_secs(60));
    /// # let _ = builder;
    /// ```
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.settings.refresh = refresh;
        self
    }

    /// How long written changes are kept, to write them again if the store fails over to a server
    /// that lacks them.
    ///
    /// Default: 30 s. More than 1 hour counts as 1 hour. It takes the memory of the changes of that
    /// time, and needs the driver.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let builder = SessionPool::builder(MemoryStore::new()).replay(Duration::from_secs(120));
    /// # let _ = builder;
    /// ```
    pub fn replay(mut self, replay: Duration) -> Self {
        self.settings.replay = replay.min(MOST_REPLAY);
        self
    }

    /// How long the store keeps a session that has cookies without an expiry, counted from its last
    /// change.
    ///
    /// Default: 30 days. A cookie with an expiry is kept until it expires. A program has no end of
    /// a browser session, so this time ends the other cookies.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let day = Duration::from_secs(24 * 60 * 60);
    /// let builder = SessionPool::builder(MemoryStore::new()).session_cookies(day);
    /// # let _ = builder;
    /// ```
    pub fn session_cookies(mut self, kept: Duration) -> Self {
        self.settings.session_cookies = kept;
        self
    }

    /// Sets how jars are built: suffix list, limits, policy, clock. Their change log is always on.
    ///
    /// Default: [`CookieJar::builder`]. All replicas need the same suffix list, since a site is
    /// part of a store key.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, CookieLimits};
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// let limits = CookieLimits { per_domain: 50, ..CookieLimits::default() };
    /// let jars = CookieJar::builder().limits(limits);
    /// let builder = SessionPool::builder(MemoryStore::new()).jar(jars);
    /// # let _ = builder;
    /// ```
    pub fn jar(mut self, jars: CookieJarBuilder) -> Self {
        self.jars = jars;
        self
    }
}

impl<S: SessionStore> SessionPoolBuilder<S, Said> {
    /// Builds the pool and its driver, a future to spawn.
    ///
    /// The driver listens to the store, writes changes that were [left to it](Write::Behind) or
    /// could not be written, and removes idle sessions from memory. It ends after the last handle
    /// of the pool is dropped and the unwritten changes are written. So await it before the process
    /// ends. It then tries each session once. To learn whether that failed,
    /// [flush](SessionPool::flush) first.
    ///
    /// Without the driver the pool asks the store at each request. A change that a request could
    /// not write then waits for the next request of that session, or for
    /// [`flush`](SessionPool::flush).
    ///
    /// Pool and driver need a tokio runtime with a timer.
    ///
    /// The driver borrows nothing, unless the store's type does. If your own function has borrowed
    /// arguments and returns the driver, end its return type with `use<>`:
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// fn sessions(
    ///     name: &str,
    /// ) -> (SessionPool<MemoryStore>, impl Future<Output = ()> + Send + use<>) {
    ///     println!("the sessions of {name}");
    ///     SessionPool::builder(MemoryStore::new()).unsealed().build()
    /// }
    ///
    /// let (pool, driver) = sessions(&String::from("the shop"));
    /// # let _ = (pool, driver);
    /// ```
    ///
    /// ```
    /// use tower_outbound::session::{MemoryStore, SessionPool};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tokio::task::JoinError> {
    /// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
    /// let driver = tokio::spawn(driver);
    /// // Serve requests here. Then write what is not written yet:
    /// drop(pool);
    /// driver.await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn build(self) -> (SessionPool<S>, impl Future<Output = ()> + Send + use<S>) {
        let shared = Arc::new(Shared::new(self.store, self.settings, self.jars));
        (SessionPool::new(Arc::clone(&shared)), driver::drive(shared))
    }
}

impl<S, Sealing> fmt::Debug for SessionPoolBuilder<S, Sealing> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { max_sessions, idle, deadline, on_outage, consistency, write, .. } =
            &self.settings;
        f.debug_struct("SessionPoolBuilder")
            .field("max_sessions", max_sessions)
            .field("idle", idle)
            .field("deadline", deadline)
            .field("on_outage", on_outage)
            .field("consistency", consistency)
            .field("write", write)
            .field("is_sealed", &self.settings.seal.is_some())
            .finish_non_exhaustive()
    }
}
