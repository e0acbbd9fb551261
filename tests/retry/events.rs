//! What the events and the span of a request say.

use std::{
    fmt,
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::Request;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::RetryLayer;

use crate::{
    fakes::{Body, answer, get, policy},
    listen::{Written, listen},
};

#[test]
fn an_event_an_attempt_and_one_a_decision_and_no_secret() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let seen = Written::default();
    let script = std::sync::Mutex::new(vec![Ok(200), Err(io::ErrorKind::ConnectionReset), Ok(503)]);
    let server = service_fn(|_: Request<Body>| {
        ready(script.lock().unwrap().pop().unwrap().map(answer).map_err(io::Error::from))
    });
    let subscriber = tracing_subscriber::registry().with(seen.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    listen(subscriber, || {
        runtime.block_on(RetryLayer::new(policy()).layer(server).oneshot(get())).unwrap();
    });
    let seen = seen.events.lock().unwrap();
    let wants: [&[&str]; 5] = [
        &["attempt=1", "status=503", "elapsed_ms="],
        &["attempt=1", "decision=\"retry\"", "delay_ms=0.0", "retries_left=2"],
        &["attempt=2", "error=read error", "elapsed_ms="],
        &["attempt=2", "decision=\"retry\"", "delay_ms=0.0", "retries_left=1"],
        &["attempt=3", "status=200", "elapsed_ms="],
    ];
    assert_eq!(seen.len(), wants.len(), "{seen:#?}");
    for (event, want) in seen.iter().zip(wants) {
        for part in want.iter().chain(&["method=GET", "uri=http://h.example/p "]) {
            assert!(event.contains(part), "no {part} in {event}");
        }
        assert!(!event.contains("secret"), "{event}");
    }
}

/// One span a request, with what the layers below say inside it.
#[test]
fn a_request_has_a_span_with_its_attempts_and_all_that_happens_in_it() {
    use std::{collections::BTreeMap, sync::Mutex};

    use tracing_subscriber::{layer::SubscriberExt as _, registry::LookupSpan};

    /// The fields of each span, and how many events came inside it.
    #[derive(Clone, Default)]
    struct Spans(Arc<Mutex<BTreeMap<u64, (String, usize)>>>);

    struct Text<'a>(&'a mut String);

    impl tracing::field::Visit for Text<'_> {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            self.0.push_str(&format!("{field}={value:?} "));
        }
    }

    impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
        fn on_new_span(
            &self,
            span: &tracing::span::Attributes<'_>,
            id: &tracing::span::Id,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            if span.metadata().target() == "tower_outbound::retry" {
                span.record(&mut Text(
                    &mut self.0.lock().unwrap().entry(id.into_u64()).or_default().0,
                ));
            }
        }

        fn on_record(
            &self,
            id: &tracing::span::Id,
            values: &tracing::span::Record<'_>,
            _: tracing_subscriber::layer::Context<'_, S>,
        ) {
            values
                .record(&mut Text(&mut self.0.lock().unwrap().entry(id.into_u64()).or_default().0));
        }

        fn on_event(
            &self,
            _: &tracing::Event<'_>,
            context: tracing_subscriber::layer::Context<'_, S>,
        ) {
            let span = context.lookup_current().expect("every event is inside a span");
            self.0.lock().unwrap().entry(span.id().into_u64()).or_default().1 += 1;
        }
    }

    let spans = Spans::default();
    let calls = AtomicUsize::new(0);
    let server = service_fn(|_: Request<Body>| {
        tracing::info!("called");
        let status = if calls.fetch_add(1, Relaxed) < 2 { 503 } else { 200 };
        async move {
            tokio::task::yield_now().await;
            tracing::info!("answered");
            Ok::<_, BoxError>(answer(status))
        }
    });
    listen(tracing_subscriber::registry().with(spans.clone()), || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(RetryLayer::new(policy()).layer(server).oneshot(get())).unwrap();
    });
    let spans = spans.0.lock().unwrap();
    let [(fields, events)] = &spans.values().collect::<Vec<_>>()[..] else {
        panic!("not one span: {spans:?}")
    };
    assert_eq!(fields, "method=GET uri=http://h.example/p attempts=1 attempts=2 attempts=3 ");
    // Of each attempt one of its own and two of the server's, and two decisions.
    assert_eq!(*events, 3 * 3 + 2);
}
