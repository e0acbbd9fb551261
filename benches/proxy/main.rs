//! `examples/proxy` compared with nginx, haproxy, and the smallest correct proxy on hyper.
//!
//! ```sh
//! cargo bench --features serde --bench proxy
//! ```
//!
//! nginx and haproxy are searched in `PATH` and `/usr/sbin`, and left out if they are not there.
//! Without valgrind instructions are left out. It needs Linux, for the CPU time. It takes about
//! three minutes.
//!
//! All proxies add the same headers, keep their connections on both sides, write no log, and may
//! use two cores. The load is 64 connections with one request after the other. The proxies take
//! turns, in runs of 200 ms. A figure is the median of its runs. A ratio is the median of the
//! ratios to nginx in the same turn. On a busy machine requests per second say little. CPU time per
//! request is more robust, and instructions are the most robust.
#![allow(clippy::print_stdout)]

mod bare;
mod load;
mod servers;

use std::{
    env,
    time::{Duration, Instant},
};

use load::{CONNECTIONS, Load};
use servers::{Proxy, Upstream};

const ROUNDS: usize = 40;
const ROUND: Duration = Duration::from_millis(200);

/// The measurements of one proxy with one kind of request.
#[derive(Default)]
struct Runs {
    per_second: Vec<f64>,
    cpu: Vec<f64>,
}

fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The median of the ratios of each run to the other's run of the same turn.
fn ratio(own: &[f64], first: &[f64]) -> f64 {
    let ratios: Vec<f64> = own.iter().zip(first).map(|(own, first)| own / first).collect();
    median(&ratios)
}

fn report() {
    let upstream = Upstream::start();
    let mut proxies: Vec<Proxy> = servers::all(&upstream).collect();
    println!("{CONNECTIONS} connections, keep-alive; ratios to {}", proxies[0].name);
    for load in [Load::small(), Load::large()] {
        let mut runs: Vec<Runs> = proxies.iter().map(|_| Runs::default()).collect();
        for round in 0..=ROUNDS {
            for (proxy, runs) in proxies.iter_mut().zip(&mut runs) {
                let (before, start) = (proxy.cpu(), Instant::now());
                let requests = load.run_for(proxy.address, proxy.tenant, ROUND);
                let (took, cpu) = (start.elapsed(), proxy.cpu() - before);
                // The first round warms up.
                if round > 0 {
                    runs.per_second.push(requests as f64 / took.as_secs_f64());
                    runs.cpu.push(cpu.as_secs_f64() * 1e6 / requests as f64);
                }
            }
        }
        println!("\n{}", load.name);
        println!(
            "  {:<20} {:>10} {:>8} {:>10} {:>8}",
            "", "requests/s", "ratio", "CPU us", "ratio"
        );
        for (proxy, own) in proxies.iter().zip(&runs) {
            println!(
                "  {:<20} {:>10.0} {:>8.2} {:>10.1} {:>8.2}",
                proxy.name,
                median(&own.per_second),
                ratio(&own.per_second, &runs[0].per_second),
                median(&own.cpu),
                ratio(&own.cpu, &runs[0].cpu),
            );
        }
    }
    drop(proxies);
    println!("\ninstructions a request, {}", Load::small().name);
    for start in servers::STARTS {
        match instructions(&upstream, *start) {
            Some((name, count)) => println!("  {name:<20} {count:>10}"),
            None => println!("  (a proxy or valgrind is not there)"),
        }
    }
}

/// The slope between two numbers of requests, which does not include the start.
fn instructions(upstream: &Upstream, start: servers::Start) -> Option<(&'static str, u64)> {
    let mut name = "";
    let mut counts = [0_u64; 2];
    let numbers = [20, 80];
    for (count, requests) in counts.iter_mut().zip(numbers) {
        let proxy = start(upstream, true)?;
        name = proxy.name;
        Load::small().run(proxy.address, proxy.tenant, requests);
        *count = proxy.collected()?;
    }
    Some((
        name,
        counts[1].saturating_sub(counts[0]) / ((numbers[1] - numbers[0]) * CONNECTIONS) as u64,
    ))
}

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["upstream"] => load::upstream(),
        ["bare", upstream] => bare::run(upstream.parse().expect("an address")),
        ["--bench"] => report(),
        _ => {
            // A test run: each part runs once.
            let upstream = Upstream::start();
            let bare = servers::bare(&upstream, false).expect("this program");
            Load::small().run(bare.address, bare.tenant, 2);
        }
    }
}
