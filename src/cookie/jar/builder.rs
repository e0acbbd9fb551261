//! How a jar is set up.

use std::{fmt, sync::Arc, time::SystemTime};

use super::{
    CookieJar, Shared, limits::CookieLimits, policy::CookiePolicy, settings::Settings, store::Store,
};
use crate::cookie::model::{origin::SecureHosts, suffix::PublicSuffixes};

impl CookieJar {
    /// Starts a jar with another suffix list, other limits, a policy, more secure hosts or another
    /// clock.
    pub fn builder() -> CookieJarBuilder {
        CookieJarBuilder::default()
    }
}

/// Builds a [`CookieJar`].
#[derive(Clone, Default)]
#[must_use]
pub struct CookieJarBuilder {
    settings: Settings,
}

impl CookieJarBuilder {
    /// The public suffix list. Default: [`PublicSuffixes::Embedded`].
    pub fn public_suffixes(mut self, suffixes: PublicSuffixes) -> Self {
        self.settings.suffixes = Arc::new(suffixes);
        self
    }

    /// How much the jar holds and sends. Default: [`CookieLimits::default`].
    pub const fn limits(mut self, limits: CookieLimits) -> Self {
        self.settings.limits = limits;
        self
    }

    /// Decides which of the cookies that the rules allow are stored and sent. Default: all.
    pub fn policy(mut self, policy: impl CookiePolicy + 'static) -> Self {
        self.settings.policy = Some(Arc::new(policy));
        self
    }

    /// Whether `http://localhost.` and `http://*.localhost`, in any case, are secure origins, as
    /// `http://localhost` is.
    ///
    /// Default: false. Common resolvers ask the DNS for these names, so a stranger could answer for
    /// them. Set it if your resolver does not (RFC 6761 section 6.3), or if the client connects to
    /// this machine by other means.
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
    /// Source: RFC 6265bis section 5.8.3 leaves it to the client what a secure connection is.
    pub const fn localhost_names(mut self, are_secure: bool) -> Self {
        self.settings.secure_hosts.localhost_names = are_secure;
        self
    }

    /// Hosts that are secure origins over http too, such as a container's name or a host whose TLS
    /// ends elsewhere. Their `Secure` cookies are sent in clear.
    ///
    /// Default: none. Each is an exact host without a port: its subdomains are not meant. Text that
    /// names no host, such as `*.internal` or `h:80`, has no effect.
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

    /// The clock, for tests. Default: [`SystemTime::now`].
    pub const fn clock(mut self, clock: fn() -> SystemTime) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Logs the changes of the jar, for [`CookieJar::take_changes`]. Default: no log, and a jar
    /// without one pays nothing for it.
    ///
    /// A log takes at most as much memory as the jar's limits allow the cookies. Past that, changes
    /// are given up, first those of the site with the most: a flood of one site takes nothing of
    /// another. Of a site the changes go first that were made by an origin that is not secure; of
    /// these deletions of cookies that this jar never had, then cookies that were set, then other
    /// deletions; the oldest first within each group.
    pub const fn log_changes(mut self) -> Self {
        self.settings.logs_changes = true;
        self
    }

    /// Makes the empty jar. Jars from clones of one builder share no cookies.
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
