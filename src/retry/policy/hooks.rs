//! The setters of `RetryPolicy` that take a function: what only the caller knows of its servers.

use std::sync::Arc;

use http::{HeaderMap, Method, Uri, request, response};

use super::{retry_policy::RetryPolicy, settings::Hook};
use crate::retry::{decision::ServerDelay, history::AttemptRecord};

impl RetryPolicy {
    /// A function that reads how long the server asks to wait, from the head of a failed response.
    /// After `None` the response's `Retry-After` is read.
    ///
    /// What it says counts as a `Retry-After` does. It replaces the backoff, is bounded by
    /// [`retry_after_max`](Self::retry_after_max), gets a little jitter, and makes a 413, 429 or
    /// 503 a failure that is not in the list. After [`ServerDelay::Never`] there is no further
    /// attempt. With [`respect_retry_after(false)`](Self::respect_retry_after) it is not asked.
    ///
    /// It may be called several times for a response, and is called while a future is polled: it
    /// should do nothing else, and not block.
    ///
    /// Default: none. The module [`retry_after`](crate::retry::retry_after) has readers to use:
    ///
    /// ```
    /// use tower_outbound::retry::{RetryPolicy, retry_after::retry_after_ms};
    ///
    /// let policy = RetryPolicy::new().retry_after(retry_after_ms);
    /// # let _ = policy;
    /// ```
    ///
    /// A server that tells in a header of its own not to come back:
    ///
    /// ```
    /// use tower_outbound::retry::{RetryPolicy, ServerDelay};
    ///
    /// let policy = RetryPolicy::new().retry_after(|head| {
    ///     let final_answer = head.headers.get("x-should-retry").is_some_and(|value| value == "false");
    ///     final_answer.then_some(ServerDelay::Never)
    /// });
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn retry_after(
        self,
        read: impl Fn(&response::Parts) -> Option<ServerDelay> + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.retry_after = Some(Hook(Arc::new(read))))
    }

    /// A function that says whether a request may be sent again although the server may have
    /// processed it. It sees the request as the caller made it.
    ///
    /// It is asked after a failure, about requests that neither
    /// [`allowed_methods`](Self::allowed_methods) nor an `Idempotency-Key` lets repeat. It cannot
    /// forbid a repeat. It is not asked about a request of which nothing was kept, because a limit
    /// or its body rules every retry out.
    ///
    /// Default: none.
    ///
    /// ```
    /// use http::Method;
    /// use tower_outbound::retry::RetryPolicy;
    ///
    /// // A search is a POST, but changes nothing.
    /// let policy = RetryPolicy::new()
    ///     .idempotent(|method, uri, _headers| method == Method::POST && uri.path() == "/_search");
    /// # let _ = policy;
    /// ```
    #[must_use]
    pub fn idempotent(
        self,
        is_idempotent: impl Fn(&Method, &Uri, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.with(|settings| settings.idempotent = Some(Hook(Arc::new(is_idempotent))))
    }

    /// A function that is called before each retry is sent, after its delay. It may change the head
    /// of the attempt, and is shown the attempt that failed.
    ///
    /// The head is the caller's own each time, with [`attempt_header`](Self::attempt_header) and
    /// [`AttemptNumber`](crate::retry::AttemptNumber) in it: a change is gone at the next attempt.
    /// Whether a request may be repeated is decided by the caller's own head, whatever the function
    /// makes of it. With another URI a request stays in the mount that was chosen for it. The
    /// headers that frame the body, such as `content-length`, must stay as they are.
    ///
    /// It is called while a future is polled, so it should not block.
    ///
    /// Default: none.
    ///
    /// # Recipe: another token after a 401
    ///
    /// A 401 says that the request was not processed, so a POST is repeated too. The function
    /// forgets the token. A service inside the retries sets the header, and fetches a token if
    /// there is none; it may wait, which the function may not.
    ///
    /// A credential that is wrong stays wrong, and many of its tries lock an account. So there is
    /// one: `connect(1)` bounds what was [not sent](crate::retry::Failure::Unsent), as which the
    /// 401 counts. It bounds the retries of failed connections too.
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
    ///     // The host and no more: userinfo and query may be secrets.
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
