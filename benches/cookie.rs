//! What a look-up and a `Set-Cookie` cost, compared with `cookie_store` in the same run.
//!
//! It counts instructions, because they are the same on a busy machine and times are not. Each row
//! runs again under valgrind's callgrind, which counts only inside [`measured`]. So filling the jar
//! does not count, but dropping the result of each call does. Each process has another seed for its
//! hashes, so a row is the median of several.
//!
//! `cargo bench --bench cookie` prints the table. Without `--bench` each row runs a few times as a
//! check.

mod peer;

use std::{
    env,
    hint::black_box,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use cookie_store::CookieStore;
use http::{HeaderValue, Uri};
use tower_outbound::cookie::CookieJar;

use peer::{Jar, Lines, PAIRS, PER_SITE, lock, roomy, session, uri_text};

fn main() {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--row", row, peer, calls] => {
            let (row, calls): (usize, usize) =
                (row.parse().expect("a row"), calls.parse().expect("how often"));
            match peer {
                "ours" => run::<CookieJar>(&ROWS[row], calls),
                "logged" => run::<Logged>(&ROWS[row], calls),
                _ => run::<Mutex<CookieStore>>(&ROWS[row], calls),
            }
        }
        _ if args.iter().any(|arg| arg == "--bench") => {
            instructions();
            with_a_log();
            throughput(Duration::from_millis(1500), 10_000, 3);
        }
        _ => {
            for row in &ROWS {
                let few = Row { sites: row.sites.min(20), ..*row };
                run::<CookieJar>(&few, 10);
                run::<Logged>(&few, 10);
                run::<Mutex<CookieStore>>(&few, 10);
            }
            throughput(Duration::from_millis(10), 10, 1);
        }
    }
}

/// An operation to count.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    sites: usize,
    /// Writes the lines that fill the jar.
    lines: fn(usize, usize) -> String,
    action: Action,
    /// How many calls are counted: for ours, and for `cookie_store`, which gets few because each
    /// looks at every domain.
    calls: (usize, usize),
    /// The most instructions that ours may take.
    target: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Action {
    /// After another look-up of the same site.
    LookUp,
    /// Each site for the first time.
    FirstLookUp,
    /// The lines that the jar already has.
    SetAgain,
    SetOnNewSite,
    /// A site's sixth to eighth cookie, so that its list grows once.
    SetOnKnownSite,
    /// A stored cookie gets another value.
    SetNewValue,
    Logout,
    /// Another value, then a look-up, so that no header can be kept from one look-up to the next.
    SetAndLookUp,
}

use Action::*;

const LOOK_UP: Row = Row {
    name: "",
    sites: 10_000,
    lines: session,
    action: LookUp,
    calls: (6_400, 6),
    target: Some(1_250),
};
const AGAIN: Row = Row { action: SetAgain, calls: (6_400, 6_400), target: Some(800), ..LOOK_UP };
const NEW: Row = Row { action: SetOnNewSite, target: Some(3_300), ..AGAIN };

const ROWS: [Row; 16] = [
    Row { name: "look-up, 1 site", sites: 1, calls: (6_400, 6_400), ..LOOK_UP },
    Row { name: "look-up, 100 sites", sites: 100, calls: (6_400, 640), ..LOOK_UP },
    Row { name: "look-up, 10,000 sites", ..LOOK_UP },
    Row { name: "look-up, 100,000 sites", sites: 100_000, calls: (6_400, 2), ..LOOK_UP },
    Row { name: "first look-up of a site", action: FirstLookUp, target: Some(2_300), ..LOOK_UP },
    Row { name: "look-up, a parent's Domain cookies", lines: for_domain, ..LOOK_UP },
    Row { name: "look-up, 4 of 5 go along", lines: one_elsewhere, ..LOOK_UP },
    Row { name: "Set-Cookie unchanged, session", ..AGAIN },
    Row { name: "Set-Cookie unchanged, Max-Age", lines: max_age, ..AGAIN },
    Row { name: "Set-Cookie unchanged, Expires in 60 days", lines: expires, ..AGAIN },
    Row { name: "Set-Cookie unchanged, Domain", lines: for_domain, ..AGAIN },
    Row { name: "Set-Cookie new, on a new site", ..NEW },
    Row { name: "Set-Cookie new, on a known site", action: SetOnKnownSite, ..NEW },
    Row { name: "Set-Cookie, another value", action: SetNewValue, target: None, ..NEW },
    Row { name: "Set-Cookie that logs out", action: Logout, target: None, ..NEW },
    Row {
        name: "Set-Cookie, another value, then look-up",
        action: SetAndLookUp,
        target: None,
        calls: (6_400, 6),
        ..NEW
    },
];
/// Where in `ROWS` the look-ups are that have a target for their ratio.
const ONE_SITE: usize = 0;
const MANY_SITES: usize = 2;

fn for_domain(site: usize, cookie: usize) -> String {
    let (name, value) = PAIRS[cookie];
    format!("{name}={value}; Domain=site{site}.com; Path=/; Secure; HttpOnly")
}

