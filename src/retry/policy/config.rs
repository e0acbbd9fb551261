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
    /// A policy with the default of every setting.
    ///
    /// Each call makes a new budget, which the clones of the policy share.
    ///
    /// ```
    /// # use tower_outbound::retry::{RetryLayer, RetryPolicy};
    /// let policy = RetryPolicy::new();
    /// let (reads, writes) = (RetryLayer::new(policy.clone()), RetryLayer::new(policy.total(1)));
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A policy with urllib3's defaults.
    ///
    /// Requests with an idempotent method other than QUERY have 10 retries, after errors and after
    /// 413, 429 and 503 with a `Retry-After`. A `Retry-After` is clamped to 6 h. There is no
    /// backoff and no budget. If the retries are used up, the caller gets a
    /// [`RetryError`](crate::retry::RetryError).
    ///
    /// urllib3: `Retry()`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// // Retry(total=3, raise_on_status=False)
    /// let policy = RetryPolicy::urllib3().total(3).raise_on_status(false);
    /// ```
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

    /// A policy without retries: each request is sent once, and its response or error is returned
    /// unchanged.
    ///
    /// Use it as a request extension, or to set nothing but a [`deadline`](Self::deadline).
    ///
    /// urllib3: `Retry(False)`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// let request = http::Request::get("http://example.com/").extension(RetryPolicy::none());
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Self::new().total(Limit::Disabled).no_budget()
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self
    }

    /// Largest number of retries of a request, after failures of any class.
    ///
    /// If the class of a failure has a limit too, the limit that is used up first ends the request.
    ///
    /// Default: 3.
    ///
    /// urllib3: `total`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// let six_attempts = RetryPolicy::new().total(5);
    /// ```
    #[must_use]
    pub fn total(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.total = limit.into())
    }

    /// Largest number of retries after [`Failure::Connect`] and [`Failure::Unsent`] together.
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `connect`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// // Gives up soon if no server is there.
    /// let policy = RetryPolicy::new().total(5).connect(1);
    /// ```
    #[must_use]
    pub fn connect(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.connect = limit.into())
    }

    /// Largest number of retries after [`Failure::Read`] and [`Failure::Timeout`] together.
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `read`.
    ///
    /// ```
    /// # use tower_outbound::retry::{Limit, RetryPolicy};
    /// // Returns the client's own error after a broken connection or a timeout.
    /// let policy = RetryPolicy::new().read(Limit::Disabled);
    /// ```
    #[must_use]
    pub fn read(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.read = limit.into())
    }

    /// Largest number of retries after [`Failure::Status`], whatever the statuses.
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `status`.
    ///
    /// ```
    /// # use tower_outbound::retry::{Limit, RetryPolicy};
    /// // Retries errors, and returns every response as it is.
    /// let policy = RetryPolicy::new().status(Limit::Disabled);
    /// ```
    #[must_use]
    pub fn status(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.status = limit.into())
    }

    /// Largest number of retries after [`Failure::Other`].
    ///
    /// Default: no limit but the total.
    ///
    /// urllib3: `other`.
    ///
    /// ```
    /// # use tower_outbound::retry::{Limit, RetryPolicy};
    /// // Retries only failures that it can name.
    /// let policy = RetryPolicy::new().other(Limit::Disabled);
    /// ```
    #[must_use]
    pub fn other(self, limit: impl Into<Limit>) -> Self {
        self.with(|settings| settings.other = limit.into())
    }

    /// Methods that may be sent again even if the server may have processed the request.
    ///
    /// A request with an `Idempotency-Key` header may be sent again too. A key without a visible
    /// ASCII character, such as `""`, is ignored.
    ///
    /// Default: GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110 section 9.2.2) and QUERY
    /// (RFC 10008).
    ///
    /// urllib3: `allowed_methods`.
    ///
    /// ```
    /// # use {http::Method, tower_outbound::retry::RetryPolicy};
    /// let policy = RetryPolicy::new().allowed_methods([Method::GET, Method::HEAD]);
    /// ```
    #[must_use]
    pub fn allowed_methods(self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.with(|settings| settings.methods = Some(methods.into_iter().collect()))
    }

    /// Lets every method be sent again, POST and PATCH included, even if the server may have
    /// processed the request.
    ///
    /// Use it for servers that a repeat does not harm. If both this and
    /// [`allowed_methods`](Self::allowed_methods) are called, the last call counts.
    ///
    /// Default: only the methods of `allowed_methods`.
    ///
    /// urllib3: `allowed_methods=None`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// // A search service, which takes each query as a POST.
    /// let policy = RetryPolicy::new().any_method();
    /// ```
    #[must_use]
    pub fn any_method(self) -> Self {
        self.with(|settings| settings.methods = None)
    }

    /// Statuses that are failures. They replace the default list.
    ///
    /// 413, 429 and 503 are also failures if the response has a `Retry-After` that is
    /// [respected](Self::respect_retry_after). If you list 421 or 425, a request is retried after
    /// them whatever its method: with these the server says that it did not process the request.
    ///
    /// Default: 408, 429, 502, 503, 504.
    ///
    /// urllib3: `status_forcelist`.
    ///
    /// ```
    /// # use {http::StatusCode, tower_outbound::retry::RetryPolicy};
    /// let server_errors = (500..600).filter_map(|code| StatusCode::from_u16(code).ok());
    /// let policy = RetryPolicy::new().status_forcelist(server_errors);
    /// ```
    #[must_use]
    pub fn status_forcelist(self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.with(|settings| settings.status_forcelist = statuses.into_iter().collect())
    }

    /// How long to wait before each retry, if the server does not say.
    ///
    /// Default: `Backoff::exponential(100 ms)`, with its full jitter and its maximum of 20 s.
    ///
    /// urllib3: `backoff_factor`, `backoff_max`, `backoff_jitter`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::{Backoff, RetryPolicy};
    /// let policy = RetryPolicy::new().backoff(Backoff::constant(Duration::from_secs(1)));
    /// ```
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|settings| settings.backoff = backoff)
    }

    /// Whether a failed response's `Retry-After` replaces the backoff, whatever the status.
    ///
    /// The header is a number of seconds or a date. The date is compared with the response's
    /// `Date`, because the server's clock may differ from ours. Without a `Date`, our clock is
    /// used. Dates are read as leniently as those of cookies. A date in a zone other than GMT is
    /// ignored, and so is a value that cannot be read. If the value is 0 or a past date, the
    /// backoff is used.
    ///
    /// Default: true.
    ///
    /// urllib3: `respect_retry_after_header`.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// let own_delays_only = RetryPolicy::new().respect_retry_after(false);
    /// ```
    #[must_use]
    pub fn respect_retry_after(self, respect: bool) -> Self {
        self.with(|settings| settings.respect_retry_after = respect)
    }

    /// Longest `Retry-After` that is waited for.
    ///
    /// Default: 60 s, so that no request sleeps for hours.
    ///
    /// urllib3: `retry_after_max`, 6 h.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::RetryPolicy;
    /// // For a nightly job.
    /// let policy = RetryPolicy::new().retry_after_max(Duration::from_secs(60 * 60));
    /// ```
    #[must_use]
    pub fn retry_after_max(self, max: Duration) -> Self {
        self.with(|settings| settings.retry_after_max = max)
    }

    /// What happens if a `Retry-After` is longer than [`retry_after_max`](Self::retry_after_max).
    ///
    /// Default: [`OverMax::GiveUp`]. urllib3 clamps.
    ///
    /// ```
    /// # use tower_outbound::retry::{OverMax, RetryPolicy};
    /// // Asks again after a minute, even if the server says an hour.
    /// let policy = RetryPolicy::new().retry_after_over_max(OverMax::Clamp);
    /// ```
    #[must_use]
    pub fn retry_after_over_max(self, over_max: OverMax) -> Self {
        self.with(|settings| settings.over_max = over_max)
    }

    /// The budget that each request deposits into and each retry withdraws from.
    ///
    /// It is any type that implements tower's trait [`Budget`]: this crate's
    /// [`Budget`](crate::retry::Budget), one of tower's, or one of your own.
    ///
    /// One retry of each request withdraws nothing: its first one after [`Failure::Connect`] or
    /// [`Failure::Unsent`], even if it had retries after other failures before. So if every request
    /// fails, a budget of 10 percent without a floor allows at most 1.10 attempts per request if
    /// the server receives them, and 2.10 if the server refuses connections. The
    /// [floor](crate::retry::Budget::min_retries) adds to that, in a fleet [once for each
    /// process](crate::retry::Budget#a-fleet).
    ///
    /// Default: [`Budget::default`](crate::retry::Budget), 20 percent and one retry a second over
    /// 10 seconds. Each [`RetryPolicy::new`] makes one.
    ///
    /// Clones share the budget. So make the policies for the same servers from one policy:
    ///
    /// ```
    /// # use tower_outbound::retry::{Budget, RetryPolicy};
    /// let reads = RetryPolicy::new().budget(Budget::new(10));
    /// let writes = reads.clone().total(1).any_method();
    /// ```
    #[must_use]
    pub fn budget(self, budget: impl Budget + Send + Sync + 'static) -> Self {
        self.with(|settings| settings.budget = Some(SharedBudget::new(budget)))
    }

    /// Removes the budget: each request has all its retries, however many requests fail.
    ///
    /// Do not use it for a client that could overload its servers.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// // A script that makes one request at a time.
    /// let policy = RetryPolicy::new().total(10).no_budget();
    /// ```
    #[must_use]
    pub fn no_budget(self) -> Self {
        self.with(|settings| settings.budget = None)
    }

    /// Longest time of one attempt, from the call to the head of its response. `None` removes the
    /// limit.
    ///
    /// An attempt that takes longer is a [`Failure::Timeout`]. It is not retried if it waited for
    /// the stream of its own [`ReplayBody`](crate::retry::ReplayBody). The wait until the inner
    /// service is ready does not count: only the [`deadline`](Self::deadline) limits it.
    ///
    /// If such an attempt is not retried, the caller gets [`tower::timeout::error::Elapsed`]. If a
    /// limit, the budget or the deadline is used up, it gets a
    /// [`RetryError`](crate::retry::RetryError), whose source is that error.
    ///
    /// Default: no limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::RetryPolicy;
    /// // A second attempt after five seconds without a response.
    /// let policy = RetryPolicy::new().attempt_timeout(Duration::from_secs(5));
    /// ```
    #[must_use]
    pub fn attempt_timeout(self, timeout: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.attempt_timeout = timeout.into())
    }

    /// Longest time of the request with all its attempts and delays, until the head of the last
    /// response. `None` removes the limit.
    ///
    /// The time begins when the caller first polls the service for readiness. If the service is
    /// ready too late, the request ends with a [`RetryError`](crate::retry::RetryError) without an
    /// attempt; [`RetryService`](crate::retry::RetryService) says what one wait is. A policy in the
    /// request's extensions is not known before the call. Its time begins with the call, or with a
    /// wait that was measured for the layer's own deadline.
    ///
    /// A delay that would end after the deadline does not begin: the caller gets the last response
    /// or error at once. An attempt in flight ends at the deadline, and so does a wait for
    /// readiness before an attempt. The request then ends with a
    /// [`RetryError`](crate::retry::RetryError), or with [`tower::timeout::error::Elapsed`] if the
    /// policy does not retry this request after a timeout. With a deadline of zero only a first
    /// attempt that answers at once succeeds. The deadline is exact to the two milliseconds of
    /// tokio's timer.
    ///
    /// Default: no limit.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_outbound::retry::RetryPolicy;
    /// let for_a_minute = RetryPolicy::new().total(None).deadline(Duration::from_secs(60));
    /// ```
    #[must_use]
    pub fn deadline(self, deadline: impl Into<Option<Duration>>) -> Self {
        self.with(|settings| settings.deadline = deadline.into())
    }

    /// How much of a failed response is read, so that its connection can be used again.
    ///
    /// Default: 64 KiB within 100 ms.
    ///
    /// ```
    /// # use tower_outbound::retry::{Drain, RetryPolicy};
    /// // For a server that sends large error pages.
    /// let drain = Drain { bytes: 1024 * 1024, ..Drain::default() };
    /// let policy = RetryPolicy::new().drain(drain);
    /// ```
    #[must_use]
    pub fn drain(self, drain: Drain) -> Self {
        self.with(|settings| settings.drain = drain)
    }

    /// Whether the caller gets a [`RetryError`](crate::retry::RetryError) instead of the last
    /// failed response, if a limit, the budget or the deadline is used up, or the server asks to
    /// wait too long or not to retry.
    ///
    /// The response is drained before the error is returned, within the bounds of
    /// [`drain`](Self::drain).
    ///
    /// Default: false, the caller gets the response.
    ///
    /// urllib3: `raise_on_status`, true.
    ///
    /// ```
    /// # use tower_outbound::retry::RetryPolicy;
    /// let policy = RetryPolicy::new().raise_on_status(true);
    /// ```
    #[must_use]
    pub fn raise_on_status(self, raise: bool) -> Self {
        self.with(|settings| settings.raise_on_status = raise)
    }

    /// The request header that tells the server the number of the attempt: 1, 2, 3 ...
    ///
    /// It replaces a header with this name that the caller set.
    ///
    /// Default: no such header.
    ///
    /// # Panics
    ///
    /// If the header frames or routes a request, as `content-length` does.
    ///
    /// ```
    /// # use {http::HeaderName, tower_outbound::retry::RetryPolicy};
    /// let policy = RetryPolicy::new().attempt_header(HeaderName::from_static("x-attempt"));
    /// ```
    #[must_use]
    pub fn attempt_header(self, name: HeaderName) -> Self {
        assert!(
            !frames(&name),
            "{name} says how a request is framed or routed, and cannot number attempts"
        );
        self.with(|settings| settings.attempt_header = Some(name))
    }

    /// Sets a function that decides which outcomes are failures, and of which class.
    ///
    /// The function replaces the forcelist, the classes of errors and the rule for statuses with a
    /// `Retry-After`. Default: no function. To add to these rules, ask another policy:
    ///
    /// ```
    /// # use http::StatusCode;
    /// # use tower_outbound::retry::{Failure, Policy, RetryPolicy};
    /// let usual = RetryPolicy::new();
    /// let policy = RetryPolicy::new().classify(move |outcome| match outcome {
    ///     Ok(head) if head.status == StatusCode::NOT_FOUND => Some(Failure::Status(head.status)),
    ///     outcome => Policy::classify(&usual, outcome),
    /// });
    /// ```
    ///
    /// For a response, [`Failure::Unsent`] means that the server did not process the request. So a
    /// POST is retried too, after the response's `Retry-After`. The retry counts against
    /// [`connect`](Self::connect), and the first such retry of a request withdraws nothing from the
    /// [`budget`](Self::budget). Use it for a server whose documentation says that it rejects
    /// requests over its rate limit unprocessed:
    ///
    /// ```
    /// # use http::{HeaderMap, Method, Response, StatusCode, header::RETRY_AFTER};
    /// # use tower_outbound::retry::{Attempt, Decision, Failure, Policy, RetryPolicy};
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

/// Whether only the client itself may set a header: one that frames a request (RFC 9112 section 6),
/// routes it, or ties it to its connection (RFC 9110 section 7.6.1).
pub(super) fn frames(name: &HeaderName) -> bool {
    const FRAMING: [HeaderName; 8] =
        [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    FRAMING.contains(name)
}
