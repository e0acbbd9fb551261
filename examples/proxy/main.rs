//! A reverse proxy with a jar per tenant, and retries per upstream.
//!
//! ```sh
//! cargo run --example proxy --features serde -- examples/proxy/table.toml
//! ```
//!
//! - A client says in a header which tenant it is (put the proxy behind what has checked that).
//!   Upstreams' cookies stay in the tenant's jar, in memory: none reaches a client, or another
//!   tenant. A client's own cookies go nowhere. A tenant that is away for an hour comes back
//!   without cookies. With `[sessions]` in the table the jars are in a store that several proxies
//!   share.
//! - Mounts say which upstream serves which host and path, how often it is asked again and for how
//!   long.
//! - `kill -HUP` reads the table again while requests are in flight; a table with a fault leaves
//!   the old one. Mounts that are written as before keep their budgets, and tenants their jars.
//! - `kill`, or Ctrl-C, takes no more requests and ends with the last one, or after `--grace`
//!   seconds, or when told again.
//! - Neither a client nor an upstream that stalls is waited for without end.
//! - `/metrics`, on an address of its own, counts requests, attempts, what budgets refused and how
//!   long answers took, per mount.
//!
//! `README.md`, beside this file, has the way of a request through the rooms, every bound, and the
//! figures beside nginx and haproxy.

mod body;
mod forward;
mod forwarded;
mod headers;
mod locations;
mod metrics;
mod serve;
#[cfg_attr(not(all(feature = "redis", feature = "seal")), path = "no_sessions.rs")]
mod sessions;
mod signals;
mod table;
mod turn;
mod upstream;

use std::{
    convert::Infallible,
    fs,
    hash::{BuildHasher, Hasher, RandomState},
    io::Write,
    net::SocketAddr,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, PoisonError, RwLock},
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use clap::Parser;
use http::{HeaderValue, header::CONTENT_TYPE};
use hyper::service::service_fn;
use hyper_util::service::TowerToHyperService;
use tokio::{net::TcpListener, sync::watch, time};
use tower::BoxError;
use tower_outbound::cookie::{CookieJar, JarPool};

use forwarded::Peer;
use metrics::Metrics;
use serve::{Patience, Workers, serve};
use sessions::Sessions;
use signals::{Event, Signals};
use table::Table;
use upstream::Routes;

/// A reverse proxy with a jar per tenant, and retries per upstream.
#[derive(Parser)]
struct Args {
    /// The table file; examples/proxy/table.toml shows what it may say.
    table: PathBuf,
    /// Where clients come.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where /metrics is.
    #[arg(long, default_value = "127.0.0.1:9090")]
    metrics: SocketAddr,
    /// How many seconds a client has for the head of a request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    head: u64,
    /// For how many seconds a client may send nothing of a request's body, or take nothing of an
    /// answer.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// For how many seconds an upstream may send nothing within an answer.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stall: u64,
    /// How many seconds requests in flight have once the proxy is told to end. A second signal
    /// ends it at once.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
    grace: u64,
    /// How many threads serve clients.
    #[arg(long, default_value_t = cores())]
    threads: NonZero<usize>,
}

fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

struct Proxy {
    routes: Routes,
    jars: JarPool<Arc<str>>,
    /// In place of `jars`, if the table says so.
    sessions: Option<Sessions>,
    table: Arc<RwLock<Arc<Table>>>,
    metrics: Metrics,
    /// A name that no other has, by which a request that comes back is known.
    name: String,
    via: HeaderValue,
    idle: Duration,
    stall: Duration,
}

/// Of a table file, in bytes.
const LARGEST: u64 = 1 << 20;

impl Proxy {
    fn new(sessions: Option<Sessions>, idle: Duration, stall: Duration) -> Result<Self, BoxError> {
        let table = Arc::new(RwLock::new(Arc::new(Table::empty())));
        let of_jars = Arc::clone(&table);
        let new_jar =
            move |_: &Arc<str>| CookieJar::builder().limits(current(&of_jars).cookies).build();
        // The table bounds how many there are.
        let jars = JarPool::keyed().max_jars(usize::MAX).new_jar(new_jar).build();
        let name = format!("proxy-{:016x}", RandomState::new().build_hasher().finish());
        let via = format!("1.1 {name}").parse()?;
        Ok(Self {
            routes: upstream::routes(sessions.as_ref())?,
            jars,
            sessions,
            table,
            metrics: Metrics::default(),
            name,
            via,
            idle,
            stall,
        })
    }

    fn table(&self) -> Arc<Table> {
        current(&self.table)
    }

    /// Puts a table in the place of the one there is.
    fn load(&self, new: Table) -> Result<(), BoxError> {
        let old = self.table();
        upstream::replace(&self.routes.handle(), &new, &self.metrics)?;
        let new = Arc::new(new);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        for tenant in old.tenants.difference(&new.tenants) {
            self.jars.remove(tenant);
        }
        Ok(())
    }

