//! Jars by key, a bounded number of them: one for each tenant of a proxy.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::jar::CookieJar;

/// A bounded pool of jars by key, for one client that serves many tenants: see
/// [`CookieLayer::per_request`](super::CookieLayer::per_request).
///
/// [`get`](Self::get) hands out a tenant's jar and makes it if there is none. A jar leaves the pool once it has not been
/// asked for during [`idle`](JarPoolBuilder::idle), and when the pool is [full](JarPoolBuilder::max_jars) the one that was
/// asked for longest ago leaves first. Both happen in `get` and [`evict_idle`](Self::evict_idle): there is no task behind
/// the pool. A jar that a request still holds is passed over, unless every jar is held.
///
/// What leaves is handed to [`on_evict`](JarPoolBuilder::on_evict) first, so that it can be saved; the pool is not locked
/// meanwhile. Whoever asks for that key during the call is given the same jar, which then stays.
///
/// Clones share the jars. The memory of a pool is at most that of its jars at their [limits](super::CookieLimits): give them
/// smaller ones with [`new_jar`](JarPoolBuilder::new_jar) where keys come from strangers.
///
/// ```
/// use http::{Request, Response};
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_outbound::cookie::{CookieLayer, JarPool};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let jars = JarPool::builder().max_jars(1_000).build();
/// let client = CookieLayer::per_request().layer(service_fn(|_request: Request<()>| async {
///     Response::builder().header("set-cookie", "id=42").body(())
/// }));
///
/// let request = Request::get("https://example.com/").extension(jars.get("ann")).body(())?;
/// client.oneshot(request).await?;
/// assert_eq!((jars.get("ann").len(), jars.get("bob").len()), (1, 0));
/// # Ok(())
/// # }
/// ```
pub struct JarPool<K = String> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    rules: JarPoolBuilder<K>,
    jars: Mutex<Jars<K>>,
}

struct Jars<K> {
    by_key: HashMap<Arc<K>, Entry>,
    /// Oldest first; the numbers are unique.
    by_use: BTreeMap<u64, Arc<K>>,
    next: u64,
}

struct Entry {
    jar: CookieJar,
    used: u64,
    at: Instant,
    /// Its callback runs; it goes when that returns, unless it has been asked for.
    is_leaving: bool,
}

/// Builds a [`JarPool`].
#[must_use]
pub struct JarPoolBuilder<K = String> {
    max_jars: usize,
    idle: Duration,
    new_jar: Arc<dyn Fn(&K) -> CookieJar + Send + Sync>,
    on_evict: Option<Arc<dyn Fn(&K, &CookieJar) + Send + Sync>>,
    clock: fn() -> Instant,
}

impl<K> JarPoolBuilder<K> {
    /// Most jars at a time. Default: 1,000; 0 counts as 1.
    pub fn max_jars(mut self, max_jars: usize) -> Self {
        self.max_jars = max_jars.max(1);
        self
    }

    /// How long a jar stays after it was last asked for. Default: an hour.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Makes the jar of a key that has none in the pool: an empty one with other limits, or one read from where
    /// [`on_evict`](Self::on_evict) has put it. It runs under no lock; of two made at once for one key, one is dropped.
    /// Default: [`CookieJar::new`].
    pub fn new_jar(mut self, new_jar: impl Fn(&K) -> CookieJar + Send + Sync + 'static) -> Self {
        self.new_jar = Arc::new(new_jar);
        self
    }

    /// Is called with every jar that leaves, before it does. Default: nothing.
    pub fn on_evict(mut self, on_evict: impl Fn(&K, &CookieJar) + Send + Sync + 'static) -> Self {
        self.on_evict = Some(Arc::new(on_evict));
        self
    }

    /// The clock, for tests. Default: [`Instant::now`].
    pub const fn clock(mut self, clock: fn() -> Instant) -> Self {
        self.clock = clock;
        self
    }

    /// The empty pool.
    #[must_use]
    pub fn build(self) -> JarPool<K> {
        let jars = Jars { by_key: HashMap::new(), by_use: BTreeMap::new(), next: 0 };
        JarPool { shared: Arc::new(Shared { rules: self, jars: Mutex::new(jars) }) }
    }
}

impl<K> fmt::Debug for JarPoolBuilder<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JarPoolBuilder")
            .field("max_jars", &self.max_jars)
            .field("idle", &self.idle)
            .finish_non_exhaustive()
    }
}

impl JarPool {
    /// Starts a pool whose keys are text. For others: [`keyed`](JarPool::keyed).
    pub fn builder() -> JarPoolBuilder {
        Self::keyed()
    }
}

