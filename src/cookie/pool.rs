//! Jars by key, a bounded number of them: one for each tenant of a proxy.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use super::jar::CookieJar;

/// A bounded pool of jars by key, for one client that serves many tenants: see
/// [`CookieLayer::per_request`](super::CookieLayer::per_request).
///
/// [`get`](Self::get) hands out a tenant's jar and makes it if there is none. A jar leaves the pool
/// once it has not been asked for during [`idle`](JarPoolBuilder::idle), and when the pool is
/// [full](JarPoolBuilder::max_jars) the one that was asked for longest ago leaves first. Both
/// happen in `get` and [`evict_idle`](Self::evict_idle): there is no task behind the pool. A jar
/// that a request still holds counts as asked for, unless every jar is held.
///
/// What leaves is handed to [`on_evict`](JarPoolBuilder::on_evict) first, so that it can be saved;
/// the pool is not locked meanwhile. Whoever asks for that key during the call is given the same
/// jar, which then stays.
///
/// A pool of files: with [`CookieFile::overwrite`](super::CookieFile::overwrite), since the pool
/// alone knows a tenant's cookies; a merge with what the file held would bring back what the tenant
/// has logged out of. A file that cannot be read is moved aside first, since `overwrite` asks for
/// nothing.
///
/// ```
/// use tower_outbound::cookie::{CookieFile, CookieJar, Format, JarPool};
///
/// # let directory = tempfile::tempdir()?;
/// let (from, to) = (directory.path().to_owned(), directory.path().to_owned());
/// let jars = JarPool::builder()
///     .new_jar(move |tenant: &String| {
///         let path = from.join(tenant);
///         match CookieFile::open(&path, Format::Netscape) {
///             Ok(file) => file.jar().clone(),
///             Err(error) => {
///                 eprintln!("{error}");
///                 if let Err(error) = std::fs::rename(&path, from.join(format!("{tenant}.damaged"))) {
///                     eprintln!("{} cannot be moved aside: {error}", path.display());
///                 }
///                 CookieJar::new()
///             }
///         }
///     })
///     .on_evict(move |tenant: &String, jar| {
///         let file = CookieFile::with_jar(to.join(tenant), Format::Netscape, jar.clone());
///         if let Err(error) = file.overwrite() {
///             eprintln!("{error}");
///         }
///     })
///     .build();
/// jars.get("ann").set(&"https://example.com/".parse()?, "id=42; Max-Age=3600")?;
/// # std::fs::write(directory.path().join("bob"), "damaged")?;
/// # assert_eq!(jars.get("bob").len(), 0);
/// jars.evict_all();
/// assert_eq!(jars.get("ann").len(), 1);
/// # assert_eq!(std::fs::read_to_string(directory.path().join("bob.damaged"))?, "damaged");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Keys that come from strangers make no file names as they are: escape them, or take only those
/// you know.
///
/// Clones share the jars. The memory of a pool is at most that of its jars at their
/// [limits](super::CookieLimits): give them smaller ones with [`new_jar`](JarPoolBuilder::new_jar)
/// where keys come from strangers.
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
    settings: JarPoolBuilder<K>,
    jars: Mutex<Jars<K>>,
}

struct Jars<K> {
    by_key: HashMap<Arc<K>, Entry>,
    /// Oldest first; the numbers are unique.
    by_use: BTreeMap<u64, Arc<K>>,
    /// Numbers uses and evictions.
    next: u64,
    /// How many are being evicted.
    leaving: usize,
    /// The threads that call callbacks, each as often as it does so.
    evicting: Vec<ThreadId>,
}

