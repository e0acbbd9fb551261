//! The constructors and setters of `RetryPolicy`.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};
use tower::retry::budget::Budget;

use super::{
    retry_policy::RetryPolicy,
    settings::{Hook, Limit, OverMax, Settings},
};
use crate::retry::{
    backoff::Backoff, budget::SharedBudget, classify::Failure, decision::Outcome, drain::Drain,
};

impl RetryPolicy {
    /// The defaults, as `RetryPolicy::default()`.
    ///
    /// Each call makes a new budget, which the clones of the policy share.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// urllib3's own defaults.
    ///
    /// 10 retries of the idempotent methods except QUERY, after errors and after 413, 429 and 503
    /// with a `Retry-After`. A `Retry-After` is clamped to 6 h; there is no other delay. A
    /// response that used up the retries is an error. There is no budget, since urllib3 has
    /// none.
    ///
    /// urllib3: `Retry()`.
    #[must_use]
    pub fn urllib3() -> Self {
        Self::new()
            .total(10)
            .allowed_methods([
                Method::GET,
                Method::HEAD,
                Method::OPTIONS,
                Method::TRACE,
                Method::PUT,
                Method::DELETE,
            ])
            .status_forcelist([])
            .backoff(Backoff::urllib3(Duration::ZERO))
            // Its `RETRY_AFTER_MAX`.
            .retry_after_max(Duration::from_secs(6 * 60 * 60))
            .retry_after_over_max(OverMax::Clamp)
            .raise_on_status(true)
            .no_budget()
    }

    /// No retries: each request is sent once, and its response or error passes through unchanged.
    ///
    /// Use it as a request extension, or to set [`deadline`](Self::deadline) alone.
    ///
    /// urllib3: `Retry(False)`.
    #[must_use]
    pub fn none() -> Self {
        Self::new().total(Limit::Disabled).no_budget()
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Most retries of a request. If a class of failures has a limit too, the one that is used up
    /// first ends the request.
    ///
    /// Default: 3.
    ///
    /// urllib3: `total`.
    #[must_use]
    pub fn total(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.total = limit.into())
    }

