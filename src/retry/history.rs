//! What a caller is told about the attempts of a request.

use std::{error, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use tower::BoxError;

use super::{classify::Failure, decision::StopReason};

/// One attempt of a request, as a [`RetryHistory`] and the hook
/// [`before_retry`](super::RetryPolicy::before_retry) show it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The number of the attempt, counted from 1.
    pub number: u32,
    /// The class of the failure; `None` if the attempt succeeded.
    pub failure: Option<Failure>,
    /// The status of the response; `None` if the attempt ended with an error.
    pub status: Option<StatusCode>,
    /// The time from the beginning of the attempt to the head of the response, or to the error.
    pub elapsed: Duration,
    /// The delay that the policy chose after the attempt; `None` for the last attempt.
    pub delay: Option<Duration>,
    pub(super) asked: Option<Duration>,
}

impl AttemptRecord {
    /// How long the server asked to wait after this attempt, without the bound and the jitter of
    /// the policy.
    ///
    /// `None` if the attempt succeeded, if the server did not say, or if the policy does not
    /// [respect](super::RetryPolicy::respect_retry_after) it.
    ///
    /// ```
    /// # use http::Response;
    /// # use tower_outbound::retry::RetryHistory;
    /// /// When to try again, if a server asked for more than the policy accepts.
    /// fn try_again_in<B>(response: &Response<B>) -> Option<std::time::Duration> {
    ///     response.extensions().get::<RetryHistory>()?.attempts().last()?.asked()
    /// }
    /// ```
    #[must_use]
    pub const fn asked(&self) -> Option<Duration> {
        self.asked
    }
}

/// A history keeps this many attempts from its beginning, and as many from its end. A policy
/// without a limit may retry for years. This bounds the memory to about 60 KB a request.
const AT_EACH_END: usize = 512;

/// The attempts of one request so far. If there are too many, only the first and the last are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Vec<AttemptRecord>);

impl Attempts {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an attempt, and returns it as it is kept.
    pub(super) fn push(&mut self, attempt: AttemptRecord) -> &AttemptRecord {
        if self.0.len() == 2 * AT_EACH_END {
            // The oldest one of the end. To move 512 records costs nothing compared with an
            // attempt.
            self.0.remove(AT_EACH_END);
        }
        let last = self.0.len();
        self.0.push(attempt);
        &self.0[last]
    }

    /// The last attempt, if there was one.
    pub(super) fn last(&self) -> Option<&AttemptRecord> {
        self.0.last()
    }

    /// How long the policy chose to wait after the last attempt.
    pub(super) fn set_last_delay(&mut self, delay: Option<Duration>) {
        if let Some(last) = self.0.last_mut() {
            last.delay = delay;
        }
    }
}

/// Response extension: the attempts of a request, if one of them failed. A [`RetryError`] has one
/// too.
///
/// `Display` is a small timeline with a line for each attempt.
///
/// urllib3: `Retry.history`.
///
/// ```
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_outbound::retry::{Backoff, RetryHistory, RetryLayer, RetryPolicy, StopReason};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # type Body = Empty<&'static [u8]>;
/// # let server = service_fn(|_: Request<Body>| async {
/// #     Response::builder().status(503).body(Body::new())
/// # });
/// // The server answers 503 each time.
/// let policy = RetryPolicy::new().total(1).backoff(Backoff::none());
/// let client = RetryLayer::new(policy).layer(server);
/// let response = client.oneshot(Request::get("http://h.example/").body(Empty::new())?).await?;
/// let history = response.extensions().get::<RetryHistory>().expect("an attempt failed");
/// assert_eq!((history.attempts().len(), history.stop_reason()), (2, StopReason::Total));
/// // attempt 1: 503 Service Unavailable after 0.1ms, again at once
/// // attempt 2: 503 Service Unavailable after 0.1ms; no retries left in total
/// println!("{history}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryHistory {
    attempts: Arc<[AttemptRecord]>,
    stop_reason: StopReason,
}

