//! The state that the handles of a pool share, and how its parts work together.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{
        AtomicBool, AtomicI64,
        Ordering::{Relaxed, SeqCst},
    },
};

use tokio::{sync::Notify, time::Instant};

use super::{
    bound::Bound,
    queue::Queued,
    replay::Replay,
    schedule::Schedule,
    session::{PutAway, Session},
    sessions::{Found, Sessions},
    settings::{Settings, Write},
    state::{State, Terms},
    stats::Counters,
};
use crate::{
    cookie::{CookieJar, CookieJarBuilder},
    session::{
        Record, SessionKey, SessionVersion, StoreKey,
        record::{Offset, Stamp},
    },
};

pub(super) struct Shared<S> {
    pub(super) store: S,
    pub(super) settings: Settings,
    pub(super) bound: Bound,
    pub(super) jars: CookieJarBuilder,
    /// An empty jar, with the rules of all jars.
    pub(super) rules: CookieJar,
    sessions: Mutex<Sessions>,
    pub(super) schedule: Schedule,
    replay: Mutex<Replay>,
    /// Whether the driver runs.
    pub(super) is_driven: AtomicBool,
    /// Whether the store reports changes.
    pub(super) is_listening: AtomicBool,
    offset: AtomicI64,
    /// The store's time at a moment.
    told_time: Mutex<Option<(Instant, Stamp)>>,
    pub(super) counters: Counters,
    /// Notified when the last handle is dropped.
    pub(super) closed: Notify,
    /// Dropped leases, for the driver to give back.
    pub(super) released: Mutex<Vec<(StoreKey, Record)>>,
    pub(super) is_released: Notify,
}

impl<S> Shared<S> {
    pub(super) fn new(store: S, settings: Settings, jars: CookieJarBuilder) -> Self {
        let jars = jars.log_changes();
        let rules = jars.clone().build();
        Self {
            store,
            settings,
            bound: Bound::of_jar(rules.most_per_site()),
            jars,
            rules,
            sessions: Mutex::new(Sessions::new(Instant::now())),
            schedule: Schedule::default(),
            replay: Mutex::default(),
            is_driven: AtomicBool::new(false),
            is_listening: AtomicBool::new(false),
            offset: AtomicI64::new(0),
            told_time: Mutex::default(),
            counters: Counters::default(),
            closed: Notify::new(),
            released: Mutex::default(),
            is_released: Notify::new(),
        }
    }

