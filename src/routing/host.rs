//! Hosts in one spelling: lower case, A-labels, canonical IPv6.

use std::{
    borrow::Cow,
    net::{Ipv4Addr, Ipv6Addr},
};

use super::fault::PrefixFault;

/// The host of a mount prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    Exact(Box<str>),
    /// The subdomains of a domain, not the domain itself.
    Under(Box<str>),
    Any,
}

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, PrefixFault> {
        let (under, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        let name = to_ascii(name)?;
        // After the mapping, which makes stars and digits of their full-width forms.
        if name.contains('*') {
            return Err(PrefixFault::Wildcard);
        }
        let host = canonical(&name).ok_or(PrefixFault::NumericHost)?;
        let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
        let is_name = host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        let valid_v6 =
            host.starts_with('[') && host[1..host.len().max(2) - 1].parse::<Ipv6Addr>().is_ok();
        match (under, is_address) {
            (true, true) => Err(PrefixFault::Wildcard),
            (false, true) if valid_v6 || !host.starts_with('[') => Ok(Self::Exact(host.into())),
            (_, false) if is_name && under => Ok(Self::Under(host.into())),
            (_, false) if is_name => Ok(Self::Exact(host.into())),
            _ => Err(PrefixFault::Host),
        }
    }
}

/// Labels beyond ASCII as A-labels (UTS 46, as browsers do it), and those that are written as
/// A-labels checked: an `xn--example-` decodes to plain `example`, and is no label.
fn to_ascii(name: &str) -> Result<Cow<'_, str>, PrefixFault> {
    let is_a_label =
        |label: &str| label.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("xn--"));
    if name.is_ascii() && !name.split('.').any(is_a_label) {
        return Ok(Cow::Borrowed(name));
    }
    // What else a host may not hold is checked by the caller, for all hosts alike.
    idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| PrefixFault::Idna)
}

pub(super) fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

/// Lower case, without one trailing dot; IPv6 as RFC 5952 spells it. `None` for a number that is no
/// address.
pub(super) fn canonical(host: &str) -> Option<Cow<'_, str>> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Some(inner) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'))
        && let Ok(address) = inner.parse::<Ipv6Addr>()
    {
        let text = format!("[{address}]");
        return Some(if text == host { Cow::Borrowed(host) } else { Cow::Owned(text) });
    }
    let host = lower(host);
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    (!numeric || host.parse::<Ipv4Addr>().is_ok()).then_some(host)
}
