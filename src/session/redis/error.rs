//! `RedisError`: why a server did not do what it was asked.

use std::{error, fmt, io, time::Duration};

/// Why a session was not loaded or changed.
///
/// It holds no password, no key and no cookie. Of a server's own message it holds the first word.
#[derive(Debug)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL or a setting cannot be used. Nothing was sent.
    #[non_exhaustive]
    Config {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is no connection to the server.
    #[non_exhaustive]
    Unreachable {
        /// Host and port, or the path of the socket.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// The server is older than Redis 6, or does not speak RESP3. It cannot tell what others
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
        /// What it says it is.
        role: &'static str,
    },
    /// The server refused: a wrong password, a command that its access list forbids, no memory.
    #[non_exhaustive]
    Refused {
        /// Host and port, or the path of the socket.
        server: String,
        /// The first word of its answer: `WRONGPASS`, `NOPERM`, `OOM`.
        code: String,
    },
    /// The server's answer is not what its protocol or ours says.
    #[non_exhaustive]
    Garbage {
        /// Host and port, or the path of the socket.
        server: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The session already has cookies of this many sites. See
    /// [`RedisConfig::max_sites`](crate::session::RedisConfig::max_sites).
    #[non_exhaustive]
    TooManySites {
        /// The bound.
        max_sites: u32,
    },
    /// The server did not answer. See
    /// [`RedisConfig::timeout`](crate::session::RedisConfig::timeout).
    #[non_exhaustive]
    Timeout {
        /// How long it was waited for.
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
                write!(f, "{server} is a {role}, and sessions are stored on a primary")
            }
            Self::Refused { server, code } => write!(f, "{server} refused with {code}"),
            Self::Garbage { server, expected } => {
                write!(f, "the answer of {server} is not {expected}")
            }
            Self::TooManySites { max_sites } => {
                write!(f, "the session has cookies of {max_sites} sites, the most that are kept")
            }
            Self::Timeout { waited } => write!(f, "no answer within {waited:?}"),
        }
    }
}

// No `source`: our own message ends with its words.
impl error::Error for RedisError {}
