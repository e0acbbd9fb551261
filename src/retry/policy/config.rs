//! How a `RetryPolicy` is told: its constructors and setters.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use tower::retry::budget::Budget;

use super::{
    retry_policy::RetryPolicy,
    settings::{Limit, OverMax, Settings},
};
use crate::retry::{backoff::Backoff, classify::Failure, decision::Outcome, drain::Drain};

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

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Retries in all; of two limits the one that is used up first counts. Default: 3.
    ///
    /// urllib3: `total`.
    #[must_use]
    pub fn total(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.total = limit.into())
    }

    /// Retries after [`Failure::Connect`] and [`Failure::Unsent`]. Default: no limit but the total.
    ///
    /// urllib3: `connect`.
    #[must_use]
    pub fn connect(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.connect = limit.into())
    }

    /// Retries after [`Failure::Read`] and [`Failure::Timeout`]. Default: no limit but the total.
    ///
    /// urllib3: `read`.
    #[must_use]
    pub fn read(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.read = limit.into())
    }

    /// Retries after [`Failure::Status`]. Default: no limit but the total.
    ///
    /// urllib3: `status`.
    #[must_use]
    pub fn status(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.status = limit.into())
    }

    /// Retries after [`Failure::Other`]. Default: no limit but the total.
    ///
    /// urllib3: `other`.
    #[must_use]
    pub fn other(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.other = limit.into())
    }

    /// Methods that may be repeated though the server may have processed them. A request with an
    /// `Idempotency-Key` header may be too.
    ///
    /// Default: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2).
    ///
    /// urllib3: `allowed_methods`.
    #[must_use]
    pub fn allowed_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = Some(methods.into_iter().collect()))
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
        self.with(|settings| settings.methods = None)
    }

    /// Statuses that are failures. Besides them, 413, 429 and 503 are if they carry a `Retry-After`
    /// that is [respected](Self::respect_retry_after).
    ///
    /// Default: 429, 502, 503, 504.
    ///
    /// urllib3: `status_forcelist`.
    #[must_use]
    pub fn status_forcelist(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|settings| {
            settings.status_forcelist = statuses.into_iter().collect();
            settings.lists_successes = settings.status_forcelist.iter().any(StatusCode::is_success);
        })
    }

    /// The delays. Default: `Backoff::exponential(100 ms)`, with its full jitter and maximum of 20
    /// s.
    ///
    /// urllib3: `backoff_factor`, `backoff_max`, `backoff_jitter`.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|settings| settings.backoff = backoff)
    }

    /// Whether a server's `Retry-After` takes the place of the backoff, whatever the status.
    /// Default: true. One that is in no form of the RFC is ignored; 0 or a date that is past
    /// leaves the backoff.
    ///
    /// urllib3: `respect_retry_after_header`.
    #[must_use]
    pub fn respect_retry_after(self, respect: bool) -> Self {
        self.with(|settings| settings.respect_retry_after = respect)
    }

    /// Longest `Retry-After` that is waited for. Default: 6 h.
    ///
    /// urllib3: `retry_after_max`.
    #[must_use]
    pub fn retry_after_max(self, max: Duration) -> Self {
        self.with(|settings| settings.retry_after_max = max)
    }

    /// What becomes of a longer one. Default: [`OverMax::GiveUp`] (urllib3 clamps).
    #[must_use]
    pub fn retry_after_over_max(self, over_max: OverMax) -> Self {
        self.with(|settings| settings.over_max = over_max)
    }

    /// The budget that each retry draws on, and each request adds to; `Connect` and `Unsent` draw
    /// nothing.
    ///
    /// Default: tower's [`TpsBudget`] of 10 s, 10 a second and 20 %, one for each
    /// [`RetryPolicy::new`].
    ///
    /// Clones share it, so policies with other limits for the same servers are made from one:
    ///
    /// ```
    /// use tower::retry::budget::TpsBudget;
    /// use tower_outbound::retry::RetryPolicy;
    ///
    /// let reads = RetryPolicy::new().budget(TpsBudget::default());
    /// let writes = reads.clone().total(1).any_method();
    /// # let _ = writes;
    /// ```
    #[must_use]
    pub fn budget(self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.budget = Some(Arc::new(budget)))
    }

    /// No budget: however many requests fail, each has all its retries. Not for a service that
    /// others depend on.
    #[must_use]
    pub fn no_budget(self) -> Self {
        self.with(|settings| settings.budget = None)
    }

    /// Longest time of one attempt, from the call to its response's head. Default: none. What takes
    /// longer is [`Failure::Timeout`], and not retried where a
    /// [`ReplayBody`](crate::retry::ReplayBody)'s own stream was what it waited for. While the
    /// service below gets ready no attempt runs: the [`deadline`](Self::deadline) alone bounds
    /// that.
    #[must_use]
    pub fn attempt_timeout(self, timeout: Duration) -> Self {
        self.with(|settings| settings.attempt_timeout = Some(timeout))
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
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|settings| settings.deadline = Some(deadline))
    }

    /// How much of a failed response is read. Default: 64 KiB within 100 ms.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// Whether a response that used up a limit, the budget or the time, or asks to wait too long,
    /// becomes a [`RetryError`](crate::retry::RetryError). Default: false, the last response is
    /// returned (urllib3: true). The response that it replaces is drained first, within the
    /// bounds of [`drain`](Self::drain).
    ///
    /// urllib3: `raise_on_status`.
    #[must_use]
    pub fn raise_on_status(self, raise: bool) -> Self {
        self.with(|settings| settings.raise_on_status = raise)
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
        self.with(|settings| settings.attempt_header = Some(name))
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
        self.with(|settings| settings.classify = Some(Arc::new(classify)))
    }
}
