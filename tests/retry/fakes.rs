//! The requests that the tests of retries send, and their servers.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, request};
use http_body_util::Full;
use tower::{Layer, Service};
use tower_outbound::retry::{Backoff, RetryHistory, RetryLayer, RetryPolicy, RetryService};

use crate::strict::Strict;

pub(crate) type Body = Full<Bytes>;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Retries at once, as often as the default allows.
pub(crate) fn policy() -> RetryPolicy {
    RetryPolicy::new().no_budget().backoff(Backoff::none())
}

pub(crate) fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("http://u:secret@h.example/p?q=secret")
        .body(Body::from("body"))
        .unwrap()
}

pub(crate) fn get() -> Request<Body> {
    request(Method::GET)
}

pub(crate) fn answer(status: u16) -> Response<Body> {
    Response::builder().status(status).body(Body::from("answer")).unwrap()
}

pub(crate) fn history<B>(response: &Response<B>) -> &RetryHistory {
    response.extensions().get().expect("an attempt failed")
}

pub(crate) type Answer = Result<u16, io::ErrorKind>;

/// Answers from a list, then with 200; keeps the heads of what it was sent.
///
/// A 429 asks for three seconds.
#[derive(Clone, Default)]
pub(crate) struct Server {
    script: Arc<Mutex<VecDeque<Answer>>>,
    seen: Arc<Mutex<Vec<request::Parts>>>,
}

impl Server {
    pub(crate) fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), seen: Arc::default() }
    }

    /// The server, as a client that panics if a call does not follow its own readiness.
    pub(crate) fn strict(&self) -> Strict<Self> {
        Strict::new(self.clone(), 1)
    }

    pub(crate) fn sent(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// Calls `look` with the heads it was sent.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&[request::Parts]) -> T) -> T {
        look(&self.seen.lock().unwrap())
    }
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = Ready<io::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // A header that an inner layer would add. The next attempt must not have it.
        let came_back = request.headers_mut().append("x-inner", HeaderValue::from_static("added"));
        assert!(!came_back, "what a layer further in adds comes back");
        self.seen.lock().unwrap().push(request.into_parts().0);
        ready(match self.script.lock().unwrap().pop_front().unwrap_or(Ok(200)) {
            Ok(status) => {
                let mut response = answer(status);
                if status == 429 {
                    response.headers_mut().insert("retry-after", HeaderValue::from_static("3"));
                }
                Ok(response)
            }
            Err(kind) => Err(kind.into()),
        })
    }
}

/// The layer around the server, which panics if a call does not follow its own readiness.
pub(crate) fn client(policy: RetryPolicy, server: &Server) -> RetryService<Strict<Server>> {
    RetryLayer::new(policy).layer(server.strict())
}

/// Counts how many of its tokens live.
#[derive(Clone, Default)]
pub(crate) struct Live(Arc<AtomicUsize>);

impl Live {
    pub(crate) fn one(&self) -> Token {
        self.0.fetch_add(1, Relaxed);
        Token(Arc::clone(&self.0))
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Relaxed)
    }
}

pub(crate) struct Token(Arc<AtomicUsize>);

impl Drop for Token {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
