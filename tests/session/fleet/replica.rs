//! A replica in another process. It reads requests as lines, and answers with lines.

use std::{
    collections::HashMap,
    convert::Infallible,
    env,
    process::Stdio,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use futures_util::{Stream, StreamExt};
use http::{
    HeaderMap, Request, Response,
    header::{COOKIE, SET_COOKIE},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, oneshot},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_outbound::{
    cookie::{CookieJar, CookieLayer},
    session::{
        Applied, Consistency, Contents, Event, FileStore, Record, SessionKey, SessionLayer,
        SessionPool, SessionStore, SessionVersion, StoreKey, Version,
    },
};

const STORE: &str = "SESSION_REPLICA_STORE";
const VALIDATED: &str = "SESSION_REPLICA_VALIDATED";
const DEADLINE: &str = "SESSION_REPLICA_DEADLINE";
const SKEW: &str = "SESSION_REPLICA_SKEW";

/// How a replica is set up.
#[derive(Clone)]
pub(super) struct Setup {
    /// `files:DIRECTORY`, `redis:URL` or `blob:URL`.
    store: String,
    pub(super) validated: bool,
    pub(super) deadline: Duration,
    /// How long it may take until every replica knows the last change.
    pub(super) patience: Duration,
}

impl Setup {
    pub(super) fn new(store: String) -> Self {
        let (deadline, patience) = (Duration::from_secs(20), Duration::from_secs(20));
        Self { store, validated: false, deadline, patience }
    }
}

/// What a request was sent with, and the version that its response had.
#[derive(Debug)]
pub(super) struct Answer {
    sent: String,
    pub(super) version: String,
}

impl Answer {
    pub(super) fn cookies(&self) -> impl Iterator<Item = &str> {
        self.sent.split("; ").filter(|pair| !pair.is_empty())
    }

    pub(super) fn value(&self, cookie: usize) -> Option<&str> {
        let name = format!("c{cookie}=");
        self.cookies().find_map(|pair| pair.strip_prefix(&name))
    }
}

pub(super) struct Replica {
    setup: Setup,
    skew: i64,
    running: tokio::sync::Mutex<Running>,
}

struct Running {
    child: Child,
    questions: mpsc::UnboundedSender<String>,
    answers: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    number: u64,
    /// `None` once the process has ended.
    by_number: Option<HashMap<u64, oneshot::Sender<Option<Answer>>>>,
}

impl Replica {
    pub(super) async fn start(setup: &Setup, skew: i64) -> Self {
        let running = tokio::sync::Mutex::new(Running::start(setup, skew).await);
        Self { setup: setup.clone(), skew, running }
    }

    /// `None` if it was refused, or the replica was killed before it answered.
    pub(super) async fn ask(&self, tenant: usize, set: &str, version: &str) -> Option<Answer> {
        let answer = self.running.lock().await.ask(tenant, set, version)?;
        answer.await.ok()?
    }

    /// As `kill -9`, while requests are in flight.
    pub(super) async fn kill_and_start_again(&self) {
        let mut running = self.running.lock().await;
        running.child.kill().await.unwrap();
        *running = Running::start(&self.setup, self.skew).await;
    }
}

impl Running {
    async fn start(setup: &Setup, skew: i64) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "fleet::replica::serves_until_its_input_ends", "--nocapture"])
            .env(STORE, &setup.store)
            .env(VALIDATED, if setup.validated { "1" } else { "" })
            .env(DEADLINE, setup.deadline.as_millis().to_string())
            .env(SKEW, skew.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness has lines of its own.
        while lines.next_line().await.unwrap().expect("it begins to serve") != "= ready" {}
        let waiting = Waiting { number: 0, by_number: Some(HashMap::new()) };
        let answers = Arc::new(Mutex::new(waiting));
        let (questions, asked) = mpsc::unbounded_channel();
        tokio::spawn(tell(stdin, asked));
        let to = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Some(line) = line.strip_prefix("= ") else { continue };
                let mut parts = line.splitn(3, '\t');
                let number = parts.next().unwrap().parse().unwrap();
                let answer = parts.next().zip(parts.next());
                let answer = answer.map(|(version, sent)| Answer {
                    sent: sent.to_owned(),
                    version: version.to_owned(),
                });
                let caller = to.lock().unwrap().by_number.as_mut().unwrap().remove(&number);
                let _ = caller.unwrap().send(answer);
            }
            // Whoever waits gets no answer.
            to.lock().unwrap().by_number = None;
        });
        Self { child, questions, answers }
    }

    fn ask(
        &self,
        tenant: usize,
        set: &str,
        version: &str,
    ) -> Option<oneshot::Receiver<Option<Answer>>> {
        let (caller, answer) = oneshot::channel();
        let mut waiting = self.answers.lock().unwrap();
        waiting.number += 1;
        let number = waiting.number;
        waiting.by_number.as_mut()?.insert(number, caller);
        self.questions.send(format!("{number}\t{tenant}\t{version}\t{set}\n")).ok()?;
        Some(answer)
    }
}

