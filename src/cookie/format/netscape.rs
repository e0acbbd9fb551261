//! cookies.txt: a cookie a line, seven fields between tabs.

use std::io::{self, BufWriter, Write};

use super::outcome::ReadError;
use crate::cookie::model::{
    cookie::{Cookie, Door, InvalidCookie, Parts},
    data::{Flags, Millis, NEVER, Times},
    origin::spelt_domain,
};

/// Python's `MozillaCookieJar` reads no file without this line.
const HEADER: &[u8] =
    b"# Netscape HTTP Cookie File\n# Written by tower-outbound. Edit with care.\n\n";
const HTTP_ONLY: &[u8] = b"#HttpOnly_";

pub(super) fn read(text: &[u8], now: Millis) -> Result<Vec<Cookie>, ReadError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut cookies = Vec::new();
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let at = |reason| ReadError::Line { line: number + 1, reason };
        // Also in a comment: with such line ends alone the whole file would be one.
        if line.contains(&b'\r') {
            return Err(at("it holds a carriage return that ends no line"));
        }
        let (line, http_only) = match line.strip_prefix(HTTP_ONLY) {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        if !http_only && (line.starts_with(b"#") || line.trim_ascii().is_empty()) {
            continue;
        }
        cookies.push(cookie(line, http_only, now).map_err(at)?);
    }
    Ok(cookies)
}

/// What no jar could hold is damage, even where another program has written it: a save would lose
/// it.
fn cookie(line: &[u8], http_only: bool, now: Millis) -> Result<Cookie, &'static str> {
    let mut fields = line.split(|&byte| byte == b'\t');
    let mut field = || fields.next().ok_or("expected seven fields between tabs");
    let (domain, subdomains, path) = (field()?, field()?, field()?);
    let (secure, expires, name) = (field()?, field()?, field()?);
    // curl leaves the last field out where the value is empty.
    let value = fields.next().unwrap_or_default();
    if fields.next().is_some() {
        return Err("expected no tab in the value, the seventh field");
    }

    let domain = str::from_utf8(domain).map_err(|_| InvalidCookie::Domain.reason())?;
    // Every cookie has a path, so an empty one can only mean the whole host.
    let path = if path.is_empty() { b"/" } else { path };
    let path = str::from_utf8(path).map_err(|_| InvalidCookie::Path.reason())?;
    let flags = Flags {
        host_only: !flag(subdomains)?,
        secure: flag(secure)?,
        http_only,
        partitioned: false,
        same_site: None,
    };
    let times = Times { expires: expiry(expires)?, updated: now, sent: 0 };
    let parts = Parts { name, value, domain: host(domain), path, flags, created: now, times };
    Cookie::from_parts(parts, Door::File).map_err(InvalidCookie::reason)
}

/// curl writes an IPv6 address without its brackets, Python with `.local` behind them, as behind
/// every host without a dot, and Wget a port behind the host where it is not 80.
fn host(domain: &str) -> &str {
    if spelt_domain(domain).is_some() {
        return domain;
    }
    let domain = domain.strip_suffix(".local").filter(|host| host.ends_with(']')).unwrap_or(domain);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    domain.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(domain, |(host, _)| host)
}

fn flag(field: &[u8]) -> Result<bool, &'static str> {
    if field.eq_ignore_ascii_case(b"true") {
        Ok(true)
    } else if field.eq_ignore_ascii_case(b"false") {
        Ok(false)
    } else {
        Err("expected TRUE or FALSE in the second and fourth field")
    }
}

/// Seconds since 1970, of which some writers give fractions; empty or 0 is a session cookie.
fn expiry(field: &[u8]) -> Result<Millis, &'static str> {
    let wrong = "the expiry in the fifth field is no number of seconds";
    let text = str::from_utf8(field).map_err(|_| wrong)?;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let whole = match digits.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte.is_ascii_digit()) => whole,
        Some(_) => return Err(wrong),
        None => digits,
    };
    if !whole.bytes().all(|byte| byte.is_ascii_digit()) || (whole.is_empty() && !text.is_empty()) {
        return Err(wrong);
    }
    let seconds = whole
        .bytes()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Ok(match seconds {
        0 => NEVER,
        _ if negative => 0,
        seconds => seconds.saturating_mul(1000).min(NEVER - 1),
    })
}

pub(super) fn write(sink: impl Write, cookies: &[Cookie]) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    sink.write_all(HEADER)?;
    for cookie in cookies {
        let data = &cookie.data;
        if data.pair().contains(&b'\t') || data.path().contains(['\t', '\n', '\r']) {
            continue;
        }
        if data.flags.http_only {
            sink.write_all(HTTP_ONLY)?;
        }
        // Readers disagree on whether the dot or the flag counts, and Python insists that they
        // agree.
        let (dot, subdomains) = if data.flags.host_only { ("", "FALSE") } else { (".", "TRUE") };
        let secure = if data.flags.secure { "TRUE" } else { "FALSE" };
        // curl's 0 for a session cookie; Python wants an empty field there, which curl's older
        // releases misread. A second begun counts whole, so that no cookie that lives on is
        // written as gone.
        let expires = if cookie.times.expires == NEVER {
            0
        } else {
            cookie.times.expires.div_ceil(1000).max(1)
        };
        let domain = data.domain();
        let domain =
            domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(domain);
        write!(sink, "{dot}{domain}\t{subdomains}\t{}\t{secure}\t{expires}\t", data.path())?;
        sink.write_all(data.name())?;
        sink.write_all(b"\t")?;
        sink.write_all(data.value())?;
        sink.write_all(b"\n")?;
    }
    sink.flush()
}
