//! cookies.txt: one cookie per line, seven fields separated by tabs. Programs write it in different
//! ways, and people edit it. So more is read than is ever written.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Write},
};

use super::{
    contents::{Contents, Entry},
    read_error::ReadError,
};
use crate::cookie::model::{
    cookie::{Cookie, Door, InvalidCookie, Parts},
    data::{Flags, Millis, NEVER, Times},
    origin::spelt_domain,
    set_cookie::trim,
};

/// Python's `MozillaCookieJar` reads no file without this line.
const HEADER: &[u8] =
    b"# Netscape HTTP Cookie File\n# Written by tower-outbound. Edit with care.\n\n";
/// The second line of the header. What writes the file anew writes its own.
const WRITTEN_HERE: &[u8] = b"# Written by tower-outbound.";
/// Written if a save leaves kept lines and no cookie. Without it the next reader would take the
/// file for damaged, although only its last cookie was removed.
const NO_COOKIE: &[u8] = b"# There is no cookie. The lines below could not be read and are kept.";
const HTTP_ONLY: &[u8] = b"#HttpOnly_";

const SEVEN_FIELDS: &str = "expected seven fields between tabs";

/// Reads what can be read. A line that is neither cookie nor comment is kept and listed.
pub(super) fn read(text: &[u8], now: Millis) -> Result<Contents, ReadError> {
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        // A redirect in PowerShell writes it. Each line would be skipped because of its NUL bytes,
        // which helps nobody.
        return Err(ReadError::Line { line: 1, reason: "it is UTF-16, but cookies.txt is UTF-8" });
    }
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let (mut contents, mut is_jar) = (Contents::default(), false);
    let mut is_ours = false;
    for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
        is_jar |= line.trim_ascii_end() == NO_COOKIE;
        is_ours |= number == 1 && line.starts_with(WRITTEN_HERE);
        match cookie_of(line, now, is_ours) {
            Ok(Some(cookie)) => {
                is_jar = true;
                contents.entries.push(Entry::Cookie(cookie));
            }
            Ok(None) => {}
            Err(reason) => contents.skip(number + 1, line, reason),
        }
    }
    // A file without a cookie is of another kind, or damaged. It must not be taken for an empty
    // jar: the caller would continue without a login, and not know why.
    if is_jar { Ok(contents) } else { contents.whole() }
}

/// The cookie of a line. `None` if it is a comment or empty. `is_ours` says whether this crate
/// wrote the file.
fn cookie_of(line: &[u8], now: Millis, is_ours: bool) -> Result<Option<Cookie>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // Also in a comment: a file with such line ends alone is one line, and would be a comment.
    if line.contains(&b'\r') {
        return Err("it holds a carriage return inside a line");
    }
    // Text that was pasted is often indented. Only spaces are dropped: a tab at the beginning means
    // that the domain is empty, and Python sends such a cookie to every host.
    let indent = line.iter().take_while(|&&byte| byte == b' ').count();
    let line = &line[indent..];
    let (line, http_only) = match line.strip_prefix(HTTP_ONLY) {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let text = line.trim_ascii_start();
    if !http_only && (text.is_empty() || text.starts_with(b"#")) {
        return Ok(None);
    }
    let cookie =
        Fields::of_line(line).and_then(|fields| fields.into_cookie(http_only, now, is_ours));
    cookie.map(Some).map_err(|reason| other_kind(text).unwrap_or(reason))
}

/// What the line is, if people often take it for cookies.txt. "Expected seven fields" would not
/// tell them what to do.
fn other_kind(line: &[u8]) -> Option<&'static str> {
    match line {
        [b'{', ..] | [b'['] | [b'[', b'{' | b']' | b' ' | b'"', ..] => {
            Some("it is JSON, not cookies.txt: see `Format::Browser` and `Format::Json`")
        }
        [b'<', ..] => Some("it is HTML, not cookies.txt"),
        _ => None,
    }
}

