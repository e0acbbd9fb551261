//! What the proxy counts, as a page in Prometheus' text format.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

#[derive(Default)]
pub(crate) struct Metrics {
    /// Also mounts that were removed, because a counter must not decrease.
    mounts: Mutex<BTreeMap<Arc<str>, Arc<Counters>>>,
    pub(crate) unrouted: Counter,
    pub(crate) reloaded: Counter,
    pub(crate) kept: Counter,
}

/// The counters of one mount.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) requests: Counter,
    pub(crate) attempts: Counter,
    pub(crate) refused: Counter,
    pub(crate) seconds: Histogram,
}

/// The upper bounds of a histogram's buckets, in microseconds, and in seconds as on the page.
/// One more bucket counts everything longer.
const BOUNDS: [(u64, &str); 12] = [
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
    (30_000_000, "30"),
];

#[derive(Default)]
pub(crate) struct Histogram {
    buckets: [Counter; BOUNDS.len() + 1],
    micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.buckets[BOUNDS.partition_point(|(bound, _)| *bound < micros)].add();
        self.micros.fetch_add(micros, Relaxed);
    }

    /// On the page a bucket counts everything up to its bound, as in Prometheus.
    fn write(&self, page: &mut String, name: &str, mount: &str) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|(_, seconds)| *seconds).chain(["+Inf"]);
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.get();
            let _ = writeln!(page, "{name}_bucket{{mount=\"{mount}\",le=\"{bound}\"}} {count}");
        }
        let seconds = Duration::from_micros(self.micros.load(Relaxed)).as_secs_f64();
        let _ = writeln!(page, "{name}_sum{{mount=\"{mount}\"}} {seconds}");
        let _ = writeln!(page, "{name}_count{{mount=\"{mount}\"}} {count}");
    }
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

    /// The page, with the counters and the number of jars.
    pub(crate) fn page(&self, jars: usize) -> String {
        type Row = (&'static str, &'static str, fn(&Counters) -> &Counter);
        const ROWS: [Row; 3] = [
            ("proxy_requests_total", "Requests of clients.", |mount| &mount.requests),
            ("proxy_attempts_total", "Requests to upstreams, including retries.", |mount| {
                &mount.attempts
            }),
            (
                "proxy_retries_refused_by_budget_total",
                "Retries that the budget refused.",
                |mount| &mount.refused,
            ),
        ];
        let mut page = String::new();
        let mounts = self.mounts.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, help, counter) in ROWS {
            head(&mut page, name, help, "counter");
            for (prefix, mount) in &*mounts {
                let _ = writeln!(
                    page,
                    "{name}{{mount=\"{}\"}} {}",
                    escaped(prefix),
                    counter(mount).get()
                );
            }
        }
        let name = "proxy_answer_seconds";
        head(&mut page, name, "Time until an answer's head, including retries.", "histogram");
        for (prefix, mount) in &*mounts {
            mount.seconds.write(&mut page, name, &escaped(prefix));
        }
        head(
            &mut page,
            "proxy_jars",
            "Jars in memory: one per tenant, or with [sessions] one per tenant and site.",
            "gauge",
        );
        let _ = writeln!(page, "proxy_jars {jars}");
        head(
            &mut page,
            "proxy_unrouted_requests_total",
            "Requests that no mount serves, or that have no valid host.",
            "counter",
        );
        let _ = writeln!(page, "proxy_unrouted_requests_total {}", self.unrouted.get());
        head(
            &mut page,
            "proxy_reloads_total",
            "Reloads of the table; \"kept\" if the new one was wrong.",
            "counter",
        );
        for (result, counter) in [("ok", &self.reloaded), ("kept", &self.kept)] {
            let _ = writeln!(page, "proxy_reloads_total{{result=\"{result}\"}} {}", counter.get());
        }
        page
    }
}

pub(crate) fn head(page: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(page, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
