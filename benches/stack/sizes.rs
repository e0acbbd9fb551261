//! What a service and its future weigh, in bytes: by their types, and on the heap while a request
//! is in flight.

use std::{
    future::{Future, Pending, pending},
    io, iter,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use http::{HeaderValue, Request, header};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::TokioExecutor,
};
use tower::{Layer, Service};
use tower_outbound::{
    cookie::CookieLayer,
    retry::{RetryLayer, RetryPolicy},
    routing::RoutingLayer,
};

use super::{
    budget,
    clients::{self, Body, HOST, ThreeTimes, WithStore},
    runtime,
};

/// No name is ever found, so that no request gets beyond its first poll.
#[derive(Clone)]
struct Nowhere;

impl Service<Name> for Nowhere {
    type Response = iter::Empty<SocketAddr>;
    type Error = io::Error;
    type Future = Pending<io::Result<iter::Empty<SocketAddr>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        pending()
    }
}

/// Prints the sizes. Those on the heap are the mean of this many requests.
pub(crate) fn report(requests: usize) {
    println!(
        "{:<48} {:>12} {:>7} {:>15} {:>20}",
        "bytes, of a request in flight", "service", "future", "all on the heap", "beyond hyper's"
    );
    let runtime = runtime();
    let _entered = runtime.enter();
    let origin = format!("http://{HOST}");
    let client: Client<_, Body> =
        Client::builder(TokioExecutor::new()).build(HttpConnector::new_with_resolver(Nowhere));
    let retry = RetryLayer::new(RetryPolicy::new());
    let other = "http://other.example";
    let jar = clients::jar(other);
    let cookies = CookieLayer::new(jar.clone());
    let mounts = |prefix: &str| {
        let mounts = RoutingLayer::builder().mount_service(prefix, client.clone());
        mounts.build().expect("a mount").layer(client.clone())
    };
    let towers = tower::retry::RetryLayer::new(ThreeTimes::new(Some(budget())));

    let mut table = Table { requests, of_hyper: None };
    table.row("the hyper client alone", &client);
    table.row("tower's retry", &towers.layer(client.clone()));
    table.row("a mutex around cookie_store", &WithStore::new(client.clone()));
    let both = towers.layer(WithStore::new(client.clone()));
    table.row("tower's retry, a mutex around cookie_store", &both);
    table.row("cookies", &cookies.layer(client.clone()));
    table.row("retries", &retry.layer(client.clone()));
    table.row("retries, cookies", &retry.layer(cookies.layer(client.clone())));
    table.row("mounts, none of which serves it", &mounts(other));
    table.row("mounts, one of which serves it", &mounts(&origin));
    let stack = clients::stack(client.clone(), jar, other, RetryPolicy::new());
    table.row("the whole stack", &stack);
}

struct Table {
    requests: usize,
    of_hyper: Option<f64>,
}

impl Table {
    fn row<S>(&mut self, name: &str, service: &S)
    where
        S: Service<Request<Body>> + Clone,
    {
        // Grows what all requests share, and makes the Cookie header that is kept.
        let warm: Vec<_> = (0..self.requests).map(|_| in_flight(service)).collect();
        let future = size_of_val(&*warm[0]);
        drop(warm);
        let mut held = Vec::with_capacity(self.requests);
        let counted = allocation_counter::measure(|| {
            held.extend((0..self.requests).map(|_| in_flight(service)));
        });
        let heap = counted.bytes_current as f64 / self.requests as f64;
        let beyond = heap - *self.of_hyper.get_or_insert(heap);
        let service = size_of::<S>();
        println!("  {name:<46} {service:>12} {future:>7} {heap:>15.0} {beyond:>20.0}");
    }
}

/// A request that has been polled once, in a box.
fn in_flight<S>(service: &S) -> Pin<Box<S::Future>>
where
    S: Service<Request<Body>> + Clone,
{
    let (mut service, mut context) = (service.clone(), Context::from_waker(Waker::noop()));
    assert!(service.poll_ready(&mut context).is_ready(), "it has no limit");
    let request = Request::get(format!("http://{HOST}/items/42"))
        .header(header::ACCEPT, HeaderValue::from_static("application/json"));
    let mut future = Box::pin(service.call(request.body(Body::default()).expect("a request")));
    assert!(future.as_mut().poll(&mut context).is_pending(), "its name is never found");
    future
}
