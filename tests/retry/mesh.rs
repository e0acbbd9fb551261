//! Configurations of service meshes, as in their documentation, read as policies.

use std::time::Duration;

use http::{Extensions, HeaderMap, Method, Response, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Failure, Jitter, Limit, Policy, RetryPolicy,
    mesh::{HttpRouteRetry, HttpRouteTimeouts, LinkerdRetryBudget, MeshError, RetryConstraint},
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The part of a manifest that these tests read.
#[derive(Deserialize)]
struct Manifest<T> {
    spec: T,
}

#[derive(Deserialize)]
struct HttpRoute {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(default)]
    retry: HttpRouteRetry,
    #[serde(default)]
    timeouts: HttpRouteTimeouts,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BackendTrafficPolicy {
    retry_constraint: RetryConstraint,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceProfile {
    retry_budget: LinkerdRetryBudget,
}

fn spec<T: DeserializeOwned>(manifest: &str) -> T {
    yaml_serde::from_str::<Manifest<T>>(manifest).unwrap().spec
}

fn rule(yaml: &str) -> Rule {
    yaml_serde::from_str(yaml).unwrap()
}

/// Everything but the budget.
fn values(policy: &RetryPolicy) -> String {
    format!("{policy:?}")
}

fn statuses(codes: &[u16]) -> impl Iterator<Item = StatusCode> {
    codes.iter().map(|code| StatusCode::from_u16(*code).unwrap())
}

/// The decision on each failure of one request, until there is no retry.
fn delays(policy: &RetryPolicy, random: f64) -> Vec<Duration> {
    let (method, headers) = (Method::GET, HeaderMap::new());
    let (head, ()) = Response::builder().status(503).body(()).unwrap().into_parts();
    let failure = Failure::Status(head.status);
    let mut policy = policy.for_request(&Extensions::new());
    let mut attempt = Attempt::new(&method, &headers, Ok(&head), failure);
    attempt.random = random;
    std::iter::from_fn(|| match policy.decide(&attempt) {
        Decision::Retry { after } => Some(after),
        _ => None,
    })
    .take(1_000)
    .collect()
}

/// How many retries `requests` requests get together, with what the budget allows at once.
fn retries(policy: &RetryPolicy, requests: usize) -> usize {
    let policy = policy.clone().total(None);
    (0..requests).map(|_| delays(&policy, 0.0).len()).sum()
}

#[test]
fn the_http_route_of_gep_1731_is_a_policy() {
    let route: HttpRoute = spec(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: retry-example
spec:
  parentRefs:
  - name: example-gateway
  rules:
  - backendRefs:
    - name: backend-svc
      port: 8080
    retry:
      codes:
      - 500
      - 502
      - 503
      - 504
      attempts: 2
      backoff: 100ms
",
    );
    let policy = RetryPolicy::try_from(route.rules[0].retry.clone()).unwrap();
    let want = RetryPolicy::new()
        .status_forcelist(statuses(&[500, 502, 503, 504]))
        .total(2)
        .backoff(Backoff::exponential(100 * MS).jitter(Jitter::Added(100 * MS)));
    assert_eq!(values(&policy), values(&want));
}

#[test]
fn the_http_route_of_gep_1742_is_a_policy() {
    let route: HttpRoute = spec(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: timeout-example
spec:
  parentRefs:
  - name: example-gateway
  rules:
  - matches:
    - path:
        type: PathPrefix
        value: /timeout
    timeouts:
      request: 10s
      backendRequest: 2s
    backendRefs:
    - name: timeout-svc
      port: 8080
",
    );
    let policy = RetryPolicy::try_from(route.rules[0].timeouts.clone()).unwrap();
    let want = RetryPolicy::new().deadline(10 * SECOND).attempt_timeout(2 * SECOND);
    assert_eq!(values(&policy), values(&want));
}

#[tokio::test(start_paused = true)]
async fn the_backend_traffic_policy_of_gep_3388_is_a_policy() {
    // As the announcement of the Gateway API 1.3 has it.
    let backend: BackendTrafficPolicy = spec(
        "
apiVersion: gateway.networking.x-k8s.io/v1alpha1
kind: XBackendTrafficPolicy
metadata:
  name: traffic-policy-example
spec:
  retryConstraint:
    budget:
      percent: 20
      interval: 10s
    minRetryRate:
      count: 3
      interval: 1s
",
    );
    let policy = RetryPolicy::try_from(backend.retry_constraint).unwrap();
    assert_eq!(values(&policy), values(&RetryPolicy::new()));
    // 3 a second over 10 s, and a fifth of the requests.
    assert_eq!(retries(&policy, 100), 30 + 20);
    // A second later 3 more, and a fifth of the new requests.
    tokio::time::advance(SECOND + MS).await;
    assert_eq!(retries(&policy, 5), 3 + 1);
}

#[tokio::test(start_paused = true)]
async fn the_service_profile_of_linkerd_is_a_policy() {
    // As linkerd's page of retries and timeouts has it.
    let profile: ServiceProfile = spec(
        "
apiVersion: linkerd.io/v1alpha2
kind: ServiceProfile
metadata:
  name: webapp.default.svc.cluster.local
spec:
  retryBudget:
    retryRatio: 0.2
    minRetriesPerSecond: 10
    ttl: 10s
",
    );
    assert_eq!(profile.retry_budget, LinkerdRetryBudget::default());
    let policy = RetryPolicy::try_from(profile.retry_budget).unwrap();
    assert_eq!(values(&policy), values(&RetryPolicy::new()));
    // 10 a second over 10 s, and a fifth of the requests.
    assert_eq!(retries(&policy, 100), 100 + 20);
}

#[test]
fn what_a_rule_leaves_out_is_the_policy_s() {
    let ours = || {
        RetryPolicy::new()
            .total(7)
            .status_forcelist(statuses(&[418]))
            .backoff(Backoff::constant(SECOND))
            .deadline(9 * SECOND)
            .attempt_timeout(8 * SECOND)
    };
    let base = Backoff::exponential(5 * MS).jitter(Jitter::Added(5 * MS));
    let wide =
        |least: Duration| Backoff::exponential(least).jitter(Jitter::Added(least)).max(2 * least);
    let rows = [
        ("{}", ours()),
        ("retry: {}", ours()),
        ("retry: { codes: , attempts: null, backoff: ~ }", ours()),
        ("retry: { codes: [] }", ours().status_forcelist([])),
        ("retry: { codes: [400, 599] }", ours().status_forcelist(statuses(&[400, 599]))),
        ("retry: { attempts: 1 }", ours().total(1)),
        ("retry: { attempts: 0 }", ours().total(Limit::Disabled)),
        ("retry: { attempts: 4294967295 }", ours().total(u32::MAX)),
        ("retry: { backoff: 5ms }", ours().backoff(base)),
        ("retry: { backoff: 10s }", ours().backoff(wide(10 * SECOND))),
        ("retry: { backoff: 1m30s }", ours().backoff(wide(90 * SECOND))),
        ("timeouts: {}", ours()),
        ("timeouts: { request: 1h }", ours().deadline(3_600 * SECOND)),
        ("timeouts: { request: 0s }", ours().deadline(None)),
        ("timeouts: { backendRequest: 1ms }", ours().attempt_timeout(MS)),
        ("timeouts: { backendRequest: 0h }", ours().attempt_timeout(None)),
        (
            "timeouts: { request: 2s, backendRequest: 2s }",
            ours().deadline(2 * SECOND).attempt_timeout(2 * SECOND),
        ),
        (
            "timeouts: { request: 0s, backendRequest: 2s }",
            ours().deadline(None).attempt_timeout(2 * SECOND),
        ),
        (
            "timeouts: { request: 2s, backendRequest: 0s }",
            ours().deadline(2 * SECOND).attempt_timeout(None),
        ),
        (
            "{ retry: { attempts: 1 }, timeouts: { request: 3s } }",
            ours().total(1).deadline(3 * SECOND),
        ),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .filter_map(|(yaml, want)| {
            let rule = rule(yaml);
            let policy = rule.timeouts.apply_to(rule.retry.apply_to(ours()).unwrap()).unwrap();
            (values(&policy) != values(want)).then(|| format!("{yaml}: {policy:?}, not {want:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// GEP-1731: an implementation must not retry before the minimum.
#[test]
fn no_retry_comes_before_the_backoff_of_a_rule() {
    let mut wrong = Vec::new();
    for backoff in ["1ms", "100ms", "7s", "15s", "20s", "21s", "1h", "99999h"] {
        let rule = rule(&format!("retry: {{ backoff: {backoff}, attempts: 40 }}"));
        let least = rule.retry.backoff.unwrap();
        let policy = RetryPolicy::try_from(rule.retry).unwrap().no_budget();
        for random in [0.0, 0.5, 0.999_999] {
            let delays = delays(&policy, random);
            let jitter = delays[0] - least;
            let expected = least.mul_f64(random);
            if delays.len() != 40 || delays.iter().any(|delay| *delay < least) {
                wrong.push(format!("{backoff} at {random}: {delays:?}"));
            }
            // A fleet spreads its retries from the first one on, whatever the maximum.
            if jitter.abs_diff(expected) > MS {
                wrong.push(format!("{backoff} at {random}: jitter of {jitter:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn what_a_constraint_leaves_out_is_the_api_s() {
    let rows = [
        // Retries of 100 requests at once: the floor's, and the percentage.
        ("{}", 100 + 20),
        ("{ budget: {}, minRetryRate: {} }", 100 + 20),
        ("{ budget: , minRetryRate: }", 100 + 20),
        ("{ budget: { percent: 0 } }", 100),
        ("{ budget: { percent: 100, interval: 1s } }", 10 + 100),
        ("{ budget: { interval: 1h } }", 36_000 + 20),
        ("{ minRetryRate: { count: 1 } }", 10 + 20),
        ("{ minRetryRate: { interval: 1h } }", 10 + 20),
        ("{ minRetryRate: { count: 2, interval: 500ms } }", 40 + 20),
        (
            "{ budget: { percent: 10, interval: 30s }, minRetryRate: { count: 1, interval: 10s } }",
            3 + 10,
        ),
    ];
    let mut wrong = Vec::new();
    for (yaml, want) in rows {
        let constraint: RetryConstraint = yaml_serde::from_str(yaml).unwrap();
        let policy = RetryPolicy::try_from(constraint).unwrap();
        // A request makes at most a thousand retries, so it takes many requests to use up a large
        // floor.
        let got = retries(&policy, 100);
        if got != want {
            wrong.push(format!("{yaml}: {got}, not {want}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn every_whole_hundredth_of_linkerd_s_ratio_is_kept() {
    let mut wrong = Vec::new();
    for percent in 0..=250_u32 {
        let ratio = f64::from(percent) / 100.0;
        // As a file has it, and as linkerd's 32 bits have it.
        for ratio in [ratio, f64::from(ratio as f32)] {
            let yaml = format!("{{ retryRatio: {ratio}, minRetriesPerSecond: 0, ttl: 1m }}");
            let budget: LinkerdRetryBudget = yaml_serde::from_str(&yaml).unwrap();
            match RetryPolicy::try_from(budget) {
                Ok(policy) if retries(&policy, 100) == percent as usize => {}
                other => wrong.push(format!("{yaml}: {other:?}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_rule_and_a_constraint_of_the_same_requests_are_one_policy() {
    let rule = rule("{ retry: { codes: [500], attempts: 1 }, timeouts: { request: 3s } }");
    let constraint: RetryConstraint = yaml_serde::from_str(
        "{ budget: { percent: 50 }, minRetryRate: { count: 1, interval: 1h } }",
    )
    .unwrap();
    let policy = rule.retry.apply_to(RetryPolicy::new().any_method()).unwrap();
    let policy = rule.timeouts.apply_to(policy).unwrap();
    let policy = constraint.apply_to(policy).unwrap();
    let want = RetryPolicy::new()
        .any_method()
        .status_forcelist(statuses(&[500]))
        .total(1)
        .deadline(3 * SECOND);
    assert_eq!(values(&policy), values(&want));
    // Clones share the budget.
    let clone = policy.clone();
    assert_eq!(retries(&policy, 10) + retries(&clone, 10), 1 + 10);
}

/// Each with the field, the value, and what to write.
#[test]
fn a_value_that_cannot_be_kept_is_an_error_that_names_its_field() {
    fn refusal<T>(yaml: &str) -> MeshError
    where
        T: DeserializeOwned,
        RetryPolicy: TryFrom<T, Error = MeshError>,
    {
        RetryPolicy::try_from(yaml_serde::from_str::<T>(yaml).unwrap()).unwrap_err()
    }
    let retry = refusal::<HttpRouteRetry>;
    let timeouts = refusal::<HttpRouteTimeouts>;
    let constraint = refusal::<RetryConstraint>;
    let linkerd = |ratio: &str, floor: &str, ttl: &str| {
        refusal::<LinkerdRetryBudget>(&format!(
            "{{ retryRatio: {ratio}, minRetriesPerSecond: {floor}, ttl: {ttl} }}"
        ))
    };
    let (statuses, attempts) =
        ("write statuses from 400 to 599", "write 0 for no retries, or a number up to 4294967295");
    let (second_to_hour, hundredths) =
        ("write a duration from \"1s\" to \"1h\"", "write whole hundredths, such as 0.2");
    let rows = [
        (retry("codes: [500, 399]"), "retry.codes", format!("399: {statuses}")),
        (retry("codes: [600]"), "retry.codes", format!("600: {statuses}")),
        (retry("codes: [-500]"), "retry.codes", format!("-500: {statuses}")),
        (retry("codes: [66036]"), "retry.codes", format!("66036: {statuses}")),
        (retry("attempts: -1"), "retry.attempts", format!("-1: {attempts}")),
        (retry("attempts: 4294967296"), "retry.attempts", format!("4294967296: {attempts}")),
        (
            timeouts("{ request: 1s, backendRequest: 1s1ms }"),
            "timeouts.backendRequest",
            "1.001s and timeouts.request 1s: write a backendRequest that is not longer than request"
                .into(),
        ),
        (
            constraint("budget: { percent: 101 }"),
            "retryConstraint.budget.percent",
            "101: write a percentage from 0 to 100".into(),
        ),
        (
            constraint("budget: { percent: -1 }"),
            "retryConstraint.budget.percent",
            "-1: write a percentage from 0 to 100".into(),
        ),
        (
            constraint("budget: { interval: 999ms }"),
            "retryConstraint.budget.interval",
            format!("999ms: {second_to_hour}"),
        ),
        (
            constraint("budget: { interval: 1h1ms }"),
            "retryConstraint.budget.interval",
            format!("3600.001s: {second_to_hour}"),
        ),
        (
            constraint("minRetryRate: { count: 0 }"),
            "retryConstraint.minRetryRate.count",
            "0: write a number from 1 to 1000000".into(),
        ),
        (
            constraint("minRetryRate: { count: 1000001 }"),
            "retryConstraint.minRetryRate.count",
            "1000001: write a number from 1 to 1000000".into(),
        ),
        (
            constraint("minRetryRate: { interval: 0s }"),
            "retryConstraint.minRetryRate.interval",
            "0ns: write a duration from \"1ms\" to \"1h\"".into(),
        ),
        (
            constraint("minRetryRate: { interval: 61m }"),
            "retryConstraint.minRetryRate.interval",
            "3660s: write a duration from \"1ms\" to \"1h\"".into(),
        ),
        (linkerd("0.125", "1", "10s"), "retryBudget.retryRatio", format!("0.125: {hundredths}")),
        (linkerd("-0.2", "1", "10s"), "retryBudget.retryRatio", format!("-0.2: {hundredths}")),
        (linkerd(".nan", "1", "10s"), "retryBudget.retryRatio", format!("NaN: {hundredths}")),
        (linkerd(".inf", "1", "10s"), "retryBudget.retryRatio", format!("inf: {hundredths}")),
        (
            linkerd("0.2", "-1", "10s"),
            "retryBudget.minRetriesPerSecond",
            "-1: write a number from 0 to 4294967295".into(),
        ),
        (linkerd("0.2", "1", "0"), "retryBudget.ttl", format!("0ns: {second_to_hour}")),
        (linkerd("0.2", "1", "2h"), "retryBudget.ttl", format!("7200s: {second_to_hour}")),
        (linkerd("0.2", "1", "999.9ms"), "retryBudget.ttl", format!("999.9ms: {second_to_hour}")),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .filter(|(error, field, rest)| {
            error.field() != *field || error.to_string() != format!("{field} is {rest}")
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What no field can hold is an error of the deserializer.
#[test]
fn what_is_misspelt_is_an_error_that_names_it() {
    fn fault<T: DeserializeOwned + std::fmt::Debug>(yaml: &str) -> String {
        yaml_serde::from_str::<T>(yaml).unwrap_err().to_string()
    }
    let (retry, timeouts) = (fault::<HttpRouteRetry>, fault::<HttpRouteTimeouts>);
    let (constraint, linkerd) = (fault::<RetryConstraint>, fault::<LinkerdRetryBudget>);
    let gateway = "is not a duration: write one to four whole numbers of at most five digits, \
                   each with h, m, s or ms, such as \"1h30m\"";
    let rows = [
        // Envoy's and Istio's names, and what a later version of the API may add.
        (retry("numRetries: 2"), "unknown field `numRetries`, expected one of `codes`"),
        (retry("perTryTimeout: 2s"), "unknown field `perTryTimeout`"),
        (retry("Attempts: 2"), "unknown field `Attempts`"),
        (retry("attempts: \"2\""), "attempts: invalid type: string \"2\""),
        (retry("attempts: 2.5"), "attempts: invalid type: floating point `2.5`"),
        (retry("codes: 500"), "codes: invalid type: integer `500`"),
        (retry("codes: [5xx]"), "codes[0]: invalid type: string \"5xx\""),
        (retry("backoff: 1.5s"), &format!("backoff: \"1.5s\" {gateway}")),
        (retry("backoff: 1d"), &format!("backoff: \"1d\" {gateway}")),
        (retry("backoff: -1s"), &format!("backoff: \"-1s\" {gateway}")),
        (retry("backoff: 100000ms"), &format!("backoff: \"100000ms\" {gateway}")),
        (retry("backoff: 100"), &format!("backoff: \"100\" {gateway}")),
        (retry("backoff: [100ms]"), "backoff: invalid type: sequence, expected a duration: one"),
        (timeouts("backend_request: 2s"), "unknown field `backend_request`, expected `request`"),
        (timeouts("idle: 2s"), "unknown field `idle`"),
        (timeouts("request: \"0\""), &format!("request: \"0\" {gateway}")),
        // The spelling of GEP-3388 before version 1.3.
        (constraint("budgetPercent: 20"), "unknown field `budgetPercent`, expected `budget` or"),
        (constraint("budget: { budgetInterval: 10s }"), "budget: unknown field `budgetInterval`"),
        (constraint("minRetryRate: { rate: 3 }"), "minRetryRate: unknown field `rate`"),
        (constraint("minRetryRate: 3"), "minRetryRate: invalid type: integer `3`"),
        (linkerd("{ retryRatio: 0.2, ttl: 10s }"), "missing field `minRetriesPerSecond`"),
        (linkerd("{ retryRatio: 0.2, minRetriesPerSecond: 1 }"), "missing field `ttl`"),
        (linkerd("retryratio: 0.2"), "unknown field `retryratio`, expected one of `retryRatio`"),
        (
            linkerd("{ retryRatio: 0.2, minRetriesPerSecond: 1, ttl: 10 }"),
            "ttl: \"10\" is not a duration: write numbers with h, m, s, ms, us or ns, such as",
        ),
        (
            linkerd("{ retryRatio: 0.2, minRetriesPerSecond: 1, ttl: -10s }"),
            "ttl: \"-10s\" is not a duration: write numbers with h, m, s, ms, us or ns, such as",
        ),
    ];
    let wrong: Vec<_> = rows.iter().filter(|(error, fault)| !error.contains(fault)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
