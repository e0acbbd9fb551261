//! Prints a line per attempt, with a layer inside the retries and the hook `before_retry`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use http::{Request, Response, request};
use tower::{BoxError, Layer, Service};
use tower_outbound::retry::{AttemptNumber, AttemptRecord};

/// The hook for `RetryPolicy::before_retry`.
pub(crate) fn print_retry(_: &mut request::Parts, failed: &AttemptRecord) {
    if let (Some(failure), Some(delay)) = (failed.failure, failed.delay) {
        say!("  - retry: {failure}, delay_ms={:.1}", delay.as_secs_f64() * 1000.0);
    }
}

/// Prints each attempt.
#[derive(Clone, Copy)]
pub(crate) struct PrintAttempts;

impl<S> Layer<S> for PrintAttempts {
    type Service = Printed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Printed(inner)
    }
}

#[derive(Clone)]
pub(crate) struct Printed<S>(S);

impl<S, B, RB> Service<Request<B>> for Printed<S>
where
    S: Service<Request<B>, Response = Response<RB>, Future: Send + 'static>,
    S::Error: Into<BoxError>,
{
    type Response = Response<RB>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<RB>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let number = request.extensions().get().map_or(1, |AttemptNumber(number)| *number);
        let what = format!("  - attempt {number}: {} {}", request.method(), request.uri());
        let (began, call) = (Instant::now(), self.0.call(request));
        Box::pin(async move {
            let outcome = call.await.map_err(Into::into);
            let elapsed = began.elapsed().as_secs_f64() * 1000.0;
            match &outcome {
                Ok(response) => {
                    say!("{what} status={} elapsed_ms={elapsed:.1}", response.status().as_u16());
                }
                Err(error) => say!("{what} elapsed_ms={elapsed:.1} error: {error}"),
            }
            outcome
        })
    }
}
