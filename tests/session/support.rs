//! Replicas of one store, and a store that a test controls.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, StreamExt, stream};
use http::{Request, Response, Uri, header::COOKIE};
use tokio::sync::{Semaphore, mpsc};
use tower::{BoxError, Layer, ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_outbound::{
    cookie::CookieLayer,
    session::{
        Applied, Contents, Event, MemoryStore, Record, SessionKey, SessionLayer, SessionPool,
        SessionStore, SessionVersion, StoreKey, Version,
    },
};

pub(crate) fn uri(text: &str) -> Uri {
    text.parse().unwrap()
}

pub(crate) fn key(name: impl AsRef<[u8]>) -> SessionKey {
    SessionKey::new(name.as_ref())
}

/// Commands that reached a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Commands {
    pub(crate) loads: usize,
    pub(crate) versions: usize,
    pub(crate) applies: usize,
}

/// A store in memory that counts commands. A test decides when it waits, fails and reports changes.
pub(crate) struct Double {
    pub(crate) inner: MemoryStore,
    counts: [AtomicUsize; 3],
    pub(crate) is_down: AtomicBool,
    /// Whether an apply that fails was stored.
    pub(crate) answers_are_lost: AtomicBool,
    /// Whether an apply waits at its gate before it is stored, and not after.
    pub(crate) is_stuck: AtomicBool,
    /// Whether the store reports changes of other clones.
    pub(crate) tells: AtomicBool,
    /// Answers wait for one of these permits.
    load_gate: Gate,
    apply_gate: Gate,
    /// What loads return instead of the stored contents.
    pub(crate) garbage: Mutex<Option<Contents>>,
    events: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    tell: mpsc::UnboundedSender<Event>,
}

/// Open unless it is shut. A command at a shut gate has done its work, and its answer waits.
struct Gate {
    is_shut: AtomicBool,
    waiting: Semaphore,
    passes: Semaphore,
}

impl Gate {
    fn new() -> Self {
        let (waiting, passes) = (Semaphore::new(0), Semaphore::new(0));
        Self { is_shut: AtomicBool::new(false), waiting, passes }
    }

    async fn pass(&self) {
        if self.is_shut.load(SeqCst) {
            self.waiting.add_permits(1);
            self.passes.acquire().await.unwrap().forget();
        }
    }
}

/// A gate that a test has shut.
pub(crate) struct Shut<'a>(&'a Gate);

impl Shut<'_> {
    /// Until one more answer waits.
    pub(crate) async fn waits(&self) {
        self.0.waiting.acquire().await.unwrap().forget();
    }

    pub(crate) fn open(self) {
        self.0.is_shut.store(false, SeqCst);
        self.0.passes.add_permits(1_000);
    }
}

impl Double {
    pub(crate) fn new(memory: &MemoryStore) -> Arc<Self> {
        let (tell, events) = mpsc::unbounded_channel();
        Arc::new(Self {
            inner: memory.clone(),
            counts: Default::default(),
            is_down: AtomicBool::new(false),
            answers_are_lost: AtomicBool::new(false),
            is_stuck: AtomicBool::new(false),
            tells: AtomicBool::new(true),
            load_gate: Gate::new(),
            apply_gate: Gate::new(),
            garbage: Mutex::default(),
            events: Mutex::new(Some(events)),
            tell,
        })
    }

    pub(crate) fn commands(&self) -> Commands {
        let [loads, versions, applies] = &self.counts;
        Commands {
            loads: loads.load(SeqCst),
            versions: versions.load(SeqCst),
            applies: applies.load(SeqCst),
        }
    }

    pub(crate) fn shut_loads(&self) -> Shut<'_> {
        self.load_gate.is_shut.store(true, SeqCst);
        Shut(&self.load_gate)
    }

    pub(crate) fn shut_applies(&self) -> Shut<'_> {
        self.apply_gate.is_shut.store(true, SeqCst);
        Shut(&self.apply_gate)
    }

    pub(crate) fn tell(&self, event: Event) {
        self.tell.send(event).unwrap();
    }

    fn answer<T>(&self, answer: Result<T, Infallible>) -> Result<T, BoxError> {
        if self.is_down.load(SeqCst) { Err("it is down".into()) } else { Ok(answer.unwrap()) }
    }
}

