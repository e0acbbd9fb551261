//! What the events of this wing say.

use std::fs;

use tower_outbound::cookie::{CookieFile, CookieJar, Format};
use tracing_subscriber::layer::SubscriberExt;

use crate::listen::{Written, listen};

#[test]
fn each_line_that_is_skipped_is_an_event_when_a_file_is_opened_or_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cookies.txt");
    let text = "// SECRET\nh.example\tFALSE\t/\tFALSE\t0\ta\t1\nh.example\tFALSE\t/\tFALSE\tsoon\tb\tSECRET\n";
    fs::write(&path, text).unwrap();
    let written = Written::default();
    listen(tracing_subscriber::registry().with(written.clone()), || {
        let file = CookieFile::open(&path, Format::Netscape).unwrap();
        // No news, so no event.
        file.save().unwrap();
        CookieJar::new().read_from(text.as_bytes(), Format::Netscape).unwrap();
    });
    let event = |line, reason| {
        format!(" message=line of a cookie file skipped line={line} reason=\"{reason}\"")
    };
    let once = [
        event(1, "expected seven fields between tabs"),
        event(3, "the expiry in the fifth field is no number of seconds"),
    ];
    assert_eq!(*written.events.lock().unwrap(), [&once[..], &once[..]].concat());
}