fn one_elsewhere(site: usize, cookie: usize) -> String {
    let line = session(site, cookie);
    if cookie == 2 { line.replace("Path=/", "Path=/account") } else { line }
}

fn max_age(site: usize, cookie: usize) -> String {
    session(site, cookie) + "; Max-Age=5184000"
}

fn expires(site: usize, cookie: usize) -> String {
    let at = SystemTime::now() + Duration::from_secs(60 * 24 * 60 * 60);
    // Rounded to the day, so that the line is the same whenever it is written again.
    let date = httpdate::fmt_http_date(at);
    format!(
        "{}; Expires={}00:00:00 GMT",
        session(site, cookie),
        &date[..date.len() - "00:00:00 GMT".len()]
    )
}

fn another_value(cookie: usize, value: usize) -> String {
    format!("{}={value:016x}; Path=/; Secure; HttpOnly", PAIRS[cookie].0)
}

/// Makes a jar and counts `calls` calls.
fn run<J: Jar>(row: &Row, calls: usize) {
    let lines: &Lines = &row.lines;
    let jar = J::filled(row.sites, PER_SITE, lines);
    // Over the whole jar, and no site twice in a row, because a single site may have a lucky place
    // in the table.
    let site = |call: usize| match row.action {
        SetOnNewSite => row.sites + call,
        SetOnKnownSite => call / 3 % row.sites,
        FirstLookUp | Logout => call % row.sites,
        _ => call * 157 % row.sites,
    };
    let calls: Vec<(J::Uri, String)> = (0..calls)
        .map(|call| {
            let site = site(call);
            let line = match row.action {
                LookUp | FirstLookUp => String::new(),
                SetAgain => lines(site, call % PER_SITE),
                SetOnNewSite => session(site, 0),
                SetOnKnownSite => session(site, PER_SITE + call % 3),
                SetNewValue | SetAndLookUp => another_value(call % PER_SITE, call),
                Logout => format!("{}=; Path=/; Max-Age=0", PAIRS[call % PER_SITE].0),
            };
            (J::uri(&uri_text(site)), line)
        })
        .collect();
    if row.action == LookUp {
        calls.iter().take(row.sites).for_each(|(uri, _)| drop(jar.look_up(uri)));
    }
    match row.action {
        LookUp | FirstLookUp => measured(&calls, |uri, _| {
            let header = jar.look_up(uri);
            debug_assert!(header.is_some());
            header
        }),
        SetAndLookUp => measured(&calls, |uri, line| {
            jar.set(uri, line);
            jar.look_up(uri)
        }),
        _ => measured(&calls, |uri, line| {
            jar.set(uri, line);
            None
        }),
    }
}

/// The part that is counted. callgrind finds it by its name.
#[inline(never)]
fn measured<U>(calls: &[(U, String)], call: impl Fn(&U, &str) -> Option<HeaderValue>) {
    for (uri, line) in calls {
        drop(black_box(call(black_box(uri), black_box(line))));
    }
}

/// Instructions per call, in user space; `None` without valgrind.
fn count(row: usize, peer: &str, calls: usize) -> Option<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*measured*")
        .arg(env::current_exe().ok()?)
        .args(["--row", &row.to_string(), peer, &calls.to_string()])
        .output()
        .ok()?;
    let report = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}");
    let (_, collected) =
        report.split_once("Collected :").expect("callgrind says what it has collected");
    let collected: u64 = collected.split_whitespace().next()?.parse().ok()?;
    assert!(collected > 0, "the compiler has inlined what callgrind looks for");
    Some(collected / calls as u64)
}

fn median<T: Copy + PartialOrd>(mut of: Vec<T>) -> T {
    of.sort_by(|a, b| a.partial_cmp(b).expect("comparable"));
    of[of.len() / 2]
}

fn instructions() {
    println!("\nInstructions per call, {PER_SITE} cookies per site, 10,000 sites by default\n");
    println!("{:44} {:>9} {:>13} {:>9}", "", "ours", "cookie_store", "target");
    let mut ours = Vec::new();
    for (at, row) in ROWS.iter().enumerate() {
        // Three seeds of the hash for ours. Theirs hardly depends on the seed, and takes long.
        let counts: Option<Vec<_>> = (0..3).map(|_| count(at, "ours", row.calls.0)).collect();
        let (Some(counts), Some(theirs)) = (counts, count(at, "cookie_store", row.calls.1)) else {
            println!("skipped: there is no valgrind on this machine");
            return;
        };
        ours.push(median(counts));
        let target = row.target.map_or(String::new(), |target| format!("<= {target}"));
        println!(
            "{:44} {:>9} {:>13} {:>9}{}",
            row.name,
            ours[at],
            theirs,
            target,
            verdict(row.target.is_none_or(|t| ours[at] <= t))
        );
    }
    let ratio = ours[MANY_SITES] as f64 / ours[ONE_SITE] as f64;
    println!(
        "{:44} {ratio:>9.3} {:>13} {:>9}{}",
        "look-up, 10,000 sites / 1 site",
        "",
        "<= 1.05",
        verdict(ratio <= 1.05)
    );
}

