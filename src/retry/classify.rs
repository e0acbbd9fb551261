//! Error chain -> `Failure`.

use std::{error::Error, fmt, io, iter};

use http::StatusCode;

/// What went wrong with an attempt, as far as a retry is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// No connection: refused, no such host, a failed TLS handshake. The request was not sent, so
    /// any method may be retried. It must be true of the whole call, as for
    /// [`Unsent`](Self::Unsent). A certificate that is not trusted is [`Never`](Self::Never).
    Connect,
    /// A connection, but the server did not process the request: it was never written, or HTTP/2
    /// said so. Any method may be retried.
    ///
    /// The service below may have made several exchanges: it followed a redirect, or retried. The
    /// error of a later exchange says nothing of the first one. If the policy may not
    /// [repeat](super::Policy::may_repeat) the request and an earlier exchange cannot be ruled out,
    /// `Connect` and `Unsent` become [`Read`](Self::Read).
    Unsent,
    /// The connection broke after the request was, or may have been, sent. Or a later exchange of
    /// the same call failed.
    Read,
    /// The attempt took too long: by the policy's own limit, or by one of tower, tokio, reqwest or
    /// the system below.
    Timeout,
    /// A response whose status says to try again.
    Status(StatusCode),
    /// Any other error.
    Other,
    /// An error that a second attempt would meet again: a garbled response, a bad request, a
    /// failing body, HTTP/2 on a resource that asks for HTTP/1.1, or a server's certificate that
    /// rustls or OpenSSL does not trust.
    Never,
}

/// Statuses of a request that the server did not process: 421 came to a server that does not answer
/// for it (RFC 9110 section 15.5.20), 425 came too early in the handshake (RFC 8470 section 5.2).
pub(super) const UNPROCESSED: [StatusCode; 2] =
    [StatusCode::MISDIRECTED_REQUEST, StatusCode::TOO_EARLY];

impl Failure {
    /// Whether the server cannot have processed the request.
    pub(super) const fn is_before_sending(self) -> bool {
        matches!(self, Self::Connect | Self::Unsent)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect error",
            Self::Unsent => "not sent",
            Self::Read => "read error",
            Self::Timeout => "timeout",
            Self::Status(status) => return write!(f, "status {}", status.as_u16()),
            Self::Other => "other error",
            Self::Never => "error that no retry mends",
        })
    }
}

/// Longest chain of sources that is walked: a chain can be a circle.
const MOST: usize = 32;

/// The class of an error, from the outermost cause that says anything: inner ones know less of what
/// was sent.
pub(super) fn error(error: &(dyn Error + 'static)) -> Failure {
    match causes(error).find_map(link).unwrap_or(Failure::Other) {
        // Below a client it is a failed connection, and by itself no class at all.
        Failure::Connect | Failure::Other if causes(error).any(is_distrust) => Failure::Never,
        class => class,
    }
}

/// Whether it is a clock on this side that ended an attempt, ours or one below, and not the
/// network.
pub(super) fn is_elapsed(failed: &(dyn Error + 'static)) -> bool {
    error(failed) == Failure::Timeout && causes(failed).any(is_clock)
}

/// Whether one error is that of a clock: tower's, tokio's or reqwest's.
fn is_clock(error: &(dyn Error + 'static)) -> bool {
    error.is::<tower::timeout::error::Elapsed>()
        || error.is::<tokio::time::error::Elapsed>()
        // The type is reqwest's own secret, so only its words tell. Without them it is `Other`,
        // which may be retried for the same methods.
        || (error.source().is_none() && error.to_string() == "operation timed out")
}

/// Whether one error is that of a TLS library that does not trust the server's certificate:
/// unknown, expired, of another name.
///
/// Only the words tell, since no TLS library is a dependency: those of rustls and of OpenSSL. They
/// may rule a retry out, never allow one.
fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    let words = error.to_string();
    words.starts_with("invalid peer certificate") || words.contains("certificate verify failed")
}

/// Whether hyper's connection was dropped with its runtime, while another one used the client.
///
/// It counts as the user's own fault, as a panic of the user's code does, which a retry would meet
/// again. Only the words tell them apart.
fn is_runtime_gone(error: &hyper::Error) -> bool {
    error.is_user()
        && error
            .source()
            .is_some_and(|cause| cause.to_string() == "runtime dropped the dispatch task")
}

/// Whether the class of an error is HTTP/2's word, which refuses requests that were written.
pub(super) fn is_http2(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "http2")]
    return causes(error)
        .find(|error| link(*error).is_some())
        .is_some_and(<dyn Error>::is::<h2::Error>);
    // Without the feature nothing of HTTP/2 is known to mean "not processed".
    #[cfg(not(feature = "http2"))]
    {
        let _ = error;
        false
    }
}

/// An error, and what it was caused by.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(
        Some(error),
        |&error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
            // An `io::Error` names its own cause's cause as its source, and skips its cause.
            match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            }
        },
    )
    .take(MOST)
}

/// Whether hyper-util's client says that the request is one it cannot send: a relative URI, a
/// scheme it does not know.
///
/// Only its words tell. They may rule a retry out, never allow one, so that nothing is sent twice
/// should they change.
fn is_bad_request(error: &hyper_util::client::legacy::Error) -> bool {
    match error.source() {
        None => error.to_string().starts_with("client error (User"),
        Some(source) => error.is_connect() && source.to_string().starts_with("invalid URL"),
    }
}

