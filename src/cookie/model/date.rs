//! A cookie-date, as RFC 6265bis section 5.1.1 reads it.

/// Reads a cookie-date as seconds since 1970. The tokens may come in any order, and the first of
/// each kind counts.
pub(super) fn date(value: &[u8]) -> Option<i64> {
    let (mut time, mut day, mut month, mut year) = (None, None, None, None);
    for token in value.split(|&byte| is_date_delimiter(byte)) {
        // In the order of the RFC: `08` could be a day or a year, and counts as a day first.
        if token.is_empty() {
            continue;
        }
        if time.is_none() {
            time = clock_time(token);
            if time.is_some() {
                continue;
            }
        }
        if day.is_none() {
            day = number(token, 1, 2);
            if day.is_some() {
                continue;
            }
        }
        if month.is_none() {
            month = month_number(token);
            if month.is_some() {
                continue;
            }
        }
        if year.is_none() {
            year = number(token, 2, 4);
        }
    }
    let ((hour, minute, second), day, month) = (time?, day?, month?);
    // Two digits up to 69 are of this century.
    let year = match year? {
        short @ 0..=69 => short + 2000,
        short @ 70..=99 => short + 1900,
        long => long,
    };
    // 1601 is where the clocks of some systems begin. A leap second is not accepted.
    let in_range = year >= 1601 && hour <= 23 && minute <= 59 && second <= 59;
    if !in_range || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Every byte except letters, digits, the colon inside a time, and bytes beyond ASCII.
const fn is_date_delimiter(byte: u8) -> bool {
    matches!(byte, 0x09 | 0x20..=0x2f | 0x3b..=0x40 | 0x5b..=0x60 | 0x7b..=0x7e)
}

/// A number of `least` to `most` digits. What follows them may be anything but a digit.
fn number(token: &[u8], least: usize, most: usize) -> Option<i64> {
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits < least || digits > most {
        return None;
    }
    Some(token[..digits].iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// Hours, minutes and seconds. Only the seconds may have something after them, such as `.123`.
fn clock_time(token: &[u8]) -> Option<(i64, i64, i64)> {
    let mut fields = token.splitn(3, |&byte| byte == b':');
    let mut whole = || {
        let field = fields.next()?;
        field.iter().all(u8::is_ascii_digit).then(|| number(field, 1, 2))?
    };
    let (hour, minute) = (whole()?, whole()?);
    Some((hour, minute, number(fields.next()?, 1, 2)?))
}

/// A month is recognised by its first three letters, so `November` and `Novembre` are the same.
fn month_number(token: &[u8]) -> Option<i64> {
    const MONTHS: [&[u8; 3]; 12] = [
        b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov",
        b"dec",
    ];
    let start = token.get(..3)?;
    let at = MONTHS.iter().position(|month| start.eq_ignore_ascii_case(*month))?;
    i64::try_from(at).ok().map(|at| at + 1)
}

// The RFC's last check: a date that no calendar has is not a date.
const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, which is taken to hold before 1582 too.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of a year, and 400 years have
    // 146,097 days. Day 719,468 of that count is the first of 1970.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_by_their_tokens_not_by_their_layout() {
        let rows: &[(&str, Option<i64>)] = &[
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Thu, 1 Jan 1970 00:00:00 GMT", Some(0)),
            ("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1)),
            ("Tue, 29 Feb 2000 12:00:00 GMT", Some(951_825_600)),
            ("Mon, 29 Feb 2100 12:00:00 GMT", None),
            ("Sun, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("08:49:37 1994 Nov 6", Some(784_111_777)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            ("Mon, 01 Jan 1601 00:00:00 GMT", Some(-11_644_473_600)),
            ("Sun, 31 Dec 1600 23:59:59 GMT", None),
            ("Thu, 32 Jan 2020 00:00:00 GMT", None),
            ("Thu, 10 Jan 2020 24:00:00 GMT", None),
            ("Thu, 10 Jan 2020 00:00:00.123 GMT", Some(1_578_614_400)),
            ("Thu, 10 Jan 12020 00:00:00 GMT", None),
            ("Thu, 10 Jan 2020", None),
            ("", None),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(text, want)| date(text.as_bytes()) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
