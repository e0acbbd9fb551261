//! The policy for tower-http's
//! [`FollowRedirectLayer`](tower_http::follow_redirect::FollowRedirectLayer), under which a
//! redirect keeps the restrictions of its request.

use std::fmt;

use http::{Request, Uri, header::HOST};
use tower_http::follow_redirect::{
    FollowRedirect,
    policy::{Action, Attempt, FilterCredentials, Policy},
};
use tower_layer::Layer;

#[cfg(feature = "retry")]
use crate::retry::{
    RetryPolicy,
    replay::{Replay, ReplayByTrait, ReplayWith},
};
#[cfg(feature = "session")]
use crate::session::{SessionKey, SessionVersion};
use crate::{
    authority,
    cookie::{
        CookieControl, CookieJar, SiteForCookies,
        hop::{LocationNote, Noted},
    },
};

mod location;

pub use location::{LocationFuture, LocationService};

#[cfg(feature = "retry")]
type DefaultReplay = ReplayByTrait;
// Only the feature `retry` knows how bodies are copied.
#[cfg(not(feature = "retry"))]
type DefaultReplay = ();

/// The policy for tower-http's `FollowRedirectLayer`: it follows up to 20 redirects, and each hop
/// keeps the restrictions of the request.
///
/// A hop is the request that follows a redirect. It leaves the origin if scheme, host or port
/// differs. As tower-http's `Standard` does, this policy removes `Authorization`, `Cookie` and
/// `Proxy-Authorization` when a hop leaves the origin, and returns a response that is not followed.
/// Five points differ:
///
/// - When a hop leaves the origin, these request extensions are kept: [`CookieControl`],
///   [`SiteForCookies`], the [`CookieJar`] of one request, a `SessionKey` and a `SessionVersion`
///   (feature `session`), and a `RetryPolicy`. All others are removed, also
///   [`HostDecides`](crate::cookie::HostDecides).
/// - When a hop leaves the origin, a `Host` header that the caller set is removed, as in curl: it
///   named a host at the first origin.
/// - A redirect that keeps the body sends it again, if it is a
///   [`ReplayableBody`](crate::retry::ReplayableBody). These are 307 and 308, and for methods other
///   than POST also 301 and 302. See [`replay_with`](Self::replay_with) for other bodies. Without
///   the feature `retry` any body type is accepted, but such a redirect is followed only if the
///   body is empty.
/// - A redirect with an [empty `Location`](#empty-location) is returned, as in curl and Chrome.
/// - A redirect to the request's own URI with the same method is returned if the method is not
///   safe, such as a 307 for a POST.
///
/// # Empty `Location`
///
/// tower-http resolves a `Location` before it calls a policy, and an empty one then looks like the
/// request's own URI. So another service must tell this policy that the `Location` was empty. Two
/// services do:
///
/// - A [`CookieLayer`](crate::CookieLayer) inside the redirects.
/// - This policy used as a layer, in any stack. The layer is `FollowRedirectLayer` with this
///   policy, and a service below it that looks at the `Location`:
///
///   ```
///   use tower::ServiceBuilder;
///   use tower_outbound::RedirectPolicy;
///
///   # let client = tower::service_fn(|_: http::Request<http_body_util::Empty<bytes::Bytes>>| async {
///   #     Ok::<_, tower::BoxError>(http::Response::new(()))
///   # });
///   let client = ServiceBuilder::new().layer(RedirectPolicy::new()).service(client);
///   ```
///
/// With one of them, a response that sets a cookie and redirects a GET to its own URI is followed.
/// With none, a redirect to the same URI with the same method is returned, and in two cases the
/// policy cannot tell:
///
/// - An empty `Location` that turns a POST into a GET (301, 302, 303) is followed.
/// - Two spellings of a URI, such as `/a/../b` and `/b`, count as two URIs.
///
/// # Example
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_http::follow_redirect::FollowRedirectLayer;
/// use tower_outbound::{CookieLayer, RedirectPolicy, cookie::{CookieControl, CookieJar}};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // a.example redirects to b.example, which sets a cookie.
/// let server = service_fn(|request: Request<Full<Bytes>>| async move {
///     let response = match request.uri().host() {
///         Some("a.example") => Response::builder().status(302).header("location", "https://b.example/"),
///         _ => Response::builder().header("set-cookie", "id=42"),
///     };
///     response.body(())
/// });
/// let jar = CookieJar::new();
/// let client = ServiceBuilder::new()
///     .layer(FollowRedirectLayer::with_policy(RedirectPolicy::new()))
///     .layer(CookieLayer::new(jar.clone()))
///     .service(server);
/// let request = Request::get("https://a.example/")
///     .extension(CookieControl { send: false, store: false })
///     .body(Full::default())?;
/// client.oneshot(request).await?;
/// assert!(jar.is_empty(), "the second hop stores nothing either");
/// # Ok(())
/// # }
/// ```
///
/// `FollowRedirectLayer::preserve_extensions(false)` removes all extensions at every hop, also
/// those that this policy keeps. Use
/// [`CookieLayer::expect_restrictions`](crate::CookieLayer::expect_restrictions) with it.
#[derive(Clone)]
pub struct RedirectPolicy<R = DefaultReplay> {
    left: usize,
    replay: R,
    location: LocationNote,
    /// What to remove from the request of the next hop.
    filter: Option<FilterCredentials>,
}

