//! What a `RetryPolicy` is told: its values, their defaults and setters.

use std::{fmt, sync::Arc, time::Duration};

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use tower::retry::budget::Budget;

use super::{DEFAULT_FORCELIST, IDEMPOTENCY_KEY, Outcome, RetryPolicy};
use crate::retry::{backoff::Backoff, budget, classify::Failure};

/// How many retries there may be.
///
/// `From<u32>` is [`Times`](Self::Times); `From<Option<u32>>` turns `None` into
/// [`Unlimited`](Self::Unlimited).
///
/// With the feature `serde`: a number, `"unlimited"` or `"disabled"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// As many. After 0 the first failure is the last, and it counts as a limit used up.
    ///
    /// urllib3: an integer.
    Times(u32),
    /// No limit.
    ///
    /// urllib3: `None`.
    Unlimited,
    /// None, and the failure passes through as it is.
    ///
    /// urllib3: `False`.
    Disabled,
}

impl From<u32> for Limit {
    fn from(times: u32) -> Self {
        Self::Times(times)
    }
}

impl From<Option<u32>> for Limit {
    fn from(times: Option<u32>) -> Self {
        times.map_or(Self::Unlimited, Self::Times)
    }
}

/// What becomes of a `Retry-After` past [`RetryPolicy::retry_after_max`].
///
/// With the feature `serde`: `"give_up"` or `"clamp"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(rename_all = "snake_case")
)]
pub enum OverMax {
    /// The response is returned at once.
    #[default]
    GiveUp,
    /// The wait is the maximum.
    Clamp,
}

/// How much of a failed HTTP/1 response is read so that its connection can be used again. Nothing
/// waits for it.
///
/// With the feature `serde` it is a table of `bytes` and `time`, each with its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(default, deny_unknown_fields, expecting = "a drain, a table such as { bytes = 1024 }")
)]
pub struct Drain {
    /// Most bytes. Default: 64 KiB. 0 drops each failed response, and its connection.
    pub bytes: usize,
    /// Longest time. Default: 100 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::retry::duration"))]
    pub time: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { bytes: 64 * 1024, time: Duration::from_millis(100) }
    }
}

type Classify = dyn Fn(Outcome<'_>) -> Option<Failure> + Send + Sync;

#[derive(Clone)]
pub(in crate::retry) struct Config {
    pub(super) total: Limit,
    pub(super) connect: Limit,
    pub(super) read: Limit,
    pub(super) status: Limit,
    pub(super) other: Limit,
    /// `None` for any.
    methods: Option<Vec<Method>>,
    status_forcelist: Vec<StatusCode>,
    /// Whether the list has a status from 200 to 299.
    lists_successes: bool,
    pub(super) backoff: Backoff,
    pub(super) respect_retry_after: bool,
    pub(super) retry_after_max: Duration,
    pub(super) over_max: OverMax,
    pub(super) budget: Option<Arc<dyn Budget + Send + Sync>>,
    pub(super) attempt_timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
    pub(super) drain: Drain,
    pub(super) raise_on_status: bool,
    pub(in crate::retry) attempt_header: Option<HeaderName>,
    pub(super) classify: Option<Arc<Classify>>,
}

impl Config {
    /// Whether a response of this status is a failure.
    pub(super) fn lists(&self, status: StatusCode) -> bool {
        self.status_forcelist.contains(&status)
    }

    /// Whether a response of this status is surely none. Most are, and it is asked of each.
    pub(super) fn is_success(&self, status: StatusCode) -> bool {
        status.is_success() && !self.lists_successes && self.classify.is_none()
    }

    /// Whether a request may be sent again that the server may have processed.
    pub(super) fn may_repeat(&self, method: &Method, headers: &HeaderMap) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
            || headers.contains_key(&IDEMPOTENCY_KEY)
    }
}

impl Default for Config {
    fn default() -> Self {
        let idempotent = [
            Method::GET,
            Method::HEAD,
            Method::OPTIONS,
            Method::TRACE,
            Method::PUT,
            Method::DELETE,
        ];
        Self {
            total: Limit::Times(3),
            connect: Limit::Unlimited,
            read: Limit::Unlimited,
            status: Limit::Unlimited,
            other: Limit::Unlimited,
            methods: Some(idempotent.into()),
            status_forcelist: DEFAULT_FORCELIST.into(),
            lists_successes: false,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            respect_retry_after: true,
            retry_after_max: Duration::from_secs(6 * 60 * 60),
            over_max: OverMax::GiveUp,
            budget: Some(Arc::new(budget::Budget::default())),
            attempt_timeout: None,
            deadline: None,
            drain: Drain::default(),
            raise_on_status: false,
            attempt_header: None,
            classify: None,
        }
    }
}

