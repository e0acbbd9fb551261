//! Replicas over a store behind a bad network, by seed: wrong clocks, commands that arrive late or
//! twice, connections that break, a server that returns without its last writes.
//!
//! Whatever happens, at the end each replica has what the upstream said last.
//!
//! `TOWER_OUTBOUND_SEEDS` sets the number of stories. `TOWER_OUTBOUND_SEED` repeats one.

use std::{
    cell::Cell,
    collections::{BTreeMap, HashMap},
    env,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::{Stream, stream};
use http::Request;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, advance, sleep},
};
use tower::{BoxError, ServiceExt};
use tower_outbound::{
    cookie::CookieJar,
    session::{
        Applied, Contents, Event, Record, SessionKey, SessionPool, SessionStore, StoreKey, Version,
    },
};

use crate::support::{Client, client, request, settle};

const REPLICAS: usize = 3;
const STEPS: u64 = 25;
const STORIES: u64 = 1_000;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

thread_local! {
    /// When the story began, and the error of each replica's clock, in microseconds.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    static OFF: Cell<[i64; REPLICAS]> = const { Cell::new([0; REPLICAS]) };
}

/// The real time of the story, in microseconds.
fn now() -> u64 {
    let began = BEGAN.get().expect("the story has begun");
    1_000_000_000_000_000 + u64::try_from(began.elapsed().as_micros()).unwrap()
}

fn clock<const REPLICA: usize>() -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(now().checked_add_signed(OFF.get()[REPLICA]).unwrap())
}

const CLOCKS: [fn() -> SystemTime; REPLICAS] = [clock::<0>, clock::<1>, clock::<2>];

type Fields = BTreeMap<Box<[u8]>, (u64, Option<Box<[u8]>>)>;

/// The data of a server, written as simply as the rules of `SessionStore`.
#[derive(Clone, Default)]
struct Server {
    keys: HashMap<StoreKey, (u64, Fields)>,
    /// A version is never used twice, even by a server that has lost writes.
    next: u64,
}

impl Server {
    fn contents(&self, key: &StoreKey) -> Contents {
        let Some((version, fields)) = self.keys.get(key) else { return Contents::default() };
        let record = |(field, (stamp, body)): (&Box<[u8]>, &(u64, Option<Box<[u8]>>))| Record {
            field: field.clone(),
            stamp: *stamp,
            body: body.clone(),
        };
        let records = fields.iter().map(record).collect();
        Contents { version: Version::from_bytes(&version.to_le_bytes()), records }
    }

    fn apply(&mut self, key: &StoreKey, known: &Version, records: &[Record]) -> (Applied, bool) {
        let was_known = self.contents(key).version == *known;
        let (version, fields) = self.keys.entry(key.clone()).or_default();
        let mut has_changed = false;
        for Record { field, stamp, body } in records {
            if fields.get(field).is_none_or(|(stored, _)| stored < stamp) {
                fields.insert(field.clone(), (*stamp, body.clone()));
                has_changed = true;
            }
        }
        if has_changed {
            self.next += 1;
            *version = self.next;
        }
        let contents = self.contents(key);
        let applied =
            if was_known { Applied::Clean(contents.version) } else { Applied::Merged(contents) };
        (applied, has_changed)
    }
}

/// The server, and the network to it.
struct Network {
    server: Server,
    /// The state of the server after it has lost its last writes.
    saved: Server,
    random: Random,
    /// The channel that tells each replica of changes. `None` while its connection is broken.
    told: Vec<Option<mpsc::UnboundedSender<Event>>>,
    is_calm: bool,
}

#[derive(Clone)]
struct Link {
    network: Arc<Mutex<Network>>,
    replica: usize,
    events: Arc<Mutex<Option<mpsc::UnboundedReceiver<Event>>>>,
}