impl RedirectPolicy {
    /// Follows up to 20 redirects.
    ///
    /// ```
    /// use tower_http::follow_redirect::FollowRedirectLayer;
    /// use tower_outbound::RedirectPolicy;
    ///
    /// let layer = FollowRedirectLayer::with_policy(RedirectPolicy::new());
    /// # let _: FollowRedirectLayer<RedirectPolicy> = layer;
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self {
            left: 20,
            replay: Default::default(),
            location: LocationNote::default(),
            filter: None,
        }
    }

    /// Copies bodies with a function, for a type that is not a
    /// [`ReplayableBody`](crate::retry::ReplayableBody).
    ///
    /// If the function returns `None`, a redirect that needs the body is returned. Needs the
    /// feature `retry`.
    ///
    /// Default: [`ReplayableBody::try_replay`](crate::retry::ReplayableBody::try_replay).
    ///
    /// ```
    /// use tower_http::follow_redirect::FollowRedirectLayer;
    /// use tower_outbound::RedirectPolicy;
    ///
    /// let policy = RedirectPolicy::new().replay_with(|body: &String| Some(body.clone()));
    /// let layer = FollowRedirectLayer::with_policy(policy);
    /// ```
    #[cfg(feature = "retry")]
    #[must_use]
    pub fn replay_with<F>(self, replay: F) -> RedirectPolicy<ReplayWith<F>> {
        RedirectPolicy {
            left: self.left,
            replay: ReplayWith::new(replay),
            location: self.location,
            filter: self.filter,
        }
    }
}

impl<R> RedirectPolicy<R> {
    /// How many redirects of a request are followed. The next redirect is returned to the caller.
    ///
    /// With 0 no redirect is followed.
    ///
    /// Default: 20, as in the Fetch standard.
    ///
    /// ```
    /// let policy = tower_outbound::RedirectPolicy::new().max(5);
    /// ```
    #[must_use]
    pub fn max(mut self, hops: usize) -> Self {
        self.left = hops;
        self
    }

