//! What the crate's events and spans say.

use std::{
    fmt::{self, Write as _},
    sync::{Arc, LazyLock, Mutex},
};

use tracing::{Dispatch, Event, Level, Subscriber, field, span};
use tracing_subscriber::{Layer, layer::Context};

/// Runs with this subscriber on this thread.
///
/// `tracing` remembers for all threads whether an event has a subscriber. If another test without a
/// subscriber reached the event first, it would be off for this test too. So there is a subscriber
/// as long as the process lives.
pub(crate) fn listen<T>(
    subscriber: impl Subscriber + Send + Sync + 'static,
    run: impl FnOnce() -> T,
) -> T {
    static SOMEONE: LazyLock<Dispatch> =
        LazyLock::new(|| Dispatch::new(tracing_subscriber::registry()));
    LazyLock::force(&SOMEONE);
    tracing::subscriber::with_default(subscriber, run)
}

/// The events of the crate, each as its fields ` name=value`, and everything that is written, also
/// by spans.
#[derive(Clone, Default)]
pub(crate) struct Written {
    pub(crate) events: Arc<Mutex<Vec<String>>>,
    pub(crate) all: Arc<Mutex<String>>,
}

impl Written {
    fn write(&self, record: impl FnOnce(&mut Fields)) -> String {
        let mut fields = Fields(String::new());
        record(&mut fields);
        self.all.lock().unwrap().push_str(&fields.0);
        fields.0
    }
}

struct Fields(String);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl<S: Subscriber> Layer<S> for Written {
    fn on_new_span(&self, span: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        self.write(|fields| span.record(fields));
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        self.write(|fields| values.record(fields));
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let text = self.write(|fields| event.record(fields));
        if event.metadata().target().starts_with("tower_outbound") {
            assert_eq!(*event.metadata().level(), Level::DEBUG);
            self.events.lock().unwrap().push(text);
        }
    }
}
