//! The builder of a jar and its settings.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{
    CookieJar, Shared, limits::CookieLimits, policy::CookiePolicy, settings::Settings, store::Store,
};
use crate::cookie::model::{origin::SecureHosts, suffix::PublicSuffixes};

impl CookieJar {
    /// Starts a jar with settings other than the defaults: suffix list, limits, policy, secure
    /// hosts, clock or change log.
    pub fn builder() -> CookieJarBuilder {
        CookieJarBuilder::default()
    }
}

/// Builds a [`CookieJar`]. Created by [`CookieJar::builder`].
///
/// ```
/// use tower_outbound::cookie::{CookieJar, CookieLimits, DomainPolicy};
///
/// let jar = CookieJar::builder()
///     .limits(CookieLimits { per_domain: 50, ..CookieLimits::default() })
///     .policy(DomainPolicy::block(["tracker.example"])?)
///     .build();
/// assert!(jar.set(&"https://tracker.example/".parse()?, "id=1").is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct CookieJarBuilder {
    settings: Settings,
}

impl CookieJarBuilder {
    /// Sets the public suffix list.
    ///
    /// Default: [`PublicSuffixes::Embedded`].
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, PublicSuffixes};
    ///
    /// // In a network of your own, every host may share cookies with its parents.
    /// let jar = CookieJar::builder().public_suffixes(PublicSuffixes::None).build();
    /// jar.set(&"https://a.co.uk/".parse()?, "id=42; Domain=co.uk")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn public_suffixes(mut self, suffixes: PublicSuffixes) -> Self {
        self.settings.suffixes = Arc::new(suffixes);
        self
    }

    /// Bounds what the jar holds and sends.
    ///
    /// Default: [`CookieLimits::default`].
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, CookieLimits};
    ///
    /// let limits = CookieLimits { header_bytes: 16 * 1024, ..CookieLimits::default() };
    /// let jar = CookieJar::builder().limits(limits).build();
    /// # let _ = jar;
    /// ```
    pub const fn limits(mut self, limits: CookieLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Sets a policy, which may reject or withhold cookies that the rules allow.
    ///
    /// Default: no policy. Everything that the rules allow is stored and sent.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, DomainPolicy};
    ///
    /// let jar = CookieJar::builder().policy(DomainPolicy::allow(["example.com"])?).build();
    /// assert!(jar.set(&"https://example.net/".parse()?, "id=42").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn policy(mut self, policy: impl CookiePolicy + 'static) -> Self {
        self.settings.policy = Some(Arc::new(policy));
        self
    }

    /// Whether `http://localhost.` and `http://*.localhost` are secure origins, in any case of
    /// letters. `http://localhost` always is.
    ///
    /// Default: false. Common resolvers ask the DNS for these names, so a stranger could answer.
    /// Set it if your resolver does not ask the DNS (RFC 6761 section 6.3), or if the client
    /// connects to this machine by other means.
    ///
    /// ```
    /// use tower_outbound::cookie::{CookieJar, Rejection};
    ///
    /// let uri = "http://app.localhost:3000/".parse()?;
    /// assert_eq!(CookieJar::new().set(&uri, "id=42; Secure"), Err(Rejection::InsecureOrigin));
    /// CookieJar::builder().localhost_names(true).build().set(&uri, "id=42; Secure")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Source: RFC 6265bis section 5.8.3 lets the client decide which connections are secure.
    pub const fn localhost_names(mut self, are_secure: bool) -> Self {
        self.settings.secure_hosts.localhost_names = are_secure;
        self
    }

    /// Adds hosts that are secure origins also over http, such as a container's name, or a host
    /// whose TLS ends elsewhere. Their `Secure` cookies are sent in clear.
    ///
    /// Default: none. Each entry is an exact host without a port, and does not include its
    /// subdomains. An entry that names no host, such as `*.internal` or `h:80`, has no effect.
    ///
    /// ```
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let jar = CookieJar::builder().secure_hosts(["backend"]).build();
    /// jar.set(&"http://backend:8080/".parse()?, "id=42; Secure")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn secure_hosts<H: AsRef<str>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.settings.secure_hosts.hosts = SecureHosts::list(hosts);
        self
    }

    /// Sets the clock, for tests.
    ///
    /// Default: [`SystemTime::now`].
    ///
    /// ```
    /// use std::time::{Duration, SystemTime};
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let jar = CookieJar::builder().clock(|| SystemTime::UNIX_EPOCH).build();
    /// jar.set(&"https://example.com/".parse()?, "id=42; Max-Age=60")?;
    /// let id = jar.get("id")?.expect("it was set");
    /// assert_eq!(id.expires(), Some(SystemTime::UNIX_EPOCH + Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Logs the changes of the jar, for [`CookieJar::take_changes`].
    ///
    /// Default: no log, which costs nothing.
    ///
    /// The log takes at most as much memory as the jar's limits allow its cookies. Above that,
    /// changes are dropped from the site with the most changes, so one site's flood drops no change
    /// of another site. Within a site, changes by an origin that is not secure are dropped first.
    /// Within each kind these are dropped first: deletions of cookies that this jar never had, then
    /// cookies that were set, then other deletions; the oldest first within each group.
    ///
    /// ```
    /// use tower_outbound::cookie::CookieJar;
    ///
    /// let jar = CookieJar::builder().log_changes().build();
    /// jar.set(&"https://example.com/".parse()?, "id=42")?;
    /// assert_eq!(jar.take_changes().len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn log_changes(mut self) -> Self {
        self.settings.logs_changes = true;
        self
    }

    /// Builds an empty jar. Jars from clones of one builder do not share cookies.
    #[must_use]
    pub fn build(self) -> CookieJar {
        let jar = CookieJar {
            shared: Arc::new(Shared { store: Store::default(), settings: self.settings }),
        };
        if jar.shared.settings.logs_changes {
            jar.log().add_own();
        }
        jar
    }
}

impl fmt::Debug for CookieJarBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieJarBuilder")
            .field("public_suffixes", &self.settings.suffixes)
            .field("limits", &self.settings.limits)
            .field("policy", &self.settings.policy.is_some())
            .field("secure_hosts", &self.settings.secure_hosts)
            .field("logs_changes", &self.settings.logs_changes)
            .finish_non_exhaustive()
    }
}
