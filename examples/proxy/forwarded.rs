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

/// Whom a connection comes from.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// As `X-Forwarded-For` has it.
    name: HeaderValue,
    /// As `Forwarded` has it.
    node: String,
}

impl Peer {
    pub(crate) fn new(address: IpAddr) -> Self {
        // An IPv4 client of a socket for both is no other client.
        let address = address.to_canonical();
        let text = address.to_string();
        let node = match address {
            IpAddr::V4(_) => format!("for={text}"),
            IpAddr::V6(_) => format!("for=\"[{text}]\""),
        };
        let name = HeaderValue::try_from(text).expect("an address is visible ASCII");
        Self { address, name, node }
    }

    /// Says that a request for this host is the peer's. What a trusted proxy has said already is
    /// still in the headers: the peer comes after it, and its host and scheme stay.
    pub(crate) fn tell(&self, headers: &mut HeaderMap, host: &HeaderValue) {
        let mut forwarded = Vec::with_capacity(self.node.len() + host.len() + 20);
        forwarded.extend_from_slice(self.node.as_bytes());
        // Quoted: a port's colon is no part of a token.
        for part in [b";host=\"", host.as_bytes(), b"\";proto=http"] {
            forwarded.extend_from_slice(part);
        }
        // A host is visible ASCII without quotation marks, or it would not have been parsed.
        if let Ok(forwarded) = HeaderValue::try_from(forwarded) {
            add(headers, FORWARDED, forwarded);
        }
        add(headers, X_FORWARDED_FOR, self.name.clone());
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        headers.entry(X_FORWARDED_PROTO).or_insert(HTTP);
    }
}

/// Puts a value at the end of a list, in one line: some servers read the first one alone.
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
