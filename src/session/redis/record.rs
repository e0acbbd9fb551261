//! Records as fields of a hash, and the server's answers as records.

use redis::Value;

use crate::session::{Applied, Contents, Record, Version};

/// The field of a record. It begins with a letter, so that none is `v`, which holds the version.
pub(super) fn field(record: &Record) -> Vec<u8> {
    [b"c", &*record.field].concat()
}

/// The value of a record: 20 digits of the stamp, then `+` and the body, or `-`.
pub(super) fn value(record: &Record) -> Vec<u8> {
    let stamp = format!("{:020}", record.stamp);
    match &record.body {
        Some(body) => [stamp.as_bytes(), b"+", body].concat(),
        None => [stamp.as_bytes(), b"-"].concat(),
    }
}

fn read(field: &[u8], value: &[u8]) -> Option<Record> {
    let field = field.strip_prefix(b"c")?.into();
    let (stamp, rest) = value.split_at_checked(20)?;
    if !stamp.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let stamp = std::str::from_utf8(stamp).ok()?.parse().ok()?;
    let body = match rest {
        [b'+', body @ ..] => Some(body.into()),
        [b'-'] => None,
        _ => return None,
    };
    Some(Record { field, stamp, body })
}

/// What a script found.
pub(super) enum Outcome {
    Applied(Applied),
    TooManySites,
    Garbage,
}

/// Reads the answer of the script `apply`. `None` if it is not valid.
pub(super) fn outcome(answer: Value) -> Option<Outcome> {
    let Value::Array(parts) = answer else { return None };
    let mut parts = parts.into_iter();
    let outcome = match (parts.next()?, parts.next()) {
        (Value::Int(0), Some(answer)) => Outcome::Applied(Applied::Clean(version(answer)?)),
        (Value::Int(1), Some(answer)) => {
            Outcome::Applied(Applied::Merged(contents_of_script(answer)?))
        }
        (Value::Int(2), None) => Outcome::TooManySites,
        (Value::Int(3), None) => Outcome::Garbage,
        _ => return None,
    };
    parts.next().is_none().then_some(outcome)
}

/// The answer to `HGET v`.
pub(super) fn version(answer: Value) -> Option<Version> {
    match answer {
        Value::Nil => Some(Version::default()),
        other => Some(Version::from_bytes(&bytes(other)?)),
    }
}

/// The answer to `HGETALL`.
pub(super) fn contents(answer: Value) -> Option<Contents> {
    match answer {
        Value::Map(pairs) => hash(pairs),
        _ => None,
    }
}

/// The same from a script, where `HGETALL` returns a list.
fn contents_of_script(answer: Value) -> Option<Contents> {
    let Value::Array(flat) = answer else { return None };
    let mut flat = flat.into_iter();
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    while let Some(field) = flat.next() {
        pairs.push((field, flat.next()?));
    }
    hash(pairs)
}

fn hash(pairs: Vec<(Value, Value)>) -> Option<Contents> {
    let mut contents = Contents::default();
    for (field, value) in pairs {
        let (field, value) = (bytes(field)?, bytes(value)?);
        if field == b"v" {
            contents.version = Version::from_bytes(&value);
        } else {
            contents.records.push(read(&field, &value)?);
        }
    }
    // The script writes no record without a version.
    let is_whole = contents.records.is_empty() || !contents.version.as_bytes().is_empty();
    is_whole.then_some(contents)
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: impl AsRef<[u8]>) -> Value {
        Value::BulkString(text.as_ref().to_vec())
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        for stamp in [0, 1, u64::MAX] {
            for body in [None, Some(&b""[..]), Some(b"-\0\r\n\xff")] {
                for name in [&b""[..], b"v", b"\0\xff"] {
                    let one = Record { field: name.into(), stamp, body: body.map(Into::into) };
                    assert_eq!(read(&field(&one), &value(&one)), Some(one));
                }
            }
        }
    }

    #[test]
    fn what_a_hash_of_ours_cannot_be_is_none() {
        let stamp = "1".repeat(20);
        let rows: Vec<(&str, Value)> = vec![
            ("no hash", bulk("x")),
            ("a number", Value::Int(1)),
            ("a list", Value::Array(vec![])),
            (
                "a field without its letter",
                Value::Map(vec![(bulk("x"), bulk(format!("{stamp}-")))]),
            ),
            ("records without a version", Value::Map(vec![(bulk("c"), bulk(format!("{stamp}-")))])),
            ("no sign", Value::Map(vec![(bulk("v"), bulk("1")), (bulk("c"), bulk(&stamp))])),
            (
                "a tombstone with a body",
                Value::Map(vec![(bulk("v"), bulk("1")), (bulk("c"), bulk(format!("{stamp}-x")))]),
            ),
            (
                "a stamp of another kind",
                Value::Map(vec![
                    (bulk("v"), bulk("1")),
                    (bulk("c"), bulk("+1111111111111111111+")),
                ]),
            ),
            (
                "a stamp beyond 64 bits",
                Value::Map(vec![
                    (bulk("v"), bulk("1")),
                    (bulk("c"), bulk(format!("{}+", "9".repeat(20)))),
                ]),
            ),
            ("a number for a value", Value::Map(vec![(bulk("v"), Value::Int(1))])),
        ];
        for (name, answer) in rows {
            assert_eq!(contents(answer), None, "{name}");
        }
        assert_eq!(contents(Value::Map(Vec::new())), Some(Contents::default()));
    }

    #[test]
    fn what_the_script_does_not_say_is_none() {
        let answers = [
            Value::Nil,
            Value::Array(vec![]),
            Value::Array(vec![Value::Int(0)]),
            Value::Array(vec![Value::Int(0), Value::Int(1)]),
            Value::Array(vec![Value::Int(1), bulk("x")]),
            Value::Array(vec![Value::Int(1), Value::Array(vec![bulk("v")])]),
            Value::Array(vec![Value::Int(1), Value::Map(vec![])]),
            Value::Array(vec![Value::Int(2), bulk("x")]),
            Value::Array(vec![Value::Int(4)]),
            Value::Array(vec![Value::Int(0), bulk("1"), bulk("2")]),
        ];
        for answer in answers {
            assert!(outcome(answer.clone()).is_none(), "{answer:?}");
        }
    }
}
