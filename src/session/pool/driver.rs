//! The future that a pool's owner spawns. It listens to the store, and writes what requests have
//! left.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{Arc, PoisonError, atomic::Ordering::SeqCst},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    commands::AT_ONCE,
    join::{self, BoxFuture},
    schedule::Next,
    shared::Shared,
};
use crate::session::{Event, SessionStore, TOMBSTONES_KEPT, Version};

/// Runs until the last handle of the pool is dropped. Then writes what is not written.
pub(super) async fn drive<S: SessionStore>(shared: Arc<Shared<S>>) {
    let driving = Driving::begin(&shared);
    let mut jobs: Vec<BoxFuture<'_>> =
        vec![Box::pin(listen(&shared)), Box::pin(tidy(&shared)), Box::pin(give_back(&shared))];
    jobs.extend((0..AT_ONCE).map(|_| -> BoxFuture<'_> { Box::pin(write(&shared)) }));
    join::either(join::all(jobs), shared.closed.notified()).await;
    // Nobody listens to the store from here on.
    drop(driving);
    let _ = shared.flush().await;
    give_back_all(&shared).await;
}

/// While it exists, the pool relies on the driver.
struct Driving<'a, S>(&'a Shared<S>);

impl<'a, S> Driving<'a, S> {
    fn begin(shared: &'a Shared<S>) -> Self {
        shared.is_driven.store(true, SeqCst);
        Self(shared)
    }
}

impl<S> Drop for Driving<'_, S> {
    fn drop(&mut self) {
        self.0.is_listening.store(false, SeqCst);
        self.0.is_driven.store(false, SeqCst);
    }
}

async fn listen<S: SessionStore>(shared: &Shared<S>) {
    let mut events = pin!(shared.store.events());
    while let Some(event) = poll_fn(|cx| events.as_mut().poll_next(cx)).await {
        hear(shared, event);
    }
    shared.is_listening.store(false, SeqCst);
}

fn hear<S>(shared: &Shared<S>, event: Event) {
    match event {
        Event::Changed(key) => {
            if let Some(session) = shared.sessions().get(&key) {
                session.state().invalidate(Instant::now());
            }
        }
        Event::AllChanged => shared.invalidate_all(),
        Event::Lost => {
            // In this order: what is found fresh after it was found fresh before it.
            shared.is_listening.store(false, SeqCst);
            shared.invalidate_all();
        }
        Event::Back { same_server, offset } => {
            shared.set_offset(offset);
            if !same_server {
                shared.write_again();
            }
            // In this order: what was loaded while no changes were reported is not trusted.
            shared.invalidate_all();
            shared.is_listening.store(true, SeqCst);
            write_soon(shared);
        }
    }
}

/// The store is back, so pending writes are due.
fn write_soon<S>(shared: &Shared<S>) {
    let now = Instant::now();
    for session in shared.sessions().iter() {
        let mut state = session.state();
        if !state.queue.is_empty() {
            shared.schedule.set(session, &mut state, Some(now));
        }
    }
}

async fn write<S: SessionStore>(shared: &Shared<S>) {
    loop {
        let is_earlier = shared.schedule.is_earlier.notified();
        match shared.schedule.next(Instant::now()) {
            Next::Write(session) => {
                // If it fails it is scheduled again.
                let _ = shared.write(&session, shared.settings.deadline).await;
                drop(session);
                let unwritten = shared.sessions().make_room(shared.settings.max_sessions);
                shared.see_off(unwritten);
            }
            Next::Wait(Some(due)) => join::either(sleep_until(due), is_earlier).await,
            Next::Wait(None) => is_earlier.await,
        }
    }
}

/// How often jars that a caller holds are checked for changes.
const TIDY: Duration = Duration::from_secs(1);

async fn tidy<S: SessionStore>(shared: &Shared<S>) {
    loop {
        sleep(TIDY).await;
        let (now, idle) = (Instant::now(), shared.settings.idle);
        shared.replay().forget_old(now, shared.settings.replay);
        let unwritten = shared.sessions().leave_idle(idle, now);
        shared.see_off(unwritten);
        let changed: Vec<_> = {
            let sessions = shared.sessions();
            sessions.iter().filter(|session| session.jar.has_changes()).map(Arc::clone).collect()
        };
        for session in changed {
            shared.collect(&session);
        }
    }
}

async fn give_back<S: SessionStore>(shared: &Shared<S>) {
    loop {
        shared.is_released.notified().await;
        give_back_all(shared).await;
    }
}

/// If it fails, the lease ends by its time.
async fn give_back_all<S: SessionStore>(shared: &Shared<S>) {
    let released =
        std::mem::take(&mut *shared.released.lock().unwrap_or_else(PoisonError::into_inner));
    for (key, record) in released {
        let (known, records) = (Version::default(), [record]);
        let applied = shared.store.apply(&key, &known, &records, TOMBSTONES_KEPT);
        let _ = timeout(shared.settings.deadline, applied).await;
    }
}