impl SessionStore for Double {
    type Error = BoxError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, BoxError> {
        self.counts[0].fetch_add(1, SeqCst);
        let contents = self.inner.load(key).await;
        self.load_gate.pass().await;
        let garbage = self.garbage.lock().unwrap().clone();
        self.answer(garbage.map_or(contents, Ok))
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, BoxError> {
        self.counts[2].fetch_add(1, SeqCst);
        if self.is_down.load(SeqCst) && !self.answers_are_lost.load(SeqCst) {
            return Err("it is down".into());
        }
        let is_stuck = self.is_stuck.load(SeqCst);
        if is_stuck {
            self.apply_gate.pass().await;
        }
        let applied = self.inner.apply(key, known, records, ttl).await;
        if !is_stuck {
            self.apply_gate.pass().await;
        }
        self.answer(applied)
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, BoxError> {
        self.counts[1].fetch_add(1, SeqCst);
        self.answer(self.inner.version(key).await)
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), BoxError> {
        self.answer(self.inner.forget(tenant).await)
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        let told = self.events.lock().unwrap().take().unwrap();
        let told = stream::unfold(told, |mut told| async { Some((told.recv().await?, told)) });
        let of_memory = self.inner.events().filter(|_| std::future::ready(self.tells.load(SeqCst)));
        stream::select(told, of_memory)
    }
}

/// A client over a pool. Its server sets each line of the request's `x-set` and answers with the
/// `Cookie` header that it got.
pub(crate) type Client = BoxCloneSyncService<Request<()>, Response<String>, BoxError>;

pub(crate) fn client<S: SessionStore>(pool: &SessionPool<S>) -> Client {
    let server = service_fn(|request: Request<()>| async move { answer(&request) });
    let inner = CookieLayer::per_request().layer(server);
    BoxCloneSyncService::new(SessionLayer::new(pool.clone()).layer(inner))
}

pub(crate) fn answer(request: &Request<()>) -> Result<Response<String>, Infallible> {
    let got = request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap());
    let mut response = Response::new(got.to_owned());
    for line in request.headers().get_all("x-set") {
        response.headers_mut().append("set-cookie", line.clone());
    }
    Ok(response)
}

/// A request of a session to a site.
pub(crate) fn request(name: &str, to: &str, lines: &[&str]) -> Request<()> {
    let request = Request::get(to).extension(key(name));
    lines.iter().fold(request, |request, line| request.header("x-set", *line)).body(()).unwrap()
}

pub(crate) const SITE: &str = "https://example.com/";

/// The cookies of a session that the server got. Its response sets these.
pub(crate) async fn get(client: &Client, name: &str, lines: &[&str]) -> Result<String, BoxError> {
    Ok(client.clone().oneshot(request(name, SITE, lines)).await?.into_body())
}

/// The same, with the version of the response.
pub(crate) async fn versioned(
    client: &Client,
    name: &str,
    lines: &[&str],
    at_least: Option<&SessionVersion>,
) -> (String, SessionVersion) {
    let mut request = request(name, SITE, lines);
    if let Some(version) = at_least {
        request.extensions_mut().insert(version.clone());
    }
    let response = client.clone().oneshot(request).await.unwrap();
    let version = response.extensions().get::<SessionVersion>().unwrap().clone();
    (response.into_body(), version)
}

/// Waits until a clock of microseconds shows a later time.
pub(crate) fn tick() {
    let micros = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let now = micros();
    while micros() == now {
        std::hint::spin_loop();
    }
}

/// Lets tasks run that are ready, such as the driver of a pool.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

/// A pool's driver.
pub(crate) type Driver = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// One replica: a pool over a double of the memory, its client, and its driver spawned.
pub(crate) struct Replica {
    pub(crate) store: Arc<Double>,
    pub(crate) pool: SessionPool<Arc<Double>>,
    pub(crate) client: Client,
}

pub(crate) type Builder = tower_outbound::session::SessionPoolBuilder<Arc<Double>>;

impl Replica {
    pub(crate) async fn new(memory: &MemoryStore) -> Self {
        Self::with(memory, |builder| builder).await
    }

    pub(crate) async fn with(
        memory: &MemoryStore,
        set_up: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let replica = Self::undriven(memory, set_up);
        tokio::spawn(replica.1);
        settle().await;
        replica.0
    }

    pub(crate) fn undriven(
        memory: &MemoryStore,
        set_up: impl FnOnce(Builder) -> Builder,
    ) -> (Self, Driver) {
        let store = Double::new(memory);
        let (pool, driver) = set_up(SessionPool::builder(Arc::clone(&store))).unsealed().build();
        let client = client(&pool);
        (Self { store, pool, client }, Box::pin(driver))
    }

    /// The cookies of a session that the server gets.
    pub(crate) async fn sees(&self, name: &str) -> String {
        get(&self.client, name, &[]).await.unwrap()
    }

    /// A response sets these.
    pub(crate) async fn set(&self, name: &str, lines: &[&str]) {
        get(&self.client, name, lines).await.unwrap();
    }
}

/// The store's key for a session's cookies of the site.
pub(crate) async fn store_key(memory: &MemoryStore, name: &str) -> StoreKey {
    let listener = memory.clone();
    let mut events = std::pin::pin!(listener.events());
    assert!(matches!(events.next().await, Some(Event::Back { .. })));
    Replica::undriven(memory, |pool| pool).0.set(name, &["key=1"]).await;
    match events.next().await {
        Some(Event::Changed(key)) => key,
        other => panic!("{other:?}"),
    }
}
