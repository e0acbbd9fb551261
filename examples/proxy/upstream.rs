//! The client side: one pool, jars per request, and for each mount its upstream, retries and
//! counters.

use std::{error::Error, fmt, io, sync::Arc};

use http::{
    Request, Response,
    header::{CONTENT_LOCATION, LOCATION},
};
use hyper::body::Incoming;
use hyper_util::{client::legacy, rt::TokioExecutor};
use tower::{BoxError, Layer, ServiceBuilder, timeout::error::Elapsed, util::BoxCloneSyncService};
use tower_outbound::{
    CookieLayer, RetryLayer,
    retry::{Failure, ReplayBody, RetryError, RetryHistory, StopReason},
    routing::{MountChanges, MountPrefix, RoutingHandle, RoutingLayer, RoutingService},
};

use crate::{
    metrics::{Counters, Metrics},
    table::{Mount, Table, Upstream},
    upload::{Client, Upload},
};

/// A client's body, kept while it is sent, so that it can be sent again.
pub(crate) type Sent = ReplayBody<Upload>;
type Answer = Response<Incoming>;
type Shared = BoxCloneSyncService<Request<Sent>, Answer, legacy::Error>;
pub(crate) type Routes = RoutingService<Shared, Sent, Incoming>;

/// No mounts yet. A request for none of them goes nowhere, and one with dot segments neither:
/// upstreams do not all read these alike.
pub(crate) fn routes() -> Result<Routes, BoxError> {
    let client = legacy::Client::builder(TokioExecutor::new()).build_http();
    let shared = Shared::new(CookieLayer::per_request().layer(client));
    Ok(RoutingLayer::builder().strict().reject_dot_segments().build()?.layer(shared))
}

/// Puts the mounts of a table in the place of those that there are, in one step. Mounts that are
/// written as before keep their budget.
pub(crate) fn replace(
    handle: &RoutingHandle<Shared, Sent, Incoming>,
    table: &Table,
    metrics: &Metrics,
) -> Result<(), BoxError> {
    handle.replace(|mounts| {
        table.mounts.iter().fold(mounts, |mounts, (prefix, mount)| {
            add(mounts, prefix, mount, metrics.of(prefix.as_str()))
        })
    })?;
    Ok(())
}

fn add(
    mounts: MountChanges<Shared, Sent, Incoming>,
    prefix: &MountPrefix,
    mount: &Mount,
    counters: Arc<Counters>,
) -> MountChanges<Shared, Sent, Incoming> {
    let (upstream, there, of_attempts) =
        (mount.upstream.clone(), mount.upstream.clone(), Arc::clone(&counters));
    let (name, of_results) = (prefix.clone(), Arc::clone(&counters));
    let layer = ServiceBuilder::new()
        .map_request(move |mut request: Request<Sent>| {
            counters.requests.add();
            *request.uri_mut() = upstream.uri(request.uri());
            request
        })
        .map_result(move |result: Result<Answer, BoxError>| {
            if refused_by_budget(&result) {
                of_results.refused.add();
            }
            result
                .map(|answer| public(answer, &there))
                .map_err(|error| BoxError::from(Failed::of(&name, error)))
        })
        .layer(RetryLayer::new(mount.retry.clone()))
        .map_request(move |request: Request<Sent>| {
            of_attempts.attempts.add();
            if let Some(client) = request.extensions().get::<Client>() {
                client.begin();
            }
            request
        })
        .into_inner();
    mounts.mount_keyed(prefix.clone(), mount.written.as_str(), layer)
}

fn refused_by_budget(result: &Result<Answer, BoxError>) -> bool {
    let history = match result {
        Ok(answer) => answer.extensions().get::<RetryHistory>(),
        Err(error) => error.downcast_ref().map(RetryError::history),
    };
    history.is_some_and(|history| history.stop_reason() == StopReason::Budget)
}

/// What the upstream calls by its own name is found at the proxy.
fn public(mut answer: Answer, upstream: &Upstream) -> Answer {
    for name in [LOCATION, CONTENT_LOCATION] {
        let location = answer.headers().get(&name).and_then(|location| location.to_str().ok());
        if let Some(value) = location.and_then(|location| upstream.public(location)?.parse().ok()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}

/// An upstream did not answer. `Display` is for clients: it names the mount, and no address.
#[derive(Debug)]
pub(crate) struct Failed {
    mount: MountPrefix,
    error: BoxError,
}

impl Failed {
    fn of(mount: &MountPrefix, error: BoxError) -> Self {
        Self { mount: mount.clone(), error }
    }

    /// Whether it had its time, and did not.
    pub(crate) fn is_late(&self) -> bool {
        match self.error.downcast_ref().map(RetryError::history) {
            Some(history) => {
                history.attempts().last().is_some_and(|last| last.failure == Some(Failure::Timeout))
            }
            None => self.error.is::<Elapsed>(),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the upstream of {} did not answer: ", self.mount)?;
        match self.error.downcast_ref::<RetryError>() {
            Some(retries) => match retries.source() {
                Some(error) => write!(f, "{retries}: {}", root(error)),
                None => write!(f, "{retries}"),
            },
            None => f.write_str(&root(&*self.error)),
        }
    }
}

impl Error for Failed {}

/// What went wrong at the bottom of it. An `io::Error` with an error inside it does not count that
/// among its sources.
fn root(error: &(dyn Error + 'static)) -> String {
    let inner = error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
        .map(|inner| inner as &(dyn Error + 'static));
    inner.or_else(|| error.source()).map_or_else(|| error.to_string(), root)
}
