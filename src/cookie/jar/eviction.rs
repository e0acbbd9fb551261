//! Which cookies a full site or a full jar gives up. Values in, a choice out: the store gathers the
//! candidates under its locks, and carries the choice out.

use std::collections::HashSet;

use super::limits::CookieLimits;
use crate::cookie::model::data::Millis;

/// A stored cookie, as far as its eviction goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its number in the jar. It also says which of two cookies came first.
    pub(super) order: u64,
    /// How long its text is.
    pub(super) bytes: usize,
    pub(super) is_secure: bool,
    pub(super) was_sent: bool,
    pub(super) last_used: Millis,
    pub(super) expires: Millis,
}

/// What a site with more than `most` cookies gives up, by their numbers: the expired ones, then
/// those that are not `Secure`, then the others; least recently used first within each group.
///
/// Source: the end of RFC 6265bis section 5.7.
pub(super) fn of_site(
    cookies: impl Iterator<Item = Candidate>,
    most: usize,
    newest: u64,
    now: Millis,
) -> Vec<u64> {
    let (mut live, mut doomed) = (Vec::new(), Vec::new());
    for cookie in cookies {
        if cookie.expires > now {
            live.push(cookie);
        } else {
            doomed.push(cookie.order);
        }
    }
    // All that has expired is gone by now, also what would not have been too much: no one would
    // miss it.
    let excess = live.len().saturating_sub(most);
    if excess > 0 {
        // The newest is the last of its group: a server that has just set it will ask for it. But
        // it never displaces a `Secure` one, or http could empty a site of what https has set.
        live.select_nth_unstable_by_key(excess - 1, |cookie| {
            (cookie.is_secure, cookie.order == newest, cookie.last_used, cookie.order)
        });
        doomed.extend(live[..excess].iter().map(|cookie| cookie.order));
    }
    doomed
}

/// What a jar over its total count or bytes gives up, by their numbers: the expired ones, then
/// those that were never sent, then the others; least recently used first within each group. The
/// newest stays.
///
/// The half of the jar that came first is spared while there is another. So a flood of newcomers
/// reaches nothing that was there before it, whether that was sent or not.
pub(super) fn of_jar(
    cookies: Vec<Candidate>,
    newest: u64,
    limits: &CookieLimits,
    now: Millis,
) -> HashSet<u64> {
    let (mut live, expired): (Vec<_>, Vec<_>) =
        cookies.into_iter().partition(|cookie| cookie.expires > now);
    let mut doomed: HashSet<_> = expired.iter().map(|cookie| cookie.order).collect();
    let mut len = live.len();
    let mut bytes: usize = live.iter().map(|cookie| cookie.bytes).sum();
    if len <= limits.total && bytes <= limits.bytes {
        return doomed;
    }
    // A response that was told that its cookie is stored should find it there.
    live.retain(|cookie| cookie.order != newest);
    live.sort_unstable_by_key(|cookie| cookie.order);
    let older = older_half(&live, limits);
    let (older, newer) = live.split_at_mut(older);
    for half in [&mut *older, &mut *newer] {
        half.sort_unstable_by_key(|cookie| (cookie.was_sent, cookie.last_used, cookie.order));
    }
    // A sixteenth more than has to go: the search looks at the whole jar, and a flood should not
    // pay for it, or make others pay, with each cookie.
    let (most, room) = (limits.total - limits.total / 16, limits.bytes - limits.bytes / 16);
    for cookie in newer.iter().chain(older.iter()) {
        if len <= most && bytes <= room {
            break;
        }
        len -= 1;
        bytes -= cookie.bytes;
        doomed.insert(cookie.order);
    }
    doomed
}

