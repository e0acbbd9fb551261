//! The events of lines that cannot be read. Alone, since `tracing` remembers for all threads who
//! listens.
#![cfg(all(feature = "cookie", feature = "tracing"))]

use std::{
    fmt::{Debug, Write},
    fs,
    sync::{Arc, Mutex},
};

use tower_outbound::cookie::{CookieFile, CookieJar, Format};
use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, layer::SubscriberExt};

#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        struct Fields(String);
        impl Visit for Fields {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, " {field}={value:?}").unwrap();
            }
        }
        let mut fields =
            Fields(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut fields);
        self.0.lock().unwrap().push(fields.0);
    }
}

#[test]
fn each_line_that_is_skipped_is_an_event_when_a_file_is_opened_or_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = "// SECRET\nh.example\tFALSE\t/\tFALSE\t0\ta\t1\nh.example\tFALSE\t/\tFALSE\tsoon\tb\tSECRET\n";
    fs::write(&path, text).unwrap();
    let events = Events::default();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(events.clone()), || {
        let file = CookieFile::open(&path, Format::Netscape).unwrap();
        // No news, so no event.
        file.save().unwrap();
        CookieJar::new().read_from(text.as_bytes(), Format::Netscape).unwrap();
    });
    let event = |line, reason| {
        format!(
            "DEBUG tower_outbound::cookie message=line of a cookie file skipped line={line} reason=\"{reason}\""
        )
    };
    let once = [
        event(1, "expected seven fields between tabs"),
        event(3, "the expiry in the fifth field is no number of seconds"),
    ];
    assert_eq!(*events.0.lock().unwrap(), [&once[..], &once[..]].concat());
}
