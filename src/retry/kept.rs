//! What is kept of a request, so that it can be sent again as the caller made it.

use std::cell::RefCell;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{
    decision::StopReason,
    policy::{IDEMPOTENCY_KEY, Policy},
    replay::Replay,
};

/// A request as the caller made it: what layers below added to an attempt is not in the next.
///
/// Of a request that is sent once it holds no more than the policy needs to name a failure's
/// reason.
pub(super) struct Kept<B> {
    // A pointer, since a future is moved before it is polled. There is always one until the drop.
    head: Option<Box<Head>>,
    // Why there is no second attempt, unless the policy has a reason of its own.
    body: Result<B, StopReason>,
}

impl<B> Kept<B> {
    /// Keeps of a request what its policy may need.
    pub(super) fn of(request: &Request<B>, policy: &impl Policy, replay: &impl Replay<B>) -> Self {
        let body = if policy.may_retry(request.method(), request.headers()) {
            replay.replay(request.body()).ok_or(StopReason::Body)
        } else {
            Err(StopReason::Disabled)
        };
        let mut head = at_hand();
        head.method.clone_from(request.method());
        if body.is_ok() {
            head.uri = Some(request.uri().clone());
            head.version = request.version();
            head.extensions.clone_from(request.extensions());
            // Exactly, so that a list of most requests' length stays one to keep.
            head.lines.reserve_exact(request.headers().len());
            for (name, value) in request.headers() {
                head.lines.push((name.clone(), value.clone()));
            }
        } else if let Some(key) = request.headers().get(&IDEMPOTENCY_KEY) {
            head.lines.push((IDEMPOTENCY_KEY, key.clone()));
        }
        Self { head: Some(head), body }
    }

    pub(super) fn method(&self) -> &Method {
        self.head.as_ref().map_or(&Method::GET, |head| &head.method)
    }

    /// The headers, or of a request that is sent once its `Idempotency-Key`.
    pub(super) fn headers(&self) -> HeaderMap {
        let lines = self.head.as_ref().map_or(&[][..], |head| &head.lines);
        // Lines of one name share a place, and too large a capacity is a panic.
        let mut headers = HeaderMap::with_capacity(lines.len().min(LONGEST));
        for (name, value) in lines {
            headers.append(name, value.clone());
        }
        headers
    }

    /// The body to make copies of, or why there will be none.
    pub(super) fn body(&self) -> Result<&B, StopReason> {
        self.body.as_ref().map_err(|reason| *reason)
    }

    /// The request again, with a copy of its [`headers`](Self::headers) and its body.
    pub(super) fn request(&self, headers: HeaderMap, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.headers_mut() = headers;
        if let Some(head) = &self.head {
            *request.method_mut() = head.method.clone();
            *request.uri_mut() = head.uri.clone().unwrap_or_default();
            *request.version_mut() = head.version;
            *request.extensions_mut() = head.extensions.clone();
        }
        request
    }
}

impl<B> Drop for Kept<B> {
    /// Leaves the memory to a later request of this thread, and no value in it.
    fn drop(&mut self) {
        let Some(mut head) = self.head.take().filter(|head| head.lines.capacity() <= LONGEST)
        else {
            return;
        };
        head.lines.clear();
        head.uri = None;
        head.extensions = Extensions::new();
        let _ = AT_HAND.try_with(|heads| {
            let mut heads = heads.borrow_mut();
            if heads.len() < HEADS {
                heads.push(head);
            }
        });
    }
}

/// Headers as a plain list: most requests need no second attempt, and a header map would be two
/// allocations and a hash table for each.
#[derive(Default)]
struct Head {
    method: Method,
    uri: Option<Uri>,
    version: Version,
    lines: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

/// Most heads that a thread keeps for its next requests, and the longest of them in lines: 320 KB
/// at most.
const HEADS: usize = 128;
const LONGEST: usize = 32;

thread_local! {
    // Boxed, since it is the boxes that are used again.
    #[allow(clippy::vec_box)]
    static AT_HAND: RefCell<Vec<Box<Head>>> = const { RefCell::new(Vec::new()) };
}

/// A head in memory that an earlier request of this thread has left.
fn at_hand() -> Box<Head> {
    // A thread that ends has none any more, and needs none.
    AT_HAND.try_with(|heads| heads.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::{
        super::{policy::RetryPolicy, replay::ReplayByTrait},
        *,
    };

    fn kept(
        headers: &HeaderMap,
        policy: &RetryPolicy,
    ) -> Kept<http_body_util::Empty<&'static [u8]>> {
        let mut request = Request::new(http_body_util::Empty::new());
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
        let rows = [
            HeaderMap::new(),
            HeaderMap::from_iter([("a".parse().unwrap(), sensitive)]),
            [("b", "1"), ("a", "2"), ("b", "3")].into_iter().fold(
                HeaderMap::new(),
                |mut map, (name, value)| {
                    map.append(name, HeaderValue::from_static(value));
                    map
                },
            ),
            many,
        ];
        for headers in rows {
            for _ in 0..2 {
                let kept = kept(&headers, &RetryPolicy::new());
                let request = kept.request(kept.headers(), http_body_util::Empty::new());
                let map = request.headers();
                assert!(*map == headers && map.iter().eq(headers.iter()));
                assert!(
                    map.values()
                        .zip(headers.values())
                        .all(|(a, b)| a.is_sensitive() == b.is_sensitive())
                );
                assert_eq!(request.uri(), "http://u:secret@h/p?q");
            }
        }
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
    }

    #[test]
    fn what_a_thread_keeps_is_bounded_and_empty() {
        let headers: HeaderMap =
            [("a".parse().unwrap(), HeaderValue::from_static("secret"))].into_iter().collect();
        drop((0..2 * HEADS).map(|_| kept(&headers, &RetryPolicy::new())).collect::<Vec<_>>());
        AT_HAND.with_borrow(|heads| {
            assert_eq!(heads.len(), HEADS);
            let empty = |head: &Head| {
                head.lines.is_empty() && head.uri.is_none() && head.extensions.is_empty()
            };
            assert!(heads.iter().all(|head| empty(head) && head.lines.capacity() <= LONGEST));
        });
    }
}
