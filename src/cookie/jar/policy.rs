//! The caller's say on which cookies are stored and sent.

use std::{collections::HashSet, error, fmt};

use super::storage::CookieContext;
use crate::cookie::{
    model::cookie::Cookie,
    model::origin::{canonical, domain_match, written_domain},
};

/// The caller's say on each cookie, after the rules have had theirs: a policy refuses, it never
/// overrules.
///
/// Both are asked under no lock, so they may use the jar. Default: everything is accepted and sent.
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
    /// Whether a cookie that a response set is stored, in place of an older one too. Default: yes.
    ///
    /// A cookie that is deleted, and one that is inserted, merged or read from a file, is not asked
    /// about.
    fn accept(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        let _ = (context, cookie);
        true
    }

    /// Whether a cookie goes along with a request that it matches. Default: yes.
    fn send(&self, context: &CookieContext<'_>, cookie: &Cookie) -> bool {
        let _ = (context, cookie);
        true
    }
}

/// A ready-made [`CookiePolicy`]: which hosts may have cookies at all.
///
/// A domain stands for itself and its subdomains. The host of the request decides, for storing and
/// for sending.
///
/// http.cookiejar: `DefaultCookiePolicy(blocked_domains, allowed_domains)`, of which a domain with
/// a leading dot means the subdomains.
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
    /// Cookies for these domains and no others.
    ///
    /// # Errors
    ///
    /// [`InvalidDomain`] for what names no host; an international name must be an A-label
    /// (`xn--...`).
    pub fn allow<D: AsRef<str>>(
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self, InvalidDomain> {
        Ok(Self { allowed: Some(list(domains)?), blocked: HashSet::new() })
    }

    /// Cookies for all domains but these.
    ///
    /// # Errors
    ///
    /// As [`allow`](Self::allow).
    pub fn block<D: AsRef<str>>(
        domains: impl IntoIterator<Item = D>,
    ) -> Result<Self, InvalidDomain> {
        Ok(Self { allowed: None, blocked: list(domains)? })
    }

    /// None for these either: where a domain is both allowed and blocked, it is blocked.
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
        let Some(host) = context.uri().host().and_then(canonical) else { return false };
        // The host, then each domain that it lies in.
        let parents = || {
            std::iter::successors(Some(&*host), |domain| {
                domain.split_once('.').map(|(_, parent)| parent)
            })
        };
        let among = |domains: &HashSet<Box<str>>| {
            parents().any(|domain| domains.contains(domain) && domain_match(&host, domain))
        };
        self.allowed.as_ref().is_none_or(among) && !among(&self.blocked)
    }
}

fn list<D: AsRef<str>>(
    domains: impl IntoIterator<Item = D>,
) -> Result<HashSet<Box<str>>, InvalidDomain> {
    let domain = |domain: D| match written_domain(domain.as_ref()) {
        Some(domain) => Ok(domain.into_owned().into()),
        None => Err(InvalidDomain { domain: domain.as_ref().into() }),
    };
    domains.into_iter().map(domain).collect()
}

/// What was given to a [`DomainPolicy`] names no host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidDomain {
    /// What was given.
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