/// How many of these, oldest first, are the older half of a full jar, by its count and its bytes.
fn older_half(cookies: &[Candidate], limits: &CookieLimits) -> usize {
    // By both limits: else the newcomers could be few and large, or many and small.
    let mut text = 0;
    cookies
        .iter()
        .take(limits.total / 2)
        .take_while(|cookie| {
            text += cookie.bytes;
            text <= limits.bytes / 2
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000;

    /// A cookie as rows write it: its number, then `s` for Secure, `u` for never sent, `x` for
    /// expired, then when it was last used.
    fn candidates(row: &str) -> Vec<Candidate> {
        row.split_whitespace()
            .map(|text| {
                let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).count();
                let (order, rest) = text.split_at(digits(text));
                let (flags, used) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap());
                Candidate {
                    order: order.parse().unwrap(),
                    bytes: 10,
                    is_secure: flags.contains('s'),
                    was_sent: !flags.contains('u'),
                    last_used: used.parse().unwrap(),
                    expires: if flags.contains('x') { NOW } else { NOW + 1 },
                }
            })
            .collect()
    }

    fn sorted(orders: impl IntoIterator<Item = u64>) -> Vec<u64> {
        let mut orders: Vec<_> = orders.into_iter().collect();
        orders.sort_unstable();
        orders
    }

    #[test]
    fn a_site_gives_up_its_expired_then_its_insecure_then_its_least_recently_used() {
        // What there is, the newest, how many may stay, which go.
        let rows: &[(&str, u64, usize, &[u64])] = &[
            ("1-5 2-6 3-7", 3, 3, &[]),
            ("1-5 2-4 3-7", 3, 2, &[2]),
            ("1-5 2-4 3-7", 3, 1, &[1, 2]),
            // All that has expired goes, even if one less would do.
            ("1x5 2x6 3-7", 3, 2, &[1, 2]),
            ("1x5 2-6 3-7", 3, 3, &[1]),
            ("1x9 2-5 3-6 4-7", 4, 2, &[1, 2]),
            // Secure ones stay, however old.
            ("1s1 2-6 3-7", 3, 2, &[2]),
            ("1s1 2s2 3s3", 3, 2, &[1]),
            // The newest goes after its equals, though it is no more recent than they are.
            ("1-7 2-7 3-7", 3, 2, &[1]),
            ("1-7 2-7 3-2", 3, 2, &[1]),
            // But before a Secure one.
            ("1s1 2s2 3-7", 3, 2, &[3]),
            // Of two that were used at the same time, the one that came first goes.
            ("2-5 1-5 3-7", 3, 2, &[1]),
            // Whether a cookie was sent makes no difference within a site.
            ("1u6 2-5 3-7", 3, 2, &[2]),
            ("1-5", 1, 0, &[1]),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(row, newest, most, want)| {
                let got = of_site(candidates(row).into_iter(), *most, *newest, NOW);
                (row, sorted(got), want)
            })
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_jar_gives_up_its_expired_then_of_its_newer_half_what_was_never_sent() {
        // What there is, the newest, the limits of count and bytes, which go. Each has ten bytes.
        let rows: &[(&str, u64, [usize; 2], &[u64])] = &[
            ("1-1 2-2 3-3 4-4", 4, [4, 99], &[]),
            ("1-1 2-2 3-3 4-4 5-5", 5, [4, 99], &[3]),
            ("1-1 2-2 3-3 4-4 5-5", 5, [99, 40], &[3, 4]),
            // What has expired goes first, wherever it is, and may be enough.
            ("1x1 2-2 3-3 4-4 5-5", 5, [4, 99], &[1]),
            ("1x1 2-2 3-3 4-4 5-5 6-6", 6, [4, 99], &[1, 4]),
            // Of the newer half, what was never sent goes first.
            ("1u1 2u2 3-3 4u4 5-5", 5, [4, 99], &[4]),
            ("1-1 2-2 3-8 4-7 5-5", 5, [4, 99], &[4]),
            // The newest stays, though it was used before all others.
            ("1-5 2-5 3-5 4-5 5u1", 5, [4, 99], &[3]),
            // The older half goes when there is no other.
            ("1-2 2-1 3-9", 3, [2, 99], &[2]),
            ("1-1 2-2", 2, [1, 99], &[1]),
            // By bytes, the older half is what half of the bytes hold.
            ("1-1 2-2 3-3 4-4 5-5 6-6", 6, [99, 50], &[3, 4]),
            ("1-1", 1, [99, 5], &[]),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(row, newest, [total, bytes], want)| {
                let limits =
                    CookieLimits { total: *total, bytes: *bytes, ..CookieLimits::default() };
                (row, sorted(of_jar(candidates(row), *newest, &limits, NOW)), want)
            })
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_full_jar_gives_up_a_sixteenth_at_once() {
        let limits = CookieLimits { total: 160, ..CookieLimits::default() };
        let row: String = (1..=161).map(|order| format!("{order}-{order} ")).collect();
        let doomed = sorted(of_jar(candidates(&row), 161, &limits, NOW));
        // The older half is spared, so that the 81st is the first to go.
        assert_eq!(doomed, (81..=91).collect::<Vec<_>>());
    }
}
