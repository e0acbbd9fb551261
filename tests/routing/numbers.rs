//! Services that answer with a number, and clients that check which one answers.

use std::{convert::Infallible, future::ready, sync::Arc};

use http::{Request, Response};
use tower::{ServiceExt, service_fn, util::BoxCloneSyncService};
use tower_outbound::routing::{Mount, RoutingService};

pub(crate) type Below = BoxCloneSyncService<Request<()>, Response<usize>, Infallible>;
pub(crate) type Client = RoutingService<Below, (), usize>;

/// Answers with a number; 0 is the service below.
pub(crate) fn answers(number: usize) -> Below {
    Below::new(service_fn(move |_: Request<()>| ready(Ok(Response::new(number)))))
}

pub(crate) fn get(uri: &str) -> Request<()> {
    Request::get(uri).body(()).unwrap()
}

/// The service that answers, and the mount in the response.
pub(crate) async fn ask(client: &Client, uri: &str) -> (usize, Option<Arc<str>>) {
    let response = client.clone().oneshot(get(uri)).await.unwrap();
    let mount = response.extensions().get().map(|Mount(prefix)| Arc::clone(prefix));
    (response.into_body(), mount)
}
