//! The table file: the tenants, and which upstream serves what.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    ops::Range,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderName, HeaderValue, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, SET_COOKIE, TE,
        TRANSFER_ENCODING, VIA,
    },
    uri,
};
use serde::Deserialize;
use toml::Spanned;
use tower_outbound::{
    cookie::CookieLimits,
    retry::{Policy, RetryPolicy},
    routing::MountPrefix,
};

/// The deadline of a mount without one, so that no request lasts for ever.
const DEADLINE: Duration = Duration::from_secs(60);

/// A table file that was read and checked.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) tenant_header: HeaderName,
    pub(crate) tenants: BTreeSet<Arc<str>>,
    /// The peers that may say the address of a client.
    trusted: Vec<Network>,
    pub(crate) cookies: CookieLimits,
    /// Without it the jars are only in the memory of this process.
    pub(crate) sessions: Option<Sessions>,
    pub(crate) mounts: BTreeMap<MountPrefix, Mount>,
}

/// The upstream of one prefix, and its retries.
#[derive(Debug)]
pub(crate) struct Mount {
    pub(crate) upstream: Upstream,
    pub(crate) retry: RetryPolicy,
    /// The mount's text in the file, to tell whether it has changed. A policy does not show
    /// everything that it was made from.
    pub(crate) written: String,
}

/// A fault in a file, and its place.
#[derive(Debug)]
pub(crate) struct Fault {
    line: usize,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

impl Table {
    /// A table without tenants and mounts.
    pub(crate) fn empty() -> Self {
        Self {
            tenant_header: x_tenant().0,
            tenants: BTreeSet::new(),
            trusted: Vec::new(),
            cookies: CookieLimits::default(),
            sessions: None,
            mounts: BTreeMap::new(),
        }
    }

    pub(crate) fn parse(file: &[u8]) -> Result<Self, Fault> {
        let fault = |span: Range<usize>, message: String| {
            let line = 1 + file.iter().take(span.start).filter(|&&byte| byte == b'\n').count();
            Fault { line, message }
        };
        let text = str::from_utf8(file).map_err(|error| {
            fault(
                error.valid_up_to()..file.len(),
                "the file is not text; save it as UTF-8".to_owned(),
            )
        })?;
        let syntax = |error: &toml::de::Error| {
            fault(error.span().unwrap_or_default(), error.message().to_owned())
        };
        let file: File = toml::from_str(text).map_err(|error| syntax(&error))?;
        // Parsed again without the types, for `Mount::written`.
        let written: toml::Table = toml::from_str(text).map_err(|error| syntax(&error))?;
        let mut written =
            written.get("mount").and_then(toml::Value::as_array).into_iter().flatten();

        let mut mounts = BTreeMap::new();
        for entry in file.mount {
            let span = entry.prefix.span();
            let prefix = entry.prefix.into_inner();
            let scheme = prefix.as_str().split_once("://").map_or("http", |(scheme, _)| scheme);
            if !["http", "any"].iter().any(|ours| scheme.eq_ignore_ascii_case(ours)) {
                return Err(fault(
                    span,
                    format!("{prefix}: this proxy accepts no {scheme} from clients; write http://"),
                ));
            }
            let mut retry = entry.retry;
            if retry.terms().deadline.is_none() {
                retry = retry.deadline(DEADLINE);
            }
            let written = format!("{:?}", written.next());
            let mount = Mount { upstream: entry.upstream, retry, written };
            if mounts.insert(prefix.clone(), mount).is_some() {
                return Err(fault(span, format!("{prefix}: it is mounted twice; remove one")));
            }
        }
        Ok(Self {
            tenant_header: file.tenant_header.0,
            tenants: file.tenants.into_iter().map(|Tenant(name)| name.into()).collect(),
            trusted: file.trusted,
            cookies: file.cookies,
            sessions: file.sessions,
            mounts,
        })
    }