impl RetryPolicy {
    /// The defaults; the same as `RetryPolicy::default()`. Each call makes a budget of its own,
    /// which clones share.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// urllib3's own defaults: 10 retries of the idempotent methods after errors, and after 413,
    /// 429 and 503 with a `Retry-After`, clamped to 6 h; no delay otherwise; a status that
    /// stays is an error. No budget, as there is none in urllib3.
    ///
    /// urllib3: `Retry()`.
    #[must_use]
    pub fn urllib3() -> Self {
        Self::new()
            .total(10)
            .status_forcelist([])
            .backoff(Backoff::urllib3(Duration::ZERO))
            .retry_after_over_max(OverMax::Clamp)
            .raise_on_status(true)
            .no_budget()
    }

    /// No retries: each request is sent once, and what it came to passes through as it is. For a
    /// request extension, say, or as a start for [`deadline`](Self::deadline) alone.
    ///
    /// urllib3: `Retry(False)`.
    #[must_use]
    pub fn none() -> Self {
        Self::new().total(Limit::Disabled).no_budget()
    }

    fn with(mut self, change: impl FnOnce(&mut Config)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }

    /// Retries in all; of two limits the one that is used up first counts. Default: 3.
    ///
    /// urllib3: `total`.
    #[must_use]
    pub fn total(self, limit: impl Into<Limit>) -> Self {
        self.with(|config| config.total = limit.into())
    }

    /// Retries after [`Failure::Connect`] and [`Failure::Unsent`]. Default: no limit but the total.
    ///
    /// urllib3: `connect`.
    #[must_use]
    pub fn connect(self, limit: impl Into<Limit>) -> Self {
        self.with(|config| config.connect = limit.into())
    }

    /// Retries after [`Failure::Read`] and [`Failure::Timeout`]. Default: no limit but the total.
    ///
    /// urllib3: `read`.
    #[must_use]
    pub fn read(self, limit: impl Into<Limit>) -> Self {
        self.with(|config| config.read = limit.into())
    }

    /// Retries after [`Failure::Status`]. Default: no limit but the total.
    ///
    /// urllib3: `status`.
    #[must_use]
    pub fn status(self, limit: impl Into<Limit>) -> Self {
        self.with(|config| config.status = limit.into())
    }

    /// Retries after [`Failure::Other`]. Default: no limit but the total.
    ///
    /// urllib3: `other`.
    #[must_use]
    pub fn other(self, limit: impl Into<Limit>) -> Self {
        self.with(|config| config.other = limit.into())
    }