    /// Puts the file's table in the place of the one there is; or, if anything is wrong with it,
    /// leaves that.
    fn load_again(&self, path: &Path) -> Result<(), BoxError> {
        let (old, new) = (self.table(), read(path)?);
        if let Some(section) = sessions_differ(&old, &new) {
            let path = path.display();
            return Err(format!("{path}: {section} cannot change while the proxy runs").into());
        }
        self.load(new)
    }

    fn reload(&self, path: &Path) {
        match self.load_again(path) {
            Ok(()) => {
                self.metrics.reloaded.add();
                say(&format!("reloaded {}", path.display()));
            }
            Err(error) => {
                self.metrics.kept.add();
                say(&format!("{error}; the old table stays"));
            }
        }
    }
}

fn read(path: &Path) -> Result<Table, BoxError> {
    let named = |fault: &dyn std::fmt::Display| format!("{}: {fault}", path.display());
    let file = fs::metadata(path).map_err(|error| named(&error))?;
    // Anything else might keep the one who reads it waiting, and signals with it.
    if !file.is_file() || file.len() > LARGEST {
        return Err(named(&"a table is a regular file of at most 1 MiB").into());
    }
    let file = fs::read(path).map_err(|error| named(&error))?;
    Table::parse(&file).map_err(|fault| named(&fault).into())
}

async fn sessions_of(table: &Table, path: &Path) -> Result<Option<Sessions>, BoxError> {
    let Some(written) = &table.sessions else { return Ok(None) };
    let opened = Sessions::open(written, table.cookies).await;
    Ok(Some(opened.map_err(|fault| format!("{}: [sessions]: {fault}", path.display()))?))
}

/// Which section now says something else, of those that a store is opened by.
fn sessions_differ(old: &Table, new: &Table) -> Option<&'static str> {
    if old.sessions != new.sessions {
        return Some("[sessions]");
    }
    (old.sessions.is_some() && old.cookies != new.cookies).then_some("[cookies] with [sessions]")
}

fn current(table: &RwLock<Arc<Table>>) -> Arc<Table> {
    Arc::clone(&table.read().unwrap_or_else(PoisonError::into_inner))
}

/// A line for whoever runs the proxy; that no one reads it ends nothing.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "proxy: {line}");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), BoxError> {
    // Before anyone learns that there is something to signal.
    let mut signals = Signals::new()?;
    let (idle, stall) = (Duration::from_secs(args.idle), Duration::from_secs(args.stall));
    let table = read(&args.table)?;
    let sessions = sessions_of(&table, &args.table).await?;
    let proxy = Arc::new(Proxy::new(sessions, idle, stall)?);
    proxy.load(table)?;
    let public = listen(args.listen).await?;
    let private = listen(args.metrics).await?;
    say(&format!("clients on {}, metrics on {}", public.local_addr()?, private.local_addr()?));

    let (end, ended) = watch::channel(());
    let patience = Patience { head: Duration::from_secs(args.head), idle };
    let client = Arc::clone(&proxy);
    let workers = Workers::start(args.threads)?;
    let forwarding = serve(public, workers, patience, ended.clone(), move |peer| {
        let client = Arc::new((Arc::clone(&client), Peer::new(peer.ip())));
        service_fn(move |request| {
            let client = Arc::clone(&client);
            async move { Ok::<_, Infallible>(forward::forward(&client.0, &client.1, request).await) }
        })
    });
    let counted = Arc::clone(&proxy);
    let page = move || {
        let jars = counted.sessions.as_ref().map_or(counted.jars.len(), Sessions::len);
        let mut page = counted.metrics.page(jars);
        if let Some(sessions) = &counted.sessions {
            sessions.count(&mut page);
        }
        std::future::ready(([(CONTENT_TYPE, "text/plain; version=0.0.4")], page))
    };
    let counting = Router::new().route("/metrics", get(page));
    let counting = serve(private, Workers::here(), patience, ended, move |_| {
        TowerToHyperService::new(counting.clone())
    });
    let servers = tokio::spawn(async { tokio::join!(forwarding, counting) });

    while let Event::Reload = signals.next().await {
        proxy.reload(&args.table);
    }
    say("no more requests are taken");
    drop(end);
    let again = async { while let Event::Reload = signals.next().await {} };
    let all = async {
        let ended = time::timeout(Duration::from_secs(args.grace), servers).await;
        // Also what requests that are cut off have changed.
        if let Some(sessions) = &proxy.sessions {
            sessions.flush().await?;
        }
        ended.map_err(|_| format!("requests were still in flight after {} s", args.grace))??;
        Ok(())
    };
    tokio::select! {
        ended = all => ended,
        () = again => Err("told to end at once; requests were still in flight".into()),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}").into())
}