/// What one error says by itself.
fn link(error: &(dyn Error + 'static)) -> Option<Failure> {
    if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
        return if is_bad_request(error) {
            Some(Failure::Never)
        } else {
            error.is_connect().then_some(Failure::Connect)
        };
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        // Closed: the connection was gone when the request asked for it.
        return if error.is_canceled() || error.is_closed() {
            Some(Failure::Unsent)
        } else if error.is_incomplete_message() || is_runtime_gone(error) {
            Some(Failure::Read)
        } else if error.is_timeout() {
            Some(Failure::Timeout)
        } else if error.is_parse() || error.is_user() {
            Some(Failure::Never)
        } else {
            None
        };
    }
    #[cfg(feature = "http2")]
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => Some(Failure::Unsent),
            // A client that has HTTP/1.1 too would have to be told to use it.
            Some(h2::Reason::HTTP_1_1_REQUIRED) => Some(Failure::Never),
            // A stream that ends with the peer's GOAWAY lies past the last one it processed,
            // whatever the code (RFC 9113 section 6.8); those before it end with their
            // connection.
            Some(_) if error.is_go_away() && error.is_remote() => Some(Failure::Unsent),
            // The response itself is no HTTP/2, or the request's own body failed: hyper resets its
            // stream. A fault of the connection may be another stream's.
            Some(_) if error.is_reset() && !error.is_remote() => Some(Failure::Never),
            Some(_) => Some(Failure::Read),
            // It has no source: what it wraps is asked for by name.
            None => error.get_io().and_then(|io| link(io)),
        };
    }
    if is_clock(error) {
        return Some(Failure::Timeout);
    }
    // Only an error of the system's own is told by its kind; a wrapped one is told by what it
    // wraps.
    let io = error
        .downcast_ref::<io::Error>()
        .filter(|error| error.get_ref().is_none_or(|inner| link(inner).is_none()))?;
    match io.kind() {
        io::ErrorKind::ConnectionRefused => Some(Failure::Connect),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Some(Failure::Read),
        io::ErrorKind::TimedOut => Some(Failure::Timeout),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Wrapper(Box<dyn Error + Send + Sync>);

    impl fmt::Display for Wrapper {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("wrapped")
        }
    }

    impl Error for Wrapper {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&*self.0)
        }
    }

    #[derive(Debug)]
    struct Circle;

    impl fmt::Display for Circle {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("circle")
        }
    }

    impl Error for Circle {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_class_is_found_at_any_depth() {
        let of =
            |kind: io::ErrorKind| -> Box<dyn Error + Send + Sync> { io::Error::from(kind).into() };
        let elapsed = tower::timeout::error::Elapsed::new;
        // As hyper-rustls and hyper-tls wrap it.
        let distrust = |words: &'static str| -> Box<dyn Error + Send + Sync> {
            io::Error::other(io::Error::new(io::ErrorKind::InvalidData, words)).into()
        };
        let rows: Vec<(&str, Box<dyn Error + Send + Sync>, Failure)> = vec![
            ("refused", of(io::ErrorKind::ConnectionRefused), Failure::Connect),
            ("reset", of(io::ErrorKind::ConnectionReset), Failure::Read),
            ("broken pipe", of(io::ErrorKind::BrokenPipe), Failure::Read),
            ("end of file", of(io::ErrorKind::UnexpectedEof), Failure::Read),
            ("timed out", of(io::ErrorKind::TimedOut), Failure::Timeout),
            ("elapsed", Box::new(elapsed()), Failure::Timeout),
            (
                "reqwest's time-out",
                Box::new(Wrapper("operation timed out".into())),
                Failure::Timeout,
            ),
            ("rustls", distrust("invalid peer certificate: UnknownIssuer"), Failure::Never),
            (
                "OpenSSL",
                distrust(
                    "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify failed:ssl/statem/statem_clnt.c:1889: (self-signed certificate)",
                ),
                Failure::Never,
            ),
            (
                "another failed handshake",
                distrust("received fatal alert: HandshakeFailure"),
                Failure::Other,
            ),
            (
                "a reset, whatever it wraps",
                io::Error::new(io::ErrorKind::ConnectionReset, "invalid peer certificate").into(),
                Failure::Read,
            ),
            ("wrapped elapsed", Box::new(Wrapper(Box::new(elapsed()))), Failure::Timeout),
            ("elapsed in io", io::Error::other(elapsed()).into(), Failure::Timeout),
            (
                "elapsed in io of another kind",
                io::Error::new(io::ErrorKind::BrokenPipe, elapsed()).into(),
                Failure::Timeout,
            ),
            ("text in io", io::Error::new(io::ErrorKind::BrokenPipe, "gone").into(), Failure::Read),
            (
                "deep",
                Box::new(Wrapper(Box::new(Wrapper(of(io::ErrorKind::ConnectionRefused))))),
                Failure::Connect,
            ),
            ("unknown", "what".into(), Failure::Other),
            ("a circle", Box::new(Circle), Failure::Other),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .map(|(what, e, want)| (what, error(&**e), want))
            .filter(|(_, got, want)| got != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[cfg(feature = "http2")]
    #[test]
    fn http2_says_what_it_did_not_process() {
        let rows = [
            (h2::Reason::REFUSED_STREAM, Failure::Unsent),
            (h2::Reason::CANCEL, Failure::Read),
            (h2::Reason::INTERNAL_ERROR, Failure::Read),
            (h2::Reason::HTTP_1_1_REQUIRED, Failure::Never),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|(reason, want)| error(&h2::Error::from(*reason)) != *want)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
