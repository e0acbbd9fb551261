//! A line per attempt, out of the crate's events.

use std::fmt::Debug;

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// Prints the events of the three layers from now on.
pub(crate) fn print() {
    tracing_subscriber::registry().with(Lines).init();
}

struct Lines;

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("tower_outbound") {
            let mut line = Line::default();
            event.record(&mut line);
            say!("  - {}", line.0.join(" "));
        }
    }
}

#[derive(Default)]
struct Line(Vec<String>);

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.push(format!("{field}={value:.1}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push(format!("{field}={value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => self.0.insert(0, format!("{value:?}:")),
            "method" | "uri" => self.0.push(format!("{value:?}")),
            name => self.0.push(format!("{name}={value:?}")),
        }
    }
}