impl RetryHistory {
    pub(super) fn new(attempts: Attempts, stop_reason: StopReason) -> Self {
        Self { attempts: attempts.0.into(), stop_reason }
    }

    /// The attempts in order, including the last one.
    ///
    /// If there were more than 1,024, only the first 512 and the last 512. Empty if the deadline
    /// passed before the first attempt.
    #[must_use]
    pub fn attempts(&self) -> &[AttemptRecord] {
        &self.attempts
    }

    /// Why there was no further attempt.
    #[must_use]
    pub const fn stop_reason(&self) -> StopReason {
        self.stop_reason
    }
}

impl fmt::Display for RetryHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for attempt in &*self.attempts {
            write!(f, "attempt {}: ", attempt.number)?;
            match (attempt.status, attempt.failure) {
                (Some(status), _) => write!(f, "{status}")?,
                (None, Some(failure)) => write!(f, "{failure}")?,
                (None, None) => f.write_str("answered")?,
            }
            write!(f, " after {:.1?}", attempt.elapsed)?;
            match attempt.delay {
                Some(Duration::ZERO) => writeln!(f, ", again at once")?,
                Some(delay) => writeln!(f, ", again in {delay:.1?}")?,
                None => write!(f, "; {}", self.stop_reason)?,
            }
        }
        Ok(())
    }
}

/// The error of a request that is not retried any more: a limit, the budget or the deadline is used
/// up, or the server asks to wait too long or not to retry.
///
/// If the last attempt ended with a response, the caller gets the response instead, except in two
/// cases: [`raise_on_status`](super::RetryPolicy::raise_on_status) is set, or the deadline ended
/// the wait for the inner service before the next attempt.
///
/// [`RetryService`](super::RetryService) returns it in a [`BoxError`]. `source()` is the error of
/// the last attempt, if the attempt ended with one. `Display` shows how many attempts were made,
/// why there is no further one, and the last failure. It shows no URI and nothing else of the
/// request.
///
/// urllib3: `MaxRetryError`; requests: `RetryError`.
///
/// ```
/// use std::{error::Error, io};
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tower::{BoxError, Layer, ServiceExt, service_fn};
/// use tower_outbound::retry::{Backoff, RetryError, RetryLayer, RetryPolicy};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// # type Body = Empty<&'static [u8]>;
/// # let server = service_fn(|_: Request<Body>| async {
/// #     Err::<Response<Body>, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
/// # });
/// // No server is there.
/// let policy = RetryPolicy::new().total(1).backoff(Backoff::none());
/// let client = RetryLayer::new(policy).layer(server);
/// let request = Request::get("http://h.example/").body(Empty::new())?;
/// let error = client.oneshot(request).await.expect_err("refused");
/// let error = error.downcast_ref::<RetryError>().expect("a limit is used up");
/// assert_eq!(
///     error.to_string(),
///     "gave up after 2 attempts: no retries left in total (last: connect error)"
/// );
/// assert!(error.source().is_some_and(|source| source.is::<io::Error>()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RetryError {
    history: RetryHistory,
    source: Option<BoxError>,
}

impl RetryError {
    pub(super) const fn new(history: RetryHistory, source: Option<BoxError>) -> Self {
        Self { history, source }
    }

    /// The attempts of the request, and why there was no further one.
    #[must_use]
    pub const fn history(&self) -> &RetryHistory {
        &self.history
    }
}

impl fmt::Display for RetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.history.attempts().last();
        // Not how many records there are: a long history has lost some.
        let made = last.map_or(0, |last| last.number);
        let plural = if made == 1 { "" } else { "s" };
        write!(f, "gave up after {made} attempt{plural}: {}", self.history.stop_reason())?;
        match last.and_then(|last| last.failure) {
            Some(failure) => write!(f, " (last: {failure})"),
            None => Ok(()),
        }
    }
}

impl error::Error for RetryError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn error::Error + 'static))
    }
}
