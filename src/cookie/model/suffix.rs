//! The public suffix list: under which names strangers register theirs, and so which hosts may
//! share cookies.

use std::{fmt, iter};

use super::origin::stands_alone;

/// The public suffix list of a jar.
///
/// Strangers register names under a public suffix: `com`, `co.uk`, `github.io`. A cookie for a
/// whole suffix would reach all of them, so the jar rejects it.
///
/// Default: [`Embedded`](Self::Embedded).
///
/// ```
/// use tower_outbound::cookie::{CookieJar, PublicSuffixes, Rejection};
///
/// let list = "// ===BEGIN ICANN DOMAINS===\ncom\nhosting.example\n".parse()?;
/// let jar = CookieJar::builder().public_suffixes(PublicSuffixes::Custom(list)).build();
/// let set = jar.set(&"https://ann.hosting.example/".parse()?, "id=1; Domain=hosting.example");
/// assert_eq!(set, Err(Rejection::PublicSuffix));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: <https://publicsuffix.org>, RFC 6265bis section 5.7.
#[derive(Default)]
#[non_exhaustive]
pub enum PublicSuffixes {
    /// The list that the `psl` crate compiles in, with its ICANN and private sections.
    #[default]
    Embedded,
    /// A list that you keep up to date, from the `publicsuffix` crate.
    Custom(publicsuffix::List),
    /// No list. A cookie for a single label (`com`) is still rejected, but one for `co.uk` is not.
    /// Use it only in a network of your own.
    None,
}

impl fmt::Debug for PublicSuffixes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Embedded => "Embedded",
            Self::Custom(_) => "Custom(..)",
            Self::None => "None",
        })
    }
}

/// The site of a canonical host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cookie) struct Site<'a> {
    /// The registrable domain, or the host itself if it has none. An end of the host.
    pub(in crate::cookie) key: &'a str,
    /// Whether the host is a public suffix, an address or a single label. Its cookies stay its
    /// own.
    pub(in crate::cookie) is_suffix: bool,
    /// Whether every host below the key is of this site too, since no rule of the list is longer.
    pub(in crate::cookie) is_undivided: bool,
}

impl PublicSuffixes {
    /// The site that a canonical host belongs to.
    pub(in crate::cookie) fn site<'a>(&self, host: &'a str) -> Site<'a> {
        // Before the list, which would take `0.1` for the registrable domain of `10.0.0.1`.
        if stands_alone(host) {
            return Site { key: host, is_suffix: true, is_undivided: false };
        }
        // The label that the list was given last, and what is left of the host before it.
        let name = host.as_bytes();
        let (mut start, mut end) = (name.len() + 1, name.len());
        let mut wants_more = false;
        let labels = iter::from_fn(|| {
            let Some(before) = start.checked_sub(1) else {
                wants_more = true;
                return None;
            };
            end = before;
            start = last_label(&name[..end]);
            Some(&name[start..end])
        });
        let suffix = match self {
            Self::Embedded => psl::Psl::find(&psl::List, labels).len,
            Self::Custom(list) => publicsuffix::Psl::find(list, labels).len,
            // What the list itself says of names that it does not have.
            Self::None => name.len() - last_label(name),
        };
        // One label more than the suffix. A host that has none is a suffix itself.
        let Some(before) = host.len().checked_sub(suffix + 1) else {
            return Site { key: host, is_suffix: true, is_undivided: false };
        };
        // A list goes on to the first label that it does not know, which nearly always is this one.
        // To search for it again would add 45 instructions to each request.
        let key = if end == before { start } else { last_label(&name[..before]) };
        // What the list has not asked for, it does not judge by: with any other labels before the
        // key its answer is the same.
        let is_undivided = !wants_more && start >= key;
        Site { key: &host[key..], is_suffix: false, is_undivided }
    }
}

/// The key of a canonical host's site for most hosts: its last two labels. Whether it is the key is
/// for the list to say, or for a site that has this key and is undivided.
#[inline]
pub(in crate::cookie) fn likely_key(host: &str) -> &str {
    let name = host.as_bytes();
    // An address, for no top-level domain ends so.
    if let Some(b'0'..=b'9' | b']') = name.last() {
        return host;
    }
    &host[last_labels(name, 2)..]
}

fn last_label(host: &[u8]) -> usize {
    last_labels(host, 1)
}

