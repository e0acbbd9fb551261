//! What is kept of a request, so that it can be sent again as the caller made it.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{
    decision::StopReason,
    policy::{IDEMPOTENCY_KEY, Policy},
    replay::Replay,
    witness::Watch,
};

/// A request as the caller made it. What inner layers add to one attempt is not in the next.
///
/// If the request is sent once, only the method and an `Idempotency-Key` are kept. The policy needs
/// them to name a reason.
pub(super) struct Kept<B> {
    method: Method,
    uri: Uri,
    version: Version,
    // A plain list. Most requests need no second attempt, and a clone of a header map is two
    // allocations and a hash table.
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
    // The body to copy, or why there is no second attempt.
    body: Result<B, StopReason>,
    // Watches the attempt that was sent last; `None` if the request may be processed twice.
    watch: Option<Watch>,
}

/// The parts of the next attempt that were copied for it. Only [`Kept`] makes one, so it belongs to
/// a request.
pub(super) struct Copied<B> {
    headers: HeaderMap,
    body: B,
}

impl<B> Kept<B> {
    /// Keeps what a second attempt needs of a request that is about to be sent, and watches it.
    pub(super) fn of(
        request: &mut Request<B>,
        policy: &impl Policy,
        replay: &impl Replay<B>,
    ) -> Self {
        let body = if policy.may_retry(request.method(), request.headers()) {
            replay.replay(request.body()).ok_or(StopReason::Body)
        } else {
            Err(StopReason::Disabled)
        };
        let method = request.method().clone();
        if body.is_err() {
            // The key decides whether the reason is the method.
            let key = request.headers().get(&IDEMPOTENCY_KEY);
            let headers = key.map(|key| (IDEMPOTENCY_KEY, key.clone())).into_iter().collect();
            return Self {
                method,
                uri: Uri::default(),
                version: Version::default(),
                headers,
                extensions: Extensions::new(),
                body,
                // It is never repeated, so no error needs a proof.
                watch: None,
            };
        }
        Self {
            method,
            uri: request.uri().clone(),
            version: request.version(),
            headers: list(request.headers()),
            // Before the witness is put in: each attempt has its own.
            extensions: request.extensions().clone(),
            body,
            watch: Watch::of(request, policy),
        }
    }

    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    /// The URI; `None` for a request that is sent once.
    pub(super) fn uri(&self) -> Option<&Uri> {
        self.body.is_ok().then_some(&self.uri)
    }

    /// The headers. If the request is sent once, only the `Idempotency-Key`.
    pub(super) fn headers(&self) -> HeaderMap {
        // The capacity counts names, and panics past 32,768. The list counts values, and a name may
        // have many. Few requests have more than 32 headers; a longer map grows.
        let mut map = HeaderMap::with_capacity(self.headers.len().min(32));
        for (name, value) in &self.headers {
            map.append(name, value.clone());
        }
        map
    }

    /// The body to copy, or why there will be no copy.
    pub(super) fn body(&self) -> Result<&B, StopReason> {
        self.body.as_ref().map_err(|reason| *reason)
    }

    /// A copy of the body for another attempt, or why there is none. `headers` are the
    /// [request's own](Self::headers).
    pub(super) fn copy(
        &self,
        headers: HeaderMap,
        replay: &impl Replay<B>,
    ) -> Result<Copied<B>, StopReason> {
        let body = replay.replay(self.body()?).ok_or(StopReason::Body)?;
        Ok(Copied { headers, body })
    }

    /// The watch on the attempt that was sent last, if it has one.
    pub(super) const fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// The request again, with what was [copied](Self::copy) for it, under a new watch.
    pub(super) fn request(&mut self, copied: Copied<B>, policy: &impl Policy) -> Request<B> {
        let mut request = Request::new(copied.body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = copied.headers;
        *request.extensions_mut() = self.extensions.clone();
        self.watch = Watch::of(&mut request, policy);
        request
    }
}

fn list(headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    let mut list = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        list.push((name.clone(), value.clone()));
    }
    list
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
        Kept::of(&mut request, policy, &ReplayByTrait)
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
                let mut kept = kept(headers, &RetryPolicy::new());
                let copied = kept.copy(kept.headers(), &ReplayByTrait).ok().unwrap();
                let request = kept.request(copied, &RetryPolicy::new());
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
        let copied = kept.copy(HeaderMap::new(), &ReplayByTrait);
        assert_eq!(copied.err(), Some(StopReason::Disabled));
    }
}
