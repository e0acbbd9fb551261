//! One simulation, from its seed to its report: hosts, policies, and the faults of the network.

use std::{
    cell::Cell,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use turmoil::{Builder, Sim};

use super::{
    client,
    ledger::{HOSTS, Ledger, MOUNTED, Report, Rules},
    server,
};

pub(crate) const PORT: u16 = 80;
/// How often messages are delivered. The clock is finer.
const TICK: Duration = Duration::from_millis(4);
const CLIENT: &str = "client.test";

#[derive(Clone, Copy)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) http2: bool,
}

/// Runs the story of a seed. The same seed gives the same story, to the last message.
pub(crate) fn play(seed: u64) -> Report {
    // The seed of the jitter.
    fastrand::seed(seed);
    let mut random = fastrand::Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let story = Story { seed, http2: random.u8(..3) == 0 };
    let rules: Vec<_> = (0..MOUNTED).map(|_| rules(&mut random)).collect();
    let ledger = Arc::new(Ledger::new(&rules));
    ledger.note(&format!("HTTP/{}", if story.http2 { 2 } else { 1 }));
    for (host, rules) in HOSTS.iter().zip(&rules) {
        ledger.note(&format!("{host}: {rules:?}"));
    }

    let mut sim = Builder::new()
        .epoch(UNIX_EPOCH + Duration::from_secs(1_750_000_000))
        .rng_seed(seed)
        .simulation_duration(Duration::from_secs(120))
        .tick_duration(TICK)
        .tcp_capacity(256)
        .build();
    for (host, name) in HOSTS.into_iter().enumerate() {
        let ledger = Arc::clone(&ledger);
        // Each start of the host has another number.
        let starts = Cell::new(seed ^ ((host as u64 + 1) << 40));
        sim.host(name, move || {
            starts.set(starts.get() + (1 << 50));
            server::serve(host, story, Arc::clone(&ledger), starts.get())
        });
    }
    sim.client(CLIENT, client::run(story, rules, Arc::clone(&ledger)));
    run(&mut sim, &ledger, random);
    drop(sim);
    ledger.settle()
}

fn rules(random: &mut fastrand::Rng) -> Rules {
    let millis = Duration::from_millis;
    Rules {
        total: random.u32(..5),
        deadline: millis(random.choice([150, 400, 1_000, 2_500]).unwrap()),
        attempt_timeout: random.choice([None, Some(60), Some(150), Some(300)]).unwrap().map(millis),
        requests_per_retry: random.choice([None, Some(1), Some(2), Some(5)]).unwrap(),
    }
}

/// The state of a link, and whether its host is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Well,
    Cut,
    Held,
    Down,
}

fn run(sim: &mut Sim<'_>, ledger: &Ledger, mut random: fastrand::Rng) {
    let mut states = [State::Well; HOSTS.len()];
    let mut slowest = [0; HOSTS.len()].map(|_| random.u64(2..40));
    let mut next = Duration::ZERO;
    loop {
        // The simulation's own random numbers would depend on the order of messages, and so on the
        // client's pool, which is a hash map.
        let host = random.usize(..HOSTS.len());
        sim.set_link_latency(
            CLIENT,
            HOSTS[host],
            Duration::from_millis(random.u64(1..=slowest[host])),
        );
        match sim.step() {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => return ledger.wrong(format!("the simulation ends: {error}")),
        }
        ledger.at(sim.elapsed());
        if ledger.is_finished() {
            for (host, state) in states.iter_mut().enumerate() {
                mend(sim, host, state);
            }
        } else if sim.elapsed() >= next {
            next = sim.elapsed() + Duration::from_millis(random.u64(10..200));
            let ill = (0..HOSTS.len()).find(|host| states[*host] != State::Well && random.bool());
            let host = ill.unwrap_or_else(|| random.usize(..HOSTS.len()));
            if states[host] == State::Well {
                slowest[host] =
                    if random.u8(..6) == 0 { random.u64(40..150) } else { random.u64(2..40) };
                states[host] = harm(sim, host, &mut random, ledger);
            } else {
                mend(sim, host, &mut states[host]);
                ledger.note(&format!("{} is well again", HOSTS[host]));
            }
        }
    }
}

fn harm(sim: &mut Sim<'_>, host: usize, random: &mut fastrand::Rng, ledger: &Ledger) -> State {
    let name = HOSTS[host];
    let (fault, state) = match random.u8(..6) {
        0 => {
            sim.partition(CLIENT, name);
            ("partition", State::Cut)
        }
        1 => {
            sim.partition_oneway(CLIENT, name);
            ("partition of requests", State::Cut)
        }
        2 => {
            sim.partition_oneway(name, CLIENT);
            ("partition of responses", State::Cut)
        }
        3 => {
            sim.hold(CLIENT, name);
            ("messages held up", State::Held)
        }
        4 => {
            sim.crash(name);
            ("crash", State::Down)
        }
        _ => {
            sim.bounce(name);
            ("restart", State::Well)
        }
    };
    ledger.note(&format!("{name}: {fault}"));
    ledger.meet(fault);
    state
}

fn mend(sim: &mut Sim<'_>, host: usize, state: &mut State) {
    match std::mem::replace(state, State::Well) {
        State::Well => {}
        State::Cut => sim.repair(CLIENT, HOSTS[host]),
        State::Held => sim.release(CLIENT, HOSTS[host]),
        State::Down => sim.bounce(HOSTS[host]),
    }
}
