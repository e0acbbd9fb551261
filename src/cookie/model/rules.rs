//! Which cookies may be stored, and why not (RFC 6265bis section 5.7).

use std::{borrow::Cow, error, fmt};

use super::{
    data::{Data, Flags, Identity, Millis, NEVER, SameSite},
    date::date,
    origin::{domain_match, stands_alone},
    set_cookie::{self, SetCookie, Unparsable},
    visit::Visit,
};
use crate::authority;

/// Longest lifetime of a cookie: 400 days (RFC 6265bis section 5.5).
const MAX_LIFETIME_SECONDS: u32 = 400 * 24 * 60 * 60;
const MAX_LIFETIME: Millis = MAX_LIFETIME_SECONDS as Millis * 1000;

/// Why a cookie was not stored: the rule that it breaks.
///
/// The rules are those of RFC 6265bis sections 5.6 and 5.7. [`Policy`](Self::Policy),
/// [`NoRoom`](Self::NoRoom), [`TooMany`](Self::TooMany), [`LongPath`](Self::LongPath) and
/// [`Unstorable`](Self::Unstorable) are this crate's own.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, Rejection};
///
/// let set = CookieJar::new().set(&"https://example.com/".parse()?, "__Host-id=42");
/// let why = set.expect_err("it is not Secure");
/// assert_eq!(why, Rejection::HostPrefix);
/// assert_eq!(why.to_string(), "the prefix __Host- needs Secure, Path=/ and no Domain");
/// # Ok::<(), http::uri::InvalidUri>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rejection {
    /// The line holds a control character other than a tab.
    ControlCharacter,
    /// Name and value together are longer than 4,096 bytes.
    TooLong,
    /// There is neither a name nor a value.
    Empty,
    /// The URI has no host, or its scheme is not http, https, ws or wss.
    NoHost,
    /// The `Domain` attribute is not ASCII. An international name must be an A-label (`xn--...`).
    NonAsciiDomain,
    /// The `Domain` attribute does not cover the host.
    DomainMismatch,
    /// The `Domain` attribute is a public suffix, such as `com` or `co.uk`.
    PublicSuffix,
    /// The cookie is `Secure`, but the [origin is not](crate::cookie#what-may-be-stored-and-sent).
    InsecureOrigin,
    /// A non-secure origin tried to set, shadow or delete a cookie that is `Secure`. Or it tried to
    /// set a nameless cookie that servers would read as the `Secure` one, such as `=sid=1`.
    ShadowsSecure,
    /// The cookie has `SameSite=None`, but is not `Secure`.
    SameSiteNone,
    /// The cookie does not have `SameSite=None`, but the request was made on behalf of another
    /// site: see [`SiteForCookies`](crate::cookie::SiteForCookies).
    CrossSite,
    /// The name begins with `__Secure-`, but the cookie is not `Secure`.
    SecurePrefix,
    /// The name begins with `__Host-`, but the cookie is not `Secure`, or not host-only, or its
    /// path is not `/`.
    HostPrefix,
    /// The name begins with `__Http-` or `__Host-Http-`, but the cookie is not `Secure` and
    /// `HttpOnly`.
    HttpPrefix,
    /// The value of a nameless cookie begins with a prefix such as `__Host-`, so servers would read
    /// it as a prefixed name.
    NamelessPrefix,
    /// The cookie has no `Path`, and the path of the request is longer than 1,024 bytes.
    LongPath,
    /// The jar's [`CookiePolicy`](crate::cookie::CookiePolicy) does not accept it.
    Policy,
    /// The jar's limits leave no room for it.
    NoRoom,
    /// The layer's storage belongs to another crate and cannot hold the cookie unchanged: it has no
    /// name, it is not UTF-8, or that crate would read its name, value or domain as something else.
    Unstorable,
    /// The response set or deleted more cookies than
    /// [`CookieLimits::per_response`](crate::cookie::CookieLimits::per_response) allows.
    TooMany,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlCharacter => "it holds a control character",
            Self::TooLong => "name and value are together longer than 4096 bytes",
            Self::Empty => "it has neither name nor value",
            Self::NoHost => "the URI is not one of http, https, ws or wss with a host",
            Self::NonAsciiDomain => "its domain is not ASCII",
            Self::DomainMismatch => "its domain does not cover the host",
            Self::PublicSuffix => "its domain is a public suffix",
            Self::InsecureOrigin => "it is Secure, but its origin is not",
            Self::ShadowsSecure => "a non-secure origin may not touch a Secure cookie",
            Self::SameSiteNone => "SameSite=None needs Secure",
            Self::CrossSite => {
                "it is not SameSite=None, but the request was made on behalf of another site"
            }
            Self::SecurePrefix => "the prefix __Secure- needs Secure",
            Self::HostPrefix => "the prefix __Host- needs Secure, Path=/ and no Domain",
            Self::HttpPrefix => "the prefixes __Http- and __Host-Http- need Secure and HttpOnly",
            Self::NamelessPrefix => "a nameless cookie may not begin with a prefix such as __Host-",
            Self::LongPath => {
                "it has no Path, and the path of its request is longer than 1024 bytes"
            }
            Self::Policy => "the jar's policy does not accept it",
            Self::NoRoom => "the jar's limits leave no room for it",
            Self::Unstorable => "the storage cannot hold it as it is",
            Self::TooMany => "the response sets too many cookies",
        })
    }
}

