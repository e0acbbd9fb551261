//! What is kept of a request, so that it can be sent again as the caller made it.

use std::cell::RefCell;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{
    policy::{IDEMPOTENCY_KEY, Policy, StopReason},
    replay::Replay,
};

/// A request as the caller made it: what layers below added to an attempt is not in the next.
pub(super) struct Spare<B> {
    method: Method,
    uri: Uri,
    version: Version,
    headers: Lines,
    extensions: Extensions,
    body: B,
}

/// What is kept of a request that is sent once: enough for the policy to name a failure's reason.
pub(super) struct Once {
    method: Method,
    key: Option<HeaderValue>,
    // Why there is no second attempt, unless the policy has a reason of its own.
    pub(super) reason: StopReason,
}

/// What is kept of a request.
pub(super) type Kept<B> = Result<Spare<B>, Once>;

/// Keeps of a request what its policy may need.
pub(super) fn keep<B>(request: &Request<B>, policy: &impl Policy, replay: &impl Replay<B>) -> Kept<B> {
    let reason = if policy.may_retry(request.method(), request.headers()) {
        match replay.replay(request.body()) {
            Some(body) => return Ok(Spare::of(request, body)),
            None => StopReason::Body,
        }
    } else {
        StopReason::Disabled
    };
    let key = request.headers().get(&IDEMPOTENCY_KEY).cloned();
    Err(Once { method: request.method().clone(), key, reason })
}

/// The method and the headers that the policy is asked about.
pub(super) fn asked<B>(kept: &Kept<B>) -> (&Method, HeaderMap) {
    match kept {
        Ok(spare) => (&spare.method, spare.headers.to_map()),
        Err(once) => (&once.method, once.key.iter().map(|key| (IDEMPOTENCY_KEY, key.clone())).collect()),
    }
}

impl<B> Spare<B> {
    fn of(request: &Request<B>, body: B) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            headers: Lines::of(request.headers()),
            extensions: request.extensions().clone(),
            body,
        }
    }

    pub(super) const fn body(&self) -> &B {
        &self.body
    }

    /// The request again, with `headers`, which are a copy of its own, and a copy of its body.
    pub(super) fn request(&self, headers: HeaderMap, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = self.version;
        *request.headers_mut() = headers;
        *request.extensions_mut() = self.extensions.clone();
        request
    }
}

type Line = (HeaderName, HeaderValue);

/// Most lists that a thread keeps for its next requests, and the longest of them in lines: 300 KB at most.
const LISTS: usize = 128;
const LONGEST: usize = 32;

thread_local! {
    static LISTS_AT_HAND: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
}

/// Headers as a plain list, in memory that an earlier request of this thread has left: most requests need no second
/// attempt, and a header map would be two allocations and a hash table for each.
struct Lines(Vec<Line>);

impl Lines {
    fn of(headers: &HeaderMap) -> Self {
        if headers.is_empty() {
            return Self(Vec::new());
        }
        // A thread that ends has no lists any more, and needs none.
        let at_hand = LISTS_AT_HAND.try_with(|lists| lists.borrow_mut().pop());
        let mut lines = at_hand.ok().flatten().unwrap_or_default();
        lines.extend(headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self(lines)
    }

    fn to_map(&self) -> HeaderMap {
        // Lines of one name share a place, and too large a capacity is a panic.
        let mut headers = HeaderMap::with_capacity(self.0.len().min(LONGEST));
        for (name, value) in &self.0 {
            headers.append(name, value.clone());
        }
        headers
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let mut lines = std::mem::take(&mut self.0);
        if lines.capacity() == 0 || lines.capacity() > LONGEST {
            return;
        }
        // No value outlives its request.
        lines.clear();
        let _ = LISTS_AT_HAND.try_with(|lists| {
            let mut lists = lists.borrow_mut();
            if lists.len() < LISTS {
                lists.push(lines);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_gives_back_the_headers_it_was_made_of_in_their_order() {
        let mut many = HeaderMap::new();
        for n in 0..40_000 {
            many.append("x-one", n.into());
        }
        let mut sensitive = HeaderValue::from_static("secret");
        sensitive.set_sensitive(true);
        let rows = [
            HeaderMap::new(),
            HeaderMap::from_iter([("a".parse().unwrap(), sensitive)]),
            [("b", "1"), ("a", "2"), ("b", "3")].into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, HeaderValue::from_static(value));
                map
            }),
            many,
        ];
        for headers in rows {
            for _ in 0..2 {
                let lines = Lines::of(&headers);
                let map = lines.to_map();
                assert!(map == headers && map.iter().eq(headers.iter()));
                assert!(map.values().zip(headers.values()).all(|(a, b)| a.is_sensitive() == b.is_sensitive()));
            }
        }
    }

    #[test]
    fn what_a_thread_keeps_is_bounded_and_empty() {
        let headers: HeaderMap = [("a".parse().unwrap(), HeaderValue::from_static("secret"))].into_iter().collect();
        drop((0..2 * LISTS).map(|_| Lines::of(&headers)).collect::<Vec<_>>());
        LISTS_AT_HAND.with_borrow(|lists| {
            assert_eq!(lists.len(), LISTS);
            assert!(lists.iter().all(|list| list.is_empty() && list.capacity() <= LONGEST));
        });
    }
}
