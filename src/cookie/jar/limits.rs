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
    /// Most cookies in all. Default: 50,000. Above the limit cookies are evicted: expired first,
    /// then those never sent, then the others; least recently used first within each group. Up
    /// to a sixteenth is evicted at once. The half that has been there longest is spared while
    /// there is another, so that a flood of new cookies does not reach those that were there
    /// before it.
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
