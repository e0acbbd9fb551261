//! Compares our stack with other clients: each client runs the same stories.
//!
//! ```sh
//! cargo bench -p tower-outbound-ecosystem --bench beside
//! # From the root: takes anew what the documentation shows. cargo runs a bench in its package.
//! cargo bench -p tower-outbound-ecosystem --bench beside -- \
//!     --json ../docs/pictures/beside.json --svg ../docs/pictures
//! # Draws the charts from figures that were taken before.
//! cargo bench -p tower-outbound-ecosystem --bench beside -- --from FILE --svg DIRECTORY
//! ```
//!
//! Each client sends HTTP/1.1 over loopback to a server in a process of its own. Instructions are
//! those of the client's process, as the slope between two numbers of requests, so that what it
//! takes to start does not count; they need valgrind. Allocations are counted by an allocator,
//! connections by the server. Times are ratios within one run: the clients take turns, and the
//! median of the rounds counts. Without `--bench` each story is told once, in brief, and the
//! charts in the documentation must be those that its figures give.
#![allow(clippy::print_stdout, missing_docs, missing_debug_implementations)]

mod chart;
mod clients;
#[path = "../../../benches/count/mod.rs"]
mod count;
mod in_process;
mod report;
mod server;
#[path = "../../../benches/clients/mod.rs"]
mod stack;
mod stories;

use std::{env, fs, net::SocketAddr, path::Path, process};

use server::Server;
use stories::Subject;

pub(crate) const ROUNDS: usize = 7;

/// The clients by number. The others are compared with the first.
pub(crate) const NAMES: [&str; 6] = [
    "hyper-util alone",
    "tower Retry",
    "tower Retry, Mutex<cookie_store>",
    "reqwest, its jar and retries",
    "reqwest-middleware, reqwest-retry, jar",
    "tower-outbound",
];

pub(crate) fn client(number: usize, server: SocketAddr) -> Box<dyn Subject> {
    match number {
        0 => Box::new(clients::bare(server)),
        1 => Box::new(clients::tower_retry(server)),
        2 => Box::new(clients::tower_retry_and_cookies(server)),
        3 => Box::new(clients::reqwest(server)),
        4 => Box::new(clients::middleware(server)),
        _ => Box::new(clients::ours(server)),
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What the charts in the documentation were drawn from, and where they are.
const PICTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pictures");

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |text: &str| -> u32 { text.parse().expect("a number") };
    let client_of = |which: &str, server: &str| {
        client(number(which) as usize, server.parse().expect("an address"))
    };
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", ..] => server::serve(),
        ["run", which, server, requests] => {
            client_of(which, server).plain(1, number(requests));
            // Without what it takes to free a jar, which is never the same.
            process::exit(0);
        }
        ["flooded", which, server, requests] => {
            let client = client_of(which, server);
            client.flood(stories::FLOODS);
            client.plain(1, number(requests));
            process::exit(0);
        }
        ["layers", which, requests] => {
            in_process::run(number(which) as usize, number(requests));
            process::exit(0);
        }
        // cargo adds `--bench` after the caller's arguments.
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            let report = match option(&arguments, "--from") {
                Some(file) => read(file),
                None => report::Report::measured(&Server::start(), ROUNDS),
            };
            print!("{report}");
            if let Some(file) = option(&arguments, "--json") {
                let json = serde_json::to_string_pretty(&report).expect("figures");
                fs::write(file, json + "\n").expect("the file of --json");
            }
            if let Some(directory) = option(&arguments, "--svg") {
                chart::draw(&report, directory).expect("the directory of --svg");
            }
        }
        _ => {
            report::rehearse(&Server::start());
            let pictures = Path::new(PICTURES);
            for (file, svg) in chart::drawn(&read(&pictures.join("beside.json"))) {
                let kept = fs::read_to_string(pictures.join(file)).expect("a chart");
                assert!(kept == svg, "docs/pictures/{file} is not drawn from beside.json");
            }
        }
    }
}

fn read(file: &Path) -> report::Report {
    serde_json::from_str(&fs::read_to_string(file).expect("a file")).expect("figures")
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a Path> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(Path::new)
}
