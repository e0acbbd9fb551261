//! What an error of the client crate means: what to do next, and what to report.

use std::io;

use redis::{ErrorKind, ServerErrorKind};

use super::{address::Address, error::RedisError};

/// What to do about a failed command. All of our commands can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The server does not know the script: load it and send the command again.
    Load,
    /// The server is starting, or its cluster is changing: send it again a little later.
    Wait,
    /// Use another connection.
    Reconnect,
    /// The slot is now on the node of this address.
    Moved(String),
    /// The key is already on the node of this address, and the slot will be.
    Ask(String),
    /// Trying again does not help.
    Fail,
}

pub(super) fn next(error: &redis::RedisError) -> Next {
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::NoScript => Next::Load,
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown => Next::Wait,
            ServerErrorKind::ReadOnly => Next::Reconnect,
            ServerErrorKind::Moved | ServerErrorKind::Ask => match error.redirect_node() {
                Some((to, _)) if kind == ServerErrorKind::Moved => Next::Moved(to.to_owned()),
                Some((to, _)) => Next::Ask(to.to_owned()),
                None => Next::Fail,
            },
            // Redis 6 reports this inside a script's error.
            _ if error.detail().is_some_and(|detail| detail.contains("-READONLY ")) => {
                Next::Reconnect
            }
            _ => Next::Fail,
        },
        ErrorKind::Extension => match error.code() {
            Some("BUSY") => Next::Wait,
            // A primary that has too few replicas connected.
            Some("NOREPLICAS") => Next::Wait,
            _ => Next::Fail,
        },
        // The bytes were not the protocol, so nothing after them can be trusted.
        ErrorKind::Io | ErrorKind::Parse => Next::Reconnect,
        _ => Next::Fail,
    }
}

/// Without the server's own words: they may quote what was sent.
pub(super) fn tell(error: &redis::RedisError, server: &Address) -> RedisError {
    let server = server.to_string();
    let detail = error.detail().unwrap_or_default();
    match error.kind() {
        ErrorKind::RESP3NotSupported => RedisError::TooOld { server },
        ErrorKind::Io => {
            let cause = std::error::Error::source(error);
            let source = match cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
                Some(cause) => cause.kind().into(),
                None => io::ErrorKind::ConnectionAborted.into(),
            };
            RedisError::Unreachable { server, source }
        }
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => {
            RedisError::Garbage { server, expected: "an answer of redis" }
        }
        ErrorKind::AuthenticationFailed => {
            RedisError::Refused { server, code: "WRONGPASS".to_owned() }
        }
        // The answer to `HELLO` of a server before Redis 6, or of one with other protocols only.
        _ if error.code() == Some("NOPROTO") => RedisError::TooOld { server },
        _ if detail.to_ascii_lowercase().contains("unknown command")
            && detail.to_ascii_uppercase().contains("HELLO") =>
        {
            RedisError::TooOld { server }
        }
        _ => match error.code().filter(|code| is_code(code)) {
            Some(code) => RedisError::Refused { server, code: code.to_owned() },
            None => RedisError::Garbage { server, expected: "an answer of redis" },
        },
    }
}

/// Whether it is an error word of a server, and not a text that a stranger chose.
fn is_code(word: &str) -> bool {
    word.len() <= 20 && !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

impl RedisError {
    /// Whether another attempt a moment later may succeed.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::NotPrimary { .. }
            | Self::Garbage { .. }
            | Self::Timeout { .. } => true,
            Self::Refused { code, .. } => PASSING.contains(&code.as_str()),
            _ => false,
        }
    }
}

/// The words of a server that is starting, or whose cluster is changing.
const PASSING: [&str; 5] = ["LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN"];

#[cfg(test)]
mod tests {
    use redis::{Parser, Value};

    use super::*;

    fn error(line: &str) -> redis::RedisError {
        let answer = Parser::new().parse_value(line.as_bytes()).expect("it is a whole answer");
        match answer {
            Value::ServerError(error) => error.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn errors_of_a_server_lead_to_the_next_step() {
        let rows = [
            ("-NOSCRIPT No matching script.\r\n", Next::Load),
            ("-READONLY You can't write against a read only replica.\r\n", Next::Reconnect),
            (
                "-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't\r\n",
                Next::Reconnect,
            ),
            ("-LOADING Redis is loading the dataset in memory\r\n", Next::Wait),
            ("-BUSY Redis is busy running a script.\r\n", Next::Wait),
            ("-CLUSTERDOWN The cluster is down\r\n", Next::Wait),
            ("-MOVED 3999 127.0.0.1:6381\r\n", Next::Moved("127.0.0.1:6381".to_owned())),
            ("-ASK 3999 [::1]:6381\r\n", Next::Ask("[::1]:6381".to_owned())),
            ("-MOVED\r\n", Next::Fail),
            ("-OOM command not allowed when used memory > 'maxmemory'.\r\n", Next::Fail),
            ("-WRONGTYPE Operation against a key\r\n", Next::Fail),
            ("-ERR no\r\n", Next::Fail),
        ];
        for (line, expected) in rows {
            assert_eq!(next(&error(line)), expected, "{line}");
        }
    }

    #[test]
    fn errors_tell_the_first_word_and_no_more() {
        let here = Address::Tcp { host: "h".to_owned(), port: 1, tls: false };
        let rows = [
            ("-WRONGPASS invalid username-password pair\r\n", "h:1 refused with WRONGPASS"),
            ("-OOM secret\r\n", "h:1 refused with OOM"),
            ("-secret\r\n", "the answer of h:1 is not an answer of redis"),
            (
                "-ERR unknown command `HELLO`, with args beginning with: `3`, `secret`\r\n",
                "h:1 does not speak RESP3: sessions need Redis 6 or newer, or Valkey",
            ),
            (
                "-NOPROTO unsupported protocol version\r\n",
                "h:1 does not speak RESP3: sessions need Redis 6 or newer, or Valkey",
            ),
        ];
        for (line, expected) in rows {
            let told = tell(&error(line), &here);
            assert_eq!(told.to_string(), expected, "{line}");
            assert!(!format!("{told:?}").contains("secret"), "{told:?}");
        }
    }
}
