//! curl's redirects, but what was meant for one origin never reaches another.

use http::{
    Request,
    header::{AUTHORIZATION, COOKIE, HOST, PROXY_AUTHORIZATION},
};
use tower::BoxError;
use tower_http::follow_redirect::policy::{Action, Attempt, Policy};
use tower_outbound::RedirectPolicy;

use crate::{
    args::{Args, Target, target},
    client::{Body, origin},
    failed::Failed,
};

#[derive(Clone)]
pub(crate) struct Redirects {
    follow: bool,
    /// How many more; below 0 there is no limit.
    left: i64,
    /// Whether the last one led to another origin.
    crossed: bool,
    /// Keeps what holds for a request, and knows an empty Location. It counts nothing here.
    inner: RedirectPolicy,
}

impl Redirects {
    pub(crate) fn new(args: &Args) -> Self {
        let inner = RedirectPolicy::new().max(usize::MAX);
        Self { follow: args.location, left: args.max_redirs, crossed: false, inner }
    }
}

impl Policy<Body, BoxError> for Redirects {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, BoxError> {
        if !self.follow {
            return Ok(Action::Stop);
        }
        let action: Result<Action, BoxError> =
            Policy::<Body, _>::redirect(&mut self.inner, attempt);
        if action?.is_stop() {
            return Ok(Action::Stop);
        }
        if self.left == 0 {
            return Err(Failed::new(47, "too many redirects").into());
        }
        self.left = self.left.saturating_sub(1);
        target(&attempt.location().to_string())
            .map_err(|why| Failed::new(1, format!("cannot follow: {why}")))?;
        self.crossed = origin(attempt.previous()) != origin(attempt.location());
        Ok(Action::Follow)
    }

    fn on_request(&mut self, request: &mut Request<Body>) {
        Policy::<Body, BoxError>::on_request(&mut self.inner, request);
        if self.crossed {
            // Gone for good: the hop after this one starts from the headers of this one.
            for name in [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION, HOST] {
                request.headers_mut().remove(name);
            }
        }
        // A Location may have userinfo too.
        if let Ok(Target { uri, authorization: Some(value) }) = target(&request.uri().to_string()) {
            *request.uri_mut() = uri;
            request.headers_mut().entry(AUTHORIZATION).or_insert(value);
        }
    }

    fn clone_body(&self, body: &Body) -> Option<Body> {
        Policy::<Body, BoxError>::clone_body(&self.inner, body)
    }
}
