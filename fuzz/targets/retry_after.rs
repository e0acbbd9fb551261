//! Any `Retry-After`: no panic, no wait above the maximum, no wait shorter than the server asks
//! for.
#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header::RETRY_AFTER};
use libfuzzer_sys::fuzz_target;
use tower_outbound::retry::{Attempt, Decision, Failure, Policy, RetryPolicy};

const MAX: Duration = Duration::from_secs(6 * 60 * 60);

fuzz_target!(|value: &[u8]| {
    let Ok(header) = HeaderValue::from_bytes(value) else { return };
    let response =
        Response::builder().status(503).header(RETRY_AFTER, header).body(()).expect("a response");
    let (head, ()) = response.into_parts();
    let (headers, policy) = (HeaderMap::new(), RetryPolicy::new().retry_after_max(MAX));
    assert_eq!(
        Policy::classify(&policy, Ok(&head)),
        Some(Failure::Status(StatusCode::SERVICE_UNAVAILABLE))
    );
    let mut attempt = Attempt::new(&Method::GET, &headers, Ok(&head), Failure::Status(head.status));
    attempt.now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let Decision::Retry { after } = policy.for_request(&head.extensions).decide(&attempt) else {
        return;
    };
    assert!(after <= MAX + Duration::from_secs(10), "{after:?}");
    let seconds = str::from_utf8(value).ok().and_then(|text| text.parse::<u64>().ok());
    let digits = value.iter().all(u8::is_ascii_digit);
    if let Some(seconds) = seconds.filter(|_| digits) {
        assert!(after >= Duration::from_secs(seconds), "{seconds}: {after:?}");
    }
});
