//! A reverse proxy with a jar per tenant, and retries per upstream.
//!
//! ```sh
//! cargo run --example proxy --features serde -- examples/proxy/table.toml
//! ```
//!
//! - A client names its tenant in a header. Put the proxy behind a service that checks this header.
//!   Upstreams' cookies stay in the tenant's jar, in memory: they reach no client and no other
//!   tenant. A client's own cookies are dropped. After an hour without a request a tenant's cookies
//!   are gone. With `[sessions]` in the table the jars are in a store that several proxies share.
//! - A mount says which upstream serves a host and path, how often a request is retried, and for
//!   how long.
//! - `kill -HUP` reloads the table while requests are in flight. If the new table has a fault, the
//!   old one stays. Mounts whose text did not change keep their budgets. Tenants keep their jars.
//! - After `kill` or Ctrl-C the proxy takes no more requests. It ends after the last one, or after
//!   `--grace` seconds, or at a second signal.
//! - If a client or an upstream stalls, the proxy waits for a limited time.
//! - `/metrics`, on its own address, counts requests, attempts and retries that a budget refused,
//!   and measures the time of answers, per mount.
//!
//! `README.md` in this directory lists the files that a request passes, every bound, and figures
//! compared with nginx and haproxy.

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
    /// The table file; examples/proxy/table.toml shows what it can contain.
    table: PathBuf,
    /// The address for clients.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// The address of /metrics.
    #[arg(long, default_value = "127.0.0.1:9090")]
    metrics: SocketAddr,
    /// Seconds in which a client must send the head of a request.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    head: u64,
    /// Seconds in which a client may send nothing of a request's body, or read nothing of an
    /// answer.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
    /// Seconds in which an upstream may send nothing in the middle of an answer.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    stall: u64,
    /// Seconds that requests in flight have after the signal to end. A second signal ends the proxy
    /// at once.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(..=86_400))]
    grace: u64,
    /// The number of threads that serve clients.
    #[arg(long, default_value_t = cores())]
    threads: NonZero<usize>,
}

fn cores() -> NonZero<usize> {
    thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)
}

struct Proxy {
    routes: Routes,
    jars: JarPool<Arc<str>>,
    /// Used instead of `jars`, if the table has `[sessions]`.
    sessions: Option<Sessions>,
    table: Arc<RwLock<Arc<Table>>>,
    metrics: Metrics,
    /// A unique name, by which the proxy recognises a request that comes back to it.
    name: String,
    via: HeaderValue,
    idle: Duration,
    stall: Duration,
}

/// The largest table file, in bytes.
const LARGEST: u64 = 1 << 20;

impl Proxy {
    fn new(sessions: Option<Sessions>, idle: Duration, stall: Duration) -> Result<Self, BoxError> {
        let table = Arc::new(RwLock::new(Arc::new(Table::empty())));
        let of_jars = Arc::clone(&table);
        let new_jar =
            move |_: &Arc<str>| CookieJar::builder().limits(current(&of_jars).cookies).build();
        // The table bounds the number of jars.
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

    /// Replaces the table.
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

    /// Replaces the table by the file's. If anything is wrong with the file, the old table stays.
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
    // Reading any other kind of file could block, and signals with it.
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

/// The section that differs, of those that are only read when the store is opened.
fn sessions_differ(old: &Table, new: &Table) -> Option<&'static str> {
    if old.sessions != new.sessions {
        return Some("[sessions]");
    }
    (old.sessions.is_some() && old.cookies != new.cookies).then_some("[cookies] with [sessions]")
}

fn current(table: &RwLock<Arc<Table>>) -> Arc<Table> {
    Arc::clone(&table.read().unwrap_or_else(PoisonError::into_inner))
}

/// Prints a line for whoever runs the proxy. If it cannot be printed, the proxy continues.
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
    // Before the proxy prints that it runs, because signals may follow.
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
        // This also writes changes of requests that are cut off.
        if let Some(sessions) = &proxy.sessions {
            sessions.flush().await?;
        }
        ended.map_err(|_| format!("requests were still in flight after {} s", args.grace))??;
        Ok(())
    };
    tokio::select! {
        ended = all => ended,
        () = again => Err("ended by a second signal; requests were still in flight".into()),
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BoxError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}").into())
}
