use std::{error, fmt};

/// Why a request was not sent, or a session was not reached. Nothing was sent upstream.
///
/// It holds no key and no cookie. What the store itself said is an event of the feature `tracing`
/// and in [`SessionStats::last_failure`](super::SessionStats::last_failure).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The store did not answer within the [deadline](super::SessionPoolBuilder::deadline), or
    /// answered with an error. A proxy answers 503. Some stores find by themselves that what they
    /// keep is damaged; that is such an error.
    Unavailable,
    /// The store has something of this session that cannot be read: it is sealed with a key that
    /// this pool does not have, belongs to another session or another cookie, or is damaged.
    ///
    /// It stays so until the right key is added, or the session is
    /// [forgotten](super::SessionPool::forget).
    Unreadable,
    /// The URI names no host, so no cookies belong to it. Only
    /// [`SessionPool::jar`](super::SessionPool::jar) returns it.
    NoHost,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the store of sessions did not answer in time",
            Self::Unreadable => {
                "the stored session cannot be read: another key sealed it, or it is damaged"
            }
            Self::NoHost => "the URI names no host, so no session belongs to it",
        })
    }
}

impl error::Error for SessionError {}
