//! The formats of the files that a jar is kept in: bytes in, cookies out, and back.

#[cfg(feature = "json")]
mod browser;
mod contents;
#[cfg(feature = "cookie_store")]
pub(in crate::cookie) mod cookie_store;
#[cfg(feature = "json")]
mod json;
mod netscape;
mod read_error;

use std::io::{self, Write};

pub(super) use self::contents::{Contents, Entry};
pub use self::{
    contents::{ReadSummary, SkippedLine},
    read_error::ReadError,
};
use super::{
    model::cookie::Cookie,
    model::data::{Flags, Millis, NEVER, SameSite},
};

/// The file format of a jar. [The table](crate::cookie#from-one-run-to-the-next) compares what each
/// format keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// cookies.txt, as written by curl, Wget, yt-dlp, Python's `MozillaCookieJar` and many browser
    /// add-ons.
    ///
    /// It keeps name, value, domain, host-only flag, path, `Secure`, `HttpOnly` (as `#HttpOnly_`)
    /// and the expiry in seconds. It does not keep `SameSite`, `Partitioned` or times of creation
    /// and use. The lines are in the order of creation. A cookie with a tab in its name, value or
    /// path cannot be written and is left out. A session cookie is written with the expiry 0, as
    /// curl does.
    ///
    /// Programs write it differently, and people edit it. These variants are read too:
    ///
    /// | in the file | written by | read as |
    /// |---|---|---|
    /// | spaces for tabs | editors, terminals, EditThisCookie in Opera | tabs, if there are seven fields |
    /// | no fifth field, an empty one, or 0 | add-ons, Python, curl | a session cookie |
    /// | a fraction in the expiry | EditThisCookie and other add-ons | whole seconds |
    /// | an expiry past the year 9999 | JavaScript | milliseconds |
    /// | a negative expiry | | expired |
    /// | white space around a name or value, a tab after the value | editors, scripts | nothing, as servers do |
    /// | no last field | curl | an empty value |
    /// | `=` in the name | | the pair that a server reads: split at the first `=` |
    /// | flags `0` and `1`, in any case | scripts | FALSE and TRUE |
    /// | TRUE for the subdomains of a `__Host-` cookie | add-ons | host-only |
    /// | a port after the host | Wget | the host |
    /// | `localhost.local`, unless this crate wrote the file | Python | `localhost` |
    /// | an IPv6 address with or without brackets, or with `.local` after them | curl, Python | the address |
    /// | indentation, a byte-order mark, Windows line ends | editors | nothing |
    ///
    /// Any other line is skipped. [`CookieFile::skipped`](crate::cookie::CookieFile::skipped) and
    /// [`CookieJar::read_from`](crate::cookie::CookieJar::read_from) list it, and a save keeps it
    /// in its place. A save does not keep comments. A file that has lines other than comments and
    /// blank lines, but no cookie, is an error.
    ///
    /// Other programs read the file as follows:
    ///
    /// - Python skips session cookies, unless `ignore_discard` is set when it writes, and
    ///   `ignore_expires` when it reads the expiry 0. It refuses a file with bytes that are not
    ///   UTF-8. It sends a cookie of `localhost` only if its domain is `localhost.local`.
    /// - Wget skips the lines of `HttpOnly` cookies.
    /// - curl reads a nameless cookie as a name without a value.
    Netscape,
    /// The jar's own JSON, which keeps everything: also `SameSite`, `Partitioned`, the order of
    /// creation, the times of creation, of the last `Set-Cookie` and of the last use, and bytes
    /// that are not UTF-8.
    ///
    /// It is an object with `version` (1) and `cookies`, an array of objects with these fields:
    ///
    /// - `name` and `value`: text, or an array of bytes.
    /// - `domain` and `path`.
    /// - `host_only`, `secure`, `http_only` and `partitioned`: false if absent.
    /// - `same_site`: `strict`, `lax` or `none`.
    /// - `expires` (absent for a session cookie), `created`, `updated` and `sent`: milliseconds
    ///   since 1970.
    ///
    /// Unknown fields are ignored. A newer version is an error.
    #[cfg(feature = "json")]
    Json,
    /// What browsers export: the arrays of EditThisCookie, Cookie-Editor, Puppeteer
    /// (`page.cookies()`) and Selenium (`get_cookies()`), and Playwright's `storageState`. A save
    /// writes `storageState`.
    ///
    /// It keeps name, value, domain, host-only flag, path, `Secure`, `HttpOnly`, `SameSite` and the
    /// expiry in milliseconds. It does not keep times of creation and use.
    ///
    /// - A cookie that is not UTF-8 is left out.
    /// - A cookie without `SameSite` is written as `Lax`, as Playwright does. Both mean the same.
    /// - A partition key is read as `Partitioned`, and is not written.
    /// - A save keeps the `origins` of a `storageState`, with the `localStorage` of pages.
    /// - A cookie that no jar could hold, such as one of more than 4,096 bytes, is skipped, listed
    ///   and kept, like a line of cookies.txt. If every cookie is such a one, the file is an error.
    ///
    /// | field | read as |
    /// |---|---|
    /// | `expirationDate`, `expires`, `expiry` | seconds, with a fraction. Absent, `null`, 0 or negative (`-1`): a session cookie |
    /// | `session` | true: a session cookie, whatever the expiry |
    /// | `hostOnly` | the host-only flag. Absent: true, unless the domain begins with a dot |
    /// | `sameSite` | `strict`, `lax` or `none` in any case, or `no_restriction` for `None`. Absent, `null`, empty, `unspecified`, `default`, or `None` without `secure`: no attribute |
    /// | `partitionKey` | `Partitioned`, unless it is `null` or empty |
    /// | others | ignored |
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, Format};
    ///
    /// let exported = r#"[{
    ///     "domain": ".example.com", "expirationDate": 4102444800.25, "hostOnly": false,
    ///     "httpOnly": true, "name": "id", "path": "/", "sameSite": "no_restriction",
    ///     "secure": true, "session": false, "storeId": "0", "value": "42"
    /// }]"#;
    /// let jar = CookieJar::new();
    /// jar.read_from(exported.as_bytes(), Format::Browser)?;
    /// assert_eq!(jar.header(&"https://www.example.com/".parse()?).unwrap(), "id=42");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "json")]
    Browser,
    /// The JSON of the `cookie_store` crate: an array, as `cookie_store::serde::json` writes it, or
    /// one cookie per line, as older releases write it.
    ///
    /// It keeps the expiry in seconds, and no times of creation and use. A cookie that its store
    /// cannot hold is left out: one without a name, with bytes that are not UTF-8, with Unicode
    /// white space at an end of its value, or of a host that the `url` crate refuses.
    #[cfg(feature = "cookie_store")]
    CookieStore,
}

