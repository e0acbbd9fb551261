//! Errors: curl's exit status, and one line that shows no secret.

use std::{
    error::Error,
    fmt,
    io::{self, Write},
    iter,
};

use clap::error::{ContextKind, ErrorKind};
use hyper_util::client::legacy;
use tower::timeout::error::Elapsed;

pub(crate) const BAD_CERTIFICATE: u8 = 60;

/// The error that ended a URL or the program.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// The exit status.
    pub(crate) status: u8,
    why: String,
}

impl Failed {
    pub(crate) fn new(status: u8, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl Error for Failed {}

/// Like `eprintln!`, but does not panic if stderr is closed.
pub(crate) fn complain(silent: bool, what: &impl fmt::Display) {
    if !silent {
        let _ = writeln!(io::stderr(), "fetch: {what}");
    }
}

/// clap's message in one line, without the value that the user gave. It may also be the help.
pub(crate) fn usage(error: &clap::Error) -> Result<u8, Failed> {
    if !error.use_stderr() {
        let unwritable = |error| Failed::new(23, format!("cannot write to stdout: {error}"));
        return error.print().map(|()| 0).map_err(unwritable);
    }
    let why = match (error.kind(), error.get(ContextKind::InvalidArg), error.source()) {
        (ErrorKind::ValueValidation, Some(flag), Some(why)) => format!("{flag}: {why}"),
        (ErrorKind::TooManyValues, Some(flag), _) => format!("{flag} takes no value"),
        _ => {
            let text = error.to_string();
            let lines = text.lines().take_while(|line| !line.is_empty()).map(str::trim);
            lines.collect::<Vec<_>>().join(" ").trim_start_matches("error: ").to_owned()
        }
    };
    Err(Failed::new(2, why))
}

pub(crate) fn timed_out() -> Failed {
    Failed::new(28, "timed out")
}

/// An error of the client. Only its root cause is shown, because a user cannot act on the errors
/// around it.
pub(crate) fn explain(error: &(dyn Error + 'static)) -> Failed {
    let (mut connecting, mut ended, mut reset, mut root) = (false, false, false, error);
    for link in chain(error) {
        root = link;
        if let Some(failed) = link.downcast_ref::<Failed>() {
            return failed.clone();
        } else if link.is::<Elapsed>() {
            return timed_out();
        } else if let Some(tls) = link.downcast_ref::<rustls::Error>() {
            let status = match tls {
                rustls::Error::InvalidCertificate(_) => BAD_CERTIFICATE,
                _ if connecting => 35,
                _ => 56,
            };
            return Failed::new(status, tls.to_string());
        } else if let Some(error) = link.downcast_ref::<legacy::Error>() {
            connecting = error.is_connect();
        } else if let Some(error) = link.downcast_ref::<hyper::Error>() {
            if error.is_incomplete_message() {
                return Failed::new(
                    52,
                    "the server closed the connection without a whole response",
                );
            } else if error.is_parse() {
                return Failed::new(8, "the server's answer is not HTTP");
            }
        } else if let Some(error) = link.downcast_ref::<io::Error>() {
            ended |= error.kind() == io::ErrorKind::UnexpectedEof;
            reset |= error.kind() == io::ErrorKind::ConnectionReset;
        }
    }
    if connecting && (ended || reset) {
        // TCP had already connected.
        Failed::new(35, format!("no TLS connection: {root}"))
    } else if connecting {
        Failed::new(7, format!("cannot connect: {root}"))
    } else if ended {
        Failed::new(18, "the connection ended before the body did")
    } else {
        Failed::new(56, format!("the transfer failed: {root}"))
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // `source` would skip the error that it wraps.
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