struct Entry {
    jar: CookieJar,
    used: u64,
    at: Instant,
    /// The jar goes when its callback returns, unless another thread has asked for it.
    leaving: Option<Eviction>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Eviction {
    number: u64,
    by: ThreadId,
}

/// A jar on its way out.
type Leaving<K> = (Arc<K>, CookieJar, Eviction);

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
    /// Most jars at a time, beside those whose [`on_evict`](Self::on_evict) is running. Default:
    /// 1,000; 0 counts as 1.
    ///
    /// Give it more than there are requests at a time. Else jars leave that requests still hold,
    /// and what these then store is not saved; nor is what went into a jar that came and left
    /// while [`new_jar`](Self::new_jar) made it once more.
    pub fn max_jars(mut self, max_jars: usize) -> Self {
        self.max_jars = max_jars.max(1);
        self
    }

    /// How long a jar stays after it was last asked for. Default: an hour.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Makes the jar of a key that has none in the pool: an empty one with other limits, or one
    /// read from where [`on_evict`](Self::on_evict) has put it. It runs under no lock; of two
    /// made at once for one key, one is dropped. Default: [`CookieJar::new`].
    pub fn new_jar(mut self, new_jar: impl Fn(&K) -> CookieJar + Send + Sync + 'static) -> Self {
        self.new_jar = Arc::new(new_jar);
        self
    }

    /// Is called with every jar that leaves, before it does. Default: nothing.
    ///
    /// It may use the pool. What it asks for by [`get`](JarPool::get) evicts nothing until the next
    /// `get` outside, so that it is not called within itself; and its asking does not keep the
    /// jar that it was called for. Where each call adds a jar of a new key, no maximum can
    /// hold.
    ///
    /// Where it panics, the jar leaves like any other, and those that leave with it are handed over
    /// before the panic goes on.
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
        let jars = Jars {
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            next: 0,
            leaving: 0,
            evicting: Vec::new(),
        };
        JarPool { shared: Arc::new(Shared { settings: self, jars: Mutex::new(jars) }) }
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
        let (key, settings) = (key.into(), &self.shared.settings);
        let now = (settings.clock)();
        let known = self.lock().touch(&key, now);
        let jar = known.unwrap_or_else(|| {
            let jar = (settings.new_jar)(&key);
            self.lock().insert(key, jar, now)
        });
        self.evict(now, settings.max_jars);
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
        let entry = jars.take(key)?;
        Some(entry.jar)
    }

    /// Evicts the jars that have been idle for too long, and says how many. For a timer of the
    /// caller's; `get` does the same.
    pub fn evict_idle(&self) -> usize {
        let settings = &self.shared.settings;
        self.evict((settings.clock)(), settings.max_jars)
    }

    /// Evicts every jar, those that requests hold too, and says how many: for saving all at the
    /// end.
    pub fn evict_all(&self) -> usize {
        let leaving = self.lock().all();
        self.send_off(leaving)
    }

    fn evict(&self, now: Instant, max_jars: usize) -> usize {
        let leaving = self.lock().leaving(now, self.shared.settings.idle, max_jars);
        self.send_off(leaving)
    }

    /// No panic of a callback holds up the jars behind it, or leaves one in the pool for good.
    fn send_off(&self, leaving: Vec<Leaving<K>>) -> usize {
        if leaving.is_empty() {
            return 0;
        }
        let _callbacks = Callbacks::of(self);
        let (mut left, mut panic) = (0, None);
        for (key, jar, eviction) in leaving {
            if let Some(on_evict) = &self.shared.settings.on_evict
                && let Err(payload) = catch_unwind(AssertUnwindSafe(|| on_evict(&key, &jar)))
            {
                panic.get_or_insert(payload);
            }
            left += usize::from(self.lock().finish(&key, eviction));
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        left
    }
}

/// As long as this thread calls callbacks.
struct Callbacks<'a, K>(&'a JarPool<K>);

impl<'a, K> Callbacks<'a, K> {
    fn of(pool: &'a JarPool<K>) -> Self {
        pool.lock().evicting.push(thread::current().id());
        Self(pool)
    }
}

