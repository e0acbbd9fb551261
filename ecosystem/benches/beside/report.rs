//! The figures of every client, as a table and as JSON.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{
    NAMES, client, count,
    server::Server,
    stories::{Flood, Retried, Upload},
};

/// A ratio to the first client in the same round: the median, the least and the most of all rounds.
#[derive(Serialize, Clone, Copy)]
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

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) clients: Vec<Figures>,
}

/// The results of one client. A ratio is to the first client, except for `retried`: the first
/// client does not retry, so that ratio is to tower's `Retry`.
#[derive(Serialize)]
pub(crate) struct Figures {
    pub(crate) client: &'static str,
    /// Per request. `None` without valgrind.
    pub(crate) instructions: Option<f64>,
    pub(crate) instructions_ratio: Option<f64>,
    pub(crate) instructions_outside_malloc_ratio: Option<f64>,
    /// Per request.
    pub(crate) allocations: f64,
    /// 64 in flight.
    pub(crate) requests_per_second: Option<Ratio>,
    /// 503, 503, 200. `None` if the client does not retry.
    pub(crate) retried: Vec<(&'static str, Option<Retried>, Option<Ratio>)>,
    /// 100 MiB.
    pub(crate) upload: Result<Upload, String>,
    pub(crate) upload_time: Option<Ratio>,
    /// 10,000 `Set-Cookie` of one host.
    pub(crate) flood: Flood,
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
        Self { rounds, clients: figures }
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
            all().map(|client| client.upload().ok().map(|upload| upload.time)).collect();
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
    let run = |which: usize, requests: u32| {
        let [which, requests] = [which.to_string(), requests.to_string()];
        let arguments = ["run".to_owned(), which, server.address.to_string(), "1".into(), requests];
        count::collected(&arguments)
    };
    let instructions = |which: usize| {
        let (few, many) = run(which, 500).zip(run(which, 1_500))?;
        Some((
            slope(few.all, many.all, 1_000),
            slope(few.outside_malloc, many.outside_malloc, 1_000),
        ))
    };
    let (own, bare) = (instructions(which), instructions(0));
    let (few, many) = (subject.plain(1, 500).1, subject.plain(1, 1_500).1);
    Figures {
        client: NAMES[which],
        instructions: own.map(|(all, _)| all.round()),
        instructions_ratio: own.zip(bare).map(|(own, bare)| own.0 / bare.0),
        instructions_outside_malloc_ratio: own.zip(bare).map(|(own, bare)| own.1 / bare.1),
        allocations: slope(few, many, 1_000),
        requests_per_second: None,
        retried: BODIES.map(|body| (body, subject.retried(server, body), None)).into(),
        upload: subject.upload(),
        upload_time: None,
        // A new client, because the other ones have five cookies.
        flood: client(which, server.address).flood(),
    }
}

/// Runs each story once, in brief, for a test run.
pub(crate) fn rehearse(server: &Server) {
    for (which, name) in NAMES.into_iter().enumerate() {
        let subject = client(which, server.address);
        subject.plain(2, 2);
        let retried = subject.retried(server, BODIES[0]);
        assert_eq!(retried.is_some(), which > 0, "{name} retries");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "-".into());
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
        writeln!(f, "10,000 Set-Cookie of one host: memory kept, the next Cookie header")?;
        for figures in &self.clients {
            let next = match &figures.flood.next_header {
                Ok(bytes) => format!("{bytes} bytes"),
                Err(why) => why.clone(),
            };
            writeln!(f, "  {:<40} {:>8.0} KiB  {next}", figures.client, figures.flood.kept_kib)?;
        }
        Ok(())
    }
}