    /// Whether this peer may say the address of its own clients.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.has(peer))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "x_tenant")]
    tenant_header: Header,
    #[serde(default)]
    tenants: BTreeSet<Tenant>,
    #[serde(default)]
    trusted: Vec<Network>,
    #[serde(default)]
    cookies: CookieLimits,
    sessions: Option<Sessions>,
    #[serde(default)]
    mount: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mount, a table with prefix and upstream")]
struct Entry {
    prefix: Spanned<MountPrefix>,
    upstream: Upstream,
    #[serde(default)]
    retry: RetryPolicy,
}

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Header(HeaderName);

/// Headers that have another meaning for this proxy, or do not reach it.
const TAKEN: [HeaderName; 13] = [
    CONNECTION,
    CONTENT_LENGTH,
    COOKIE,
    EXPECT,
    FORWARDED,
    HOST,
    SET_COOKIE,
    TE,
    TRANSFER_ENCODING,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
];

fn x_tenant() -> Header {
    Header(HeaderName::from_static("x-tenant"))
}

impl TryFrom<String> for Header {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = text.parse::<HeaderName>();
        let name = name.map_err(|_| {
            format!("{text:?} is not the name of a header; write one as \"x-tenant\"")
        })?;
        if TAKEN.contains(&name) {
            return Err(format!("{text:?} has another meaning; choose another header"));
        }
        // If `x_tenant` were the header, a client's own `x-tenant` would be passed on, and a CGI
        // reads both alike.
        if !name.as_str().bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(format!("{text:?} may have only letters, digits and hyphens"));
        }
        Ok(Self(name))
    }
}

/// A tenant's name: a value that a header can have.
#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
struct Tenant(String);

impl TryFrom<String> for Tenant {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let can_be_sent = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        can_be_sent.then(|| Self(text.clone())).ok_or_else(|| {
            format!("{text:?} is not a valid tenant; use visible ASCII without spaces")
        })
    }
}

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Network {
    address: IpAddr,
    length: u32,
}

impl Network {
    fn has(&self, peer: IpAddr) -> bool {
        let alike = match (self.address, peer) {
            (IpAddr::V4(own), IpAddr::V4(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros(),
            (IpAddr::V6(own), IpAddr::V6(peer)) => (own.to_bits() ^ peer.to_bits()).leading_zeros(),
            _ => return false,
        };
        alike >= self.length
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (&*text, None),
        };
        let read = || {
            let address: IpAddr = address.parse().ok()?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let length = length.map_or(Some(most), |length| length.parse().ok())?;
            (length <= most).then_some(Self { address, length })
        };
        read().ok_or_else(|| {
            format!("{text:?} is not an address or a network; write \"10.0.0.1\" or \"10.0.0.0/8\"")
        })
    }
}

/// Scheme and authority of an upstream. Paths are sent to it unchanged.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Upstream {
    authority: uri::Authority,
    host: HeaderValue,
}

impl Upstream {
    /// The URI of a request at this upstream.
    pub(crate) fn uri(&self, request: Uri) -> Uri {
        let mut parts = request.into_parts();
        parts.scheme = Some(uri::Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert_with(|| uri::PathAndQuery::from_static("/"));
        Uri::from_parts(parts).expect("scheme, authority and path are a URI")
    }

    /// The value of `Host`.
    pub(crate) const fn host(&self) -> &HeaderValue {
        &self.host
    }

    /// Rewrites a URL of this upstream into the one that clients use.
    pub(crate) fn public(&self, location: &str) -> Option<String> {
        let (place, fragment) =
            location.find('#').map_or((location, ""), |at| location.split_at(at));
        let place: Uri =
            if place.starts_with("//") { format!("http:{place}").parse() } else { place.parse() }
                .ok()?;
        let host = |authority: &uri::Authority| {
            (authority.host().to_ascii_lowercase(), authority.port_u16().unwrap_or(80))
        };
        let is_own =
            place.scheme_str() == Some("http") && host(place.authority()?) == host(&self.authority);
        let target = place.path_and_query().map_or("/", |target| target.as_str());
        is_own.then(|| match target.as_bytes() {
            // Two slashes at the start would name a host. Browsers read a backslash as a slash.
            [b'/', b'/' | b'\\', ..] => format!("/.{target}{fragment}"),
            [b'/', ..] => format!("{target}{fragment}"),
            _ => format!("/{target}{fragment}"),
        })
    }
}

impl TryFrom<String> for Upstream {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wrong =
            "an upstream is written as \"http://host:port\", without a path, a query or a user";
        let parts = text.parse::<Uri>().map_err(|_| wrong)?.into_parts();
        // A valid mount prefix has a valid host and port. Only its wildcards have to be excluded.
        let is_bare = parts.path_and_query.is_none_or(|target| target == "/")
            && text.parse::<MountPrefix>().is_ok()
            && !text.contains('*');
        match parts.authority {
            Some(host)
                if is_bare
                    && parts.scheme == Some(uri::Scheme::HTTP)
                    && !host.as_str().ends_with(':')
                    && host.port_u16() != Some(0) =>
            {
                let text = host.as_str().strip_suffix(":80").unwrap_or(host.as_str());
                let line = HeaderValue::from_str(text).map_err(|_| wrong)?;
                Ok(Self { authority: host, host: line })
            }
            _ => Err(wrong),
        }
    }
}

