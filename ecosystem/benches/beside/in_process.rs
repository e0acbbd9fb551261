//! What the layers cost around a service that is ready at once: no connection, no runtime's work.

use std::{
    future::{Future, Ready, ready},
    hint::black_box,
    pin::Pin,
    task::{Context, Poll},
};

use http::{Extensions, HeaderValue, Request, Response, Uri, header};
use reqwest_middleware::{ClientBuilder, Next};
use serde::{Deserialize, Serialize};
use tower::{BoxError, Service, ServiceExt};

use super::{
    clients, count, runtime,
    server::JSON,
    stack::{self, Body, HOST, ThreeTimes, WithStore},
};

/// Per request, beyond the service alone.
#[derive(Serialize, Deserialize)]
pub(crate) struct Layers {
    /// `None` without valgrind.
    pub(crate) instructions: Option<f64>,
    pub(crate) allocations: f64,
}

/// How often a number of requests of one client allocate. `None` for reqwest,
/// which needs its own connections.
pub(crate) fn run(number: usize, requests: u32) -> Option<u64> {
    let service = Answers;
    match number {
        0 => Some(all(&service, requests)),
        1 => Some(all(&tower::retry::Retry::new(ThreeTimes::new(None), service), requests)),
        2 => {
            let cookies = WithStore::new(service);
            Some(all(&tower::retry::Retry::new(ThreeTimes::new(None), cookies), requests))
        }
        3 => None,
        4 => Some(all_by_middleware(requests)),
        _ => {
            let other = "http://other.example";
            let (jar, policy) = (stack::jar(other), clients::policy());
            Some(all(&stack::stack(service, jar, other, policy), requests))
        }
    }
}

/// Of the client of that number.
pub(crate) fn counted(number: usize) -> Option<Layers> {
    const REQUESTS: u32 = 1_000;
    let slope = |few: u64, many: u64| (many - few) as f64 / f64::from(2 * REQUESTS);
    let allocations = |number| Some(slope(run(number, REQUESTS)?, run(number, 3 * REQUESTS)?));
    let instructions = |number: usize| {
        let collected = |requests: u32| {
            count::collected(&["layers".to_owned(), number.to_string(), requests.to_string()])
        };
        Some(slope(collected(REQUESTS)?.all, collected(3 * REQUESTS)?.all))
    };
    Some(Layers {
        allocations: allocations(number)? - allocations(0)?,
        instructions: instructions(number).zip(instructions(0)).map(|(own, bare)| own - bare),
    })
}

#[derive(Clone)]
struct Answers;

impl Service<Request<Body>> for Answers {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Ready<Result<Response<Body>, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    // A client is not compiled into the layer around it.
    #[inline(never)]
    fn call(&mut self, request: Request<Body>) -> Self::Future {
        drop(black_box(request));
        ready(Ok(answer()))
    }
}

fn answer() -> Response<Body> {
    let mut answer = Response::new(Body::from(JSON));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn all<S>(service: &S, requests: u32) -> u64
where
    S: Service<Request<Body>> + Clone,
    S::Error: Into<BoxError>,
{
    let uri: Uri = format!("http://{HOST}/items/42").parse().expect("a URI");
    counting(requests, async || {
        let answer = service.clone().oneshot(clients::get(&uri)).await;
        drop(black_box(answer.map_err(Into::into).expect("an answer")));
    })
}

/// reqwest-retry alone: reqwest's jar is below it, with the connections.
fn all_by_middleware(requests: u32) -> u64 {
    type Answered<'a> =
        Pin<Box<dyn Future<Output = reqwest_middleware::Result<reqwest::Response>> + Send + 'a>>;
    fn answers<'a>(request: reqwest::Request, _: &'a mut Extensions, _: Next<'a>) -> Answered<'a> {
        drop(black_box(request));
        Box::pin(ready(Ok(answer().map(reqwest::Body::wrap).into())))
    }
    let client =
        ClientBuilder::new(reqwest::Client::new()).with(clients::transient()).with(answers).build();
    let url: url::Url = format!("http://{HOST}/items/42").parse().expect("a URL");
    counting(requests, async || {
        let request = client.get(url.clone()).header(header::ACCEPT, "application/json");
        drop(black_box(request.send().await.expect("an answer")));
    })
}

fn counting(requests: u32, one: impl AsyncFn()) -> u64 {
    let runtime = runtime();
    let some = async |requests| {
        for _ in 0..requests {
            one().await;
        }
    };
    // Makes the Cookie header that is kept.
    runtime.block_on(some(1));
    allocation_counter::measure(|| runtime.block_on(some(requests))).count_total
}