impl error::Error for Rejection {}

impl From<Unparsable> for Rejection {
    fn from(reason: Unparsable) -> Self {
        match reason {
            Unparsable::ControlCharacter => Self::ControlCharacter,
            Unparsable::TooLong => Self::TooLong,
            Unparsable::Empty => Self::Empty,
        }
    }
}

/// A cookie that the rules allow, before it is compared with those that are stored.
#[derive(Debug)]
pub(in crate::cookie) struct Admitted<'a> {
    pub(in crate::cookie) name: &'a [u8],
    pub(in crate::cookie) value: &'a [u8],
    pub(in crate::cookie) domain: Cow<'a, str>,
    pub(in crate::cookie) path: Cow<'a, str>,
    pub(in crate::cookie) flags: Flags,
    pub(in crate::cookie) expires: Millis,
    /// Seconds, if its `Max-Age` decides and is positive; else 0.
    pub(in crate::cookie) max_age: u32,
    /// Whether the same line means the same cookie later on, for any host that the cookie covers.
    pub(in crate::cookie) lasts: bool,
    /// Whether the path is the request's, not the line's.
    pub(in crate::cookie) has_default_path: bool,
}

impl Admitted<'_> {
    pub(in crate::cookie) fn identity(&self) -> Identity<'_> {
        Identity {
            name: self.name,
            domain: self.domain.as_bytes(),
            path: self.path.as_bytes(),
            host_only: self.flags.host_only,
        }
    }

    /// How long the text of its [`Data`] is.
    pub(in crate::cookie) fn text_len(&self) -> usize {
        Data::length(self.name, self.value, &self.domain, &self.path)
    }

    pub(in crate::cookie) fn to_data(&self, created: Millis) -> Data {
        Data::new(self.name, self.value, &self.domain, &self.path, self.flags, created)
    }
}

