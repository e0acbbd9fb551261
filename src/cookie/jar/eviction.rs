//! Which cookies a full site or a full jar evicts. Pure: the store collects the candidates under
//! its locks and removes those chosen here.

use std::{cmp::Reverse, collections::HashSet};

use super::limits::CookieLimits;
use crate::cookie::model::data::Millis;

/// A stored cookie, as eviction sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// Its number in the jar, in the order in which cookies came.
    pub(super) order: u64,
    /// Length of its text.
    pub(super) bytes: usize,
    pub(super) is_secure: bool,
    pub(super) was_sent: bool,
    pub(super) last_used: Millis,
    pub(super) expires: Millis,
    /// How many whole shares of a jar the better cookies of its site fill: see [`share_out`].
    pub(super) shares_before: usize,
}

impl Candidate {
    /// Of two cookies of one site, the one with the greater worth stays.
    const fn worth(&self) -> (bool, Millis, u64) {
        (self.is_secure, self.last_used, self.order)
    }
}

/// The numbers of the cookies that a site with more than `most` evicts: expired first, then
/// non-`Secure`, then `Secure`; least recently used first within each group.
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
    // All expired cookies are evicted, also those that would still have fit: nobody misses them.
    let excess = live.len().saturating_sub(most);
    if excess > 0 {
        // The newest is last of its group: a server that has just set it will ask for it. But it
        // never displaces a `Secure` one, or http could remove all that https has set.
        live.select_nth_unstable_by_key(excess - 1, |cookie| {
            let (is_secure, last_used, order) = cookie.worth();
            (is_secure, order == newest, last_used, order)
        });
        doomed.extend(live[..excess].iter().map(|cookie| cookie.order));
    }
    doomed
}

/// A site's share of a jar: this fraction of it, but at least what a login may need.
const SHARE: usize = 1_024;
/// The smallest share, in cookies and in bytes.
const LOGIN: (usize, usize) = (8, 4_096);

/// Computes for each cookie of one site how many shares of the jar the better cookies of that site
/// fill.
///
/// A site that fills a jar evicts its own cookies before those of others. The share is small, so
/// many sites are needed to fill a jar with each of them within its share.
pub(super) fn share_out(site: &mut [Candidate], limits: &CookieLimits, now: Millis) {
    let count = (limits.total / SHARE).max(LOGIN.0);
    let bytes = (limits.bytes / SHARE).max(LOGIN.1);
    // Nearly every site returns here.
    if site.len() <= count && site.iter().map(|cookie| cookie.bytes).sum::<usize>() <= bytes {
        return;
    }
    site.sort_unstable_by_key(|cookie| Reverse(cookie.worth()));
    let mut before = (0, 0);
    for cookie in site.iter_mut().filter(|cookie| cookie.expires > now) {
        // By both limits, as in `part`.
        cookie.shares_before = (before.0 / count).max(before.1 / bytes);
        before = (before.0 + 1, before.1 + cookie.bytes);
    }
}

/// The numbers of the cookies that a jar over its total count or bytes evicts: expired first, then
/// those beyond their site's [share](share_out), the largest site first, then those never sent,
/// then the others; least recently used first within each group. The newest stays.
///
/// The older half of the jar is evicted only after the newer half. So a flood of new cookies does
/// not reach older ones, sent or not. Within the newer half, the last eighth is evicted after the
/// others that are within their share. So a login is not lost before its first use, even if
/// everything else in the jar was used.
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
    // A response that reported its cookie as stored should find it there.
    live.retain(|cookie| cookie.order != newest);
    live.sort_unstable_by_key(|cookie| cookie.order);
    let older = part(live.iter(), limits, 2);
    let (older, newer) = live.split_at_mut(older);
    let last = newer.len() - part(newer.iter().rev(), limits, 8);
    let last = newer.get(last).map_or(u64::MAX, |cookie| cookie.order);
    let worth = |cookie: &Candidate| {
        let Candidate { shares_before, order, was_sent, last_used, .. } = *cookie;
        (Reverse(shares_before), order >= last, was_sent, last_used, order)
    };
    // Evicts a sixteenth more than needed: the search reads the whole jar, and a flood should not
    // make everyone pay for it with each cookie.
    let (most, room) = (limits.total - limits.total / 16, limits.bytes - limits.bytes / 16);
    for half in [newer, older] {
        let excess = len.saturating_sub(most).min(half.len());
        if excess > 0 {
            half.select_nth_unstable_by_key(excess - 1, worth);
        }
        // Sorted only if needed: sorting a half costs as much as all the rest.
        let goes: usize = half[..excess].iter().map(|cookie| cookie.bytes).sum();
        if bytes - goes > room {
            half[excess..].sort_unstable_by_key(worth);
        }
        for cookie in half {
            if len <= most && bytes <= room {
                break;
            }
            len -= 1;
            bytes -= cookie.bytes;
            doomed.insert(cookie.order);
        }
    }
    doomed
}