/// The seven fields of a line.
struct Fields<'a> {
    domain: &'a [u8],
    subdomains: bool,
    path: &'a [u8],
    secure: bool,
    expires: Millis,
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Fields<'a> {
    fn of_line(line: &'a [u8]) -> Result<Self, &'static str> {
        let mut fields: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        // Some exporters end every line with a tab.
        while fields.len() > 7 && fields.last().is_some_and(|last| trim(last).is_empty()) {
            fields.pop();
        }
        let by_tabs = Self::of(&fields);
        // Editors, terminals and web pages turn tabs into spaces. If there are no spaces, then two
        // tabs in a row are an empty field, which splitting into words would lose.
        if by_tabs.is_ok() || !line.contains(&b' ') {
            return by_tabs;
        }
        let words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
        let words: Vec<&[u8]> = words.collect();
        // Six words with an expiry are not clear: either the name or the value could be empty.
        let is_clear = words.len() == 7 || words.len() == 6 && expiry(words[4]).is_err();
        if is_clear { Self::of(&words).or(by_tabs) } else { by_tabs }
    }

    fn of(fields: &[&'a [u8]]) -> Result<Self, &'static str> {
        let [domain, subdomains, path, secure, ref rest @ ..] = *fields else {
            return Err(SEVEN_FIELDS);
        };
        let (expires, name, value) = match *rest {
            [expires, name, value] => (expiry(expires)?, name, value),
            // curl leaves the last field out if the value is empty.
            [first, name] if expiry(first).is_ok() => (expiry(first)?, name, &b""[..]),
            // Some exporters leave the expiry of a session cookie out.
            [name, value] => (NEVER, name, value),
            [_, _, _, _, ..] => return Err("expected no tab in the value, the seventh field"),
            _ => return Err(SEVEN_FIELDS),
        };
        let (subdomains, secure) = (flag(subdomains)?, flag(secure)?);
        Ok(Self { domain, subdomains, path, secure, expires, name, value })
    }

    /// A line that no jar could hold is skipped, even if another program has written it.
    fn into_cookie(
        self,
        http_only: bool,
        now: Millis,
        is_ours: bool,
    ) -> Result<Cookie, &'static str> {
        let domain = str::from_utf8(self.domain).map_err(|_| InvalidCookie::Domain.reason())?;
        // Every cookie has a path, so an empty one can only mean the whole host.
        let path = if self.path.is_empty() { b"/" } else { self.path };
        let path = str::from_utf8(path).map_err(|_| InvalidCookie::Path.reason())?;
        let (name, value) = as_servers_read(self.name, self.value);
        // Some exporters write TRUE for every cookie. This name says that the cookie is host-only
        // (RFC 6265bis section 4.1.3.2), and to send it to fewer hosts is safe.
        let is_host = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"__Host-"));
        let flags = Flags {
            host_only: !self.subdomains || is_host,
            secure: self.secure,
            http_only,
            partitioned: false,
            same_site: None,
        };
        let times = Times { expires: self.expires, updated: now, sent: 0 };
        let parts = Parts {
            name,
            value: &value,
            domain: host(domain, is_ours),
            path,
            flags,
            created: now,
            times,
        };
        Cookie::from_parts(parts, Door::File).map_err(InvalidCookie::reason)
    }
}

/// The pair that a server reads when it gets this name and value. White space around each is
/// dropped, and the pair is split at its first `=`, even inside the name (RFC 6265bis section 5.6).
/// Other programs send the same bytes.
fn as_servers_read<'a>(name: &'a [u8], value: &'a [u8]) -> (&'a [u8], Cow<'a, [u8]>) {
    let (name, value) = (trim(name), trim(value));
    match name.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let value = [trim(&name[at + 1..]), b"=", value].concat();
            (trim(&name[..at]), Cow::Owned(value))
        }
        None => (name, Cow::Borrowed(value)),
    }
}

