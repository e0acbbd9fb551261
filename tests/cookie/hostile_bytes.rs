//! Any bytes as `Set-Cookie`, as URI and as file: they are rejected with a reason or an error, and
//! the jar does not change.

use http::Uri;
use tower_outbound::cookie::{Cookie, CookieJar, Format, header_value};

use crate::{
    files::{formats, written},
    rows,
};

/// A simple generator, so that a seed repeats a failure.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// Pieces with a meaning, and bytes without one.
    fn bytes(&mut self, pieces: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for _ in 0..self.roll(12) {
            if self.roll(4) == 0 {
                bytes.push(u8::try_from(self.roll(256)).unwrap());
            } else {
                bytes.extend_from_slice(pieces[self.roll(pieces.len())]);
            }
        }
        bytes
    }
}

#[test]
fn any_line_from_any_uri_is_stored_or_refused_and_every_file_of_it_is_read_again() {
    let lines: &[&[u8]] = &[
        b"a",
        b"=",
        b"1",
        b"; ",
        b";",
        b"Path",
        b"/",
        b"Domain",
        b"example.com",
        b".",
        b"com",
        b"Max-Age",
        b"-",
        b"99999",
        b"Expires",
        b"Thu, 1 Jan 2099 00:00:00 GMT",
        b"Secure",
        b"HttpOnly",
        b"SameSite",
        b"None",
        b"__Host-",
        b"\t",
        b" ",
        b"\"",
        b"\xff",
        b"#HttpOnly_",
        b"xn--",
        b"[::1]",
    ];
    let uris: &[&[u8]] = &[
        b"http",
        b"s",
        b"://",
        b"example.com",
        b"/",
        b":",
        b"@",
        b"[",
        b"]",
        b"::1",
        b".",
        b"127.0.0.1",
        b"%2e",
        b"?q",
        b"localhost",
        b";p",
        b"..",
        b"co.uk",
        b"443",
        b"A",
    ];
    for seed in 0..20_000 {
        let mut dice = Dice(seed);
        let jar = CookieJar::new();
        for _ in 0..4 {
            let uri = dice.bytes(uris);
            let uri: Uri = String::from_utf8_lossy(&uri)
                .parse()
                .unwrap_or_else(|_| "https://example.com/".parse().unwrap());
            let before = jar.len();
            let refused = jar.set(&uri, dice.bytes(lines)).is_err();
            assert!(!refused || jar.len() == before, "seed {seed}");
            let header = jar.header(&uri);
            assert!(
                header.is_none_or(|line| line.len() <= 8190 && line.is_sensitive()),
                "seed {seed}"
            );
        }
        for format in formats() {
            let text = written(&jar, format);
            let again = CookieJar::new();
            let read = again.read_from(&text[..], format);
            assert!(
                read.is_ok(),
                "seed {seed} {format:?}: {read:?} {}",
                String::from_utf8_lossy(&text)
            );
            assert!(again.len() <= jar.len(), "seed {seed} {format:?}");
        }
    }
}

#[test]
fn any_file_is_read_whole_or_is_an_error_and_takes_nothing() {
    let jar = CookieJar::new();
    for line in [
        "a=1; Max-Age=1000",
        "b=2; Domain=example.com; Secure; HttpOnly",
        "c; Path=/x",
        "d=3; SameSite=Lax",
    ] {
        jar.set(&"https://www.example.com/".parse().unwrap(), line).unwrap();
    }
    for format in formats() {
        let text = written(&jar, format);
        for seed in 0..5_000 {
            let mut dice = Dice(seed);
            let mut text = text.clone();
            for _ in 0..=dice.roll(3) {
                let at = dice.roll(text.len());
                match dice.roll(4) {
                    0 => text[at] = u8::try_from(dice.roll(256)).unwrap(),
                    1 => drop(text.remove(at)),
                    2 => text.insert(at, u8::try_from(dice.roll(256)).unwrap()),
                    _ => text.truncate(at.max(1)),
                }
            }
            let into = CookieJar::new();
            let read = into.read_from(&text[..], format);
            assert!(read.is_ok() || into.is_empty(), "seed {seed} {format:?}: {read:?}");
            // What was read can be written, and read once more.
            let twice = CookieJar::new();
            assert!(
                twice.read_from(&written(&into, format)[..], format).is_ok(),
                "seed {seed} {format:?}"
            );
        }
    }
}

