//! Any lines of `Set-Cookie`, told to the jar and to the plain, slow one of the tests: the same
//! lines are refused, the same cookies are kept, and the same are sent.
#![no_main]

use std::{
    cell::Cell,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use libfuzzer_sys::fuzz_target;
use tower_outbound::cookie::{CookieJar, CookieLimits, Format};

#[expect(dead_code, reason = "what only the tests write down")]
#[path = "../../tests/cookie/oracle/plain.rs"]
mod plain;

use plain::{Attribute, Line, Oracle, Place, spelt};

/// Milliseconds, as in the tests.
type Millis = u64;
const START: Millis = 1_750_000_000_000;
const DAY: Millis = 86_400_000;

thread_local! {
    static NOW: Cell<Millis> = const { Cell::new(START) };
}

fn clock() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(NOW.get())
}

/// Neighbours, their parents that are public suffixes, addresses, and single labels. Whatever a
/// line claims, only a host's own parents can be its domain, and the oracle knows the suffixes
/// among those.
const HOSTS: [&str; 16] = [
    "example.com",
    "www.example.com",
    "a.www.example.com:8443",
    "WWW.Example.com.",
    "notexample.com",
    "x.co.uk",
    "y.x.co.uk",
    "co.uk",
    "foo.github.io",
    "github.io",
    "x.amazonaws.com",
    "b.s3.amazonaws.com",
    "127.0.0.1",
    "[::1]",
    "localhost",
    "intranet",
];
const SCHEMES: [&str; 4] = ["https", "http", "wss", "ws"];
const PATHS: [&str; 4] = ["/", "/a/b", "/a", "/ab?q=/c"];

static PLACES: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let of_host = |host: &'static str| {
        SCHEMES.iter().flat_map(move |scheme| PATHS.map(|path| Place::new(scheme, host, path)))
    };
    HOSTS.iter().flat_map(|host| of_host(host)).collect()
});

fn place(host: u8, way: u8) -> &'static Place {
    &PLACES[usize::from(host % 16) * 16 + usize::from(way % 16)]
}

/// RFC 6265bis, section 5.6, read aloud.
fn line(text: &str) -> Line<'_> {
    let blank = [' ', '\t'];
    let mut parts = text.split(';');
    let pair = parts.next().unwrap_or_default();
    let (name, value) = pair.split_once('=').unwrap_or(("", pair));
    let attributes = parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim_matches(blank), value.trim_matches(blank));
        if value.len() > 1_024 {
            return Attribute::Noise(part);
        }
        match &*name.to_ascii_lowercase() {
            "domain" => Attribute::Domain(value),
            "path" => Attribute::Path(value),
            "max-age" => Attribute::MaxAge(value, seconds(value)),
            "expires" => date(value).map_or(Attribute::Noise(part), Attribute::Expires),
            "secure" => Attribute::Secure,
            "httponly" => Attribute::HttpOnly,
            "partitioned" => Attribute::Partitioned,
            "samesite" => Attribute::SameSite(value),
            _ => Attribute::Noise(part),
        }
    });
    let attributes = attributes.collect();
    let (name, value) = (name.trim_matches(blank), value.trim_matches(blank));
    Line { name, value, attributes, text: text.to_owned() }
}

/// Section 5.6.2. What is beyond a number of 64 bits is as good as the largest.
fn seconds(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let most = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    Some(text.parse().unwrap_or(most))
}

