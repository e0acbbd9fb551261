//! The setters of `RetryPolicy` that take a function, for what only the caller knows.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, request, response};

use super::{retry_policy::RetryPolicy, settings::Hook};
use crate::retry::{decision::ServerDelay, history::AttemptRecord};

impl RetryPolicy {
    /// Sets a function that reads from the head of a failed response how long the server asks to
    /// wait.
    ///
    /// If the function returns `None`, the response's `Retry-After` is read. Its result counts as a
    /// `Retry-After` does: it replaces the backoff, is bounded by
    /// [`retry_after_max`](Self::retry_after_max), gets a little jitter, and makes a 413, 429 or
    /// 503 a failure even if the status is not listed. After [`ServerDelay::Never`] there is no
    /// further attempt. With [`respect_retry_after(false)`](Self::respect_retry_after) the function
    /// is not called.
    ///
    /// The function may be called several times for a response. It runs while a future is polled,
    /// so it should not block, and should change nothing.
    ///
    /// Default: no function. The module [`retry_after`](crate::retry::retry_after) has some:
    ///
    /// ```
    /// use tower_outbound::retry::{RetryPolicy, retry_after::retry_after_ms};
    ///
    /// let policy = RetryPolicy::new().retry_after(retry_after_ms);
    /// ```
    ///
    /// For a server that has its own header for "do not retry":
    ///
    /// ```
    /// use tower_outbound::retry::{RetryPolicy, ServerDelay};
    ///
    /// let policy = RetryPolicy::new().retry_after(|head| {
    ///     let is_final = head.headers.get("x-should-retry").is_some_and(|value| value == "false");
    ///     is_final.then_some(ServerDelay::Never)
    /// });
    /// ```
    #[must_use]
    pub fn retry_after(
        self,
        read: impl Fn(&response::Parts) -> Option<ServerDelay> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.retry_after = Some(Hook(Arc::new(read))))
    }

    /// Sets a function that allows more requests to be sent again even if the server may have
    /// processed them.
    ///
    /// The function is called after a failure, with the method, the URI and the headers that the
    /// caller set. It is not called if [`allowed_methods`](Self::allowed_methods) or an
    /// `Idempotency-Key` allows the repeat already: it cannot forbid one. It is also skipped if a
    /// limit or the body rules out every retry.
    ///
    /// Default: no function.
    ///
    /// ```
    /// use http::Method;
    /// use tower_outbound::retry::RetryPolicy;
    ///
    /// // A search is a POST, but changes nothing.
    /// let policy = RetryPolicy::new()
    ///     .idempotent(|method, uri, _headers| method == Method::POST && uri.path() == "/_search");
    /// ```
    #[must_use]
    pub fn idempotent(
        self,
        is_idempotent: impl Fn(&Method, &Uri, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.idempotent = Some(Hook(Arc::new(is_idempotent))))
    }

    /// Sets a function that is called before each retry is sent, and may change the head of the
    /// request.
    ///
    /// It is called after the delay, with the head of the next attempt and the record of the
    /// attempt that failed. Each time the head is the one that the caller set, plus
    /// [`attempt_header`](Self::attempt_header) and [`AttemptNumber`](crate::retry::AttemptNumber).
    /// So a change holds for one attempt. A change does not affect whether the request may be
    /// repeated; nor, inside a mount, which mount serves the request. The function must not change
    /// headers that frame the body, such as `content-length`. It runs while a future is polled, so
    /// it should not block.
    ///
    /// Default: no function.
    ///
    /// # Recipe: another token after a 401
    ///
    /// A 401 means that the request was not processed, so a POST is repeated too. The function
    /// forgets the token. A service inside the retries sets the header. If there is no token, that
    /// service fetches one: unlike the function, it may wait.
    ///
    /// A wrong credential stays wrong, and many attempts with it may lock an account. So only one
    /// retry is allowed: the 401 counts as [not sent](crate::retry::Failure::Unsent), and
    /// `connect(1)` bounds these. It bounds the retries of failed connections too.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use http::{HeaderValue, Request, Response, StatusCode, header::AUTHORIZATION};
    /// use http_body_util::Empty;
    /// use tower::{BoxError, Layer, ServiceExt, service_fn};
    /// use tower_outbound::retry::{Failure, Policy, RetryLayer, RetryPolicy};
    ///
    /// type Body = Empty<&'static [u8]>;
    ///
    /// #[derive(Clone, Default)]
    /// struct Tokens(Arc<Mutex<Option<HeaderValue>>>);
    ///
    /// impl Tokens {
    ///     async fn get(&self) -> HeaderValue {
    ///         if let Some(token) = self.0.lock().expect("no panic").clone() {
    ///             return token;
    ///         }
    ///         let token = fetch_token().await;
    ///         *self.0.lock().expect("no panic") = Some(token.clone());
    ///         token
    ///     }
    ///
    ///     fn forget(&self) {
    ///         *self.0.lock().expect("no panic") = None;
    ///     }
    /// }
    /// # async fn fetch_token() -> HeaderValue { HeaderValue::from_static("Bearer new") }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), BoxError> {
    /// # let client = service_fn(|request: Request<Body>| async move {
    /// #     let known = request.headers()[AUTHORIZATION] == "Bearer new";
    /// #     Ok::<_, BoxError>(Response::builder().status(if known { 200 } else { 401 }).body(Body::new())?)
    /// # });
    /// let tokens = Tokens::default();
    /// # *tokens.0.lock().expect("no panic") = Some(HeaderValue::from_static("Bearer old"));
    /// let (usual, stale) = (RetryPolicy::new(), tokens.clone());
    /// let policy = RetryPolicy::new()
    ///     .connect(1)
    ///     .classify(move |outcome| match outcome {
    ///         Ok(head) if head.status == StatusCode::UNAUTHORIZED => Some(Failure::Unsent),
    ///         outcome => Policy::classify(&usual, outcome),
    ///     })
    ///     .before_retry(move |_head, failed| {
    ///         if failed.status == Some(StatusCode::UNAUTHORIZED) {
    ///             stale.forget();
    ///         }
    ///     });
    /// let authorized = service_fn(move |mut request: Request<Body>| {
    ///     let (tokens, client) = (tokens.clone(), client.clone());
    ///     async move {
    ///         request.headers_mut().insert(AUTHORIZATION, tokens.get().await);
    ///         client.oneshot(request).await
    ///     }
    /// });
    /// let client = RetryLayer::new(policy).layer(authorized);
    ///
    /// let response = client.oneshot(Request::post("http://example.com/").body(Body::new())?).await?;
    /// assert_eq!(response.status(), StatusCode::OK);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Recipe: a counter for each upstream and reason
    ///
    /// ```
    /// use std::{collections::HashMap, sync::{Arc, Mutex}};
    /// # use http::{Request, Response};
    /// # use http_body_util::Empty;
    /// # use tower::{BoxError, Layer, ServiceExt, service_fn};
    /// use tower_outbound::retry::{Backoff, RetryLayer, RetryPolicy};
    ///
    /// let retries = Arc::new(Mutex::new(HashMap::<(String, String), u64>::new()));
    /// let counted = Arc::clone(&retries);
    /// let policy = RetryPolicy::new().backoff(Backoff::none()).before_retry(move |head, failed| {
    ///     // The host alone: userinfo and query may be secrets.
    ///     let upstream = head.uri.host().unwrap_or_default().to_owned();
    ///     let reason = failed.failure.map(|failure| failure.to_string()).unwrap_or_default();
    ///     *counted.lock().expect("no panic").entry((upstream, reason)).or_default() += 1;
    /// });
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn run(policy: RetryPolicy) -> Result<(), BoxError> {
    /// # type Body = Empty<&'static [u8]>;
    /// # let server = service_fn(|_: Request<Body>| async {
    /// #     Response::builder().status(503).body(Body::new())
    /// # });
    /// # let client = RetryLayer::new(policy).layer(server);
    /// # client.oneshot(Request::get("http://u:p@api.example/").body(Body::new())?).await?;
    /// # Ok(())
    /// # }
    /// # run(policy).expect("a response");
    /// # let reason = ("api.example".to_owned(), "status 503".to_owned());
    /// # assert_eq!(*retries.lock().expect("no panic"), HashMap::from([(reason, 3)]));
    /// ```
    #[must_use]
    pub fn before_retry(
        self,
        change: impl Fn(&mut request::Parts, &AttemptRecord) + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.before_retry = Some(Hook(Arc::new(change))))
    }
}