impl<K> Drop for Callbacks<'_, K> {
    fn drop(&mut self) {
        let evicting = &mut self.0.lock().evicting;
        let own = evicting.iter().position(|&thread| thread == thread::current().id());
        own.map(|at| evicting.swap_remove(at));
    }
}

impl<K: Hash + Eq> Jars<K> {
    /// Counts as use, and calls an eviction off that another thread has begun.
    fn touch(&mut self, key: &K, now: Instant) -> Option<CookieJar> {
        let (next, entry) = (self.next, self.by_key.get_mut(key)?);
        self.next += 1;
        if let Some(key) = self.by_use.remove(&entry.used) {
            self.by_use.insert(next, key);
        }
        (entry.used, entry.at) = (next, now);
        if entry.leaving.is_some_and(|eviction| eviction.by != thread::current().id()) {
            entry.leaving = None;
            self.leaving -= 1;
        }
        Some(entry.jar.clone())
    }

    fn take(&mut self, key: &K) -> Option<Entry> {
        let entry = self.by_key.remove(key)?;
        self.by_use.remove(&entry.used);
        self.leaving -= usize::from(entry.leaving.is_some());
        Some(entry)
    }

    /// The jar that another has put in meanwhile, if so.
    fn insert(&mut self, key: K, jar: CookieJar, now: Instant) -> CookieJar {
        if let Some(jar) = self.touch(&key, now) {
            return jar;
        }
        let (key, used) = (Arc::new(key), self.next);
        self.next += 1;
        self.by_use.insert(used, Arc::clone(&key));
        self.by_key.insert(key, Entry { jar: jar.clone(), used, at: now, leaving: None });
        jar
    }

    /// Marks what has been idle, then what there is too much of, oldest first.
    fn leaving(&mut self, now: Instant, idle: Duration, max_jars: usize) -> Vec<Leaving<K>> {
        let mut leaving = Vec::new();
        if self.is_in_callback() {
            return leaving;
        }
        let mut staying = self.by_key.len() - self.leaving;
        // Those in use only where that does not suffice.
        for spares_held in [true, false] {
            let mut held = Vec::new();
            for key in self.by_use.values() {
                let Some(entry) = self.by_key.get_mut(key) else { continue };
                let is_idle = spares_held && now.saturating_duration_since(entry.at) >= idle;
                let is_over = staying > max_jars;
                if !is_idle && !is_over {
                    break;
                }
                if entry.leaving.is_some() {
                    continue;
                }
                if spares_held && entry.jar.is_held() {
                    held.push(Arc::clone(key));
                    continue;
                }
                staying -= 1;
                leaving.push(entry.mark(key, &mut self.next));
            }
            // So that the next one need not look at them again.
            for key in held {
                self.touch(&key, now);
            }
            if staying <= max_jars {
                break;
            }
        }
        self.leaving += leaving.len();
        leaving
    }

    fn is_in_callback(&self) -> bool {
        !self.evicting.is_empty() && self.evicting.contains(&thread::current().id())
    }

    fn all(&mut self) -> Vec<Leaving<K>> {
        let staying = self.by_key.iter_mut().filter(|(_, entry)| entry.leaving.is_none());
        let leaving: Vec<_> = staying.map(|(key, entry)| entry.mark(key, &mut self.next)).collect();
        self.leaving += leaving.len();
        leaving
    }

    /// Takes a jar out, unless it has been asked for since it was marked.
    fn finish(&mut self, key: &K, eviction: Eviction) -> bool {
        let is_leaving = self.by_key.get(key).is_some_and(|entry| entry.leaving == Some(eviction));
        is_leaving && self.take(key).is_some()
    }
}

impl Entry {
    fn mark<K>(&mut self, key: &Arc<K>, next: &mut u64) -> Leaving<K> {
        let eviction = Eviction { number: *next, by: thread::current().id() };
        *next += 1;
        self.leaving = Some(eviction);
        (Arc::clone(key), self.jar.clone(), eviction)
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