/// Judges one `Set-Cookie` line of a response.
pub(in crate::cookie) fn admit<'a, 'v: 'a>(
    visit: &Visit<'v>,
    line: &'a [u8],
) -> Result<Admitted<'a>, Rejection> {
    let (cookie, origin) = (set_cookie::set_cookie(line)?, visit.origin);
    let domain = domain(visit, cookie.domain)?;
    // Anyone may have sent what came in clear, and it would be sent to the secure site as its own.
    if cookie.secure && !origin.secure {
        return Err(Rejection::InsecureOrigin);
    }
    let flags = Flags {
        host_only: domain.is_none(),
        secure: cookie.secure,
        http_only: cookie.http_only,
        partitioned: cookie.partitioned,
        same_site: cookie.same_site,
    };
    // A Domain that only repeats an address makes no difference, so it breaks no __Host- promise.
    let no_domain = cookie.domain.is_empty() || stands_alone(&origin.host);
    // A Path attribute may be no longer either. A server chooses its URLs, and so would choose how
    // much a jar holds.
    if cookie.path.is_none() && origin.default_path().len() > set_cookie::MAX_ATTRIBUTE {
        return Err(Rejection::LongPath);
    }
    if !visit.reach.stores(flags.same_site) {
        return Err(Rejection::CrossSite);
    }
    let for_root = flags.host_only && no_domain && cookie.path == Some(b"/");
    prefixes(cookie.name, cookie.value, flags, for_root)?;
    let (expires, max_age, lasts) = expiry(&cookie, visit.now, visit.date.and_then(date));
    Ok(Admitted {
        name: cookie.name,
        value: cookie.value,
        expires,
        max_age,
        // `Domain=example.com.` is refused from a host that is spelt without the dot, so that the
        // same line has to be judged again.
        lasts: lasts && !origin.rooted,
        has_default_path: cookie.path.is_none(),
        domain: domain.unwrap_or_else(|| origin.host.as_ref().into()),
        // A path that is not UTF-8 becomes one that matches no request, for a server that set it
        // did not mean another one.
        path: match cookie.path {
            Some(path) => {
                str::from_utf8(path).map_or_else(|_| String::from_utf8_lossy(path), Into::into)
            }
            None => origin.default_path().into(),
        },
        flags,
    })
}

/// The cookie's domain (RFC 6265bis section 5.7). `None` for a host-only cookie.
fn domain<'a>(visit: &Visit<'_>, attribute: &'a [u8]) -> Result<Option<Cow<'a, str>>, Rejection> {
    let origin = visit.origin;
    if attribute.is_empty() {
        return Ok(None);
    }
    if !attribute.is_ascii() {
        return Err(Rejection::NonAsciiDomain);
    }
    // The test suites of browsers and curl agree that a host that is spelt without the dot cannot
    // set `Domain=example.com.`.
    if attribute.ends_with(b".") && !origin.rooted {
        return Err(Rejection::DomainMismatch);
    }
    let Some(domain) = str::from_utf8(attribute).ok().and_then(authority::canonical) else {
        return Err(Rejection::DomainMismatch);
    };
    let domain_site = visit.suffixes.site(&domain);
    if domain_site.is_suffix {
        // An address, a single label or a registry's own host keeps the cookie to itself. Others
        // may not set it, or one of them could log all of them in (a "supercookie").
        return if domain == origin.host {
            Ok(None)
        } else if domain_match(&origin.host, &domain) {
            Err(Rejection::PublicSuffix)
        } else {
            Err(Rejection::DomainMismatch)
        };
    }
    // Both have to be of one site. A private suffix may lie between them otherwise:
    // `b.s3.amazonaws.com` is below `amazonaws.com`, and is someone else's.
    if !domain_match(&origin.host, &domain) || visit.site().key != domain_site.key {
        return Err(Rejection::DomainMismatch);
    }
    Ok(Some(domain))
}

