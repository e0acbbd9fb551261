//! The command line. Whatever is wrong with it is said here, before any request, and without
//! repeating a value: it may be a secret.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use clap::Parser;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{ACCEPT, CONTENT_TYPE, COOKIE, USER_AGENT},
};
use percent_encoding::percent_decode_str;

use crate::failed::Failed;

/// Fetches each URL in turn, in one session: cookies, redirects and retries as in curl.
#[derive(Parser)]
#[command(name = "fetch", args_override_self = true)]
pub(crate) struct Args {
    /// Read cookies from FILE (Netscape cookies.txt), or send NAME=VALUE itself
    #[arg(short = 'b', long = "cookie", value_name = "FILE|NAME=VALUE", value_parser = cookies)]
    cookies: Vec<Cookies>,
    /// Save the session's cookies into FILE, among those that it holds
    #[arg(short = 'c', long, value_name = "FILE", value_parser = cookie_file)]
    pub(crate) cookie_jar: Option<PathBuf>,
    /// Send this header; `N:` leaves out one that would be sent, `N;` sends it empty
    #[arg(short = 'H', long = "header", value_name = "N: V", value_parser = header)]
    headers: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Method; default GET, or POST where there is data
    #[arg(short = 'X', long = "request", value_name = "METHOD", value_parser = method)]
    pub(crate) method: Option<Method>,
    /// Send DATA as a form, `@FILE` without its line breaks; several are joined by `&`
    #[arg(
        short = 'd',
        long,
        value_name = "DATA|@FILE",
        allow_hyphen_values = true,
        conflicts_with = "data_binary"
    )]
    data: Vec<OsString>,
    /// Send DATA, or `@FILE` byte for byte
    #[arg(long, value_name = "DATA|@FILE", allow_hyphen_values = true)]
    data_binary: Vec<OsString>,
    /// Follow redirects
    #[arg(short = 'L', long)]
    pub(crate) location: bool,
    /// How many redirects to follow; -1 is no limit
    #[arg(long, value_name = "N", default_value = "50", allow_negative_numbers = true, value_parser = redirects)]
    pub(crate) max_redirs: i64,
    /// Retry N times what may succeed the next time
    #[arg(long, value_name = "N")]
    pub(crate) retry: Option<u32>,
    /// Wait exactly S seconds before each retry; 0 is a growing wait
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) retry_delay: Option<Duration>,
    /// No retry of a URL or its redirects later than S seconds after its start
    #[arg(long, value_name = "S", value_parser = seconds)]
    pub(crate) retry_max_time: Option<Duration>,
    /// Longest time for a URL, with all its attempts and redirects
    #[arg(short = 'm', long, value_name = "S", value_parser = seconds)]
    pub(crate) max_time: Option<Duration>,
    /// Connect to ADDR in place of HOST:PORT
    #[arg(long, value_name = "HOST:PORT:ADDR", value_parser = resolve)]
    pub(crate) resolve: Vec<((String, u16), IpAddr)>,
    /// Trust the certificates in FILE (PEM) instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Print the response's head first
    #[arg(short = 'i', long)]
    pub(crate) include: bool,
    /// Write to FILE instead of stdout; one for each URL, in order
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) outputs: Vec<PathBuf>,
    /// Print no errors
    #[arg(short = 's', long)]
    pub(crate) silent: bool,
    /// Log a line for each attempt, and for each cookie that is refused
    #[arg(short = 'v', long)]
    pub(crate) verbose: bool,
    /// http or https; without a scheme it is http. `user:password@` becomes Basic authorization
    #[arg(value_name = "URL", required = true, value_parser = target)]
    pub(crate) urls: Vec<Target>,
}

impl Args {
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

/// curl's rule: what has a `=` is no file name, unless it begins with `@`.
fn cookies(text: &str) -> Result<Cookies, &'static str> {
    match text.strip_prefix('@') {
        None if text.contains('=') => Ok(Cookies::Pairs(
            text.parse().map(sensitive).map_err(|_| "a cookie has control characters")?,
        )),
        path => cookie_file(path.unwrap_or(text)).map(Cookies::File),
    }
}

fn cookie_file(path: &str) -> Result<PathBuf, &'static str> {
    // curl's stdin and stdout; but stdout is for responses alone.
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

fn sensitive(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

fn method(text: &str) -> Result<Method, &'static str> {
    text.parse().map_err(|_| "not a method")
}

fn redirects(text: &str) -> Result<i64, &'static str> {
    text.parse().ok().filter(|&most| most >= -1).ok_or("expected a number, or -1")
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    let seconds = text.parse().map_err(|_| "expected seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "expected seconds, 0 or more")
}

fn resolve(text: &str) -> Result<((String, u16), IpAddr), &'static str> {
    let wrong = "expected HOST:PORT:ADDR, with an address in numbers";
    let (host, rest) = text.split_once(':').filter(|(host, _)| !host.is_empty()).ok_or(wrong)?;
    let (port, address) = rest.split_once(':').ok_or(wrong)?;
    let address =
        address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
    let port = self::port(port).ok_or(wrong)?;
    Ok(((host.to_ascii_lowercase(), port), address.parse().map_err(|_| wrong)?))
}

/// Where a request goes, and what its userinfo asked for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) uri: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

/// Of a URL as a user gives it, or a server in a redirect.
pub(crate) fn target(text: &str) -> Result<Target, &'static str> {
    let text = text.split('#').next().unwrap_or_default();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?', '@']) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        _ => ("http".to_owned(), text),
    };
    if scheme != "http" && scheme != "https" {
        return Err("unknown scheme; there are http and https");
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (userinfo, host) = split_userinfo(authority);
    // In lower case, as a redirect's will be, which is compared with it.
    let host = host.strip_suffix(':').unwrap_or(host).to_ascii_lowercase();
    if host.is_empty() || host.starts_with(':') {
        return Err("no host");
    }
    let written = host.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
    if written.is_some_and(|port| self::port(port).is_none()) {
        return Err("a port is a number up to 65535");
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let uri = format!("{scheme}://{host}{slash}{path}").parse().map_err(|_| "not a valid URL")?;
    Ok(Target { uri, authorization: userinfo.and_then(basic) })
}

fn port(text: &str) -> Option<u16> {
    // Not `+80`, which `parse` takes.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn split_userinfo(authority: &str) -> (Option<&str>, &str) {
    match authority.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo).filter(|userinfo| !userinfo.is_empty()), host),
        None => (None, authority),
    }
}

fn basic(userinfo: &str) -> Option<HeaderValue> {
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let pair: Vec<u8> =
        percent_decode_str(user).chain([b':']).chain(percent_decode_str(password)).collect();
    HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair))).ok().map(sensitive)
}

/// The URI without userinfo and query, which may be secrets.
pub(crate) fn show(uri: &Uri) -> String {
    let (_, host) = split_userinfo(uri.authority().map_or("", |authority| authority.as_str()));
    format!("{}://{host}{}", uri.scheme_str().unwrap_or_default(), uri.path())
}
