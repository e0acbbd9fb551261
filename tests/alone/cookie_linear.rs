//! The cost of input from a server, a file or a caller is linear: ten times the input takes ten
//! times the work.
//!
//! `COOKIE_LINES` sets the number of lines in the files. Default: 30,000.

use std::{
    env, fs,
    hint::black_box,
    time::{Duration, Instant},
};

use allocation_counter::{AllocationInfo, measure};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header::COOKIE};
use tower::{Layer, Service, service_fn};
use tower_outbound::cookie::{
    CookieFile, CookieJar, CookieLayer, CookieLimits, DomainPolicy, Format, PublicSuffixes,
    SiteForCookies,
};

use crate::{jars::uri, rows};

fn h() -> Uri {
    uri("https://www.example.com/")
}

/// Prepares an input of length n. Only the work on it is measured.
type Row<'a> = (&'a str, usize, &'a dyn Fn(usize) -> Box<dyn FnOnce()>);

fn run(work: Box<dyn FnOnce()>) -> (AllocationInfo, Duration) {
    let mut time = Duration::ZERO;
    let count = measure(|| {
        let begun = Instant::now();
        work();
        time = begun.elapsed();
    });
    (count, time)
}

/// Works ten times on a tenth of the length, then once on the whole length.
fn play(rows: &[Row<'_>]) {
    rows::hold(rows, |(row, length, prepare)| {
        // Quadratic work would take ten times as long, and the machine may be busy. So the bound is
        // between, and only work that misses it each time is too slow.
        for _ in 0..3 {
            let tenths: Vec<_> = (0..10).map(|_| run(prepare(length / 10))).collect();
            let (whole, time) = run(prepare(*length));
            let (tenth, tenths) =
                (tenths[0].0, tenths.iter().map(|(_, time)| *time).sum::<Duration>());
            println!(
                "{row}: {time:?}, {tenths:?} in tenths; {} allocations, {}",
                whole.count_total, tenth.count_total
            );
            // A few allocations do not depend on the length, and a growing list is moved sometimes.
            if whole.count_total > 11 * tenth.count_total + 100
                || whole.bytes_total > 13 * tenth.bytes_total + 100_000
            {
                return Err(format!("{row}: {whole:?} in all, {tenth:?} at a tenth"));
            }
            if time <= 4 * tenths + Duration::from_secs(1) {
                return Ok(());
            }
        }
        Err(format!("{row}: time goes with more than the length"))
    });
}

/// A line for a jar, and whether the jar stores it.
fn set(line: String, stored: bool) -> Box<dyn FnOnce()> {
    let (jar, from) = (CookieJar::new(), h());
    Box::new(move || assert_eq!(jar.set(&from, black_box(line)).is_ok(), stored))
}

#[test]
fn a_set_cookie_line_of_any_length_takes_time_by_its_length() {
    play(&[
        ("attributes", 300_000, &|n| set(format!("a=1{}", "; x".repeat(n)), true)),
        ("attributes that count", 100_000, &|n| {
            set(format!("a=1{}", "; Path=/; Secure; Domain=example.com".repeat(n)), true)
        }),
        ("Max-Age and Expires", 100_000, &|n| {
            set(
                format!("a=1{}", "; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT".repeat(n)),
                true,
            )
        }),
        ("semicolons", 1_000_000, &|n| set(format!("a=1{}", ";".repeat(n)), true)),
        ("no semicolon", 1_000_000, &|n| set(format!("a={}", "x".repeat(n)), false)),
        ("nothing but equals signs", 1_000_000, &|n| set("=".repeat(n), false)),
        ("spaces around the name", 1_000_000, &|n| {
            set(format!("{0}a{0}={0}1{0}", " ".repeat(n)), true)
        }),
        ("spaces around each attribute", 2_000, &|n| {
            set(format!("a=1{}", format!(";{0}x{0}", " ".repeat(1_000)).repeat(n)), true)
        }),
        ("an attribute", 1_000_000, &|n| set(format!("a=1; Path=/{}", "x".repeat(n)), true)),
        ("a date of many tokens", 1_000_000, &|n| {
            set(format!("a=1; Expires={}", "1 ".repeat(n)), true)
        }),
        ("a Max-Age of many digits", 1_000_000, &|n| {
            set(format!("a=1; Max-Age={}", "9".repeat(n)), true)
        }),
    ]);
}

#[test]
fn a_response_with_any_number_of_lines_takes_time_by_their_number() {
    let lines = |n: usize, line: &dyn Fn(usize) -> String| -> Box<dyn FnOnce()> {
        let lines = (0..n)
            .map(|n| ("set-cookie".parse().unwrap(), HeaderValue::try_from(line(n)).unwrap()));
        let (jar, from, headers) = (CookieJar::new(), h(), lines.collect::<HeaderMap>());
        Box::new(move || drop(black_box(jar.store_response(&from, &headers))))
    };
    play(&[
        ("cookies", 100_000, &|n| lines(n, &|n| format!("c{n}=1"))),
        ("one cookie again and again", 100_000, &|n| lines(n, &|n| format!("a={n}"))),
        ("the same line", 100_000, &|n| lines(n, &|_| "a=1".to_owned())),
        ("deletions", 100_000, &|n| lines(n, &|n| format!("c{n}=; Max-Age=0"))),
        ("refusals", 100_000, &|n| lines(n, &|n| format!("c{n}=1; Domain=com"))),
    ]);
}

fn formats() -> Vec<Format> {
    vec![
        Format::Netscape,
        #[cfg(feature = "json")]
        Format::Json,
        #[cfg(feature = "cookie_store")]
        Format::CookieStore,
    ]
}

/// A jar's file with `n` cookies, one per line.
fn text_of(format: Format, count: usize, cookie: impl Fn(usize) -> (String, String)) -> String {
    let line = |n| {
        let (domain, name) = cookie(n);
        match format {
            Format::Netscape => format!("{domain}\tFALSE\t/\tFALSE\t0\t{name}\t1\n"),
            #[cfg(feature = "json")]
            Format::Json => format!(
                "{{\"name\":\"{name}\",\"value\":\"1\",\"domain\":\"{domain}\",\"path\":\"/\"}}"
            ),
            #[cfg(feature = "cookie_store")]
            Format::CookieStore => format!(
                "{{\"raw_cookie\":\"{name}=1\",\"path\":[\"/\",true],\"domain\":{{\"HostOnly\":\"{domain}\"}},\
                 \"expires\":\"SessionEnd\"}}"
            ),
            _ => unreachable!(),
        }
    };
    let lines = (0..count).map(line);
    match format {
        Format::Netscape => lines.collect(),
        #[cfg(feature = "json")]
        Format::Json => {
            format!("{{\"version\":1,\"cookies\":[\n{}\n]}}", lines.collect::<Vec<_>>().join(",\n"))
        }
        _ => format!("[\n{}\n]", lines.collect::<Vec<_>>().join(",\n")),
    }
}

#[test]
fn a_file_of_any_length_is_read_in_time_by_its_lines() {
    type Cookies = fn(usize) -> (String, String);
    let files: &[(&str, Cookies)] = &[
        ("of a thousand sites", |n| (format!("h{}.example", n % 1_000), format!("c{n}"))),
        ("of as many sites", |n| (format!("h{n}.example"), "a".to_owned())),
        ("of one cookie again and again", |_| ("example.com".to_owned(), "a".to_owned())),
    ];
    // Fewer than the jar can hold, because above that it evicts a sixteenth at once.
    let count = env::var("COOKIE_LINES")
        .map_or(30_000, |count| count.parse().expect("COOKIE_LINES is a number"));
    for format in formats() {
        for (row, cookies) in files {
            play(&[(&format!("{format:?} {row}"), count, &|n| {
                let (jar, text) = (CookieJar::new(), text_of(format, n, cookies));
                Box::new(move || {
                    assert_eq!(jar.read_from(text.as_bytes(), format).unwrap().cookies, n);
                })
            })]);
        }
    }
}

/// Half of the jar's changes come from an origin that is not secure, and must be compared with the
/// file.
#[test]
fn a_file_of_any_length_is_opened_and_saved_in_time_by_its_lines() {
    let line =
        |site: usize, name: usize| format!("h{site}.example\tFALSE\t/\tTRUE\t0\tc{name}\t1\n");
    let prepare = |n: usize, line: &dyn Fn(usize) -> String| -> Box<dyn FnOnce()> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cookies.txt");
        fs::write(&path, (0..n).map(line).collect::<String>()).unwrap();
        Box::new(move || {
            let file = CookieFile::open(&path, Format::Netscape).unwrap();
            for nth in 0..n / 10 {
                let scheme = if nth % 2 == 0 { "http" } else { "https" };
                let uri = uri(format!("{scheme}://h{nth}.example/"));
                let _ = file.jar().set(&uri, "new=1; Path=/x");
            }
            file.save().unwrap();
            drop(directory);
        })
    };
    play(&[
        ("of a hundred sites", 10_000, &|n| prepare(n, &|n| line(n % 100, n))),
        ("of as many sites", 10_000, &|n| prepare(n, &|n| line(n, 0))),
    ]);
}

