//! `-v`: prints the library's events, one attempt per line.

use std::{
    collections::HashMap,
    fmt,
    io::{self, Write},
    mem,
    sync::{Mutex, PoisonError},
};

use tracing::{Event, Metadata, Subscriber, field, span};
use tracing_subscriber::{Layer, layer::Context, prelude::*, registry};

pub(crate) fn init() {
    // This cannot fail, because nothing else sets a subscriber.
    let _ = registry().with(Log::default()).try_init();
}

#[derive(Default)]
struct Log {
    /// The line of an attempt, held back in case a decision on it follows.
    line: Mutex<String>,
}

impl Log {
    fn put(&self, next: String) {
        let line =
            mem::replace(&mut *self.line.lock().unwrap_or_else(PoisonError::into_inner), next);
        if !line.is_empty() {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.is_span() || metadata.target().starts_with("tower_outbound")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let get = |name| fields.0.get(name).map_or("", String::as_str);
        match (fields.0.get("name"), get("decision")) {
            (Some(name), _) => self.put(format!("* cookie {name} refused: {}", get("reason"))),
            (None, "") => {
                let (method, uri, took) = (get("method"), get("uri"), get("elapsed_ms"));
                self.put(format!(
                    "* {method} {uri}: {}{} after {took} ms",
                    get("status"),
                    get("error")
                ));
            }
            (None, decision) => {
                let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
                line.push_str(&match decision {
                    "retry" => format!(
                        "; again in {} ms, retries left: {}",
                        get("delay_ms"),
                        get("retries_left")
                    ),
                    _ => format!("; not again: {}", get("reason")),
                });
            }
        }
    }

    /// An attempt and the decision on it arrive in the same poll.
    fn on_exit(&self, _: &span::Id, _: Context<'_, S>) {
        self.put(String::new());
    }
}

#[derive(Default)]
struct Fields(HashMap<&'static str, String>);

impl field::Visit for Fields {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_f64(&mut self, field: &field::Field, value: f64) {
        self.0.insert(field.name(), format!("{value:.0}"));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        // The text may come from a server, and is written to a terminal.
        self.0.insert(field.name(), value.escape_debug().to_string());
    }
}
