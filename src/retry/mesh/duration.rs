//! Durations as meshes write them: Go's format, and the Gateway API's, which is a part of Go's.

use std::{fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

/// A format: its description for errors, and its parser.
type Format = (&'static str, fn(&str) -> Option<Duration>);

const GATEWAY: Format = (
    "one to four whole numbers of at most five digits, each with h, m, s or ms, such as \"1h30m\"",
    gateway,
);

const GO: Format = ("numbers with h, m, s, ms, us or ns, such as \"10s\" or \"1m30s\"", go);

/// For `#[serde(deserialize_with)]`: the Gateway API's format. A null is no value, as it is to
/// Kubernetes.
pub(super) fn of_gateway<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    struct Text(Duration);

    impl<'de> Deserialize<'de> for Text {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_str(Reader(GATEWAY)).map(Self)
        }
    }

    Ok(Option::deserialize(deserializer)?.map(|Text(duration)| duration))
}

/// For `#[serde(deserialize_with)]`: Go's format.
pub(super) fn of_go<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    deserializer.deserialize_str(Reader(GO))
}

struct Reader(Format);

impl Visitor<'_> for Reader {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a duration: {}", self.0.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Duration, E> {
        let (expected, read) = self.0;
        read(text)
            .ok_or_else(|| E::custom(format_args!("{text:?} is not a duration: write {expected}")))
    }
}

/// GEP-2257: `^([0-9]{1,5}(h|m|s|ms)){1,4}$`. Units may repeat, in any order, and add up.
fn gateway(text: &str) -> Option<Duration> {
    let mut components = 0;
    let mut rest = text;
    while let Some((number, unit, after)) = component(rest) {
        let is_whole = number.len() <= 5 && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_whole || !matches!(unit, "h" | "m" | "s" | "ms") {
            return None;
        }
        (components, rest) = (components + 1, after);
    }
    // `go` refuses what follows the last component. A lone 0, which Go reads, is refused here.
    (1..=4).contains(&components).then(|| go(text)).flatten()
}

/// Go's `time.ParseDuration` without signs: no time that is read here is negative.
fn go(text: &str) -> Option<Duration> {
    // The one number that Go reads without a unit.
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut nanos, mut rest) = (0_u128, text);
    while let Some((number, unit, after)) = component(rest) {
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // Go counts nanoseconds in 63 bits. More than 19 digits are too many for that, and past 18
        // digits a fraction is below a nanosecond.
        if whole.len() + fraction.len() == 0 || whole.len() > 19 {
            return None;
        }
        let fraction = &fraction[..fraction.len().min(18)];
        let nanos_of_unit = nanos_in(unit)?;
        let part = digits(fraction)? * nanos_of_unit / 10_u128.pow(fraction.len() as u32);
        nanos = nanos.checked_add(digits(whole)? * nanos_of_unit + part)?;
        rest = after;
    }
    let is_read = rest.is_empty() && !text.is_empty();
    let nanos = i64::try_from(nanos).ok().filter(|_| is_read)?;
    Some(Duration::from_nanos(nanos.unsigned_abs()))
}

/// The first number, its unit, and the rest of the text. `None` if the text has no further unit.
fn component(text: &str) -> Option<(&str, &str, &str)> {
    let is_of_number = |c: char| c.is_ascii_digit() || c == '.';
    let (number, rest) = text.split_at(text.find(|c| !is_of_number(c))?);
    let (unit, rest) = rest.split_at(rest.find(is_of_number).unwrap_or(rest.len()));
    Some((number, unit, rest))
}

fn nanos_in(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        // The micro sign, and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 60 * 60 * 1_000_000_000,
        _ => return None,
    })
}

/// The value of the digits, or 0 if there are none.
fn digits(text: &str) -> Option<u128> {
    if text.is_empty() { Some(0) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60 * 1_000;

    /// The text, and milliseconds; `None` for what is no duration.
    fn check(read: fn(&str) -> Option<Duration>, rows: &[(&str, Option<u64>)]) {
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(text, millis)| (text, read(text), millis.map(Duration::from_millis)))
            .filter(|(_, got, want)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn the_gateway_api_s_own_rows_are_read() {
        check(
            gateway,
            &[
                // GEP-2257, test vectors.
                ("0h", Some(0)),
                ("0s", Some(0)),
                ("0h0m0s", Some(0)),
                ("1h", Some(HOUR)),
                ("30m", Some(HOUR / 2)),
                ("10s", Some(10_000)),
                ("500ms", Some(500)),
                ("2h30m", Some(5 * HOUR / 2)),
                ("150m", Some(5 * HOUR / 2)),
                ("7230s", Some(2 * HOUR + 30_000)),
                ("1h30m10s", Some(3 * HOUR / 2 + 10_000)),
                ("10s30m1h", Some(3 * HOUR / 2 + 10_000)),
                ("100ms200ms300ms", Some(600)),
                ("1", None),
                ("1m1", None),
                ("1d", None),
                ("1h30m10s20ms50h", None),
                ("999999h", None),
                ("1.5h", None),
                ("-15m", None),
                // And from its text.
                ("1h30m30s500ms", Some(3 * HOUR / 2 + 30_500)),
                ("00060m", Some(HOUR)),
                ("1h2h20m10m", Some(7 * HOUR / 2)),
                ("99999h99999h99999h99999h", Some(4 * 99_999 * HOUR)),
                ("0", None),
                ("", None),
                ("s", None),
                ("1us", None),
                ("+1s", None),
                (" 1s", None),
                ("1s ", None),
                ("1 s", None),
                ("1S", None),
                ("\u{661}s", None),
            ],
        );
    }

    #[test]
    fn go_s_durations_are_read_but_for_signs() {
        check(
            go,
            &[
                ("10s", Some(10_000)),
                ("1m30s", Some(90_000)),
                ("1.5s", Some(1_500)),
                ("1.s", Some(1_000)),
                (".5s", Some(500)),
                ("1500000us", Some(1_500)),
                ("2000\u{b5}s3000\u{3bc}s", Some(5)),
                ("1000000ns", Some(1)),
                ("0.0010000000000000000000000000000000001s", Some(1)),
                ("1h2m3s4ms5s", Some(HOUR + 128_004)),
                ("0", Some(0)),
                // The most that Go holds, and one hour more.
                ("2562047h", Some(2_562_047 * HOUR)),
                ("2562048h", None),
                ("99999999999999999999999999999999999999999ns", None),
                ("", None),
                ("5", None),
                (".s", None),
                ("1..5s", None),
                ("1s5", None),
                ("1d", None),
                ("-10s", None),
                ("+10s", None),
                ("10 s", None),
            ],
        );
    }
}