/// Lines that cannot be read are kept and listed. A list of all would take twelve times their
/// memory.
#[test]
fn a_file_of_short_lines_takes_a_small_multiple_of_its_size() {
    const LINES: usize = 400_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = format!("h.example\tFALSE\t/\tFALSE\t0\ta\t1\n{}", "x\n".repeat(LINES));
    fs::write(&path, &text).unwrap();
    let (mut opened, mut read) = (None, None);
    let open = measure(|| opened = Some(CookieFile::open(&path, Format::Netscape).unwrap()));
    let from =
        measure(|| read = CookieJar::new().read_from(text.as_bytes(), Format::Netscape).ok());
    let (file, read) = (opened.unwrap(), read.unwrap());
    let save = measure(|| file.save().unwrap());
    // The text ends with a line break, after which there is no line.
    let listed = [(file.skipped().len(), file.unlisted()), (read.skipped.len(), read.unlisted)];
    assert_eq!(listed, [(10_000, LINES - 10_000); 2]);
    assert_eq!(fs::read_to_string(&path).unwrap().matches("x\n").count(), LINES);
    let most = [open, from, save].map(|count| count.bytes_max / text.len() as u64);
    assert!(most.iter().all(|times| *times <= 5), "{most:?} times its size");
}

/// Up to the longest host that `http::Uri` allows, which is longer than in the DNS.
#[test]
fn a_host_of_any_length_takes_time_by_its_length() {
    let list = "// ===BEGIN ICANN DOMAINS===\ncom\n// ===END ICANN DOMAINS===\n";
    let suffixes: [(&str, &dyn Fn() -> PublicSuffixes); 3] = [
        ("embedded", &PublicSuffixes::default),
        ("of a list", &|| PublicSuffixes::Custom(list.parse().unwrap())),
        ("none", &|| PublicSuffixes::None),
    ];
    for (row, suffixes) in suffixes {
        play(&[(&format!("labels, suffixes {row}"), 65_000, &|n| {
            let host = uri(format!("https://{}com/", "a.".repeat(n / 2 - 2)));
            let policy = DomainPolicy::block(["b.com"]).unwrap();
            let jar = CookieJar::builder().public_suffixes(suffixes()).policy(policy).build();
            Box::new(move || {
                for _ in 0..20 {
                    let _ = black_box(jar.set(&host, "a=1; Domain=a.a.com"));
                    black_box(jar.header(&host));
                    black_box(SiteForCookies::new(&host));
                }
            })
        })]);
    }
}

