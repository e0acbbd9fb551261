//! What browsers export: the JSON of add-ons, Puppeteer, Selenium and Playwright. Playwright's form
//! is written.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
};

use serde_json::{Map, Value, value::RawValue};

use super::{
    contents::{Contents, Entry},
    json::wrong,
    read_error::{ReadError, line_of, text},
};
use crate::cookie::{
    event,
    model::{
        cookie::{Cookie, Door, InvalidCookie, Parts},
        data::{Flags, Millis, NEVER, SameSite, Times},
    },
};

/// Reads an array of cookies, or an object with one. A cookie that no jar could hold is kept and
/// listed, so that one cookie that is too long does not cost a person all the others.
pub(super) fn read(bytes: &[u8], now: Millis) -> Result<Contents, ReadError> {
    let text = text(bytes)?;
    let at = |part: &RawValue, reason| ReadError::Line { line: line_of(text, part.get()), reason };
    let whole: &RawValue = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    let (cookies, origins, has_none) = if whole.get().starts_with('{') {
        let mut fields: BTreeMap<String, &RawValue> =
            serde_json::from_str(whole.get()).map_err(|error| wrong(&error))?;
        // The jar's own file has `cookies` too, with other fields and milliseconds.
        if let Some(version) = fields.get("version") {
            return Err(at(version, "it is a jar's own JSON: see `Format::Json`"));
        }
        let cookies = fields.remove("cookies").ok_or(at(whole, "it has no `cookies`"))?;
        (cookies, fields.remove("origins"), fields.contains_key(NO_COOKIE))
    } else {
        (whole, None, false)
    };
    let elements: Vec<&RawValue> = serde_json::from_str(cookies.get())
        .map_err(|_| at(cookies, "it is not an array of cookies"))?;
    let mut contents = Contents::default();
    for element in elements {
        let fields = serde_json::from_str(element.get()).map_err(|_| "a cookie is not an object");
        let read = fields.and_then(|fields| cookie(&fields, now));
        match read.map_err(|reason| at(element, reason))? {
            Ok(cookie) => contents.entries.push(Entry::Cookie(cookie)),
            Err(wrong) => {
                contents.entries.push(kept(COOKIE, element));
                contents.list(line_of(text, element.get()), wrong.reason());
            }
        }
    }
    let is_jar = has_none || contents.entries.iter().any(|entry| entry.cookie().is_some());
    // What pages have stored: a save must not empty it.
    contents.entries.extend(origins.map(|origins| kept(ORIGINS, origins)));
    // As for cookies.txt: a file without a cookie must not be taken for an empty jar.
    if is_jar { Ok(contents) } else { contents.whole() }
}

/// The first byte of what is kept: the rest is a cookie that could not be read, or the origins.
const COOKIE: u8 = b'c';
const ORIGINS: u8 = b'o';

fn kept(kind: u8, part: &RawValue) -> Entry {
    Entry::Kept([&[kind], part.get().as_bytes()].concat())
}

/// A field that is written if a save leaves kept cookies and no other. See the one of cookies.txt.
const NO_COOKIE: &str = "noCookieCouldBeRead";

/// An outer error means that the file is not what it was taken for.
fn cookie(
    fields: &Map<String, Value>,
    now: Millis,
) -> Result<Result<Cookie, InvalidCookie>, &'static str> {
    let field = |name| fields.get(name).filter(|value| !value.is_null());
    let flag = |name, wrong| field(name).map_or(Ok(false), |value| value.as_bool().ok_or(wrong));
    let text = |name, wrong| field(name).and_then(Value::as_str).ok_or(wrong);

    let domain = text("domain", "`domain` is not text")?;
    let secure = flag("secure", "`secure` is neither true nor false")?;
    let flags = Flags {
        // Add-ons write a flag. Puppeteer and Playwright write a dot before the domain, as Chrome's
        // own store does.
        host_only: match field("hostOnly") {
            Some(flag) => flag.as_bool().ok_or("`hostOnly` is neither true nor false")?,
            None => !domain.starts_with('.'),
        },
        secure,
        http_only: flag("httpOnly", "`httpOnly` is neither true nor false")?,
        // The key is not kept, since this client has no partitions.
        partitioned: field("partitionKey").is_some_and(|key| key.as_str() != Some("")),
        same_site: same_site(field("sameSite"), secure)?,
    };
    // `expirationDate` is the name in the interface that browsers give to add-ons, and `expiry`
    // that of WebDriver, which Selenium's `get_cookies` returns.
    let at = field("expirationDate").or(field("expires")).or(field("expiry"));
    let expires = match at {
        Some(_) if flag("session", "`session` is neither true nor false")? => NEVER,
        expires => expiry(expires)?,
    };
    let parts = Parts {
        name: text("name", "`name` is not text")?.as_bytes(),
        value: text("value", "`value` is not text")?.as_bytes(),
        domain,
        path: field("path").map_or(Ok("/"), |path| path.as_str().ok_or("`path` is not text"))?,
        flags,
        created: now,
        times: Times { expires, updated: now, sent: 0 },
    };
    Ok(Cookie::from_parts(parts, Door::File))
}