/// Section 5.1.1: seconds since 1970, and 0 for what is before.
fn date(text: &str) -> Option<u64> {
    let is_delimiter = |letter: char| {
        letter == '\t' || letter.is_ascii_punctuation() && letter != ':' || letter == ' '
    };
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in text.split(is_delimiter).filter(|token| !token.is_empty()) {
        if time.is_none()
            && let Some(found) = clock_time(token)
        {
            time = Some(found);
        } else if day.is_none()
            && let Some((found, _)) = number(token, 1..=2)
        {
            day = Some(found);
        } else if month.is_none()
            && let Some(found) = MONTHS.iter().position(|month| {
                token.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(month.0))
            })
        {
            month = Some(found);
        } else if year.is_none()
            && let Some((found, _)) = number(token, 2..=4)
        {
            year = Some(found);
        }
    }
    let ((hour, minute, second), day, month) = (time?, day?, month?);
    let year = match year? {
        short @ 70..=99 => short + 1_900,
        short @ 0..=69 => short + 2_000,
        long => long,
    };
    let is_leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = |month: usize| MONTHS[month].1 + i64::from(month == 1 && is_leap(year));
    let is_date = (1..=days(month)).contains(&day) && year >= 1_601;
    if !is_date || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let before =
        |year: i64| (year - 1) * 365 + (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let day = before(year) - before(1_970) + (0..month).map(days).sum::<i64>() + day - 1;
    let seconds = ((day * 24 + hour) * 60 + minute) * 60 + second;
    Some(seconds.max(0).unsigned_abs())
}

const MONTHS: [(&str, i64); 12] = [
    ("jan", 31),
    ("feb", 28),
    ("mar", 31),
    ("apr", 30),
    ("may", 31),
    ("jun", 30),
    ("jul", 31),
    ("aug", 31),
    ("sep", 30),
    ("oct", 31),
    ("nov", 30),
    ("dec", 31),
];

/// `hh:mm:ss`, and then no digit.
fn clock_time(token: &str) -> Option<(i64, i64, i64)> {
    let (hour, rest) = number(token, 1..=2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 1..=2)?;
    let (second, _) = number(rest.strip_prefix(':')?, 1..=2)?;
    Some((hour, minute, second))
}

/// The digits that a text begins with, if there are this many, and what is after them.
fn number(text: &str, many: std::ops::RangeInclusive<usize>) -> Option<(i64, &str)> {
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    many.contains(&end).then(|| Some((digits.parse().ok()?, rest))).flatten()
}

/// Whether the two hosts end in the same label.
fn is_near(one: &Place, other: &Place) -> bool {
    fn last(place: &Place) -> Option<&str> {
        place.host.as_deref()?.rsplit('.').next()
    }
    last(one) == last(other)
}

fn limits(bits: u8) -> CookieLimits {
    let mut limits = CookieLimits::default();
    if bits & 1 != 0 {
        limits.per_domain = 3;
    }
    if bits & 2 != 0 {
        limits.header_cookies = 2;
    }
    if bits & 4 != 0 {
        limits.header_bytes = 20;
    }
    if bits & 8 != 0 {
        limits.total = [2, 5, 8, 17][usize::from(bits >> 6)];
    }
    if bits & 16 != 0 {
        limits.bytes = [40, 80, 120, 200][usize::from(bits >> 6)];
    }
    limits
}

fn listed(jar: &CookieJar) -> Vec<String> {
    let millis =
        |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as Millis;
    jar.iter()
        .map(|c| {
            let same_site = c
                .same_site()
                .map_or("unset".to_owned(), |value| format!("{value:?}").to_lowercase());
            let flags = (c.host_only(), c.secure(), c.http_only(), c.partitioned(), &*same_site);
            let (expires, created) = (c.expires().map(millis), millis(c.created()));
            format!(
                "{}={} {} {} {flags:?} {expires:?} {created}",
                c.name(),
                c.value(),
                c.domain(),
                c.path()
            )
        })
        .collect()
}

struct Both {
    jar: CookieJar,
    oracle: Oracle,
}

impl Both {
    fn set(&mut self, place: &Place, text: &str) {
        let line = line(text);
        let (got, want) = (self.jar.set(&place.uri, text), self.oracle.set(place, &line));
        let agree = match (&got, &want) {
            (Ok(got), Ok(want)) => got == want,
            (Err(got), Err(broken)) => broken.contains(&format!("{got:?}")),
            _ => false,
        };
        assert!(agree, "{} sets {text:?}: {got:?} instead of {want:?}", place.uri);
    }

