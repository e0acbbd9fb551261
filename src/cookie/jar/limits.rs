//! How much a jar holds and sends.

/// Bounds what a jar holds and sends, so that one server cannot fill the jar, push out another
/// site's cookies, or make the `Cookie` header grow without bound.
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
/// If the jar exceeds [`total`](Self::total) or [`bytes`](Self::bytes), it evicts cookies in this
/// order, until a sixteenth of the limit is free:
///
/// 1. All expired cookies. If that is enough to be within the limit, nothing else is evicted.
/// 2. Cookies of the newer half that are beyond their site's share. The site that is furthest above
///    its share is first.
/// 3. The rest of the newer half, except the newest eighth of the jar.
/// 4. The newest eighth of the jar.
/// 5. The older half, in the same order: beyond the share first.
///
/// Within each group, cookies that were never sent are first, then the others; least recently used
/// first. The cookie that was just set stays.
///
/// The halves and the eighth are by the order in which the cookies came. The older half is what
/// came first, up to half of `total` and half of `bytes`. A site's share is a 1,024th of the limit,
/// and at least 8 cookies and 4,096 bytes.
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
    /// The maximum number of cookies of one registrable domain, including its subdomains. Default:
    /// 180.
    ///
    /// If a domain exceeds it, its cookies are evicted: expired first, then non-`Secure`, then
    /// `Secure`; least recently used first within each group.
    pub per_domain: usize,
    /// The maximum number of cookies in the jar. Default: 50,000. If the jar exceeds it, it [evicts
    /// cookies](#what-a-full-jar-evicts).
    pub total: usize,
    /// The maximum number of bytes in the jar: names, values, domains and paths, and the headers
    /// that are kept for the next request. Default: 16 MiB. If the jar exceeds it, it [evicts
    /// cookies](#what-a-full-jar-evicts).
    pub bytes: usize,
    /// The maximum number of cookies that one response may set, and of those that it may delete.
    /// Default: 50 of each kind. After 50 deletions, later deletions are rejected. After 50
    /// accepted cookies, every later `Set-Cookie` is rejected, also a deletion.
    pub per_response: usize,
    /// The maximum length of the `Cookie` header's value, in bytes, including the caller's own
    /// pairs. Default: 8,190. The 8 bytes of `Cookie: ` are not counted.
    ///
    /// If the cookies take more, some are left out: non-`Secure` first, then `Secure`; least
    /// recently used first within each group. No cookie is cut.
    /// [`CookieJar::explain`](crate::cookie::CookieJar::explain) names those that are left out, and
    /// with the feature `tracing` their number is an event.
    ///
    /// Apache's default limit is 8,190 bytes, and nginx's 8 KiB. Both count `Cookie: `, and refuse
    /// a longer line, and every later request that sends the same cookies.
    ///
    /// Some servers need more. ASP.NET Core splits its sign-in cookie into chunks, such as three of
    /// 3,980 bytes, and its Kestrel accepts 32 KiB. With the default one chunk is left out. For
    /// such a server set 16 KiB.
    pub header_bytes: usize,
    /// The maximum number of cookies in one header. Default: 150. If more match, some are left out
    /// as for [`header_bytes`](Self::header_bytes).
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