/// Seconds since 1970, with a fraction. Absent, 0 or negative is a session cookie; Puppeteer and
/// Playwright write -1.
fn expiry(field: Option<&Value>) -> Result<Millis, &'static str> {
    let Some(field) = field else { return Ok(NEVER) };
    let seconds = field.as_f64().ok_or("the expiry is not a number of seconds")?;
    // `as` saturates: a negative number becomes 0, and a huge one the largest integer.
    let millis = (seconds * 1000.0).round() as Millis;
    Ok(match millis {
        0 => NEVER,
        millis => millis.min(NEVER - 1),
    })
}

/// Add-ons write `no_restriction` and `unspecified`, as the interface that browsers give them.
/// Puppeteer and Playwright write the attribute's own values.
fn same_site(field: Option<&Value>, secure: bool) -> Result<Option<SameSite>, &'static str> {
    const WRONG: &str = "`sameSite` is not a value that browsers use";
    let Some(field) = field else { return Ok(None) };
    let text = field.as_str().ok_or(WRONG)?.to_ascii_lowercase();
    match &*text {
        "strict" => Ok(Some(SameSite::Strict)),
        "lax" => Ok(Some(SameSite::Lax)),
        // Firefox and old releases of Chrome say so of cookies without the attribute too. A cookie
        // that is not Secure must be one of those: with the attribute no browser would have stored
        // it (RFC 6265bis section 5.7).
        "none" | "no_restriction" => Ok(secure.then_some(SameSite::None)),
        "unspecified" | "default" | "" => Ok(None),
        _ => Err(WRONG),
    }
}

/// Playwright's `storageState`. Cookies that JSON cannot hold are left out.
pub(super) fn write(sink: impl Write, entries: &[Entry]) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    let mut origins: &[u8] = b"[]";
    let mut separator = "";
    let is_kept =
        |entry: &Entry| matches!(entry, Entry::Kept(kept) if kept.first() == Some(&COOKIE));
    let has_kept = entries.iter().any(is_kept);
    let has_none = has_kept && entries.iter().all(|entry| entry.cookie().is_none());
    write!(sink, "{{")?;
    if has_none {
        write!(sink, "\"{NO_COOKIE}\": true, ")?;
    }
    write!(sink, "\"cookies\": [")?;
    for entry in entries {
        let cookie = match entry {
            Entry::Cookie(cookie) => cookie,
            Entry::Kept(kept) => {
                match kept.split_first() {
                    Some((&COOKIE, kept)) => {
                        writeln!(sink, "{separator}")?;
                        sink.write_all(kept)?;
                        separator = ",";
                    }
                    Some((_, kept)) => origins = kept,
                    None => {}
                }
                continue;
            }
        };
        match fields(cookie) {
            Some(fields) => {
                writeln!(sink, "{separator}")?;
                serde_json::to_writer(&mut sink, &fields)?;
                separator = ",";
            }
            None => event::left_out(&cookie.name()),
        }
    }
    write!(sink, "\n], \"origins\": ")?;
    sink.write_all(origins)?;
    sink.write_all(b"}\n")?;
    sink.flush()
}

/// All eight fields: Playwright 1.65 refuses a file in which a cookie lacks one. `None` if name or
/// value is not UTF-8.
fn fields(cookie: &Cookie) -> Option<Map<String, Value>> {
    let (data, flags) = (&cookie.data, cookie.data.flags);
    let dot = if flags.host_only { "" } else { "." };
    let expires = match cookie.times.expires {
        NEVER => Value::from(-1),
        millis if millis % 1000 == 0 => Value::from(millis / 1000),
        millis => Value::from(millis as f64 / 1000.0),
    };
    let same_site = match flags.same_site {
        Some(SameSite::Strict) => "Strict",
        Some(SameSite::None) => "None",
        // The format has no value for "no attribute". Playwright writes Lax then, which means the
        // same (RFC 6265bis section 5.6.7).
        Some(SameSite::Lax) | None => "Lax",
    };
    let fields = [
        ("name", str::from_utf8(data.name()).ok()?.into()),
        ("value", str::from_utf8(data.value()).ok()?.into()),
        ("domain", format!("{dot}{}", data.domain()).into()),
        ("path", data.path().into()),
        ("expires", expires),
        ("httpOnly", flags.http_only.into()),
        ("secure", flags.secure.into()),
        ("sameSite", same_site.into()),
    ];
    Some(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
