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
}

impl PublicSuffixes {
    /// The site that a canonical host belongs to.
    pub(in crate::cookie) fn site<'a>(&self, host: &'a str) -> Site<'a> {
        // Before the list, which would take `0.1` for the registrable domain of `10.0.0.1`.
        if stands_alone(host) {
            return Site { key: host, is_suffix: true };
        }
        // The label that the list was given last, and what is left of the host before it.
        let (mut start, mut end) = (host.len() + 1, host.len());
        let labels = iter::from_fn(|| {
            end = start.checked_sub(1)?;
            start = last_label(&host[..end]);
            Some(&host.as_bytes()[start..end])
        });
        let suffix = match self {
            Self::Embedded => psl::Psl::find(&psl::List, labels).len,
            Self::Custom(list) => publicsuffix::Psl::find(list, labels).len,
            // What the list itself says of names that it does not have.
            Self::None => host.len() - last_label(host),
        };
        // One label more than the suffix. A host that has none is a suffix itself.
        let Some(before) = host.len().checked_sub(suffix + 1) else {
            return Site { key: host, is_suffix: true };
        };
        // A list goes on to the first label that it does not know, which nearly always is this one.
        // To search for it again would add 45 instructions to each request.
        let start = if end == before { start } else { last_label(&host[..before]) };
        Site { key: &host[start..], is_suffix: false }
    }
}

/// Where the last label begins.
fn last_label(host: &str) -> usize {
    // Labels are short: `str::rfind`, which is made for long texts, takes twice as long.
    host.bytes().rposition(|byte| byte == b'.').map_or(0, |dot| dot + 1)
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
                list.site(host) != Site { key, is_suffix: *is_suffix }
            })
            .collect();
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
}
