//! What an upstream is told of a client: `Forwarded` (RFC 7239) and the `X-Forwarded-` headers.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{Entry, FORWARDED},
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// The peer of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// Its address, as in `X-Forwarded-For`.
    name: HeaderValue,
    /// Its address, as in `Forwarded`.
    node: String,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        // On a socket for IPv4 and IPv6, an IPv4 client has a mapped address.
        let address = address.to_canonical();
        let text = address.to_string();
        let node = match address {
            IpAddr::V4(_) => format!("for={text}"),
            IpAddr::V6(_) => format!("for=\"[{text}]\""),
        };
        let name = HeaderValue::try_from(text).expect("an address is visible ASCII");
        Self { address, name, node }
    }

    /// Adds the peer and the host of a request. If the headers already have entries of a trusted
    /// proxy, the peer is added after them, and their host and scheme are kept.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, host: &HeaderValue) {
        // Quoted, because a token cannot contain a port's colon.
        let parts = [self.node.as_bytes(), b";host=\"", host.as_bytes(), b"\";proto=http"];
        let forwarded = parts.concat();
        // A host is visible ASCII without quotation marks, or it would not have been parsed.
        if let Ok(forwarded) = HeaderValue::try_from(forwarded) {
            add(headers, FORWARDED, forwarded);
        }
        add(headers, X_FORWARDED_FOR, self.name.clone());
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        headers.entry(X_FORWARDED_PROTO).or_insert(HTTP);
    }
}

/// Adds a value to a list, in one line, because some servers read only the first line.
fn add(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(value);
        }
        Entry::Occupied(mut entry) => {
            let mut lines: Vec<_> = entry.iter().map(HeaderValue::as_bytes).collect();
            lines.push(value.as_bytes());
            if let Ok(list) = HeaderValue::try_from(lines.join(&b", "[..])) {
                entry.insert(list);
            }
        }
    }
}