/// The host in the first field, without what some writers add to it.
fn host(domain: &str, is_ours: bool) -> &str {
    // Python writes `.local` behind every host without a dot, and so behind an IPv6 address in its
    // brackets. Wget writes the port if it is not 80. curl drops the brackets, which reads as is.
    // Other hosts may have a name in `.local` (RFC 6762), so theirs is left as it is. So may one
    // that is called localhost: in a file of our own it is that one.
    if !is_ours && domain.eq_ignore_ascii_case("localhost.local") {
        return "localhost";
    }
    if spelt_domain(domain).is_some() {
        return domain;
    }
    let domain = domain.strip_suffix(".local").filter(|host| host.ends_with(']')).unwrap_or(domain);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    domain.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(domain, |(host, _)| host)
}

/// TRUE or FALSE in any case, or 1 or 0. curl, Wget, Python and yt-dlp read 1 as FALSE, and so send
/// a `Secure` cookie in clear. Programs that write 1 mean TRUE.
fn flag(field: &[u8]) -> Result<bool, &'static str> {
    match field {
        b"1" => Ok(true),
        b"0" => Ok(false),
        _ if field.eq_ignore_ascii_case(b"true") => Ok(true),
        _ if field.eq_ignore_ascii_case(b"false") => Ok(false),
        _ => Err("expected TRUE or FALSE in the second and fourth field"),
    }
}

/// The last second of the year 9999. Many servers use it for "never", so it must count as seconds.
/// No cookie has a later date: a year has four digits at most (RFC 6265bis section 5.1.1).
const LAST_SECOND: u64 = 253_402_300_799;

