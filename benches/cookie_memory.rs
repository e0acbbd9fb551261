//! The memory of a cookie, and how often a call allocates, compared with `cookie_store` in one run.
//!
//! Bytes are those that the jar requests from the allocator, without what the allocator adds.
//! A cookie's text is its name, value, domain and path: no jar can do without it.
//!
//! `cargo bench --bench cookie_memory` prints the tables. Without `--bench` it makes them with few
//! cookies.

mod peer;

use std::{env, hint::black_box, sync::Mutex};

use allocation_counter::measure;
use cookie_store::CookieStore;
use tower_outbound::cookie::CookieJar;

use peer::{Jar, PAIRS, PER_SITE, session, uri_text};

fn main() {
    let sites = if env::args().any(|arg| arg == "--bench") { 10_000 } else { 20 };
    memory(sites);
    allocations(sites);
    flood(100 * sites);
}

fn memory(sites: usize) {
    println!("\nBytes per cookie without its text, {sites} sites\n");
    println!("{:44} {:>9} {:>13} {:>9}", "", "ours", "cookie_store", "target");
    for per_site in [1, 2, 5, 20] {
        let ours = weight::<CookieJar>(sites, per_site, sites);
        // It looks at every domain each time and keeps nothing, so one look-up is enough.
        let theirs = weight::<Mutex<CookieStore>>(sites, per_site, 1);
        for (which, ours, theirs) in
            [("fresh", ours[0], theirs[0]), ("each site looked up once", ours[1], theirs[1])]
        {
            let name = format!("{per_site} per site, {which}");
            let verdict = if ours <= 200.0 { "" } else { "  MISSED" };
            println!("{name:44} {ours:>9.1} {theirs:>13.1} {:>9}{verdict}", "<= 200");
        }
    }
}

/// Bytes per cookie without its text: when it is new, and after one look-up of each site.
fn weight<J: Jar>(sites: usize, per_site: usize, look_ups: usize) -> [f64; 2] {
    let uris: Vec<_> = (0..sites).map(|site| J::uri(&uri_text(site))).collect();
    let text: usize =
        (0..sites).map(|site| format!("www.site{site}.com/").len() * per_site).sum::<usize>()
            + PAIRS[..per_site].iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
                * sites;
    let mut jar = None;
    let fresh = measure(|| jar = Some(J::filled(sites, per_site, &session))).bytes_current;
    let jar = jar.expect("it was made");
    let look_up = |uri| drop(black_box(jar.look_up(uri)));
    let looked_up = measure(|| uris.iter().take(look_ups).for_each(look_up)).bytes_current;
    [fresh, fresh + looked_up].map(|bytes| (bytes as f64 - text as f64) / (sites * per_site) as f64)
}

fn allocations(sites: usize) {
    println!("\nMost allocations of one call, {PER_SITE} cookies per site, {sites} sites\n");
    println!("{:44} {:>9} {:>13} {:>9}", "", "ours", "cookie_store", "target");
    let (ours, theirs) = (most::<CookieJar>(sites), most::<Mutex<CookieStore>>(sites));
    for ((name, target, ours), (.., theirs)) in ours.into_iter().zip(theirs) {
        let verdict = if target.is_none_or(|target| ours <= target) { "" } else { "  MISSED" };
        let target = target.map_or(String::new(), |target| format!("<= {target}"));
        println!("{name:44} {ours:>9} {theirs:>13} {target:>9}{verdict}");
    }
}

/// The call, how often ours may allocate for it, and how often this jar does.
type Count = (&'static str, Option<u64>, u64);

fn most<J: Jar>(sites: usize) -> Vec<Count> {
    let jar = J::filled(sites, PER_SITE, &session);
    let uris: Vec<_> = (0..2 * sites).map(|site| J::uri(&uri_text(site))).collect();
    let lines: Vec<_> = (0..PER_SITE).map(|cookie| session(0, cookie)).collect();
    let most = |call: &dyn Fn(usize)| {
        (0..8).map(|nth| measure(|| call(nth)).count_total).max().unwrap_or_default()
    };
    let look_up = |site: usize| drop(black_box(jar.look_up(&uris[site])));
    let set = |site: usize, line: &str| jar.set(&uris[site], line);
    vec![
        ("first look-up of a site", Some(1), most(&look_up)),
        ("look-up, again", Some(1), most(&look_up)),
        ("Set-Cookie unchanged", Some(0), most(&|site| set(site, &lines[site % PER_SITE]))),
        (
            "Set-Cookie, another value",
            None,
            most(&|site| set(site, "theme=light; Path=/; Secure; HttpOnly")),
        ),
        ("Set-Cookie new, on a known site", None, most(&|site| set(site, "new=1; Path=/"))),
        ("Set-Cookie new, on a new site", None, most(&|site| set(sites + site, "new=1; Path=/"))),
        ("Set-Cookie that logs out", None, most(&|site| set(site, "new=; Path=/; Max-Age=0"))),
    ]
}

/// Many cookies from one host, then one from each of as many hosts, at the default limits.
fn flood(cookies: usize) {
    println!(
        "\nGrowth of a jar in MiB, {cookies} cookies of one host, then one of each of {cookies} hosts\n"
    );
    println!("{:44} {:>9} {:>13} {:>9}", "", "ours", "", "target");
    let jar = CookieJar::new();
    let evil: http::Uri = "https://www.evil.com/".parse().expect("a URI");
    let bytes = measure(|| {
        for nth in 0..cookies {
            let _ = black_box(jar.set(&evil, format!("c{nth}=1")));
        }
        for site in 0..cookies {
            let _ = black_box(jar.set(&uri_text(site).parse().expect("a URI"), "c=1"));
        }
    });
    let mib = bytes.bytes_max as f64 / f64::from(1 << 20);
    let verdict = if mib <= 32.0 { "" } else { "  MISSED" };
    println!("{:44} {mib:>9.1} {:>13} {:>9}{verdict}", "the jar's growth", "", "<= 32");
}
