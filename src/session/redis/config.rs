//! `RedisConfig`: the server, the login, and how long to wait.

use std::{fmt, time::Duration};

use super::{
    address::{Address, Login, parse},
    error::RedisError,
};

/// The server that holds the sessions, the login, and how long to wait for the server.
///
/// `Debug` shows addresses and times, and whether there is a password, but not the password.
///
/// ```
/// use std::time::Duration;
/// use tower_outbound::session::RedisConfig;
///
/// let one = RedisConfig::new("rediss://app:secret@redis.example:6380/2")?
///     .timeout(Duration::from_secs(1));
/// let chosen_by_sentinels = RedisConfig::sentinel(
///     "sessions",
///     ["redis://sentinel-1:26379", "redis://sentinel-2:26379"],
/// )?
/// .login("app", "secret");
/// let cluster = RedisConfig::cluster(["redis://node-1", "redis://node-2"])?;
/// # Ok::<(), tower_outbound::session::RedisError>(())
/// ```
#[derive(Clone)]
pub struct RedisConfig {
    /// At least one, tried in turn: servers, or the Sentinels that know the server.
    pub(super) addresses: Vec<Address>,
    /// The name by which Sentinels know the primary.
    pub(super) primary: Option<String>,
    pub(super) sentinel_login: Login,
    pub(super) login: Login,
    pub(super) ca_certificates: Option<Vec<u8>>,
    pub(super) timeout: Duration,
    pub(super) ping: Duration,
    pub(super) max_sites: u32,
}

impl RedisConfig {
    /// Configures one server.
    ///
    /// The URL is `redis://[USER][:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for the same over
    /// TLS, or `unix:///PATH[?db=DATABASE]`. Characters with a meaning in URLs are written as
    /// `%hh`. If the server is part of a cluster, its other nodes are found.
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if the URL cannot be used. The error does not show the URL.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        Self::cluster([url])
    }

    /// Configures a cluster by some of its nodes. Any node that answers names the others. All nodes
    /// use the login of the first URL.
    ///
    /// ```
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::cluster(["redis://app:secret@node-1", "redis://node-2"])?;
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if there is no URL, or one cannot be used.
    pub fn cluster<'a>(urls: impl IntoIterator<Item = &'a str>) -> Result<Self, RedisError> {
        let parsed = urls.into_iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        let (addresses, logins): (Vec<_>, Vec<_>) = parsed.into_iter().unzip();
        let login =
            logins.into_iter().next().ok_or(RedisError::Config { reason: "no URL was given" })?;
        Ok(Self {
            addresses,
            primary: None,
            sentinel_login: Login::default(),
            login,
            ca_certificates: None,
            timeout: Duration::from_secs(2),
            ping: Duration::from_secs(1),
            max_sites: 10_000,
        })
    }

    /// Configures a primary by the name under which Sentinels know it. They choose another primary
    /// if it fails.
    ///
    /// The URLs are those of the Sentinels, which all use the login of the first URL. Set the login
    /// and database of the primary with [`login`](Self::login) and [`database`](Self::database).
    /// With `rediss://` Sentinels and primary are reached over TLS.
    ///
    /// ```
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let sentinels = ["redis://sentinel-1:26379", "redis://sentinel-2:26379"];
    /// let config = RedisConfig::sentinel("sessions", sentinels)?.login("app", "secret");
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if there is no URL, or one cannot be used.
    pub fn sentinel<'a>(
        primary: &str,
        urls: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, RedisError> {
        let mut config = Self::cluster(urls)?;
        config.sentinel_login = std::mem::take(&mut config.login);
        config.primary = Some(primary.to_owned());
        Ok(config)
    }

    /// Sets the user and password, instead of those of the URL. An empty user is the server's
    /// default user.
    ///
    /// ```
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://redis.example")?.login("app", "secret");
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login.username = (!username.is_empty()).then(|| username.to_owned());
        self.login.password = Some(password.to_owned());
        self
    }

    /// Sets the number of the database, instead of the one of the URL. A cluster has database 0
    /// only.
    ///
    /// ```
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://redis.example")?.database(2);
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    #[must_use]
    pub const fn database(mut self, number: u32) -> Self {
        self.login.database = number;
        self
    }

    /// Sets the certificates that may sign the server's certificate, in PEM, for `rediss://`.
    ///
    /// Default: the certificates that this machine trusts.
    ///
    /// ```no_run
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let pem = std::fs::read("ca.pem")?;
    /// let config = RedisConfig::new("rediss://redis.example")?.ca_certificates(pem);
    /// # let _ = config;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn ca_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificates = Some(pem.into());
        self
    }

    /// Longest time for one load or change, including connecting, waiting for a new primary, and
    /// trying again.
    ///
    /// Default: 2 s. A pool's deadline is usually shorter, and ends the wait first.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://redis.example")?.timeout(Duration::from_secs(1));
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    #[must_use]
    pub const fn timeout(mut self, wait: Duration) -> Self {
        self.timeout = wait;
        self
    }

    /// Time between two pings of the server while a pool's driver runs. A server that does not
    /// answer within this time is given up. So a replica that is cut off uses outdated sessions for
    /// at most twice this time.
    ///
    /// Default: 1 s. Zero counts as 1 ms.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://redis.example")?.ping(Duration::from_millis(500));
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    #[must_use]
    pub const fn ping(mut self, every: Duration) -> Self {
        self.ping = every;
        self
    }

    /// The maximum number of sites of which one session has cookies. A change for another site
    /// [fails](RedisError::TooManySites) until the cookies of a site expire.
    ///
    /// Default: 10,000.
    ///
    /// ```
    /// use tower_outbound::session::RedisConfig;
    ///
    /// let config = RedisConfig::new("redis://redis.example")?.max_sites(100);
    /// # let _ = config;
    /// # Ok::<(), tower_outbound::session::RedisError>(())
    /// ```
    #[must_use]
    pub const fn max_sites(mut self, sites: u32) -> Self {
        self.max_sites = sites;
        self
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        f.debug_struct("RedisConfig")
            .field("addresses", &addresses)
            .field("primary", &self.primary)
            .field("database", &self.login.database)
            .field("has_password", &self.login.password.is_some())
            .field("timeout", &self.timeout)
            .field("ping", &self.ping)
            .field("max_sites", &self.max_sites)
            .finish_non_exhaustive()
    }
}