/// Seconds since 1970. 0 or an empty field is a session cookie. Add-ons of browsers write
/// fractions. A number past the year 9999 is milliseconds, as JavaScript counts. A negative number
/// has expired.
fn expiry(field: &[u8]) -> Result<Millis, &'static str> {
    const WRONG: &str = "the expiry in the fifth field is no number of seconds";
    let (is_negative, digits) = match field {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let mut parts = digits.splitn(2, |&byte| byte == b'.');
    let (whole, fraction) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_number = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    if !is_number(whole) || !is_number(fraction) || (whole.is_empty() && !field.is_empty()) {
        return Err(WRONG);
    }
    let number = whole
        .iter()
        .fold(0_u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')));
    Ok(match number {
        0 => NEVER,
        _ if is_negative => 0,
        seconds @ ..=LAST_SECOND => seconds * 1000,
        // Not later: written as seconds, it would be read as milliseconds the next time.
        millis => millis.min(LAST_SECOND * 1000),
    })
}

pub(super) fn write(sink: impl Write, entries: &[Entry]) -> io::Result<()> {
    let mut sink = BufWriter::new(sink);
    sink.write_all(HEADER)?;
    if !entries.is_empty() && entries.iter().all(|entry| entry.cookie().is_none()) {
        sink.write_all(NO_COOKIE)?;
        sink.write_all(b"\n")?;
    }
    for entry in entries {
        let cookie = match entry {
            Entry::Cookie(cookie) => cookie,
            Entry::Kept(line) => {
                sink.write_all(line)?;
                sink.write_all(b"\n")?;
                continue;
            }
        };
        let data = &cookie.data;
        // There is no way to write a tab within a field.
        if data.pair().contains(&b'\t') || data.path().contains(['\t', '\n', '\r']) {
            continue;
        }
        if data.flags.http_only {
            sink.write_all(HTTP_ONLY)?;
        }
        // Some readers go by the dot and some by the flag, and Python refuses a file in which they
        // disagree.
        let (dot, subdomains) = if data.flags.host_only { ("", "FALSE") } else { (".", "TRUE") };
        let secure = if data.flags.secure { "TRUE" } else { "FALSE" };
        // A session cookie has curl's 0. Python wants an empty field there, which older releases of
        // curl misread. Seconds are rounded up: rounded down, a cookie that is still alive could be
        // written as expired.
        let expires = if cookie.times.expires == NEVER {
            0
        } else {
            cookie.times.expires.div_ceil(1000).clamp(1, LAST_SECOND)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_counts_seconds_and_past_the_year_9999_milliseconds() {
        const LAST: Millis = LAST_SECOND * 1000;
        let rows = [
            ("", Some(NEVER)),
            ("0", Some(NEVER)),
            ("0.9", Some(NEVER)),
            ("-0", Some(NEVER)),
            ("1", Some(1000)),
            ("1.999", Some(1000)),
            ("1.", Some(1000)),
            ("-1", Some(0)),
            ("-99999999999999999999", Some(0)),
            ("4102444800", Some(4_102_444_800_000)),
            ("253402300799", Some(LAST)),
            ("253402300800", Some(253_402_300_800)),
            ("4102444800000", Some(4_102_444_800_000)),
            ("253402300799999", Some(LAST)),
            ("99999999999999999999", Some(LAST)),
            (".5", None),
            ("-", None),
            ("+1", None),
            ("1e9", None),
            ("1.5.0", None),
            ("1,5", None),
            (" 1", None),
            ("undefined", None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(field, want)| (field, expiry(field.as_bytes()).ok(), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_pair_is_the_one_that_a_server_reads() {
        let rows = [
            ("a", "1", "a", "1"),
            (" a\t", "\t1 ", "a", "1"),
            ("a=b", "1", "a", "b=1"),
            ("a = b", " 1", "a", "b=1"),
            ("a=b=c", "", "a", "b=c="),
            ("=a", "1", "", "a=1"),
            ("", "a=1", "", "a=1"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|row| (as_servers_read(row.0.as_bytes(), row.1.as_bytes()), row))
            .filter(|((name, value), row)| {
                (*name, &**value) != (row.2.as_bytes(), row.3.as_bytes())
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    /// Files with a few bytes changed: whatever is in them, a save must not change what the next
    /// one reads.
    #[test]
    fn what_is_written_is_read_and_written_alike() {
        const FILE: &[u8] = b"# a comment\n.h.example\tTRUE\t/x y\tTRUE\t4102444800.5\ta\t1 2\n\
            #HttpOnly_h.example 0 / 1 0 b 2\n  // kept\n[::1]\tFALSE\t/\tFALSE\t253402300799000\t\tc\n\
            h.example:80\tFALSE\t\tFALSE\td\t4\r\nlocalhost.local\tTRUE\t/\tFALSE\t-1\te=e\t 5 \n";
        let text = |contents: &Contents| {
            let mut text = Vec::new();
            write(&mut text, &contents.entries).unwrap();
            text
        };
        // Knuth's generator: the same files in every run.
        let mut state = 1_u64;
        let mut roll = |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % below
        };
        let mut wrong = Vec::new();
        for _ in 0..20_000 {
            let mut file = FILE.to_vec();
            for _ in 0..=roll(4) {
                let (at, byte) = (roll(file.len()), b"\t\n\r \0#=;.:[01TF\xff"[roll(16)]);
                match roll(3) {
                    0 => file[at] = byte,
                    1 => file.insert(at, byte),
                    _ => drop(file.remove(at)),
                }
            }
            let Ok(first) = read(&file, 0) else { continue };
            let once = text(&first);
            let second = read(&once, 0).map(|contents| (text(&contents), contents));
            let kept =
                |contents: &Contents| contents.skipped.iter().map(|line| line.reason).collect();
            let (of_first, of_second): (Vec<_>, Vec<_>) = match &second {
                Ok((_, contents)) => (kept(&first), kept(contents)),
                Err(_) => (vec![], vec![""]),
            };
            if of_first != of_second || second.is_ok_and(|(twice, _)| twice != once) {
                wrong.push(file.escape_ascii().to_string());
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