    fn decide<B, E>(&mut self, attempt: &Attempt<'_>) -> Result<Action, E>
    where
        FilterCredentials: Policy<B, E>,
    {
        let repeats = attempt.method() == attempt.previous_method()
            && is_same(attempt.previous(), attempt.location());
        let stays = match self.location.get() {
            Noted::Empty => true,
            // The server asks for the repeat. But an unsafe request may have had its effect
            // already.
            Noted::NotEmpty => repeats && !attempt.method().is_safe(),
            Noted::Nothing => repeats,
        };
        if stays || self.left == 0 {
            return Ok(Action::Stop);
        }
        self.left -= 1;
        let mut filter = filter();
        let action = Policy::<B, E>::redirect(&mut filter, attempt)?;
        self.filter = Some(filter);
        Ok(action)
    }

    fn prepare<B, E>(&mut self, request: &mut Request<B>)
    where
        FilterCredentials: Policy<B, E>,
    {
        match self.filter.take() {
            // The first request gets a new note: the policy of the layer may be a clone of one that
            // another layer has.
            None => self.location = LocationNote::default(),
            Some(mut filter) => {
                // The note is in every request. The filter removes it if a hop leaves the origin.
                let has_note =
                    |request: &Request<B>| request.extensions().get::<LocationNote>().is_some();
                let had_note = has_note(request);
                Policy::<B, E>::on_request(&mut filter, request);
                // The header named a host at the first origin.
                if had_note && !has_note(request) {
                    request.headers_mut().remove(HOST);
                }
                self.location.clear();
            }
        }
        request.extensions_mut().insert(self.location.clone());
    }
}

/// What may be sent to another origin: tower-http's own rules, and the extensions of this crate.
fn filter() -> FilterCredentials {
    let filter = FilterCredentials::new()
        .allow_extension::<CookieControl>()
        .allow_extension::<SiteForCookies>()
        .allow_extension::<CookieJar>();
    #[cfg(feature = "retry")]
    let filter = filter.allow_extension::<RetryPolicy>();
    #[cfg(feature = "session")]
    let filter = filter.allow_extension::<SessionKey>().allow_extension::<SessionVersion>();
    filter
}

/// Whether two URIs are the same. tower-http leaves out a default port when it resolves a
/// reference, so a missing port equals the default port.
fn is_same(a: &Uri, b: &Uri) -> bool {
    let origin = |uri: &Uri| {
        let (host, port) = authority::split(uri.authority()?.as_str());
        let default = if uri.scheme_str() == Some("https") { "443" } else { "80" };
        let port = port.filter(|port| !port.is_empty()).unwrap_or(default).to_owned();
        Some((uri.scheme().cloned(), authority::canonical(host)?.into_owned(), port))
    };
    a.path_and_query() == b.path_and_query() && origin(a) == origin(b)
}

#[cfg(feature = "retry")]
impl<B, E, R: Replay<B>> Policy<B, E> for RedirectPolicy<R> {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, E> {
        self.decide::<B, E>(attempt)
    }

    fn on_request(&mut self, request: &mut Request<B>) {
        self.prepare::<B, E>(request);
    }

    fn clone_body(&self, body: &B) -> Option<B> {
        self.replay.replay(body)
    }
}

#[cfg(not(feature = "retry"))]
impl<B, E> Policy<B, E> for RedirectPolicy {
    fn redirect(&mut self, attempt: &Attempt<'_>) -> Result<Action, E> {
        self.decide::<B, E>(attempt)
    }

    fn on_request(&mut self, request: &mut Request<B>) {
        self.prepare::<B, E>(request);
    }
}

/// Applies tower-http's `FollowRedirectLayer` with this policy, and tells the policy of every
/// [empty `Location`](RedirectPolicy#empty-location).
impl<S: Clone, R: Clone> Layer<S> for RedirectPolicy<R> {
    type Service = FollowRedirect<LocationService<S>, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        FollowRedirect::with_policy(LocationService::new(inner), self.clone())
    }
}

impl Default for RedirectPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: fmt::Debug> fmt::Debug for RedirectPolicy<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedirectPolicy")
            .field("left", &self.left)
            .field("replay", &self.replay)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_is_the_same_with_its_default_port_and_in_capitals() {
        let rows = [
            ("http://h/p?q", "http://h/p?q", true),
            ("http://H:80/p", "http://h/p", true),
            ("https://h", "https://h:443/", true),
            ("https://h:80/", "https://h/", false),
            ("http://h/", "https://h/", false),
            ("http://h/p", "http://h/p?", false),
            ("http://h/p?q=1", "http://h/p?q=2", false),
            ("http://h/P", "http://h/p", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(a, b, want)| is_same(&a.parse().unwrap(), &b.parse().unwrap()) != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
