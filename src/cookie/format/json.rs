//! The jar's own JSON, which keeps everything that a jar knows of a cookie.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
};

use serde_json::{Map, Value, value::RawValue};

use super::{
    contents::Entry,
    read_error::{ReadError, line_of, text},
};
use crate::cookie::model::{
    cookie::{Cookie, Door, InvalidCookie, Parts},
    data::{Flags, Millis, NEVER, SameSite, Times},
};

const VERSION: u64 = 1;

/// How far another clock may be ahead: a day.
const MOST_AHEAD: Millis = 24 * 60 * 60 * 1_000;

pub(super) fn read(bytes: &[u8], now: Millis) -> Result<Vec<Cookie>, ReadError> {
    let text = text(bytes)?;
    // Raw values are pieces of the text: where they lie tells the line of a fault.
    let file: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| wrong(&error))?;
    let field = |name| file.get(name).copied();
    let at =
        |field: &RawValue, reason| ReadError::Line { line: line_of(text, field.get()), reason };
    let version =
        field("version").ok_or(ReadError::Line { line: 1, reason: "it has no `version`" })?;
    match version.get().parse::<u64>() {
        Ok(1..=VERSION) => {}
        // What a newer release means by a field cannot be known, and a save would drop it.
        Ok(2..) => return Err(at(version, "its `version` is newer than this release reads")),
        _ => return Err(at(version, "its `version` is not a number")),
    }
    let cookies =
        field("cookies").ok_or(ReadError::Line { line: 1, reason: "it has no `cookies`" })?;
    let elements: Vec<&RawValue> = serde_json::from_str(cookies.get())
        .map_err(|_| at(cookies, "`cookies` is not an array"))?;
    let cookie = |element: &&RawValue| {
        let fields = serde_json::from_str(element.get()).map_err(|_| "a cookie is no object");
        fields.and_then(|fields| cookie(&fields, now)).map_err(|reason| at(element, reason))
    };
    elements.iter().map(cookie).collect()
}

/// What is wrong with the JSON, and in which line.
pub(super) fn wrong(error: &serde_json::Error) -> ReadError {
    // In our own words: `serde_json` quotes the text, which may be a secret.
    let reason = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "it is not the JSON that was expected",
        _ => "it is not JSON",
    };
    ReadError::Line { line: error.line().max(1), reason }
}

fn cookie(fields: &Map<String, Value>, now: Millis) -> Result<Cookie, &'static str> {
    // Null means absent: programs that read a file into objects and write it again often produce
    // it.
    let field = |name| fields.get(name).filter(|value| !value.is_null());
    let flag = |name, wrong| field(name).map_or(Ok(false), |value| value.as_bool().ok_or(wrong));
    let time =
        |name, wrong, default| field(name).map_or(Ok(default), |value| value.as_u64().ok_or(wrong));

    let name = bytes(field("name")).ok_or("`name` is neither text nor bytes")?;
    let value = bytes(field("value")).ok_or("`value` is neither text nor bytes")?;
    let text = |name, wrong| field(name).and_then(Value::as_str).ok_or(wrong);
    let flags = Flags {
        host_only: flag("host_only", "`host_only` is neither true nor false")?,
        secure: flag("secure", "`secure` is neither true nor false")?,
        http_only: flag("http_only", "`http_only` is neither true nor false")?,
        partitioned: flag("partitioned", "`partitioned` is neither true nor false")?,
        same_site: match field("same_site").map(Value::as_str) {
            None => None,
            Some(Some("strict")) => Some(SameSite::Strict),
            Some(Some("lax")) => Some(SameSite::Lax),
            Some(Some("none")) => Some(SameSite::None),
            Some(_) => return Err("`same_site` is not strict, lax or none"),
        },
    };
    // A file that a person wrote has no times: its cookies are as new as the reading. Later times
    // are cut, whatever the file says: a cookie of the year 9999 would always be the newest, and
    // never be evicted.
    let past = |name, wrong, default| {
        time(name, wrong, default).map(|at| at.min(now.saturating_add(MOST_AHEAD)))
    };
    let created = past("created", "`created` is not in milliseconds", now)?;
    let times = Times {
        expires: time("expires", "`expires` is not in milliseconds", NEVER)?,
        updated: past("updated", "`updated` is not in milliseconds", created)?,
        sent: past("sent", "`sent` is not in milliseconds", 0)?,
    };
    let parts = Parts {
        name: &name,
        value: &value,
        domain: text("domain", "`domain` is not text")?,
        path: text("path", "`path` is not text")?,
        flags,
        created,
        times,
    };
    Cookie::from_parts(parts, Door::File).map_err(InvalidCookie::reason)
}

/// Text; or an array of bytes, for what is not UTF-8.
fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    match value? {
        Value::String(text) => Some(text.clone().into_bytes()),
        Value::Array(bytes) => bytes
            .iter()
            .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
            .collect(),
        _ => None,
    }
}

pub(super) fn write(sink: impl Write, entries: &[Entry]) -> io::Result<()> {
    // One cookie per line, so that a diff of two files shows which cookies differ.
    let mut sink = BufWriter::new(sink);
    write!(sink, "{{\"version\": {VERSION}, \"cookies\": [")?;
    for (place, cookie) in entries.iter().filter_map(Entry::cookie).enumerate() {
        sink.write_all(if place == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut sink, &fields(cookie))?;
    }
    sink.write_all(b"\n]}\n")?;
    sink.flush()
}

fn fields(cookie: &Cookie) -> Map<String, Value> {
    let bytes =
        |bytes: &[u8]| str::from_utf8(bytes).map_or_else(|_| Value::from(bytes), Value::from);
    let (data, times) = (&cookie.data, cookie.times);
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| {
        fields.insert(name.to_owned(), value);
    };
    put("name", bytes(data.name()));
    put("value", bytes(data.value()));
    put("domain", data.domain().into());
    put("path", data.path().into());
    put("created", data.created.into());
    put("updated", times.updated.into());
    let Flags { host_only, secure, http_only, partitioned, same_site } = data.flags;
    // A flag that is not set is left out: most cookies have only one or two.
    let flags = [
        ("host_only", host_only),
        ("secure", secure),
        ("http_only", http_only),
        ("partitioned", partitioned),
    ];
    for (name, _) in flags.iter().filter(|(_, set)| *set) {
        put(name, true.into());
    }
    if let Some(same_site) = same_site {
        put("same_site", same_site.name().into());
    }
    if times.expires != NEVER {
        put("expires", times.expires.into());
    }
    if times.sent > 0 {
        put("sent", times.sent.into());
    }
    fields
}
