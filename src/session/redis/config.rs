//! `RedisConfig`: which server, as whom, and how long to wait for it.

use std::{fmt, time::Duration};

use super::{
    address::{Address, Login, parse},
    error::RedisError,
};

/// Which server holds the sessions, as whom to log in, and how long to wait for it.
///
/// `Debug` shows addresses and times, and whether there is a password.
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
    /// One server.
    ///
    /// `redis://[USER][:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss://` for the same over TLS, or
    /// `unix:///PATH[?db=DATABASE]`. Characters that a URL has a meaning for are written as `%hh`.
    /// If the server is part of a cluster, its other nodes are found.
    ///
    /// # Errors
    ///
    /// [`RedisError::Config`] if the URL cannot be used. It does not show the URL.
    pub fn new(url: &str) -> Result<Self, RedisError> {
        Self::cluster([url])
    }

    /// A cluster, by some of its nodes. Any one that answers tells where the others are. All
    /// nodes take the login of the first URL.
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

    /// A primary that Sentinels know by this name, and choose anew if it fails.
    ///
    /// The URLs are those of the Sentinels, which take the login of the first URL. Set that of the
    /// primary by [`login`](Self::login) and [`database`](Self::database). With `rediss://` both
    /// are reached over TLS.
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

    /// As whom to log in, in place of what the URL says. An empty user is the server's default
    /// one.
    #[must_use]
    pub fn login(mut self, username: &str, password: &str) -> Self {
        self.login.username = (!username.is_empty()).then(|| username.to_owned());
        self.login.password = Some(password.to_owned());
        self
    }

    /// The database, in place of what the URL says. A cluster has 0 alone.
    #[must_use]
    pub const fn database(mut self, number: u32) -> Self {
        self.login.database = number;
        self
    }

    /// The certificates that a server's own must be signed by, in PEM, for `rediss://`.
    ///
    /// Default: those that this machine trusts.
    #[must_use]
    pub fn ca_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.ca_certificates = Some(pem.into());
        self
    }

    /// Longest time for one load or change: connecting, waiting for a new primary and trying again
    /// are part of it.
    ///
    /// Default: 2 s. The deadline of a pool is usually shorter and ends the wait first.
    #[must_use]
    pub const fn timeout(mut self, wait: Duration) -> Self {
        self.timeout = wait;
        self
    }

    /// How often the server is asked whether it is there, while a pool's future runs. A server that
    /// does not answer for as long is given up. So a replica that is cut off serves what it has
    /// for at most twice this time.
    ///
    /// Default: 1 s. Zero is taken as a millisecond.
    #[must_use]
    pub const fn ping(mut self, every: Duration) -> Self {
        self.ping = every;
        self
    }

    /// Most sites that one session has cookies of. A change for another one is
    /// [refused](RedisError::TooManySites) until a site's cookies expire.
    ///
    /// Default: 10,000.
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