/// A cookie that was stored must make a header of one valid line with the same pair. `want` is the
/// pair, if it is known.
fn is_sent_as_it_is(jar: &CookieJar, want: Option<&[u8]>) -> Result<(), String> {
    for cookie in jar.iter() {
        let equals = if cookie.name().is_empty() { "" } else { "=" };
        // Names are shown with U+FFFD for what is not UTF-8, so headers are read so too.
        let value = String::from_utf8_lossy(cookie.value_bytes());
        let pair = format!("{}{equals}{value}", cookie.name());
        // No request can have such a URI.
        let Ok(uri) = format!("https://{}{}", cookie.domain(), cookie.path()).parse() else {
            continue;
        };
        let Some(header) = jar.header(&uri) else { continue };
        let bytes = header.as_bytes();
        let is_line = bytes.iter().all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f);
        if !is_line || String::from_utf8_lossy(bytes) != pair || bytes.contains(&b';') {
            return Err(format!("{pair:?} is sent as {header:?}: {:?}", bytes.escape_ascii()));
        }
        if want.is_some_and(|want| want != bytes) {
            return Err(format!("it is sent as {}", bytes.escape_ascii()));
        }
    }
    Ok(())
}

/// Each byte at each mark of a text.
fn with_each_byte<'a>(
    text: &'a [u8],
    mark: &'a [u8],
) -> impl Iterator<Item = (usize, u8, Vec<u8>)> + 'a {
    let marks = text.windows(mark.len()).enumerate().filter(move |(_, bytes)| *bytes == mark);
    marks.flat_map(move |(at, _)| {
        (0..=u8::MAX)
            .map(move |byte| (at, byte, [&text[..at], &[byte], &text[at + mark.len()..]].concat()))
    })
}

fn is_control(byte: u8) -> bool {
    byte < b' ' && byte != b'\t' || byte == 0x7f
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

#[test]
fn each_byte_anywhere_in_a_set_cookie_line_is_refused_or_sent_as_it_is() {
    let lines: &[&str] = &[
        "@n=v",
        "n@m=v",
        "n@=v",
        "n=@v",
        "n=v@w",
        "n=v@",
        "@",
        "n=v;@",
        "n=v; @",
        "n=v; P@th=/",
        "n=v; Path@=/",
        "n=v; Path=@",
        "n=v; Path=/@",
        "n=v; Path=/p@q",
        "n=v; Domain=@",
        "n=v; Domain=example.com@",
        "n=v; Domain=ex@ample.com",
        "n=v; Domain=@example.com",
        "n=v; Max-Age=1@0",
        "n=v; Max-Age=@",
        "n=v; Expires=Thu, 1 Jan 2099 00:0@0:00 GMT",
        "n=v; Expires=@",
        "n=v; SameSite=La@x",
        "n=v; SameSite@=Lax",
        "n=v; Secure@",
        "n=v; HttpOnly=@",
        "n=v; Partitioned@",
        "n=v; other=@",
        "n=v; @=other",
        "__Host-n@=v",
    ];
    let uri: Uri = "https://example.com/".parse().unwrap();
    let table = lines.iter().flat_map(|line| with_each_byte(line.as_bytes(), b"@"));
    rows::hold(table, |(at, byte, line)| {
        let jar = CookieJar::new();
        let stored = jar.set(&uri, &line);
        let row = |fault| format!("{} ({at}): {fault}", line.escape_ascii());
        if is_control(byte) && stored.is_ok() {
            return Err(row(format!("{stored:?}")));
        }
        let pair = line.split(|&byte| byte == b';').next().unwrap();
        let (name, value) = match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => (trim(&pair[..at]), trim(&pair[at + 1..])),
            None => (&b""[..], trim(pair)),
        };
        let equals = if name.is_empty() { "" } else { "=" };
        let pair = [name, equals.as_bytes(), value].concat();
        is_sent_as_it_is(&jar, Some(&pair)).map_err(row)
    });
}

