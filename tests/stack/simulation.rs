//! The whole stack over a network that fails: partitions, delays, resets, crashes and bad answers,
//! in virtual time. A seed decides each story.
//!
//! `TOWER_OUTBOUND_SEEDS` sets the number of stories. `TOWER_OUTBOUND_SEED` runs the story of one
//! seed and prints what happens: `TOWER_OUTBOUND_SEED=123 cargo test --all-features --test stack
//! simulation -- --nocapture`.

mod client;
mod cookies;
mod ledger;
mod server;
mod story;

use std::{
    collections::BTreeMap,
    env, panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use ledger::Report;
use story::play;

const STORIES: u64 = 120;

/// What has to happen in the stories, so that they test something.
const MET: &[&str] = &[
    "partition",
    "partition of requests",
    "partition of responses",
    "messages held up",
    "crash",
    "restart",
    "reset",
    "failure to connect",
    "failure to send",
    "failure to read",
    "attempt out of time",
    "retry after a status",
    "retry after a timeout",
    "retry after an error",
    "retry after the server had it",
    "retry of a POST that was not sent",
    "retry with cookies of the attempt before",
    "request with cookies",
    "request given up",
    "error after a response",
    "body that breaks",
    "body that is whole",
];

fn from_environment(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn no_reply_is_lost_no_post_is_sent_twice_and_no_cookie_goes_astray() {
    if let Some(seed) = from_environment("TOWER_OUTBOUND_SEED") {
        let Report { trace, wrong, .. } = play(seed);
        println!("{}", trace.join("\n"));
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        return;
    }
    let stories = from_environment("TOWER_OUTBOUND_SEEDS").unwrap_or(STORIES);
    let next = AtomicU64::new(0);
    let all = Mutex::new((BTreeMap::<_, usize>::new(), Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= stories {
                        return;
                    }
                    let Report { wrong, met, .. } = panic::catch_unwind(|| play(seed))
                        .unwrap_or_else(|_| Report {
                            wrong: vec!["a panic".to_owned()],
                            ..Report::default()
                        });
                    let mut all = all.lock().unwrap();
                    met.into_iter()
                        .for_each(|(what, times)| *all.0.entry(what).or_default() += times);
                    all.1.extend(wrong.into_iter().map(|what| format!("seed {seed}: {what}")));
                }
            });
        }
    });
    let (met, wrong) = all.into_inner().unwrap();
    println!("{stories} stories met {met:#?}");
    assert!(wrong.is_empty(), "replay with TOWER_OUTBOUND_SEED:\n{}", wrong.join("\n"));
    let missed: Vec<_> = MET.iter().filter(|what| !met.contains_key(*what)).collect();
    assert!(missed.is_empty() || stories < STORIES, "never met: {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..8 {
        let first = play(seed);
        let again = thread::spawn(move || play(seed)).join().unwrap();
        let differ = first.trace.iter().zip(&again.trace).find(|(first, again)| first != again);
        assert_eq!(differ, None, "seed {seed}");
        assert_eq!(first.trace.len(), again.trace.len(), "seed {seed}");
    }
}
