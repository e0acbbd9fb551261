//! How much a jar holds and sends.

/// Bounds what a jar holds and sends. With the bounds no server can fill the jar, push out another
/// site's cookies, or cause a header that servers refuse.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, CookieLimits};
///
/// let limits = CookieLimits { per_domain: 50, ..CookieLimits::default() };
/// let jar = CookieJar::builder().limits(limits).build();
/// # let _ = jar;
/// ```
///
/// # What a full jar evicts
///
/// Above [`total`](Self::total) or [`bytes`](Self::bytes) cookies are evicted, up to a sixteenth of
/// the jar at once: expired first, then those beyond their site's share, then those never sent,
/// then the others; least recently used first within each group.
///
/// - The older half of the jar is evicted only after the newer half.
/// - A site's share is a 1,024th of the limit, and at least 8 cookies and 4,096 bytes. The site
///   that is furthest above its share is evicted from first.
/// - Within their share, the last eighth of the jar is evicted after the others of the newer half.
///
/// This protects against sites that set cookies to push out those of others:
///
/// - A flood of new cookies does not reach older ones, up to half of the jar.
/// - A few sites cannot push out a login, however many cookies they set, even if theirs came first
///   and are in use. At the default limits, 512 sites are needed to fill the newer half, each
///   within its share.
/// - A login that was not used yet is kept until an eighth of the jar has come after it. A used
///   login is kept until new cookies, and cookies used since then, fill seven sixteenths of the
///   jar.
///
/// It does not protect in one case: an attacker has thousands of registrable domains, and the
/// client visits that many of them between two uses of a login. Nothing tells these domains from
/// those of others. If strangers decide where a client goes, give that client a jar of its own, or
/// a larger one.
///
/// Source: RFC 6265 section 6.1 allows such limits. 180 per domain and the order of eviction are
/// Chromium's. 50 per response, and 150 or 8,190 bytes in a header, are curl's.
///
/// With the feature `serde` it is read from a table with a number for each field. An absent field
/// has its default. An unknown field is an error that names it.
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
    /// Most cookies of one registrable domain, including its subdomains. Default: 180.
    ///
    /// Above the limit cookies are evicted: expired first, then non-`Secure`, then `Secure`; least
    /// recently used first within each group.
    pub per_domain: usize,
    /// Most cookies in the jar. Default: 50,000. Above the limit cookies are
    /// [evicted](#what-a-full-jar-evicts).
    pub total: usize,
    /// Most bytes in the jar: names, values, domains and paths, and the headers that are kept for
    /// the next request. Default: 16 MiB. Above the limit cookies are evicted as for
    /// [`total`](Self::total).
    pub bytes: usize,
    /// Most cookies that one response may set, and most that it may delete. Default: 50. Later ones
    /// are rejected.
    pub per_response: usize,
    /// Longest `Cookie` header, in bytes. Default: 8,190.
    ///
    /// Above the limit cookies are left out: non-`Secure` first, then `Secure`; least recently used
    /// first within each group. No cookie is cut.
    /// [`CookieJar::explain`](crate::cookie::CookieJar::explain) names those that are left out, and
    /// with the feature `tracing` their number is an event.
    ///
    /// The default is Apache's limit for a header line. nginx has 8 KiB. Above it they refuse the
    /// request, and every later one.
    ///
    /// Some servers need more. ASP.NET Core splits its sign-in cookie into chunks, such as three of
    /// 3,980 bytes, and its Kestrel accepts 32 KiB. With the default one chunk is left out. For
    /// such a server set 16 KiB.
    pub header_bytes: usize,
    /// Most cookies in one header. Default: 150. Above the limit cookies are left out as for
    /// [`header_bytes`](Self::header_bytes).
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
