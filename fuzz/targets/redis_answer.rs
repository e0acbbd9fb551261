//! Any bytes as the answer of a Redis server: an error, or a session that is the same once written
//! and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use redis::{Parser, Value};

// The two files of the crate that read what a server says. They are not public, and need not be.
#[expect(dead_code, reason = "slots are for requests")]
#[path = "../../src/session/redis/name.rs"]
mod name;
#[path = "../../src/session/redis/record.rs"]
mod record;

/// What these files import.
mod session {
    pub use tower_outbound::session::{Applied, Contents, Record, SessionKey, StoreKey, Version};
}

use record::Outcome;
use session::{Applied, Contents};

/// The `HGETALL` of what has been read. A script answers with a list, a command with a map.
fn written(contents: &Contents) -> Vec<(Value, Value)> {
    let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
    let version = contents.version.as_bytes();
    let version = (!version.is_empty()).then(|| (bulk(b"v"), bulk(version)));
    let records = contents.records.iter().map(|one| {
        let field = record::field(one);
        assert_ne!(field, b"v", "a cookie in the place of the version");
        (bulk(&field), bulk(&record::value(one)))
    });
    version.into_iter().chain(records).collect()
}

fn check(contents: &Contents) {
    assert!(
        contents.records.is_empty() || !contents.version.as_bytes().is_empty(),
        "no one would notice a change"
    );
    let pairs = written(contents);
    let list = pairs.iter().flat_map(|(field, value)| [field.clone(), value.clone()]).collect();
    assert_eq!(record::contents(Value::Map(pairs)).as_ref(), Some(contents));
    let merged = record::outcome(Value::Array(vec![Value::Int(1), Value::Array(list)]));
    let Some(Outcome::Applied(Applied::Merged(again))) = merged else { panic!("its own list") };
    assert_eq!(&again, contents);
}

/// The names of keys in what a server pushes.
fn check_names(value: &Value) {
    match value {
        Value::BulkString(bytes) => {
            let Some(key) = name::read(bytes) else { return };
            let name = name::cookies(&key);
            assert_eq!(name::read(name.as_bytes()), Some(key), "{name}");
            assert!(name.matches(['{', '}']).eq(["{", "}"]), "{name}: another's slot");
        }
        Value::Array(values) | Value::Push { data: values, .. } => {
            values.iter().for_each(check_names);
        }
        _ => {}
    }
}

fuzz_target!(|answer: &[u8]| {
    let Ok(answer) = Parser::new().parse_value(answer) else { return };
    check_names(&answer);
    let version = record::version(answer.clone());
    if let Some(contents) = record::contents(answer.clone()) {
        assert!(version.is_none(), "a map is no version");
        check(&contents);
    }
    match record::outcome(answer) {
        Some(Outcome::Applied(Applied::Merged(contents))) => check(&contents),
        Some(Outcome::Applied(Applied::Clean(_)) | Outcome::TooManySites | Outcome::Garbage) => {
            assert!(version.is_none(), "an outcome is no version");
        }
        None => {}
    }
});