/// What a log of changes costs, which sessions and files have. Nobody takes the changes, as between
/// two saves.
fn with_a_log() {
    const NAMES: [&str; 5] = [
        "look-up, 10,000 sites",
        "Set-Cookie unchanged, session",
        "Set-Cookie unchanged, Max-Age",
        "Set-Cookie new, on a known site",
        "Set-Cookie, another value",
    ];
    println!("\nInstructions per call, with a log of changes and without\n");
    println!("{:44} {:>9} {:>13}", "", "without", "with");
    for (at, row) in ROWS.iter().enumerate().filter(|(_, row)| NAMES.contains(&row.name)) {
        let of = |peer| (0..3).map(|_| count(at, peer, row.calls.0)).collect::<Option<Vec<_>>>();
        let (Some(without), Some(with)) = (of("ours"), of("logged")) else {
            println!("skipped: there is no valgrind on this machine");
            return;
        };
        println!("{:44} {:>9} {:>13}", row.name, median(without), median(with));
    }
}

fn verdict(met: bool) -> &'static str {
    if met { "" } else { "  MISSED" }
}

/// Calls per second of 8 threads, with 9 look-ups to one `Set-Cookie`. The `Set-Cookie` has another
/// value, which is the more expensive kind.
fn throughput(time: Duration, sites: usize, rounds: usize) {
    let ours = CookieJar::filled(sites, PER_SITE, &session);
    let locked = Locked(Mutex::new(CookieJar::filled(sites, PER_SITE, &session)));
    let theirs = Mutex::<CookieStore>::filled(sites, PER_SITE, &session);
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        rates[0].push(rate(&ours, sites, time));
        rates[1].push(rate(&locked, sites, time));
        rates[2].push(rate(&theirs, sites, time));
    }
    let [ours, locked, theirs] = rates.map(median);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "\nThroughput: {THREADS} threads on {cores} cores, {sites} sites, 9 look-ups to one Set-Cookie\n"
    );
    println!("{:44} {:>9} {:>13} {:>9}", "", "ratio", "", "target");
    let ratio = ours / theirs;
    println!(
        "{:44} {ratio:>9.0} {:>13} {:>9}{}",
        "ours / Mutex<CookieStore>",
        "",
        ">= 100",
        verdict(ratio >= 100.0)
    );
    println!("{:44} {:>9.2}", "ours / Mutex<ours>", ours / locked);
    println!(
        "calls per second: ours {ours:.0}, Mutex<ours> {locked:.0}, Mutex<CookieStore> {theirs:.0}"
    );
}

const THREADS: u64 = 8;

fn rate<J: Jar>(jar: &J, sites: usize, time: Duration) -> f64 {
    let uris: Vec<_> = (0..sites).map(|site| J::uri(&uri_text(site))).collect();
    let (stop, start) = (AtomicBool::new(false), Instant::now());
    let calls: usize = thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|seed| {
                let (uris, stop) = (&uris, &stop);
                scope.spawn(move || {
                    let (mut state, mut calls) = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), 0);
                    while !stop.load(Relaxed) {
                        // xorshift, one per thread, so that the threads share only the jar.
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        let uri = &uris[(state >> 32) as usize % sites];
                        if state % 10 == 0 {
                            jar.set(uri, &another_value(calls % PER_SITE, calls));
                        } else {
                            drop(black_box(jar.look_up(uri)));
                        }
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        thread::sleep(time);
        stop.store(true, Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no call panics")).sum()
    });
    calls as f64 / start.elapsed().as_secs_f64()
}

/// Ours with a log of changes.
struct Logged(CookieJar);

impl Jar for Logged {
    type Uri = Uri;

    fn new() -> Self {
        Self(CookieJar::builder().limits(roomy()).log_changes().build())
    }

    fn uri(text: &str) -> Uri {
        <CookieJar as Jar>::uri(text)
    }

    fn set(&self, uri: &Uri, line: &str) {
        Jar::set(&self.0, uri, line);
    }

    fn look_up(&self, uri: &Uri) -> Option<HeaderValue> {
        self.0.look_up(uri)
    }

    fn count(&self) -> usize {
        self.0.len()
    }
}

/// Ours behind a `Mutex`, as a jar without its own locks would be shared.
struct Locked(Mutex<CookieJar>);

impl Jar for Locked {
    type Uri = Uri;

    fn new() -> Self {
        Self(Mutex::new(<CookieJar as Jar>::new()))
    }

    fn uri(text: &str) -> Uri {
        <CookieJar as Jar>::uri(text)
    }

    fn set(&self, uri: &Uri, line: &str) {
        Jar::set(&*lock(&self.0), uri, line);
    }

    fn look_up(&self, uri: &Uri) -> Option<HeaderValue> {
        lock(&self.0).look_up(uri)
    }

    fn count(&self) -> usize {
        lock(&self.0).count()
    }
}
