//! `Policy`: the questions that a retry layer asks. No clock, no socket, no future.

mod config;
mod hooks;
mod retry_policy;
#[cfg(feature = "serde")]
mod serde;
mod settings;

use std::time::{Duration, SystemTime};

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request, response,
};

pub use self::{
    retry_policy::RetryPolicy,
    settings::{Limit, OverMax},
};
use super::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome, ServerDelay},
    drain::Drain,
    history::AttemptRecord,
    retry_after,
};

/// Decides after each attempt of a request whether to send another one, and when.
///
/// One clone serves one request, so a policy may count. [`RetryLayer`](super::RetryLayer) calls:
///
/// - before the first attempt [`for_request`](Self::for_request), [`terms`](Self::terms),
///   [`may_retry`](Self::may_retry) and [`may_repeat`](Self::may_repeat);
/// - after a first attempt with a response [`is_success`](Self::is_success);
/// - after each attempt [`classify`](Self::classify), which a true `is_success` saves;
/// - after each failed attempt [`server_delay`](Self::server_delay), if there is a response, and
///   [`decide`](Self::decide);
/// - before each further attempt [`may_repeat`](Self::may_repeat) and [`prepare`](Self::prepare).
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{Attempt, Decision, Policy, StopReason, Terms};
///
/// /// Retries once, without a delay, after any failure, within a second.
/// #[derive(Clone)]
/// struct OnceMore;
///
/// impl Policy for OnceMore {
///     fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
///         match attempt.number {
///             1 => Decision::Retry { after: Duration::ZERO },
///             _ => Decision::Return(StopReason::Total),
///         }
///     }
///
///     fn terms(&self) -> Terms {
///         let mut terms = Terms::default();
///         terms.deadline = Some(Duration::from_secs(1));
///         terms
///     }
/// }
/// ```
pub trait Policy: Clone {
    /// Makes the clone that serves one request.
    ///
    /// Default: a plain clone.
    #[must_use]
    fn for_request(&self, _extensions: &Extensions) -> Self {
        self.clone()
    }

    /// Whether some failure of this request could lead to a retry.
    ///
    /// If false, the layer keeps nothing of the request for a second attempt. It still calls
    /// [`decide`](Self::decide) after a failure, to learn the reason. The attempt then shows no
    /// URI, and no header except `Idempotency-Key`.
    ///
    /// Default: false for CONNECT and for requests with `Upgrade`, since both hand over the
    /// connection; otherwise true. [`RetryPolicy`] retries a request with `Upgrade` if it was not
    /// sent.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        *method != Method::CONNECT && !headers.contains_key(header::UPGRADE)
    }

    /// Whether a request may be sent again even if the server may have processed it.
    ///
    /// If false, the layer accepts [`Failure::Connect`] and [`Failure::Unsent`] only if no exchange
    /// of the call can have been processed. It asks before each attempt of a request that [could be
    /// retried](Self::may_retry), unless the method is safe: GET, HEAD, OPTIONS, TRACE or QUERY.
    ///
    /// Default: true for GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2) and QUERY
    /// (RFC 10008), and for requests with an `Idempotency-Key`. A key without a visible ASCII
    /// character, such as `""`, is ignored. [`RetryPolicy`] has its
    /// [`allowed_methods`](RetryPolicy::allowed_methods) instead of these methods.
    fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        method.is_idempotent() || has_idempotency_key(headers)
    }

    /// Whether every response with this status is a success.
    ///
    /// A shortcut: if true, the layer does not call [`classify`](Self::classify) for the first
    /// attempt, unless it logs the attempts (feature `tracing`). That saves 140 instructions in
    /// process, and 200 to 300 of the 25,000 that hyper's client takes for a request.
    ///
    /// Default: false, so that `classify` is called.
    fn is_success(&self, _status: StatusCode) -> bool {
        false
    }

    /// The class of a failed attempt, or `None` if the attempt succeeded.
    ///
    /// Default: every error is a failure, with the class that [`Failure`] describes. Every response
    /// is a success.
    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        outcome.err().map(classify::error)
    }

    /// Decides what to do after a failed attempt.
    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision;

    /// Reads from a failed response how long the server asks to wait.
    ///
    /// The layer records it as [`AttemptRecord::asked`](super::AttemptRecord::asked), and does
    /// nothing else with it: [`decide`](Self::decide) sees the same response and chooses the delay.
    /// `now` is the time of day.
    ///
    /// Default: the response's `Retry-After`.
    fn server_delay(&self, head: &response::Parts, now: SystemTime) -> Option<ServerDelay> {
        retry_after::asked(&head.headers, now).map(ServerDelay::After)
    }

    /// Changes the head of a retry just before it is sent. `failed` is the attempt before it.
    ///
    /// Each time the head is the one that the caller set, plus the number of the attempt.
    ///
    /// Default: changes nothing.
    fn prepare(&self, _head: &mut request::Parts, _failed: &AttemptRecord) {}

    /// The time limits of a request, and the other terms of its attempts.
    ///
    /// The layer calls it for each request, after [`for_request`](Self::for_request), and again
    /// after the first failure. The time limits are those of the first call. While a caller waits
    /// until the service is ready, there is no request yet. [`RetryService`](super::RetryService)
    /// then calls it on the layer's policy, for the deadline of that wait.
    ///
    /// Default: [`Terms::default`].
    fn terms(&self) -> Terms {
        Terms::default()
    }
}

