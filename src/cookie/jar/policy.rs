//! The caller's policy on which cookies are stored and sent.

use std::{collections::HashSet, error, fmt};

use super::storage::CookieContext;
use crate::cookie::{
    model::cookie::Cookie,
    model::origin::{Origin, domain_match, written_domain},
};

/// Decides which of the cookies that the rules allow are stored and sent. A policy can refuse a
/// cookie, but cannot allow one that the rules reject.
///
/// Both methods are called without a lock, so they may use the jar. Default: every cookie is
/// accepted and sent.
///
/// http.cookiejar: `CookiePolicy`, its `set_ok` and `return_ok`.
///
/// ```
/// use tower_outbound::cookie::{Cookie, CookieContext, CookieJar, CookiePolicy, Rejection};
///
/// struct NoTrackers;
///
/// impl CookiePolicy for NoTrackers {
///     fn accept(&self, _context: &CookieContext<'_>, cookie: &Cookie) -> bool {
///         !cookie.name().starts_with("_ga")
///     }
/// }
///
/// let jar = CookieJar::builder().policy(NoTrackers).build();
/// assert_eq!(jar.set(&"https://example.com/".parse()?, "_ga=1"), Err(Rejection::Policy));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait CookiePolicy: Send + Sync {
    /// Whether to store a cookie that a response sets, also if it replaces another one. Default:
    /// true.
    ///
    /// Not called for a deletion, nor for a cookie that is inserted, merged or read from a file.
    fn accept(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        let _ = (context, cookie);
        true
    }

    /// Whether to send a cookie with a request that it matches. Default: true.
    fn send(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        let _ = (context, cookie);
        true
    }
}

/// A ready-made [`CookiePolicy`]: lists of hosts that may, or may not, have cookies.
///
/// A domain includes its subdomains. The host of the request decides, for storing and for sending.
///
/// http.cookiejar: `DefaultCookiePolicy(blocked_domains, allowed_domains)`. There, only a domain
/// with a leading dot includes its subdomains.
///
/// ```
/// use tower_outbound::cookie::{CookieJar, DomainPolicy};
///
/// let policy = DomainPolicy::allow(["example.com"])?.and_block(["ads.example.com"])?;
/// let jar = CookieJar::builder().policy(policy).build();
/// assert!(jar.set(&"https://www.example.com/".parse()?, "a=1").is_ok());
/// assert!(jar.set(&"https://ads.example.com/".parse()?, "a=1").is_err());
/// assert!(jar.set(&"https://example.net/".parse()?, "a=1").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct DomainPolicy {
    allowed: Option<HashSet<Box<str>>>,
    blocked: HashSet<Box<str>>,
}

impl DomainPolicy {
    /// Allows cookies only for these domains.
    ///
    /// # Errors
    ///
    /// [`InvalidDomain`] if an entry names no host. An international name must be an A-label
    /// (`xn--...`).
    pub fn allow<D: AsRef<str>>(
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self, InvalidDomain> {
        Ok(Self { allowed: Some(list(domains)?), blocked: HashSet::new() })
    }

    /// Allows cookies for all domains except these.
    ///
    /// # Errors
    ///
    /// As [`allow`](Self::allow).
    pub fn block<D: AsRef<str>>(
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self, InvalidDomain> {
        // `None`, not an empty list, which would allow nothing.
        Ok(Self { allowed: None, blocked: list(domains)? })
    }

    /// Also blocks these domains. A domain that is both allowed and blocked is blocked.
    ///
    /// # Errors
    ///
    /// As [`allow`](Self::allow).
    pub fn and_block<D: AsRef<str>>(
        mut self,
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self, InvalidDomain> {
        self.blocked.extend(list(domains)?);
        Ok(self)
    }

    fn covers(&self, context: &CookieContext<'_>) -> bool {
        // The host is read as in the jar. Otherwise a different spelling could get around a list.
        let Some(Origin { host, .. }) = Origin::of(context.uri()) else { return false };
        // The host, then each of its parents: one look-up per label, however long the lists are.
        let parents = || {
            std::iter::successors(Some(&*host), |domain| {
                domain.split_once('.').map(|(_, parent)| parent)
            })
        };
        let among = |domains: &HashSet<Box<str>>| {
            // `domain_match` as well: `0.0.1` is no parent of the address `10.0.0.1`.
            parents().any(|domain| domains.contains(domain) && domain_match(&host, domain))
        };
        self.allowed.as_ref().is_none_or(among) && !among(&self.blocked)
    }
}

/// The canonical spelling of each domain. A mistake is an error: a block list that matches nothing
/// would let through what it is for.
fn list<D: AsRef<str>>(
    domains: impl IntoIterator<Item = D>,
) -> Result<HashSet<Box<str>>, InvalidDomain> {
    let domain = |domain: D| match written_domain(domain.as_ref()) {
        Some(domain) => Ok(domain.into_owned().into()),
        None => {
            // A URL in place of a domain may have a password before the last `@`.
            let shown = domain.as_ref().rsplit('@').next().unwrap_or_default();
            Err(InvalidDomain { domain: shown.into() })
        }
    };
    domains.into_iter().map(domain).collect()
}

/// A domain that was given to a [`DomainPolicy`] names no host.
///
/// ```
/// use tower_outbound::cookie::DomainPolicy;
///
/// let invalid = DomainPolicy::block(["*.tracker.example"]).expect_err("it is a pattern");
/// assert_eq!(&*invalid.domain, "*.tracker.example");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidDomain {
    /// The domain, as it was given, without userinfo.
    pub domain: Box<str>,
}

impl fmt::Display for InvalidDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not the domain of a host, such as `example.com`", self.domain)
    }
}

impl error::Error for InvalidDomain {}

impl CookiePolicy for DomainPolicy {
    fn accept(&self, context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.covers(context)
    }

    fn send(&self, context: &CookieContext<'_>, _cookie: &Cookie) -> bool {
        self.covers(context)
    }
}

impl fmt::Debug for DomainPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DomainPolicy")
            .field("allowed", &self.allowed)
            .field("blocked", &self.blocked)
            .finish()
    }
}
