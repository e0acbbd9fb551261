//! The decisions of the policy, row by row, without a clock, a socket or a runtime.

use std::{
    error::Error,
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode,
    header::{DATE, RETRY_AFTER},
    response,
};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Failure, Jitter, Limit, OverMax, Policy, RetryPolicy, ServerDelay,
    StopReason,
};

use crate::rows;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// urllib3's own defaults, except for the total: no budget, no forcelist, no delay.
fn plain() -> RetryPolicy {
    RetryPolicy::new()
        .no_budget()
        .status_forcelist([])
        .backoff(Backoff::none())
        .retry_after_max(6 * 3600 * SECOND)
        .total(10)
}

fn head(status: u16, retry_after: Option<&str>) -> response::Parts {
    let mut response = Response::builder().status(status);
    if let Some(value) = retry_after {
        response = response.header(RETRY_AFTER, value);
    }
    response.body(()).unwrap().into_parts().0
}

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl Error for Broken {}

/// Feeds one failure after another. Returns the number of retries, and why they ended.
fn play(
    policy: &RetryPolicy,
    method: &Method,
    failures: &[Failure],
) -> (usize, Option<StopReason>) {
    let mut policy = policy.clone().for_request(&http::Extensions::new());
    let headers = HeaderMap::new();
    for (retries, failure) in failures.iter().enumerate() {
        let response = match failure {
            Failure::Status(status) => Some(head(status.as_u16(), None)),
            _ => None,
        };
        let outcome = response.as_ref().ok_or(&Broken as &(dyn Error + 'static));
        if let Decision::Return(reason) =
            policy.decide(&Attempt::new(method, &headers, outcome, *failure))
        {
            return (retries, Some(reason));
        }
    }
    (failures.len(), None)
}

/// The decision after one response. `None` if it is no failure.
fn decided(policy: &RetryPolicy, method: &Method, response: &response::Parts) -> Option<Decision> {
    let mut policy = policy.clone().for_request(&http::Extensions::new());
    let failure = Policy::classify(&policy, Ok(response))?;
    Some(policy.decide(&Attempt::new(method, &HeaderMap::new(), Ok(response), failure)))
}

#[test]
fn delays_grow_as_urllib3s_do() {
    let rows: &[(&str, Backoff, &[f64])] = &[
        (
            "row 1",
            Backoff::urllib3(seconds(0.1)),
            &[0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 120.0, 120.0],
        ),
        ("row 2", Backoff::urllib3(SECOND).max(10 * SECOND), &[0.0, 2.0, 4.0, 8.0, 10.0, 10.0]),
        ("none", Backoff::none(), &[0.0, 0.0, 0.0]),
        ("constant", Backoff::constant(SECOND), &[1.0, 1.0, 1.0]),
        (
            "exponential",
            Backoff::exponential(SECOND).jitter(Jitter::None),
            &[1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0],
        ),
    ];
    let each = rows.iter().flat_map(|(row, backoff, wants)| {
        (1..).zip(*wants).map(move |(retry, want)| (row, backoff, retry, *want))
    });
    rows::hold(each, |(row, backoff, retry, want)| {
        let got = backoff.delay(retry, Duration::ZERO, 0.5).as_secs_f64();
        let name = format!("{row}: retry {retry} waits {got}, expected {want}");
        (name, (got - want).abs() <= 1e-6, true)
    });
}

#[test]
fn jitter_stays_within_its_bounds() {
    let added = Backoff::urllib3(seconds(0.2)).max(SECOND).jitter(Jitter::Added(seconds(0.4)));
    let only = Backoff::urllib3(Duration::ZERO).jitter(Jitter::Added(5 * SECOND));
    let base = Backoff::exponential(SECOND);
    let rows: &[(&str, Backoff, u32, f64, f64)] = &[
        ("row 3, retry 1", added, 1, 0.0, 0.0),
        ("row 3, retry 2", added, 2, 0.4, 0.8),
        ("row 3, retry 3", added, 3, 0.8, 1.0),
        ("row 3, retry 4", added, 4, 1.0, 1.0),
        ("row 4, retry 1", only, 1, 0.0, 0.0),
        ("row 4, retry 2", only, 2, 0.0, 5.0),
        ("full", base, 3, 0.0, 4.0),
        ("equal", base.jitter(Jitter::Equal), 3, 2.0, 4.0),
        ("decorrelated", base.jitter(Jitter::Decorrelated), 2, 1.0, 9.0),
        ("decorrelated, capped", base.jitter(Jitter::Decorrelated), 9, 1.0, 9.0),
    ];
    rows::hold(rows, |(row, backoff, retry, least, most)| {
        let ends = [0.0, 0.999_999_999]
            .map(|random| backoff.delay(*retry, 3 * SECOND, random).as_secs_f64());
        let fits = (ends[0] - least).abs() <= 1e-6 && (ends[1] - most).abs() <= 1e-6;
        (format!("{row}: {ends:?} of [{least}, {most}]"), fits, true)
    });
}

#[test]
fn no_number_makes_a_delay_overflow() {
    for backoff in [
        Backoff::constant(Duration::MAX),
        Backoff::exponential(Duration::MAX),
        Backoff::urllib3(Duration::MAX),
    ] {
        for jitter in [
            Jitter::None,
            Jitter::Full,
            Jitter::Equal,
            Jitter::Added(Duration::MAX),
            Jitter::Decorrelated,
        ] {
            for max in [Duration::ZERO, SECOND, Duration::MAX] {
                for retry in [0, 1, 31, 32, 33, u32::MAX] {
                    for random in [f64::NAN, f64::NEG_INFINITY, 0.0, 0.5, 1.0, f64::INFINITY] {
                        let delay =
                            backoff.max(max).jitter(jitter).delay(retry, Duration::MAX, random);
                        assert!(
                            delay <= max,
                            "{backoff:?} {jitter:?} {max:?} {retry} {random}: {delay:?}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn counters_run_out_as_urllib3s_do() {
    use Failure::{Connect, Other, Read, Timeout, Unsent};
    let s500 = Failure::Status(StatusCode::INTERNAL_SERVER_ERROR);
    let get = Method::GET;
    type Row<'a> = (&'a str, RetryPolicy, &'a Method, &'a [Failure], usize, Option<StopReason>);
    let rows: &[Row<'_>] = &[
        ("row 5", plain().connect(3).total(2), &get, &[Connect; 3], 2, Some(StopReason::Total)),
        ("row 6", plain().read(2).total(3), &get, &[Read; 3], 2, Some(StopReason::Read)),
        ("row 7", plain().total(None).connect(2), &get, &[Read; 3], 3, None),
        ("row 8", plain().total(0), &get, &[Read], 0, Some(StopReason::Total)),
        ("row 9", plain().total(Limit::Disabled), &get, &[Read], 0, Some(StopReason::Disabled)),
        ("row 10", plain().status(2), &get, &[s500; 3], 2, Some(StopReason::Status)),
        ("row 11, connect", plain(), &Method::POST, &[Connect], 1, None),
        ("row 11, unsent", plain(), &Method::POST, &[Unsent], 1, None),
        ("row 11, read", plain(), &Method::POST, &[Read], 0, Some(StopReason::Method)),
        ("row 12", plain(), &Method::POST, &[Other], 0, Some(StopReason::Method)),
        ("a timeout counts as read", plain().read(0), &get, &[Timeout], 0, Some(StopReason::Read)),
        (
            "unsent counts as connect",
            plain().connect(0),
            &get,
            &[Unsent],
            0,
            Some(StopReason::Connect),
        ),
        ("other", plain().other(1), &get, &[Other, Other], 1, Some(StopReason::Other)),
        (
            "one class disabled",
            plain().read(Limit::Disabled),
            &get,
            &[Read],
            0,
            Some(StopReason::Disabled),
        ),
        ("never", plain(), &get, &[Failure::Never], 0, Some(StopReason::Never)),
        ("row 17", plain().any_method(), &Method::POST, &[s500], 1, None),
        (
            "the largest limit",
            plain().total(u32::MAX).read(u32::MAX),
            &get,
            &[Read; 100],
            100,
            None,
        ),
        (
            "no method allowed",
            plain().allowed_methods([]),
            &get,
            &[Read],
            0,
            Some(StopReason::Method),
        ),
    ];
    rows::hold(rows, |(row, policy, method, failures, retries, reason)| {
        let got = play(policy, method, failures);
        (row, got, (*retries, *reason))
    });
}

#[test]
fn statuses_are_retried_by_list_or_by_retry_after() {
    let all_500: Vec<_> = (500..600).map(|code| StatusCode::from_u16(code).unwrap()).collect();
    let list = || plain().status_forcelist(all_500.clone());
    let (get, post) = (Method::GET, Method::POST);
    let retry = |after| Some(Decision::Retry { after: Duration::from_secs(after) });
    let stop = |reason| Some(Decision::Return(reason));
    let five = Backoff::constant(5 * SECOND).max(5 * SECOND);
    type Row<'a> = (&'a str, RetryPolicy, &'a Method, u16, Option<&'a str>, Option<Decision>);
    let rows: Vec<Row<'_>> = vec![
        ("row 13, 200", list(), &get, 200, None, None),
        ("row 13, 400", list(), &get, 400, None, None),
        ("row 13, 500", list(), &get, 500, None, retry(0)),
        ("row 14, 413", plain(), &get, 413, Some("1"), retry(1)),
        ("row 14, 429", plain(), &get, 429, Some("1"), retry(1)),
        ("row 14, 503", plain(), &get, 503, Some("1"), retry(1)),
        ("row 14, no total", plain().total(None), &get, 503, Some("1"), retry(1)),
        ("row 15, 500", plain(), &get, 500, Some("1"), None),
        ("row 15, 202", plain(), &get, 202, Some("1"), None),
        ("row 15, bare 503", plain(), &get, 503, None, None),
        ("row 16", plain(), &post, 503, Some("1"), stop(StopReason::Method)),
        (
            "row 18",
            list().respect_retry_after(false).backoff(five),
            &get,
            503,
            Some("60"),
            retry(5),
        ),
        (
            "row 18, not in the list",
            plain().respect_retry_after(false),
            &get,
            503,
            Some("60"),
            None,
        ),
        ("row 19", list(), &get, 500, Some("7"), retry(7)),
        ("row 20", list().backoff(five), &get, 503, Some("60"), retry(60)),
        ("row 21, 0", list().backoff(five), &get, 503, Some("0"), retry(5)),
        (
            "row 21, past",
            list().backoff(five),
            &get,
            503,
            Some("Thu, 01 Jan 1970 00:00:00 GMT"),
            retry(5),
        ),
        ("row 22, give up", list(), &get, 503, Some("99999"), stop(StopReason::RetryAfter)),
        (
            "row 22, clamp",
            list().retry_after_over_max(OverMax::Clamp),
            &get,
            503,
            Some("99999"),
            retry(21600),
        ),
        ("ten years", list(), &get, 503, Some("315360000"), stop(StopReason::RetryAfter)),
        (
            "forty digits",
            list(),
            &get,
            503,
            Some(&"9".repeat(40).leak()[..]),
            stop(StopReason::RetryAfter),
        ),
        ("row 23, -1", list().backoff(five), &get, 503, Some("-1"), retry(5)),
        ("row 23, +1", list().backoff(five), &get, 503, Some("+1"), retry(5)),
        ("row 23, 1.0", list().backoff(five), &get, 503, Some("1.0"), retry(5)),
        ("row 23, soon", list().backoff(five), &get, 503, Some("soon"), retry(5)),
        ("row 23, 5, 10", list().backoff(five), &get, 503, Some("5, 10"), retry(5)),
        ("row 23, empty", list().backoff(five), &get, 503, Some(""), retry(5)),
        ("row 23, soon, empty list", plain(), &get, 503, Some("soon"), None),
        ("row 24, spaces", list(), &get, 503, Some("\t42 "), retry(42)),
        (
            "row 24, IMF-fixdate",
            list(),
            &get,
            503,
            Some("Thu, 01 Jan 1970 00:01:40 GMT"),
            retry(100),
        ),
        (
            "row 24, RFC 850",
            list(),
            &get,
            503,
            Some("Thursday, 01-Jan-70 00:01:40 GMT"),
            retry(100),
        ),
        ("row 24, asctime", list(), &get, 503, Some("Thu Jan  1 00:01:40 1970"), retry(100)),
        (
            "a status no one knows",
            plain().status_forcelist([StatusCode::from_u16(999).unwrap()]),
            &get,
            999,
            None,
            retry(0),
        ),
    ];
    rows::hold(rows, |(row, policy, method, status, retry_after, want)| {
        let got = decided(&policy, method, &head(status, retry_after));
        (row, got, want)
    });
}

/// Row 21a: the server's clock is not ours. Rows 21b: what a server may write for a date.
#[test]
fn a_date_counts_from_the_servers_own_and_is_read_as_a_cookies_is() {
    // The attempt's own time is 1970-01-01 00:00:00.
    let rows: &[(&str, Option<&str>, &str, u64)] = &[
        (
            "row 21a, an hour ahead of our clock",
            Some("Thu, 01 Jan 1970 01:00:00 GMT"),
            "Thu, 01 Jan 1970 01:00:30 GMT",
            30,
        ),
        (
            "row 21a, years behind our clock",
            Some("Mon, 01 Jan 1900 00:00:00 GMT"),
            "Mon, 01 Jan 1900 00:00:30 GMT",
            5,
        ),
        (
            "row 21a, its own Date is later",
            Some("Thu, 01 Jan 1970 01:00:00 GMT"),
            "Thu, 01 Jan 1970 00:59:00 GMT",
            5,
        ),
        ("row 21a, no Date", None, "Thu, 01 Jan 1970 00:00:30 GMT", 30),
        ("row 21a, an unreadable Date", Some("today"), "Thu, 01 Jan 1970 00:00:30 GMT", 30),
        ("row 21a, seconds", Some("Thu, 01 Jan 1970 01:00:00 GMT"), "30", 30),
        ("row 21b, PST", None, "Thu, 01 Jan 1970 00:00:30 PST", 5),
        ("row 21b, +0100", None, "Thu, 01 Jan 1970 00:00:30 +0100", 5),
        ("row 21b', one digit", None, "Thu, 1 Jan 1970 00:00:30 GMT", 30),
        ("row 21b', UTC", None, "Thu, 01 Jan 1970 00:00:30 UTC", 30),
        ("row 21b', +0000", None, "Thu, 01 Jan 1970 00:00:30 +0000", 30),
        ("row 21b', no weekday", None, "01 Jan 1970 00:00:30 GMT", 30),
        ("row 21b', dashes", None, "01-Jan-1970 00:00:30 GMT", 30),
        ("row 21b', lower case", None, "thu, 01 jan 1970 00:00:30 gmt", 30),
        ("row 21b', asctime, one space", None, "Thu Jan 1 00:00:30 1970", 30),
    ];
    // 5 s if the server's answer is ignored.
    let policy =
        plain().status_forcelist([StatusCode::BAD_GATEWAY]).backoff(Backoff::constant(5 * SECOND));
    rows::hold(rows, |(row, date, retry_after, want)| {
        let mut head = head(502, Some(retry_after));
        if let Some(date) = date {
            head.headers.insert(DATE, HeaderValue::from_static(date));
        }
        let want = Some(Decision::Retry { after: *want as u32 * SECOND });
        (row, decided(&policy, &Method::GET, &head), want)
    });
}

/// Row 21c.
#[test]
fn decorrelated_jitter_goes_on_from_its_own_last_backoff() {
    let decorrelated = Backoff::exponential(SECOND).max(1000 * SECOND).jitter(Jitter::Decorrelated);
    // The delay after each failure, at the largest random number: three times the last backoff, or
    // the server's delay plus a tenth, at most 10 s.
    let rows: &[(&str, &[Option<&str>], &[f64])] = &[
        ("no Retry-After", &[None, None, None], &[3.0, 9.0, 27.0]),
        ("an hour first", &[Some("3600"), None, None], &[3610.0, 3.0, 9.0]),
        ("an hour between", &[None, Some("3600"), None], &[3.0, 3610.0, 9.0]),
        ("a short one between", &[None, None, Some("1"), None], &[3.0, 9.0, 1.1, 27.0]),
        ("0 is a backoff", &[None, Some("0"), None], &[3.0, 9.0, 27.0]),
    ];
    rows::hold(rows, |(row, asked, want)| {
        let policy = plain().backoff(decorrelated);
        let mut policy = policy.for_request(&http::Extensions::new());
        let headers = HeaderMap::new();
        let delays: Vec<_> = asked
            .iter()
            .map(|asked| {
                let head = head(503, *asked);
                let failure = Failure::Status(head.status);
                let mut attempt = Attempt::new(&Method::GET, &headers, Ok(&head), failure);
                attempt.random = 0.999_999_999;
                match policy.decide(&attempt) {
                    Decision::Retry { after } => (after.as_secs_f64() * 10.0).round() / 10.0,
                    _ => -1.0,
                }
            })
            .collect();
        (row, delays, want.to_vec())
    });
}

#[test]
fn a_retry_after_gets_a_little_jitter_but_not_past_its_maximum_or_the_deadline() {
    let decide = |policy: RetryPolicy, asked: &str| {
        let (response, headers) = (head(503, Some(asked)), HeaderMap::new());
        let failure = Failure::Status(response.status);
        let mut attempt = Attempt::new(&Method::GET, &headers, Ok(&response), failure);
        attempt.random = 0.999_999_999;
        policy.for_request(&http::Extensions::new()).decide(&attempt)
    };
    let usual = || RetryPolicy::new().no_budget();
    let jittery = || usual().retry_after_max(6 * 3600 * SECOND);
    let after = |decision| match decision {
        Decision::Retry { after } => after.as_secs_f64().round(),
        _ => -1.0,
    };
    assert_eq!(after(decide(jittery(), "60")), 66.0);
    assert_eq!(after(decide(jittery(), "1000")), 1010.0);
    assert_eq!(after(decide(usual(), "50")), 55.0);
    assert_eq!(after(decide(usual(), "60")), 60.0);
    assert_eq!(after(decide(jittery().retry_after_max(60 * SECOND), "60")), 60.0);
    assert_eq!(after(decide(jittery().deadline(63 * SECOND), "60")), 60.0);
    assert_eq!(after(decide(jittery().deadline(60 * SECOND), "60")), -1.0);
    assert_eq!(after(decide(plain(), "60")), 60.0);
}

/// The same dates in processes of three time zones, which read the one of `TZ` when they start.
#[test]
fn a_date_is_read_the_same_in_every_time_zone() {
    const NAME: &str = "policy::a_date_is_read_the_same_in_every_time_zone";
    if std::env::var_os("TZ_OF_RETRY_AFTER").is_none() {
        // Ahead, behind, and one that has a summer time; no file is needed to know them.
        rows::hold(["AAA-14", "BBB+12", "CET-1CEST,M3.5.0,M10.5.0/3"], |zone| {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", NAME])
                .envs([("TZ", zone), ("TZ_OF_RETRY_AFTER", zone)])
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stdout).into_owned();
            let passed = output.status.success() && told.contains("1 passed");
            if passed { Ok(()) } else { Err(format!("{zone}: {told}")) }
        });
    }
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let dates = [
        "Sun, 06 Nov 1994 08:50:07 GMT",
        "Sunday, 06-Nov-94 08:50:07 GMT",
        "Sun Nov  6 08:50:07 1994",
        "6 Nov 1994 08:50:07",
    ];
    rows::hold(dates, |date| {
        let asked = plain().server_delay(&head(503, Some(date)), now);
        (date, asked, Some(ServerDelay::After(30 * SECOND)))
    });
}

#[test]
fn an_idempotency_key_makes_any_method_one_to_repeat_unless_it_is_empty() {
    let rows = [
        ("1", true),
        ("\"8e03978e-40d5-43dd-bc93-6894a57f9324\"", true),
        ("\t1 ", true),
        (" \"1\" ", true),
        ("\"1\";v=1", true),
        ("\"\\\"\"", true),
        ("1\u{a0}", true),
        ("", false),
        (" ", false),
        (" \t ", false),
        ("\"\"", false),
        ("\" \"", false),
        (" \"\" ", false),
        ("\"\";v=1", false),
        ("\"", false),
        ("\u{a0}", false),
        ("\"\u{a0}\"", false),
        ("\u{2003}", false),
    ];
    let name: HeaderName = "idempotency-key".parse().unwrap();
    rows::hold(rows, |(key, repeats)| {
        let value = HeaderValue::from_bytes(key.as_bytes()).unwrap();
        let headers = HeaderMap::from_iter([(name.clone(), value)]);
        let attempt = Attempt::new(&Method::POST, &headers, Err(&Broken), Failure::Read);
        let got = plain().for_request(&http::Extensions::new()).decide(&attempt);
        let want = match repeats {
            true => Decision::Retry { after: Duration::ZERO },
            false => Decision::Return(StopReason::Method),
        };
        (format!("{key:?}"), got, want)
    });
}

/// With these a server says that it did not process the request.
#[test]
fn a_421_or_425_that_is_listed_is_retried_whatever_the_method() {
    let (get, post) = (Method::GET, Method::POST);
    let listed = || {
        let codes = [421, 425, 500].map(|code| StatusCode::from_u16(code).unwrap());
        plain().status_forcelist(codes)
    };
    let by_class =
        || plain().classify(|outcome| outcome.ok().map(|head| Failure::Status(head.status)));
    let retry = Some(Decision::Retry { after: Duration::ZERO });
    let stop = |reason| Some(Decision::Return(reason));
    let rows = [
        ("421, POST", listed(), &post, 421, retry),
        ("425, POST", listed(), &post, 425, retry),
        ("425, GET", listed(), &get, 425, retry),
        ("500, POST", listed(), &post, 500, stop(StopReason::Method)),
        ("421, POST, not listed", plain(), &post, 421, None),
        ("425, GET, not listed", RetryPolicy::new(), &get, 425, None),
        ("425, POST, only by a class", by_class(), &post, 425, stop(StopReason::Method)),
        (
            "425, POST, the limit of statuses",
            listed().status(0),
            &post,
            425,
            stop(StopReason::Status),
        ),
        ("425, CONNECT", listed(), &Method::CONNECT, 425, stop(StopReason::Disabled)),
    ];
    rows::hold(rows, |(row, policy, method, status, want)| {
        (row, decided(&policy, method, &head(status, None)), want)
    });
}

#[test]
fn a_delay_that_would_end_after_the_deadline_is_not_begun() {
    let headers = HeaderMap::new();
    let policy = plain().backoff(Backoff::constant(SECOND)).deadline(10 * SECOND);
    for (elapsed, retried) in [(0.0, true), (8.9, true), (9.0, false), (11.0, false)] {
        let mut attempt = Attempt::new(&Method::GET, &headers, Err(&Broken), Failure::Read);
        attempt.elapsed = seconds(elapsed);
        let decision = policy.clone().for_request(&http::Extensions::new()).decide(&attempt);
        let want = if retried {
            Decision::Retry { after: SECOND }
        } else {
            Decision::Return(StopReason::Deadline)
        };
        assert_eq!(decision, want, "after {elapsed} s");
    }
}

#[test]
fn the_first_retry_of_what_was_not_sent_is_free_and_so_is_a_refusal_for_another_reason() {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use Failure::{Connect, Never, Read, Unsent};
    #[derive(Clone, Default)]
    struct Counting(Arc<AtomicUsize>, Arc<AtomicUsize>);
    impl tower::retry::budget::Budget for Counting {
        fn deposit(&self) {
            self.0.fetch_add(1, Relaxed);
        }
        fn withdraw(&self) -> bool {
            self.1.fetch_add(1, Relaxed) < 2
        }
    }
    let retries = |retries, reason: StopReason| (retries, Some(reason));
    // The budget is for two. Retries and why they ended, and withdrawals asked for.
    let rows: &[(&str, RetryPolicy, &[Failure], (usize, Option<StopReason>), usize)] = &[
        ("one", plain(), &[Connect, Never], retries(1, StopReason::Never), 0),
        ("one, unsent", plain(), &[Unsent, Never], retries(1, StopReason::Never), 0),
        ("a second one", plain(), &[Connect, Connect, Never], retries(2, StopReason::Never), 1),
        ("one of each", plain(), &[Connect, Unsent, Never], retries(2, StopReason::Never), 1),
        ("up to the budget", plain(), &[Unsent; 9], retries(3, StopReason::Budget), 3),
        ("after what was sent", plain(), &[Read, Connect, Never], retries(2, StopReason::Never), 1),
        ("around it", plain(), &[Connect, Read, Unsent, Never], retries(3, StopReason::Never), 2),
        ("what was sent", plain(), &[Read; 9], retries(2, StopReason::Budget), 3),
        ("no retries", plain().total(0), &[Read], retries(0, StopReason::Total), 0),
        ("no method", plain().allowed_methods([]), &[Read], retries(0, StopReason::Method), 0),
    ];
    rows::hold(rows, |(row, policy, failures, want, withdrawals)| {
        let budget = Counting::default();
        let got = play(&policy.clone().budget(budget.clone()), &Method::GET, failures);
        let (deposits, asked) = (budget.0.load(Relaxed), budget.1.load(Relaxed));
        (row, (got, deposits, asked), (*want, 1, *withdrawals))
    });
}

/// A policy has its own budget from the start. Its clones share it, whatever else is set.
#[test]
fn policies_with_limits_of_their_own_share_the_budget_that_they_were_cloned_with() {
    /// For one retry.
    #[derive(Default)]
    struct One(std::sync::atomic::AtomicBool);
    impl tower::retry::budget::Budget for One {
        fn deposit(&self) {}
        fn withdraw(&self) -> bool {
            !self.0.swap(true, std::sync::atomic::Ordering::Relaxed)
        }
    }
    let one = One::default;
    let base = plain().budget(one());
    let shared = base.clone().total(5).allowed_methods([Method::GET]).deadline(SECOND);
    let rows = [
        ("a clone with other limits", base.clone(), shared.clone(), 0),
        ("one that was made by itself", base.clone(), plain().budget(one()), 1),
        ("one that was given another since", base.clone(), shared.budget(one()), 1),
    ];
    // The first row spends what there is of it.
    rows::hold(rows, |(row, first, second, retries)| {
        play(&first, &Method::GET, &[Failure::Read; 2]);
        let got = play(&second, &Method::GET, &[Failure::Read; 2]);
        (row, got, (retries, Some(StopReason::Budget)))
    });
}

#[test]
fn the_callers_own_classes_take_the_place_of_ours() {
    let policy = plain().classify(|outcome| match outcome {
        Ok(head) if head.status == StatusCode::NOT_FOUND => Some(Failure::Other),
        _ => None,
    });
    assert_eq!(Policy::classify(&policy, Ok(&head(404, None))), Some(Failure::Other));
    assert_eq!(Policy::classify(&policy, Ok(&head(503, Some("1")))), None);
    assert_eq!(Policy::classify(&policy, Err(&Broken)), None);
}

#[test]
fn a_time_of_day_before_1970_or_far_ahead_makes_no_panic() {
    let (response, headers) = (head(503, Some("Fri, 31 Dec 9999 23:59:59 GMT")), HeaderMap::new());
    for now in [UNIX_EPOCH - SECOND, SystemTime::now(), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
        let mut attempt =
            Attempt::new(&Method::GET, &headers, Ok(&response), Failure::Status(response.status));
        attempt.now = now;
        drop(format!("{:?}", plain().for_request(&http::Extensions::new()).decide(&attempt)));
    }
}

#[test]
fn the_presets_are_urllib3s_defaults_and_none() {
    let (get, post) = (Method::GET, Method::POST);
    let urllib3 = RetryPolicy::urllib3;
    let retry = |after| Some(Decision::Retry { after: Duration::from_secs(after) });
    let rows = [
        ("a bare 503", urllib3(), &get, 503, None, None),
        ("Retry-After", urllib3(), &get, 503, Some("7"), retry(7)),
        (
            "Retry-After of a POST",
            urllib3(),
            &post,
            503,
            Some("7"),
            Some(Decision::Return(StopReason::Method)),
        ),
        ("too long a Retry-After", urllib3(), &get, 429, Some("99999"), retry(21_600)),
        (
            "none",
            RetryPolicy::none(),
            &get,
            503,
            Some("7"),
            Some(Decision::Return(StopReason::Disabled)),
        ),
        ("none, bare", RetryPolicy::none(), &get, 400, None, None),
    ];
    rows::hold(rows, |(row, policy, method, status, retry_after, want)| {
        let got = decided(&policy, method, &head(status, retry_after));
        (row, got, want)
    });
    assert!(urllib3().terms().raise_on_status && !RetryPolicy::none().terms().raise_on_status);
    assert_eq!(play(&urllib3(), &get, &[Failure::Read; 11]), (10, Some(StopReason::Total)));
    assert_eq!(
        play(&RetryPolicy::none(), &get, &[Failure::Connect]),
        (0, Some(StopReason::Disabled))
    );
}

/// Nothing is kept of a request that will not be sent again, whatever happens to it.
#[test]
fn what_the_limits_rule_out_is_known_before_the_request_is_sent() {
    let (none, key) = (
        HeaderMap::new(),
        HeaderMap::from_iter([("idempotency-key".parse().unwrap(), "1".parse().unwrap())]),
    );
    let (get, post, connect) = (Method::GET, Method::POST, Method::CONNECT);
    let query = Method::QUERY;
    let blank = HeaderMap::from_iter([("idempotency-key".parse().unwrap(), " ".parse().unwrap())]);
    let zero = || plain().read(0).status(0).other(0);
    let listing = |code| plain().status_forcelist([StatusCode::from_u16(code).unwrap()]);
    let rows: &[(&str, RetryPolicy, &Method, &HeaderMap, bool)] = &[
        ("the default", RetryPolicy::new(), &get, &none, true),
        ("a POST, which may be refused", RetryPolicy::new(), &post, &none, true),
        ("total 0", plain().total(0), &get, &none, false),
        ("disabled", plain().total(Limit::Disabled), &get, &none, false),
        ("no total", plain().total(None), &get, &none, true),
        ("CONNECT", plain().any_method(), &connect, &none, false),
        ("a POST with nothing for its connections", plain().connect(0), &post, &none, false),
        ("the same with 425 listed", listing(425).connect(0), &post, &none, true),
        ("the same with 421 listed", listing(421).connect(0), &post, &none, true),
        ("the same with 503 listed", listing(503).connect(0), &post, &none, false),
        (
            "425 listed, nothing for statuses",
            listing(425).connect(0).status(0),
            &post,
            &none,
            false,
        ),
        ("425 listed, total 0", listing(425).total(0), &post, &none, false),
        ("a POST with a blank key", plain().connect(0), &post, &blank, false),
        ("QUERY", plain().connect(0), &query, &none, true),
        ("QUERY, urllib3", RetryPolicy::urllib3().connect(0), &query, &none, false),
        ("the same with a key", plain().connect(0), &post, &key, true),
        (
            "a GET with nothing for its connections",
            plain().connect(Limit::Disabled),
            &get,
            &none,
            true,
        ),
        ("nothing but connections", zero(), &get, &none, true),
        ("nothing at all", zero().connect(0), &get, &none, false),
    ];
    rows::hold(rows, |(row, policy, method, headers, may)| {
        (row, policy.may_retry(method, headers), *may)
    });
}

/// Whatever a server sends there, the policy decides, and waits no longer than it allows.
#[test]
fn a_retry_after_of_any_bytes_leads_to_a_decision() {
    let seeds: [&[u8]; 6] = [
        b"120",
        b"Sun, 06 Nov 1994 08:49:37 GMT",
        b"Sunday, 06-Nov-94 08:49:37 GMT",
        b"Sun Nov  6 08:49:37 1994",
        b"-1",
        b"",
    ];
    let mut random = fastrand::Rng::with_seed(7);
    let most = Duration::from_secs(3600);
    let policy = RetryPolicy::new().no_budget().retry_after_max(most).total(None);
    let mut retried = 0;
    for _ in 0..200_000 {
        let mut bytes = seeds[random.usize(..seeds.len())].to_vec();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..=bytes.len());
            match random.u8(..3) {
                0 => bytes.insert(at, random.u8(..)),
                1 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = random.u8(..),
                _ => bytes.extend_from_slice(seeds[random.usize(..seeds.len())]),
            }
        }
        let Ok(value) = http::HeaderValue::from_bytes(&bytes) else { continue };
        let mut response = head(503, None);
        response.headers.insert(RETRY_AFTER, value);
        let headers = HeaderMap::new();
        let mut attempt =
            Attempt::new(&Method::GET, &headers, Ok(&response), Failure::Status(response.status));
        attempt.now = UNIX_EPOCH + Duration::from_secs(random.u64(..1 << 36));
        attempt.random = random.f64();
        match policy.clone().for_request(&http::Extensions::new()).decide(&attempt) {
            Decision::Retry { after } => {
                assert!(after <= most, "{after:?} of {:?}", String::from_utf8_lossy(&bytes));
                retried += 1;
            }
            decision => assert_eq!(decision, Decision::Return(StopReason::RetryAfter)),
        }
    }
    assert!(retried > 10_000, "{retried}");
}

#[test]
fn an_attempt_shows_no_header_value() {
    let headers =
        HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer secret".parse().unwrap())]);
    let head = Response::builder()
        .status(503)
        .header("set-cookie", "sid=secret")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let attempt = Attempt::new(&Method::GET, &headers, Ok(&head), Failure::Status(head.status));
    let shown = format!("{attempt:?} {attempt:#?}");
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("GET") && shown.contains("503"), "{shown}");
}
