//! Keys on the server. A name of any bytes stays inside its braces, and never equals another key.

use crate::session::{SessionKey, StoreKey};

/// `to1:{TENANT}`: the set of the session's sites. The text in braces decides the node of a
/// cluster, so a session is on one node.
pub(super) fn sites(tenant: &SessionKey) -> String {
    let tenant = tenant.as_bytes();
    // A server ignores empty braces. No escaped name equals this one.
    let escaped = if tenant.is_empty() { "%".to_owned() } else { escape(tenant) };
    format!("{PREFIX}{escaped}}}")
}

/// `to1:{TENANT}:SITE`: the hash of the site's cookies.
pub(super) fn cookies(key: &StoreKey) -> String {
    format!("{}:{}", sites(key.tenant()), escape(key.site().as_bytes()))
}

/// The key of a store that a server's key belongs to. `None` for any other key, also for a set of
/// sites.
pub(super) fn read(name: &[u8]) -> Option<StoreKey> {
    let name = std::str::from_utf8(name).ok()?;
    let (tenant, site) = name.strip_prefix(PREFIX)?.split_once("}:")?;
    let tenant = if tenant == "%" { Vec::new() } else { unescape(tenant)? };
    let site = String::from_utf8(unescape(site)?).ok()?;
    Some(StoreKey::new(SessionKey::new(tenant), site))
}

const PREFIX: &str = "to1:{";

/// The form in the set of sites.
pub(super) fn escape(name: &[u8]) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' => {
                escaped.push(char::from(*byte));
            }
            _ => escaped.push_str(&format!("%{byte:02x}")),
        }
    }
    escaped
}

/// Decodes `%hh`. `None` if a `%` is not followed by two digits.
pub(super) fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut rest = text.as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(byte).ok()?);
        rest = tail;
    }
    Some(bytes)
}

/// The cluster slot of a session's keys: CRC16 of the text in braces.
///
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>
pub(super) fn slot(tenant: &SessionKey) -> u16 {
    let sites = sites(tenant);
    let tag = sites.trim_start_matches(PREFIX).trim_end_matches('}');
    let mut crc = 0_u16;
    for byte in tag.bytes() {
        crc ^= u16::from(byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
    }
    crc % 16_384
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &[u8], site: &str) -> StoreKey {
        StoreKey::new(SessionKey::new(tenant), site)
    }

    #[test]
    fn every_key_is_read_back_and_has_one_pair_of_braces() {
        let tenants: &[&[u8]] =
            &[b"", b"%", b"a", b"a}:b", b"x {ann}", b"{}", b"}", b":", b"\0\xff", &[b'x'; 1_024]];
        for tenant in tenants {
            for site in ["example.com", "a}:b", "", "[::1]", "b\u{fc}cher.example"] {
                let name = cookies(&key(tenant, site));
                assert_eq!(read(name.as_bytes()), Some(key(tenant, site)), "{name}");
                assert_eq!(
                    (name.matches('{').count(), name.matches('}').count()),
                    (1, 1),
                    "{name}"
                );
                assert!(!name.contains("{}"), "{name}: it would be in a slot of its own");
            }
        }
    }

    #[test]
    fn keys_of_others_are_none_of_ours() {
        for name in ["", "to1:", "to1:{a}", "to1:{a}b", "to2:{a}:b", "to1:{%4}:b", "to1:{a}:%zz"] {
            assert_eq!(read(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn slots_are_those_of_the_specification() {
        // `CLUSTER KEYSLOT` of a server says so.
        for (tenant, expected) in [("foo", 12_182), ("bar", 5_061), ("123456789", 12_739)] {
            assert_eq!(slot(&SessionKey::new(tenant.as_bytes())), expected, "{tenant}");
        }
    }
}