    /// Most retries after [`Failure::Connect`] and [`Failure::Unsent`].
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `connect`.
    #[must_use]
    pub fn connect(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.connect = limit.into())
    }

    /// Most retries after [`Failure::Read`] and [`Failure::Timeout`].
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `read`.
    #[must_use]
    pub fn read(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.read = limit.into())
    }

    /// Most retries after [`Failure::Status`].
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `status`.
    #[must_use]
    pub fn status(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.status = limit.into())
    }

    /// Most retries after [`Failure::Other`].
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `other`.
    #[must_use]
    pub fn other(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.other = limit.into())
    }

    /// Methods that may be sent again although the server may have processed the request. A request
    /// with an `Idempotency-Key` header that is not empty (`""` is) may be sent again too.
    ///
    /// Default: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2) and QUERY
    /// (RFC 10008).
    ///
    /// urllib3: `allowed_methods`.
    #[must_use]
    pub fn allowed_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = Some(methods.into_iter().collect()))
    }

    /// Every method may be sent again, POST and PATCH included, although the server may have
    /// processed the request. For servers to which a repeat does no harm.
    ///
    /// Default: only the methods of [`allowed_methods`](Self::allowed_methods). If both are called,
    /// the last call counts.
    ///
    /// urllib3: `allowed_methods=None`.
    #[must_use]
    pub fn any_method(self) -> Self {
        self.with(|settings| settings.methods = None)
    }

    /// Statuses that are failures. 413, 429 and 503 are failures too if they have a `Retry-After`
    /// and it is [respected](Self::respect_retry_after).
    ///
    /// By 421 and 425 a server says that it did not process the request. If they are in the list, a
    /// request is retried after them whatever its method.
    ///
    /// Default: 408, 429, 502, 503, 504.
    ///
    /// urllib3: `status_forcelist`.
    #[must_use]
    pub fn status_forcelist(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|settings| settings.status_forcelist = statuses.into_iter().collect())
    }

    /// The delays between attempts.
    ///
    /// Default: `Backoff::exponential(100 ms)`, with its full jitter and its maximum of 20 s.
    ///
    /// urllib3: `backoff_factor`, `backoff_max`, `backoff_jitter`.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|settings| settings.backoff = backoff)
    }

    /// Whether a server's `Retry-After` replaces the backoff, whatever the status.
    ///
    /// It is a number of seconds or a date. A date counts from the response's own `Date`, if there
    /// is one: the server's clock may differ from ours. Dates are read as leniently as those of
    /// cookies; a date in a zone other than GMT is ignored, as anything else that cannot be read.
    /// 0, or a date in the past, leaves the backoff.
    ///
    /// Default: true.
    ///
    /// urllib3: `respect_retry_after_header`.
    #[must_use]
    pub fn respect_retry_after(self, respect: bool) -> Self {
        self.with(|settings| settings.respect_retry_after = respect)
    }

    /// Longest `Retry-After` that is waited for.
    ///
    /// Default: 60 s, so that no request sleeps for hours. urllib3: 6 h.
    ///
    /// urllib3: `retry_after_max`.
    #[must_use]
    pub fn retry_after_max(self, max: Duration) -> Self {
        self.with(|settings| settings.retry_after_max = max)
    }

    /// What happens if a `Retry-After` is longer than [`retry_after_max`](Self::retry_after_max).
    ///
    /// Default: [`OverMax::GiveUp`]. urllib3 clamps.
    #[must_use]
    pub fn retry_after_over_max(self, over_max: OverMax) -> Self {
        self.with(|settings| settings.over_max = over_max)
    }

    /// The budget that each retry draws on, and that each request adds to. A budget of tower, or of
    /// your own, is accepted as well.
    ///
    /// A request's first retry after [`Failure::Connect`] or [`Failure::Unsent`] draws nothing, and
    /// every further one does. So while every request fails, a budget of 10 percent without a floor
    /// sends at most 1.10 attempts per request if the server receives them, and 2.10 if it refuses
    /// them. A floor adds to that, in a fleet [once for each
    /// process](crate::retry::Budget#a-fleet).
    ///
    /// Default: [`Budget::default`](crate::retry::Budget), 20 percent and one retry a second over
    /// 10 seconds. Each [`RetryPolicy::new`] makes one.
    ///
    /// Clones share the budget. So make the policies for the same servers from one policy:
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
        self.with(|settings| settings.budget = Some(SharedBudget::new(budget)))
    }

    /// No budget: each request has all its retries, however many requests fail. Not for a client
    /// that could overload its servers.
    #[must_use]
    pub fn no_budget(self) -> Self {
        self.with(|settings| settings.budget = None)
    }

    /// Longest time of one attempt, from the call to the head of its response. `None` removes a
    /// limit that was set.
    ///
    /// An attempt that takes longer is a [`Failure::Timeout`]. It is not retried if it waited for
    /// the stream of its own [`ReplayBody`](crate::retry::ReplayBody). While the inner service gets
    /// ready no attempt runs: only the [`deadline`](Self::deadline) limits that wait.
    ///
    /// Default: none.
    #[must_use]
    pub fn attempt_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.attempt_timeout = timeout.into())
    }

    /// Longest time of the request with all its attempts and delays, until the head of the last
    /// response. Exact to the two milliseconds of tokio's timer.
    ///
    /// The time begins when the caller first asks whether the service is ready. If the service gets
    /// ready too late, the request ends with a [`RetryError`](crate::retry::RetryError) without an
    /// attempt; see [`RetryService`](crate::retry::RetryService) for what one wait is. As a request
    /// extension the policy is not known before the call, so then the time begins with the call, or
    /// with a wait that the layer's own deadline has measured.
    ///
    /// A delay that would end after the deadline is not begun: the caller gets the last response or
    /// error at once. An attempt in flight ends at the deadline, and so does a wait for readiness
    /// before an attempt. No attempt begins after it. The request then ends with a
    /// [`RetryError`](crate::retry::RetryError), or with [`tower::timeout::error::Elapsed`] if the
    /// policy would not have retried it anyway. With a deadline of zero only a first attempt that
    /// answers at once succeeds.
    ///
    /// `None` removes a deadline that was set.
    ///
    /// Default: none.
    #[must_use]
    pub fn deadline(self, deadline: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.deadline = deadline.into())
    }

    /// How much of a failed response is read, so that its connection can be used again.
    ///
    /// Default: 64 KiB within 100 ms.
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// Whether a response becomes a [`RetryError`](crate::retry::RetryError) if it used up a limit,
    /// the budget or the time, or asks to wait too long.
    ///
    /// The response is drained before the error is returned, within the bounds of
    /// [`drain`](Self::drain).
    ///
    /// Default: false, the last response is returned. urllib3: true.
    ///
    /// urllib3: `raise_on_status`.
    #[must_use]
    pub fn raise_on_status(self, raise: bool) -> Self {
        self.with(|settings| settings.raise_on_status = raise)
    }

    /// The request header that tells the server the number of the attempt: 1, 2, 3 ... It replaces
    /// a header of this name that the caller set.
    ///
    /// Default: none.
    ///
    /// # Panics
    ///
    /// If the header frames or routes a request, as `content-length` does. A number in it would
    /// cut the body off.
    #[must_use]
    pub fn attempt_header(self, name: HeaderName) -> Self {
        assert!(
            !frames(&name),
            "{name} says how a request is framed or routed, and cannot number attempts"
        );
        self.with(|settings| settings.attempt_header = Some(name))
    }

    /// A function that says what is a failure. It replaces the forcelist, the classes of errors and
    /// the statuses that are failures with a `Retry-After`.
    ///
    /// Default: none.
    ///
    /// To add to the rules of another policy, ask that policy:
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
    ///
    /// [`Failure::Unsent`] for a response says that the server did not process the request. So a
    /// POST is retried too, after the response's `Retry-After`, and counts against
    /// [`connect`](Self::connect). Its first retry draws nothing from the budget. For a server that
    /// documents its rate limit as such:
    ///
    /// ```
    /// use http::{HeaderMap, Method, Response, StatusCode, header::RETRY_AFTER};
    /// use tower_outbound::retry::{Attempt, Decision, Failure, Policy, RetryPolicy};
    ///
    /// let usual = RetryPolicy::new();
    /// let mut policy = RetryPolicy::new().classify(move |outcome| match outcome {
    ///     Ok(head)
    ///         if matches!(head.status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
    ///             && head.headers.contains_key(RETRY_AFTER) =>
    ///     {
    ///         Some(Failure::Unsent)
    ///     }
    ///     outcome => Policy::classify(&usual, outcome),
    /// });
    /// # let (head, ()) = Response::builder().status(403).header(RETRY_AFTER, "7").body(())?.into_parts();
    /// # let failure = Policy::classify(&policy, Ok(&head)).expect("it is one");
    /// # let headers = HeaderMap::new();
    /// # let decision = policy.decide(&Attempt::new(&Method::POST, &headers, Ok(&head), failure));
    /// # assert!(matches!(decision, Decision::Retry { after } if after.as_secs() == 7));
    /// # Ok::<(), http::Error>(())
    /// ```
    #[must_use]
    pub fn classify(
        self,
        classify: impl Fn(Outcome<'_>) -> Option<Failure> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.classify = Some(Hook(Arc::new(classify))))
    }
}

/// Whether only the client itself may set a header: by these a request is framed (RFC 9112 section
/// 6), routed, or tied to its connection (RFC 9110 section 7.6.1).
pub(super) fn frames(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 8] =
        [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    FRAMING.contains(name)
}
