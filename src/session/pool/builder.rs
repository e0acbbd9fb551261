//! How a pool is made.

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

/// It is not said yet how cookies are sealed: see [`SessionPoolBuilder`].
#[derive(Clone, Copy, Debug)]
pub enum Unsaid {}

/// It is said how cookies are sealed, or that they are not: see [`SessionPoolBuilder`].
#[derive(Clone, Copy, Debug)]
pub enum Said {}

/// Builds a [`SessionPool`]. The pool's own page says what each setting costs and risks.
///
/// [`seal`](Self::seal) or [`unsealed`](Self::unsealed) must be called: without it there is no
/// `build`.
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

    /// Seals each cookie: the owner of the store can then neither read one nor give it to another
    /// session.
    pub fn seal(mut self, seal: impl Seal) -> SessionPoolBuilder<S, Said> {
        self.settings.seal = Some(Arc::new(seal));
        self.said()
    }

    /// Stores cookies as they are. Who can read the store can then use every session in it, and who
    /// can write to it can give one tenant another's cookies.
    pub fn unsealed(self) -> SessionPoolBuilder<S, Said> {
        self.said()
    }

    fn said(self) -> SessionPoolBuilder<S, Said> {
        let Self { store, settings, jars, .. } = self;
        SessionPoolBuilder { store, settings, jars, sealing: PhantomData }
    }
}

impl<S, Sealing> SessionPoolBuilder<S, Sealing> {
    /// Most sessions in memory; each site of one counts. Default: 10,000; 0 counts as 1.
    ///
    /// Above it those leave that were used longest ago, up to a sixteenth at once. One that a
    /// request holds, or whose [jar](SessionPool::jar) a caller holds, stays. One with unwritten
    /// changes is written first. What has left is loaded again when it is used.
    pub fn max_sessions(mut self, max_sessions: usize) -> Self {
        self.settings.max_sessions = max_sessions.max(1);
        self
    }

    /// How long a session stays in memory after its last use. Default: an hour. At most twelve.
    pub fn idle(mut self, idle: Duration) -> Self {
        self.settings.idle = idle.min(MOST_IDLE);
        self
    }

    /// How long a request may wait for the store: load and apply together. Default: 250 ms.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// What a request does whose session cannot be loaded in time. Default: [`OnOutage::Refuse`].
    pub fn on_outage(mut self, on_outage: OnOutage) -> Self {
        self.settings.on_outage = on_outage;
        self
    }

    /// Whether what is loaded is trusted. Default: [`Consistency::Cached`]. While the driver does
    /// not run, or the store does not tell of changes, it is [`Consistency::Validated`].
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.settings.consistency = consistency;
        self
    }

    /// When changes are written. Default: [`Write::Through`].
    pub fn write(mut self, write: Write) -> Self {
        self.settings.write = write;
        self
    }

    /// How often it is written at most that only the expiry of a cookie has moved, which many
    /// servers do with each response. Default: 5 s. Another replica may take the cookie for expired
    /// by this much too early.
    pub fn refresh(mut self, refresh: Duration) -> Self {
        self.settings.refresh = refresh;
        self
    }

    /// If the store comes back as another server, which may lack the last writes: what was written
    /// during this time is written again. Default: 30 s. At most an hour. It takes the memory of
    /// the changes of that time. Needs the driver.
    pub fn replay(mut self, replay: Duration) -> Self {
        self.settings.replay = replay.min(MOST_REPLAY);
        self
    }

    /// How long the store keeps a session that has cookies without an expiry, after its last
    /// change. Default: 30 days.
    ///
    /// A cookie with an expiry is kept until then. A program has no end of a browser's session, so
    /// that something has to end the others.
    pub fn session_cookies(mut self, kept: Duration) -> Self {
        self.settings.session_cookies = kept;
        self
    }

    /// How jars are built: suffixes, limits, policy, clock. The log is always on. Default:
    /// [`CookieJar::builder`].
    ///
    /// All replicas need the same suffixes, since a site is a key of the store.
    pub fn jar(mut self, jars: CookieJarBuilder) -> Self {
        self.jars = jars;
        self
    }
}

impl<S: SessionStore> SessionPoolBuilder<S, Said> {
    /// The pool, and its driver: a future to spawn.
    ///
    /// The driver hears what the store tells, writes what was [left to it](Write::Behind) or has
    /// failed, and lets idle sessions leave. It ends after the last handle of the pool is dropped
    /// and what was unwritten is written: await it before the process ends. That is one attempt for
    /// each session; to learn whether it failed, [flush](SessionPool::flush) first. Without it the
    /// pool asks the store at each request, and what a request could not write waits for the
    /// next request of that session or for [`flush`](SessionPool::flush).
    ///
    /// Both need a Tokio runtime with a timer when they run.
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
