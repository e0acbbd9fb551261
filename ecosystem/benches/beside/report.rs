//! The figures of every client, as a table and as JSON.

use std::{fmt, thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    NAMES, client, count,
    in_process::{self, Layers},
    server::Server,
    stories::{CHUNKS, FLOODS, Flood, IN_FLIGHT, InFlight, Retried, Upload},
};

/// A ratio to the first client of the same round: the median of the rounds, the least and the most.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Ratio {
    fn of(mut rounds: Vec<f64>) -> Option<Self> {
        rounds.sort_by(f64::total_cmp);
        let median = *rounds.get(rounds.len() / 2)?;
        Some(Self { median, least: *rounds.first()?, most: *rounds.last()? })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    /// Those of the machine, which client and server share.
    pub(crate) cores: usize,
    pub(crate) clients: Vec<Figures>,
}

/// What one client's stories came to. A ratio is one to the first client, but for that of
/// `retried`: the first client does not retry, so it is one to tower's `Retry`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Figures {
    pub(crate) client: String,
    /// Per request. `None` without valgrind.
    pub(crate) instructions: Option<f64>,
    pub(crate) instructions_ratio: Option<f64>,
    pub(crate) instructions_outside_malloc_ratio: Option<f64>,
    /// Per request.
    pub(crate) allocations: f64,
    /// 64 in flight.
    pub(crate) requests_per_second: Option<Ratio>,
    /// 503, 503, 200. `None` if the client does not retry.
    pub(crate) retried: Vec<(String, Option<Retried>, Option<Ratio>)>,
    /// 100 MiB.
    pub(crate) upload: Result<Upload, String>,
    pub(crate) upload_time: Option<Ratio>,
    /// 10,000 `Set-Cookie` of one host.
    pub(crate) flood: Flood,
    /// Outside malloc, of a request to that host afterwards. `None` without valgrind, or if none is
    /// answered.
    pub(crate) flooded_instructions: Option<f64>,
    /// 10,000 requests that are not answered.
    pub(crate) in_flight: Result<InFlight, String>,
    /// In process. `None` if the client has no service below it.
    pub(crate) layers: Option<Layers>,
}

/// The body of each 503, in bytes. The last 100 bytes of a late one arrive 2 ms later.
pub(crate) const BODIES: [&str; 3] = ["10240", "65536", "10240-late"];

