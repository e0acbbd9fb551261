//! Leases: what one replica does at a time.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{PoisonError, atomic::Ordering::SeqCst},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    SessionPool,
    claim::{self, Claim, Step, Stored, Watch},
    shared::Shared,
};
use crate::session::{
    Applied, Contents, Record, SessionError, SessionKey, SessionStore, StoreKey, TOMBSTONES_KEPT,
    Version,
};

/// A lease of a session: one holder at a time, over all replicas. From [`SessionPool::lease`].
///
/// Dropping it gives it back through the pool's driver. [`release`](Self::release) gives it back at
/// once. If neither happens, because the driver does not run or the process has died, the lease
/// ends after its `ttl`.
#[must_use = "it is given back when it is dropped"]
pub struct Lease<S> {
    pool: SessionPool<S>,
    key: StoreKey,
    stamp: u64,
    ends: Instant,
    is_given_back: bool,
}

/// How long to wait between two looks at a lease that another holds.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

impl<S: SessionStore> SessionPool<S> {
    /// Waits for a lease of a session, and takes it for at most `ttl`. More than a day counts as a
    /// day.
    ///
    /// Use it for what must not happen twice at a time, such as spending a refresh token. After the
    /// lease is taken, this replica checks the session with the store again, so the next request
    /// sees what the last holder did.
    ///
    /// Each `name` of each session is a lease of its own. There is no queue: any of several waiting
    /// callers may be next. The call waits as long as others hold the lease, so put a timeout
    /// around it. If its future is dropped while it waits, it holds nothing. If it is dropped while
    /// it takes the lease, the lease may stay taken for `ttl`.
    ///
    /// A process that was stopped for longer than `ttl` may believe that it still holds the lease:
    /// see [`Lease::remaining`] and [`Lease::fence`]. A store that loses its last writes can give
    /// the lease to two holders.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::{MemoryStore, SessionKey, SessionPool};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (pool, driver) = SessionPool::builder(MemoryStore::new()).unsealed().build();
    /// tokio::spawn(driver);
    /// let ann = SessionKey::new("ann".as_bytes());
    ///
    /// let lease = pool.lease(&ann, "refresh", Duration::from_secs(10)).await?;
    /// // Spend the token here: send the request that has ann's session.
    /// lease.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if the store fails, or does not answer a command within the
    /// deadline. [`SessionError::Unreadable`] if the stored lease cannot be read.
    pub async fn lease(
        &self,
        key: &SessionKey,
        name: &str,
        ttl: Duration,
    ) -> Result<Lease<S>, SessionError> {
        let shared = self.shared();
        let key = StoreKey::new(key.clone(), claim::site(name));
        let me = random();
        let ttl = ttl.min(TOMBSTONES_KEPT);
        let micros = u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX);
        let (mut watch, mut pause) = (Watch::default(), FIRST_PAUSE);
        loop {
            let contents = within(shared, shared.store.load(&key)).await?;
            let stored = read(shared, contents, &key)?;
            let began = Instant::now();
            let known_now = shared.store_time();
            let stamp = match watch.step(&stored, began, known_now) {
                Step::Take(stamp) => stamp,
                Step::Wait(left) => {
                    sleep(pause.min(left)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            };
            let now =
                known_now.unwrap_or_else(|| shared.offset().to_store(shared.rules.clock_time()));
            let claim = Claim { holder: Some(me), until: now.saturating_add(micros), micros };
            let record = claim.to_record(&key, stamp, shared.settings.seal.as_deref());
            // It outlives the lease by long, so that no number is given twice.
            let kept = TOMBSTONES_KEPT + ttl;
            let records = [record];
            let applied = shared.store.apply(&key, &stored.version, &records, kept);
            let is_mine = match within(shared, applied).await? {
                Applied::Clean(_) => true,
                Applied::Merged(contents) => {
                    let claim = read(shared, contents, &key)?.claim;
                    claim.is_some_and(|claim| claim.holder == Some(me))
                }
            };
            if !is_mine {
                continue;
            }
            // What the last holder did may not have been told yet.
            for session in shared.sessions().iter().filter(|s| s.key.tenant() == key.tenant()) {
                session.state().invalidate(began);
            }
            let ends = began.checked_add(ttl).unwrap_or(began);
            return Ok(Lease { pool: self.clone(), key, stamp, ends, is_given_back: false });
        }
    }
}

fn read<S: SessionStore>(
    shared: &Shared<S>,
    contents: Contents,
    key: &StoreKey,
) -> Result<Stored, SessionError> {
    claim::read(contents, key, shared.settings.seal.as_deref()).ok_or(SessionError::Unreadable)
}

async fn within<S: SessionStore, T>(
    shared: &Shared<S>,
    command: impl Future<Output = Result<T, S::Error>>,
) -> Result<T, SessionError> {
    match timeout(shared.settings.deadline, command).await {
        Ok(answer) => answer.map_err(|error| shared.failed(error)),
        Err(_) => Err(SessionError::Unavailable),
    }
}

/// One that no other holder has: from the keys that std draws at random.
fn random() -> [u8; 16] {
    let [a, b] = [0; 2].map(|zero: u64| RandomState::new().hash_one(zero));
    ((u128::from(a) << 64) | u128::from(b)).to_le_bytes()
}

impl<S> Lease<S> {
    /// How long the lease is still held, by this process's clock. Zero once it has ended.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// A number that grows with each holder. A service that remembers the greatest one can refuse a
    /// holder whose lease has ended.
    ///
    /// It starts again at 1 after nobody has held the lease for a day, or after the session was
    /// [forgotten](SessionPool::forget). So let the service forget a number a day after it saw it.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.stamp
    }

    fn free(&mut self) -> Record {
        self.is_given_back = true;
        let free = Claim { holder: None, until: 0, micros: 0 };
        // If another has taken it meanwhile, it has this stamp, and this changes nothing.
        free.to_record(&self.key, self.stamp + 1, self.pool.shared().settings.seal.as_deref())
    }
}

impl<S: SessionStore> Lease<S> {
    /// Gives the lease back now.
    ///
    /// # Errors
    ///
    /// [`SessionError::Unavailable`] if the store fails or does not answer in time. The lease then
    /// ends after its `ttl`.
    pub async fn release(mut self) -> Result<(), SessionError> {
        let (shared, records) = (self.pool.clone(), [self.free()]);
        let shared = shared.shared();
        let (key, known) = (self.key.clone(), Version::default());
        within(shared, shared.store.apply(&key, &known, &records, TOMBSTONES_KEPT)).await?;
        Ok(())
    }
}

impl<S> Drop for Lease<S> {
    fn drop(&mut self) {
        if self.is_given_back {
            return;
        }
        let released = (self.key.clone(), self.free());
        let shared = self.pool.shared();
        if !shared.is_driven.load(SeqCst) {
            return;
        }
        shared.released.lock().unwrap_or_else(PoisonError::into_inner).push(released);
        shared.is_released.notify_one();
    }
}

/// Shows how long the lease is still held.
impl<S> fmt::Debug for Lease<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}