impl Format {
    /// The name of the format in an error.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Netscape => "cookies.txt",
            #[cfg(feature = "json")]
            Self::Json => "a jar's JSON",
            #[cfg(feature = "json")]
            Self::Browser => "a browser's JSON",
            #[cfg(feature = "cookie_store")]
            Self::CookieStore => "cookie_store's JSON",
        }
    }

    /// A number for the state of a cookie, as far as the format keeps it: value, flags and expiry.
    /// It is the same in every process and release, and after writing and reading.
    pub(super) fn state(self, cookie: &Cookie) -> u64 {
        // A flag that the format does not keep is unset when it is read.
        let Flags { secure, http_only, partitioned, same_site, .. } = match self {
            Self::Netscape => Flags { same_site: None, partitioned: false, ..cookie.data.flags },
            #[cfg(feature = "json")]
            Self::Browser => Flags {
                same_site: cookie.data.flags.same_site.or(Some(SameSite::Lax)),
                partitioned: false,
                ..cookie.data.flags
            },
            #[cfg(feature = "json")]
            _ => cookie.data.flags,
        };
        let same_site = match same_site {
            None => 0,
            Some(SameSite::Strict) => 1,
            Some(SameSite::Lax) => 2,
            Some(SameSite::None) => 3,
        };
        let flags = [u8::from(secure), u8::from(http_only), u8::from(partitioned), same_site];
        let expires = self.kept_expiry(cookie.times.expires).to_le_bytes();
        let bytes = flags.iter().chain(&expires).chain(cookie.data.value());
        // FNV-1a: the standard library's hashes may change with a release. It need not resist an
        // attacker, since it is compared with another state of the same cookie.
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }

    const fn kept_expiry(self, expires: Millis) -> Millis {
        match self {
            #[cfg(feature = "json")]
            Self::Json | Self::Browser => expires,
            // Rounded as the formats write it.
            _ if expires == NEVER => NEVER,
            _ => expires.div_ceil(1000),
        }
    }
}