impl Link {
    /// Up to twice the deadline.
    fn delay(&self) -> Duration {
        let network = &mut *self.network.lock().unwrap();
        let slow = !network.is_calm && network.random.one_in(8);
        Duration::from_millis(network.random.below(if slow { 500 } else { 4 }))
    }

    fn is_cut(&self) -> bool {
        self.network.lock().unwrap().told[self.replica].is_none()
    }

    /// A command and its answer take a while on their way. A command cannot be cancelled.
    async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Network) -> T + Send + 'static,
    ) -> Result<T, BoxError> {
        if self.is_cut() {
            return Err("no connection".into());
        }
        let (there, back) = (self.delay(), self.delay());
        let (answer, answered) = oneshot::channel();
        let network = Arc::clone(&self.network);
        tokio::spawn(async move {
            sleep(there).await;
            let got = command(&mut network.lock().unwrap());
            sleep(back).await;
            let _ = answer.send(got);
        });
        let got = answered.await?;
        if self.is_cut() { Err("the connection broke".into()) } else { Ok(got) }
    }
}

impl SessionStore for Link {
    type Error = BoxError;

    async fn load(&self, key: &StoreKey) -> Result<Contents, BoxError> {
        let key = key.clone();
        self.ask(move |network| network.server.contents(&key)).await
    }

    async fn apply(
        &self,
        key: &StoreKey,
        known: &Version,
        records: &[Record],
        _: Duration,
    ) -> Result<Applied, BoxError> {
        let (key, known, records) = (key.clone(), known.clone(), records.to_vec());
        let (replica, late) = (self.replica, self.delay());
        let again = {
            let network = &mut *self.network.lock().unwrap();
            !network.is_calm && network.random.one_in(6)
        };
        let network = Arc::clone(&self.network);
        self.ask(move |bad| {
            let (applied, has_changed) = bad.server.apply(&key, &known, &records);
            if has_changed {
                bad.tell(replica, &key);
            }
            if again {
                // A copy of the command arrives late.
                tokio::spawn(async move {
                    sleep(late).await;
                    let network = &mut *network.lock().unwrap();
                    if network.server.apply(&key, &known, &records).1 {
                        network.tell(replica, &key);
                    }
                });
            }
            applied
        })
        .await
    }

    async fn forget(&self, _: &SessionKey) -> Result<(), BoxError> {
        Ok(())
    }

    fn events(&self) -> impl Stream<Item = Event> + Send {
        let told = self.events.lock().unwrap().take().unwrap();
        stream::unfold(told, |mut told| async { Some((told.recv().await?, told)) })
    }
}

impl Network {
    /// Tells the others, a little later.
    fn tell(&mut self, by: usize, key: &StoreKey) {
        for (replica, told) in self.told.iter().enumerate() {
            let Some(told) = told.clone().filter(|_| replica != by) else { continue };
            let (event, late) = (Event::Changed(key.clone()), self.random.below(20));
            tokio::spawn(async move {
                sleep(Duration::from_millis(late)).await;
                let _ = told.send(event);
            });
        }
    }
}

struct Replica {
    client: Client,
    pool: SessionPool<Link>,
    /// Lives as long as the replica. After a connection breaks there is another sender.
    events: mpsc::UnboundedSender<Event>,
}

impl Replica {
    fn back(&self, number: usize, network: &Arc<Mutex<Network>>, same_server: bool) {
        network.lock().unwrap().told[number] = Some(self.events.clone());
        let _ = self.events.send(Event::Back { same_server, offset: -OFF.get()[number] });
    }

    fn lose(&self, number: usize, network: &Arc<Mutex<Network>>) {
        network.lock().unwrap().told[number] = None;
        let _ = self.events.send(Event::Lost);
    }
}

const SITE: &str = "https://example.com/";
const TENANTS: [&str; 2] = ["ann", "bob"];
const NAMES: [&str; 3] = ["a", "b", "c"];

