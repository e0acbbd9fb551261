//! What makes up a cookie besides its use: its text in one allocation, its flags, when it was made.

use std::sync::Arc;

use super::cookie::SameSite;

/// Milliseconds since 1970, as the wing counts time; a clock before 1970 reads 0.
pub(super) type Millis = u64;
/// The expiry of a cookie that has none.
pub(super) const NEVER: Millis = Millis::MAX;

/// Name, value, domain, path and flags. A clone shares the text.
#[derive(Clone)]
pub(super) struct Data {
    /// `name=value` (a nameless cookie's bare value), then domain, then path.
    text: Arc<[u8]>,
    name: u16,
    pair: u16,
    domain: u16,
    pub(super) flags: Flags,
    pub(super) created: Millis,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub(super) host_only: bool,
    pub(super) secure: bool,
    pub(super) http_only: bool,
    pub(super) partitioned: bool,
    pub(super) same_site: Option<SameSite>,
}

impl Data {
    /// The parts must fit: `rules` bounds name, value and path, DNS the domain.
    pub(super) fn new(name: &[u8], value: &[u8], domain: &str, path: &str, flags: Flags, created: Millis) -> Self {
        let equals: &[u8] = if name.is_empty() { b"" } else { b"=" };
        let pair = name.len() + equals.len() + value.len();
        // One allocation: it is made at its full length, then filled.
        let mut text: Arc<[u8]> = std::iter::repeat_n(0, pair + domain.len() + path.len()).collect();
        if let Some(text) = Arc::get_mut(&mut text) {
            let mut rest = text;
            for part in [name, equals, value, domain.as_bytes(), path.as_bytes()] {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
        }
        let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        Self { text, name: short(name.len()), pair: short(pair), domain: short(domain.len()), flags, created }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.text[..usize::from(self.name)]
    }

    /// As it stands in a `Cookie` header.
    pub(super) fn pair(&self) -> &[u8] {
        &self.text[..usize::from(self.pair)]
    }

    pub(super) fn value(&self) -> &[u8] {
        let start = usize::from(self.name) + usize::from(self.name > 0);
        &self.text[start..usize::from(self.pair)]
    }

    pub(super) fn domain_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.pair)..][..usize::from(self.domain)]
    }

    pub(super) fn path_bytes(&self) -> &[u8] {
        &self.text[usize::from(self.pair) + usize::from(self.domain)..]
    }

    pub(super) fn domain(&self) -> &str {
        // Made of a `str` in `new`, and cut where it was joined.
        str::from_utf8(self.domain_bytes()).unwrap_or_default()
    }

    pub(super) fn path(&self) -> &str {
        str::from_utf8(self.path_bytes()).unwrap_or_default()
    }

    pub(super) fn path_len(&self) -> usize {
        self.path_bytes().len()
    }

    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// Name, domain, host-only flag and path (the identity of a cookie, RFC 6265bis section 5.7, step 23).
    pub(super) fn same_identity(&self, other: &Self) -> bool {
        self.flags.host_only == other.flags.host_only
            && self.name() == other.name()
            && self.domain == other.domain
            && self.text[usize::from(self.pair)..] == other.text[usize::from(other.pair)..]
    }
}
