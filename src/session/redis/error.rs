//! `RedisError`: why a server did not do what it was asked to do.

use std::{error, fmt, io, time::Duration};

/// Why a [`RedisStore`](crate::session::RedisStore) could not load or change a session.
///
/// It holds no password, key or cookie. Of a server's error message it holds only the first word.
///
/// ```
/// use tower_outbound::session::{RedisConfig, RedisError};
///
/// let error = RedisConfig::new("http://redis.example").expect_err("not a scheme of Redis");
/// assert!(matches!(error, RedisError::Config { .. }));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL or a setting is not valid. Nothing was sent.
    #[non_exhaustive]
    Config {
        /// What is not valid.
        reason: &'static str,
    },
    /// There is no connection to the server.
    #[non_exhaustive]
    Unreachable {
        /// Host and port, or the path of the socket.
        server: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The server is older than Redis 6, or does not support RESP3, so it cannot report what others
    /// change.
    #[non_exhaustive]
    TooOld {
        /// Host and port, or the path of the socket.
        server: String,
    },
    /// The server is a replica or a Sentinel. Only a primary stores changes.
    #[non_exhaustive]
    NotPrimary {
        /// Host and port, or the path of the socket.
        server: String,
        /// What the server says it is.
        role: &'static str,
    },
    /// The server refused the command, for example because of a wrong password, its access list, or
    /// a lack of memory.
    #[non_exhaustive]
    Refused {
        /// Host and port, or the path of the socket.
        server: String,
        /// The first word of the server's answer, such as `WRONGPASS`, `NOPERM` or `OOM`.
        code: String,
    },
    /// The server's answer does not follow the protocol of Redis, or ours.
    #[non_exhaustive]
    Garbage {
        /// Host and port, or the path of the socket.
        server: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The session already has cookies of
    /// [`RedisConfig::max_sites`](crate::session::RedisConfig::max_sites) sites.
    #[non_exhaustive]
    TooManySites {
        /// The limit.
        max_sites: u32,
    },
    /// The server did not answer within
    /// [`RedisConfig::timeout`](crate::session::RedisConfig::timeout).
    #[non_exhaustive]
    Timeout {
        /// How long the store waited.
        waited: Duration,
    },
}

impl fmt::Display for RedisError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config { reason } => {
                write!(f, "cannot use this configuration of redis: {reason}")
            }
            Self::Unreachable { server, source } => write!(f, "cannot reach {server}: {source}"),
            Self::TooOld { server } => write!(
                f,
                "{server} does not speak RESP3: sessions need Redis 6 or newer, or Valkey"
            ),
            Self::NotPrimary { server, role } => {
                write!(f, "{server} is a {role}, but only a primary stores sessions")
            }
            Self::Refused { server, code } => write!(f, "{server} refused with {code}"),
            Self::Garbage { server, expected } => {
                write!(f, "the answer of {server} is not {expected}")
            }
            Self::TooManySites { max_sites } => {
                write!(f, "the session already has cookies of {max_sites} sites, the maximum")
            }
            Self::Timeout { waited } => write!(f, "no answer within {waited:?}"),
        }
    }
}

// No `source`: our own message ends with its text.
impl error::Error for RedisError {}