/// Where the last `count` labels begin.
#[inline]
fn last_labels(host: &[u8], mut count: usize) -> usize {
    // Eight bytes at a time, which saves 110 instructions of a look-up. The high bit of each byte
    // of `dots` says whether there is a dot.
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const LOW: u64 = EACH * 0x7f;
    let mut rest = host;
    while let Some((before, word)) = rest.split_last_chunk() {
        let differs = u64::from_le_bytes(*word) ^ (EACH * b'.' as u64);
        let mut dots = !(((differs & LOW) + LOW) | differs | LOW);
        while dots != 0 {
            let after = dots.leading_zeros();
            count -= 1;
            if count == 0 {
                return rest.len() - after as usize / 8;
            }
            dots ^= 1 << 63 >> after;
        }
        rest = before;
    }
    let mut dots = rest.iter().enumerate().rev().filter(|(_, byte)| **byte == b'.');
    dots.nth(count - 1).map_or(0, |(dot, _)| dot + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_has_one_site() {
        let custom: publicsuffix::List =
            "// ===BEGIN ICANN DOMAINS===\ncorp\nsecret.corp\n// ===END ICANN DOMAINS===\n"
                .parse()
                .unwrap();
        let custom = PublicSuffixes::Custom(custom);
        let (embedded, none) = (PublicSuffixes::Embedded, PublicSuffixes::None);
        let rows = [
            (&embedded, "a.b.example.com", "example.com", false),
            (&embedded, "com", "com", true),
            (&embedded, "x.co.uk", "x.co.uk", false),
            (&embedded, "co.uk", "co.uk", true),
            (&embedded, "a.foo.github.io", "foo.github.io", false),
            (&embedded, "github.io", "github.io", true),
            (&embedded, "xn--55qx5d.cn", "xn--55qx5d.cn", true),
            (&embedded, "www.ck", "www.ck", false),
            (&embedded, "any.ck", "any.ck", true),
            (&embedded, "a.b.c.kobe.jp", "b.c.kobe.jp", false),
            (&embedded, "a.b.city.kobe.jp", "city.kobe.jp", false),
            (&embedded, "a.b.amazonaws.com", "amazonaws.com", false),
            (&embedded, "a.b.s3.amazonaws.com", "b.s3.amazonaws.com", false),
            (&embedded, "host.unknown-tld", "host.unknown-tld", false),
            (&embedded, "localhost", "localhost", true),
            (&embedded, "10.0.0.1", "10.0.0.1", true),
            (&embedded, "[::1]", "[::1]", true),
            (&embedded, "127.1", "127.1", true),
            (&custom, "a.b.corp", "b.corp", false),
            (&custom, "secret.corp", "secret.corp", true),
            (&none, "a.b.co.uk", "co.uk", false),
            (&none, "co.uk", "co.uk", false),
            (&none, "uk", "uk", true),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(list, host, key, is_suffix)| {
                let site = list.site(host);
                (site.key, site.is_suffix) != (*key, *is_suffix)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        // A bucket with a likely key answers for the host that is this key.
        let wrong: Vec<_> =
            rows.iter().filter(|(list, _, key, _)| list.site(key).key != *key).collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        // The crate's own reading of its list.
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(list, ..)| matches!(list, PublicSuffixes::Embedded))
            .filter(|(_, host, ..)| !stands_alone(host))
            .filter(|(list, host, ..)| {
                let site = list.site(host);
                psl::domain_str(host) != (!site.is_suffix).then_some(site.key)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn an_undivided_site_is_that_of_every_host_below_its_key() {
        let custom: publicsuffix::List =
            "// ===BEGIN ICANN DOMAINS===\ncorp\na.b.corp\n*.d.corp\n!e.d.corp\n\
             // ===END ICANN DOMAINS===\n"
                .parse()
                .unwrap();
        let custom = PublicSuffixes::Custom(custom);
        let (embedded, none) = (PublicSuffixes::Embedded, PublicSuffixes::None);
        let rows = [
            (&embedded, "example.com", true),
            (&embedded, "a.b.example.com", true),
            (&embedded, "x.co.uk", true),
            (&embedded, "city.kobe.jp", true),
            (&embedded, "foo.github.io", true),
            (&embedded, "host.unknown-tld", true),
            // Strangers have `s3.amazonaws.com`, and what is below it.
            (&embedded, "amazonaws.com", false),
            (&embedded, "x.amazonaws.com", false),
            (&embedded, "github.io", false),
            (&embedded, "com", false),
            (&embedded, "localhost", false),
            (&embedded, "10.0.0.1", false),
            (&embedded, "[::1]", false),
            (&custom, "x.c.corp", true),
            (&custom, "b.corp", false),
            (&custom, "x.b.corp", false),
            (&custom, "x.a.b.corp", true),
            (&custom, "x.e.d.corp", true),
            (&none, "a.b.co.uk", true),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(list, host, is_undivided)| list.site(host).is_undivided != *is_undivided)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");

        let below = ["", "a.", "s3.", "a.s3.", "www.", "x.y.z."];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(.., is_undivided)| *is_undivided)
            .flat_map(|(list, host, _)| {
                let key = list.site(host).key;
                below.map(|labels| (list, key, format!("{labels}{key}")))
            })
            .filter(|(list, key, host)| list.site(host).key != *key)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_last_labels_begin_after_the_last_dots() {
        let bytes = [b'.', b'/', b'a', b'-', 0xae, 0xff];
        let wrong: Vec<_> = (0..20)
            .flat_map(|length| (0..=length).map(move |dot| (length, dot)))
            .flat_map(|(length, dot)| bytes.map(|byte| (length, dot, byte)))
            .map(|(length, dot, byte)| {
                let mut host = vec![byte; length];
                host[dot.min(length.saturating_sub(1))..].fill(b'x');
                if dot < length {
                    host[dot] = b'.';
                }
                let label = |end: usize| {
                    host[..end].iter().rposition(|&byte| byte == b'.').map_or(0, |dot| dot + 1)
                };
                let want = [label(length), label(label(length).saturating_sub(1))];
                ([1, 2].map(|count| last_labels(&host, count)), want, host)
            })
            .filter(|(got, want, _)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn the_likely_key_is_the_last_two_labels_of_a_name() {
        let rows = [
            ("a.b.example.com", "example.com"),
            ("example.com", "example.com"),
            ("www.example.co.uk", "co.uk"),
            ("localhost", "localhost"),
            ("10.0.0.1", "10.0.0.1"),
            ("a.127.1", "a.127.1"),
            ("[::1]", "[::1]"),
        ];
        let wrong: Vec<_> = rows.iter().filter(|(host, key)| likely_key(host) != *key).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