/// What a file holds, in its order, including expired cookies.
pub(super) fn read(format: Format, text: &[u8], now: Millis) -> Result<Contents, ReadError> {
    match format {
        Format::Netscape => netscape::read(text, now),
        #[cfg(feature = "json")]
        Format::Json => json::read(text, now).map(Contents::of),
        #[cfg(feature = "json")]
        Format::Browser => browser::read(text, now),
        #[cfg(feature = "cookie_store")]
        Format::CookieStore => cookie_store::read(text).map(Contents::of),
    }
}

pub(super) fn write(format: Format, sink: impl Write, entries: &[Entry]) -> io::Result<()> {
    match format {
        Format::Netscape => netscape::write(sink, entries),
        #[cfg(feature = "json")]
        Format::Json => json::write(sink, entries),
        #[cfg(feature = "json")]
        Format::Browser => browser::write(sink, entries),
        #[cfg(feature = "cookie_store")]
        Format::CookieStore => cookie_store::write(sink, entries),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::model::{
        cookie::{Door, InvalidCookie},
        rules::Rejection,
        suffix::PublicSuffixes,
    };

    /// Name, value, domain, path.
    type Row<'a> = (&'a str, &'a str, &'a str, &'a str);

    /// Its place among the doors.
    const NETSCAPE: usize = 1;

    /// What each door makes of a cookie with these parts and no flag.
    fn doors((name, value, domain, path): Row<'_>) -> Vec<(Door, Result<Cookie, &'static str>)> {
        let built = Cookie::builder(name, value).domain(domain).path(path).build();
        let line = format!("{domain}\tTRUE\t{path}\tFALSE\t0\t{name}\t{value}");
        #[cfg_attr(not(feature = "json"), expect(unused_mut, reason = "these are all"))]
        let mut doors = vec![
            (Door::Caller, built.map_err(InvalidCookie::reason)),
            (Door::File, read_one(Format::Netscape, &line)),
        ];
        #[cfg(feature = "json")]
        {
            use serde_json::json;
            let cookie = json!({"name": name, "value": value, "domain": domain, "path": path});
            let file = json!({"version": 1, "cookies": [cookie]});
            doors.push((Door::File, read_one(Format::Json, &file.to_string())));
        }
        #[cfg(feature = "cookie_store")]
        {
            let theirs = theirs((name, value, domain, path));
            for door in [Door::File, Door::Store] {
                let cookie = cookie_store::from_theirs(&theirs, door);
                doors.push((door, cookie.map_err(InvalidCookie::reason)));
            }
        }
        doors
    }

    fn read_one(format: Format, text: &str) -> Result<Cookie, &'static str> {
        match read(format, text.as_bytes(), 0) {
            Ok(contents) => Ok(contents.into_cookies().remove(0)),
            Err(ReadError::Line { reason, .. }) => Err(reason),
            Err(error) => panic!("{error}"),
        }
    }

    /// Its own constructors would refuse most of it; its file and its public fields do not.
    #[cfg(feature = "cookie_store")]
    fn theirs((name, value, domain, path): Row<'_>) -> ::cookie_store::Cookie<'static> {
        let raw = ::cookie_store::RawCookie::new(name.to_owned(), value.to_owned());
        let url = "https://h.example/".parse().unwrap();
        let mut theirs = ::cookie_store::Cookie::try_from_raw_cookie(&raw, &url).unwrap();
        let file = serde_json::json!({
            "raw_cookie": "a=1", "path": [path, true], "domain": {"Suffix": domain},
            "expires": "SessionEnd",
        });
        let read: ::cookie_store::Cookie<'_> = serde_json::from_value(file).unwrap();
        (theirs.domain, theirs.path) = (read.domain.clone(), read.path.clone());
        theirs
    }

    #[test]
    fn every_door_refuses_the_same_wrong_parts_for_the_same_reason() {
        use InvalidCookie::{Domain, Empty, Name, Path, TooLong, Value};
        let (long_value, long_path) = ("x".repeat(4096), format!("/{}", "x".repeat(3072)));
        let rows = [
            (("", "", "h.example", "/"), Empty),
            (("a=b", "1", "h.example", "/"), Name),
            ((" a", "1", "h.example", "/"), Name),
            (("a;b", "1", "h.example", "/"), Name),
            (("a\u{1}", "1", "h.example", "/"), Name),
            (("a", "1;2", "h.example", "/"), Value),
            (("a", " 1 ", "h.example", "/"), Value),
            (("a", "1\u{7f}", "h.example", "/"), Value),
            (("a", &long_value, "h.example", "/"), TooLong),
            (("a", "1", "", "/"), Domain),
            (("a", "1", ".", "/"), Domain),
            (("a", "1", "..h.example", "/"), Domain),
            (("a", "1", "h example", "/"), Domain),
            (("a", "1", "https://h.example", "/"), Domain),
            (("a", "1", "h.ex\u{e4}mple", "/"), Domain),
            (("a", "1", "h\u{1}.example", "/"), Domain),
            (("a", "1", "h.example", "x"), Path),
            (("a", "1", "h.example", "/\u{1}"), Path),
            (("a", "1", "h.example", &long_path), Path),
        ];
        // A line of cookies.txt is read as a server would read the pair, so these pairs do not come
        // to the door as they are written.
        let is_mended = |(name, value, ..): Row<'_>| {
            name.contains('=') || name.trim() != name || value.trim() != value
        };
        let mut wrong = Vec::new();
        for (row, want) in rows {
            for (place, (door, got)) in doors(row).into_iter().enumerate() {
                if place == NETSCAPE && is_mended(row) {
                    continue;
                }
                if got.as_ref().err() != Some(&want.reason()) {
                    wrong.push(format!("{row:.40?} through {door:?}: {got:?}, not {want:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_door_reads_a_domain_alike() {
        let rows = [
            (".H.Example", "h.example", false),
            ("h.example.", "h.example", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("127.1", "127.1", true),
            ("2001:DB8::1", "[2001:db8::1]", true),
            ("[::1]", "[::1]", true),
        ];
        let mut wrong = Vec::new();
        for (domain, want, alone) in rows {
            for (door, got) in doors(("a", "1", domain, "/")) {
                let got = got.map(|cookie| (cookie.domain().to_owned(), cookie.host_only()));
                if got != Ok((want.to_owned(), alone)) {
                    wrong.push(format!("{domain} through {door:?}: {got:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn doors_differ_in_paths_domains_and_broken_rules_alone() {
        use InvalidCookie::{Domain, Path, Rule};
        use Rejection::{HostPrefix, NamelessPrefix, PublicSuffix, SecurePrefix};
        let long = format!("/{}", "x".repeat(1024));
        // What a caller is told, what another store is told, and what the jar says to a file's.
        type Say = Result<(), InvalidCookie>;
        let rows: [(Row<'_>, Say, Say, Result<(), Rejection>); 7] = [
            (("a", "1", "h.example", "/a;b"), Err(Path), Ok(()), Ok(())),
            (("a", "1", "h.example", &long), Err(Path), Ok(()), Ok(())),
            (("a", "1", "a,b.example", "/"), Err(Domain), Ok(()), Ok(())),
            (
                ("__Host-a", "1", "h.example", "/"),
                Err(Rule(HostPrefix)),
                Err(Rule(HostPrefix)),
                Err(HostPrefix),
            ),
            (
                ("__Secure-a", "1", "h.example", "/"),
                Err(Rule(SecurePrefix)),
                Err(Rule(SecurePrefix)),
                Err(SecurePrefix),
            ),
            (
                ("", "__Host-a", "h.example", "/"),
                Err(Rule(NamelessPrefix)),
                Err(Rule(NamelessPrefix)),
                Err(NamelessPrefix),
            ),
            // A jar makes it host-only where a caller inserts it.
            (("a", "1", "co.uk", "/"), Ok(()), Ok(()), Err(PublicSuffix)),
        ];
        let mut wrong = Vec::new();
        for (row, caller, store, file) in rows {
            for (door, got) in doors(row) {
                let told = match door {
                    Door::Caller => caller,
                    Door::Store => store,
                    Door::File => Ok(()),
                };
                let judged = match (door, &got) {
                    (Door::File, Ok(cookie)) => cookie.judge(&PublicSuffixes::Embedded),
                    _ => file,
                };
                let reason = got.as_ref().err().copied();
                if reason != told.err().map(InvalidCookie::reason) || judged != file {
                    wrong.push(format!("{row:.40?} through {door:?}: {got:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