impl<K> JarPool<K> {
    /// Starts a pool with keys of any type.
    pub fn keyed() -> JarPoolBuilder<K> {
        JarPoolBuilder {
            max_jars: 1_000,
            idle: Duration::from_secs(60 * 60),
            new_jar: Arc::new(|_| CookieJar::new()),
            on_evict: None,
            clock: Instant::now,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jars<K>> {
        self.shared.jars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many jars there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().by_key.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> JarPool<K> {
    /// The jar of that key.
    pub fn get(&self, key: impl Into<K>) -> CookieJar {
        let (key, rules) = (key.into(), &self.shared.rules);
        let now = (rules.clock)();
        let known = self.lock().touch(&key, now);
        let jar = known.unwrap_or_else(|| {
            let jar = (rules.new_jar)(&key);
            self.lock().insert(key, jar, now)
        });
        self.evict(now, rules.max_jars);
        jar
    }

    /// The jar of that key if it is in the pool. This does not count as use.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<CookieJar> {
        self.lock().by_key.get(key).map(|entry| entry.jar.clone())
    }

    /// Takes the jar of that key out, without the callback.
    pub fn remove(&self, key: &K) -> Option<CookieJar> {
        let mut jars = self.lock();
        let entry = jars.by_key.remove(key)?;
        jars.by_use.remove(&entry.used);
        Some(entry.jar)
    }

    /// Evicts the jars that have been idle for too long, and says how many. For a timer of the caller's; `get` does the same.
    pub fn evict_idle(&self) -> usize {
        let rules = &self.shared.rules;
        self.evict((rules.clock)(), rules.max_jars)
    }

    /// Evicts every jar, those that requests hold too, and says how many: for saving all at the end.
    pub fn evict_all(&self) -> usize {
        let leaving = self.lock().all();
        self.send_off(leaving)
    }

    fn evict(&self, now: Instant, max_jars: usize) -> usize {
        let leaving = self.lock().leaving(now, self.shared.rules.idle, max_jars);
        self.send_off(leaving)
    }

    fn send_off(&self, leaving: Vec<(Arc<K>, CookieJar)>) -> usize {
        let mut left = 0;
        let mut guard = Leaving { pool: self, keys: leaving.iter().map(|(key, _)| Arc::clone(key)).collect() };
        for (key, jar) in leaving {
            if let Some(on_evict) = &self.shared.rules.on_evict {
                on_evict(&key, &jar);
            }
            left += usize::from(self.lock().finish(&key));
            guard.keys.retain(|other| !Arc::ptr_eq(other, &key));
        }
        left
    }
}

/// The jars whose callback has not returned: where it panics they stay in the pool, like any other.
struct Leaving<'a, K: Hash + Eq> {
    pool: &'a JarPool<K>,
    keys: Vec<Arc<K>>,
}

impl<K: Hash + Eq> Drop for Leaving<'_, K> {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            let mut jars = self.pool.lock();
            for key in &self.keys {
                if let Some(entry) = jars.by_key.get_mut(key) {
                    entry.is_leaving = false;
                }
            }
        }
    }
}

impl<K: Hash + Eq> Jars<K> {
    fn touch(&mut self, key: &K, now: Instant) -> Option<CookieJar> {
        let (next, entry) = (self.next, self.by_key.get_mut(key)?);
        self.next += 1;
        if let Some(key) = self.by_use.remove(&entry.used) {
            self.by_use.insert(next, key);
        }
        (entry.used, entry.at, entry.is_leaving) = (next, now, false);
        Some(entry.jar.clone())
    }

    /// The jar that another has put in meanwhile, if so.
    fn insert(&mut self, key: K, jar: CookieJar, now: Instant) -> CookieJar {
        if let Some(jar) = self.touch(&key, now) {
            return jar;
        }
        let (key, used) = (Arc::new(key), self.next);
        self.next += 1;
        self.by_use.insert(used, Arc::clone(&key));
        self.by_key.insert(key, Entry { jar: jar.clone(), used, at: now, is_leaving: false });
        jar
    }

    /// Marks what has been idle, then what there is too much of.
    fn leaving(&mut self, now: Instant, idle: Duration, max_jars: usize) -> Vec<(Arc<K>, CookieJar)> {
        let mut leaving = Vec::new();
        let mut staying = self.by_key.values().filter(|entry| !entry.is_leaving).count();
        // Those in use only where that does not suffice.
        for spares_held in [true, false] {
            for key in self.by_use.values() {
                let Some(entry) = self.by_key.get_mut(key) else { continue };
                let is_idle = now.saturating_duration_since(entry.at) >= idle;
                let is_over = staying > max_jars;
                if !is_idle && !is_over {
                    break;
                }
                if entry.is_leaving || (entry.jar.is_held() && (spares_held || !is_over)) {
                    continue;
                }
                entry.is_leaving = true;
                staying -= 1;
                leaving.push((Arc::clone(key), entry.jar.clone()));
            }
            if staying <= max_jars {
                break;
            }
        }
        leaving
    }

    fn all(&mut self) -> Vec<(Arc<K>, CookieJar)> {
        let mut leaving = Vec::new();
        for (key, entry) in &mut self.by_key {
            if !entry.is_leaving {
                entry.is_leaving = true;
                leaving.push((Arc::clone(key), entry.jar.clone()));
            }
        }
        leaving
    }

    /// Takes a jar out, unless it has been asked for since it was marked.
    fn finish(&mut self, key: &K) -> bool {
        let is_leaving = self.by_key.get(key).is_some_and(|entry| entry.is_leaving);
        if is_leaving && let Some(entry) = self.by_key.remove(key) {
            self.by_use.remove(&entry.used);
        }
        is_leaving
    }
}

impl<K> Clone for JarPool<K> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<K> Default for JarPool<K> {
    fn default() -> Self {
        Self::keyed().build()
    }
}

// Keys may be secrets: a session's token, say.
impl<K> fmt::Debug for JarPool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JarPool").field("len", &self.len()).finish_non_exhaustive()
    }
}
