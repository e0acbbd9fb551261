//! What a retry layer costs, compared with tower's own in the same run.
//!
//! ```sh
//! cargo bench --bench retry
//! ```
//!
//! callgrind runs this program again and counts instructions, as the slope between two numbers of
//! requests. An allocator counts allocations, and the server counts connections. Times are ratios
//! within one run. Without `--bench`, as in `cargo test --benches`, each part runs once.

#[path = "retry/connections.rs"]
mod connections;
#[path = "retry/cost.rs"]
mod cost;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["instructions", case, requests] => cost::run(case, requests.parse().expect("a number")),
        ["connections", requests, rounds, "--bench"] => {
            connections::report(
                requests.parse().expect("a number"),
                rounds.parse().expect("a number"),
            );
        }
        _ if arguments.iter().any(|argument| argument == "--bench") => {
            cost::report();
            connections::report(100, 15);
        }
        _ => {
            cost::try_out();
            connections::report(1, 1);
        }
    }
}