#[tokio::test]
async fn a_cookie_header_of_the_callers_own_is_merged_in_time_by_its_length() {
    let own = |n: usize, pair: &dyn Fn(usize) -> String, lines: usize| -> Box<dyn FnOnce()> {
        // Enough room for everything in the jar.
        let limits = CookieLimits { header_bytes: usize::MAX, ..CookieLimits::default() };
        let jar = CookieJar::builder().limits(limits).build();
        for nth in 0..180 {
            jar.set(&h(), format!("jar{nth}=1")).unwrap();
        }
        let echo = service_fn(|request: Request<()>| {
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(request)))
        });
        let mut client = CookieLayer::new(jar).layer(echo);
        let mut request = Request::get(h()).body(()).unwrap();
        let pairs: Vec<_> = (0..n).map(pair).collect();
        for line in pairs.chunks(n.div_ceil(lines)) {
            request.headers_mut().append(COOKIE, line.join("; ").parse().unwrap());
        }
        Box::new(move || {
            let response =
                futures_util::FutureExt::now_or_never(client.call(request)).unwrap().unwrap();
            let line = &response.body().headers()[COOKIE];
            assert_eq!(line.as_bytes().split(|&byte| byte == b';').count(), n + 150);
        })
    };
    play(&[
        ("pairs in one line", 30_000, &|n| own(n, &|n| format!("c{n}=1"), 1)),
        ("pairs in 100 lines", 30_000, &|n| own(n, &|n| format!("c{n}=1"), 100)),
        ("one pair again and again", 30_000, &|n| own(n, &|_| "a=1".to_owned(), 1)),
        ("names without values", 30_000, &|n| own(n, &|_| "a".to_owned(), 1)),
    ]);
}