/// How many of these cookies, from the first on, fill the `nth` part of a full jar, by count or by
/// bytes.
fn part<'a>(
    cookies: impl Iterator<Item = &'a Candidate>,
    limits: &CookieLimits,
    nth: usize,
) -> usize {
    // By both limits: otherwise the newcomers could be few and large, or many and small.
    let mut text = 0;
    cookies
        .take(limits.total / nth)
        .take_while(|cookie| {
            text += cookie.bytes;
            text <= limits.bytes / nth
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_000;

    /// A cookie as rows write it: its number, then `s` for Secure, `u` for never sent, `x` for
    /// expired, a `b` for each share that it is beyond, then when it was last used.
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
                    shares_before: flags.matches('b').count(),
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
            // In the newer half, what was never sent is evicted first.
            ("1u1 2u2 3-3 4u4 5-5", 5, [4, 99], &[4]),
            ("1-1 2-2 3-8 4-7 5-5", 5, [4, 99], &[4]),
            // The newest stays, though it was used before all others.
            ("1-5 2-5 3-5 4-5 5u1", 5, [4, 99], &[3]),
            // The older half goes when there is no other.
            ("1-2 2-1 3-9", 3, [2, 99], &[2]),
            ("1-1 2-2", 2, [1, 99], &[1]),
            // Before that goes what is beyond its site's share, though it was sent last; of that
            // what is furthest beyond it.
            ("1-1 2-2 3-3 4b9 5u4 6-6", 6, [5, 99], &[4]),
            ("1-1 2-2 3bb9 4b3 5bb8 6-6", 6, [5, 99], &[5]),
            ("1-1 2-2 3b3 4b2 5bu9 6-6", 6, [5, 99], &[5]),
            // But not of the older half.
            ("1b1 2b2 3-3 4-4 5-5 6-6", 6, [5, 99], &[3]),
            // By bytes, the older half is what half of the bytes hold.
            ("1-1 2-2 3-3 4-4 5-5 6-6", 6, [99, 50], &[3, 4]),
            // What goes by its bytes goes in the same order.
            ("1-1 2-2 3-9 4-8 5-7 6-6", 6, [99, 50], &[4, 5]),
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
    fn the_last_eighth_of_a_jar_goes_after_the_rest_of_the_newer_half() {
        // Of 17 cookies in a jar of 16, the newest aside: how the last ones are written, and which
        // two go.
        let rows: &[(&str, &[u64])] = &[
            ("9-9 10-10 11-11 12-12 13-13 14-14 15u1 16u2", &[9, 10]),
            ("9-9 10-10 11-11 12-12 13-13 14u14 15u1 16u2", &[9, 14]),
            // Unless it is beyond its site's share.
            ("9-9 10-10 11-11 12-12 13-13 14-14 15b15 16bb16", &[15, 16]),
        ];
        let older: String = (1..=8).map(|order| format!("{order}-{order} ")).collect();
        let wrong: Vec<_> = rows
            .iter()
            .map(|(row, want)| {
                let limits = CookieLimits { total: 16, ..CookieLimits::default() };
                let cookies = candidates(&format!("{older}{row} 17-17"));
                (row, sorted(of_jar(cookies, 17, &limits, NOW)), want)
            })
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_site_is_beyond_its_share_by_its_least_used_cookies_and_secure_ones_last() {
        // How many cookies, how long each is, the limits of count and bytes, and by how many shares
        // each is beyond its site's, from the one that is worth most on.
        let rows: &[(usize, usize, [usize; 2], &str)] = &[
            (8, 10, [100, 10_000], "00000000"),
            (10, 10, [100, 10_000], "0000000011"),
            (18, 10, [100, 10_000], "000000001111111122"),
            (10, 10, [9 * 1_024, usize::MAX], "0000000001"),
            (4, 2_000, [100, 10_000], "0001"),
            (6, 2_000, [100, 10_000], "000112"),
            (6, 2_000, [100, 6_000 * 1_024], "000111"),
            // One cookie is never beyond it.
            (1, 9_000, [100, 10_000], "0"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(count, bytes, [total, most], want)| {
                let limits =
                    CookieLimits { total: *total, bytes: *most, ..CookieLimits::default() };
                // The first is Secure, and then each is used earlier than the one before it. One
                // has expired, and takes no share.
                let mut row: String =
                    (2..=*count).map(|order| format!("{order}-{} ", 99 - order)).collect();
                row += "1s1 99x99";
                let mut site = candidates(&row);
                site.iter_mut().for_each(|cookie| cookie.bytes = *bytes);
                share_out(&mut site, &limits, NOW);
                site.retain(|cookie| cookie.expires > NOW);
                site.sort_unstable_by_key(|cookie| cookie.order);
                let got: String = site.iter().map(|c| c.shares_before.to_string()).collect();
                (count, bytes, got, want)
            })
            .filter(|(.., got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_full_jar_gives_up_a_sixteenth_at_once() {
        let row: String = (1..=161).map(|order| format!("{order}-{order} ")).collect();
        // By count, and by bytes: each cookie has ten.
        for [total, bytes] in [[160, usize::MAX], [usize::MAX, 1_600]] {
            let limits = CookieLimits { total, bytes, ..CookieLimits::default() };
            let doomed = sorted(of_jar(candidates(&row), 161, &limits, NOW));
            // The older half is spared, so that the 81st is the first to go.
            assert_eq!(doomed, (81..=91).collect::<Vec<_>>(), "{limits:?}");
        }
    }
}
