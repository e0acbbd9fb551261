//! `MemoryStore`: sessions of one process, and the simplest implementation of a store.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_core::Stream;
use tokio::time::Instant;

use super::{
    Applied, Contents, Event, Record, SessionKey, SessionStore, StoreKey, TOMBSTONES_KEPT, Version,
};

/// Sessions in the memory of this process, for tests and for one process with several pools.
///
/// Clones share the sessions. Each clone is told what the others change, as replicas are.
///
/// ```
/// use tower_outbound::session::{MemoryStore, SessionKey, SessionPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::new();
/// let (a, _driver) = SessionPool::builder(store.clone()).unsealed().build();
/// let (b, _driver) = SessionPool::builder(store).unsealed().build();
///
/// let (ann, uri) = (SessionKey::new("ann".as_bytes()), "https://example.com/".parse()?);
/// a.jar(&ann, &uri).await?.set(&uri, "id=42; Secure")?;
/// a.flush().await?;
/// assert_eq!(b.jar(&ann, &uri).await?.header(&uri).expect("it was stored"), "id=42");
/// # Ok(())
/// # }
/// ```
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
    /// Which clone this is: a clone is not told of its own changes.
    id: u64,
}

#[derive(Default)]
struct Shared {
    by_key: HashMap<StoreKey, Kept>,
    /// Expired keys are removed when there are twice as many keys as after the last removal.
    sweep_at: usize,
    /// Numbers clones, listeners and versions.
    next: u64,
    listeners: Vec<Listener>,
}

struct Kept {
    version: Version,
    records: HashMap<Box<[u8]>, (u64, Option<Box<[u8]>>)>,
    /// `None` before the first apply.
    until: Option<Instant>,
}

struct Listener {
    id: u64,
    clone: u64,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

/// If more events than this wait, the listener is told instead that any key may have changed.
const MOST_EVENTS: usize = 4_096;
/// The fewest keys that are worth a sweep.
const FEWEST_SWEPT: usize = 64;

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new() -> Self {
        Self { shared: Arc::default(), id: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // No code of a caller runs under this lock.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn kept(&self, key: &StoreKey) -> Option<&Kept> {
        self.by_key.get(key).filter(|kept| kept.lives(Instant::now()))
    }

    fn sweep(&mut self) {
        if self.by_key.len() >= self.sweep_at.max(FEWEST_SWEPT) {
            let now = Instant::now();
            self.by_key.retain(|_, kept| kept.lives(now));
            self.sweep_at = self.by_key.len() * 2;
        }
    }

    fn tell(&mut self, by: u64, event: &Event) {
        for listener in self.listeners.iter_mut().filter(|listener| listener.clone != by) {
            if listener.events.len() >= MOST_EVENTS {
                listener.events.clear();
                listener.events.push_back(Event::AllChanged);
            } else {
                listener.events.push_back(event.clone());
            }
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Kept {
    fn lives(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn contents(&self) -> Contents {
        let record = |(field, (stamp, body)): (&Box<[u8]>, &(u64, Option<Box<[u8]>>))| Record {
            field: field.clone(),
            stamp: *stamp,
            body: body.clone(),
        };
        Contents {
            version: self.version.clone(),
            records: self.records.iter().map(record).collect(),
        }
    }

    /// Returns whether a record was stored.
    fn apply(&mut self, records: &[Record]) -> bool {
        let mut has_changed = false;
        for Record { field, stamp, body } in records {
            let is_newer = self.records.get(field).is_none_or(|(stored, _)| stored < stamp);
            if is_newer {
                self.records.insert(field.clone(), (*stamp, body.clone()));
                has_changed = true;
            }
        }
        has_changed
    }

    fn drop_tombstones(&mut self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let kept = now.saturating_sub(TOMBSTONES_KEPT).as_micros();
        self.records.retain(|_, (stamp, body)| body.is_some() || u128::from(*stamp) >= kept);
    }
}

impl SessionStore for MemoryStore {
    type Error = Infallible;

    async fn load(&self, key: &StoreKey) -> Result<Contents, Infallible> {
        Ok(self.lock().kept(key).map(Kept::contents).unwrap_or_default())
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, Infallible> {
        let shared = &mut *self.lock();
        shared.sweep();
        let (number, now) = (shared.number(), Instant::now());
        let kept = shared.by_key.entry(key.clone()).or_insert_with(Kept::new);
        if !kept.lives(now) {
            *kept = Kept::new();
        }
        let was_known = kept.version == *known;
        let has_changed = kept.apply(records);
        kept.drop_tombstones();
        kept.until = kept.until.max(now.checked_add(ttl));
        if has_changed {
            kept.version = Version::from_bytes(&number.to_le_bytes());
        }
        let applied = if was_known {
            Applied::Clean(kept.version.clone())
        } else {
            Applied::Merged(kept.contents())
        };
        if has_changed {
            shared.tell(self.id, &Event::Changed(key.clone()));
        }
        Ok(applied)
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, Infallible> {
        Ok(self.lock().kept(key).map(|kept| kept.version.clone()).unwrap_or_default())
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), Infallible> {
        let shared = &mut *self.lock();
        let gone: Vec<_> =
            shared.by_key.extract_if(|key, _| key.tenant() == tenant).map(|(key, _)| key).collect();
        for key in gone {
            shared.tell(self.id, &Event::Changed(key));
        }
        Ok(())
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        let mut shared = self.lock();
        let id = shared.number();
        let events = VecDeque::from([Event::Back { same_server: true, offset: 0 }]);
        shared.listeners.push(Listener { id, clone: self.id, events, waker: None });
        Events { shared: Arc::clone(&self.shared), id }
    }
}

impl Kept {
    fn new() -> Self {
        Self { version: Version::default(), records: HashMap::new(), until: None }
    }
}

/// What the other clones change.
struct Events {
    shared: Arc<Mutex<Shared>>,
    id: u64,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let own = shared.listeners.iter_mut().find(|listener| listener.id == self.id);
        let Some(listener) = own else { return Poll::Ready(None) };
        match listener.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None => {
                listener.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.listeners.retain(|listener| listener.id != self.id);
    }
}

impl Clone for MemoryStore {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), id: self.lock().number() }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows the number of keys.
impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("keys", &self.lock().by_key.len())
            .finish_non_exhaustive()
    }
}
