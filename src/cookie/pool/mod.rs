//! Jars by key, at most a set number of them: one per tenant of a proxy.

mod jars;

use std::{
    fmt,
    hash::{Hash, RandomState},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use self::jars::{Jars, Keyed, Leaving};
use super::jar::CookieJar;

/// A bounded pool of jars by key, for one client that serves many tenants: see
/// [`CookieLayer::per_request`](super::CookieLayer::per_request).
///
/// [`get`](Self::get) returns the jar of a key, and creates it if there is none. A jar is evicted
/// after nobody has asked for it for the [`idle`](JarPoolBuilder::idle) time. If the pool is
/// [full](JarPoolBuilder::max_jars), the jar that was asked for longest ago is evicted first. `get`
/// and [`evict_idle`](Self::evict_idle) evict; the pool has no background task. A jar that a
/// request holds counts as asked for, unless more than 94 % of the jars are held.
///
/// Before a jar is evicted, [`on_evict`](JarPoolBuilder::on_evict) is called with it, so that it
/// can be saved. The pool is not locked during the call. Whoever asks for the key during the call
/// gets the same jar, and the jar then stays. Two callbacks never run for one key at the same time,
/// so no jar is saved over a later one: a second eviction of a key waits for the first.
///
/// The callbacks must not use the pool. A method of the pool panics if a callback calls it.
///
/// To keep jars in files, save them with [`CookieFile::overwrite`](super::CookieFile::overwrite). A
/// merge with the file would bring back cookies that the tenant has logged out of. `overwrite`
/// replaces any file, so first rename a file that cannot be read.
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
///                 let aside = from.join(format!("{tenant}.damaged"));
///                 if let Err(error) = std::fs::rename(&path, aside) {
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
/// Do not use keys from strangers as file names: escape them, or accept only known ones.
///
/// [`Format::Netscape`](super::Format::Netscape) loses `SameSite` and the times of creation. With
/// the feature `json` use `Format::Json`, which keeps everything.
///
/// A jar is saved only when it is evicted. The guide's page
/// [`proxies_and_meshes`](crate::guide::proxies_and_meshes#jars-in-files) says what a crash loses,
/// and how to log a tenant out.
///
/// Clones share the jars. A pool takes at most the memory of its jars at their
/// [limits](super::CookieLimits): by default 1,000 times 16 MiB of cookies. If keys come from
/// strangers, set smaller limits with [`new_jar`](JarPoolBuilder::new_jar).
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
///
/// # In async code
///
/// [`get`](Self::get) calls [`new_jar`](JarPoolBuilder::new_jar) on the thread of its caller, and
/// [`on_evict`](JarPoolBuilder::on_evict) for each jar that it evicts.
/// [`evict_idle`](Self::evict_idle) and [`evict_all`](Self::evict_all) call `on_evict` in the same
/// way. If the callbacks use files, call these methods on a thread that may block, such as that of
/// tokio's `spawn_blocking`.
pub struct JarPool<K = String> {
    shared: Arc<Shared<K>>,
}

struct Shared<K> {
    settings: JarPoolBuilder<K>,
    hasher: RandomState,
    jars: Mutex<Jars<K>>,
    /// Notified when a callback has ended.
    over: Condvar,
}

/// Builds a [`JarPool`]. Created by [`JarPool::builder`] or [`JarPool::keyed`].
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::cookie::JarPool;
///
/// let jars = JarPool::builder().max_jars(10_000).idle(Duration::from_secs(600)).build();
/// assert!(jars.is_empty());
/// ```
#[must_use]
pub struct JarPoolBuilder<K = String> {
    max_jars: usize,
    idle: Duration,
    new_jar: Arc<dyn Fn(&K) -> CookieJar + Send + Sync>,
    on_evict: Option<Arc<dyn Fn(&K, &CookieJar) + Send + Sync>>,
    clock: fn() -> Instant,
}

impl<K> JarPoolBuilder<K> {
    /// The maximum number of jars in the pool, not counting those whose
    /// [`on_evict`](Self::on_evict) is running.
    ///
    /// Default: 1,000. 0 counts as 1. Set this above the number of concurrent requests. Otherwise a
    /// jar may be evicted while a request still uses it, and what the request then stores is not
    /// saved.
    ///
    /// ```
    /// use tower_outbound::cookie::JarPool;
    ///
    /// let jars = JarPool::builder().max_jars(1).build();
    /// jars.get("ann");
    /// jars.get("bob"); // evicts ann's
    /// assert_eq!(jars.len(), 1);
    /// ```
    pub fn max_jars(mut self, max_jars: usize) -> Self {
        // With 0, the jar that `get` is about to return would be evicted at once.
        self.max_jars = max_jars.max(1);
        self
    }

    /// How long a jar stays after it was last asked for.
    ///
    /// Default: 1 hour.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::cookie::JarPool;
    ///
    /// let jars = JarPool::builder().idle(Duration::from_secs(600)).build();
    /// # let _: JarPool = jars;
    /// ```
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Sets a function that creates the jar of a key that has none in the pool: for example an
    /// empty jar with other limits, or one read from where [`on_evict`](Self::on_evict) saved it.
    ///
    /// Default: [`CookieJar::new`].
    ///
    /// The pool is not locked during the call. Whoever asks for the same key waits and gets the
    /// same jar, so a jar that was read earlier never replaces a later one. If the key is
    /// [removed](JarPool::remove) during the call, the jar is created again. The callback must not
    /// use the pool: a method of the pool that it calls panics.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, CookieLimits, JarPool};
    ///
    /// let limits = CookieLimits { total: 500, ..CookieLimits::default() };
    /// let jars = JarPool::builder()
    ///     .new_jar(move |_: &String| CookieJar::builder().limits(limits).build())
    ///     .build();
    /// assert!(jars.get("ann").is_empty());
    /// ```
    pub fn new_jar(mut self, new_jar: impl Fn(&K) -> CookieJar + Send + Sync + 'static) -> Self {
        self.new_jar = Arc::new(new_jar);
        self
    }

    /// Sets a function that is called with each jar before it is evicted.
    ///
    /// Default: nothing.
    ///
    /// If the callback panics, the jar is evicted all the same. Other jars of the same eviction are
    /// handed over before the panic continues. The callback must not use the pool: a method of the
    /// pool that it calls panics.
    ///
    /// ```
    /// use tower_outbound::cookie::JarPool;
    ///
    /// let jars = JarPool::builder()
    ///     .on_evict(|tenant: &String, jar| println!("{tenant} leaves with {} cookies", jar.len()))
    ///     .build();
    /// jars.get("ann");
    /// assert_eq!(jars.evict_all(), 1);
    /// ```
    pub fn on_evict(mut self, on_evict: impl Fn(&K, &CookieJar) + Send + Sync + 'static) -> Self {
        self.on_evict = Some(Arc::new(on_evict));
        self
    }

    /// Sets the clock, for tests.
    ///
    /// Default: [`Instant::now`].
    ///
    /// ```
    /// use std::time::Instant;
    /// use tower_outbound::cookie::JarPool;
    ///
    /// let jars = JarPool::builder().clock(Instant::now).build(); // or a test's own function
    /// # let _: JarPool = jars;
    /// ```
    pub const fn clock(mut self, clock: fn() -> Instant) -> Self {
        self.clock = clock;
        self
    }

    /// Builds an empty pool.
    #[must_use]
    pub fn build(self) -> JarPool<K> {
        let (jars, over) = (Mutex::new(Jars::new()), Condvar::new());
        JarPool {
            shared: Arc::new(Shared { settings: self, hasher: RandomState::new(), jars, over }),
        }
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
    /// Starts a pool with `String` keys. For other keys see [`keyed`](JarPool::keyed).
    pub fn builder() -> JarPoolBuilder {
        Self::keyed()
    }
}

impl<K> JarPool<K> {
    /// Starts a pool with keys of any type.
    ///
    /// ```
    /// use tower_outbound::cookie::JarPool;
    ///
    /// let jars = JarPool::<u64>::keyed().build();
    /// assert!(jars.get(7_u64).is_empty());
    /// ```
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
        let jars = self.enter();
        // Without this check, a callback that asks for one more jar evicts another, whose callback
        // asks for one more, until the stack ends. Or a callback waits for itself. The lock is
        // released before the panic.
        if jars.is_in_callback() {
            drop(jars);
            panic!("a callback of a JarPool must not use the pool");
        }
        jars
    }

    fn enter(&self) -> MutexGuard<'_, Jars<K>> {
        // Only a key's `Eq` panics under the lock, before anything is changed. So the pool behind a
        // poisoned lock is intact.
        self.shared.jars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, jars: MutexGuard<'a, Jars<K>>) -> MutexGuard<'a, Jars<K>> {
        self.shared.over.wait(jars).unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the lock for a callback of that key, which may read and write files while other
    /// tenants continue.
    fn begin<'a>(&'a self, mut jars: MutexGuard<'a, Jars<K>>, hash: u64) -> Callback<'a, K> {
        jars.begin(hash);
        Callback { pool: self, is_over: false }
    }

    /// Returns the number of jars.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether the pool has no jars.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> JarPool<K> {
    /// Returns the jar of the key, and creates it if there is none. This call never evicts it.
    ///
    /// Waits while another thread creates the jar, and while another thread's
    /// [`on_evict`](JarPoolBuilder::on_evict) runs for a key that this call evicts.
    ///
    /// # Panics
    ///
    /// If a callback of the pool panics, or if a callback makes this call. Every method of the pool
    /// panics if a callback calls it.
    pub fn get(&self, key: impl Into<K>) -> CookieJar {
        let (settings, key) = (&self.shared.settings, Keyed::new(&self.shared.hasher, key.into()));
        let now = (settings.clock)();
        let mut jars = self.lock();
        let known = jars.touch(&Keyed { hash: key.hash, key: &key.key }, now);
        let jar;
        (jars, jar) = match known {
            Some(jar) => (jars, jar),
            None => self.make(jars, Keyed { hash: key.hash, key: Arc::new(key.key) }, now),
        };
        // Under the same lock, so the last use is this one.
        let spared = jars.last_use();
        let leaving = jars.leaving(now, settings.idle, settings.max_jars, spared);
        drop(jars);
        self.send_off(leaving);
        jar
    }

    /// Creates the jar of a key that had none just now.
    ///
    /// One thread creates it, and the others wait. If two threads created it, the slower one could
    /// insert a jar that it had read before the other's jar was saved and evicted.
    fn make<'a>(
        &'a self,
        mut jars: MutexGuard<'a, Jars<K>>,
        key: Keyed<Arc<K>>,
        now: Instant,
    ) -> (MutexGuard<'a, Jars<K>>, CookieJar) {
        while jars.has_callback(key.hash) {
            jars = self.wait(jars);
            if let Some(jar) = jars.touch(&Keyed { hash: key.hash, key: &*key.key }, now) {
                return (jars, jar);
            }
        }
        loop {
            let callback = self.begin(jars, key.hash);
            let jar = (self.shared.settings.new_jar)(&key.key);
            let is_outdated;
            (jars, is_outdated) = callback.end();
            if !is_outdated {
                jars.insert(key, jar.clone(), now);
                return (jars, jar);
            }
        }
    }

    /// Returns the jar of the key if it is in the pool. Does not count as asking for it.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<CookieJar> {
        let key = Keyed::new(&self.shared.hasher, key);
        self.lock().peek(&key).cloned()
    }

    /// Removes the jar of the key from the pool, without calling
    /// [`on_evict`](JarPoolBuilder::on_evict).
    ///
    /// Does not wait for an `on_evict` that runs for this key. What it saves may appear after this
    /// call has returned.
    pub fn remove(&self, key: &K) -> Option<CookieJar> {
        let key = Keyed::new(&self.shared.hasher, key);
        // A jar that is being created may have been read before this call.
        self.lock().take(&key)
    }

    /// Evicts the jars that were idle for too long, and returns their number. `get` does the same.
    /// Call it from a timer of your own if `get` is called rarely.
    pub fn evict_idle(&self) -> usize {
        let settings = &self.shared.settings;
        let now = (settings.clock)();
        let leaving = self.lock().leaving(now, settings.idle, settings.max_jars, None);
        self.send_off(leaving)
    }

    /// Evicts every jar, also those that requests hold, and returns their number. Use it to save
    /// all jars at the end. A jar whose callback runs on another thread is handed over again, after
    /// that callback has returned.
    pub fn evict_all(&self) -> usize {
        let leaving = self.lock().all();
        self.send_off(leaving)
    }

    /// If a callback panics, the other jars are still handed over, and all of them leave the pool.
    fn send_off(&self, leaving: Vec<Leaving<K>>) -> usize {
        let (mut left, mut panic) = (0, None);
        for leaving in leaving {
            let mut jars = self.lock();
            if let Some(on_evict) = &self.shared.settings.on_evict {
                let key = &leaving.key;
                while jars.has_callback(key.hash) {
                    jars = self.wait(jars);
                }
                if !jars.is_leaving(&leaving) {
                    continue;
                }
                let callback = self.begin(jars, key.hash);
                let call = || on_evict(&key.key, &leaving.jar);
                // The first panic is reported: later ones tend to follow from it.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
                    panic.get_or_insert(payload);
                }
                (jars, _) = callback.end();
            }
            // Only now: whoever asks for the key during the call must get this jar, and not a new
            // one that is read from a half-written file.
            left += usize::from(jars.finish(&leaving));
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        left
    }
}

/// A callback of the user, which runs without a lock.
struct Callback<'a, K> {
    pool: &'a JarPool<K>,
    is_over: bool,
}

impl<'a, K> Callback<'a, K> {
    /// Takes the lock again. Returns whether the key was removed meanwhile.
    fn end(mut self) -> (MutexGuard<'a, Jars<K>>, bool) {
        let mut jars = self.pool.enter();
        self.is_over = true;
        let is_outdated = jars.end();
        (jars, is_outdated)
    }
}

// On drop, since a callback may panic. A thread that waits for the jar then creates it.
impl<K> Drop for Callback<'_, K> {
    fn drop(&mut self) {
        if !self.is_over {
            self.pool.enter().end();
        }
        self.pool.shared.over.notify_all();
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

// Keys may be secrets, such as a session's token.
impl<K> fmt::Debug for JarPool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JarPool").field("len", &self.enter().len()).finish_non_exhaustive()
    }
}
