//! The command line. All of its errors are reported here, before any request. They do not repeat a
//! value, which may be a secret.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::Parser;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE, USER_AGENT},
};
use url::Host;

use crate::{
    decode,
    failed::Failed,
    target::{Target, basic, sensitive, target},
};

/// Fetches each URL in turn, in one session: cookies, redirects and retries as in curl.
#[derive(Parser)]
#[command(name = "fetch", args_override_self = true, after_help = differences())]
pub(crate) struct Args {
    /// Read cookies from FILE (cookies.txt), or send the cookie NAME=VALUE; may be repeated
    #[arg(short = 'b', long = "cookie", value_name = "FILE|NAME=VALUE", value_parser = cookies)]
    cookies: Vec<Cookies>,
    /// Save the session's cookies into FILE; other cookies in it are kept
    #[arg(short = 'c', long, value_name = "FILE", value_parser = cookie_file)]
    pub(crate) cookie_jar: Option<PathBuf>,
    /// Ignore the session cookies in the files that are read
    #[arg(short = 'j', long)]
    pub(crate) junk_session_cookies: bool,
    /// Send nothing; print which cookies would be sent to each URL, and why the others would not
    #[arg(long)]
    pub(crate) explain: bool,
    /// Send this header; `N:` removes a default header, `N;` sends an empty one
    #[arg(short = 'H', long = "header", value_name = "N: V", value_parser = header)]
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Use this method; default: GET, or POST if there is data
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = method)]
    pub(crate) method: Option<Method>,
    /// Send DATA as a form, or FILE without its line breaks; several are joined by `&`
    #[arg(
        short = 'd',
        long,
        value_name = "DATA|@FILE",
        allow_hyphen_values = true,
        conflicts_with = "data_binary"
    )]
    data: Vec<OsString>,
    /// Send DATA, or FILE byte for byte
    #[arg(long, value_name = "DATA|@FILE", allow_hyphen_values = true)]
    data_binary: Vec<OsString>,
    /// Send Basic authorization; it replaces userinfo in the URLs
    #[arg(short = 'u', long = "user", value_name = "USER:PASSWORD", value_parser = user)]
    user: Option<HeaderValue>,
    /// Ask for a compressed response, and decompress it
    #[arg(long)]
    pub(crate) compressed: bool,
    /// Follow redirects
    #[arg(short = 'L', long)]
    location: bool,
    /// Follow redirects, and send authorization and -b NAME=VALUE to every host they lead to
    #[arg(long)]
    pub(crate) location_trusted: bool,
    /// After a 301 keep method and data, instead of sending a GET
    #[arg(long)]
    pub(crate) post301: bool,
    /// The same after a 302
    #[arg(long)]
    pub(crate) post302: bool,
    /// The same after a 303
    #[arg(long)]
    pub(crate) post303: bool,
    /// Follow at most N redirects; -1 is no limit
    #[arg(long, value_name = "N", default_value = "50", allow_negative_numbers = true, value_parser = redirects)]
    pub(crate) max_redirs: i64,
    /// Retry up to N times after a failure that may be temporary
    #[arg(long, value_name = "N")]
    pub(crate) retry: Option<u32>,
    /// Retry after any failure until the response begins, whatever the method
    #[arg(long)]
    pub(crate) retry_all_errors: bool,
    /// Has no effect: --retry already retries a refused connection
    #[arg(long)]
    retry_connrefused: bool,
    /// Wait exactly S seconds before each retry; 0 means growing delays
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) retry_delay: Option<Duration>,
    /// Start no retry of a URL or its redirects later than S seconds after the URL's start
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) retry_max_time: Option<Duration>,
    /// Allow a URL at most S seconds, with all its attempts and redirects
    #[arg(short = 'm', long, value_name = "S", value_parser = seconds)]
    pub(crate) max_time: Option<Duration>,
    /// Connect to ADDR instead of HOST:PORT
    #[arg(long, value_name = "HOST:PORT:ADDR", value_parser = resolve)]
    pub(crate) resolve: Vec<((String, u16), IpAddr)>,
    /// Trust the certificates in FILE (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Accept any certificate
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Print the response's head first
    #[arg(short = 'i', long)]
    pub(crate) include: bool,
    /// Write to FILE instead of stdout; give one -o for each URL, in order
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) outputs: Vec<PathBuf>,
    /// Print no errors, warnings or progress
    #[arg(short = 's', long)]
    pub(crate) silent: bool,
    /// Log a line for each attempt, and for each cookie that is refused
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    /// An http or https URL; without a scheme it is http; `user:password@` is Basic authorization
    #[arg(value_name = "URL", required = true, value_parser = target)]
    pub(crate) urls: Vec<Target>,
}

/// The table of the example's page: which flags differ from curl's.
fn differences() -> &'static str {
    let page = include_str!("README.md");
    page.split_once("## Where it differs from curl\n\n").map_or("", |(_, table)| table)
}

impl Args {
    /// Whether redirects are followed.
    pub(crate) const fn follow(&self) -> bool {
        self.location || self.location_trusted
    }

    /// Whether the user gave an authorization outside the URLs.
    pub(crate) fn has_authorization(&self) -> bool {
        self.user.is_some() || self.headers.iter().any(|(name, _)| name == AUTHORIZATION)
    }

