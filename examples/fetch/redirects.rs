//! curl's redirects, except that secrets of one origin reach another only if the user allows it.

use http::{
    HeaderMap, HeaderName, Method, Request, StatusCode,
    header::{
        AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, Entry,
        PROXY_AUTHORIZATION, TRANSFER_ENCODING,
    },
};
use tower::BoxError;
use tower_http::follow_redirect::policy::{Action, Attempt, Policy};
use tower_outbound::RedirectPolicy;

use crate::{
    args::Args,
    client::{Body, origin},
    failed::Failed,
    target::{Target, target},
};

const SECRETS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, PROXY_AUTHORIZATION];
/// The headers that tower-http removes if it changes a request to GET.
const OF_BODY: [HeaderName; 4] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING];

#[derive(Clone)]
pub(crate) struct Redirects {
    follow: bool,
    /// How many more redirects may be followed. Below 0 there is no limit.
    left: i64,
    /// Whether every host may get what is meant for the first one.
    trusted: bool,
    /// Whether the user gave the authorization. Then no URL replaces it.
    authorized: bool,
    /// The statuses that keep method and body, in addition to 307 and 308.
    keeping: Vec<StatusCode>,
    /// The original method and body, until a redirect changes the request to GET.
    original: Option<Original>,
    /// Whether the last redirect led to another origin.
    crossed: bool,
    /// Keeps a request's extensions, removes its Host at another origin, and recognises an empty
    /// Location. Its limit is not used.
    inner: RedirectPolicy,
}

#[derive(Clone)]
struct Original {
    method: Method,
    body: Body,
    headers: HeaderMap,
}

impl Redirects {
    pub(crate) fn new(args: &Args, request: &Request<Body>) -> Self {
        let keeping = [
            (args.post301, StatusCode::MOVED_PERMANENTLY),
            (args.post302, StatusCode::FOUND),
            (args.post303, StatusCode::SEE_OTHER),
        ];
        let original = Original {
            method: request.method().clone(),
            body: request.body().clone(),
            headers: take(&mut request.headers().clone(), OF_BODY),
        };
        Self {
            follow: args.follow(),
            left: args.max_redirs,
            trusted: args.location_trusted,
            authorized: args.has_authorization(),
            keeping: keeping.into_iter().filter(|row| row.0).map(|row| row.1).collect(),
            original: Some(original),
            crossed: false,
            inner: RedirectPolicy::new().max(usize::MAX),
        }
    }
}

/// Whether a redirect with this status changes a request with this method to GET.
fn turns(status: StatusCode, method: &Method) -> bool {
    match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => *method == Method::POST,
        status => status == StatusCode::SEE_OTHER,
    }
}

impl Policy<Body, BoxError> for Redirects {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, BoxError> {
        if !self.follow {
            return Ok(Action::Stop);
        }
        let (status, keeps) = (attempt.status(), self.keeping.contains(&attempt.status()));
        self.original.take_if(|original| !keeps && turns(status, &original.method));
        // The inner policy believes that `keeping` changes to GET, so it misses a repeated POST.
        let is_unsafe = self.original.as_ref().is_some_and(|original| !original.method.is_safe());
        let repeats = is_unsafe && attempt.previous() == attempt.location();
        let action: Result<Action, BoxError> =
            Policy::<Body, _>::redirect(&mut self.inner, attempt);
        if action?.is_stop() || repeats {
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
        // Kept from the inner policy, which does not know what is trusted.
        let secrets = take(request.headers_mut(), SECRETS);
        Policy::<Body, BoxError>::on_request(&mut self.inner, request);
        if self.trusted || !self.crossed {
            request.headers_mut().extend(secrets);
        } else {
            // Removed for all later hops: the next hop starts from the headers of this one.
            self.authorized = false;
        }
        match self.original.clone() {
            Some(Original { method, body, headers }) => {
                *request.method_mut() = method;
                *request.body_mut() = body;
                // Replaces the headers that are there.
                request.headers_mut().extend(headers);
            }
            None => _ = take(request.headers_mut(), OF_BODY),
        }
        // A Location may also have userinfo.
        let target = target(&request.uri().to_string());
        if let Ok(Target { uri, authorization: Some(value), .. }) = target {
            *request.uri_mut() = uri;
            if !self.authorized {
                request.headers_mut().insert(AUTHORIZATION, value);
            }
        }
    }

    fn clone_body(&self, body: &Body) -> Option<Body> {
        Policy::<Body, BoxError>::clone_body(&self.inner, body)
    }
}

/// Removes and returns all headers of these names.
fn take<const N: usize>(headers: &mut HeaderMap, names: [HeaderName; N]) -> HeaderMap {
    let mut taken = HeaderMap::new();
    for name in names {
        if let Entry::Occupied(entry) = headers.entry(&name) {
            let (_, values) = entry.remove_entry_mult();
            taken.extend(values.map(|value| (name.clone(), value)));
        }
    }
    taken
}
