//! Mount prefixes, taken apart and brought into one spelling. Their components are compared, and
//! never their strings.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr},
};

use super::{
    fault::PrefixFault,
    path::{escaped, is_path_byte, normalised},
};
use crate::authority;

/// A mount prefix in its canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    /// `None` for `any`.
    pub(super) scheme: Option<Box<str>>,
    pub(super) host: Host,
    pub(super) port: Port,
    /// Empty, or a normalised path without its trailing slash.
    pub(super) path: Box<str>,
}

/// The host of a mount prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host {
    Exact(Box<str>),
    /// The subdomains of a domain, not the domain itself.
    Under(Box<str>),
    Any,
}

/// The port of a mount prefix. The order matters: a port comes before no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Port {
    Number(u16),
    /// Every port: no port is written, or `*`.
    Any,
}

impl Prefix {
    pub(super) fn parse(text: &str) -> Result<Self, PrefixFault> {
        let (scheme, rest) = text.split_once("://").ok_or(PrefixFault::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        if !scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            || !scheme.bytes().all(known)
        {
            return Err(PrefixFault::Scheme);
        }
        if scheme == "all" {
            return Err(PrefixFault::All);
        }
        if rest.contains('#') {
            return Err(PrefixFault::Fragment);
        }
        if rest.contains('?') {
            return Err(PrefixFault::Query);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if authority.contains('@') {
            return Err(PrefixFault::Userinfo);
        }
        let scheme = (scheme != "any").then(|| scheme.into_boxed_str());
        let (host, port) = if authority.is_empty() {
            if !path.is_empty() {
                return Err(PrefixFault::EmptyHost);
            }
            (Host::Any, Port::Any)
        } else {
            let (host, port) = split_port(authority)?;
            if port.is_empty() && is_network(host, path) {
                return Err(PrefixFault::Network);
            }
            (Host::parse(host)?, Port::parse(port)?)
        };
        let path = parse_path(path)?;
        Ok(Self { scheme, host, port, path: path.strip_suffix('/').unwrap_or(&path).into() })
    }
}

/// A path that could not match is a fault: an unescaped space, or a pattern. Characters that are
/// not ASCII are allowed, as in an IRI.
fn parse_path(path: &str) -> Result<Cow<'_, str>, PrefixFault> {
    let bytes = path.as_bytes();
    let fits = |(at, &byte): (usize, &u8)| match byte {
        b'%' => escaped(&bytes[at..]).is_some(),
        _ => !byte.is_ascii() || is_path_byte(byte),
    };
    if !bytes.iter().enumerate().all(fits) || path.split('/').any(|segment| segment == "*") {
        return Err(PrefixFault::Path);
    }
    Ok(normalised(path))
}

/// Whether a prefix is spelt like a network (RFC 4632 section 3.1), as in lists of proxies: the
/// length fits the address, and the address has no bit set after it. `http://10.0.0.1/8` is an
/// address and a path.
fn is_network(host: &str, path: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let address = host.split_once('%').map_or(host, |(address, _)| address).parse();
    let length = path.strip_prefix('/').filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let (Ok(address), Some(Ok(length))) = (address, length.map(str::parse::<u32>)) else {
        return false;
    };
    // `checked_shl` is `None` for a shift by all bits, which leaves no bit.
    match address {
        IpAddr::V4(address) => {
            length <= 32 && address.to_bits().checked_shl(length).unwrap_or(0) == 0
        }
        IpAddr::V6(address) => {
            length <= 128 && address.to_bits().checked_shl(length).unwrap_or(0) == 0
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, &str), PrefixFault> {
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(end);
    match port.strip_prefix(':') {
        _ if host.is_empty() => Err(PrefixFault::EmptyHost),
        Some(port) => Ok((host, port)),
        None if port.is_empty() => Ok((host, "")),
        None => Err(PrefixFault::Host),
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, PrefixFault> {
        let (under, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if let Some(host) = authority::zoned(name).filter(|_| !under) {
            return Ok(Self::Exact(host.into()));
        }
        let name = to_ascii(name)?;
        // After the mapping, since it turns full-width stars and digits into plain ones.
        if name.contains('*') {
            return Err(PrefixFault::Wildcard);
        }
        let host = authority::canonical(&name).ok_or(PrefixFault::Host)?;
        let is_address = host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok();
        if !is_address {
            if authority::is_number(&host) {
                return Err(PrefixFault::NumericHost);
            }
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if !host.bytes().all(fits) {
                return Err(PrefixFault::Host);
            }
        }
        match (under, is_address) {
            (false, _) => Ok(Self::Exact(host.into())),
            (true, false) => Ok(Self::Under(host.into())),
            // An address has no subdomains.
            (true, true) => Err(PrefixFault::Wildcard),
        }
    }
}

/// Turns labels that are not ASCII into A-labels, and checks labels that are written as A-labels.
/// `xn--example-` would decode to plain `example`, so it is not an A-label.
fn to_ascii(name: &str) -> Result<Cow<'_, str>, PrefixFault> {
    if name.is_ascii() && !name.split('.').any(|label| encoded(label).is_some()) {
        return Ok(Cow::Borrowed(name));
    }
    mapped(name)
}

/// The Punycode of an A-label (RFC 5890 section 2.3.2.1).
fn encoded(label: &str) -> Option<&str> {
    let (prefix, encoded) = label.split_at_checked(4)?;
    prefix.eq_ignore_ascii_case("xn--").then_some(encoded)
}

/// Maps a name by UTS 46, as browsers do.
#[cfg(feature = "idna")]
fn mapped(name: &str) -> Result<Cow<'_, str>, PrefixFault> {
    // `Host::parse` checks the other characters, for all hosts alike.
    idna::domain_to_ascii_cow(name.as_bytes(), idna::AsciiDenyList::EMPTY)
        .map_err(|_| PrefixFault::Idna)
}

/// Without the tables of Unicode no letter can be mapped. But an A-label that decodes to ASCII is
/// refused here too, since some clients connect to the decoded name.
#[cfg(not(feature = "idna"))]
fn mapped(name: &str) -> Result<Cow<'_, str>, PrefixFault> {
    if !name.is_ascii() {
        return Err(PrefixFault::IdnaDisabled);
    }
    // RFC 3492 section 3.1: the characters that are not ASCII are encoded after the last hyphen.
    let decodes_to_ascii = |punycode: &str| punycode.is_empty() || punycode.ends_with('-');
    if name.split('.').filter_map(encoded).any(decodes_to_ascii) {
        return Err(PrefixFault::Idna);
    }
    Ok(Cow::Borrowed(name))
}

impl Port {
    fn parse(text: &str) -> Result<Self, PrefixFault> {
        match text {
            // As in requests and httpx, whose users write `http://localhost` for a server on any
            // port.
            "" | "*" => Ok(Self::Any),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map(Self::Number).map_err(|_| PrefixFault::Port)
            }
            _ => Err(PrefixFault::Port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(not(feature = "idna"))]
    use crate::routing::PrefixError;

    #[test]
    fn bad_prefixes_are_told_by_their_fault() {
        use PrefixFault::*;
        let rows = [
            ("example.com", Scheme),
            ("", Scheme),
            ("://h", Scheme),
            ("1http://h", Scheme),
            ("u:secret@h", Scheme),
            ("https:///x", EmptyHost),
            ("https://:80", EmptyHost),
            ("https://u:secret@h/", Userinfo),
            ("https://h/?q", Query),
            ("https://h/#f", Fragment),
            ("https://h:99999", Port),
            ("https://h:x", Port),
            ("https://h:-1", Port),
            ("https://127.1", NumericHost),
            ("https://0x7f.1", NumericHost),
            ("https://127.0.0.01", NumericHost),
            ("https://*", Wildcard),
            ("https://a.*.com", Wildcard),
            ("https://*.*.com", Wildcard),
            ("https://*.10.0.0.1", Wildcard),
            ("all://", All),
            ("ALL://h", All),
            ("https://xn--example-.org", Idna),
            ("https://a.XN--example-", Idna),
            ("https://*.xn--", Idna),
            ("https://a b", Host),
            ("https://a..b", Host),
            ("https://[::1", Host),
            ("https://[::g]", Host),
            ("https://[]", Host),
            ("https://[::1]x", Host),
            ("https://h\\@evil.example", Userinfo),
            ("https://h%2f", Host),
            ("https://[fe80::1%25]", Host),
            ("https://[fe80::1%25a", Host),
            ("https://*.[fe80::1%25a]", Host),
            ("any://192.168.0.0/16", Network),
            ("http://10.0.0.0/8", Network),
            ("any://0.0.0.0/0", Network),
            ("any://10.0.0.1/32", Network),
            ("any://[2001:db8::]/32", Network),
            ("any://[fe80::%25eth0]/10", Network),
            ("any://[::1]/128", Network),
            ("any://[::]/0", Network),
            ("https://h/a b", Path),
            ("https://h/{id}", Path),
            ("https://h/api/*", Path),
            ("https://h/%zz", Path),
            ("https://h/a\\b", Path),
        ];
        all_are_faults(&rows);
    }

    #[test]
    fn addresses_with_a_path_that_is_no_networks_are_prefixes() {
        let rows = [
            "any://192.168.0.1/16",
            "any://192.168.0.0/15/x",
            "any://192.168.0.0/16/",
            "any://192.168.0.0:*/16",
            "any://192.168.0.0:80/16",
            "any://192.168.0.0/33",
            "any://192.168.0.0/v16",
            "any://192.168.0.0/4294967312",
            "any://192.168.0.0",
            "any://192.168.0.0/",
            "any://[::1]/64",
            "any://[2001:db8::]/129",
            "any://h/16",
        ];
        let wrong: Vec<_> =
            rows.iter().map(|text| Prefix::parse(text)).filter(Result::is_err).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[cfg(feature = "idna")]
    #[test]
    fn hosts_that_idna_does_not_know_are_faults() {
        use PrefixFault::*;
        all_are_faults(&[
            ("https://xn--\u{fc}.example", Idna),
            ("https://xn--999999999.example", Idna),
            ("https://a\u{200b}\u{5d0}.example", Idna),
            // What is plain after the mapping is judged as if it had been written so.
            ("https://\u{ff11}\u{ff12}\u{ff17}.1", NumericHost),
            ("https://\u{ff0a}.example.com", Wildcard),
            ("https://a\u{2100}b", Host),
        ]);
    }

    #[cfg(not(feature = "idna"))]
    #[test]
    fn hosts_beyond_ascii_are_faults_that_name_the_feature() {
        let text = "https://b\u{fc}cher.example";
        all_are_faults(&[
            (text, PrefixFault::IdnaDisabled),
            ("https://*.\u{ff0a}.example.com", PrefixFault::IdnaDisabled),
        ]);
        assert!(PrefixError::new(text, PrefixFault::IdnaDisabled).to_string().contains("`idna`"));
        assert!(Prefix::parse("https://xn--bcher-kva.example").is_ok());
    }

    fn all_are_faults(rows: &[(&str, PrefixFault)]) {
        let wrong: Vec<_> = rows
            .iter()
            .map(|(text, want)| (text, Prefix::parse(text), want))
            .filter(|(_, got, want)| got.as_ref().err() != Some(*want))
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
