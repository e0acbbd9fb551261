//! Retry policies, backoff and their parts as configuration values.

use std::{error::Error, fmt, fmt::Debug, time::Duration};

use http::{Extensions, HeaderMap, Method, Response, StatusCode, response};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Drain, Failure, Jitter, Limit, OverMax, Policy, RetryPolicy,
    StopReason,
};

use crate::rows;

const MS: Duration = Duration::from_millis(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[allow(dead_code)]
    retry: RetryPolicy,
}

fn policy(toml: &str) -> RetryPolicy {
    toml::from_str(toml).unwrap()
}

fn head(status: u16, retry_after: Option<&str>) -> response::Parts {
    let response = Response::builder().status(status);
    let response = retry_after
        .into_iter()
        .fold(response, |response, value| response.header("retry-after", value));
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

/// The delays of one request that fails until the policy stops, and why it stops. The 21st
/// succeeds.
fn play(
    policy: &RetryPolicy,
    method: &Method,
    failure: Failure,
    retry_after: Option<&str>,
) -> (Vec<Duration>, StopReason) {
    let mut policy = policy.for_request(&Extensions::new());
    let response = match failure {
        Failure::Status(status) => Some(head(status.as_u16(), retry_after)),
        _ => None,
    };
    let headers = HeaderMap::new();
    let mut delays = Vec::new();
    while delays.len() < 20 {
        let outcome = response.as_ref().ok_or(&Broken as &(dyn Error + 'static));
        match policy.decide(&Attempt::new(method, &headers, outcome, failure)) {
            Decision::Retry { after } => delays.push(after),
            Decision::Return(reason) => return (delays, reason),
            decision => panic!("{decision:?}"),
        }
    }
    (delays, StopReason::Success)
}

fn retries(policy: &RetryPolicy, method: &Method, failure: Failure) -> (usize, StopReason) {
    let (delays, reason) = play(policy, method, failure, None);
    (delays.len(), reason)
}

#[test]
fn an_empty_table_is_the_default_policy() {
    assert_eq!(format!("{:?}", policy("")), format!("{:?}", RetryPolicy::new()));
    assert_eq!(policy("").terms().drain, Drain::default());
    let refused =
        play(&policy(""), &Method::GET, Failure::Status(StatusCode::BAD_GATEWAY), Some("61"));
    assert_eq!(refused, (vec![], StopReason::RetryAfter));
}

#[test]
fn the_limits_are_numbers_or_words() {
    let (status, get) = (Failure::Status(StatusCode::BAD_GATEWAY), Method::GET);
    let rows = [
        ("total = 5", status, (5, StopReason::Total)),
        ("total = 0", status, (0, StopReason::Total)),
        ("total = \"disabled\"", status, (0, StopReason::Disabled)),
        ("total = \"unlimited\"\nbudget = \"none\"", status, (20, StopReason::Success)),
        ("connect = 1", Failure::Connect, (1, StopReason::Connect)),
        ("read = 2", Failure::Read, (2, StopReason::Read)),
        ("read = \"disabled\"", Failure::Timeout, (0, StopReason::Disabled)),
        ("status = 1", status, (1, StopReason::Status)),
        ("other = 1\nstatus = 0", Failure::Other, (1, StopReason::Other)),
    ];
    rows::hold(rows, |(toml, failure, want)| (toml, retries(&policy(toml), &get, failure), want));
}

#[test]
fn methods_and_statuses_are_lists() {
    let (ours, others) =
        (policy("allowed_methods = [\"POST\", \"PURGE\"]"), policy("allowed_methods = \"any\""));
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let rows = [
        (&ours, Method::GET, 0),
        (&ours, Method::POST, 3),
        (&ours, purge, 3),
        (&others, Method::PATCH, 3),
    ];
    for (policy, method, want) in rows {
        assert_eq!(retries(policy, &method, Failure::Read).0, want, "{method}");
    }
    let policy = policy("status_forcelist = [500, 204]\nrespect_retry_after = false");
    let rows = [
        (500, None, true),
        (204, None, true),
        (200, None, false),
        (502, None, false),
        (503, Some("1"), false),
    ];
    for (status, retry_after, want) in rows {
        let fails = Policy::classify(&policy, Ok(&head(status, retry_after))).is_some();
        assert_eq!(
            fails && !policy.is_success(StatusCode::from_u16(status).unwrap()),
            want,
            "{status}"
        );
    }
}

#[test]
fn times_are_text_with_a_unit() {
    let policy = policy(
        "attempt_timeout = \"1s 500ms\"\ndeadline = \"2m\"\ndrain = { time = \"5ms\" }\nraise_on_status = true\n\
         attempt_header = \"X-Attempt\"\nretry_after_max = \"30s\"\nretry_after_over_max = \"clamp\"\n\
         backoff = { urllib3 = \"100ms\", max = \"250ms\" }",
    );
    assert_eq!(policy.terms().attempt_timeout, Some(1_500 * MS));
    assert_eq!(policy.terms().deadline, Some(120_000 * MS));
    assert_eq!(policy.terms().drain, Drain { time: 5 * MS, ..Drain::default() });
    assert!(policy.terms().raise_on_status);
    assert_eq!(policy.terms().attempt_header.unwrap(), "x-attempt");
    let failure = Failure::Status(StatusCode::SERVICE_UNAVAILABLE);
    let delays = |retry_after| play(&policy, &Method::GET, failure, retry_after).0;
    assert_eq!(delays(None), [Duration::ZERO, 200 * MS, 250 * MS]);
    assert_eq!(delays(Some("31"))[0], 30_000 * MS);
}

#[test]
fn the_budget_is_a_table_or_none() {
    let failure = Failure::Read;
    let rows = [
        // 2 a second over 10 s.
        ("budget = { percent = 0, min_retries = { count = 2, per = \"1s\" } }", 20),
        ("budget = { percent = 0, min_retries = { count = 0, per = \"1s\" }, window = \"1s\" }", 0),
        ("budget = { percent = 50.0, min_retries = { count = 0, per = \"1s\" } }", 10),
        ("budget = { min_retries = { count = 1, per = \"30s\" }, window = \"1h\" }", 120 + 4),
        // The default: 1 a second over 10 s.
        ("budget = {}", 10 + 4),
        ("", 10 + 4),
        ("budget = \"none\"", 400),
    ];
    rows::hold(rows, |(toml, want)| {
        let policy = policy(&format!("total = \"unlimited\"\n{toml}"));
        // 20 requests with as many retries as the budget allows.
        (toml, (0..20).map(|_| retries(&policy, &Method::GET, failure).0).sum::<usize>(), want)
    });
}

fn is_written_as_it_is_read<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    rows: &[(T, &str)],
) {
    rows::hold(rows, |(value, json)| {
        let written = serde_json::to_string(value).unwrap();
        let read = serde_json::from_str::<T>(json).unwrap();
        (
            format!("{json}: written {written}, read {read:?}"),
            (written == *json, read == *value),
            (true, true),
        )
    });
}

#[test]
fn backoff_jitter_limits_and_drain_are_written_as_they_are_read() {
    is_written_as_it_is_read(&[
        (Backoff::none(), r#"{"constant":"0s","jitter":"none"}"#),
        (
            Backoff::constant(1_500 * MS).max(MS),
            r#"{"constant":"1s 500ms","max":"1ms","jitter":"none"}"#,
        ),
        (Backoff::exponential(50 * MS), r#"{"exponential":"50ms","max":"20s","jitter":"full"}"#),
        (
            Backoff::urllib3(100 * MS).jitter(Jitter::Added(MS / 3)),
            r#"{"urllib3":"100ms","max":"2m","jitter":{"added":"333us 333ns"}}"#,
        ),
        (
            Backoff::exponential(Duration::ZERO).jitter(Jitter::Decorrelated),
            r#"{"exponential":"0s","max":"20s","jitter":"decorrelated"}"#,
        ),
    ]);
    is_written_as_it_is_read(&[
        (Limit::Times(3), "3"),
        (Limit::Unlimited, "\"unlimited\""),
        (Limit::Disabled, "\"disabled\""),
    ]);
    is_written_as_it_is_read(&[(OverMax::GiveUp, "\"give_up\""), (OverMax::Clamp, "\"clamp\"")]);
    is_written_as_it_is_read(&[(Drain::default(), r#"{"bytes":65536,"time":"100ms"}"#)]);
    // The longest possible one.
    let endless = Backoff::exponential(Duration::MAX).max(Duration::MAX);
    assert_eq!(
        serde_json::from_str::<Backoff>(&serde_json::to_string(&endless).unwrap()).unwrap(),
        endless
    );
}

#[test]
fn what_a_backoff_does_not_say_is_as_its_constructor_has_it() {
    let rows = [
        (r#"{"constant":"1s"}"#, Backoff::constant(1_000 * MS)),
        (r#"{"exponential":"100ms"}"#, Backoff::exponential(100 * MS)),
        (r#"{"urllib3":"0s"}"#, Backoff::urllib3(Duration::ZERO)),
        (r#"{"max":"1s","exponential":"1ms"}"#, Backoff::exponential(MS).max(1_000 * MS)),
        (
            r#"{"constant":"1s","jitter":"equal"}"#,
            Backoff::constant(1_000 * MS).jitter(Jitter::Equal),
        ),
    ];
    for (json, want) in rows {
        assert_eq!(serde_json::from_str::<Backoff>(json).unwrap(), want, "{json}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_line_and_what_to_write() {
    let rows = [
        ("totl = 3", "unknown field `totl`"),
        (
            "total = -1",
            "invalid value: integer `-1`, expected a number of retries, \"unlimited\" or \"disabled\"",
        ),
        ("total = 4294967296", "write \"unlimited\""),
        (
            "total = \"none\"",
            "string \"none\", expected a number of retries, \"unlimited\" or \"disabled\"",
        ),
        ("total = true", "expected a number of retries"),
        ("allowed_methods = [\"GET\", \"post\"]", "write \"POST\""),
        ("allowed_methods = [\"GET POST\"]", "\"GET POST\" is not a method"),
        ("allowed_methods = \"all\"", "expected a list of methods, or \"any\""),
        ("status_forcelist = [500, 99]", "99 is not a status; write a number from 100 to 999"),
        ("status_forcelist = [\"500\"]", "expected u64"),
        ("backoff = { max = \"1s\" }", "one of `constant`, `exponential` and `urllib3`"),
        ("backoff = { constant = \"1s\", urllib3 = \"1s\" }", "keep one"),
        ("backoff = { linear = \"1s\" }", "unknown field `linear`"),
        ("backoff = { constant = \"1s\", jitter = \"ful\" }", "unknown variant `ful`"),
        ("attempt_timeout = 100", "expected a duration with its unit, such as \"100ms\""),
        ("deadline = \"100\"", "\"100\" is not a duration: time unit needed"),
        ("deadline = \"-1s\"", "\"-1s\" is not a duration"),
        ("deadline = \"99999999999999999999s\"", "is not a duration"),
        ("attempt_timeout = \"0s\"", "for no limit leave this key out"),
        ("deadline = \"0ms\"", "for no limit leave this key out"),
        ("backoff = \"1s\"", "expected a backoff, a table such as"),
        ("drain = 1024", "expected a drain, a table such as"),
        ("retry_after_over_max = \"wait\"", "unknown variant `wait`"),
        (
            "budget = { percent = -1 }",
            "`percent` of a budget must be a whole number from 0 to 4294967295, not -1",
        ),
        ("budget = { percent = 12.5 }", "a whole number from 0 to 4294967295, not 12.5"),
        ("budget = { percent = nan }", "`percent` of a budget"),
        ("budget = { percent = 4294967296 }", "`percent` of a budget"),
        ("budget = { per_second = 10 }", "unknown field `per_second`, expected one of `percent`"),
        ("budget = { min_retries = 1 }", "a rate, a table such as { count = 1, per = \"1s\" }"),
        ("budget = { min_retries = { count = 1 } }", "missing field `per`"),
        (
            "budget = { min_retries = { count = 1, per = \"0s\" } }",
            "`per` of `min_retries` must be longer than 0 s and at most 24 h",
        ),
        ("budget = { window = \"61m\" }", "`window` of a budget must be from 1 s to 1 h"),
        ("budget = { window = \"999ms\" }", "`window` of a budget must be from 1 s to 1 h"),
        ("budget = { rate = 1 }", "unknown field `rate`"),
        ("budget = false", "or \"none\""),
        ("drain = { bytes = 1, seconds = 1 }", "unknown field `seconds`"),
        ("attempt_header = \"x attempt\"", "is not the name of a header"),
        ("attempt_header = \"Content-Length\"", "says how a request is framed or routed"),
        ("respect_retry_after = 1", "expected a boolean"),
    ];
    rows::hold(rows, |(toml, fault)| {
        let error = toml::from_str::<File>(&format!("[retry]\n{toml}\n")).unwrap_err();
        let told = (error.message().contains(fault), error.to_string().contains("line 2,"));
        (format!("{fault}: {error}"), told, (true, true))
    });
    for (json, fault) in [
        (r#"{"total":1,"total":2}"#, "duplicate field `total`"),
        (r#"{"total":null}"#, "invalid type: null"),
        ("3", "a retry policy, a table such as"),
    ] {
        let error = serde_json::from_str::<RetryPolicy>(json).unwrap_err().to_string();
        assert!(error.contains(fault), "{error}");
    }
}
