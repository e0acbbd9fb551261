//! What the proxy counts, as a page in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

#[derive(Default)]
pub(crate) struct Metrics {
    /// Those that were unmounted too: a counter never goes back.
    mounts: Mutex<BTreeMap<Arc<str>, Arc<Counters>>>,
    pub(crate) unrouted: Counter,
    pub(crate) reloaded: Counter,
    pub(crate) kept: Counter,
}

/// Of one mount.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) attempts: Counter,
    pub(crate) refused: Counter,
}

#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Metrics {
    pub(crate) fn of(&self, prefix: &str) -> Arc<Counters> {
        let mut mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(mounts.entry(prefix.into()).or_default())
    }

    pub(crate) fn page(&self) -> String {
        type Row = (&'static str, &'static str, fn(&Counters) -> &Counter);
        const ROWS: [Row; 3] = [
            ("proxy_requests_total", "Requests of clients.", |mount| &mount.requests),
            ("proxy_attempts_total", "Requests to upstreams, retries included.", |mount| {
                &mount.attempts
            }),
            (
                "proxy_retries_refused_by_budget_total",
                "Retries for which the budget had nothing left.",
                |mount| &mount.refused,
            ),
        ];
        let mut page = String::new();
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, counter) in ROWS {
            head(&mut page, name, help);
            for (prefix, mount) in &*mounts {
                let _ = writeln!(
                    page,
                    "{name}{{mount=\"{}\"}} {}",
                    escaped(prefix),
                    counter(mount).get()
                );
            }
        }
        head(
            &mut page,
            "proxy_unrouted_requests_total",
            "Requests that no mount serves, or that name no place to go.",
        );
        let _ = writeln!(page, "proxy_unrouted_requests_total {}", self.unrouted.get());
        head(
            &mut page,
            "proxy_reloads_total",
            "Reloads of the table; \"kept\" where the new one was wrong.",
        );
        for (result, counter) in [("ok", &self.reloaded), ("kept", &self.kept)] {
            let _ = writeln!(page, "proxy_reloads_total{{result=\"{result}\"}} {}", counter.get());
        }
        page
    }
}

fn head(page: &mut String, name: &str, help: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} counter");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
