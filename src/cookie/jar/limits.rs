//! How much a jar holds and sends.

/// Bounds of a jar. With them no server can fill it, crowd out another site, or make a header that
/// servers refuse.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, CookieLimits};
///
/// let jar = CookieJar::builder().limits(CookieLimits { per_domain: 50, ..CookieLimits::default() }).build();
/// # let _ = jar;
/// ```
///
/// # What a full jar evicts
///
/// Above [`total`](Self::total) or [`bytes`](Self::bytes) cookies are evicted, up to a sixteenth of
/// the jar at once: expired ones first, then those beyond their site's share, then those never
/// sent, then the others; least recently used first within each group.
///
/// - The half of the jar that came first is spared while there is another.
/// - A site's share is a 1,024th of the limit, and at least 8 cookies and 4,096 bytes. The site
///   that is furthest beyond its share gives up cookies first.
/// - Within their share, the cookies of the eighth of the jar that came last go after the others.
///
/// So this holds against sites that set cookies to push out others':
///
/// - A flood of new cookies does not reach what was there before it, up to half of the jar.
/// - Few sites cannot push out a login, however many cookies they set, and even if theirs came
///   first and are in use. At the default limits it takes 512 sites to fill, each within its share,
///   the half of the jar that came last.
/// - A login that was not used yet is kept until an eighth of the jar has come after it. Once it is
///   used, it is kept until new cookies and cookies used since then are seven sixteenths of the
///   jar.
///
/// This does not hold: if one attacker has thousands of registrable domains, and the client visits
/// that many of them between two uses of a login, the login is evicted. Nothing tells these
/// domains from those of others. If strangers decide where a client goes, give it a jar of its own,
/// or a larger one.
///
/// Source: RFC 6265 section 6.1 lets a client have such limits. 180 of a domain and the order of
/// eviction are Chromium's. 50 of a response, and 150 or 8,190 bytes in a header, are curl's.
///
/// With the feature `serde` it is a table with a number for each of its fields. A field that is
/// absent has its default. An unknown field is an error that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Deserialize, serde::Serialize),
    serde(
        default,
        deny_unknown_fields,
        expecting = "cookie limits, a table such as { total = 1000 }"
    )
)]
pub struct CookieLimits {
    /// Most cookies of one registrable domain, its subdomains included. Default: 180. Above the
    /// limit cookies are evicted: expired first, then non-`Secure`, then `Secure`; least
    /// recently used first within each group.
    pub per_domain: usize,
    /// Most cookies in all. Default: 50,000. Above the limit cookies are
    /// [evicted](#what-a-full-jar-evicts).
    pub total: usize,
    /// Most bytes in all: of names, values, domains and paths, and of the headers that are kept
    /// for the next request. Default: 16 MiB. Evicts as [`total`](Self::total) does.
    pub bytes: usize,
    /// Most cookies stored from one response, and most deleted by it. Later ones are rejected.
    /// Default: 50.
    pub per_response: usize,
    /// Longest `Cookie` header, in bytes. Default: 8,190. Above the limit cookies are left out:
    /// non-`Secure` first, then `Secure`; least recently used first within each group. No cookie
    /// is cut.
    ///
    /// The default is Apache's limit of a header line, and nginx's is 8 KiB: past it they refuse
    /// the whole request, and every later one. Some servers set more. ASP.NET Core signs in
    /// with chunks, such as three cookies of 3,980 bytes, and its Kestrel takes 32 KiB. By
    /// default one of these chunks is left out, which is an event, and
    /// [`CookieJar::explain`](crate::cookie::CookieJar::explain) names it. For such a server
    /// set 16 KiB.
    pub header_bytes: usize,
    /// Most cookies in one header. Default: 150. Leaves out as
    /// [`header_bytes`](Self::header_bytes) does.
    pub header_cookies: usize,
}

impl Default for CookieLimits {
    fn default() -> Self {
        Self {
            per_domain: 180,
            // 5 MiB of cookies with 100 bytes of text, so that `bytes` binds only larger ones.
            total: 50_000,
            bytes: 16 * 1024 * 1024,
            per_response: 50,
            // Apache's limit of a header line, `LimitRequestFieldSize`.
            header_bytes: 8_190,
            header_cookies: 150,
        }
    }
}