    /// Methods that may be repeated though the server may have processed them. A request with an
    /// `Idempotency-Key` header may be too.
    ///
    /// Default: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2).
    ///
    /// urllib3: `allowed_methods`.
    #[must_use]
    pub fn allowed_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|config| config.methods = Some(methods.into_iter().collect()))
    }

    /// Every method may be repeated, POST and PATCH included, though the server may have processed
    /// them: for servers to which that does no harm.
    ///
    /// Default: not so, the methods of [`allowed_methods`](Self::allowed_methods) alone. The last
    /// of the two that is called counts.
    ///
    /// urllib3: `allowed_methods=None`.
    #[must_use]
    pub fn any_method(self) -> Self {
        self.with(|config| config.methods = None)
    }

    /// Statuses that are failures. Besides them, 413, 429 and 503 are if they carry a `Retry-After`
    /// that is [respected](Self::respect_retry_after).
    ///
    /// Default: 429, 502, 503, 504.
    ///
    /// urllib3: `status_forcelist`.
    #[must_use]
    pub fn status_forcelist(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|config| {
            config.status_forcelist = statuses.into_iter().collect();
            config.lists_successes = config.status_forcelist.iter().any(StatusCode::is_success);
        })
    }

    /// The delays. Default: `Backoff::exponential(100 ms)`, with its full jitter and maximum of 20
    /// s.
    ///
    /// urllib3: `backoff_factor`, `backoff_max`, `backoff_jitter`.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|config| config.backoff = backoff)
    }

    /// Whether a server's `Retry-After` takes the place of the backoff, whatever the status.
    /// Default: true. One that is in no form of the RFC is ignored; 0 or a date that is past
    /// leaves the backoff.
    ///
    /// urllib3: `respect_retry_after_header`.
    #[must_use]
    pub fn respect_retry_after(self, respect: bool) -> Self {
        self.with(|config| config.respect_retry_after = respect)
    }

    /// Longest `Retry-After` that is waited for. Default: 6 h.
    ///
    /// urllib3: `retry_after_max`.
    #[must_use]
    pub fn retry_after_max(self, max: Duration) -> Self {
        self.with(|config| config.retry_after_max = max)
    }

    /// What becomes of a longer one. Default: [`OverMax::GiveUp`] (urllib3 clamps).
    #[must_use]
    pub fn retry_after_over_max(self, over_max: OverMax) -> Self {
        self.with(|config| config.over_max = over_max)
    }

    /// The budget that each retry draws on, and each request adds to; `Connect` and `Unsent` draw
    /// nothing. A budget of tower, or of your own, is taken as well.
    ///
    /// Default: [`Budget::default`](crate::retry::Budget), 20 percent and one retry a second over
    /// 10 seconds. Each [`RetryPolicy::new`] has its own.
    ///
    /// Clones share it, so policies with other limits for the same servers are made from one:
    ///
    /// ```
    /// use tower_outbound::retry::{Budget, RetryPolicy};
    ///
    /// let reads = RetryPolicy::new().budget(Budget::new(10));
    /// let writes = reads.clone().total(1).any_method();
    /// # let _ = writes;
    /// ```
    #[must_use]
    pub fn budget(self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.with(|config| config.budget = Some(Arc::new(budget)))
    }

    /// No budget: however many requests fail, each has all its retries. Not for a service that
    /// others depend on.
    #[must_use]
    pub fn no_budget(self) -> Self {
        self.with(|config| config.budget = None)
    }

    /// Longest time of one attempt, from the call to its response's head. Default: none. What takes
    /// longer is [`Failure::Timeout`], and not retried where a
    /// [`ReplayBody`](crate::retry::ReplayBody)'s own stream was what it waited for. While the
    /// service below gets ready no attempt runs: the [`deadline`](Self::deadline) alone bounds
    /// that.
    ///
    /// `None` removes a limit that was set.
    #[must_use]
    pub fn attempt_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|config| config.attempt_timeout = timeout.into())
    }

    /// Longest time of the request with all its attempts and delays, until the response's head, to
    /// the two milliseconds of tokio's timer.
    ///
    /// Default: none. A delay that would end after it is not begun: the caller gets what there is.
    /// It cuts short an attempt in flight, or a wait for readiness before one, and none begins
    /// after it, should a delay end late on a machine that is too busy: the request then ends
    /// with a [`RetryError`](crate::retry::RetryError), or, where the policy would not
    /// have retried it anyway, with [`tower::timeout::error::Elapsed`]. Zero leaves the first
    /// attempt the time to answer at once.
    ///
    /// `None` removes a deadline that was set.
    #[must_use]
    pub fn deadline(self, deadline: impl Into<Option<Duration>>) -> Self {
        self.with(|config| config.deadline = deadline.into())
    }

    /// How much of a failed response is read. Default: 64 KiB within 100 ms.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|config| config.drain = drain)
    }

    /// Whether a response that used up a limit, the budget or the time, or asks to wait too long,
    /// becomes a [`RetryError`](crate::retry::RetryError). Default: false, the last response is
    /// returned (urllib3: true). The response that it replaces is drained first, within the
    /// bounds of [`drain`](Self::drain).
    ///
    /// urllib3: `raise_on_status`.
    #[must_use]
    pub fn raise_on_status(self, raise: bool) -> Self {
        self.with(|config| config.raise_on_status = raise)
    }

    /// A request header that tells the server which attempt it sees: 1, 2, 3 ... It takes the place
    /// of one that the caller set.
    ///
    /// Default: none.
    ///
    /// # Panics
    ///
    /// If the name is one by which a request is framed or routed, `content-length` say: a number in
    /// it would cut a body off.
    #[must_use]
    pub fn attempt_header(self, name: HeaderName) -> Self {
        assert!(
            !Self::frames(&name),
            "{name} says how a request is framed or routed, and cannot number attempts"
        );
        self.with(|config| config.attempt_header = Some(name))
    }

    /// Whether a header is no one's to set but the client's.
    pub(super) fn frames(name: &HeaderName) -> bool {
        const FRAMING: [HeaderName; 8] =
            [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
        FRAMING.contains(name)
    }

    /// The caller's own word on what is a failure, in place of the forcelist, the classes of errors
    /// and the statuses that count with a `Retry-After`.
    ///
    /// Default: none. To add to what another policy says, ask that one:
    ///
    /// ```
    /// use http::StatusCode;
    /// use tower_outbound::retry::{Failure, Policy, RetryPolicy};
    ///
    /// let usual = RetryPolicy::new();
    /// let policy = RetryPolicy::new().classify(move |outcome| match outcome {
    ///     Ok(head) if head.status == StatusCode::NOT_FOUND => Some(Failure::Status(head.status)),
    ///     outcome => Policy::classify(&usual, outcome),
    /// });
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn classify(
        self,
        classify: impl Fn(Outcome<'_>) -> Option<Failure> + Send + Sync + 'static,
    ) -> Self {
        self.with(|config| config.classify = Some(Arc::new(classify)))
    }
}

impl fmt::Debug for RetryPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &*self.config;
        f.debug_struct("RetryPolicy")
            .field("total", &config.total)
            .field("connect", &config.connect)
            .field("read", &config.read)
            .field("status", &config.status)
            .field("other", &config.other)
            .field("methods", &config.methods)
            .field("status_forcelist", &config.status_forcelist)
            .field("backoff", &config.backoff)
            .field("attempt_timeout", &config.attempt_timeout)
            .field("deadline", &config.deadline)
            .field("raise_on_status", &config.raise_on_status)
            .field("attempt_header", &config.attempt_header)
            .finish_non_exhaustive()
    }
}
