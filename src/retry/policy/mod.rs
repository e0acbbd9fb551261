//! `Policy`: what a retry layer asks of whoever decides. No clock, no socket, no future.

mod config;
mod retry_policy;
#[cfg(feature = "serde")]
mod serde;
mod settings;

use std::time::Duration;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

pub use self::{
    retry_policy::RetryPolicy,
    settings::{Limit, OverMax},
};
use super::{
    classify::{self, Failure},
    decision::{Attempt, Decision, Outcome},
    drain::Drain,
};

/// Decides on retries.
///
/// One clone serves one request, so it may count. It is asked, in this order:
/// [`for_request`](Self::for_request), [`may_retry`](Self::may_retry), and after each attempt
/// [`classify`](Self::classify) and, for a failed one, [`decide`](Self::decide).
///
/// ```
/// use tower_outbound::retry::{Attempt, Decision, Policy, StopReason};
///
/// /// Once more, at once, whatever went wrong.
/// #[derive(Clone)]
/// struct OnceMore;
///
/// impl Policy for OnceMore {
///     fn decide(&mut self, attempt: &Attempt<'_>) -> Decision {
///         match attempt.number {
///             1 => Decision::Retry { after: std::time::Duration::ZERO },
///             _ => Decision::Return(StopReason::Total),
///         }
///     }
/// }
/// ```
pub trait Policy: Clone {
    /// The clone that serves one request. Default: a plain clone.
    #[must_use]
    fn for_request(&self, _extensions: &Extensions) -> Self {
        self.clone()
    }

    /// Whether a request could be retried at all. If not, nothing is kept of it for a second
    /// attempt, and [`decide`](Self::decide) is asked for a reason alone, with no header but an
    /// `Idempotency-Key`.
    ///
    /// Default: yes, but for CONNECT and upgrades, which hand the connection over.
    fn may_retry(&self, method: &Method, headers: &HeaderMap) -> bool {
        *method != Method::CONNECT && !headers.contains_key(header::UPGRADE)
    }

    /// Whether a response of this status is surely a success, so that [`classify`](Self::classify)
    /// need not be asked. Default: false, always ask.
    fn is_success(&self, _status: StatusCode) -> bool {
        false
    }

    /// The failure in an outcome; `None` for success. Called for every attempt but the first if
    /// [`is_success`](Self::is_success) has answered for it.
    ///
    /// Default: the class of an error; no response is a failure.
    fn classify(&self, outcome: Outcome<'_>) -> Option<Failure> {
        outcome.err().map(classify::error)
    }

    /// What to do after a failed attempt.
    fn decide(&mut self, attempt: &Attempt<'_>) -> Decision;

    /// Longest time of one attempt. Default: none.
    fn attempt_timeout(&self) -> Option<Duration> {
        None
    }

    /// Longest time of the request, with all attempts and delays. Default: none.
    fn deadline(&self) -> Option<Duration> {
        None
    }

    /// How much of a failed response is read, so that its connection can be used again. Default:
    /// [`Drain::default`].
    fn drain(&self) -> Drain {
        Drain::default()
    }

    /// Whether a response that used up a limit becomes a [`RetryError`](super::RetryError).
    /// Default: false.
    fn raise_on_status(&self) -> bool {
        false
    }

    /// A request header that tells the server which attempt it sees, counted from 1. Default: none.
    fn attempt_header(&self) -> Option<&HeaderName> {
        None
    }

    /// How many retries are left, for the log. Default: unknown.
    fn retries_left(&self) -> Option<u32> {
        None
    }
}

/// draft-ietf-httpapi-idempotency-key-header: the server sees to it that a repeat does nothing
/// twice.
pub(in crate::retry) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says in a request's headers which attempt it is.
pub(in crate::retry) fn number_attempt(headers: &mut HeaderMap, name: &HeaderName, number: u32) {
    const FIRST: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    // The first ones without an allocation.
    let first = usize::try_from(number).ok().and_then(|number| FIRST.get(number));
    let value =
        first.map_or_else(|| HeaderValue::from(number), |text| HeaderValue::from_static(text));
    // Only headers that are full, with more names than any server reads, refuse another.
    let _ = headers.try_insert(name.clone(), value);
}