async fn story(seed: u64) {
    let mut random = Random(seed);
    BEGAN.set(Some(Instant::now()));
    // Up to five seconds behind and three ahead.
    OFF.set(std::array::from_fn(|_| random.below(8_000_000) as i64 - 5_000_000));
    let network = Arc::new(Mutex::new(Network {
        server: Server::default(),
        saved: Server::default(),
        random: Random(seed ^ u64::MAX),
        told: vec![None; REPLICAS],
        is_calm: false,
    }));
    let replicas: Vec<_> = CLOCKS
        .into_iter()
        .enumerate()
        .map(|(replica, clock)| {
            let (events, told) = mpsc::unbounded_channel();
            let told = Arc::new(Mutex::new(Some(told)));
            let link = Link { network: Arc::clone(&network), replica, events: told };
            let jars = CookieJar::builder().clock(clock);
            let (pool, driver) = SessionPool::builder(link).unsealed().jar(jars).build();
            tokio::spawn(driver);
            let replica_ = Replica { client: client(&pool), pool, events };
            replica_.back(replica, &network, true);
            replica_
        })
        .collect();
    settle().await;
    // What the upstream said last of each cookie of each tenant: a value, or that it is gone.
    let mut said: BTreeMap<(&str, &str), Option<String>> = BTreeMap::new();
    for step in 0..STEPS {
        let number = random.below(REPLICAS as u64) as usize;
        let replica = &replicas[number];
        match random.below(20) {
            0 => replica.lose(number, &network),
            1 | 2 => replica.back(number, &network, true),
            3 => {
                let network = &mut *network.lock().unwrap();
                network.saved = network.server.clone();
            }
            4 => {
                {
                    let network = &mut *network.lock().unwrap();
                    let next = network.server.next;
                    network.server = Server { next, ..network.saved.clone() };
                }
                for (number, replica) in replicas.iter().enumerate() {
                    replica.lose(number, &network);
                    replica.back(number, &network, false);
                }
            }
            _ => {
                let tenant = TENANTS[random.below(2) as usize];
                let name = NAMES[random.below(3) as usize];
                let value = (!random.one_in(4)).then(|| step.to_string());
                let line = match &value {
                    Some(value) => format!("{name}={value}; Max-Age=86400"),
                    None => format!("{name}=; Max-Age=0"),
                };
                let request: Request<()> = request(tenant, SITE, &[&line]);
                let before = now();
                // A refused request was not sent, so the upstream said nothing.
                if replica.client.clone().oneshot(request).await.is_ok() {
                    said.insert((tenant, name), value);
                }
                assert!(now() - before <= 252_000, "seed {seed}: it was held too long");
            }
        }
        advance(Duration::from_micros(1 + random.below(2_000))).await;
    }
    // The faults end.
    network.lock().unwrap().is_calm = true;
    for (number, replica) in replicas.iter().enumerate() {
        replica.back(number, &network, true);
    }
    sleep(Duration::from_secs(3)).await;
    for (number, replica) in replicas.iter().enumerate() {
        for tenant in TENANTS {
            let jar =
                replica.pool.jar(&SessionKey::new(tenant.as_bytes()), &SITE.parse().unwrap()).await;
            let got = jar.unwrap().to_map();
            let want: BTreeMap<_, _> = said
                .iter()
                .filter(|((of, _), _)| *of == tenant)
                .filter_map(|((_, name), value)| Some(((*name).to_owned(), value.clone()?)))
                .collect();
            assert_eq!(got, want, "seed {seed}: replica {number}, {tenant}");
        }
    }
}

fn tell(seed: u64) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true);
    runtime.build().unwrap().block_on(story(seed));
}

#[test]
fn each_replica_ends_with_what_the_upstream_said_last() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("TOWER_OUTBOUND_SEED") {
        return tell(seed);
    }
    for seed in 0..number("TOWER_OUTBOUND_SEEDS").unwrap_or(STORIES) {
        tell(seed);
    }
}