/// The store of the tenants' jars, which several proxies may share.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "WrittenSessions")]
pub(crate) struct Sessions {
    pub(crate) place: Place,
    /// The first one seals, and each one opens. Without keys, cookies are stored as clear text.
    pub(crate) keys: Vec<Key>,
    pub(crate) on_outage: OnOutage,
    pub(crate) deadline: Deadline,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Url(Url),
    Directory(PathBuf),
    Memory,
}

/// `Debug` does not show it, because it may contain a password.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Url(pub(crate) String);

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Url(..)")
    }
}

/// Where a key is. The table does not contain the key.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(crate) struct Key {
    pub(crate) number: u32,
    pub(crate) source: KeySource,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KeySource {
    File(PathBuf),
    Variable(String),
}

impl TryFrom<toml::Value> for Key {
    type Error = &'static str;

    /// An error shows nothing of the value, which may be a key.
    fn try_from(value: toml::Value) -> Result<Self, Self::Error> {
        let wrong = "`keys` has keys as { number = 1, file = \"session.key\" }, or with \
                     env = \"NAME\" in place of the file";
        let toml::Value::Table(mut table) = value else { return Err(wrong) };
        let number = table.remove("number").and_then(|number| number.as_integer()).ok_or(wrong)?;
        let source = match (table.remove("file"), table.remove("env")) {
            (Some(toml::Value::String(path)), None) => KeySource::File(path.into()),
            (None, Some(toml::Value::String(name))) => KeySource::Variable(name),
            _ => return Err(wrong),
        };
        if !table.is_empty() {
            return Err(wrong);
        }
        Ok(Self { number: number.try_into().map_err(|_| wrong)?, source })
    }
}

/// How long the last known jar is used while the store is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct OnOutage(pub(crate) Option<Duration>);

impl TryFrom<String> for OnOutage {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let last_known = || {
            let time = humantime::parse_duration(text.strip_prefix("last-known ")?).ok()?;
            (time <= Duration::from_secs(6 * 60 * 60)).then_some(Self(Some(time)))
        };
        if text == "refuse" {
            return Ok(Self(None));
        }
        last_known().ok_or("`on_outage` is \"refuse\", or \"last-known 5m\" with at most 6h")
    }
}

/// How long a request may wait for the store.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Deadline(pub(crate) Duration);

impl Default for Deadline {
    fn default() -> Self {
        Self(Duration::from_millis(250))
    }
}

impl TryFrom<String> for Deadline {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let range = Duration::from_millis(1)..=Duration::from_secs(60);
        let time = humantime::parse_duration(&text).ok().filter(|time| range.contains(time));
        time.map(Self).ok_or("`deadline` of sessions is a time from \"1ms\" to \"1m\"")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "the table [sessions]")]
struct WrittenSessions {
    url: Option<Url>,
    directory: Option<PathBuf>,
    #[serde(default)]
    memory: bool,
    #[serde(default)]
    keys: Vec<Key>,
    #[serde(default)]
    unsealed: bool,
    #[serde(default)]
    on_outage: OnOutage,
    #[serde(default)]
    deadline: Deadline,
}

impl TryFrom<WrittenSessions> for Sessions {
    type Error = String;

    fn try_from(written: WrittenSessions) -> Result<Self, String> {
        let WrittenSessions { url, directory, memory, keys, unsealed, on_outage, deadline } =
            written;
        let place = match (url, directory, memory) {
            (Some(url), None, false) => Place::Url(url),
            (None, Some(path), false) if !path.as_os_str().is_empty() => Place::Directory(path),
            (None, None, true) => Place::Memory,
            _ => {
                return Err("[sessions] has one of `url`, `directory` and `memory = true`".into());
            }
        };
        if keys.is_empty() != unsealed {
            return Err(
                "[sessions] has `keys`, which seal cookies; or `unsealed = true`, and who \
                        can read the store can then use every session"
                    .into(),
            );
        }
        let mut numbers = BTreeSet::new();
        if let Some(key) = keys.iter().find(|key| !numbers.insert(key.number)) {
            let number = key.number;
            return Err(format!("`keys` has number {number} twice; number them differently"));
        }
        Ok(Self { place, keys, on_outage, deadline })
    }
}