/// Checks the conditions of a name's prefix (RFC 6265bis section 4.1.3), and that of
/// `SameSite=None`.
pub(in crate::cookie) fn prefixes(
    name: &[u8],
    value: &[u8],
    flags: Flags,
    for_root: bool,
) -> Result<(), Rejection> {
    // Case-insensitive: a server that ignores case would be fooled by `__host-`.
    let starts = |text: &[u8], prefix: &str| {
        text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if flags.same_site == Some(SameSite::None) && !flags.secure {
        return Err(Rejection::SameSiteNone);
    }
    // A server would read the value as a prefixed name, although its conditions were not checked.
    if name.is_empty() {
        let poses = ["__Secure-", "__Host-", "__Http-"].iter().any(|prefix| starts(value, prefix));
        return if poses { Err(Rejection::NamelessPrefix) } else { Ok(()) };
    }
    // Nearly every name. It saves four comparisons.
    if !name.starts_with(b"__") {
        return Ok(());
    }
    if starts(name, "__Secure-") && !flags.secure {
        return Err(Rejection::SecurePrefix);
    }
    if starts(name, "__Host-") && !(flags.secure && flags.host_only && for_root) {
        return Err(Rejection::HostPrefix);
    }
    if (starts(name, "__Http-") || starts(name, "__Host-Http-"))
        && !(flags.secure && flags.http_only)
    {
        return Err(Rejection::HttpPrefix);
    }
    Ok(())
}

/// When a cookie expires, or 0 for one that has expired; the seconds of a positive `Max-Age`; and
/// whether the same line means the same later on. `date` is the server's own time.
fn expiry(cookie: &SetCookie<'_>, now: Millis, date: Option<i64>) -> (Millis, u32, bool) {
    // `Max-Age` beats `Expires`: it does not depend on two clocks (section 5.7).
    match (cookie.max_age, cookie.expires, date) {
        (Some(..=0), ..) => (0, 0, true),
        (Some(age), ..) => {
            let age = u32::try_from(age).unwrap_or(u32::MAX).min(MAX_LIFETIME_SECONDS);
            (now.saturating_add(u64::from(age) * 1000).min(NEVER - 1), age, true)
        }
        // By the clock that wrote it, as in Chrome and Firefox: this machine's may be off. What was
        // past for the server deletes.
        (None, Some(at), Some(date)) => {
            let lifetime = u64::try_from(at.saturating_sub(date)).unwrap_or(0);
            let at = match lifetime.saturating_mul(1000) {
                0 => 0,
                lifetime => now.saturating_add(lifetime).min(NEVER - 1),
            };
            (capped(at, now), 0, false)
        }
        (None, Some(at), None) => {
            // No year has more than four digits, so that this is below `NEVER`.
            let at = u64::try_from(at).unwrap_or(0).saturating_mul(1000);
            // The date is fixed and the cap moves on, so that later the same line lives longer.
            let capped = capped(at, now);
            (capped, 0, capped == at)
        }
        (None, None, _) => (NEVER, 0, true),
    }
}

/// `expires`, or the latest time that the cap allows. A session cookie has no lifetime to cap.
pub(in crate::cookie) fn capped(expires: Millis, now: Millis) -> Millis {
    if expires == NEVER { NEVER } else { expires.min(now.saturating_add(MAX_LIFETIME)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cookie::model::{origin::Origin, suffix::PublicSuffixes};

    const DAY: Millis = 24 * 60 * 60 * 1000;
    const NOW: Millis = 20_000 * DAY;

    fn judge(uri: &str, line: &[u8]) -> Result<(String, bool, String, Millis), Rejection> {
        let uri = uri.parse().unwrap();
        let origin = Origin::of(&uri).ok_or(Rejection::NoHost)?;
        admit(&Visit::new(&origin, &PublicSuffixes::Embedded, None, &http::Method::GET, NOW), line)
            .map(|c| (c.domain.to_string(), c.flags.host_only, c.path.to_string(), c.expires))
    }

    #[test]
    fn domains_are_covered_by_the_host_or_refused() {
        use Rejection::*;
        let rows: &[(&str, &str, Result<(&str, bool), Rejection>)] = &[
            ("https://www.example.com/", "a=1", Ok(("www.example.com", true))),
            ("https://www.example.com/", "a=1; Domain=example.com", Ok(("example.com", false))),
            ("https://www.example.com/", "a=1; Domain=.Example.COM", Ok(("example.com", false))),
            ("https://www.example.com./", "a=1; Domain=example.com.", Ok(("example.com", false))),
            ("https://www.example.com/", "a=1; Domain=example.com.", Err(DomainMismatch)),
            ("https://www.example.com/", "a=1; Domain=", Ok(("www.example.com", true))),
            ("https://www.example.com/", "a=1; Domain=.", Ok(("www.example.com", true))),
            ("https://example.com/", "a=1; Domain=www.example.com", Err(DomainMismatch)),
            ("https://example.com/", "a=1; Domain=..example.com", Err(DomainMismatch)),
            ("https://example.com/", "a=1; Domain=ample.com", Err(DomainMismatch)),
            ("https://example.com/", "a=1; Domain=com", Err(PublicSuffix)),
            ("https://example.com./", "a=1; Domain=com", Err(PublicSuffix)),
            ("https://x.co.uk/", "a=1; Domain=co.UK", Err(PublicSuffix)),
            ("https://example.com/", "a=1; Domain=co.uk", Err(DomainMismatch)),
            ("https://example.com/", "a=1; Domain=b\u{fc}cher.example", Err(NonAsciiDomain)),
            ("https://foo.github.io/", "a=1; Domain=github.io", Err(PublicSuffix)),
            ("https://github.io/", "a=1; Domain=github.io", Ok(("github.io", true))),
            ("https://b.s3.amazonaws.com/", "a=1; Domain=amazonaws.com", Err(DomainMismatch)),
            ("http://10.0.0.1/", "a=1; Domain=10.0.0.1", Ok(("10.0.0.1", true))),
            ("http://10.0.0.1/", "a=1; Domain=0.0.1", Err(DomainMismatch)),
            ("http://5.127.1/", "a=1; Domain=127.1", Err(DomainMismatch)),
            ("http://[::1]/", "a=1; Domain=[0:0::1]", Ok(("[::1]", true))),
            ("http://localhost/", "a=1; Domain=localhost", Ok(("localhost", true))),
            ("http://a.localhost/", "a=1; Domain=localhost", Err(PublicSuffix)),
            ("https://example.com/", "a=1; Domain=__proto__", Err(DomainMismatch)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(uri, line, want)| (uri, line, judge(uri, line.as_bytes()), want))
            .filter(|(.., got, want)| {
                got.as_ref()
                    .map(|(domain, host_only, ..)| (domain.as_str(), *host_only))
                    .map_err(|e| *e)
                    != **want
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn secure_and_prefixes_are_promises() {
        use Rejection::*;
        let rows: &[(&str, &str, Option<Rejection>)] = &[
            ("http://h.example/", "a=1; Secure", Some(InsecureOrigin)),
            ("http://localhost:3000/", "a=1; Secure", None),
            ("https://h.example/", "a=1; SameSite=None", Some(SameSiteNone)),
            ("https://h.example/", "a=1; SameSite=None; Secure", None),
            ("https://h.example/", "__Secure-a=1", Some(SecurePrefix)),
            ("https://h.example/", "__secure-a=1; Secure", None),
            ("https://h.example/", "__Host-a=1; Secure; Path=/", None),
            ("https://h.example/", "__Host-a=1; Secure", Some(HostPrefix)),
            ("https://h.example/", "__Host-a=1; Path=/", Some(HostPrefix)),
            (
                "https://h.example/",
                "__hOST-a=1; Secure; Path=/; Domain=h.example",
                Some(HostPrefix),
            ),
            ("https://10.0.0.1/", "__Host-a=1; Secure; Path=/; Domain=10.0.0.1", None),
            ("https://h.example/", "__Http-a=1; Secure", Some(HttpPrefix)),
            ("https://h.example/", "__Http-a=1; Secure; HttpOnly", None),
            ("https://h.example/", "__Host-Http-a=1; Secure; Path=/", Some(HttpPrefix)),
            ("https://h.example/", "__Host-Http-a=1; Secure; Path=/; HttpOnly", None),
            ("https://h.example/", "=__Host-a=1; Secure; Path=/", Some(NamelessPrefix)),
            ("https://h.example/", "__SECURE-a; Secure", Some(NamelessPrefix)),
            ("https://h.example/", "__proto__=1", None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(uri, line, want)| (line, judge(uri, line.as_bytes()).err(), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_rejection_says_what_the_rule_is() {
        let rows = [
            ("https://h.example/", "", "it has neither name nor value"),
            ("https://h.example/", "a=\u{1}", "it holds a control character"),
            ("https://h.example/", "a=1; Domain=b.example", "its domain does not cover the host"),
            ("https://x.co.uk/", "a=1; Domain=co.uk", "its domain is a public suffix"),
            ("http://h.example/", "a=1; Secure", "it is Secure, but its origin is not"),
            ("https://h.example/", "a=1; SameSite=None", "SameSite=None needs Secure"),
            ("https://h.example/", "__Secure-a=1", "the prefix __Secure- needs Secure"),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(uri, line, want)| (judge(uri, line.as_bytes()).unwrap_err().to_string(), want))
            .filter(|(got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn lifetimes_are_capped_and_max_age_beats_expires() {
        let rows: &[(&str, Millis)] = &[
            ("a=1", NEVER),
            ("a=1; Max-Age=60", NOW + 60_000),
            ("a=1; Max-Age=60; Expires=Thu, 1 Jan 1970 00:00:00 GMT", NOW + 60_000),
            ("a=1; Max-Age=0; Expires=Fri, 31 Dec 9999 23:59:59 GMT", 0),
            ("a=1; Max-Age=-9999999999999999999999999", 0),
            ("a=1; Max-Age=9999999999999999999999999", NOW + 400 * DAY),
            ("a=1; Max-Age=9e30", NEVER),
            ("a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", NOW + 400 * DAY),
            ("a=1; Expires=Thu, 1 Jan 1970 00:00:00 GMT", 0),
            ("a=1; Expires=Mon, 01 Jan 1601 00:00:00 GMT", 0),
            ("a=1; Max-Age=; Expires=Thu, 1 Jan 1970 00:00:00 GMT", 0),
            ("a=1; Expires=soon", NEVER),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(line, want)| (line, judge("http://h/", line.as_bytes()).unwrap().3, want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn no_lifetime_makes_a_cookie_of_a_session_of_one_with_an_end() {
        let origin = "https://h.example/".parse().unwrap();
        let origin = Origin::of(&origin).unwrap();
        // The clock, the server's, the line, when it expires.
        let rows: &[(Millis, Option<&[u8]>, &[u8], Millis)] = &[
            (NEVER - 2, None, b"a=1; Max-Age=60", NEVER - 1),
            (
                NEVER - 2,
                Some(b"Thu, 01 Jan 1970 00:00:00 GMT"),
                b"a=1; Expires=Thu, 01 Jan 1970 00:01:00 GMT",
                NEVER - 1,
            ),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(now, date, line, want)| {
                let suffixes = PublicSuffixes::Embedded;
                let visit = Visit::new(&origin, &suffixes, None, &http::Method::GET, now);
                (line, admit(&visit.dated(date), line).unwrap().expires, want)
            })
            .filter(|(_, got, want)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_line_lasts_if_it_means_the_same_cookie_later() {
        let soon = "a=1; Expires=Fri, 31 Oct 2024 00:00:00 GMT";
        // From where, the server's clock, the line, whether it lasts.
        let rows: &[(&str, Option<&[u8]>, &str, bool)] = &[
            ("https://h.example/", None, "a=1", true),
            ("https://h.example/", None, "a=1; Max-Age=60", true),
            ("https://h.example/", None, "a=1; Max-Age=0", true),
            ("https://h.example/", None, soon, true),
            // Capped, so that it ends later if it is set later.
            ("https://h.example/", None, "a=1; Expires=Fri, 31 Dec 9999 23:59:59 GMT", false),
            // It counts from the server's clock, which moves on.
            ("https://h.example/", Some(b"Fri, 04 Oct 2024 00:00:00 GMT"), soon, false),
            // From a host without the dot, the same Domain could be another's.
            ("https://h.example./", None, "a=1", false),
            ("https://h.example./", None, "a=1; Domain=h.example.", false),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|&(uri, date, line, want)| {
                let uri = uri.parse().unwrap();
                let origin = Origin::of(&uri).unwrap();
                let suffixes = PublicSuffixes::Embedded;
                let visit = Visit::new(&origin, &suffixes, None, &http::Method::GET, NOW);
                let cookie = admit(&visit.dated(date), line.as_bytes());
                ((uri.clone(), line, cookie.unwrap().lasts), want)
            })
            .filter(|((.., got), want)| got != want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_default_path_is_as_long_as_a_path_attribute_at_most() {
        let longest = format!("https://h.example/{}", "p".repeat(set_cookie::MAX_ATTRIBUTE - 1));
        // The request, the line, whether it is refused.
        let rows = [
            (format!("{longest}/"), "a=1", None),
            (format!("{longest}p/"), "a=1", Some(Rejection::LongPath)),
            (format!("{longest}pp/"), "a=1", Some(Rejection::LongPath)),
            (format!("{longest}p/"), "a=1; Path=/", None),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(uri, line, want)| (uri.len(), line, judge(uri, line.as_bytes()).err(), want))
            .filter(|(.., got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
