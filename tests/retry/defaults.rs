//! Each default that the docs name, tested by its effect.

use std::{
    error::Error,
    panic::catch_unwind,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, Method, Request, Response, StatusCode, header, response,
};
use http_body_util::{BodyExt, Full};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{
    Attempt, Backoff, Decision, Drain, Failure, Jitter, OverMax, Policy, ReplayBody,
    ReplayBodyLayer, RetryLayer, RetryPolicy, StopReason,
};

use crate::rows;

const ALMOST_ONE: f64 = 0.999_999_999;
const METHODS: [Method; 10] = [
    Method::GET,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::PUT,
    Method::DELETE,
    Method::POST,
    Method::PATCH,
    Method::CONNECT,
    Method::QUERY,
];

fn head(status: StatusCode, retry_after: Option<&str>) -> response::Parts {
    let mut response = Response::builder().status(status);
    if let Some(value) = retry_after {
        response = response.header(header::RETRY_AFTER, value);
    }
    response.body(()).unwrap().into_parts().0
}

/// The delay after a failure in milliseconds, or why there is no retry.
fn decide(
    policy: &mut RetryPolicy,
    method: &Method,
    failure: Failure,
    random: f64,
) -> Result<u128, StopReason> {
    let (headers, broken) = (HeaderMap::new(), BoxError::from("broken"));
    let broken: &(dyn Error + 'static) = &*broken;
    let mut attempt = Attempt::new(method, &headers, Err(broken), failure);
    attempt.random = random;
    decision(policy.decide(&attempt))
}

fn decision(decision: Decision) -> Result<u128, StopReason> {
    match decision {
        Decision::Retry { after } => Ok((after + Duration::from_micros(1)).as_millis()),
        Decision::Return(reason) => Err(reason),
        decision => panic!("{decision:?}"),
    }
}

fn begin(policy: &RetryPolicy) -> RetryPolicy {
    policy.for_request(&Extensions::new())
}

/// The delays of one request, at the largest or the smallest random number.
fn delays(policy: &RetryPolicy, random: f64) -> Vec<u128> {
    let mut policy = begin(policy);
    std::iter::from_fn(|| decide(&mut policy, &Method::GET, Failure::Read, random).ok())
        .take(12)
        .collect()
}

/// The delay after a 503 that asks for a number of seconds, in milliseconds.
fn asked(policy: &RetryPolicy, seconds: &str) -> Result<u128, StopReason> {
    let (response, headers) =
        (head(StatusCode::SERVICE_UNAVAILABLE, Some(seconds)), HeaderMap::new());
    let attempt =
        Attempt::new(&Method::GET, &headers, Ok(&response), Failure::Status(response.status));
    decision(begin(policy).decide(&attempt))
}

/// How many requests are retried, each once, until the budget refuses.
fn retried(policy: &RetryPolicy) -> (usize, StopReason) {
    let mut retried = 0;
    loop {
        match decide(&mut begin(policy), &Method::GET, Failure::Read, 0.0) {
            Ok(_) if retried < 10_000 => retried += 1,
            Ok(_) => return (retried, StopReason::Success),
            Err(reason) => return (retried, reason),
        }
    }
}

/// How often a body of this size is sent, if it is read before a 503 arrives.
async fn sends(size: usize) -> usize {
    let sent = AtomicUsize::new(0);
    let server = service_fn(|request: Request<ReplayBody<Full<Bytes>>>| {
        let sent = &sent;
        async move {
            assert_eq!(request.into_body().collect().await?.to_bytes().len(), size);
            let status = if sent.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
            Ok::<_, BoxError>(Response::builder().status(status).body(Full::<Bytes>::default())?)
        }
    });
    let client = ReplayBodyLayer::new().layer(RetryLayer::default().layer(server));
    let request =
        Request::put("http://h.example/").body(Full::new(Bytes::from(vec![b'x'; size]))).unwrap();
    client.oneshot(request).await.unwrap();
    sent.into_inner()
}

#[tokio::test(start_paused = true)]
async fn each_default_is_what_the_docs_say() {
    let policy = RetryPolicy::new;
    let mut table = Vec::new();
    let mut row =
        |what: &'static str, got: String, want: &'static str| table.push((what, got, want));

    let fails =
        |status, retry_after| Policy::classify(&policy(), Ok(&head(status, retry_after))).is_some();
    let statuses = (100..1000).map(|code| StatusCode::from_u16(code).unwrap());
    let failures = statuses.clone().filter(|status| fails(*status, None));
    row(
        "status_forcelist",
        format!("{:?}", failures.collect::<Vec<_>>()),
        "[408, 429, 502, 503, 504]",
    );
    let asking = statuses.filter(|status| fails(*status, Some("1")));
    row(
        "besides, with Retry-After",
        format!("{:?}", asking.collect::<Vec<_>>()),
        "[408, 413, 429, 502, 503, 504]",
    );
    let may = |policy: &RetryPolicy| {
        let retried =
            |method: &&Method| decide(&mut begin(policy), method, Failure::Read, 0.0).is_ok();
        METHODS.iter().filter(retried).map(Method::as_str).collect::<Vec<_>>().join(" ")
    };
    row("allowed_methods", may(&policy()), "GET HEAD OPTIONS TRACE PUT DELETE QUERY");
    row(
        "urllib3: allowed_methods",
        may(&RetryPolicy::urllib3()),
        "GET HEAD OPTIONS TRACE PUT DELETE",
    );
    row(
        "any_method",
        may(&policy().any_method()),
        "GET HEAD OPTIONS TRACE PUT DELETE POST PATCH QUERY",
    );

    row(
        "total, backoff: the most",
        format!("{:?}", delays(&policy(), ALMOST_ONE)),
        "[100, 200, 400]",
    );
    row("total, backoff: the least", format!("{:?}", delays(&policy(), 0.0)), "[0, 0, 0]");
    let on = delays(&policy().total(None).no_budget(), ALMOST_ONE);
    row("backoff's maximum", format!("{:?}", &on[6..10]), "[6400, 12800, 20000, 20000]");
    for (class, failure) in [
        ("connect", Failure::Connect),
        ("read", Failure::Timeout),
        ("status", Failure::Status(StatusCode::BAD_GATEWAY)),
        ("other", Failure::Other),
    ] {
        let mut policy = begin(&policy().total(None).no_budget());
        let retries = (0..100).filter(|_| decide(&mut policy, &Method::GET, failure, 0.0).is_ok());
        row(class, retries.count().to_string(), "100");
    }

    let second = Duration::from_secs(1);
    let last =
        |backoff: Backoff, random| format!("{:?}", backoff.delay(31, Duration::ZERO, random));
    row("Backoff::constant: max", last(Backoff::constant(1000 * second), 0.0), "1000s");
    row(
        "Backoff::exponential: max",
        last(Backoff::exponential(second).jitter(Jitter::None), 0.0),
        "20s",
    );
    row("Backoff::exponential: jitter", last(Backoff::exponential(second), 0.5), "10s");
    row("Backoff::urllib3: max, jitter", last(Backoff::urllib3(second), 0.0), "120s");

    row("respect_retry_after", format!("{:?}", asked(&policy(), "7")), "Ok(7000)");
    row("retry_after_max", format!("{:?}", asked(&policy(), "60")), "Ok(60000)");
    row("retry_after_over_max", format!("{:?}", asked(&policy(), "61")), "Err(RetryAfter)");
    let clamp = policy().retry_after_over_max(OverMax::Clamp);
    row("retry_after_max, clamped", format!("{:?}", asked(&clamp, "61")), "Ok(60000)");

    row(
        "urllib3: retry_after_max",
        format!("{:?}", asked(&RetryPolicy::urllib3(), "21601")),
        "Ok(21600000)",
    );

    // 10 for one a second over 10 s, and a fifth of the requests.
    let spent = policy();
    row("budget: percent, per second", format!("{:?}", retried(&spent)), "(12, Budget)");
    row("budget: of another policy", format!("{:?}", retried(&policy())), "(12, Budget)");
    row("budget: used up", format!("{:?}", retried(&spent)), "(0, Budget)");
    tokio::time::advance(10 * second).await;
    row("budget: after its window", format!("{:?}", retried(&spent)), "(12, Budget)");

    let policy = policy();
    row("deadline", format!("{:?}", policy.terms().deadline), "None");
    row("attempt_timeout", format!("{:?}", policy.terms().attempt_timeout), "None");
    row("attempt_header", format!("{:?}", policy.terms().attempt_header), "None");
    row("raise_on_status", policy.terms().raise_on_status.to_string(), "false");
    row("drain", format!("{:?}", policy.terms().drain), "Drain { bytes: 65536, time: 100ms }");
    row("Drain::default", format!("{:?}", Drain::default()), "Drain { bytes: 65536, time: 100ms }");

    row(
        "ReplayBodyLayer: max_bytes",
        format!("{:?}", [sends(65_536).await, sends(65_537).await]),
        "[2, 1]",
    );
    rows::hold(table, |row| row);
}

/// An attempt number in one of them would cut off a body, or send the request to another host.
#[test]
fn a_header_that_frames_or_routes_a_request_cannot_number_attempts() {
    let framing = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    // The message of the panic.
    let said = |name: HeaderName| {
        let panic = catch_unwind(|| drop(RetryPolicy::new().attempt_header(name))).err()?;
        panic.downcast::<String>().ok().map(|text| *text)
    };
    rows::hold(framing, |name| {
        let want =
            format!("{name} says how a request is framed or routed, and cannot number attempts");
        (name.clone(), said(name), Some(want))
    });
    assert_eq!(said(HeaderName::from_static("x-attempt")), None, "x-attempt is refused");
}