    /// Locked before a session's state, never after it.
    pub(super) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locked after a session's state, so that a change leaves the queue and enters here in one
    /// step.
    pub(super) fn replay(&self) -> MutexGuard<'_, Replay> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn offset(&self) -> Offset {
        Offset(self.offset.load(SeqCst))
    }

    pub(super) fn set_offset(&self, offset: i64) {
        self.offset.store(offset, SeqCst);
        let told = Offset(offset).to_store(self.rules.clock_time());
        let mut told_time = self.told_time.lock().unwrap_or_else(PoisonError::into_inner);
        *told_time = Some((Instant::now(), told));
    }

    /// The store's time, if the store reports it. The time since then is measured by a clock that
    /// nobody sets.
    pub(super) fn store_time(&self) -> Option<Stamp> {
        let told = *self.told_time.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, told) = told.filter(|_| self.is_listening.load(SeqCst))?;
        let passed = u64::try_from(at.elapsed().as_micros()).unwrap_or(u64::MAX);
        Some(told.saturating_add(passed))
    }

    pub(super) fn find(&self, tenant: &SessionKey, site: &str) -> Found {
        let (max, idle) = (self.settings.max_sessions, self.settings.idle);
        let new_jar = || self.jars.clone().build();
        let now = Instant::now();
        self.sessions().find(tenant, site, max, idle, now, new_jar)
    }

    pub(super) fn terms<'a>(&self, at_least: Option<&'a SessionVersion>) -> Terms<'a> {
        let is_listening = self.is_listening.load(SeqCst);
        Terms { consistency: self.settings.consistency, is_listening, at_least }
    }

    /// Handles sessions that could be removed if they were written. The driver writes them. Without
    /// a driver the caller must, and gets one of them.
    pub(super) fn see_off(&self, unwritten: Vec<Arc<Session>>) -> Option<Arc<Session>> {
        let now = Instant::now();
        let is_driven = self.is_driven.load(SeqCst);
        let mut unwritten = unwritten.into_iter();
        if !is_driven {
            return unwritten.next();
        }
        for session in unwritten {
            self.collect(&session);
            let mut state = session.state();
            // Otherwise the driver would try without a pause while the store is down.
            if !state.has_just_failed(now) {
                self.schedule.set(&session, &mut state, Some(now));
            }
        }
        None
    }

    /// Queues the changes of a session's jar, for the driver if nobody else writes them.
    pub(super) fn collect(&self, session: &Arc<Session>) {
        let mut state = session.state();
        let put_away = session.take_changes(&mut state, self.bound);
        self.plan(session, &mut state);
        drop(state);
        self.settle(&session.key, put_away);
    }

    /// Schedules the next write, unless an earlier one is scheduled.
    fn plan(&self, session: &Arc<Session>, state: &mut State) {
        let due = self.due(state);
        let due = due.map(|due| state.due.map_or(due, |planned| planned.min(due)));
        self.schedule.set(session, state, due);
    }

    /// When the driver should write. A response that writes by itself gets its time first.
    pub(super) fn due(&self, state: &State) -> Option<Instant> {
        let wait = match self.settings.write {
            Write::Through => self.settings.deadline,
            Write::Behind(wait) => wait,
        };
        let now = Instant::now();
        let at = state.write_at(now, self.settings.refresh)?;
        Some(at.checked_add(wait).unwrap_or(at))
    }

    /// Whether a response must write before it is returned.
    pub(super) fn must_write(&self, session: &Session) -> bool {
        let is_behind = self.settings.write != Write::Through && self.is_driven.load(SeqCst);
        let now = Instant::now();
        let at = session.state().write_at(now, self.settings.refresh);
        !is_behind && at.is_some_and(|at| at <= now)
    }

    /// Updates the counters, and queues the changes of other sites.
    pub(super) fn settle(&self, key: &StoreKey, put_away: PutAway) {
        let PutAway { refused, dropped, strangers } = put_away;
        self.counters.refused.fetch_add(refused, Relaxed);
        self.counters.dropped.fetch_add(dropped, Relaxed);
        for queued in strangers {
            let site = self.rules.site_of_cookie(&queued.entry.id).to_owned();
            self.queue(key.tenant(), &site, queued);
        }
    }

    /// Queues a change that the session's own jar does not have.
    pub(super) fn queue(&self, tenant: &SessionKey, site: &str, queued: Queued) {
        // Sessions that cannot be removed yet are handled with the next new one.
        let Found { session, .. } = self.find(tenant, site);
        let mut state = session.state();
        if state.push(queued, self.bound).is_some() {
            self.counters.dropped.fetch_add(1, Relaxed);
        }
        // The jar gets it with the next load.
        state.invalidate(Instant::now());
        self.plan(&session, &mut state);
    }

    /// Writes again what another server may lack.
    pub(super) fn write_again(&self) {
        let written = {
            let mut replay = self.replay();
            replay.forget_old(Instant::now(), self.settings.replay);
            replay.another_server()
        };
        for (key, entry) in written {
            self.queue(key.tenant(), key.site(), Queued { entry, only_expiry: false });
        }
    }

    /// Makes every session in memory be checked before it is used.
    pub(super) fn invalidate_all(&self) {
        let now = Instant::now();
        for session in self.sessions().iter() {
            session.state().invalidate(now);
        }
    }
}
