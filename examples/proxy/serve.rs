//! Accepts connections of clients, bounds them, and closes them at the end.

use std::{
    convert::Infallible, io, net::SocketAddr, num::NonZero, sync::Arc, thread, time::Duration,
};

use axum::serve::Listener;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{self, Handle},
    sync::watch,
};
use tokio_io_timeout::TimeoutStream;
use tower::BoxError;

use crate::turn::{InTurn, Turn};

/// The longest head of a request, in bytes. hyper reads at most a hundred headers.
const LONGEST_HEAD: usize = 32 * 1024;

/// How long the proxy waits for a client.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
}

/// The threads that serve connections.
pub(crate) struct Workers(Vec<Handle>);

impl Workers {
    /// This runtime alone.
    pub(crate) fn here() -> Self {
        Self(vec![Handle::current()])
    }

    /// Threads with a runtime each. A connection and those to its upstreams stay on one thread, so
    /// that no core waits for another.
    ///
    /// One listener gives each thread the next connection in turn. With a listener for each thread
    /// (`SO_REUSEPORT`) some threads would get many more connections than others.
    pub(crate) fn start(threads: NonZero<usize>) -> io::Result<Self> {
        let worker = |number| {
            let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
            let handle = runtime.handle().clone();
            let run = move || runtime.block_on(std::future::pending::<()>());
            thread::Builder::new().name(format!("worker-{number}")).spawn(run)?;
            Ok(handle)
        };
        (0..threads.get()).map(worker).collect::<io::Result<_>>().map(Self)
    }
}

/// Serves until the other side of `ended` is dropped and the last connection is closed. A
/// connection is closed if no head of a request arrives in time, or if the client does not read its
/// answer.
pub(crate) async fn serve<S, B>(
    mut listener: TcpListener,
    workers: Workers,
    patience: Patience,
    mut ended: watch::Receiver<()>,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S: Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    let connections = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    // `Turn` bounds the time for heads. hyper would set a timer for each request.
    http.header_read_timeout(None)
        .max_header_size(LONGEST_HEAD)
        .max_buf_size(LONGEST_HEAD)
        // A client that has closed its sending side still reads its answer.
        .half_close(true);
    for worker in workers.0.iter().cycle() {
        let (stream, peer) = tokio::select! {
            accepted = Listener::accept(&mut listener) => accepted,
            _ = ended.changed() => break,
        };
        // Otherwise the last piece of an answer waits for the client's delayed ACK, 40 ms or more.
        let _ = stream.set_nodelay(true);
        // Moves the socket from this runtime to that of the worker.
        let Ok(stream) = stream.into_std() else { continue };
        let (http, watcher, service) = (http.clone(), connections.watcher(), service(peer));
        worker.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else { return };
            let mut stream = TimeoutStream::new(stream);
            stream.set_write_timeout(Some(patience.idle));
            let turn = Arc::new(Turn::client());
            let service = InTurn { service, turn: Arc::clone(&turn) };
            let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
            tokio::select! {
                _ = watcher.watch(connection) => {}
                () = turn.is_late(patience.head) => {}
            }
        });
    }
    // From now on the system refuses connections.
    drop(listener);
    connections.shutdown().await;
}