impl Report {
    pub(crate) fn measured(server: &Server, rounds: usize) -> Self {
        let mut figures: Vec<_> = (0..NAMES.len()).map(|which| counted(which, server)).collect();
        let mut turns = Turns::default();
        for round in 0..rounds {
            eprintln!("round {} of {rounds}", round + 1);
            turns.take(server);
        }
        let outcomes = figures.iter_mut().zip(turns.of_each);
        for (figures, turn) in outcomes {
            figures.requests_per_second = Ratio::of(turn.plain);
            figures.upload_time = Ratio::of(turn.upload);
            let retried = figures.retried.iter_mut().zip(turn.retried);
            retried.for_each(|((_, _, ratio), rounds)| *ratio = Ratio::of(rounds));
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { rounds, cores, clients: figures }
    }
}

/// The ratios of each client, round by round.
#[derive(Default)]
struct Turns {
    of_each: [Turn; NAMES.len()],
}

#[derive(Default)]
struct Turn {
    plain: Vec<f64>,
    upload: Vec<f64>,
    retried: [Vec<f64>; BODIES.len()],
}

impl Turns {
    fn take(&mut self, server: &Server) {
        let all = || (0..NAMES.len()).map(|which| client(which, server.address));
        let ratio = |base: Duration, time: Duration| time.as_secs_f64() / base.as_secs_f64();

        let times: Vec<_> = all().map(|client| client.plain(64, 100).0).collect();
        for (turn, time) in self.of_each.iter_mut().zip(&times) {
            turn.plain.push(1.0 / ratio(times[0], *time));
        }
        let times: Vec<_> =
            all().map(|client| client.upload(CHUNKS).ok().map(|upload| upload.time)).collect();
        for (turn, time) in self.of_each.iter_mut().zip(&times) {
            turn.upload.extend(times[0].zip(*time).map(|(base, time)| ratio(base, time)));
        }
        for (nth, body) in BODIES.into_iter().enumerate() {
            let times: Vec<_> =
                all().map(|client| client.retried(server, body).map(|story| story.time)).collect();
            // The bare client does not retry.
            for (turn, time) in self.of_each.iter_mut().zip(&times) {
                turn.retried[nth].extend(times[1].zip(*time).map(|(base, time)| ratio(base, time)));
            }
        }
    }
}

/// The figures that do not depend on how busy the machine is.
fn counted(which: usize, server: &Server) -> Figures {
    eprintln!("counting: {}", NAMES[which]);
    let subject = client(which, server.address);
    let slope = |few: u64, many: u64, requests: u32| (many - few) as f64 / f64::from(requests);
    let run = |what: &str, which: usize, requests: u32| {
        let [which, requests] = [which.to_string(), requests.to_string()];
        count::collected(&[what.to_owned(), which, server.address.to_string(), requests])
    };
    let instructions = |which: usize| {
        let (few, many) = run("run", which, 500).zip(run("run", which, 1_500))?;
        Some((
            slope(few.all, many.all, 1_000),
            slope(few.outside_malloc, many.outside_malloc, 1_000),
        ))
    };
    let (own, bare) = (instructions(which), instructions(0));
    // A client of its own: the others' cookies are five.
    let flood = client(which, server.address).flood(FLOODS);
    let flooded_instructions = flood.next_header.as_ref().ok().and_then(|header| {
        // What the flood itself takes differs by millions between two processes. It counts little
        // beside many requests, or beside few with a header of a megabyte.
        let few = if *header > 100_000 { 10 } else { 1_000 };
        let (few_counts, many) = run("flooded", which, few).zip(run("flooded", which, 3 * few))?;
        Some(slope(few_counts.outside_malloc, many.outside_malloc, 2 * few).round())
    });
    let (few, many) = (subject.plain(1, 500).1, subject.plain(1, 1_500).1);
    Figures {
        client: NAMES[which].to_owned(),
        instructions: own.map(|(all, _)| all.round()),
        instructions_ratio: own.zip(bare).map(|(own, bare)| own.0 / bare.0),
        instructions_outside_malloc_ratio: own.zip(bare).map(|(own, bare)| own.1 / bare.1),
        allocations: slope(few, many, 1_000),
        requests_per_second: None,
        retried: BODIES.map(|body| (body.to_owned(), subject.retried(server, body), None)).into(),
        upload: subject.upload(CHUNKS),
        upload_time: None,
        flood,
        flooded_instructions,
        in_flight: client(which, server.address).in_flight(server, IN_FLIGHT),
        layers: in_process::counted(which),
    }
}

/// Runs each story once, in brief, for a test run.
pub(crate) fn rehearse(server: &Server) {
    for (which, name) in NAMES.into_iter().enumerate() {
        let subject = client(which, server.address);
        subject.plain(2, 2);
        let retried = subject.retried(server, BODIES[0]);
        assert_eq!(retried.is_some(), which > 0, "{name} retries");
        subject.upload(2).expect("an answer");
        subject.flood(1).next_header.expect("an answer");
        client(which, server.address).in_flight(server, 20).expect("enough descriptors");
        in_process::run(which, 2);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "-".into());
        writeln!(f, "{} cores, median, least and most of {} rounds", self.cores, self.rounds)?;
        writeln!(f, "one request, HTTP/1.1 keep-alive, 20 bytes of JSON")?;
        writeln!(
            f,
            "  {:<40} {:>12} {:>6} {:>14} {:>11}  requests/s at 64 in flight, ratio",
            "", "instructions", "ratio", "outside malloc", "allocations"
        )?;
        for figures in &self.clients {
            writeln!(
                f,
                "  {:<40} {:>12} {:>6} {:>14} {:>11.2}  {}",
                figures.client,
                or_dash(figures.instructions.map(|count| format!("{count:.0}"))),
                or_dash(figures.instructions_ratio.map(|ratio| format!("{ratio:.3}"))),
                or_dash(figures.instructions_outside_malloc_ratio.map(|it| format!("{it:.3}"))),
                figures.allocations,
                or_dash(figures.requests_per_second.map(|ratio| ratio.to_string())),
            )?;
        }
        writeln!(f, "in process, around a service that is ready at once: beyond that service")?;
        for figures in &self.clients {
            let (instructions, allocations) = match &figures.layers {
                Some(layers) => (
                    or_dash(layers.instructions.map(|count| format!("{count:.0}"))),
                    format!("{:.2}", layers.allocations),
                ),
                None => ("-".into(), "-".into()),
            };
            writeln!(f, "  {:<40} {instructions:>12} {allocations:>33}", figures.client)?;
        }
        for (nth, body) in BODIES.into_iter().enumerate() {
            writeln!(
                f,
                "503, 503, 200 without a delay, {body} bytes each: new connections per 100, time over tower's"
            )?;
            for figures in &self.clients {
                let (_, retried, ratio) = &figures.retried[nth];
                writeln!(
                    f,
                    "  {:<40} {:>12}  {}",
                    figures.client,
                    retried.as_ref().map_or_else(
                        || "no retries".to_owned(),
                        |retried| retried.connections_per_100.to_string()
                    ),
                    or_dash(ratio.map(|ratio| ratio.to_string()))
                )?;
            }
        }
        writeln!(f, "an upload of 100 MiB: most memory at a time, time")?;
        for figures in &self.clients {
            let peak = match &figures.upload {
                Ok(upload) => format!("{:.1} MiB", upload.peak_mib),
                Err(why) => why.clone(),
            };
            let time = or_dash(figures.upload_time.map(|ratio| ratio.to_string()));
            writeln!(f, "  {:<40} {peak:>12}  {time}", figures.client)?;
        }
        writeln!(
            f,
            "10,000 Set-Cookie of one host: memory kept, instructions outside malloc of a request afterwards, its Cookie header"
        )?;
        for figures in &self.clients {
            let next = match &figures.flood.next_header {
                Ok(bytes) => format!("{bytes} bytes"),
                Err(why) => why.clone(),
            };
            let instructions =
                or_dash(figures.flooded_instructions.map(|count| format!("{count:.0}")));
            writeln!(
                f,
                "  {:<40} {:>8.0} KiB {instructions:>12}  {next}",
                figures.client, figures.flood.kept_kib
            )?;
        }
        writeln!(
            f,
            "10,000 requests in flight, bytes of each: its future, all on the heap, beyond hyper-util's"
        )?;
        let bare = self.clients.first().and_then(|bare| Some(bare.in_flight.as_ref().ok()?.heap));
        for figures in &self.clients {
            match &figures.in_flight {
                Ok(InFlight { future, heap }) => writeln!(
                    f,
                    "  {:<40} {future:>12} {heap:>6.0} {:>14.0}",
                    figures.client,
                    heap - bare.unwrap_or(0.0)
                )?,
                Err(why) => writeln!(f, "  {:<40} {why}", figures.client)?,
            }
        }
        Ok(())
    }
}