async fn tell(mut stdin: ChildStdin, mut asked: mpsc::UnboundedReceiver<String>) {
    while let Some(line) = asked.recv().await {
        if stdin.write_all(line.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The other process. Without a store in its environment it is a test that does nothing.
#[test]
fn serves_until_its_input_ends() {
    let Ok(store) = env::var(STORE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match store.split_once(':').unwrap() {
            ("files", directory) => serve(FileStore::open(directory).unwrap().sync(false)).await,
            #[cfg(feature = "redis")]
            (kind, url) => {
                use tower_outbound::session::{RedisConfig, RedisStore};
                let store = RedisStore::new(RedisConfig::new(url).unwrap()).unwrap();
                match kind {
                    "redis" => serve(store).await,
                    _ => serve(super::blob::Blob::new(store)).await,
                }
            }
            #[cfg(not(feature = "redis"))]
            (kind, _) => panic!("{kind}"),
        }
    });
}

fn skew() -> i64 {
    static SKEW_MS: OnceLock<i64> = OnceLock::new();
    *SKEW_MS.get_or_init(|| env::var(SKEW).unwrap().parse().unwrap())
}

/// The clock of a machine that is wrong.
fn clock() -> SystemTime {
    let by = Duration::from_millis(skew().unsigned_abs());
    if skew() < 0 { SystemTime::now() - by } else { SystemTime::now() + by }
}

async fn serve<S: SessionStore>(store: S) {
    let (consistency, deadline) = (
        if env::var(VALIDATED).unwrap().is_empty() {
            Consistency::Cached
        } else {
            Consistency::Validated
        },
        Duration::from_millis(env::var(DEADLINE).unwrap().parse().unwrap()),
    );
    let (pool, driver) = SessionPool::builder(Skewed(store))
        .jar(CookieJar::builder().clock(clock))
        .consistency(consistency)
        .deadline(deadline)
        .unsealed()
        .build();
    tokio::spawn(driver);
    // The upstream says what the caller wants it to say, and what it was sent.
    let upstream = service_fn(|request: Request<()>| async move {
        let sent = request.headers().get(COOKIE).map_or("", |value| value.to_str().unwrap());
        let mut response = Response::new(sent.to_owned());
        if let Some(set) = request.headers().get("x-set") {
            response.headers_mut().insert(SET_COOKIE, set.clone());
        }
        Ok::<_, Infallible>(response)
    });
    let stack = SessionLayer::new(pool).layer(CookieLayer::per_request().layer(upstream));
    println!("\n= ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        let stack = stack.clone();
        tokio::spawn(async move {
            let [number, tenant, version, set] =
                line.split('\t').collect::<Vec<_>>().try_into().unwrap();
            let key = SessionKey::new(format!("tenant {tenant}").into_bytes());
            let mut request = Request::get("https://app.example/").extension(key);
            if !version.is_empty() {
                request = request.extension(SessionVersion::from_bytes(&from_hex(version)));
            }
            let mut request = request.body(()).unwrap();
            if !set.is_empty() {
                *request.headers_mut() =
                    HeaderMap::from_iter([("x-set".parse().unwrap(), set.parse().unwrap())]);
            }
            match stack.oneshot(request).await {
                Ok(response) => {
                    let version = response.extensions().get::<SessionVersion>();
                    let version =
                        version.map_or(String::new(), |version| to_hex(version.as_bytes()));
                    println!("= {number}\t{version}\t{}", response.body());
                }
                Err(_) => println!("= {number}"),
            }
        });
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// A store, as seen by a machine with a wrong clock: the distance to the store's clock differs.
struct Skewed<S>(S);

impl<S: SessionStore> SessionStore for Skewed<S> {
    type Error = S::Error;

    async fn load(&self, key: &StoreKey) -> Result<Contents, S::Error> {
        self.0.load(key).await
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        ttl: Duration,
    ) -> Result<Applied, S::Error> {
        self.0.apply(key, known, records, ttl).await
    }

    async fn version(&self, key: &StoreKey) -> Result<Version, S::Error> {
        self.0.version(key).await
    }

    async fn forget(&self, tenant: &SessionKey) -> Result<(), S::Error> {
        self.0.forget(tenant).await
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        self.0.events().map(|event| match event {
            Event::Back { same_server, offset } => {
                Event::Back { same_server, offset: offset - skew() * 1_000 }
            }
            other => other,
        })
    }
}
