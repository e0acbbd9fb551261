//! Compares our stack with other clients: each client runs the same stories.
//!
//! ```sh
//! cargo bench -p tower-outbound-ecosystem --bench beside
//! cargo bench -p tower-outbound-ecosystem --bench beside -- --json FILE --svg DIRECTORY
//! ```
//!
//! Each client sends HTTP/1.1 over loopback to a server in another process. Instructions are those
//! of the client's process, as the slope between two numbers of requests, so the start does not
//! count. They need valgrind. An allocator counts allocations, and the server counts connections.
//! Times are ratios within one run: the clients take turns, and the figure is the median of the
//! rounds. Without `--bench` each story runs once, in brief.
#![allow(clippy::print_stdout, missing_docs, missing_debug_implementations)]

mod chart;
mod clients;
#[path = "../../../benches/count/mod.rs"]
mod count;
mod report;
mod server;
mod stories;

use std::{env, fs, net::SocketAddr, path::Path};

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

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let number = |text: &str| text.parse().expect("a number");
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => server::serve(),
        ["run", which, server, tasks, requests] => {
            let client = client(number(which) as usize, server.parse().expect("an address"));
            client.plain(number(tasks), number(requests));
            // Does not free the jar, because the cost of that is never the same.
            std::process::exit(0);
        }
        // cargo adds `--bench` after the caller's arguments.
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            let report = report::Report::measured(&Server::start(), ROUNDS);
            print!("{report}");
            if let Some(file) = option(&arguments, "--json") {
                let json = serde_json::to_string_pretty(&report).expect("figures");
                fs::write(file, json + "\n").expect("the file of --json");
            }
            if let Some(directory) = option(&arguments, "--svg") {
                chart::draw(&report, directory).expect("the directory of --svg");
            }
        }
        _ => report::rehearse(&Server::start()),
    }
}

fn option<'a>(arguments: &'a [String], name: &str) -> Option<&'a Path> {
    let at = arguments.iter().position(|argument| argument == name)?;
    arguments.get(at + 1).map(Path::new)
}