#[test]
fn each_byte_of_a_callers_cookie_is_an_error_or_sent_as_it_is() {
    let places = ["@n", "n@m", "n@"].map(|text| with_each_byte(text.as_bytes(), b"@"));
    rows::hold(places.into_iter().flatten(), |(at, byte, text)| {
        let row = |place: &str, fault| format!("{place} {} ({at}): {fault}", text.escape_ascii());
        let shown = String::from_utf8(text.clone());
        let cookies = [
            (
                "name",
                Some(Cookie::builder(&text, "v").domain("example.com").build()),
                &text[..],
                &b"v"[..],
            ),
            ("value", Some(Cookie::builder("n", &text).domain("example.com").build()), b"n", &text),
            (
                "domain",
                shown.clone().ok().map(|text| Cookie::builder("n", "v").domain(text).build()),
                b"n",
                b"v",
            ),
            (
                "path",
                shown.ok().map(|text| {
                    Cookie::builder("n", "v").domain("example.com").path(format!("/{text}")).build()
                }),
                b"n",
                b"v",
            ),
        ];
        for (place, cookie, name, value) in cookies {
            let Some(cookie) = cookie else { continue };
            if is_control(byte) && cookie.is_ok() {
                return Err(row(place, format!("{cookie:?}")));
            }
            let jar = CookieJar::new();
            cookie.into_iter().for_each(|cookie| jar.insert(cookie));
            is_sent_as_it_is(&jar, Some(&[name, b"=", value].concat()))
                .map_err(|fault| row(place, fault))?;
        }
        for (name, value) in [(&text[..], &b"v"[..]), (b"n", &text)] {
            let sent = header_value([(name, value)]);
            let is_same = |sent: http::HeaderValue| sent == [name, b"=", value].concat()[..];
            if !sent.map_or(true, is_same)
                || is_control(byte) && header_value([(name, value)]).is_ok()
            {
                return Err(row("header_value", "another header".to_owned()));
            }
        }
        Ok(())
    });
}

#[test]
fn each_byte_of_a_cookie_in_a_file_is_left_out_or_sent_as_it_is() {
    const MARK: &str = "QQ";
    let marked = Cookie::builder("nQQm", "vQQw").domain("dQQ.example.com").path("/pQQ");
    let jar = CookieJar::new();
    jar.insert(marked.secure(true).build().unwrap());
    let mut rows = Vec::new();
    for format in formats() {
        let text = written(&jar, format);
        // Case does not matter to domains, which are written in lower case.
        for mark in [MARK.to_owned(), MARK.to_lowercase()] {
            rows.extend(
                with_each_byte(&text, mark.as_bytes())
                    .map(|row| (format, text.clone(), row, false)),
            );
            if format != Format::Netscape {
                let escaped = with_each_byte(&text, mark.as_bytes()).map(|(at, byte, _)| {
                    let escape = format!("\\u{byte:04x}");
                    let text = [&text[..at], escape.as_bytes(), &text[at + mark.len()..]].concat();
                    (at, byte, text)
                });
                rows.extend(escaped.map(|row| (format, text.clone(), row, true)));
            }
        }
    }
    rows::hold(rows, |(format, whole, (at, byte, text), is_escaped)| {
        let row = |fault| format!("{format:?} {} ({at}): {fault}", text.escape_ascii());
        let again = CookieJar::new();
        let read = again.read_from(&text[..], format);
        // cookie_store keeps the cookie's `Set-Cookie` line, but reads none of its attributes.
        let is_line = format!("{format:?}") == "CookieStore" && !whole[..at].contains(&b']');
        let is_read = !(is_line && whole[..at].contains(&b';'));
        // A line of cookies.txt ends where it is broken, and a `Set-Cookie` value at a semicolon.
        let ends_line = format == Format::Netscape && byte == b'\n' || is_line && byte == b';';
        if is_control(byte) && is_read && !ends_line && !again.is_empty() {
            return Err(row(format!("{read:?}")));
        }
        // In JSON these two bytes have a meaning of their own.
        let is_syntax = format != Format::Netscape && !is_escaped && b"\"\\".contains(&byte);
        let written =
            if is_escaped { char::from(byte).to_string().into_bytes() } else { vec![byte] };
        // By what comes before the mark: which part it is in.
        let pair = match whole[at - 1] {
            b'n' => [b"n", &written[..], b"m=vQQw"].concat(),
            b'v' => [b"nQQm=v", &written[..], b"w"].concat(),
            _ => b"nQQm=vQQw".to_vec(),
        };
        let want = (!ends_line && !is_syntax).then_some(&pair[..]);
        is_sent_as_it_is(&again, want).map_err(row)
    });
}

#[test]
fn each_byte_of_a_cookies_bytes_is_an_error_or_sent_as_it_is() {
    let cookie = Cookie::builder("name", "value").domain("example.com").path("/path").secure(true);
    let whole = cookie.build().unwrap().to_bytes();
    let table = (0..whole.len()).flat_map(|at| (0..=u8::MAX).map(move |byte| (at, byte)));
    rows::hold(table, |(at, byte)| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        let jar = CookieJar::new();
        Cookie::from_bytes(&bytes).into_iter().for_each(|cookie| jar.insert(cookie));
        is_sent_as_it_is(&jar, None).map_err(|fault| format!("byte {at} as {byte}: {fault}"))
    });
}
