//! The JSON of the `cookie_store` crate, and the conversion of one of its cookies in both
//! directions.

use std::{
    io::{self, BufWriter, Write},
    ops::Deref,
    time::{Duration, SystemTime},
};

use cookie_store::{CookieDomain, CookieExpiration, RawCookie};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use url::Url;

use super::{
    contents::Entry,
    json::wrong,
    read_error::{ReadError, line_of, text},
};
use crate::cookie::{
    event,
    model::{
        cookie::{Cookie, Door, InvalidCookie, Parts, to_millis, to_time},
        data::{Flags, Millis, NEVER, SameSite, Times},
    },
};

/// An array of cookies; or one cookie after the other, as older releases wrote them.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Cookie>, ReadError> {
    let text = text(bytes)?;
    let mut cookies = Vec::new();
    // As raw values, which are pieces of the text: where they lie tells the line of a fault.
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
        // Its own message may quote the cookie.
        .map_err(|_| at("it is not a cookie as cookie_store writes it"))?;
    from_theirs(&theirs, Door::File).map_err(|wrong| at(wrong.reason()))
}

/// Cookies that its store cannot hold are left out.
pub(super) fn write(sink: impl Write, entries: &[Entry]) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    let mut theirs = Vec::with_capacity(entries.len());
    for cookie in entries.iter().filter_map(Entry::cookie) {
        let mut cookie = cookie.clone();
        // Its file knows whole seconds. They are rounded up: rounded down, a cookie that is still
        // alive could be written as expired.
        if cookie.times.expires != NEVER {
            cookie.times.expires =
                cookie.times.expires.div_ceil(1000).saturating_mul(1000).min(NEVER - 1);
        }
        match to_theirs(&cookie) {
            Ok(cookie) => theirs.push(cookie),
            Err(_) => event::left_out(&cookie.name()),
        }
    }
    serde_json::to_writer_pretty(&mut sink, &theirs)?;
    sink.write_all(b"\n")?;
    sink.flush()
}

pub(in crate::cookie) fn domain_of<'a>(cookie: &'a cookie_store::Cookie<'_>) -> Option<&'a str> {
    match &cookie.domain {
        CookieDomain::HostOnly(domain) | CookieDomain::Suffix(domain) => Some(domain),
        CookieDomain::NotPresent | CookieDomain::Empty => None,
    }
}

/// A cookie of this crate's own.
pub(in crate::cookie) fn from_theirs(
    theirs: &cookie_store::Cookie<'_>,
    door: Door,
) -> Result<Cookie, InvalidCookie> {
    let raw: &RawCookie<'_> = theirs.deref();
    let flags = Flags {
        host_only: matches!(theirs.domain, CookieDomain::HostOnly(_)),
        secure: raw.secure().unwrap_or(false),
        http_only: raw.http_only().unwrap_or(false),
        partitioned: raw.partitioned().unwrap_or(false),
        same_site: raw.same_site().map(|same_site| {
            if same_site.is_strict() {
                SameSite::Strict
            } else if same_site.is_lax() {
                SameSite::Lax
            } else {
                SameSite::None
            }
        }),
    };
    let expires = match &theirs.expires {
        CookieExpiration::SessionEnd => NEVER,
        CookieExpiration::AtUtc(at) => {
            // Before 1970 is as much in the past as 1970, and NEVER is taken.
            let millis = at.unix_timestamp_nanos() / 1_000_000;
            Millis::try_from(millis.max(0)).unwrap_or(NEVER).min(NEVER - 1)
        }
    };
    // It says neither when it was created nor when it was set.
    let now = to_millis(SystemTime::now());
    let parts = Parts {
        name: raw.name().as_bytes(),
        value: raw.value().as_bytes(),
        domain: domain_of(theirs).unwrap_or_default(),
        path: &String::from(&theirs.path),
        flags,
        created: now,
        times: Times { expires, updated: now, sent: 0 },
    };
    Cookie::from_parts(parts, door)
}

/// A cookie of theirs, with all that it can hold.
pub(in crate::cookie) fn to_theirs(
    cookie: &Cookie,
) -> Result<cookie_store::Cookie<'static>, InvalidCookie> {
    let data = &cookie.data;
    let expires = cookie.expires().map(to_offset);
    let mut raw = to_raw(cookie)?;
    raw.set_expires(expires);
    let url =
        Url::parse(&format!("https://{}/", data.domain())).map_err(|_| InvalidCookie::Domain)?;
    let mut theirs =
        cookie_store::Cookie::try_from_raw_cookie(&raw, &url).map_err(|_| InvalidCookie::Domain)?;
    // As the jar has them: its constructor has just read both by rules of its own.
    let domain = data.domain().to_owned();
    theirs.domain = if data.flags.host_only {
        CookieDomain::HostOnly(domain)
    } else {
        CookieDomain::Suffix(domain)
    };
    theirs.expires = expires.map_or(CookieExpiration::SessionEnd, CookieExpiration::AtUtc);
    Ok(theirs)
}

fn to_raw(cookie: &Cookie) -> Result<RawCookie<'static>, InvalidCookie> {
    let (data, flags) = (&cookie.data, cookie.data.flags);
    // The parser that reads its files refuses an empty name.
    let name = str::from_utf8(data.name())
        .ok()
        .filter(|name| !name.is_empty())
        .ok_or(InvalidCookie::Name)?;
    let value = str::from_utf8(data.value()).map_err(|_| InvalidCookie::Value)?;
    // The setter wants a type of the `cookie` crate, which is no dependency of ours; the parser
    // does not.
    let same_site = match flags.same_site {
        Some(same_site) => format!("; SameSite={}", same_site.name()),
        None => String::new(),
    };
    let mut raw =
        RawCookie::parse(format!("{name}={value}{same_site}")).map_err(|_| InvalidCookie::Value)?;
    // It trims more than RFC 6265bis does, such as Unicode white space. A value that comes out
    // changed would be another session's, or nobody's.
    if (raw.name(), raw.value()) != (name, value) {
        return Err(InvalidCookie::Value);
    }
    raw.set_path(data.path().to_owned());
    if !flags.host_only {
        raw.set_domain(data.domain().to_owned());
    }
    // Only what is set: an attribute that is absent is `None` to its users, not `false`.
    for (set, put) in [
        (flags.secure, RawCookie::set_secure as fn(&mut RawCookie<'static>, bool)),
        (flags.http_only, RawCookie::set_http_only),
        (flags.partitioned, RawCookie::set_partitioned),
    ] {
        if set {
            put(&mut raw, true);
        }
    }
    Ok(raw)
}

fn to_offset(at: SystemTime) -> OffsetDateTime {
    // The end of the year 9999: its calendar and its format have no later one.
    let last = Duration::from_secs(253_402_300_799);
    let since = at.duration_since(to_time(0)).unwrap_or_default().min(last);
    OffsetDateTime::UNIX_EPOCH + time::Duration::try_from(since).unwrap_or_default()
}
