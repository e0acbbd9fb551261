//! Addresses and logins: from URLs, and from what servers report.

use std::{fmt, path::PathBuf};

use super::{error::RedisError, name::unescape};

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// Without brackets around IPv6, which a TLS server name must not have.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Address {
    /// Another server, as this one names it: `host:port`. An empty host, or `?`, means this
    /// server's host.
    pub(super) fn redirected(&self, to: &str) -> Option<Self> {
        let (host, port) = to.rsplit_once(':')?;
        self.sibling(host, port.parse().ok()?)
    }

    /// A server that is reached in the same way: with TLS if this one is.
    pub(super) fn sibling(&self, host: &str, port: u16) -> Option<Self> {
        let (own, tls) = match self {
            Self::Tcp { host, tls, .. } => (Some(host.as_str()), *tls),
            Self::Unix(_) => (None, false),
        };
        let host = match host.trim_start_matches('[').trim_end_matches(']') {
            "" | "?" => own?,
            host => host,
        };
        Some(Self::Tcp { host: host.to_owned(), port, tls })
    }
}

/// The user, password and database.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: u32,
}

/// Reads a URL.
///
/// `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, `rediss://` the same over TLS, and
/// `unix:PATH[?db=DATABASE]`. `valkey` and `valkeys` are other words for the first two, and
/// `redis+unix` for the last.
pub(super) fn parse(url: &str) -> Result<(Address, Login), RedisError> {
    let wrong = |reason| RedisError::Config { reason };
    let url = redis::parse_redis_url(url)
        .ok_or(wrong("it is not a URL that begins with redis://, rediss:// or unix:"))?;
    // `#insecure` disables the check of certificates in other clients.
    if url.fragment().is_some() {
        return Err(wrong("a fragment in the URL has no meaning"));
    }
    let text = |escaped: &str| {
        let bytes = unescape(escaped).and_then(|bytes| String::from_utf8(bytes).ok());
        bytes.ok_or(wrong("the URL has a % that is not followed by two digits, or is not UTF-8"))
    };
    let database = |text: &str| match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| wrong("the database in the URL is not a number")),
    };
    let mut login = Login::default();
    if !url.username().is_empty() {
        login.username = Some(text(url.username())?);
    }
    login.password = url.password().map(text).transpose()?;
    if login.username.is_some() && login.password.is_none() {
        return Err(wrong("the URL has a user without a password"));
    }
    let tls = matches!(url.scheme(), "rediss" | "valkeys");
    if !tls && !matches!(url.scheme(), "redis" | "valkey") {
        if !cfg!(unix) {
            return Err(wrong("this system has no Unix sockets"));
        }
        if url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err(wrong("the URL of a Unix socket has a host: write unix:///path"));
        }
        login.database = match url.query() {
            None => 0,
            Some(query) => database(
                query
                    .strip_prefix("db=")
                    .ok_or(wrong("a query in the URL can only be db=NUMBER"))?,
            )?,
        };
        let path = text(url.path())?;
        if !path.starts_with('/') {
            return Err(wrong("the URL of a Unix socket has no absolute path"));
        }
        return Ok((Address::Unix(path.into()), login));
    }
    if url.query().is_some() {
        return Err(wrong("a query in the URL has no meaning"));
    }
    login.database = database(url.path().trim_start_matches('/'))?;
    let host = url.host_str().unwrap_or_default();
    let host = text(host.trim_start_matches('[').trim_end_matches(']'))?;
    if host.is_empty() {
        return Err(wrong("the URL has no host"));
    }
    let port = url.port().unwrap_or(6_379);
    Ok((Address::Tcp { host, port, tls }, login))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_where_and_as_whom() {
        let rows = [
            ("redis://h", "h:6379", false, "", "", 0),
            ("redis://h:1/", "h:1", false, "", "", 0),
            ("redis://:p%40ss@h:1/3", "h:1", false, "", "p@ss", 3),
            ("rediss://u:p@h/3", "h:6379", true, "u", "p", 3),
            ("valkeys://u%3a:p@[::1]:7", "[::1]:7", true, "u:", "p", 0),
            ("unix:///run/a%20b.sock?db=2", "/run/a b.sock", false, "", "", 2),
            ("redis+unix:///run/redis.sock", "/run/redis.sock", false, "", "", 0),
        ];
        for (url, address, secure, username, password, database) in rows {
            let (at, login) = parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
            assert_eq!(at.to_string(), address, "{url}");
            assert_eq!(matches!(at, Address::Tcp { tls: true, .. }), secure, "{url}");
            let text = |text: Option<String>| text.unwrap_or_default();
            let got = (text(login.username), text(login.password), login.database);
            assert_eq!(got, (username.to_owned(), password.to_owned(), database), "{url}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_used_is_an_error_without_its_text() {
        let urls = [
            "",
            "redis",
            "redis://",
            "http://secret",
            "redis://secret:x",
            "redis://h/secret",
            "redis://h/-1",
            "redis://secret@h",
            "redis://:%zz@secret",
            "redis://:%ff@secret",
            "rediss://secret/#insecure",
            "redis://h?password=secret",
            "unix://secret/x",
            "unix:///x?secret=1",
            "unix:///x?db=secret",
            "redis:secret",
            "unix:secret",
        ];
        for url in urls {
            let error = parse(url).err().unwrap_or_else(|| panic!("{url} is used"));
            assert!(matches!(error, RedisError::Config { .. }), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_server_names_another_by_host_and_port() {
        let here = Address::Tcp { host: "h".to_owned(), port: 1, tls: true };
        let rows = [
            ("other:2", Some("other:2")),
            (":2", Some("h:2")),
            ("?:2", Some("h:2")),
            ("::1:2", Some("[::1]:2")),
            ("other", None),
            ("other:x", None),
            ("", None),
        ];
        for (to, expected) in rows {
            let got = here.redirected(to).map(|address| address.to_string());
            assert_eq!(got.as_deref(), expected, "{to}");
        }
        assert_eq!(Address::Unix("/x".into()).redirected(":2"), None);
    }
}