    pub(crate) fn cookie_files(&self) -> impl Iterator<Item = &Path> {
        self.cookies.iter().filter_map(|cookies| match cookies {
            Cookies::File(path) => Some(path.as_path()),
            Cookies::Pairs(_) => None,
        })
    }

    pub(crate) fn body(&self) -> Result<Option<Bytes>, Failed> {
        let form = self.data.iter().map(|part| (part, true));
        let exact = self.data_binary.iter().map(|part| (part, false));
        let mut parts = Vec::new();
        for (part, is_form) in form.chain(exact) {
            parts.push(match part.to_str().and_then(|part| part.strip_prefix('@')) {
                Some(path) => {
                    let mut bytes = read(path)
                        .map_err(|error| Failed::new(26, format!("cannot read {path}: {error}")))?;
                    bytes.retain(|byte| !is_form || !matches!(byte, b'\r' | b'\n' | b'\0'));
                    bytes
                }
                None => part.as_encoded_bytes().to_vec(),
            });
        }
        Ok((!parts.is_empty()).then(|| parts.join(&b'&').into()))
    }

    pub(crate) fn headers(&self, has_body: bool) -> Result<HeaderMap, Failed> {
        // Far below what a `HeaderMap` can hold, and far above what a server takes.
        if self.headers.len() + self.cookies.len() > 1000 {
            return Err(Failed::new(2, "more headers than any server takes"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("tower-outbound-fetch"));
        headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if self.compressed {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(decode::CODINGS));
        }
        headers.extend(self.user.clone().map(|value| (AUTHORIZATION, value)));
        if has_body {
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("application/x-www-form-urlencoded"),
            );
        }
        for (name, _) in &self.headers {
            headers.remove(name);
        }
        for (name, value) in &self.headers {
            headers.extend(value.clone().map(|value| (name.clone(), value)));
        }
        for cookies in &self.cookies {
            if let Cookies::Pairs(pairs) = cookies {
                headers.append(COOKIE, pairs.clone());
            }
        }
        Ok(headers)
    }
}

fn read(path: &str) -> io::Result<Vec<u8>> {
    if path != "-" {
        return fs::read(path);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[derive(Clone)]
enum Cookies {
    File(PathBuf),
    Pairs(HeaderValue),
}

/// Follows curl's rule: a text with `=` is cookies, not a file name, unless it begins with `@`.
fn cookies(text: &str) -> Result<Cookies, &'static str> {
    match text.strip_prefix('@') {
        None if text.contains('=') => Ok(Cookies::Pairs(
            text.parse().map(sensitive).map_err(|_| "a cookie has control characters")?,
        )),
        path => cookie_file(path.unwrap_or(text)).map(Cookies::File),
    }
}

fn cookie_file(path: &str) -> Result<PathBuf, &'static str> {
    // For curl this is stdin or stdout. Here stdout is only for responses.
    if path == "-" { Err("expected a file, not stdin or stdout") } else { Ok(path.into()) }
}

fn header(line: &str) -> Result<(HeaderName, Option<HeaderValue>), &'static str> {
    let (name, value) = match (line.split_once(':'), line.strip_suffix(';')) {
        (Some((name, value)), _) => {
            (name, Some(value.trim_matches([' ', '\t'])).filter(|value| !value.is_empty()))
        }
        (None, Some(name)) => (name, Some("")),
        (None, None) => return Err("expected a name, a colon and a value"),
    };
    let name = name.parse().map_err(|_| "the name has characters that no header's has")?;
    let value = value.map(|value| value.parse().map(sensitive)).transpose();
    Ok((name, value.map_err(|_| "the value has control characters")?))
}

/// The name ends at the first colon. Neither part is percent-encoded.
fn user(text: &str) -> Result<HeaderValue, &'static str> {
    let (user, password) =
        text.split_once(':').ok_or("expected USER:PASSWORD; an empty password is USER:")?;
    basic(user.as_bytes(), password.as_bytes()).ok_or("too long")
}

fn method(text: &str) -> Result<Method, &'static str> {
    text.parse().map_err(|_| "not a method")
}

fn redirects(text: &str) -> Result<i64, &'static str> {
    text.parse().ok().filter(|&most| most >= -1).ok_or("expected a number, or -1")
}

/// The longest wait of tokio's timers: 2^36 ms, two years.
const LONGEST: u64 = 68_719_476;

fn seconds(text: &str) -> Result<Duration, &'static str> {
    Some(text.parse().map_err(|_| "expected seconds")?)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|&duration| duration <= Duration::from_secs(LONGEST))
        .ok_or("expected seconds, from 0 to 68719476")
}

fn resolve(text: &str) -> Result<((String, u16), IpAddr), &'static str> {
    let wrong = "expected HOST:PORT:ADDR, with an address in numbers";
    let (host, rest) = text.split_once(':').filter(|(host, _)| !host.is_empty()).ok_or(wrong)?;
    let (port, address) = rest.split_once(':').ok_or(wrong)?;
    let address =
        address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let port = self::port(port).ok_or(wrong)?;
    // Spelled as in a URL: in lower case and in ASCII.
    let host = Host::parse(host).map_err(|_| wrong)?.to_string();
    Ok(((host, port), address.parse().map_err(|_| wrong)?))
}

fn port(text: &str) -> Option<u16> {
    // `parse` would accept `+80`.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
