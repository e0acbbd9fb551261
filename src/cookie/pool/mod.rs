//! Jars by key, a bounded number of them: one for each tenant of a proxy.

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
/// [`get`](Self::get) returns a tenant's jar, and makes it if there is none. A jar leaves the pool
/// once nobody has asked for it during [`idle`](JarPoolBuilder::idle). If the pool is
/// [full](JarPoolBuilder::max_jars), the jar that was asked for longest ago leaves first. Both
/// happen in `get` and in [`evict_idle`](Self::evict_idle): there is no task behind the pool. A jar
/// that a request still holds counts as asked for, unless nearly every jar is held.
///
/// A jar that leaves is handed to [`on_evict`](JarPoolBuilder::on_evict) first, so that it can be
/// saved. The pool is not locked during the call. Whoever asks for that key meanwhile gets the same
/// jar, and the jar then stays. No two callbacks run for one key at a time, so that no jar is saved
/// over a later one: a second eviction of a key waits for the first.
///
/// The pool's callbacks must not use the pool. A call to it from inside one panics, so that a
/// callback cannot call itself without end.
///
/// To keep jars in files, save them with [`CookieFile::overwrite`](super::CookieFile::overwrite):
/// the pool alone knows a tenant's cookies, and a merge with what the file held would bring back
/// what the tenant has logged out of. Move a file that cannot be read aside first, since
/// `overwrite` replaces it in any case.
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
/// Do not use keys that come from strangers as file names: escape them, or accept only those you
/// know.
///
/// Clones share the jars. The memory of a pool is at most that of its jars at their
/// [limits](super::CookieLimits). If keys come from strangers, set smaller limits with
/// [`new_jar`](JarPoolBuilder::new_jar).
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
    hasher: RandomState,
    jars: Mutex<Jars<K>>,
    /// A callback is over.
    over: Condvar,
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
    /// Most jars at a time, not counting those whose [`on_evict`](Self::on_evict) is running.
    /// Default: 1,000; 0 counts as 1.
    ///
    /// Set this above the number of concurrent requests. Otherwise a jar may leave while a request
    /// holds it, and what the request then stores is not saved.
    pub fn max_jars(mut self, max_jars: usize) -> Self {
        // With none, the jar that `get` is about to return would leave at once.
        self.max_jars = max_jars.max(1);
        self
    }

    /// How long a jar stays after it was last asked for. Default: an hour.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// Makes the jar of a key that has none in the pool: an empty jar with other limits, or one
    /// read from where [`on_evict`](Self::on_evict) saved it. Default: [`CookieJar::new`].
    ///
    /// The pool is not locked during the call. Whoever asks for the same key meanwhile waits for it
    /// and gets the same jar, so that a jar that was read earlier never replaces a later one. If
    /// the key is [removed](JarPool::remove) during the call, the jar is made again.
    ///
    /// # Panics
    ///
    /// The callback must not use the pool: a call to it from inside panics.
    pub fn new_jar(mut self, new_jar: impl Fn(&K) -> CookieJar + Send + Sync + 'static) -> Self {
        self.new_jar = Arc::new(new_jar);
        self
    }

    /// Is called with every jar that leaves, before it does. Default: nothing.
    ///
    /// If it panics, the jar leaves like any other. Jars that leave with it are handed over before
    /// the panic goes on.
    ///
    /// # Panics
    ///
    /// The callback must not use the pool: a call to it from inside panics.
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
    /// Starts a pool whose keys are text. For keys of another type see [`keyed`](JarPool::keyed).
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
        let jars = self.enter();
        // Without this a callback that asks for one more jar evicts another, whose callback asks
        // for one more, until the stack ends; or a callback waits for itself. The lock is given
        // back before the panic.
        if jars.is_in_callback() {
            drop(jars);
            panic!("a callback of a JarPool must not use the pool");
        }
        jars
    }

    fn enter(&self) -> MutexGuard<'_, Jars<K>> {
        // What panics under the lock is a key's `Eq`, before anything is changed, so a poisoned
        // lock guards a whole pool.
        self.shared.jars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, jars: MutexGuard<'a, Jars<K>>) -> MutexGuard<'a, Jars<K>> {
        self.shared.over.wait(jars).unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the lock back for a callback of that key: it may read and write files for as long as
    /// it likes while other tenants go on.
    fn begin<'a>(&'a self, mut jars: MutexGuard<'a, Jars<K>>, hash: u64) -> Callback<'a, K> {
        jars.begin(hash);
        Callback { pool: self, is_over: false }
    }

    /// How many jars there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Hash + Eq> JarPool<K> {
    /// The jar of that key, made if there is none. This call never evicts it.
    ///
    /// Waits while another thread makes it, and while another thread's
    /// [`on_evict`](JarPoolBuilder::on_evict) runs for a key that this call evicts.
    ///
    /// # Panics
    ///
    /// If one of the pool's callbacks does; so every method does that is called from inside one.
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
        // Under the same lock, so that the last use is this one.
        let spared = jars.last_use();
        let leaving = jars.leaving(now, settings.idle, settings.max_jars, spared);
        drop(jars);
        self.send_off(leaving);
        jar
    }

    /// The jar of a key that had none just now.
    ///
    /// One thread makes it, and the others wait. If two made it, one of them could be slow, come
    /// after the other's jar has left again, and put in what was read before that jar was saved.
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

    /// The jar of that key if it is in the pool. This does not count as use.
    #[must_use]
    pub fn peek(&self, key: &K) -> Option<CookieJar> {
        let key = Keyed::new(&self.shared.hasher, key);
        self.lock().peek(&key).cloned()
    }

    /// Takes the jar of that key out, without the callback.
    pub fn remove(&self, key: &K) -> Option<CookieJar> {
        let key = Keyed::new(&self.shared.hasher, key);
        // What is being made may have been read before this call.
        self.lock().take(&key)
    }

    /// Evicts the jars that have been idle for too long, and returns their number. For a timer of
    /// the caller's own; `get` does the same.
    pub fn evict_idle(&self) -> usize {
        let settings = &self.shared.settings;
        let now = (settings.clock)();
        let leaving = self.lock().leaving(now, settings.idle, settings.max_jars, None);
        self.send_off(leaving)
    }

    /// Evicts every jar, also those that requests hold, and returns their number. For saving all at
    /// the end: a jar whose callback runs on another thread is handed over once more.
    pub fn evict_all(&self) -> usize {
        let leaving = self.lock().all();
        self.send_off(leaving)
    }

    /// No panic of a callback holds up the jars behind it, or leaves one in the pool for good.
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
                // The first panic is the one to report: later ones tend to follow from it.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
                    panic.get_or_insert(payload);
                }
                (jars, _) = callback.end();
            }
            // Only now: whoever asks for the key during the call must get this jar, not a new one
            // that is read from a half-written file.
            left += usize::from(jars.finish(&leaving));
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
        left
    }
}

/// A callback of the user's, which runs under no lock.
struct Callback<'a, K> {
    pool: &'a JarPool<K>,
    is_over: bool,
}

impl<'a, K> Callback<'a, K> {
    /// Takes the lock again; says whether the key was taken out meanwhile.
    fn end(mut self) -> (MutexGuard<'a, Jars<K>>, bool) {
        let mut jars = self.pool.enter();
        self.is_over = true;
        let is_outdated = jars.end();
        (jars, is_outdated)
    }
}

// On drop, since a callback may panic. One who waits for a jar then makes it.
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

// Keys may be secrets: a session's token, say.
impl<K> fmt::Debug for JarPool<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JarPool").field("len", &self.enter().len()).finish_non_exhaustive()
    }
}
