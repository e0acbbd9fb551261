//! What is kept of a request, so that it can be sent again as the caller made it.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{
    decision::StopReason,
    policy::{IDEMPOTENCY_KEY, Policy},
    replay::Replay,
};

/// A request as the caller made it. What inner layers add to one attempt is not in the next.
pub(super) struct Kept<B> {
    method: Method,
    // A pointer, since a future is moved before it is polled.
    rest: Result<Box<Original<B>>, Once>,
}

/// The rest of a request that may be sent again.
struct Original<B> {
    uri: Uri,
    version: Version,
    // A plain list. Most requests need no second attempt, and a clone of a header map is two
    // allocations and a hash table.
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    body: B,
}

/// The rest of a request that is sent once: no more than the policy needs to name a reason.
struct Once {
    reason: StopReason,
    // It decides between `Method`, which a caller can do something about, and another reason.
    idempotency_key: Option<HeaderValue>,
}

impl<B> Kept<B> {
    /// Keeps what the policy may need of a request.
    pub(super) fn of(request: &Request<B>, policy: &impl Policy, replay: &impl Replay<B>) -> Self {
        let copy = if policy.may_retry(request.method(), request.headers()) {
            replay.replay(request.body()).ok_or(StopReason::Body)
        } else {
            Err(StopReason::Disabled)
        };
        let rest = match copy {
            Ok(body) => Ok(Box::new(Original {
                uri: request.uri().clone(),
                version: request.version(),
                headers: list(request.headers()),
                extensions: request.extensions().clone(),
                body,
            })),
            Err(reason) => {
                let idempotency_key = request.headers().get(&IDEMPOTENCY_KEY).cloned();
                Err(Once { reason, idempotency_key })
            }
        };
        Self { method: request.method().clone(), rest }
    }

    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    /// The headers; of a request that is sent once only the `Idempotency-Key`.
    pub(super) fn headers(&self) -> HeaderMap {
        match &self.rest {
            Ok(original) => map(&original.headers),
            Err(once) => {
                once.idempotency_key.iter().map(|key| (IDEMPOTENCY_KEY, key.clone())).collect()
            }
        }
    }

    /// The body to copy, or why there will be no copy.
    pub(super) fn body(&self) -> Result<&B, StopReason> {
        match &self.rest {
            Ok(original) => Ok(&original.body),
            Err(once) => Err(once.reason),
        }
    }

    /// The request again, or why it cannot be made again. `headers` are its own, as a
    /// [map](Self::headers).
    pub(super) fn again(
        &self,
        headers: HeaderMap,
        replay: &impl Replay<B>,
    ) -> Result<Request<B>, StopReason> {
        let original = self.rest.as_ref().map_err(|once| once.reason)?;
        let body = replay.replay(&original.body).ok_or(StopReason::Body)?;
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = original.uri.clone();
        *request.version_mut() = original.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = original.extensions.clone();
        Ok(request)
    }
}

fn list(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn map(headers: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    // A capacity is counted in names, and past 32,768 it panics. Values of one name share a place,
    // so a longer list may be of fewer names. Few requests have more than 32 headers; a longer map
    // grows.
    let mut map = HeaderMap::with_capacity(headers.len().min(32));
    for (name, value) in headers {
        map.append(name, value.clone());
    }
    map
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::Empty;

    use super::{
        super::{policy::RetryPolicy, replay::ReplayByTrait},
        *,
    };

    type Body = Empty<&'static [u8]>;

    fn kept(headers: &HeaderMap, policy: &RetryPolicy) -> Kept<Body> {
        let mut request = Request::new(Body::new());
        *request.headers_mut() = headers.clone();
        *request.uri_mut() = Uri::from_static("http://u:secret@h/p?q");
        Kept::of(&request, policy, &ReplayByTrait)
    }

    #[test]
    fn a_request_is_made_again_of_the_headers_it_had_in_their_order() {
        let mut many = HeaderMap::new();
        for n in 0..40_000 {
            many.append("x-one", n.into());
        }
        let mut sensitive = HeaderValue::from_static("secret");
        sensitive.set_sensitive(true);
        let mut repeated = HeaderMap::new();
        for (name, value) in [("b", "1"), ("a", "2"), ("b", "3")] {
            repeated.append(name, HeaderValue::from_static(value));
        }
        let rows = [
            ("none", HeaderMap::new()),
            ("sensitive", HeaderMap::from_iter([("a".parse().unwrap(), sensitive)])),
            ("repeated", repeated),
            ("more values of one name than a map has places", many),
        ];
        let same = |a: &HeaderMap, b: &HeaderMap| {
            a == b
                && a.iter().eq(b.iter())
                && a.values().zip(b.values()).all(|(a, b)| a.is_sensitive() == b.is_sensitive())
        };
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(_, headers)| {
                let kept = kept(headers, &RetryPolicy::new());
                let request = kept.again(kept.headers(), &ReplayByTrait).unwrap();
                !same(request.headers(), headers) || request.uri() != "http://u:secret@h/p?q"
            })
            .map(|(what, _)| what)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn of_a_request_that_is_sent_once_its_idempotency_key_is_kept() {
        let headers = [("a", "secret"), ("idempotency-key", "1")]
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        let kept = kept(&headers.into_iter().collect(), &RetryPolicy::new().total(0));
        assert_eq!(kept.body().unwrap_err(), StopReason::Disabled);
        assert_eq!(
            kept.headers(),
            HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("1"))])
        );
        assert_eq!(kept.again(HeaderMap::new(), &ReplayByTrait).unwrap_err(), StopReason::Disabled);
    }
}