    fn respond(&mut self, place: &Place, text: &str) {
        let lines: Vec<_> = text.split('\r').take(40).collect();
        let values = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()));
        // No header value holds a control character, so no response does.
        let Ok(values) = values.collect::<Result<Vec<_>, _>>() else { return };
        let headers: HeaderMap = values.into_iter().map(|value| (SET_COOKIE, value)).collect();
        let got = self.jar.store_response(&place.uri, &headers);
        let want: Vec<_> =
            lines.iter().filter_map(|text| self.oracle.set(place, &line(text)).err()).collect();
        let got: Vec<_> =
            got.rejected().iter().map(|cookie| format!("{:?}", cookie.reason())).collect();
        let agree =
            got.len() == want.len() && got.iter().zip(&want).all(|(got, want)| want.contains(got));
        assert!(agree, "{} responds {lines:?}: {got:?} instead of {want:?}", place.uri);
    }

    fn compare(&mut self, place: &Place) {
        NOW.set(NOW.get() + 1);
        let (got, want) = (self.jar.header(&place.uri), self.oracle.header(place));
        let got = got.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes()));
        assert_eq!(got.as_deref(), want.as_deref(), "to {}", place.uri);
    }
}

fuzz_target!(|story: &[u8]| {
    let Some((bits, story)) = story.split_first() else { return };
    let limits = limits(*bits);
    NOW.set(START);
    let builder = CookieJar::builder().limits(limits).clock(clock);
    let mut both = Both {
        jar: builder.clone().build(),
        oracle: Oracle { cookies: Vec::new(), order: 0, limits },
    };
    let (mut told, mut seen) = (Vec::new(), Vec::new());
    for step in story.split(|byte| *byte == b'\n').take(24) {
        let [what, way, text @ ..] = step else { continue };
        let Ok(text) = str::from_utf8(text) else { continue };
        let place = place(*what, *way);
        seen.push(place);
        NOW.set(NOW.get() + 1);
        match what >> 4 {
            0..8 => {
                told.push(text);
                both.set(place, text);
            }
            8 => both.respond(place, text),
            // The same line again, from here.
            9 | 10 if !told.is_empty() => both.set(place, told[text.len() % told.len()]),
            11 => {
                let time = [1, 1_000, 4_999, 60_000, 3_600_000, DAY, 399 * DAY, 401 * DAY];
                NOW.set(NOW.get() + time[usize::from(*way) % time.len()]);
            }
            12 => {
                both.jar.clear_expired();
                both.oracle.expire();
                assert_eq!(both.jar.len(), both.oracle.cookies.len());
            }
            13 => {
                let mut names = text.splitn(3, ' ');
                let mut name = || names.next().unwrap_or_default();
                let (domain, path, name) = (name(), name(), name());
                let got = both.jar.remove(domain, path, name);
                let got = got.map(|cookie| (cookie.value().into_owned(), cookie.host_only()));
                let want = both.oracle.remove(domain, path, name);
                let want = want.map(|cookie| (cookie.value, cookie.host_only));
                assert_eq!(got, want, "remove {domain:?} {path:?} {name:?}");
            }
            14 if way % 2 == 0 => {
                let (mut file, again) = (Vec::new(), builder.clone().build());
                both.jar.write_to(&mut file, Format::Json).expect("a vector takes it all");
                again.read_from(&*file, Format::Json).expect("its own file");
                both.jar = again;
            }
            14 => {
                both.jar.clear_session_cookies();
                both.oracle.cookies.retain(|cookie| cookie.expires.is_some());
            }
            15 => {
                both.jar.clear_domain(text);
                let domain = spelt(text);
                both.oracle.cookies.retain(|cookie| Some(&cookie.domain) != domain.as_ref());
            }
            _ => {}
        }
        both.compare(place);
    }
    // Those whose cookies could be sent there, and a stranger.
    let stranger = &PLACES[usize::from(*bits) * 16 % PLACES.len()];
    let near = |place: &&Place| seen.iter().any(|seen: &&Place| is_near(seen, place));
    for place in PLACES.iter().skip(1).step_by(16).filter(near).chain([stranger]) {
        both.compare(place);
    }
    assert_eq!(listed(&both.jar), both.oracle.listed());
});
