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

/// Decides on retries.
///
/// One clone serves one request, so a policy may count. [`RetryLayer`](super::RetryLayer) asks it
/// in this order: [`for_request`](Self::for_request), [`terms`](Self::terms) and
/// [`may_retry`](Self::may_retry) before the first attempt; [`classify`](Self::classify) after each
/// attempt; [`server_delay`](Self::server_delay) and [`decide`](Self::decide) after each failed
/// one; [`prepare`](Self::prepare) before each further one is sent.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::retry::{Attempt, Decision, Policy, StopReason, Terms};
///
/// /// One retry at once, whatever went wrong, within a second.
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
    /// The clone that serves one request.
    ///
    /// Default: a plain clone.
    #[must_use]
    fn for_request(&self, _extensions: &Extensions) -> Self {
        self.clone()
    }

    /// Whether a request could be retried at all.
    ///
    /// If not, the layer keeps nothing of the request for a second attempt. It then asks
    /// [`decide`](Self::decide) for a reason only, and shows it no header but an `Idempotency-Key`.
    ///
    /// Default: true, except for CONNECT and for requests with `Upgrade`, which hand the connection
    /// over. [`RetryPolicy`] repeats a request with `Upgrade` that was not sent.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        *method != Method::CONNECT && !headers.contains_key(header::UPGRADE)
    }

    /// Whether a request may be sent again after the server may have processed it.
    ///
    /// If not, the layer believes that a request was never sent only if that is true of the whole
    /// call; see [`Failure::Unsent`]. It asks before each attempt of a request that
    /// [could be retried](Self::may_retry), unless its method is safe (GET, HEAD, OPTIONS, TRACE).
    ///
    /// Default: true for idempotent methods (RFC 9110 section 9.2.2) and for requests with an
    /// `Idempotency-Key`.
    fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        method.is_idempotent() || has_idempotency_key(headers)
    }

    /// Whether a response of this status is a success for certain.
    ///
    /// A shortcut: after true the layer does not ask [`classify`](Self::classify) about the first
    /// attempt, and need not take the response apart for it. That saves 140 instructions in process
    /// and 200 to 300 of the 25,000 that hyper's client takes for a request.
    ///
    /// Default: false, ask `classify`.
    fn is_success(&self, _status: StatusCode) -> bool {
        false
    }

    /// The failure in an outcome; `None` if the attempt succeeded.
    ///
    /// Default: the class of an error. No response is a failure.
    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        outcome.err().map(classify::error)
    }

    /// What to do after a failed attempt.
    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision;

    /// How long the server of a failed response asks to wait, for
    /// [`AttemptRecord::asked`](super::AttemptRecord::asked). `now` is the time of day.
    ///
    /// The layer only records it. [`decide`](Self::decide) sees the same response, and chooses the
    /// delay.
    ///
    /// Default: the response's `Retry-After`.
    fn server_delay(&self, head: &response::Parts, now: SystemTime) -> Option<ServerDelay> {
        retry_after::asked(&head.headers, now).map(ServerDelay::After)
    }

    /// Changes the head of a further attempt, just before it is sent. `failed` is the attempt
    /// before it.
    ///
    /// The head is the caller's own each time, with the number of the attempt.
    ///
    /// Default: changes nothing.
    fn prepare(&self, _head: &mut request::Parts, _failed: &AttemptRecord) {}

    /// The terms of every attempt of a request.
    ///
    /// The layer asks for each request, after [`for_request`](Self::for_request), and again after
    /// the first failure. The time limits are those of the first answer. It asks its own policy for
    /// the deadline of a wait before the request.
    ///
    /// Default: [`Terms::default`].
    fn terms(&self) -> Terms {
        Terms::default()
    }
}

/// The terms of every attempt of a request: time limits, and what happens around an attempt.
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
    /// Longest time of the request, with all its attempts and delays, and with the wait for the
    /// inner service before the first attempt.
    ///
    /// Default: `None`, no limit.
    pub deadline: Option<Duration>,
    /// How much of a failed response is read, so that its connection can be used again.
    ///
    /// Default: [`Drain::default`].
    pub drain: Drain,
    /// Whether a response that used up a limit becomes a [`RetryError`](super::RetryError).
    ///
    /// Default: false, the caller gets the response.
    pub raise_on_status: bool,
    /// The request header that tells the server the number of the attempt, counted from 1.
    ///
    /// Default: `None`, no such header.
    pub attempt_header: Option<HeaderName>,
    /// Most retries of the request. The log shows how many of them are left; nothing else reads
    /// it.
    ///
    /// Default: `None`, unknown.
    pub total: Option<u32>,
}

impl Terms {
    /// Sets [`attempt_header`](Self::attempt_header), if there is one, to the number of an attempt.
    pub(super) fn number_attempt(&self, headers: &mut HeaderMap, number: u32) {
        // `HeaderValue::from(u32)` allocates; most requests have fewer attempts than these.
        const FIRST: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let Some(name) = &self.attempt_header else { return };
        let digit = usize::try_from(number).ok().and_then(|number| FIRST.get(number));
        let value = match digit {
            Some(digit) => HeaderValue::from_static(digit),
            None => HeaderValue::from(number),
        };
        // Fails only if the map is full, with 32,768 names. No server reads that many, and the
        // attempt is worth sending without a number.
        let _ = headers.try_insert(name.clone(), value);
    }
}

/// A request with this header may be repeated, whatever its method, unless the value is empty: the
/// server makes sure that a repeat has no second effect
/// (draft-ietf-httpapi-idempotency-key-header).
pub(in crate::retry) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Whether the server sees to it that a repeat of the request does nothing twice. An empty key
/// names nothing that it could compare: no visible character, in quotes or without.
fn has_idempotency_key(headers: &HeaderMap) -> bool {
    headers.get(&IDEMPOTENCY_KEY).is_some_and(|key| {
        // A string of structured fields, in ASCII (RFC 9651 section 3.3.3), with parameters behind
        // it. Many clients leave the quotes out.
        let key = key.as_bytes().trim_ascii();
        let key = key.strip_prefix(b"\"").unwrap_or(key);
        key.iter().take_while(|byte| **byte != b'"').any(u8::is_ascii_graphic)
    })
}
