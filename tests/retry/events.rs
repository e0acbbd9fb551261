//! The events and the span of a request.

use std::{
    fmt,
    future::ready,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::Request;
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tower_outbound::retry::{Backoff, RetryLayer};

use crate::{
    fakes::{Body, answer, get, policy},
    listen::{Written, listen},
    rows,
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

/// One span per request. The events of the layers below are inside it.
#[test]
fn a_request_has_a_span_with_its_attempts_once_and_all_that_happens_in_it() {
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

    // How many attempts end, whether the request is dropped during the next one, and the field.
    let rows = [(3, false, "attempts=3 "), (2, true, "attempts=2 "), (0, true, "")];
    rows::hold(rows, |(ended, is_dropped, want)| {
        let spans = Spans::default();
        let calls = AtomicUsize::new(0);
        let server = service_fn(|_: Request<Body>| {
            tracing::info!("called");
            let call = calls.fetch_add(1, Relaxed);
            async move {
                if call == ended {
                    std::future::pending::<()>().await;
                }
                tokio::task::yield_now().await;
                tracing::info!("answered");
                Ok::<_, BoxError>(answer(if call < 2 { 503 } else { 200 }))
            }
        });
        listen(tracing_subscriber::registry().with(spans.clone()), || {
            let mut call =
                tokio_test::task::spawn(RetryLayer::new(policy()).layer(server).oneshot(get()));
            let polls = (0..100).take_while(|_| call.poll().is_pending()).count();
            assert_eq!(polls == 100, is_dropped);
        });
        let spans = spans.0.lock().unwrap();
        let got: Vec<_> = spans.values().cloned().collect();
        let want = format!("method=GET uri=http://h.example/p {want}");
        // Each attempt has one event of its own and two of the server. There are two decisions.
        let events = if is_dropped { ended * 4 + 1 } else { 3 * 3 + 2 };
        (format!("{ended} ended, dropped {is_dropped}"), got, vec![(want, events)])
    });
}

/// Always a tenth of a millisecond.
#[tokio::test(start_paused = true)]
async fn times_are_milliseconds_with_one_decimal() {
    use tracing_subscriber::layer::SubscriberExt as _;
    let times = [(0, "0.0"), (40, "0.0"), (60, "0.1"), (1_234, "1.2"), (1_250_060, "1250.1")];
    rows::hold(times, |(micros, want)| {
        let seen = Written::default();
        let policy = policy().total(1).backoff(Backoff::constant(Duration::from_micros(micros)));
        let server = service_fn(|_: Request<Body>| ready(Ok::<_, BoxError>(answer(503))));
        listen(tracing_subscriber::registry().with(seen.clone()), || {
            let call = RetryLayer::new(policy).layer(server).oneshot(get());
            let _ = tokio_test::task::spawn(call).poll();
        });
        let events = seen.events.lock().unwrap();
        let field = |event: &String, name: &str| {
            event.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned))
        };
        let got = (field(&events[0], "elapsed_ms="), field(&events[1], "delay_ms="));
        (format!("{micros} us"), got, (Some("0.0".to_owned()), Some(want.to_owned())))
    });
}
