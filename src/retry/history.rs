//! What a caller learns about the attempts of a request.

use std::{error, fmt, sync::Arc, time::Duration};

use http::StatusCode;
use tower::BoxError;

use super::{classify::Failure, decision::StopReason};

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptRecord {
    /// The number of the attempt, counted from 1.
    pub number: u32,
    /// Its failure; `None` if it succeeded.
    pub failure: Option<Failure>,
    /// The status of its response; `None` after an error.
    pub status: Option<StatusCode>,
    /// The time until the head of its response, or until its error.
    pub elapsed: Duration,
    /// The delay that the policy chose after it; `None` for the last attempt.
    pub delay: Option<Duration>,
    pub(super) asked: Option<Duration>,
}

impl AttemptRecord {
    /// How long the server asked to wait after this attempt, before any bound or jitter of the
    /// policy. `None` if the attempt succeeded, if the server did not say, or if the policy does
    /// not [ask](super::RetryPolicy::respect_retry_after).
    #[must_use]
    pub const fn asked(&self) -> Option<Duration> {
        self.asked
    }
}

/// A history has this many attempts at its beginning, and as many at its end. A policy without a
/// limit may go on for years: this bounds the memory to about 60 KB a request.
const AT_EACH_END: usize = 512;

/// The attempts of one request so far; of very many the first and the last.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempts(Vec<AttemptRecord>);

impl Attempts {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an attempt, and returns it as it is kept.
    pub(super) fn push(&mut self, attempt: AttemptRecord) -> &AttemptRecord {
        if self.0.len() == 2 * AT_EACH_END {
            // The oldest one of the end. A move of 512 records is nothing beside an attempt.
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

/// Every attempt of a request. A response extension, present only after a failed attempt. A
/// [`RetryError`] has one too.
///
/// `Display` is a small timeline with a line for each attempt.
///
/// urllib3: `Retry.history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryHistory {
    attempts: Arc<[AttemptRecord]>,
    stop_reason: StopReason,
}

impl RetryHistory {
    pub(super) fn new(attempts: Attempts, stop_reason: StopReason) -> Self {
        Self { attempts: attempts.0.into(), stop_reason }
    }

    /// Every attempt in order, the last one included. If there were more than 1,024: the first 512
    /// and the last 512. None if the deadline was over before the first one.
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

/// A limit, the budget or the deadline is used up.
///
/// [`RetryService`](super::RetryService) returns it in a [`BoxError`]. `source()` is the error of
/// the last attempt, if that had one. `Display` shows numbers and classes; it shows no URI and
/// nothing else of the request.
///
/// urllib3: `MaxRetryError`; requests: `RetryError`.
#[derive(Debug)]
pub struct RetryError {
    history: RetryHistory,
    source: Option<BoxError>,
}

impl RetryError {
    pub(super) const fn new(history: RetryHistory, source: Option<BoxError>) -> Self {
        Self { history, source }
    }

    /// Every attempt.
    #[must_use]
    pub const fn history(&self) -> &RetryHistory {
        &self.history
    }
}

impl fmt::Display for RetryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.history.attempts();
        let plural = if attempts.len() == 1 { "" } else { "s" };
        write!(
            f,
            "gave up after {} attempt{plural}: {}",
            attempts.len(),
            self.history.stop_reason()
        )?;
        match attempts.last().and_then(|last| last.failure) {
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
