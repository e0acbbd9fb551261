//! Which headers are passed on, in both directions. Nothing here waits.
//!
//! Each direction is one pass over the headers. A look-up by name would cost as much as ten headers
//! cost here.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH},
};

/// What the proxy itself reads from the headers of a request.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) host: Sole,
    pub(crate) tenant: Sole,
    coding: Sole,
    /// Whether there is a `Via`.
    pub(crate) via: bool,
}

/// A header that must occur at most once.
#[derive(Debug, Default)]
pub(crate) struct Sole {
    value: Option<HeaderValue>,
    is_repeated: bool,
}

impl Sole {
    fn add(&mut self, value: &HeaderValue) {
        self.is_repeated = self.value.is_some();
        self.value.get_or_insert_with(|| value.clone());
    }

    /// Its value, or `None` if it is absent or occurs twice.
    pub(crate) fn get(&self) -> Option<&HeaderValue> {
        self.value.as_ref().filter(|_| !self.is_repeated)
    }

    pub(crate) const fn is_there(&self) -> bool {
        self.value.is_some()
    }
}

impl Said {
    /// Whether the client sends a body without a length.
    pub(crate) const fn is_chunked(&self) -> bool {
        self.coding.is_there()
    }

    /// Whether the body has a transfer coding other than `chunked`, the only one that hyper decodes
    /// and encodes.
    pub(crate) fn is_coded(&self) -> bool {
        is_coded(&self.coding)
    }
}

/// Removes the headers of a request that are only for this proxy, and returns what they say.
///
/// - Hop-by-hop headers (RFC 9110 section 7.6.1), and what `Connection` names.
/// - Cookies, the tenant, `Expect`: the proxy handles these itself.
/// - What only a proxy may say of a client, unless the peer is trusted. If a trusted peer sends
///   these, `Connection` does not remove them. Otherwise a client could remove them through a
///   proxy that passes `Connection` on.
/// - `Proxy`, which a CGI reads as a proxy's address, and names with other characters than letters,
///   digits and hyphens, because a CGI reads `x_tenant` as `x-tenant`.
pub(crate) fn take_from_request(
    headers: &mut HeaderMap,
    tenant: &HeaderName,
    is_trusted: bool,
) -> Said {
    let mut said = Said::default();
    let mut gone = Vec::new();
    let mut is_listed = false;
    for (name, value) in &*headers {
        let goes_on = match name.as_str() {
            _ if name == tenant => {
                said.tenant.add(value);
                false
            }
            // Each mount replaces this one by its own.
            "host" => {
                said.host.add(value);
                true
            }
            "transfer-encoding" => {
                said.coding.add(value);
                false
            }
            "connection" => {
                is_listed |= !is_plain(value);
                false
            }
            "via" => {
                said.via = true;
                true
            }
            "cookie" | "cookie2" | "set-cookie" | "set-cookie2" | "expect" | "proxy" => false,
            text if is_hop_by_hop(text) => false,
            text if is_forwarded(text) => is_trusted,
            text => text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
        };
        if !goes_on {
            gone.push(name.clone());
        }
    }
    if is_listed {
        let of_others = |name: &HeaderName| !is_forwarded(name.as_str()) && name != "via";
        gone.extend(listed(headers).filter(of_others));
    }
    // RFC 9112 section 6.3: a length is ignored if there is a transfer coding.
    if said.coding.is_there() {
        gone.push(CONTENT_LENGTH);
    }
    for name in gone {
        headers.remove(name);
    }
    said
}

/// What is wrong with the head of an answer.
pub(crate) const CODED: &str = "its transfer coding is not chunked";

/// Removes the hop-by-hop headers and the cookies of an answer. Returns whether the answer has a
/// header with a URL, which may name the upstream.
///
/// # Errors
///
/// If its body has a transfer coding other than `chunked`.
pub(crate) fn take_from_answer(headers: &mut HeaderMap) -> Result<bool, &'static str> {
    let (mut is_listed, mut names_a_place) = (false, false);
    let mut coding = Sole::default();
    let mut length = Sole::default();
    let mut gone = Vec::new();
    for (name, value) in &*headers {
        let goes_on = match name.as_str() {
            "transfer-encoding" => {
                coding.add(value);
                false
            }
            "content-length" => {
                length.add(value);
                true
            }
            "connection" => {
                is_listed |= !is_plain(value);
                false
            }
            "location" | "content-location" | "refresh" | "link" => {
                names_a_place = true;
                true
            }
            "set-cookie" | "set-cookie2" => false,
            text => !is_hop_by_hop(text),
        };
        if !goes_on {
            gone.push(name.clone());
        }
    }
    if is_listed {
        gone.extend(listed(headers));
    }
    if coding.is_there() {
        gone.push(CONTENT_LENGTH);
    } else if let Some(one) = one_length(&length) {
        headers.insert(CONTENT_LENGTH, one);
    }
    for name in gone {
        headers.remove(name);
    }
    if is_coded(&coding) { Err(CODED) } else { Ok(names_a_place) }
}

/// Whether a header is hop-by-hop by RFC 9110 section 7.6.1. `Connection` and `Transfer-Encoding`
/// are handled separately.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "upgrade"
    )
}

/// Whether proxies describe a client in this header.
pub(crate) fn is_forwarded(name: &str) -> bool {
    name == "forwarded" || name == "x-real-ip" || name.starts_with("x-forwarded-")
}

/// Whether a `Connection` names no header.
fn is_plain(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
}

/// The headers that `Connection` names.
fn listed(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|list| list.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// RFC 9110 section 8.6: a length that occurs more than once is passed on once. hyper has checked
/// that all are equal.
fn one_length(length: &Sole) -> Option<HeaderValue> {
    let first = length.value.as_ref()?.to_str().ok()?;
    let is_one = !length.is_repeated && !first.contains(',');
    (!is_one).then(|| first.split(',').next()?.trim().parse().ok())?
}

fn is_coded(coding: &Sole) -> bool {
    let is_chunked =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked");
    coding.is_there() && !coding.get().is_some_and(is_chunked)
}
