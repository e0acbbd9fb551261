use std::{error, fmt};

/// Why a session could not be used. Nothing was sent upstream.
///
/// It holds no key and no cookie. The store's own error is a `tracing` event, and is kept in
/// [`SessionStats::last_failure`](super::SessionStats::last_failure).
///
/// If retries are outside [`SessionLayer`](super::SessionLayer), they retry a GET after this error,
/// and it becomes the `source()` of a [`RetryError`](crate::retry::RetryError): see
/// [`SessionLayer`](super::SessionLayer#inside-retries). So look at all causes of an error:
///
/// ```
/// use std::{error::Error, iter};
///
/// use http::StatusCode;
/// use tower_outbound::session::SessionError;
///
/// /// What a proxy answers if its client fails.
/// fn status(error: &tower::BoxError) -> StatusCode {
///     let first: &(dyn Error + 'static) = &**error;
///     let mut causes = iter::successors(Some(first), |&error| error.source());
///     match causes.find_map(|error| error.downcast_ref()) {
///         Some(SessionError::Unavailable) => StatusCode::SERVICE_UNAVAILABLE,
///         Some(_) => StatusCode::INTERNAL_SERVER_ERROR,
///         None => StatusCode::BAD_GATEWAY,
///     }
/// }
///
/// assert_eq!(status(&SessionError::Unavailable.into()), StatusCode::SERVICE_UNAVAILABLE);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionError {
    /// The store failed, or did not answer within the
    /// [deadline](super::SessionPoolBuilder::deadline). A proxy answers 503. Some stores detect
    /// that their data is damaged; that is such a failure too.
    Unavailable,
    /// The store has a record of this session that cannot be read: it is damaged, it belongs to
    /// another session or cookie, or this pool lacks the key that sealed it.
    ///
    /// The session stays unreadable until the right key is added, or the session is
    /// [forgotten](super::SessionPool::forget).
    Unreadable,
    /// The URI names no host, so no cookies belong to it. Only
    /// [`SessionPool::jar`](super::SessionPool::jar) returns this.
    NoHost,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unavailable => "the session store failed or did not answer in time",
            Self::Unreadable => {
                "the stored session cannot be read: another key sealed it, or it is damaged"
            }
            Self::NoHost => "the URI names no host, so no session belongs to it",
        })
    }
}

impl error::Error for SessionError {}
