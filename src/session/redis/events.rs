//! The stream of events, which keeps the connection alive while someone listens.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{sleep, timeout};

use super::nodes::{Nodes, PAUSE};
use crate::session::Event;

/// Connects, pings and reconnects while it is polled.
pub(super) struct Events<'a> {
    nodes: &'a Nodes,
    listener: u64,
    keep: Pin<Box<dyn Future<Output = Infallible> + Send + 'a>>,
}

impl<'a> Events<'a> {
    pub(super) fn new(nodes: &'a Nodes) -> Self {
        let listener = nodes.watch.listen();
        Self { nodes, listener, keep: Box::pin(keep_connected(nodes)) }
    }
}

async fn keep_connected(nodes: &Nodes) -> Infallible {
    let every = nodes.config.ping.max(Duration::from_millis(1));
    loop {
        match nodes.keep_home().await {
            // Until it is time to ping or to reconnect.
            Ok(_) => {
                if timeout(every, nodes.watch.lost.notified()).await.is_err() {
                    nodes.ping(every).await;
                }
            }
            Err(error) if error.may_pass() => sleep(PAUSE).await,
            // For example a wrong password: someone must correct it first.
            Err(_) => sleep(every).await,
        }
    }
}

impl Stream for Events<'_> {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // First: it may produce events. It has the same waker as the events.
        match self.keep.as_mut().poll(cx) {
            Poll::Ready(never) => match never {},
            Poll::Pending => self.nodes.watch.poll(cx).map(Some),
        }
    }
}

impl Drop for Events<'_> {
    fn drop(&mut self) {
        self.nodes.watch.stop_listening(self.listener);
    }
}
