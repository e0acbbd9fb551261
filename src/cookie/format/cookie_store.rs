//! The JSON of the `cookie_store` crate, so that its users' files can be read and written.

use std::io::{self, BufWriter, Write};

use serde_json::value::RawValue;

use super::{
    super::{
        event,
        interop::unjudged,
        model::{cookie::Cookie, data::NEVER},
    },
    ReadError,
    json::wrong,
    line_of, text,
};

/// An array of cookies, or, as older releases wrote it, a cookie after the other.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Cookie>, ReadError> {
    let text = text(bytes)?;
    let mut cookies = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let value = value.map_err(|error| wrong(&error))?;
        if value.get().starts_with('[') {
            let elements: Vec<&RawValue> =
                serde_json::from_str(value.get()).map_err(|error| wrong(&error))?;
            for element in elements {
                cookies.push(cookie(text, element)?);
            }
        } else {
            cookies.push(cookie(text, value)?);
        }
    }
    Ok(cookies)
}

fn cookie(text: &str, element: &RawValue) -> Result<Cookie, ReadError> {
    let at = |reason| ReadError::Line { line: line_of(text, element.get()), reason };
    let theirs: cookie_store::Cookie<'static> = serde_json::from_str(element.get())
        .map_err(|_| at("it is no cookie as cookie_store writes them"))?;
    unjudged(&theirs).map_err(|wrong| at(wrong.reason()))
}

/// A cookie that its store cannot hold is left out.
pub(super) fn write(sink: impl Write, cookies: &[Cookie]) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    let mut theirs = Vec::with_capacity(cookies.len());
    for cookie in cookies {
        let mut cookie = cookie.clone();
        // Its file knows whole seconds: one that has begun counts, so that no cookie that lives on
        // is written as gone.
        if cookie.times.expires != NEVER {
            cookie.times.expires =
                cookie.times.expires.div_ceil(1000).saturating_mul(1000).min(NEVER - 1);
        }
        match cookie_store::Cookie::try_from(&cookie) {
            Ok(cookie) => theirs.push(cookie),
            Err(_) => event::left_out(&cookie.name()),
        }
    }
    serde_json::to_writer_pretty(&mut sink, &theirs)?;
    sink.write_all(b"\n")?;
    sink.flush()
}