/// The time limits of a request, and what a retry layer does around its attempts.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::Terms;
///
/// let mut terms = Terms::default();
/// terms.attempt_timeout = Some(Duration::from_secs(2));
/// assert_eq!(terms.deadline, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// Longest time of one attempt, from the call to the head of its response.
    ///
    /// Default: `None`, no limit.
    pub attempt_timeout: Option<Duration>,
    /// Longest time of the request: the wait for the inner service, all attempts and all delays.
    ///
    /// Default: `None`, no limit.
    pub deadline: Option<Duration>,
    /// How much of a failed response is read, so that its connection can be used again.
    ///
    /// Default: [`Drain::default`].
    pub drain: Drain,
    /// Whether the caller gets a [`RetryError`](super::RetryError) instead of the last failed
    /// response, if a limit, the budget or the deadline is used up, or the server asks to wait too
    /// long or not to retry.
    ///
    /// Default: false, the caller gets the response.
    pub raise_on_status: bool,
    /// The request header that tells the server the number of the attempt, counted from 1.
    ///
    /// Default: `None`, no such header.
    pub attempt_header: Option<HeaderName>,
    /// Largest number of retries of the request, for the log alone: it shows how many are left.
    ///
    /// Default: `None`, the log shows nothing.
    pub total: Option<u32>,
}

impl Terms {
    /// Sets the [`attempt_header`](Self::attempt_header), if the terms have one, to `number`.
    pub(super) fn number_attempt(&self, headers: &mut HeaderMap, number: u32) {
        // `HeaderValue::from(u32)` allocates; most requests have fewer attempts than these.
        const FIRST: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let Some(name) = &self.attempt_header else { return };
        let digit = usize::try_from(number).ok().and_then(|number| FIRST.get(number));
        let value = match digit {
            Some(digit) => HeaderValue::from_static(digit),
            None => HeaderValue::from(number),
        };
        // Fails only if the map is full, with 32,768 names. No server reads that many. The attempt
        // is sent without a number then.
        let _ = headers.try_insert(name.clone(), value);
    }
}

/// A request with this header may be repeated, whatever its method, if the value has a visible
/// ASCII character. The server makes sure that a repeat has no second effect
/// (draft-ietf-httpapi-idempotency-key-header).
pub(in crate::retry) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether a key lets the server recognise a repeat of the request. A key without a visible ASCII
/// character does not, with or without quotes.
fn has_idempotency_key(headers: &HeaderMap) -> bool {
    headers.get(&IDEMPOTENCY_KEY).is_some_and(|key| {
        // A string of structured fields, in ASCII (RFC 9651 section 3.3.3), with parameters behind
        // it. Many clients leave the quotes out.
        let key = key.as_bytes().trim_ascii();
        let key = key.strip_prefix(b"\"").unwrap_or(key);
        key.iter().take_while(|byte| **byte != b'"').any(u8::is_ascii_graphic)
    })
}
