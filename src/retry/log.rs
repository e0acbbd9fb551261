//! The events of this wing, under the feature `tracing`: a span for each request, and in it an
//! event for each attempt and for each decision.

#[cfg(feature = "tracing")]
pub(super) use with_tracing::{Log, Span};
#[cfg(not(feature = "tracing"))]
pub(super) use without::{Log, Span};

#[cfg(feature = "tracing")]
mod with_tracing {
    use std::time::Duration;

    use http::{Method, Request, Uri};
    pub(in super::super) use tracing::Span;
    use tracing::{Level, field::Empty};

    use super::super::{decision::Decision, history::AttemptRecord};

    use crate::authority::Redacted;

    const TARGET: &str = "tower_outbound::retry";

    /// The names that events give a request, and its span. `None` if no subscriber listens.
    pub(in super::super) struct Log(Option<Box<Listened>>);

    struct Listened {
        method: Method,
        uri: Uri,
        span: Span,
        // The attempts that have ended.
        attempts: u32,
    }

    /// Records the attempts once, since a subscriber appends a value that is recorded again. On
    /// drop, so that the number is recorded for a cancelled request too.
    impl Drop for Listened {
        fn drop(&mut self) {
            if self.attempts > 0 {
                self.span.record("attempts", self.attempts);
            }
        }
    }

    /// Milliseconds to one decimal: more would mean nothing.
    fn millis(time: Duration) -> f64 {
        (time.as_secs_f64() * 10_000.0).round() / 10.0
    }

    impl Log {
        pub(in super::super) fn of<B>(request: &Request<B>) -> Self {
            if !tracing::enabled!(target: TARGET, Level::DEBUG) {
                return Self(None);
            }
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let span = tracing::debug_span!(target: TARGET, "request", %method, uri = %Redacted(&uri), attempts = Empty);
            Self(Some(Box::new(Listened { method, uri, span, attempts: 0 })))
        }

        pub(in super::super) const fn listens(&self) -> bool {
            self.0.is_some()
        }

        /// The span of the request. The layers below report their events in it.
        pub(in super::super) fn span(&self) -> Option<Span> {
            self.0.as_ref().map(|listened| listened.span.clone())
        }

        pub(in super::super) fn attempt(&mut self, attempt: &AttemptRecord) {
            let Some(listened) = &mut self.0 else { return };
            listened.attempts = attempt.number;
            let Listened { method, uri, .. } = &**listened;
            let (number, uri, elapsed_ms) =
                (attempt.number, Redacted(uri), millis(attempt.elapsed));
            match (attempt.status, attempt.failure) {
                (Some(status), _) => tracing::debug!(
                    target: TARGET, attempt = number, %method, %uri, status = status.as_u16(), elapsed_ms, "attempt"
                ),
                (None, Some(error)) => tracing::debug!(
                    target: TARGET, attempt = number, %method, %uri, %error, elapsed_ms, "attempt"
                ),
                // An error that a `classify` of the caller's own does not count as a failure.
                (None, None) => tracing::debug!(
                    target: TARGET, attempt = number, %method, %uri, error = "no failure", elapsed_ms, "attempt"
                ),
            }
        }

        pub(in super::super) fn decision(
            &self,
            number: u32,
            decision: Decision,
            retries_left: Option<u32>,
        ) {
            let Some(listened) = &self.0 else { return };
            let (method, uri) = (&listened.method, Redacted(&listened.uri));
            match decision {
                Decision::Retry { after } => tracing::debug!(
                    target: TARGET, attempt = number, %method, %uri, decision = "retry",
                    delay_ms = millis(after), retries_left, "retry"
                ),
                Decision::Return(reason) => tracing::debug!(
                    target: TARGET, attempt = number, %method, %uri, decision = "return", %reason, retries_left,
                    "no retry"
                ),
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod without {
    use http::Request;

    use super::super::{decision::Decision, history::AttemptRecord};

    pub(in super::super) struct Log;

    /// There are no spans.
    pub(in super::super) enum Span {}

    impl Span {
        pub(in super::super) fn enter(&self) {
            match *self {}
        }
    }

    impl Log {
        pub(in super::super) const fn of<B>(_request: &Request<B>) -> Self {
            Self
        }

        pub(in super::super) const fn listens(&self) -> bool {
            false
        }

        pub(in super::super) const fn span(&self) -> Option<Span> {
            None
        }

        pub(in super::super) const fn attempt(&mut self, _: &AttemptRecord) {}

        pub(in super::super) const fn decision(&self, _: u32, _: Decision, _: Option<u32>) {}
    }
}
