//! The class of a failure, from the chain of an error's sources.

use std::{error::Error, fmt, io, iter};

use http::StatusCode;

/// The class of a failed attempt, which decides whether and how often the request is retried.
///
/// ```
/// use tower_outbound::retry::{Failure, RetryHistory};
///
/// fn timeouts(history: &RetryHistory) -> usize {
///     let attempts = history.attempts().iter();
///     attempts.filter(|attempt| attempt.failure == Some(Failure::Timeout)).count()
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Failure {
    /// There was no connection: it was refused, there is no such host, or the TLS handshake failed
    /// for another reason than an untrusted certificate.
    ///
    /// The request was not sent, so any method is retried, on the condition that
    /// [`Unsent`](Self::Unsent) names. If rustls or OpenSSL does not trust the server's
    /// certificate, that is [`Never`](Self::Never). Another TLS library's error for it is not
    /// recognised, and is `Connect`.
    ///
    /// Also if the connector's own time limit ended the connect: hyper-util's
    /// `set_connect_timeout`, or a `Timeout` around the connector. If `attempt_timeout` or a limit
    /// around the whole client ended it, the class is [`Timeout`](Self::Timeout), and a POST is not
    /// retried.
    Connect,
    /// There was a connection, but the server did not process the request: it was never written, or
    /// HTTP/2 said so (feature `http2`).
    ///
    /// Any method is retried, on one condition. The service below may have made several exchanges:
    /// it followed a redirect, or retried. The error of a later exchange says nothing about the
    /// first one. If the request must not be [repeated](super::Policy::may_repeat) and an earlier
    /// exchange cannot be ruled out, `Connect` and `Unsent` become [`Read`](Self::Read).
    Unsent,
    /// The connection broke after the request was sent, or may have been. Or a later exchange of
    /// the same call failed.
    Read,
    /// The attempt took too long: a limit of the policy ended it, or a limit of tower, tokio,
    /// reqwest, hyper or the operating system.
    Timeout,
    /// The response has a status that the policy retries.
    Status(StatusCode),
    /// Any other error.
    Other,
    /// A second attempt would fail the same way. Never retried.
    ///
    /// The response was garbled, the request was invalid, its body failed, a resource asked for
    /// HTTP/1.1 over HTTP/2 (feature `http2`), or rustls or OpenSSL does not trust the server's
    /// certificate.
    ///
    /// If the client refuses the scheme of a URL, that is `Never` for hyper-util's `HttpConnector`
    /// only. Other refusals are not recognised: hyper-rustls's is [`Connect`](Self::Connect), and
    /// reqwest's is [`Other`](Self::Other).
    Never,
}

/// Statuses that say that the server did not process the request. 421: this server does not answer
/// for the URI (RFC 9110 section 15.5.20). 425: the request came too early in the handshake
/// (RFC 8470 section 5.2).
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
            Self::Never => "permanent error",
        })
    }
}

/// Longest chain of sources that is walked: a chain can be a circle.
const MOST: usize = 32;

/// The class of an error, by the outermost cause that has one: inner causes know less about what
/// was sent.
pub(super) fn error(error: &(dyn Error + 'static)) -> Failure {
    match causes(error).find_map(link).unwrap_or(Failure::Other) {
        // Inside a client's error it is a failed connection. By itself it has no class.
        Failure::Connect | Failure::Other if causes(error).any(is_distrust) => Failure::Never,
        class => class,
    }
}

/// Whether a timer on this side ended the attempt, ours or one below, and not the network.
pub(super) fn is_elapsed(failed: &(dyn Error + 'static)) -> bool {
    error(failed) == Failure::Timeout && causes(failed).any(is_clock)
}

/// Whether one error is that of a timer: tower's, tokio's or reqwest's.
fn is_clock(error: &(dyn Error + 'static)) -> bool {
    error.is::<tower::timeout::error::Elapsed>()
        || error.is::<tokio::time::error::Elapsed>()
        // reqwest's type is private, so only its text tells. If the text changes, the class is
        // `Other`, which is retried for the same methods.
        || (error.source().is_none() && error.to_string() == "operation timed out")
}

/// Whether one error says that a TLS library does not trust the server's certificate: the issuer is
/// unknown, it has expired, or it has another name.
///
/// Only the text of rustls and OpenSSL tells, since no TLS library is a dependency. The text may
/// rule out a retry, and never allows one.
fn is_distrust(error: &(dyn Error + 'static)) -> bool {
    let words = error.to_string();
    words.starts_with("invalid peer certificate") || words.contains("certificate verify failed")
}

/// Whether hyper's connection was dropped with its runtime, while another runtime used the client.
///
/// hyper reports it as the user's fault, like a panic in the user's code, which a retry would
/// repeat. Only the text tells the two apart.
fn is_runtime_gone(error: &hyper::Error) -> bool {
    error.is_user()
        && error
            .source()
            .is_some_and(|cause| cause.to_string() == "runtime dropped the dispatch task")
}

/// Whether the class of an error comes from HTTP/2, which refuses requests that were written.
pub(super) fn is_http2(error: &(dyn Error + 'static)) -> bool {
    #[cfg(feature = "http2")]
    return causes(error)
        .find(|error| link(*error).is_some())
        .is_some_and(<dyn Error>::is::<h2::Error>);
    // Without the feature no error of HTTP/2 is known to mean "not processed".
    #[cfg(not(feature = "http2"))]
    {
        let _ = error;
        false
    }
}

/// Whether an error comes from reqwest, which by default follows redirects without the extensions
/// of the request.
///
/// Only its text tells, since reqwest is no dependency. The text may rule out a retry, and never
/// allows one.
pub(super) fn is_of_reqwest(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| format!("{cause:?}").starts_with("reqwest::Error"))
}

/// An error, then its causes from the outermost to the innermost.
pub(super) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(
        Some(error),
        |&error: &&'a (dyn Error + 'static)| -> Option<&'a (dyn Error + 'static)> {
            // The `source` of an `io::Error` is the source of the error that it wraps.
            match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            }
        },
    )
    .take(MOST)
}

/// Whether hyper-util's client says that it cannot send the request: a relative URI, or a scheme
/// that it does not know.
///
/// Only its text tells. The text may rule out a retry, and never allows one. So if it changes,
/// nothing is sent twice.
fn is_bad_request(error: &hyper_util::client::legacy::Error) -> bool {
    match error.source() {
        None => error.to_string().starts_with("client error (User"),
        Some(source) => error.is_connect() && source.to_string().starts_with("invalid URL"),
    }
}

/// The class of one error without its causes, if it has one.
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
            // The response is not valid HTTP/2, or the request's own body failed: hyper resets its
            // stream. A fault of the connection may be another stream's.
            Some(_) if error.is_reset() && !error.is_remote() => Some(Failure::Never),
            Some(_) => Some(Failure::Read),
            // It has no source. `get_io` returns what it wraps.
            None => error.get_io().and_then(|io| link(io)),
        };
    }
    if is_clock(error) {
        return Some(Failure::Timeout);
    }
    // The kind counts only if the error wraps nothing that has a class of its own.
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
