//! How much a jar holds and sends.

/// Bounds of a jar, so that no server can fill it, crowd out another site or make a header that
/// servers refuse.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, CookieLimits};
///
/// let jar = CookieJar::builder().limits(CookieLimits { per_domain: 50, ..CookieLimits::default() }).build();
/// # let _ = jar;
/// ```
///
/// Source: RFC 6265 section 6.1 lets a client have such limits. 180 of a domain, and who goes
/// first, are Chromium's; 50 of a response, and 150 or 8,190 bytes in a header, curl's.
///
/// With the feature `serde` it is a table with a number for each of its fields: one that is absent
/// has its default, and an unknown one is an error that names it.
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
    /// Most cookies of one registrable domain, its subdomains included. Default: 180. Past it go
    /// expired cookies, then those that are not `Secure`, then the rest, of each the least
    /// recently used first.
    pub per_domain: usize,
    /// Most cookies in all. Default: 50,000. Past it go expired cookies, then those never sent,
    /// then the rest, of each the least recently used first; up to a sixteenth goes at once.
    /// The half that has been there longest is spared while there is another: no flood of
    /// newcomers reaches what was there before it.
    pub total: usize,
    /// Most bytes of names, values, domains and paths in all, and of the headers that are kept for
    /// the next request. Default: 16 MiB. Evicts as [`total`](Self::total) does.
    pub bytes: usize,
    /// Most cookies stored from one response; later ones are rejected. Default: 50.
    pub per_response: usize,
    /// Longest `Cookie` header, in bytes. Default: 8,190. Past it those that are not `Secure` are
    /// left out, then the rest, of each the least recently used first; none is cut.
    pub header_bytes: usize,
    /// Most cookies in one header. Default: 150. Leaves out as
    /// [`header_bytes`](Self::header_bytes) does.
    pub header_cookies: usize,
}

impl Default for CookieLimits {
    fn default() -> Self {
        Self {
            per_domain: 180,
            total: 50_000,
            bytes: 16 * 1024 * 1024,
            per_response: 50,
            header_bytes: 8_190,
            header_cookies: 150,
        }
    }
}
