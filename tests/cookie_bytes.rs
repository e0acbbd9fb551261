//! Bytes of any kind as `Set-Cookie`, as URI and as file: a reason or an error, and a jar that is
//! as it was.
#![cfg(feature = "cookie")]

use http::Uri;
use tower_outbound::cookie::{CookieJar, Format};

/// A plain generator, so that a failure can be told by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }

    /// Pieces that mean something, and bytes that do not.
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

fn formats() -> Vec<Format> {
    vec![
        Format::Netscape,
        #[cfg(feature = "json")]
        Format::Json,
        #[cfg(feature = "json")]
        Format::Browser,
        #[cfg(feature = "cookie_store")]
        Format::CookieStore,
    ]
}

fn written(jar: &CookieJar, format: Format) -> Vec<u8> {
    let mut text = Vec::new();
    jar.write_to(&mut text, format).unwrap();
    text
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
